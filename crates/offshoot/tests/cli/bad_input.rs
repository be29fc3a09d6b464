//! What cannot be done is refused: exit status 1, one clear line, and every file as it was, byte for byte.

use super::bench::{Bench, MIB, noise};

const UUID: &str = "1b4e28ba-2fa1-11d2-883f-b9a761bde3fb";

#[test]
fn verbs_are_refused_without_a_trace() {
    let bench = Bench::with_store();
    bench.ok(&["create", "s", "a", "1M"]);
    bench.ok(&["snapshot", "s", "a=snap"]);
    bench.ok(&["clone", "s", "snap", "c"]);
    let long = "x".repeat(64);
    let table: &[(&[&str], &str)] = &[
        (&["create", "s", "a", "1M"], "an lvol named \"a\" exists already"),
        (&["create", "s", "b", "0"], "an lvol of size 0 holds nothing"),
        (&["create", "s", "b", "16777216T"], "a size of 18446744073709551616 bytes is beyond all limits"),
        (&["create", "s", "b", "8E"], "size 9223372036854775808 is beyond the largest lvol of"),
        (&["create", "s", "b", "1G", "--thick"], "no space: 16384 clusters needed,"),
        (&["create", "s", "", "1M"], "name \"\" is empty"),
        (&["create", "s", "a/b", "1M"], "name \"a/b\" contains a slash"),
        (&["create", "s", "a=b", "1M"], "name \"a=b\" contains an equals sign"),
        (&["create", "s", "a\nb", "1M"], "name \"a\\nb\" contains a control character"),
        (&["create", "s", &long, "1M"], "is longer than 63 bytes"),
        (&["snapshot", "s", "nothing"], "no lvol named \"nothing\""),
        (&["snapshot", "s", "snap"], "\"snap\" is read-only: clone it instead of taking a snapshot"),
        (&["snapshot", "s", "a=c"], "an lvol named \"c\" exists already"),
        (&["snapshot", "s", "a=x", "a=y"], "\"a\" is in use"),
        (&["snapshot", "s", "a=x/y"], "contains a slash"),
        (&["clone", "s", "a", "x"], "\"a\" is writable: take a snapshot and clone that"),
        (&["clone", "s", "snap", "c"], "an lvol named \"c\" exists already"),
        (&["clone", "s", "nothing", "x"], "no lvol named \"nothing\""),
        (&["clone", "s", UUID, "x"], "no lvol named"),
        (&["clone", "s", "blob-0x1", "x"], "no lvol named"),
        (&["rm", "s", "nothing"], "no lvol named \"nothing\""),
        (&["rm", "s", "snap"], "\"snap\" has 2 clones: a, c"),
        (&["resize", "s", "snap", "2M"], "lvol \"snap\" is read-only"),
        (&["resize", "s", "nothing", "2M"], "no lvol named \"nothing\""),
        (&["resize", "s", "a", "8E"], "beyond the largest lvol"),
        (&["rename", "s", "a", "c"], "an lvol named \"c\" exists already"),
        (&["rename", "s", "a", "a/b"], "contains a slash"),
        (&["rename", "s", "nothing", "x"], "no lvol named \"nothing\""),
        (&["export", "s", "nothing", "out"], "no lvol named \"nothing\""),
        (&["export", "s", "a\u{1b}[2J", "out"], "no lvol named \"a\\u{1b}[2J\""),
        (&["import", "s", "b", "nothing"], "nothing: No such file or directory"),
        (&["import", "s", "b", "."], "is a directory"),
        (&["import", "s", "a/b", "s"], "contains a slash"),
        (&["import", "s", "a", "s"], "an lvol named \"a\" exists already"),
    ];
    for (args, expected) in table {
        let line = bench.refused_without_a_trace(args);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}

#[test]
fn what_is_no_store_is_refused_by_every_command() {
    let bench = Bench::with_store();
    bench.ok(&["create", "s", "a", "1M"]);
    let store = bench.read("s");
    bench.write("noise", 20 * MIB, &[(0, &noise(1, MIB))]);
    bench.write("zeros", 20 * MIB, &[]);
    bench.write("tiny", 100, &[]);
    bench.write("empty", 0, &[]);
    bench.write("ext4", 20 * MIB, &[(0x438, &[0x53, 0xef])]);
    bench.write("truncated", 20 * MIB, &[(0, &store[..20 << 20])]);
    let mut newer = store.clone();
    newer[8] = 4;
    bench.write("newer", store.len() as u64, &[(0, &newer)]);
    let table = [
        ("noise", "noise: not an lvstore: no signature of an lvstore"),
        ("zeros", "zeros: not an lvstore: no signature of an lvstore"),
        ("tiny", "tiny: 100 bytes are less than one block of 512"),
        ("empty", "empty: 0 bytes are less than one block of 512"),
        ("ext4", "ext4: not an lvstore: it holds an ext2, ext3 or ext4 file system"),
        ("newer", "newer: the store has format version 0x4, which is newer than this program"),
        (
            "truncated",
            "truncated: the store is 25165824 bytes long but its device only 20971520: it was truncated",
        ),
        ("nothing", "nothing: no such file or device"),
        (".", ".: is a directory"),
        ("/dev/null", "/dev/null: neither a regular file nor a block device"),
    ];
    for (name, expected) in table {
        for args in [
            &["info", name][..],
            &["ls", name, "--json"],
            &["tree", name],
            &["dump", name],
            &["check", name],
            &["create", name, "x", "1M"],
            &["snapshot", name, "a"],
            &["clone", name, "a", "x"],
            &["rm", name, "a"],
            &["resize", name, "a", "2M"],
            &["rename", name, "a", "x"],
            &["import", name, "x", "noise"],
            &["export", name, "a", "out"],
        ] {
            assert_eq!(bench.refused(args), expected, "{args:?}");
        }
    }
    assert!(bench.read("truncated")[..] == store[..20 << 20]);
    assert!(bench.read("newer") == newer);
    assert!(!bench.path("out").exists());
}

#[test]
fn a_store_of_another_kind_is_refused() {
    let bench = Bench::with_store();
    let mut other = bench.read("s");
    other[0x38..0x48].copy_from_slice(b"BLOBFS\0\0\0\0\0\0\0\0\0\0");
    bench.write("other", other.len() as u64, &[(0, &other)]);
    let line = bench.refused_without_a_trace(&["create", "other", "a", "1M"]);
    assert!(line.starts_with("other: "), "{line}");
}

#[test]
fn externals_that_are_not_there_are_named() {
    let bench = Bench::with_store();
    let external = format!("{UUID}=nothing");
    for args in [["info", "s", "--external", &external], ["ls", "s", "--external", &external]] {
        assert_eq!(bench.refused_without_a_trace(&args), "nothing: no such file or device");
    }
}
