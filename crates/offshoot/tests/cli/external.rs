//! Clones of files outside of the store: what is said of them, how they are found again, and what is refused.

use super::bench::{Bench, KIB, MIB, noise};

/// What a command said of the external snapshot: `UUID=FILE`.
fn named(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("  --external "));
    line.unwrap_or_else(|| panic!("no external snapshot is named: {said}")).to_owned()
}

/// What the lvol reads, with the external snapshot at hand.
fn exported(bench: &Bench, external: &str, lvol: &str) -> Vec<u8> {
    bench.ok(&["export", "s", lvol, "out", "--external", external, "--force"]);
    bench.read("out")
}

#[test]
fn a_clone_of_a_file_of_any_length() {
    let bench = Bench::with_store();
    let image = noise(1, 3 * 64 * KIB + 512);
    std::fs::write(bench.path("image"), &image).unwrap();
    let said = bench.ok(&["clone", "s", "--from-external", "image", "vm"]);
    assert!(said.starts_with("made lvol \"vm\": 256K (262144 bytes)\n"), "{said}");
    let external = named(&said);
    assert!(external.ends_with(bench.path("image").canonicalize().unwrap().to_str().unwrap()), "{external}");

    // The path is not kept: without it the clone is there, and cannot be read.
    let lvol = bench.lvol("s", "vm");
    assert_eq!((&lvol["degraded"], &lvol["kind"]), (&true.into(), &"clone".into()));
    assert!(bench.refused(&["export", "s", "vm", "none"]).contains("degraded"));

    let mut expected = image.clone();
    expected.resize(256 << 10, 0);
    assert!(exported(&bench, &external, "vm") == expected);
    // At another place it is the same.
    std::fs::rename(bench.path("image"), bench.path("moved")).unwrap();
    let moved = format!("{}=moved", external.split_once('=').unwrap().0);
    assert!(exported(&bench, &moved, "vm") == expected);

    // One more clone of the same, shorter, and one that is longer, and a snapshot of one and a clone of that.
    let clone = ["clone", "s", "--external", &moved, "--from-external", "moved", "--size"];
    assert_eq!(named(&bench.ok(&[&clone[..], &["64K", "short"]].concat()))[..36], moved[..36]);
    bench.ok(&[&clone[..], &["1M", "long"]].concat());
    bench.ok(&["snapshot", "s", "long=snap"]);
    bench.ok(&["clone", "s", "snap", "chained"]);
    assert!(exported(&bench, &moved, "short") == image[..64 << 10]);
    for name in ["long", "snap", "chained"] {
        let mut longer = expected.clone();
        longer.resize(1 << 20, 0);
        assert!(exported(&bench, &moved, name) == longer, "{name}");
    }
    bench.ok(&["seal", "s", "--external", &moved]);
    assert_eq!(bench.json(&["info", "s", "--json"])["sealed"], true);
    assert!(exported(&bench, &moved, "vm") == expected);
    assert!(bench.read("moved") == image, "the external snapshot was written to");
    bench.ok(&["check", "s"]);
}

#[test]
fn set_parent_to_a_file_and_away_from_it() {
    let bench = Bench::with_store();
    let (one, two) = (noise(1, MIB), noise(2, MIB));
    std::fs::write(bench.path("one"), &one).unwrap();
    std::fs::write(bench.path("two"), &two).unwrap();
    bench.ok(&["create", "s", "a", "1M"]);
    let first = named(&bench.ok(&["set-parent", "s", "a", "--from-external", "one"]));
    assert!(exported(&bench, &first, "a") == one);
    let again = ["set-parent", "s", "a", "--from-external", "one", "--external", &first];
    assert!(bench.refused_without_a_trace(&again).contains("already"));
    let second = named(&bench.ok(&["set-parent", "s", "a", "--from-external", "two"]));
    assert!(exported(&bench, &second, "a") == two);

    // It comes to hold all of it, or forgets it.
    bench.ok(&["snapshot", "s", "a=snap"]);
    bench.ok(&["clone", "s", "snap", "b"]);
    bench.ok(&["inflate", "s", "a", "--external", &second]);
    bench.ok(&["export", "s", "a", "inflated"]);
    assert!(bench.read("inflated") == two);
    assert!(bench.refused(&["decouple", "s", "snap", "--keep"]).contains("degraded"));
    bench.ok(&["decouple", "s", "snap", "--keep", "--external", &second]);
    bench.ok(&["export", "s", "b", "decoupled"]);
    assert!(bench.read("decoupled") == two);
    let third = named(&bench.ok(&["clone", "s", "--from-external", "one", "c"]));
    assert!(exported(&bench, &third, "c") == one);
    bench.ok(&["decouple", "s", "c", "--zero"]);
    bench.ok(&["export", "s", "c", "zeros"]);
    assert!(bench.read("zeros").iter().all(|byte| *byte == 0));
    bench.ok(&["check", "s"]);
}

#[test]
fn what_is_refused() {
    let bench = Bench::with_store();
    bench.ok(&["create", "s", "thick", "1M", "--thick"]);
    std::fs::write(bench.path("image"), noise(1, MIB)).unwrap();
    std::fs::write(bench.path("ragged"), noise(1, 1000)).unwrap();
    let refused = |args: &[&str]| bench.refused_without_a_trace(args);
    let ragged = "an external snapshot of 1000 bytes is no multiple of 512";
    assert!(refused(&["clone", "s", "--from-external", "ragged", "c"]).contains(ragged));
    assert!(refused(&["set-parent", "s", "thick", "--from-external", "ragged"]).contains(ragged));
    assert!(refused(&["ls", "s", "--external", "x=ragged"]).contains(ragged));
    assert!(refused(&["clone", "s", "--from-external", "nowhere", "c"]).starts_with("nowhere: "));
    assert!(refused(&["clone", "s", "--from-external", "s", "c"]).ends_with("is the store itself"));
    assert_eq!(
        refused(&["set-parent", "s", "thick", "--from-external", "image"]),
        "\"thick\" is thick: it reads nothing from elsewhere"
    );
    assert!(refused(&["clone", "s", "--from-external", "image", "thick"]).contains("exists"));
    let id = ["clone", "s", "--external", "disk=image", "--from-external", "image", "c"];
    assert!(refused(&id).starts_with("--external disk: "));
    let uuid = bench.lvol("s", "thick")["uuid"].as_str().unwrap().to_owned();
    let own = format!("{uuid}=image");
    let own = refused(&["clone", "s", "--external", &own, "--from-external", "image", "c"]);
    assert_eq!(own, format!("external snapshot {uuid} is \"thick\", which is in the store itself"));
    for usage in [
        &["clone", "s", "c"][..],
        &["clone", "s", "--from-external", "image"],
        &["clone", "s", "--from-external", "image", "a", "c"],
        &["clone", "s", "a", "c", "--size", "1M"],
        &["set-parent", "s", "thick"],
        &["set-parent", "s", "thick", "a", "--from-external", "image"],
    ] {
        assert_eq!(bench.output(usage).status.code(), Some(2), "{usage:?}");
    }
}
