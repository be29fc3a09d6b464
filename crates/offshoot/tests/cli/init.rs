//! `init`: what is made, what is refused, and that a failure leaves nothing behind.

use std::fs;

use super::bench::{Bench, KIB, MIB, has_program, noise};
use crate::common::skip;

#[test]
fn a_store_is_made_as_asked() {
    let bench = Bench::new();
    let args = [
        "init",
        "a.img",
        "--size",
        "32M",
        "--cluster-size",
        "128K",
        "--name",
        "größe 1",
        "--block-size",
        "4096",
    ];
    let line = bench.ok(&args);
    let info = bench.json(&["info", "a.img", "--json"]);
    assert_eq!(info["name"], "größe 1");
    assert_eq!(info["size"], 32 * MIB);
    assert_eq!(info["cluster_size"], 128 * KIB);
    assert_eq!(info["block_size"], 4096);
    assert_eq!(info["total_clusters"], 256);
    let free = info["free_clusters"].as_u64().unwrap();
    let expected =
        format!("made lvstore \"größe 1\" in a.img: 32M in 256 clusters of 128K, {free} of them free\n");
    assert_eq!(line, expected);
    assert!((200..256).contains(&free), "{free}");
    assert_eq!(info["sealed"], true);
    assert_eq!(info["clean"], true);
    assert!(bench.stored_bytes("a.img") < MIB, "the file is not sparse");
}

#[test]
fn defaults() {
    let bench = Bench::new();
    bench.ok(&["init", "vols.img", "--size", "32M"]);
    let info = bench.json(&["info", "vols.img", "--json"]);
    assert_eq!((&info["name"], &info["cluster_size"]), (&"vols".into(), &(256 * KIB).into()));
}

#[test]
fn files_of_zeros_and_empty_files_are_used_as_they_are() {
    let bench = Bench::new();
    bench.write("zeros", 20 * MIB, &[]);
    bench.ok(&["init", "zeros"]);
    assert_eq!(bench.json(&["info", "zeros", "--json"])["size"], 20 * MIB);

    bench.write("grown", 20 * MIB, &[]);
    bench.ok(&["init", "grown", "--size", "32M"]);
    assert_eq!(bench.json(&["info", "grown", "--json"])["size"], 32 * MIB);

    bench.write("empty", 0, &[]);
    let line = bench.refused_without_a_trace(&["init", "empty"]);
    assert_eq!(line, "empty: is empty: give --size");
    bench.ok(&["init", "empty", "--size", "16M"]);
    assert_eq!(bench.json(&["info", "empty", "--json"])["size"], 16 * MIB);
}

#[test]
fn what_holds_something_is_refused_without_force() {
    let bench = Bench::new();
    let table = [
        ("gpt", 512, &b"EFI PART"[..], "holds a GPT partition table"),
        ("late", MIB - 1, b"x", "is not empty"),
        ("qcow2", 0, b"QFI\xfb", "holds a qcow image"),
    ];
    for (name, offset, bytes, what) in table {
        bench.write(name, 20 * MIB, &[(offset, bytes)]);
        let expected = format!("{name}: {what}: give --force to overwrite it");
        assert_eq!(bench.refused_without_a_trace(&["init", name]), expected);
    }
    bench.ok(&["init", "gpt", "--force"]);
    bench.ok(&["check", "gpt"]);
    assert_eq!(
        bench.refused_without_a_trace(&["init", "gpt"]),
        "gpt: holds an lvstore: give --force to overwrite it"
    );
}

#[test]
fn file_systems_are_refused() {
    if !has_program("mke2fs") {
        return skip("init over a file system", "mke2fs is not installed");
    }
    let bench = Bench::new();
    let image = bench.write("ext4", 20 * MIB, &[]);
    let made = std::process::Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4"]).arg(&image).status();
    assert!(made.unwrap().success());
    let line = bench.refused_without_a_trace(&["init", "ext4"]);
    assert_eq!(line, "ext4: holds an ext2, ext3 or ext4 file system: give --force to overwrite it");
}

#[test]
fn a_failure_leaves_everything_as_it_was() {
    let bench = Bench::new();
    bench.write("small", MIB, &[]);
    bench.write("large", 40 * MIB, &[]);
    bench.write("empty", 0, &[]);
    bench.write("full", 20 * MIB, &[(0, &noise(1, KIB))]);
    fs::create_dir(bench.path("folder")).unwrap();
    let long = "x".repeat(64);
    let table: &[(&[&str], &str)] = &[
        (&["new"], "new: does not exist: give --size to make it"),
        (&["new", "--size", "1M"], "metadata takes"),
        (&["new", "--size", "0"], "less than a cluster"),
        (&["new", "--size", "16777216T"], "beyond all limits"),
        (&["new", "--size", "32M", "--cluster-size", "5000"], "not a multiple of 4096"),
        (&["new", "--size", "32M", "--cluster-size", "0"], "not a multiple of 4096"),
        (&["new", "--size", "32M", "--cluster-size", "8G"], "too large"),
        (&["new", "--size", "32M", "--name", ""], "is empty"),
        (&["new", "--size", "32M", "--name", "a/b"], "slash"),
        (&["new", "--size", "32M", "--name", "a=b"], "equals sign"),
        (&["new", "--size", "32M", "--name", "a\nb"], "control character"),
        (&["new", "--size", "32M", "--name", &long], "longer than 63 bytes"),
        (&["no/folder", "--size", "32M"], "no such file"),
        (&["small"], "metadata takes"),
        (&["large", "--size", "32M"], "which --size 33554432 cannot change"),
        (&["empty", "--size", "1M"], "metadata takes"),
        (&["full", "--force", "--name", "a/b"], "slash"),
        (&["folder", "--size", "32M"], "is a directory"),
        (&["/dev/null", "--size", "32M"], "neither a regular file nor a block device"),
    ];
    for (args, expected) in table {
        let args = [&["init"], *args].concat();
        let line = bench.refused_without_a_trace(&args);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}

/// Long work: it says how far it is, and can be ended.
#[test]
fn writing_zeros_can_be_interrupted() {
    let bench = Bench::new();
    let args = ["init", "s", "--size", "8G", "--clear-method", "write_zeroes"];
    let mut child = bench.command(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while bench.path("s").metadata().map_or(0, |metadata| metadata.len()) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its file was there");
        std::thread::yield_now();
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // It may have been as quick as that.
    if output.status.code() != Some(0) {
        assert_eq!(said, "offshoot: s: interrupted: there is no store\n");
        assert!(!bench.path("s").exists());
    }
}
