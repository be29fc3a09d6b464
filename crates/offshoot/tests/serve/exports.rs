//! What exports are called, who may do what with them, and how requests are answered.

use std::fs::{self, File};
use std::path::Path;

use crate::common::golden::contents::Contents;
use crate::common::golden::{GoldenStore, sha256};
use crate::program::Program;
use crate::server::{Server, Store, refused, text};
use crate::wire::{
    CMD_FLAG_FAST_ZERO, CMD_FLAG_NO_HOLE, CMD_TRIM, CMD_WRITE_ZEROES, Connection, ENOSPC, ENOTSUP, EPERM,
    FLAG_READ_ONLY,
};

/// Why an export cannot be opened.
fn refusal(server: &Server, export: &str) -> String {
    match Connection::open(&server.socket, export) {
        Ok(_) => panic!("\"{export}\" can be opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_snapshot_is_read_only_and_its_clone_is_not() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    store.run("snapshot", &["vol=snap"]);
    store.run("clone", &["snap", "clone"]);
    let server = store.serve();
    let mut snapshot = server.connect("snap");
    assert_ne!(snapshot.flags & FLAG_READ_ONLY, 0);
    assert_eq!(snapshot.write(0, &[1; 512], 0), Err(EPERM));
    assert_eq!(snapshot.request(CMD_TRIM, 0, 0, 4096), Err(EPERM));
    assert_eq!(snapshot.request(CMD_WRITE_ZEROES, 0, 0, 4096), Err(EPERM));
    for writable in ["vol", "clone"] {
        let mut client = server.connect(writable);
        assert_eq!(client.flags & FLAG_READ_ONLY, 0);
        client.write(0, &[1; 512], 0).unwrap();
    }
    assert_eq!(snapshot.read(0, 512).unwrap(), [0; 512]);
    server.stop();
}

#[test]
fn an_export_is_found_by_name_and_uuid_and_alone_by_nothing() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let uuid = {
        let list: serde_json::Value = serde_json::from_str(&store.run("ls", &["--json"])).unwrap();
        list[0]["uuid"].as_str().unwrap().to_owned()
    };
    let server = store.serve();
    for name in ["vol", "lvs/vol", &uuid, ""] {
        assert_eq!(server.connect(name).size_bytes, 4 << 20, "{name:?}");
    }
    for name in ["nothing", "vol ", "other/vol", "VOL"] {
        assert!(refusal(&server, name).contains("no such export"), "{name:?}");
    }
    server.stop();

    store.run("create", &["other", "8M"]);
    let server = store.serve();
    assert!(refusal(&server, "").contains("no such export"), "there are two");
    server.stop();
}

#[test]
fn several_stores_are_told_apart_by_name() {
    let (one, two) = (Store::init("one", "64M"), Store::init("two", "64M"));
    one.run("create", &["vol", "4M"]);
    two.run("create", &["vol", "8M"]);
    let server = Server::start(&[&one.path, &two.path], &[]);
    let mut client = server.connect("one/vol");
    assert_eq!(client.size_bytes, 4 << 20);
    client.write(0, &[1; 4096], 0).unwrap();
    client.flush().unwrap();
    let mut other = server.connect("two/vol");
    assert_eq!(other.size_bytes, 8 << 20);
    assert_eq!(other.read(0, 4096).unwrap(), [0; 4096]);
    for name in ["vol", "", "one/two/vol", "three/vol"] {
        assert!(refusal(&server, name).contains("no such export"), "{name:?}");
    }
    assert_eq!(server.lines.len(), 2, "{:?}", server.lines);
    assert!(server.lines[1].contains("///two/NAME?"), "{:?}", server.lines);
    drop((client, other));
    server.stop();

    let same = Store::init("one", "64M");
    let line = refused(&one.path, &[text(&same.path)]);
    assert!(line.contains("two of the stores are called \"one\""), "{line}");
    one.run("check", &[]);
}

#[test]
fn zeros_and_trims_do_what_they_promise() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["thin", "4M"]);
    store.run("create", &["thick", "4M", "--thick"]);
    let server = store.serve();
    for export in ["thin", "thick"] {
        let mut client = server.connect(export);
        client.write(0, &[0xff; 16384], 0).unwrap();
        // Off the blocks at both ends.
        client.request(CMD_WRITE_ZEROES, 0, 1000, 5000).unwrap();
        client.request(CMD_WRITE_ZEROES, CMD_FLAG_NO_HOLE, 8192, 512).unwrap();
        client.request(CMD_TRIM, 0, 12288, 4096).unwrap();
        let mut expected = [0xff; 16384];
        expected[1000..6000].fill(0);
        expected[8192..8704].fill(0);
        let data = client.read(0, 16384).unwrap();
        assert!(data[..12288] == expected[..12288], "{export}");
        // Zeros are fast where they are nothing but a note.
        let fast = client.request(CMD_WRITE_ZEROES, CMD_FLAG_FAST_ZERO, 0, 4096);
        let with_space = CMD_FLAG_FAST_ZERO | CMD_FLAG_NO_HOLE;
        assert_eq!(client.request(CMD_WRITE_ZEROES, with_space, 4096, 4096), Err(ENOTSUP));
        if export == "thin" {
            assert_eq!(fast, Ok(()));
            assert!(data[12288..].iter().all(|byte| *byte == 0), "trimmed");
        } else {
            assert_eq!(fast, Err(ENOTSUP));
            assert!(client.read(0, 1000).unwrap() == [0xff; 1000], "refused, and nothing changed");
        }
    }
    server.stop();
    store.run("check", &[]);
}

