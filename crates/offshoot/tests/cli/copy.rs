//! `copy`: onto new files and files that are there.

use super::bench::{Bench, KIB, MIB, noise};
use std::fs;

/// A store with an lvol of 2 MiB, a snapshot of what was imported, and one of it shrunk and grown again.
fn with_chain() -> Bench {
    let bench = Bench::with_store();
    bench.write("image", 2 * MIB, &[(100 * KIB, &noise(1, 1500 * KIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=old"]);
    bench.ok(&["resize", "s", "a", "1M"]);
    bench.ok(&["resize", "s", "a", "2M"]);
    bench.ok(&["snapshot", "s", "a=new"]);
    bench
}

#[test]
fn copies_of_a_chain_add_up() {
    let bench = with_chain();
    let line = bench.ok(&["copy", "s", "old", "out"]);
    assert!(line.ends_with(" of \"old\" to out\n"), "{line}");
    assert!(bench.read("out") == bench.read("image"));
    let line = bench.ok(&["copy", "s", "new", "out"]);
    assert_eq!(line, "copied 576K (589824 bytes) of \"new\" to out\n");
    bench.ok(&["export", "s", "new", "whole"]);
    assert!(bench.read("out") == bench.read("whole"));
}

#[test]
fn only_its_own_is_written() {
    let bench = with_chain();
    fs::write(bench.path("out"), vec![7; 3 << 20]).unwrap();
    bench.ok(&["copy", "s", "new", "out"]);
    let out = bench.read("out");
    assert_eq!(out.len(), 3 << 20);
    let zeros: Vec<usize> = (0..out.len()).filter(|at| out[*at] == 0).collect();
    assert_eq!((zeros[0], zeros.len()), (1 << 20, 589_824));
}

#[test]
fn what_cannot_be_a_destination() {
    let bench = with_chain();
    let line = bench.refused_without_a_trace(&["copy", "s", "a", "out"]);
    assert_eq!(line, "\"a\" is writable: take a snapshot and copy that");
    let line = bench.refused_without_a_trace(&["copy", "s", "old", "s"]);
    assert_eq!(line, "s: is what is copied from");
    bench.write("small", MIB, &[]);
    let line = bench.refused_without_a_trace(&["copy", "s", "old", "small"]);
    assert_eq!(line, "small: has 1048576 bytes, 2097152 are needed");
    fs::create_dir(bench.path("folder")).unwrap();
    bench.refused_without_a_trace(&["copy", "s", "old", "folder"]);
    bench.refused_without_a_trace(&["copy", "s", "old", "no/folder"]);
}
