//! The clients that people use: qemu-img, qemu-io, nbdinfo, nbdcopy and fio.

use std::fs::{self, File};

use serde_json::Value;

use crate::common::golden::sha256;
use crate::program::{Program, find_all};
use crate::server::{Store, text};

/// Bytes that compress to nothing and repeat nowhere, from a seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    // The generator of Marsaglia's "Xorshift RNGs", which must not start at zero.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A 32 MiB image with data here and there, next to the store.
fn sparse_image(store: &Store) -> std::path::PathBuf {
    use std::os::unix::fs::FileExt as _;
    let path = store.file("image.raw");
    let file = File::create_new(&path).unwrap();
    file.set_len(32 << 20).unwrap();
    for (number, offset) in [0_u64, 4096 + 512, 5 << 20, 17 << 20, (32 << 20) - 4096].into_iter().enumerate()
    {
        let len = [3000, 100_000, 2 << 20, 1 << 20, 4096][number];
        file.write_all_at(&noise(offset + 1, len), offset).unwrap();
    }
    path
}

/// `nbdinfo --map`: offset, length and type (0 data, 1 hole, 2 zero, 3 hole and zero).
fn map(nbdinfo: &Program, uri: &str) -> Vec<(u64, u64, u64)> {
    let map: Value = serde_json::from_str(&nbdinfo.run(&["--map", "--json", uri])).unwrap();
    let field = |entry: &Value, name: &str| entry[name].as_u64().unwrap();
    let entries = map.as_array().unwrap().iter();
    entries.map(|entry| (field(entry, "offset"), field(entry, "length"), field(entry, "type"))).collect()
}

#[test]
fn qemu_img_converts_compares_and_reports() {
    let Some(qemu_img) = Program::find("qemu-img") else {
        return;
    };
    let store = Store::init("lvs", "256M");
    store.run("create", &["vol", "32M"]);
    let image = sparse_image(&store);
    let server = store.serve();
    let uri = server.uri("vol");
    let info: Value = serde_json::from_str(&qemu_img.run(&["info", "--output=json", &uri])).unwrap();
    assert_eq!(info["virtual-size"], 32 << 20);
    qemu_img.run(&["convert", "-n", "-f", "raw", "-O", "raw", text(&image), &uri]);
    qemu_img.run(&["compare", "-f", "raw", "-F", "raw", text(&image), &uri]);
    let copy = store.file("copy.qcow2");
    qemu_img.run(&["convert", "-f", "raw", "-O", "qcow2", &uri, text(&copy)]);
    qemu_img.run(&["compare", "-f", "qcow2", "-F", "raw", text(&copy), &uri]);
    server.stop();
    assert_eq!(store.sha256("vol"), sha256(File::open(&image).unwrap()));
    store.run("check", &[]);
}

#[test]
fn qemu_io_writes_reads_discards_and_zeroes() {
    let Some(qemu_io) = Program::find("qemu-io") else {
        return;
    };
    let store = Store::init("lvs", "128M");
    store.run("create", &["vol", "32M"]);
    let server = store.serve();
    let uri = server.uri("vol");
    let run = |commands: &[&str]| {
        let mut args = vec!["-f", "raw", "-d", "unmap"];
        args.extend(commands.iter().flat_map(|command| ["-c", command]));
        args.push(&uri);
        let output = qemu_io.run(&args);
        assert!(!output.contains("failed"), "{commands:?}: {output}");
    };
    run(&["write -P 0x5a 1M 4k", "write -P 0x11 3000 7000", "write -f -P 0x22 8M 1M", "flush"]);
    run(&["read -P 0x5a 1M 4k", "read -P 0 0 3000", "read -P 0x11 3000 7000", "read -P 0x22 8M 1M"]);
    run(&["discard 8M 512k", "write -z 8704k 4k", "write -z -u 8712k 4k", "flush"]);
    run(&["read -P 0 8M 512k", "read -P 0 8704k 4k", "read -P 0x22 8708k 4k", "read -P 0 8712k 4k"]);
    run(&["aio_write -P 0x33 16M 8M", "aio_write -P 0x44 24M 1M", "aio_flush", "read -P 0x33 16M 8M"]);
    // Verifying works: a wrong pattern is noticed.
    let output = qemu_io.fail(&["-f", "raw", "-c", "read -P 0x77 16M 4k", &uri]);
    assert!(output.contains("Pattern verification failed"), "{output}");
    server.stop();
    store.run("check", &[]);
}

