//! A store with a bad page: it is told, it stays contained, and nothing is made worse.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::bench::{Bench, MIB, members, noise};

/// Bytes of an md page.
const PAGE: u64 = 4096;

/// First md page, and the root page of an lvol within the md region, as `dump` tells.
fn root_page(bench: &Bench, lvol: &str) -> u64 {
    let dump = bench.ok(&["dump", "s"]);
    let md = dump.lines().find_map(|line| line.strip_prefix("md: page ")).unwrap();
    let md_start: u64 = md.split_once(' ').unwrap().0.parse().unwrap();
    let section = dump.split("[blob 0x").find(|section| section.contains(&format!("xattr.name: \"{lvol}\"")));
    let id = u64::from_str_radix(section.unwrap().split_once(']').unwrap().0, 16).unwrap();
    md_start + (id & 0xffff_ffff)
}

/// A store in which the root page of the lvol `bad` has a flipped bit. `good` is beside it.
fn damaged() -> Bench {
    let bench = Bench::with_store();
    bench.write("image", MIB, &[(0, &noise(1, MIB))]);
    bench.ok(&["import", "s", "good", "image"]);
    bench.ok(&["import", "s", "bad", "image"]);
    let offset = root_page(&bench, "bad") * PAGE + 100;
    let file = File::options().read(true).write(true).open(bench.path("s")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    bench
}

#[test]
fn check_tells_by_its_exit_status() {
    let bench = damaged();
    let before = bench.read("s");
    let output = bench.output(&["check", "s", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stderr.is_empty());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(members(&report), ["damage"]);
    let damage = report["damage"].as_array().unwrap();
    assert!(!damage.is_empty());
    for finding in damage {
        assert_eq!(members(finding), ["lvol", "repair", "what"]);
    }
    let output = bench.output(&["check", "s"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("  repair: "));
    assert!(bench.read("s") == before);
}

#[test]
fn the_others_are_served() {
    let bench = damaged();
    let list = bench.json(&["ls", "s", "--json"]);
    let lvols = list.as_array().unwrap();
    let bad = lvols.iter().find(|lvol| lvol["damaged"] == true).unwrap_or_else(|| panic!("{list}"));
    let good = lvols.iter().find(|lvol| lvol["name"] == "good").unwrap();
    assert_eq!(good["damaged"], false);
    bench.ok(&["export", "s", "good", "good.raw"]);
    assert!(bench.read("good.raw") == bench.read("image"));
    let name = bad["name"].as_str().unwrap();
    let line = bench.refused_without_a_trace(&["export", "s", name, "bad.raw"]);
    assert_eq!(line, format!("lvol \"{name}\" is damaged"));
    let text = bench.ok(&["ls", "s"]);
    assert!(text.lines().any(|row| row.starts_with(name) && row.ends_with("damaged")), "{text}");
}

#[test]
fn a_bad_super_block_is_damage() {
    let bench = Bench::with_store();
    let file = File::options().write(true).open(bench.path("s")).unwrap();
    file.write_all_at(&[0xff], 0x30).unwrap();
    let output = bench.output(&["check", "s", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["damage"][0]["lvol"].is_null());
    assert!(bench.refused_without_a_trace(&["info", "s"]).starts_with("s: "));
}
