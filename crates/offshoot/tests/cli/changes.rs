//! `create`, `snapshot`, `clone`, `rm`, `resize` and `rename`: what they do and say.

use super::bench::{Bench, KIB, MIB, noise};

#[test]
fn sizes_are_rounded_up_and_reported() {
    let bench = Bench::with_store();
    let line = bench.ok(&["create", "s", "a", "100K"]);
    assert_eq!(line, "created lvol \"a\": 128K (131072 bytes), thin\n");
    assert_eq!(bench.lvol("s", "a")["size"], 128 * KIB);
    bench.ok(&["export", "s", "a", "a.raw"]);
    assert_eq!(bench.read("a.raw").len() as u64, 128 * KIB);

    let line = bench.ok(&["resize", "s", "a", "1M"]);
    assert_eq!(line, "resized lvol \"a\" from 128K to 1M (1048576 bytes)\n");
    let line = bench.ok(&["resize", "s", "a", "1"]);
    assert_eq!(line, "resized lvol \"a\" from 1M to 64K (65536 bytes)\n");
    bench.ok(&["resize", "s", "a", "0"]);
    assert_eq!(bench.lvol("s", "a")["size"], 0);
}

#[test]
fn thick_lvols_own_everything_from_the_start() {
    let bench = Bench::with_store();
    let line = bench.ok(&["create", "s", "a", "2M", "--thick"]);
    assert_eq!(line, "created lvol \"a\": 2M (2097152 bytes), thick\n");
    let lvol = bench.lvol("s", "a");
    assert_eq!((&lvol["thin"], &lvol["own_bytes"]), (&false.into(), &(2 * MIB).into()));
}

#[test]
fn a_reservation_is_told_and_kept() {
    let bench = Bench::with_store();
    let line = bench.ok(&["create", "s", "a", "8M", "--thick", "--reserve"]);
    assert_eq!(line, "created lvol \"a\": 8M (8388608 bytes), thick, with a reservation\n");
    bench.ok(&["snapshot", "s", "a=a1"]);
    let info = bench.json(&["info", "s", "--json"]);
    assert_eq!((&info["committed_bytes"], &info["reserved_bytes"]), (&(8 * MIB).into(), &(8 * MIB).into()));
    assert_eq!(bench.lvol("s", "a")["reserved"], true);
    let line = bench.refused_without_a_trace(&["create", "s", "b", "8M", "--reserve"]);
    assert!(line.starts_with("no space: 128 clusters needed, "), "{line}");
}

#[test]
fn clear_methods_have_the_words_of_spdk() {
    let bench = Bench::new();
    bench.ok(&["init", "s", "--size", "24M", "--cluster-size", "64K", "--clear-method", "write_zeroes"]);
    for (method, bits) in [("default", "0x0"), ("none", "0x1"), ("unmap", "0x2"), ("write_zeroes", "0x3")] {
        bench.ok(&["create", "s", method, "64K", "--clear-method", method]);
        let dump = bench.ok(&["dump", "s"]);
        let named =
            dump.split("\n[").find(|section| section.contains(&format!("xattr.name: \"{method}\""))).unwrap();
        assert!(named.contains(&format!("md_ro_flags: {bits}")), "{method}: {named}");
    }
    assert_eq!(bench.output(&["create", "s", "a", "64K", "--clear-method", "burn"]).status.code(), Some(2));
}

#[test]
fn a_thick_lvol_reads_zeros_where_another_one_was() {
    let bench = Bench::with_store();
    bench.write("image", 8 * MIB, &[(0, &noise(1, 8 * MIB))]);
    bench.ok(&["import", "s", "old", "image"]);
    bench.ok(&["rm", "s", "old"]);
    bench.ok(&["create", "s", "new", "8M", "--thick"]);
    bench.ok(&["export", "s", "new", "new.raw"]);
    assert!(bench.read("new.raw").iter().all(|byte| *byte == 0));
}

#[test]
fn snapshots_of_several_lvols_are_taken_at_once() {
    let bench = Bench::with_store();
    bench.ok(&["create", "s", "a", "1M"]);
    bench.ok(&["create", "s", "b", "1M"]);
    let lines = bench.ok(&["snapshot", "s", "a=a1", "b"]);
    let (first, second) = lines.split_once('\n').unwrap();
    assert_eq!(first, "took snapshot \"a1\" of lvol \"a\"");
    let name = second.strip_prefix("took snapshot \"").unwrap().strip_suffix("\" of lvol \"b\"\n").unwrap();
    let time = name.strip_prefix("b-snap-").unwrap();
    assert_eq!((time.len(), &time[8..9], &time[15..]), (16, "T", "Z"), "{time}");
    assert_eq!(bench.lvol("s", "a")["parent"], "a1");
    assert_eq!(bench.lvol("s", "b")["parent"], name);

    let line = bench.refused_without_a_trace(&["snapshot", "s", "a=a2", "b=a1"]);
    assert_eq!(line, "an lvol named \"a1\" exists already");
    let line = bench.refused_without_a_trace(&["snapshot", "s", "a=same", "b=same"]);
    assert_eq!(line, "an lvol named \"same\" exists already");
}

