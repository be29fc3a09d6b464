//! Merging by hand, as it is done where there is no merge, beside `merge`: what each leaves is the same, and how many bytes
//! each has moved.

use serde_json::json;

use crate::rpc::Client;
use crate::server::{Server, Store};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SIZE: u64 = 8 * MIB;

/// A chain: `base` has half of its clusters, `top` 64 KiB in each of four of them, and `vm` lies on both.
fn chain() -> (Store, Vec<u8>) {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vm", "8M"]);
    let server = store.serve();
    let mut content = vec![0; usize::try_from(SIZE).unwrap()];
    let mut fill = |at: u64, len: u64, byte: u8| {
        let range = usize::try_from(at).unwrap()..usize::try_from(at + len).unwrap();
        content[range].fill(byte);
        let mut connection = server.connect("vm");
        for part in 0..len / (64 * KIB) {
            connection.write(at + part * 64 * KIB, &[byte; 64 << 10], 0).unwrap();
        }
        connection.flush().unwrap();
        connection.disconnect();
    };
    fill(0, SIZE / 2, 1);
    store.run("snapshot", &["vm=base"]);
    (0..4).for_each(|number| fill(number * MIB + 64 * KIB, 64 * KIB, 2));
    store.run("snapshot", &["vm=top"]);
    fill(SIZE - MIB, 64 * KIB, 3);
    server.stop();
    let end = usize::try_from(SIZE - MIB).unwrap();
    content[end..].fill(0);
    (store, content)
}

fn read(server: &Server, lvol: &str) -> Vec<u8> {
    let mut connection = server.connect(lvol);
    let mut content = Vec::new();
    for part in 0..8 {
        content.extend(connection.read(part * MIB, 1 << 20).unwrap());
    }
    connection.disconnect();
    content
}

/// The bytes that a method has moved, as the list of operations tells them.
fn by_method(store: &Store, method: &str, params: &serde_json::Value) -> u64 {
    let server = Server::start_with_rpc(&[&store.path]);
    let mut client = Client::connect(&server.rpc_socket());
    client.call(method, params);
    let operations = client.call("bdev_lvol_get_operations", &serde_json::Value::Null);
    server.stop();
    operations[0]["bytes_done"].as_u64().unwrap()
}

/// A new thick lvol, written through NBD with all that the snapshot reads.
fn by_dd(store: &Store) -> u64 {
    store.run("create", &["new", "8M", "--thick"]);
    let server = store.serve();
    let content = read(&server, "top");
    let mut connection = server.connect("new");
    for (part, bytes) in (0..).zip(content.chunks(1 << 20)) {
        connection.write(part * MIB, bytes, 0).unwrap();
    }
    connection.flush().unwrap();
    connection.disconnect();
    server.stop();
    content.len() as u64
}

/// A new thick lvol, and shallow copies of the snapshots onto it, the oldest first.
fn by_shallow_copies(store: &Store) -> u64 {
    store.run("create", &["new", "8M", "--thick"]);
    let server = Server::start_with_rpc(&[&store.path]);
    let mut client = Client::connect(&server.rpc_socket());
    let mut clusters = 0;
    for snapshot in ["base", "top"] {
        let params = json!({"src_lvol_name": format!("lvs/{snapshot}"), "dst_bdev_name": "lvs/new"});
        let started = client.call("bdev_lvol_start_shallow_copy", &params);
        let id = json!({"operation_id": started["operation_id"]});
        let done = loop {
            let state = client.call("bdev_lvol_check_shallow_copy", &id);
            match state["state"].as_str() {
                Some("in progress") => std::thread::yield_now(),
                Some("complete") => break state,
                _ => panic!("{state}"),
            }
        };
        clusters += done["copied_clusters"].as_u64().unwrap();
    }
    server.stop();
    clusters * 256 * KIB
}

#[test]
fn every_way_leaves_the_same() {
    let (store, content) = chain();

    let dd = store.copy();
    let by_dd = by_dd(&dd);
    ["vm", "top", "base"].iter().for_each(|gone| drop(dd.run("rm", &[gone])));

    let copies = store.copy();
    let by_copies = by_shallow_copies(&copies);
    ["vm", "top", "base"].iter().for_each(|gone| drop(copies.run("rm", &[gone])));

    let inflated = store.copy();
    let by_inflating = by_method(&inflated, "bdev_lvol_inflate", &json!({"name": "lvs/top"}));
    inflated.run("rm", &["base"]);

    let merged = store.copy();
    let snapshots = json!({"snapshots": ["lvs/base", "lvs/top"]});
    let by_merging = by_method(&merged, "bdev_lvol_merge", &snapshots);

    for (store, name) in [(&dd, "new"), (&copies, "new"), (&inflated, "top"), (&merged, "top")] {
        let server = store.serve();
        assert!(read(&server, name) == content, "{name}");
        server.stop();
        let lvols = store.run("ls", &["--json"]);
        assert!(!lvols.contains("\"base\""), "{lvols}");
        store.run("check", &[]);
    }
    // The table of the README.
    let moved = [by_dd, by_copies, by_inflating, by_merging];
    assert_eq!(moved, [SIZE, 5 * MIB, SIZE - 256 * KIB, 256 * KIB]);
    let free = |store: &Store| store.info("free_bytes").as_u64().unwrap();
    assert_eq!(free(&merged) - free(&inflated), 4 * MIB, "merging made nothing thick");
}
