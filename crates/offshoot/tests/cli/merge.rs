//! `merge`: it says what it moves and frees, and does it.

use super::bench::{Bench, KIB, MIB, noise};

#[test]
fn says_what_it_moves_and_frees() {
    let bench = Bench::with_store();
    bench.write("image", 2 * MIB, &[(0, &noise(1, MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    for snapshot in ["one", "two", "three"] {
        bench.ok(&["snapshot", "s", &format!("a={snapshot}")]);
    }
    bench.ok(&["export", "s", "a", "before"]);
    let dry = bench.ok(&["merge", "s", "three", "one", "two", "--dry-run"]);
    assert_eq!(dry, "to move: 0; to free: 0\n");
    let done = "to move: 0; to free: 0\nmerged into \"three\"\n";
    assert_eq!(bench.ok(&["merge", "s", "three", "one", "two"]), done);
    let lvols = bench.json(&["ls", "s", "--json"]);
    let names: Vec<&str> =
        lvols.as_array().unwrap().iter().filter_map(|lvol| lvol["name"].as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let done = "to move: 0; to free: 0\nmerged into \"a\"\n";
    assert_eq!(bench.ok(&["merge", "s", "three", "--rate", "1M"]), done);
    let lvols = bench.json(&["ls", "s", "--json"]);
    assert_eq!(lvols[0]["own_bytes"], 1024 * KIB);
    bench.ok(&["export", "s", "a", "after"]);
    assert!(bench.read("before") == bench.read("after"));
    bench.ok(&["check", "s"]);
    assert_eq!(bench.refused(&["merge", "s", "three"]), "no lvol named \"three\"");
    assert_eq!(bench.refused(&["merge", "s", "a"]), "\"a\" has no clone that it could go into");
}
