//! `diff`: ranges as text and as JSON, and who is not related.

use super::bench::{Bench, MIB, noise};
use serde_json::json;

#[test]
fn ranges_in_text_and_json() {
    let bench = Bench::with_store();
    bench.write("image", 2 * MIB, &[(0, &noise(1, 2 * MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=a1"]);
    bench.ok(&["clone", "s", "a1", "b"]);
    assert_eq!(bench.ok(&["diff", "s", "a1", "b"]), "");
    bench.ok(&["resize", "s", "b", "1M"]);
    bench.ok(&["resize", "s", "b", "2M"]);
    assert_eq!(bench.ok(&["diff", "s", "a1", "b"]), "1048576 1048576 zero\n");
    assert_eq!(bench.ok(&["diff", "s", "b", "a"]), "1048576 1048576 data\n");
    let range = json!({"offset": MIB, "length": MIB, "kind": "zero"});
    let expected =
        json!({"from": "a", "to": "b", "from_size": 2 * MIB, "to_size": 2 * MIB, "ranges": [range]});
    assert_eq!(bench.json(&["diff", "s", "a", "b", "--json"]), expected);
}

#[test]
fn strangers_are_refused() {
    let bench = Bench::with_store();
    bench.ok(&["create", "s", "a", "1M"]);
    bench.ok(&["create", "s", "b", "1M"]);
    let line = bench.refused_without_a_trace(&["diff", "s", "a", "b"]);
    assert_eq!(line, "\"b\" is not related to \"a\": they have no ancestor in common");
    assert_eq!(bench.refused(&["diff", "s", "a", "c"]), "no lvol named \"c\"");
}
