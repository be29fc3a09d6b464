//! `export`: raw images to files and pipes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::bench::{Bench, KIB, MIB, noise};

/// A store with the lvol `a`, 8 MiB with little in it, and `image` as what it was made from.
fn with_lvol() -> Bench {
    let bench = Bench::with_store();
    bench.write("image", 8 * MIB, &[(MIB, &noise(1, 100 * KIB)), (7 * MIB + 3, b"tail")]);
    bench.ok(&["import", "s", "a", "image"]);
    bench
}

#[test]
fn sparse_stays_sparse() {
    let bench = with_lvol();
    let line = bench.ok(&["export", "s", "a", "out"]);
    assert_eq!(line, "exported lvol \"a\" to out: 8M (8388608 bytes)\n");
    assert!(bench.read("out") == bench.read("image"));
    assert!(bench.stored_bytes("out") <= 128 * KIB, "{} bytes", bench.stored_bytes("out"));
}

#[test]
fn stored_zeros_become_holes() {
    let bench = Bench::with_store();
    bench.ok(&["create", "s", "thick", "8M", "--thick"]);
    bench.ok(&["export", "s", "thick", "out"]);
    assert_eq!(bench.read("out").len(), 8 << 20);
    assert!(bench.stored_bytes("out") <= 8 * KIB);
}

#[test]
fn standard_output_gets_every_byte() {
    let bench = with_lvol();
    let output = bench.output(&["export", "s", "a", "-"]);
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(output.stdout == bench.read("image"));
    bench.ok(&["create", "s", "empty", "1M"]);
    assert_eq!(bench.output(&["export", "s", "empty", "-"]).stdout, vec![0; 1 << 20]);
}

#[test]
fn an_existing_file_is_replaced_only_by_force() {
    let bench = with_lvol();
    fs::write(bench.path("out"), "precious").unwrap();
    let line = bench.refused_without_a_trace(&["export", "s", "a", "out"]);
    assert_eq!(line, "out: exists already: give --force to replace it");
    bench.ok(&["export", "s", "a", "out", "--force"]);
    assert!(bench.read("out") == bench.read("image"));
    let line = bench.refused_without_a_trace(&["export", "s", "a", "s", "--force"]);
    assert_eq!(line, "s: is the store itself");
    fs::create_dir(bench.path("folder")).unwrap();
    let line = bench.refused_without_a_trace(&["export", "s", "a", "folder", "--force"]);
    assert_eq!(line, "folder: is not a regular file");
    let line = bench.refused_without_a_trace(&["export", "s", "a", "no/folder"]);
    assert!(line.starts_with("no/folder: "), "{line}");
    let line = bench.refused_without_a_trace(&["export", "s", "a", "-", "--format", "qcow2"]);
    assert_eq!(line, "qcow2 cannot be written to standard output: give a file");
}

#[test]
fn a_new_file_has_the_usual_permissions() {
    let bench = with_lvol();
    bench.ok(&["export", "s", "a", "out"]);
    let mode = |name: &str| fs::metadata(bench.path(name)).unwrap().permissions().mode();
    fs::write(bench.path("usual"), "").unwrap();
    assert_eq!(mode("out"), mode("usual"));
}
