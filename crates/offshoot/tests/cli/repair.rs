//! `check --repair`, `--dry-run`, `--undo`, and the export of what is left of a damaged lvol.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use serde_json::Value;

use super::bench::{Bench, MIB, members, noise};

const PAGE: u64 = 4096;

/// Bytes of the store, changed where the closure says.
fn change(bench: &Bench, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = bench.read("s");
    change(&mut bytes);
    let file = File::options().write(true).open(bench.path("s")).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn page(number: u32) -> usize {
    usize::try_from(u64::from(number) * PAGE).unwrap()
}

/// A store with the lvol `a`, in whose cluster mask a bit is set that nothing refers to.
fn with_surplus() -> Bench {
    let bench = Bench::new();
    // Sealed: without partial clusters the masks have no checksum.
    bench.ok(&["init", "s", "--size", "24M", "--cluster-size", "64K"]);
    bench.write("image", MIB, &[(0, &noise(1, MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    change(&bench, |bytes| {
        let mask = page(le32(bytes, 0x28));
        bytes[mask + 5 + 40] |= 0x10;
    });
    bench
}

/// The undo files in the folder.
fn undo_files(bench: &Bench) -> Vec<String> {
    let names = std::fs::read_dir(bench.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".undo")).collect()
}

#[test]
fn a_repair_can_be_undone() {
    let bench = with_surplus();
    let sick = bench.read("s");
    assert_eq!(bench.output(&["check", "s"]).status.code(), Some(3));

    let text = bench.ok(&["check", "s", "--repair", "--dry-run"]);
    assert!(text.contains("would be repaired: rebuild the masks") && text.ends_with("0 left\n"), "{text}");
    assert!(bench.read("s") == sick && undo_files(&bench).is_empty());

    let text = bench.ok(&["check", "s", "--repair"]);
    let [undo] = &undo_files(&bench)[..] else { panic!("{:?}", undo_files(&bench)) };
    assert!(undo.starts_with("s-20"), "{undo}");
    assert!(text.ends_with(&format!("1 findings: 1 repaired, 0 left\nundo file: {undo}\n")), "{text}");
    bench.ok(&["check", "s"]);
    bench.ok(&["export", "s", "a", "out"]);
    assert!(bench.read("out") == bench.read("image"));

    // Twice, since the first may have been interrupted.
    for _ in 0..2 {
        assert!(bench.ok(&["check", "s", "--undo", undo]).starts_with("s is as it was before its repair: "));
        assert!(bench.read("s") == sick);
    }
}

#[test]
fn json_says_what_became_of_each_finding() {
    let bench = with_surplus();
    for (args, dry_run) in [
        (&["check", "s", "--repair", "--dry-run", "--json"][..], true),
        (&["check", "s", "--repair", "--undo", "u", "--json"], false),
    ] {
        let report: Value = bench.json(args);
        assert_eq!(members(&report), ["damage", "dry_run", "left", "undo"]);
        assert_eq!((&report["left"], &report["dry_run"]), (&0.into(), &dry_run.into()));
        assert_eq!(report["undo"], if dry_run { Value::Null } else { "u".into() });
        let [finding] = &report["damage"].as_array().unwrap()[..] else { panic!("{report}") };
        assert_eq!(members(finding), ["lvol", "note", "repair", "repaired", "what"]);
        assert_eq!(finding["repaired"], true);
    }
}

#[test]
fn what_was_changed_since_is_undone_only_by_force() {
    let bench = with_surplus();
    let sick = bench.read("s");
    bench.ok(&["check", "s", "--repair", "--undo", "u"]);
    bench.ok(&["create", "s", "b", "1M", "--thick"]);
    let line = bench.refused_without_a_trace(&["check", "s", "--undo", "u"]);
    assert!(line.starts_with("s: ") && line.contains("--force"), "{line}");
    bench.ok(&["check", "s", "--undo", "u", "--force"]);
    assert!(bench.read("s").len() == sick.len());
}

#[test]
fn an_undo_file_is_for_one_store() {
    let bench = with_surplus();
    bench.ok(&["check", "s", "--repair", "--undo", "u"]);
    bench.ok(&["init", "other", "--size", "24M", "--cluster-size", "64K"]);
    for force in [&[][..], &["--force"]] {
        let args: Vec<&str> =
            ["check", "other", "--undo", "u"].into_iter().chain(force.iter().copied()).collect();
        let line = bench.refused_without_a_trace(&args);
        assert!(line.starts_with("u: is about the store "), "{line}");
    }
    let line = bench.refused_without_a_trace(&["check", "s", "--undo", "image"]);
    assert_eq!(line, "image: is not an undo file");
    // And none is overwritten.
    let again = with_surplus();
    std::fs::copy(bench.path("u"), again.path("u")).unwrap();
    let line = again.refused_without_a_trace(&["check", "s", "--repair", "--undo", "u"]);
    assert!(line.starts_with("u: "), "{line}");
}

#[test]
fn a_sound_store_needs_no_undo_file() {
    let bench = Bench::with_store();
    let before = bench.read("s");
    assert_eq!(bench.ok(&["check", "s", "--repair"]), "no damage found in 0 lvols\n");
    assert!(bench.read("s") == before && undo_files(&bench).is_empty());
    for args in
        [&["check", "s", "--dry-run"][..], &["check", "s", "--force"], &["check", "s", "--repair", "--force"]]
    {
        assert_eq!(bench.output(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn what_cannot_be_repaired_is_said() {
    let bench = Bench::with_store();
    change(&bench, |bytes| bytes[0x30] = 0xff);
    for args in [&["check", "s", "--repair"][..], &["check", "s", "--repair", "--dry-run"]] {
        let output = bench.output(args);
        assert_eq!(output.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&output.stdout).contains("left: restore the store from a backup"));
    }
    assert!(undo_files(&bench).is_empty());
}

/// A store whose lvol `a`, 40 MiB with something at both ends, has lost the map of its first half.
fn with_lost_half() -> Bench {
    let bench = Bench::with_store();
    let parts = [(0, noise(1, MIB)), (36 * MIB, noise(2, MIB))];
    bench.write("image", 40 * MIB, &parts.each_ref().map(|(at, bytes)| (*at, &bytes[..])));
    bench.ok(&["import", "s", "a", "image"]);
    change(&bench, |bytes| {
        let (start, len) = (le32(bytes, 0x30), le32(bytes, 0x34));
        let is_first = |number: &u32| {
            let page = &bytes[page(*number)..][..4096];
            page[0x10] == 6 && le32(page, 0x15) == 0
        };
        let first = page((start..start + len).find(is_first).unwrap());
        bytes[first + 100..first + 300].fill(0x5a);
    });
    bench
}

#[test]
fn what_is_left_replaces_no_file() {
    let bench = with_lost_half();
    bench.write("out", 8, &[(0, b"precious")]);
    let output = bench.output(&["export", "s", "a", "out", "--force"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = errors.lines().collect();
    assert!(lines[0].starts_with("0+33554432: md page "), "{errors}");
    assert!(
        lines[1].ends_with("out: is not replaced by what lacks a part: export to another file"),
        "{errors}"
    );
    assert_eq!(bench.read("out"), b"precious");
}

#[test]
fn what_is_left_of_a_damaged_lvol_is_exported() {
    let bench = with_lost_half();
    let image = bench.read("image");
    let half = 32 << 20;
    for (file, format) in [("out", "raw"), ("out.qcow2", "qcow2"), ("-", "raw")] {
        let output = bench.output(&["export", "s", "a", file, "--format", format]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        let errors = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = errors.lines().collect();
        assert!(lines[0].starts_with("0+33554432: md page "), "{errors}");
        let total = "33554432 of 41943040 bytes cannot be read, in 1 parts, which are holes in the image";
        assert_eq!(lines[1..], [format!("offshoot: lvol \"a\" is damaged: {total}")]);
        let content = match (file, format) {
            ("-", _) => output.stdout,
            (_, "raw") => bench.read(file),
            _ => {
                bench.ok(&["import", "s", "back", file]);
                bench.ok(&["export", "s", "back", "back.raw"]);
                bench.read("back.raw")
            }
        };
        assert_eq!(content.len(), image.len(), "{file}");
        assert!(content[..half].iter().all(|byte| *byte == 0) && content[half..] == image[half..], "{file}");
    }
}
