//! The verbs that move no data: `read-only`, `revert`, `set-parent`, `decouple --zero`, `label`, `rename --store`.

use super::bench::{Bench, KIB, MIB, noise};

/// What an lvol reads.
fn content(bench: &Bench, lvol: &str) -> Vec<u8> {
    bench.ok(&["export", "s", lvol, "out", "--force"]);
    bench.read("out")
}

/// `a` over `one`, with another first MiB than it: `a` read `before` when `two` was taken, and owns the rest of it since.
fn family() -> (Bench, Vec<u8>) {
    let bench = Bench::with_store();
    bench.write("image", 2 * MIB, &[(0, &noise(1, MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=one"]);
    let before = content(&bench, "a");
    bench.ok(&["resize", "s", "a", "64K"]);
    bench.ok(&["resize", "s", "a", "3M"]);
    (bench, before)
}

#[test]
fn revert_goes_back_and_forth() {
    let (bench, before) = family();
    let free = || bench.json(&["info", "s", "--json"])["free_clusters"].as_u64().unwrap();
    bench.ok(&["snapshot", "s", "a=two"]);
    let after = content(&bench, "a");
    assert!(after.len() as u64 == 3 * MIB && after != before);
    let space = free();
    assert_eq!(bench.ok(&["revert", "s", "a", "one"]), "reverted lvol \"a\" to snapshot \"one\"\n");
    assert!(content(&bench, "a") == before);
    // It held nothing itself: nothing is lost and nothing leaks.
    assert_eq!(free(), space);
    bench.ok(&["revert", "s", "a", "two"]);
    assert!(content(&bench, "a") == after);
    assert_eq!(bench.ok(&["revert", "s", "a", "two"]), "reverted lvol \"a\" to snapshot \"two\"\n");
    bench.ok(&["create", "s", "other", "1M"]);
    assert_eq!(
        bench.refused(&["revert", "s", "other", "one"]),
        "\"one\" is no snapshot of \"other\" or of its relatives"
    );
    assert_eq!(bench.refused(&["revert", "s", "two", "one"]), "lvol \"two\" is read-only");
    assert_eq!(bench.refused(&["revert", "s", "a", "nobody"]), "no lvol named \"nobody\"");
    bench.ok(&["check", "s"]);
}

#[test]
fn decouple_and_set_parent_keep_what_is_its_own() {
    let (bench, before) = family();
    bench.ok(&["clone", "s", "one", "b"]);
    assert_eq!(bench.ok(&["decouple", "s", "b", "--zero"]), "lvol \"b\" has no parent any more\n");
    assert!(content(&bench, "b").iter().all(|byte| *byte == 0));
    assert_eq!(bench.refused(&["decouple", "s", "b", "--zero"]), "\"b\" has no parent");
    assert_eq!(bench.ok(&["set-parent", "s", "b", "one"]), "the parent of lvol \"b\" is \"one\"\n");
    assert!(content(&bench, "b") == before);
    assert_eq!(bench.refused(&["set-parent", "s", "b", "one"]), "the parent of \"b\" is \"one\" already");
    assert_eq!(bench.refused(&["set-parent", "s", "a", "one"]), "the parent of \"a\" is \"one\" already");
    assert_eq!(
        bench.refused(&["set-parent", "s", "b", "a"]),
        "\"a\" is writable: take a snapshot and clone that"
    );
    bench.ok(&["create", "s", "small", "64K"]);
    assert_eq!(
        bench.refused(&["set-parent", "s", "small", "one"]),
        format!("\"small\" has {} bytes, \"one\" has {}", 64 * KIB, 2 * MIB)
    );
    bench.ok(&["create", "s", "thick", "2M", "--thick"]);
    assert_eq!(
        bench.refused(&["set-parent", "s", "thick", "one"]),
        "\"thick\" is thick: it reads nothing from elsewhere"
    );
    bench.ok(&["check", "s"]);
}

#[test]
fn read_only_is_for_good() {
    let (bench, _) = family();
    assert_eq!(bench.refused(&["clone", "s", "a", "c"]), "\"a\" is writable: take a snapshot and clone that");
    for _ in 0..2 {
        assert_eq!(bench.ok(&["read-only", "s", "a"]), "lvol \"a\" is read-only\n");
    }
    let before = content(&bench, "a");
    assert_eq!(bench.refused(&["resize", "s", "a", "1M"]), "lvol \"a\" is read-only");
    bench.ok(&["clone", "s", "a", "c"]);
    assert!(content(&bench, "c") == before);
}

#[test]
fn labels_are_set_shown_and_taken_away() {
    let (bench, _) = family();
    assert_eq!(bench.ok(&["label", "s", "a"]), "");
    bench.ok(&["label", "s", "a", "owner=me", "tier=gold=1", "gone="]);
    assert_eq!(bench.ok(&["label", "s", "a"]), "owner=me\ntier=gold=1\n");
    bench.ok(&["label", "s", "a", "owner=", "tier=silver"]);
    let shown = bench.json(&["ls", "s", "--json"]);
    assert_eq!(shown[0]["labels"], serde_json::json!({"tier": "silver"}));
    assert_eq!(shown[1]["labels"], serde_json::json!({}));
    // A snapshot is another lvol; it can be labelled though nobody can write to it.
    bench.ok(&["label", "s", "one", "keep=yes"]);
    assert_eq!(
        bench.refused(&["label", "s", "a", "word"]),
        "\"word\" is no label: give KEY=VALUE, or KEY= to take it away"
    );
    assert_eq!(bench.refused(&["label", "s", "a", "=x"]), "label \"\": the key is empty");
    let long = format!("k={}", "x".repeat(1024));
    assert_eq!(
        bench.refused(&["label", "s", "a", &long]),
        "label \"k\": key and value take more than 1024 bytes"
    );
    let many: Vec<String> = (0..65).map(|number| format!("k{number}=v")).collect();
    let many: Vec<&str> = ["label", "s", "a"].into_iter().chain(many.iter().map(String::as_str)).collect();
    assert_eq!(bench.refused(&many), "\"a\" would have 66 labels, at most 64");
    assert_eq!(bench.ok(&["label", "s", "a"]), "tier=silver\n");
    let most: Vec<String> = (0..63).map(|number| format!("k{number}={}", "x".repeat(1000))).collect();
    let most: Vec<&str> = ["label", "s", "a"].into_iter().chain(most.iter().map(String::as_str)).collect();
    bench.ok(&most);
    assert_eq!(bench.ok(&["label", "s", "a"]).lines().count(), 64);
    bench.ok(&["check", "s"]);
}

#[test]
fn the_store_gets_another_name() {
    let (bench, _) = family();
    assert_eq!(bench.ok(&["rename", "s", "--store", "vms"]), "renamed store \"s\" to \"vms\"\n");
    assert_eq!(bench.json(&["info", "s", "--json"])["name"], "vms");
    assert_eq!(bench.refused(&["rename", "s", "--store", "a/b"]), "name \"a/b\" contains a slash");
    assert_eq!(bench.command(&["rename", "s", "a"]).output().unwrap().status.code(), Some(2));
    bench.ok(&["check", "s"]);
}
