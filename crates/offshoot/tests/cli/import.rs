//! `import`: raw images from files and pipes.

use super::bench::{Bench, KIB, MIB, noise, refusal};
use std::io::Write as _;

#[test]
fn holes_and_zeros_are_not_stored() {
    let bench = Bench::with_store();
    // Clusters have 64 KiB: data in three of them, zeros in a hole, and zeros that are written out.
    let image = bench.write(
        "image",
        8 * MIB,
        &[
            (0, &noise(1, 4096)),
            (3 * MIB + 10, &noise(2, 5)),
            (5 * MIB, &vec![0; 1 << 20]),
            (8 * MIB - 1, b"x"),
        ],
    );
    let line = bench.ok(&["import", "s", "a", "image"]);
    assert_eq!(line, "imported image as lvol \"a\": 8M (8388608 bytes), 192K of it stored\n");
    let lvol = bench.lvol("s", "a");
    assert_eq!((&lvol["size"], &lvol["own_bytes"]), (&(8 * MIB).into(), &(192 * KIB).into()));
    assert_eq!((&lvol["thin"], &lvol["kind"]), (&true.into(), &"lvol".into()));
    bench.ok(&["export", "s", "a", "back"]);
    assert!(bench.read("back") == std::fs::read(image).unwrap());
}

#[test]
fn sizes_are_rounded_up_with_zeros() {
    let bench = Bench::with_store();
    for (name, len) in [("a", 1), ("b", 4097), ("c", 64 * KIB), ("d", MIB + 1)] {
        let bytes = noise(len, len);
        bench.write(name, len, &[(0, &bytes)]);
        bench.ok(&["import", "s", name, name]);
        let size = len.next_multiple_of(64 * KIB);
        assert_eq!(bench.lvol("s", name)["size"], size);
        bench.ok(&["export", "s", name, "back", "--force"]);
        let back = bench.read("back");
        assert_eq!(back.len() as u64, size);
        assert!(back.starts_with(&bytes) && back[bytes.len()..].iter().all(|byte| *byte == 0), "{name}");
    }
}

#[test]
fn standard_input_may_have_any_length() {
    let bench = Bench::with_store();
    for (name, len) in [("a", 1), ("b", 64 * KIB), ("c", 3 * MIB + 777), ("d", 5 * MIB)] {
        let bytes = noise(len, len);
        let output = bench.piped(&["import", "s", name, "-"], &bytes);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(bench.lvol("s", name)["size"], len.next_multiple_of(64 * KIB));
        bench.ok(&["export", "s", name, "back", "--force"]);
        assert!(bench.read("back").starts_with(&bytes), "{name}");
    }
    bench.ok(&["check", "s"]);
}

#[test]
fn zeros_at_the_end_of_a_stream_count() {
    let bench = Bench::with_store();
    let mut bytes = noise(1, KIB);
    bytes.resize(6 << 20, 0);
    assert!(bench.piped(&["import", "s", "a", "-"], &bytes).status.success());
    let lvol = bench.lvol("s", "a");
    assert_eq!((&lvol["size"], &lvol["own_bytes"]), (&(6 * MIB).into(), &(64 * KIB).into()));
}

#[test]
fn nothing_is_not_imported() {
    let bench = Bench::with_store();
    bench.write("empty", 0, &[]);
    assert_eq!(bench.refused_without_a_trace(&["import", "s", "a", "empty"]), "empty: is empty");
    let output = bench.piped(&["import", "s", "a", "-"], b"");
    assert_eq!(refusal(&output), "standard input: is empty");
    assert_eq!(bench.names("s"), [""; 0]);
}

#[test]
fn no_space_left_takes_back_what_was_done() {
    let bench = Bench::with_store();
    let free = bench.json(&["info", "s", "--json"])["free_clusters"].clone();
    let bytes = noise(1, 24 * MIB);
    bench.write("image", 24 * MIB, &[(0, &bytes)]);
    let line = bench.refused(&["import", "s", "a", "image"]);
    assert!(line.starts_with("no space: "), "{line}");
    let output = bench.piped(&["import", "s", "a", "-"], &bytes);
    assert!(refusal(&output).starts_with("no space: "));
    assert_eq!(bench.names("s"), [""; 0]);
    assert_eq!(bench.json(&["info", "s", "--json"])["free_clusters"], free);
    bench.ok(&["check", "s"]);
}

#[test]
fn a_pipe_with_a_name_is_a_stream() {
    let bench = Bench::with_store();
    let bytes = noise(1, MIB);
    bench.write("image", MIB, &[(0, &bytes)]);
    let pipeline = "exec 3< <(cat image) && exec \"$0\" import s a /dev/fd/3";
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", pipeline, env!("CARGO_BIN_EXE_offshoot")]).current_dir(bench.path(""));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bench.ok(&["export", "s", "a", "back"]);
    assert!(bench.read("back") == bytes);
}

#[test]
fn an_import_that_is_killed_leaves_nothing() {
    let bench = Bench::with_store();
    let free = bench.json(&["info", "s", "--json"])["free_clusters"].clone();
    let mut import = bench.holding(&["import", "s", "a", "-"]);
    // Far more than the pipe holds: most of it is in the store.
    import.stdin.as_mut().unwrap().write_all(&noise(1, 8 * MIB)).unwrap();
    import.kill().unwrap();
    import.wait().unwrap();
    // Who looks writes nothing, and sees no lvol.
    assert_eq!(bench.names("s"), [""; 0]);
    let tree = bench.ok(&["tree", "s"]);
    assert!(tree.contains(".unfinished-") && tree.contains(" unfinished "), "{tree}");
    assert_eq!(bench.ok(&["check", "s"]), "no damage found in 0 lvols\n");
    // Its name is free, and its space with the next change.
    bench.ok(&["create", "s", "a", "64K"]);
    bench.ok(&["rm", "s", "a"]);
    assert!(!bench.ok(&["tree", "s"]).contains("unfinished"));
    assert_eq!(bench.json(&["info", "s", "--json"])["free_clusters"], free);
}