#[test]
fn a_snapshot_keeps_what_was_there() {
    let bench = Bench::with_store();
    bench.write("image", 2 * MIB, &[(5 * KIB, &noise(1, 100 * KIB)), (MIB, &noise(2, 77))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=base"]);
    assert_eq!(bench.ok(&["clone", "s", "base", "c"]), "cloned snapshot \"base\" as lvol \"c\"\n");
    for lvol in ["a", "base", "c"] {
        bench.ok(&["export", "s", lvol, lvol]);
        assert!(bench.read(lvol) == bench.read("image"), "{lvol}");
    }
    // With one clone left, the snapshot hands everything to it.
    assert_eq!(bench.ok(&["rm", "s", "a"]), "removed lvol \"a\"\n");
    bench.ok(&["rm", "s", "base"]);
    bench.ok(&["export", "s", "c", "c", "--force"]);
    assert!(bench.read("c") == bench.read("image"));
    assert_eq!(bench.lvol("s", "c")["kind"], "lvol");
    bench.ok(&["check", "s"]);
}

#[test]
fn a_snapshot_is_removed_when_one_clone_is_left() {
    let bench = Bench::with_store();
    bench.write("image", MIB, &[(5 * KIB, &noise(1, 100 * KIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=base"]);
    bench.ok(&["clone", "s", "base", "b"]);
    let line = bench.refused_without_a_trace(&["rm", "s", "base"]);
    assert_eq!(line, "\"base\" has 2 clones: a, b");
    let line = bench.ok(&["rm", "s", "base", "--deferred"]);
    assert_eq!(line, "removed snapshot \"base\", as soon as one of 2 clones is left\n");
    assert_eq!(bench.names("s"), ["a", "b"]);
    let lvol = bench.lvol("s", "b");
    assert_eq!((&lvol["kind"], lvol["parent"].is_null()), (&"clone".into(), true));
    assert_eq!(bench.refused(&["clone", "s", "base", "c"]), "no lvol named \"base\"");
    bench.ok(&["create", "s", "base", "1M"]);
    bench.ok(&["rm", "s", "base", "--deferred"]);

    let tree = bench.json(&["tree", "s", "--json"]);
    let hidden = tree[0]["name"].as_str().unwrap();
    assert!(hidden.starts_with(".deleted-"), "{tree}");
    assert_eq!((&tree[0]["kind"], &tree[1]["parent"]), (&"removed".into(), &hidden.into()));
    assert!(bench.ok(&["tree", "s"]).contains("removed"));
    let told = format!("{hidden}: removed, kept until one of its clones is left: a, b\n");
    assert_eq!(bench.ok(&["check", "s"]), told + "no damage found in 2 lvols\n");
    assert_eq!(bench.json(&["check", "s", "--json"])["deferred"][0]["clones"][1], "b");
    assert_eq!(bench.refused(&["rm", "s", hidden]), format!("no lvol named \"{hidden}\""));

    bench.ok(&["rm", "s", "a"]);
    assert_eq!(bench.json(&["tree", "s", "--json"]).as_array().unwrap().len(), 1);
    bench.ok(&["export", "s", "b", "out"]);
    assert!(bench.read("out") == bench.read("image"));
    assert_eq!(bench.ok(&["check", "s"]), "no damage found in 1 lvols\n");
}

#[test]
fn space_comes_back() {
    let bench = Bench::with_store();
    let free = |bench: &Bench| bench.json(&["info", "s", "--json"])["free_clusters"].clone();
    let before = free(&bench);
    bench.write("image", 4 * MIB, &[(0, &noise(1, 4 * MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    assert_ne!(free(&bench), before);
    bench.ok(&["rm", "s", "a"]);
    assert_eq!(free(&bench), before);
}

#[test]
fn lvols_are_found_by_name_uuid_and_id() {
    let bench = Bench::with_store();
    bench.ok(&["create", "s", "a", "1M"]);
    let uuid = bench.lvol("s", "a")["uuid"].as_str().unwrap().to_owned();
    assert_eq!(bench.ok(&["rename", "s", &uuid, "b"]), "renamed lvol \"a\" to \"b\"\n");
    bench.ok(&["rename", "s", &uuid.to_uppercase(), "c"]);
    let dump = bench.ok(&["dump", "s"]);
    let id = dump.rsplit_once("[blob ").unwrap().1.split_once(']').unwrap().0;
    bench.ok(&["rename", "s", &format!("blob-{id}"), "d"]);
    assert_eq!(bench.names("s"), ["d"]);
    // A name goes before a UUID, so that no lvol can hide another.
    bench.ok(&["create", "s", &uuid, "2M"]);
    bench.ok(&["resize", "s", &uuid, "3M"]);
    assert_eq!(bench.lvol("s", "d")["size"], MIB);
    assert_eq!(bench.lvol("s", &uuid)["size"], 3 * MIB);
}

#[test]
fn names_may_be_anything_that_is_allowed() {
    let bench = Bench::with_store();
    let longest = "x".repeat(63);
    for name in ["größe", "with space", ".", "..", "-", "a:b", "\\", &longest] {
        bench.ok(&["create", "s", "--", name, "1M"]);
        bench.ok(&["rename", "s", "--", name, "moved"]);
        bench.ok(&["rm", "s", "moved"]);
    }
}
