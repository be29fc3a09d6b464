//! `info`, `ls`, `tree`, `dump` and `check`: what they show, in both forms, and that they write nothing.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use super::bench::{Bench, KIB, MIB, members, noise};

/// A store with a family: `base` with the clones `a` and `b`, of which `a` has changed, and `thick` beside them.
fn family() -> Bench {
    let bench = Bench::with_store();
    bench.write("image", 4 * MIB, &[(0, &noise(1, MIB)), (3 * MIB, &noise(2, MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=base"]);
    bench.ok(&["clone", "s", "base", "b"]);
    bench.ok(&["create", "s", "thick", "100K", "--thick"]);
    bench
}

#[test]
fn info_has_the_members_of_the_contract() {
    let bench = family();
    let info = bench.json(&["info", "s", "--json"]);
    let expected = [
        "allocated_bytes",
        "block_size",
        "clean",
        "cluster_size",
        "committed_bytes",
        "device_size",
        "free_bytes",
        "free_clusters",
        "lvols",
        "max_md_pages",
        "max_size",
        "md_pages",
        "metadata_bytes",
        "name",
        "path",
        "pending_free_bytes",
        "reserved_bytes",
        "seal_clusters",
        "sealed",
        "size",
        "total_clusters",
        "used_md_pages",
        "uuid",
    ];
    assert_eq!(members(&info), expected);
    assert_eq!(info["path"], "s");
    assert_eq!(info["lvols"], 4);
    let bytes = |member: &str| info[member].as_u64().unwrap();
    assert_eq!((bytes("allocated_bytes"), bytes("committed_bytes")), (2 * MIB + 128 * KIB, 128 * KIB));
    let parts = ["metadata_bytes", "allocated_bytes", "pending_free_bytes", "free_bytes"].map(bytes);
    assert_eq!(parts.iter().sum::<u64>(), bytes("total_clusters") * 64 * KIB);
    assert_eq!(info["uuid"].as_str().unwrap().len(), 36);
    let text = bench.ok(&["info", "s"]);
    for line in ["name:            s", "lvols:           4", "damage:          none found"] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    for key in ["path", "md pages", "native states", "device", "volatile cache"] {
        assert!(text.lines().any(|shown| shown.starts_with(&format!("{key}:"))), "{key}: {text}");
    }
}

#[test]
fn ls_has_the_members_of_the_contract() {
    let bench = family();
    let expected = [
        "clones",
        "copy_on_read",
        "created",
        "damaged",
        "degraded",
        "freed_bytes",
        "kind",
        "labels",
        "name",
        "own_bytes",
        "parent",
        "read_only",
        "reserved",
        "shared_bytes",
        "size",
        "thin",
        "uuid",
    ];
    assert_eq!(bench.names("s"), ["a", "b", "base", "thick"]);
    let base = bench.lvol("s", "base");
    assert_eq!(members(&base), expected);
    assert_eq!((&base["kind"], &base["read_only"]), (&"snapshot".into(), &true.into()));
    assert_eq!(base["clones"], serde_json::json!(["a", "b"]));
    assert_eq!((&base["size"], &base["own_bytes"]), (&(4 * MIB).into(), &(2 * MIB).into()));
    assert!(base["parent"].is_null());
    let created = base["created"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.len() == "2026-11-22T15:04:05Z".len(), "{created}");

    let a = bench.lvol("s", "a");
    assert_eq!((&a["kind"], &a["parent"], &a["own_bytes"]), (&"clone".into(), &"base".into(), &0.into()));
    assert_eq!((&a["read_only"], &a["thin"]), (&false.into(), &true.into()));
    assert_eq!((&a["damaged"], &a["degraded"]), (&false.into(), &false.into()));

    let thick = bench.lvol("s", "thick");
    assert_eq!((&thick["kind"], &thick["thin"]), (&"lvol".into(), &false.into()));
    assert_eq!((&thick["size"], &thick["own_bytes"]), (&(128 * KIB).into(), &(128 * KIB).into()));
}

#[test]
fn ls_is_a_table() {
    let bench = family();
    let text = bench.ok(&["ls", "s"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "KIND", "SIZE", "OWN", "PARENT", "CREATED", "STATE"]);
    assert_eq!(rows[1][..5], ["a", "clone", "4M", "0", "base"]);
    assert_eq!(rows[3][..5], ["base", "snapshot", "4M", "2M", "-"]);
    assert_eq!(rows[3][6], "read-only");
    assert_eq!(rows[4][..5], ["thick", "lvol", "128K", "128K", "-"]);
}

#[test]
fn tree_draws_families_and_what_they_share() {
    let bench = family();
    let text = bench.ok(&["tree", "s"]);
    let heads: Vec<String> = text
        .lines()
        .map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns[..columns.len() - 1].join(" ")
        })
        .collect();
    let expected = [
        "LVOL KIND SIZE OWN SHARED FREED",
        "base snapshot 4M 2M 0 0",
        "├─ a clone 4M 0 2M 0",
        "└─ b clone 4M 0 2M 0",
        "thick lvol 128K 128K 0 128K",
    ];
    assert_eq!(heads, expected);

    let tree = bench.json(&["tree", "s", "--json"]);
    let names: Vec<&str> = tree.as_array().unwrap().iter().filter_map(|lvol| lvol["name"].as_str()).collect();
    assert_eq!(names, ["base", "a", "b", "thick"]);
    assert_eq!((&tree[0]["parent"], &tree[2]["parent"]), (&Value::Null, &"base".into()));
    assert_eq!(tree[2]["shared_bytes"], 2 * MIB);
    let expected =
        ["created", "freed_bytes", "kind", "name", "own_bytes", "parent", "shared_bytes", "size", "uuid"];
    assert_eq!(members(&tree[0]), expected);
}

#[test]
fn what_spdk_cannot_read_is_told() {
    let bench = Bench::with_store();
    // One block of a cluster.
    bench.write("image", 64 * KIB, &[(4096, &noise(1, 4096))]);
    bench.ok(&["import", "s", "a", "image"]);
    let info = bench.json(&["info", "s", "--json"]);
    assert_eq!((&info["sealed"], &info["clean"]), (&false.into(), &true.into()));
    let text = bench.ok(&["info", "s"]);
    for line in [
        "state:           closed in order, with states that SPDK cannot read",
        "native states:   yes: clusters to fill in: 1; free ones needed: 0 (0); to write: 60K",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert!(bench.ok(&["dump", "s"]).contains("\nlayer: slot 0 depth 0 -> "));
}

#[test]
fn dump_is_stable_text() {
    let bench = family();
    let text = bench.ok(&["dump", "s"]);
    assert_eq!(text, bench.ok(&["dump", "s"]));
    assert!(text.starts_with("[super block]\nversion: 3\nclean: 1\n"), "{text}");
    assert_eq!(text.matches("[blob ").count(), 5, "four lvols and the super blob");
    assert!(text.contains("\nmap: EXTENT_TABLE\n"));
    let sections = bench.json(&["dump", "s", "--json"]);
    assert_eq!(sections[0]["section"], "super block");
    assert_eq!(sections[0]["facts"][0], serde_json::json!(["version", "3"]));
    let facts: usize =
        sections.as_array().unwrap().iter().map(|section| section["facts"].as_array().unwrap().len()).sum();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('['));
    assert_eq!(facts, lines.count());
}

#[test]
fn check_finds_nothing_in_a_sound_store() {
    let bench = family();
    assert_eq!(bench.ok(&["check", "s"]), "no damage found in 4 lvols\n");
    assert_eq!(bench.json(&["check", "s", "--json"]), serde_json::json!({ "damage": [] }));
}

#[test]
fn looking_writes_nothing() {
    let bench = family();
    // Not even the permission to write is needed, nor asked for.
    let before = bench.read("s");
    let modified = fs::metadata(bench.path("s")).unwrap().modified().unwrap();
    for command in ["info", "ls", "tree", "dump", "check"] {
        bench.ok(&[command, "s"]);
        bench.ok(&[command, "s", "--json"]);
    }
    bench.ok(&["export", "s", "a", "a.raw"]);
    assert!(bench.read("s") == before);
    assert_eq!(fs::metadata(bench.path("s")).unwrap().modified().unwrap(), modified);
}

#[test]
fn a_reader_that_leaves_is_no_reason_to_shout() {
    let bench = family();
    for args in [&["dump", "s"][..], &["ls", "s", "--json"], &["export", "s", "a", "-"]] {
        let mut process = bench.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(process.stdout.take());
        let output = process.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn help_and_version_are_there() {
    let bench = Bench::new();
    assert!(bench.ok(&["--version"]).starts_with("offshoot "));
    let help = bench.ok(&["--help"]);
    for command in [
        "init", "info", "ls", "tree", "dump", "check", "create", "snapshot", "clone", "rm", "resize",
        "rename", "grow", "import", "export", "serve", "demo",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        bench.ok(&[command, "--help"]);
    }
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    let bench = Bench::with_store();
    for args in [
        &[][..],
        &["unknown"],
        &["info"],
        &["create", "s", "a"],
        &["create", "s", "a", "ten"],
        &["create", "s", "a", "1.5G"],
        &["snapshot", "s"],
        &["info", "s", "--external", "nothing"],
        &["init", "x", "--size", "16M", "--block-size", "1024"],
    ] {
        assert_eq!(bench.output(args).status.code(), Some(2), "{args:?}");
    }
}
