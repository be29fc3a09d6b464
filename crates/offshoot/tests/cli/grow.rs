//! `grow`: a store becomes as large as its file.

use super::bench::{Bench, KIB, MIB, noise};
use std::fs::File;

#[test]
fn a_store_grows_with_its_file() {
    let bench = Bench::with_store();
    bench.write("image", 2 * MIB, &[(0, &noise(1, MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    let info = || bench.json(&["info", "s", "--json"]);
    let free = info()["free_clusters"].as_u64().unwrap();
    assert_eq!(bench.ok(&["grow", "s"]), format!("lvstore \"s\" has 24M ({} bytes) already\n", 24 * MIB));

    let grown = bench.ok(&["grow", "s", "--size", "40M"]);
    let more = 16 * MIB / (64 * KIB);
    let expected = format!(
        "grew lvstore \"s\" from 24M to 40M ({} bytes): 640 clusters, {} of them free\n",
        40 * MIB,
        free + more
    );
    assert_eq!(grown, expected);
    assert_eq!(bench.path("s").metadata().unwrap().len(), 40 * MIB);
    let after = info();
    assert_eq!((&after["size"], &after["free_clusters"]), (&(40 * MIB).into(), &(free + more).into()));
    assert_eq!((&after["device_size"], &after["sealed"]), (&(40 * MIB).into(), &true.into()));

    // The file has grown by itself.
    File::options().write(true).open(bench.path("s")).unwrap().set_len(48 * MIB + 100).unwrap();
    assert_eq!(info()["device_size"], 48 * MIB);
    assert!(bench.ok(&["info", "s"]).contains("its device has 48M"));
    assert!(bench.ok(&["grow", "s"]).starts_with("grew lvstore \"s\" from 40M to 48M"));
    bench.ok(&["check", "s"]);
    bench.ok(&["export", "s", "a", "out"]);
    assert!(bench.read("out") == bench.read("image"));
}

#[test]
fn what_cannot_be_changes_nothing() {
    let bench = Bench::with_store();
    let max = bench.json(&["info", "s", "--json"])["max_size"].as_u64().unwrap();
    assert!(max >= 64 * 24 * MIB, "{max}");
    let refused = |args: &[&str]| bench.refused_without_a_trace(args);
    assert_eq!(
        refused(&["grow", "s", "--size", "20M"]),
        format!("s: has {} bytes, which --size {} cannot change", 24 * MIB, 20 * MIB)
    );
    let beyond = (max + 64 * KIB).to_string();
    let expected = format!("the store cannot grow to {beyond} bytes: its masks have room for {max}");
    assert_eq!(refused(&["grow", "s", "--size", &beyond]), expected);
    File::options().write(true).open(bench.path("s")).unwrap().set_len(12 * MIB).unwrap();
    assert!(refused(&["grow", "s"]).contains("it was truncated"));
}

/// The clusters behind them are moved, and nothing else is different for it.
#[test]
fn a_store_gets_md_pages() {
    let bench = Bench::with_store();
    bench.write("image", 4 * MIB, &[(0, &noise(1, 3 * MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=snap"]);
    bench.ok(&["clone", "s", "snap", "b"]);
    let info = || bench.json(&["info", "s", "--json"]);
    let (pages, max) = (info()["md_pages"].as_u64().unwrap(), info()["max_md_pages"].as_u64().unwrap());
    let free = info()["free_clusters"].as_u64().unwrap();
    let wanted = pages + 512;
    let said = bench.ok(&["grow", "s", "--md-pages", &wanted.to_string()]);
    assert!(said.ends_with(&format!("grew its metadata from {pages} to {wanted} md pages\n")), "{said}");
    let after = info();
    assert_eq!((&after["md_pages"], &after["max_md_pages"]), (&wanted.into(), &max.into()));
    assert_eq!(after["free_clusters"], free - 512 * 4096 / (64 * KIB));
    bench.ok(&["check", "s"]);
    for name in ["a", "b"] {
        bench.ok(&["export", "s", name, "out", "--force"]);
        assert!(bench.read("out") == bench.read("image"), "{name}");
    }

    let refused =
        |pages: u64| bench.refused_without_a_trace(&["grow", "s", "--md-pages", &pages.to_string()]);
    assert_eq!(refused(pages), format!("the store has {wanted} md pages, and cannot have fewer: {pages}"));
    let beyond = max + 1;
    let expected = format!("the store cannot have {beyond} md pages: its masks have room for {max}");
    assert_eq!(refused(beyond), expected);
}

/// A store that becomes much larger gets md pages for what it can hold then.
#[test]
fn md_pages_grow_with_a_store_that_needs_them() {
    let bench = Bench::with_store();
    let info = || bench.json(&["info", "s", "--json"]);
    let pages = info()["md_pages"].as_u64().unwrap();
    bench.ok(&["grow", "s", "--size", "256M"]);
    let now = info();
    assert!(now["md_pages"].as_u64().unwrap() >= now["total_clusters"].as_u64().unwrap(), "{pages}: {now}");
    bench.ok(&["check", "s"]);
}