#[test]
fn a_full_store_refuses_writes_and_keeps_serving() {
    let store = Store::init("lvs", "32M");
    store.run("create", &["vol", "128M"]);
    let server = store.serve();
    let mut client = server.connect("vol");
    let chunk = vec![0xaa; 1 << 20];
    let written: Vec<u64> = (0..128)
        .map(|number| number << 20)
        .take_while(|offset| match client.write(*offset, &chunk, 0) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error, ENOSPC);
                false
            }
        })
        .collect();
    assert!((8..32).contains(&written.len()), "{}", written.len());
    client.flush().unwrap();
    for offset in &written {
        assert!(client.read(*offset, 1 << 20).unwrap() == chunk, "{offset:#x}");
    }
    // What is given back can be used again.
    client.request(CMD_TRIM, 0, 0, 1 << 20).unwrap();
    client.write(100 << 20, &chunk[..256 << 10], 0).unwrap();
    drop(client);
    server.stop();
    store.run("check", &[]);
}

#[test]
fn a_new_size_is_seen_on_reconnecting() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let server = store.serve();
    server.connect("vol").write((4 << 20) - 512, &[1; 512], 0).unwrap();
    assert_eq!(server.connect("vol").write(4 << 20, &[1; 512], 0), Err(ENOSPC));
    server.stop();
    store.run("resize", &["vol", "8M"]);
    let server = store.serve();
    let mut client = server.connect("vol");
    assert_eq!(client.size_bytes, 8 << 20);
    let data = client.read((4 << 20) - 512, 1024).unwrap();
    assert_eq!((&data[..512], &data[512..]), (&[1; 512][..], &[0; 512][..]));
    drop(client);
    server.stop();
}

#[test]
fn a_damaged_lvol_costs_nothing_but_itself() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["victim", "4M"]);
    store.run("create", &["bystander", "4M"]);
    // The name stands in the lvol's only md page, and nowhere else.
    let mut bytes = fs::read(&store.path).unwrap();
    let at = bytes.windows(6).position(|window| window == b"victim").unwrap();
    bytes[at] ^= 1;
    fs::write(&store.path, bytes).unwrap();

    let server = store.serve();
    // Its name cannot be read any more, only its id, which holds the number of a page before the one hit.
    let ids = (1 << 32)..(1 << 32) + at as u64 / 4096;
    let refused = ids.filter_map(|id: u64| Connection::open(&server.socket, &format!("blob-{id:#x}")).err());
    let damaged = refused.filter(|reason| reason.to_string().contains("damaged: "));
    assert_eq!(damaged.count(), 1);
    server.connect("bystander").write(0, &[1; 4096], 0).unwrap();
    if let Some(nbdinfo) = Program::find("nbdinfo") {
        // It looks at every export that is listed, and fails if one cannot be opened.
        nbdinfo.run(&["--list", &server.uri("")]);
    }
    server.stop();
}

#[test]
fn external_snapshots_are_asked_for_by_uuid() {
    let Some(golden) = GoldenStore::load("esnap") else {
        return;
    };
    let external = golden.manifest.esnap_bdev.clone().unwrap();
    let clones = || {
        let lvols = golden.manifest.live_before_stop.lvols.iter();
        lvols.filter(|lvol| lvol.is_esnap_clone)
    };
    assert!(clones().count() > 0);

    let server = Server::start(&[&golden.image], &[]);
    for lvol in clones() {
        let reason = refusal(&server, &lvol.name);
        assert!(reason.contains("degraded") && reason.contains(&external.uuid), "{reason}");
    }
    server.stop();

    let file = golden.image.with_file_name("external");
    let content = Contents::of_external_device();
    content.write_to(&File::create_new(&file).unwrap(), 16 << 20).unwrap();
    let with = format!("{}={}", external.uuid, text(&file));
    let before = sha256(File::open(&file).unwrap());
    let server = Server::start(&[&golden.image], &["--external", &with]);
    for lvol in &golden.manifest.live_before_stop.lvols {
        check_content(&server, &golden.image, &lvol.name, lvol.sha256.as_deref());
    }
    for lvol in clones().filter(|lvol| !lvol.is_snapshot) {
        server.connect(&lvol.name).write(5000, &[7; 100], 0).unwrap();
    }
    server.stop();
    assert_eq!(sha256(File::open(&file).unwrap()), before, "the external snapshot was written to");
}

fn check_content(server: &Server, store: &Path, lvol: &str, expected: Option<&str>) {
    let Some(expected) = expected else { return };
    let mut client = server.connect(lvol);
    let size = usize::try_from(client.size_bytes).unwrap();
    let mut content = Vec::with_capacity(size);
    while content.len() < size {
        let len = (size - content.len()).min(4 << 20);
        content.extend(client.read(content.len() as u64, len).unwrap());
    }
    assert_eq!(sha256(&content[..]), expected, "{}: {lvol}", store.display());
}