#[test]
fn nbdinfo_tells_size_flags_and_list() {
    let Some(nbdinfo) = Program::find("nbdinfo") else {
        return;
    };
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    store.run("snapshot", &["vol=snap"]);
    let server = store.serve();
    let info: Value = serde_json::from_str(&nbdinfo.run(&["--json", &server.uri("vol")])).unwrap();
    let export = &info["exports"][0];
    for (member, expected) in [
        ("export-size", Value::from(4 << 20)),
        ("is_read_only", false.into()),
        ("can_multi_conn", true.into()),
        ("can_flush", true.into()),
        ("can_fua", true.into()),
        ("can_trim", true.into()),
        ("can_zero", true.into()),
        ("can_fast_zero", true.into()),
        ("can_df", true.into()),
        ("can_cache", true.into()),
        ("block_size_minimum", 1.into()),
        ("block_size_preferred", 4096.into()),
        ("block_size_maximum", (32 << 20).into()),
        ("description", "thin lvol, clone of snap".into()),
    ] {
        assert_eq!(export[member], expected, "{member}");
    }
    assert_eq!(export["contexts"][0], "base:allocation");
    nbdinfo.run(&["--is", "read-only", &server.uri("snap")]);

    let list: Value = serde_json::from_str(&nbdinfo.run(&["--list", "--json", &server.uri("")])).unwrap();
    let exports = list["exports"].as_array().unwrap();
    let mut names: Vec<&str> = exports.iter().map(|export| export["export-name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["snap", "vol"]);
    nbdinfo.fail(&[&server.uri("nothing")]);
    server.stop();
}

#[test]
fn block_status_shows_what_a_clone_stores_and_inherits() {
    let Some([nbdinfo, qemu_io]) = find_all(["nbdinfo", "qemu-io"]) else {
        return;
    };
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "16M"]);
    let server = store.serve();
    let vol = server.uri("vol");
    qemu_io.run(&["-f", "raw", "-c", "write -P 1 0 1M", "-c", "write -P 2 8M 512k", &vol]);
    server.stop();
    store.run("snapshot", &["vol=snap"]);
    store.run("clone", &["snap", "clone"]);
    let server = store.serve();
    let (snapshot, clone) = (server.uri("snap"), server.uri("clone"));
    const K: u64 = 1 << 10;
    let inherited =
        [(0, 1024 * K, 0), (1024 * K, 7168 * K, 3), (8192 * K, 512 * K, 0), (8704 * K, 7680 * K, 3)];
    assert_eq!(map(&nbdinfo, &snapshot), inherited);
    assert_eq!(map(&nbdinfo, &clone), inherited);
    // A block of its own, and two that it no longer inherits.
    let commands = ["-c", "write -P 3 4M 4k", "-c", "discard 64k 8k"];
    qemu_io.run(&[&["-f", "raw", "-d", "unmap"], &commands[..], &[&clone]].concat());
    let expected = [
        (0, 64 * K, 0),
        (64 * K, 8 * K, 3),
        (72 * K, 952 * K, 0),
        (1024 * K, 3072 * K, 3),
        (4096 * K, 4 * K, 0),
        (4100 * K, 4092 * K, 3),
        (8192 * K, 512 * K, 0),
        (8704 * K, 7680 * K, 3),
    ];
    assert_eq!(map(&nbdinfo, &clone), expected);
    assert_eq!(map(&nbdinfo, &snapshot), inherited);
    server.stop();
}

#[test]
fn nbdcopy_copies_both_ways_over_several_connections() {
    let Some([nbdcopy, nbdinfo]) = find_all(["nbdcopy", "nbdinfo"]) else {
        return;
    };
    let store = Store::init("lvs", "256M");
    store.run("create", &["vol", "32M"]);
    store.run("create", &["other", "32M"]);
    let image = sparse_image(&store);
    let sum = sha256(File::open(&image).unwrap());
    let server = store.serve();
    let (vol, other) = (server.uri("vol"), server.uri("other"));
    let many = ["--connections=4", "--requests=32", "--request-size=65536", "--flush"];
    nbdcopy.run(&[&many[..], &[text(&image), &vol]].concat());
    let copy = store.file("copy.raw");
    nbdcopy.run(&[&many[..], &[&vol, text(&copy)]].concat());
    assert_eq!(sha256(File::open(&copy).unwrap()), sum);
    // From one export to the other, with holes told by block status.
    nbdcopy.run(&[&many[..], &[&vol, &other]].concat());
    let stored = |uri| {
        let data = map(&nbdinfo, uri).into_iter().filter(|(.., kind)| *kind == 0);
        data.map(|(_, len, _)| len).sum::<u64>()
    };
    // The data is 3 MiB and a little, in blocks of 4 KiB; nbdcopy looks for zeros in pieces of a request.
    for uri in [&vol, &other] {
        assert!((3 << 20..5 << 20).contains(&stored(uri)), "{}", stored(uri));
    }
    server.stop();
    assert_eq!(store.sha256("other"), sum);
    store.run("check", &[]);
}

#[test]
fn fio_verifies_what_it_writes() {
    let Some(fio) = Program::find("fio") else { return };
    let store = Store::init("lvs", "256M");
    store.run("create", &["vol", "64M"]);
    store.run("snapshot", &["vol=snap"]);
    let server = store.serve();
    let uri = format!("--uri={}", server.uri("vol"));
    let common = [
        "--ioengine=nbd",
        &uri,
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randrepeat=1",
        "--output-format=terse",
    ];
    // Two connections, each on a part of its own; blocks that start and end anywhere on a sector.
    let sectors =
        ["--name=sectors", "--rw=randwrite", "--bsrange=512-64k", "--bs_unaligned=0", "--blockalign=512"];
    let parts = ["--numjobs=2", "--size=8M", "--offset_increment=16M"];
    fio.run(&[&common[..], &sectors[..], &parts[..]].concat());
    let blocks = ["--name=blocks", "--rw=randrw", "--bs=4k", "--offset=32M", "--size=16M", "--fsync=64"];
    fio.run(&[&common[..], &blocks[..]].concat());
    server.stop();
    store.run("check", &[]);
    let zeros = store.file("zeros");
    File::create_new(&zeros).unwrap().set_len(64 << 20).unwrap();
    assert_eq!(store.sha256("snap"), sha256(File::open(&zeros).unwrap()), "the snapshot has changed");
    fs::remove_file(zeros).unwrap();
}
