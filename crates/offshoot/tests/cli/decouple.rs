//! `decouple --keep`: what the parent holds is copied, and no more.

use super::bench::{Bench, KIB, MIB, noise};

#[test]
fn keeps_what_the_parent_holds() {
    let bench = Bench::with_store();
    bench.write("image", 2 * MIB, &[(0, &noise(1, MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=base"]);
    // What it hides and does not: two clusters that read zeros, with the parent's below.
    bench.ok(&["resize", "s", "a", "896K"]);
    bench.ok(&["snapshot", "s", "a=middle"]);
    bench.ok(&["resize", "s", "a", "2M"]);
    bench.ok(&["export", "s", "a", "before"]);
    let done = "the parent of lvol \"a\" is \"base\" now\n";
    assert_eq!(bench.ok(&["decouple", "s", "a", "--keep"]), done);
    bench.ok(&["rm", "s", "middle"]);
    let takes = "clusters to fill in: 14; free ones needed: 14 (896K); to write: 896K\n";
    let done = "lvol \"a\" has no parent any more\n";
    assert_eq!(bench.ok(&["decouple", "s", "a", "--keep", "--rate", "100M"]), format!("{takes}{done}"));
    let lvols = bench.json(&["ls", "s", "--json"]);
    let lvol = lvols.as_array().unwrap().iter().find(|lvol| lvol["name"] == "a").unwrap();
    assert_eq!((&lvol["thin"], &lvol["own_bytes"]), (&true.into(), &(896 * KIB).into()));
    bench.ok(&["export", "s", "a", "after"]);
    assert!(bench.read("before") == bench.read("after"));
    bench.ok(&["check", "s"]);
    assert_eq!(bench.refused(&["decouple", "s", "a", "--keep"]), "\"a\" has no parent");
    for wrong in [&["decouple", "s", "a"][..], &["decouple", "s", "a", "--keep", "--zero"]] {
        assert_eq!(bench.output(wrong).status.code(), Some(2));
    }
}
