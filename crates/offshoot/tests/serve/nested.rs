//! Lvols below other stores: a store on an lvol, and lvols and memory as external snapshots.

use serde_json::{Value, json};

use crate::rpc::{Client, create, lvol, serve, snapshot};
use crate::server::{Server, Store, text};

fn lvstore(client: &mut Client, bdev: &Value, name: &str) {
    let params = json!({"bdev_name": bdev, "lvs_name": name, "cluster_sz": 65536});
    client.call("bdev_lvol_create_lvstore", &params);
}

fn lvol_in(client: &mut Client, store: &str, name: &str, mib: u64) -> Value {
    let params = json!({"lvol_name": name, "size_in_mib": mib, "thin_provision": true, "lvs_name": store});
    client.call("bdev_lvol_create", &params)
}

#[test]
fn a_store_on_an_lvol_on_an_lvol() {
    let store = Store::init("lvs", "256M");
    let (server, mut client) = serve(&store);
    let disk = create(&mut client, "disk", 128);
    lvstore(&mut client, &json!("lvs/disk"), "inner");
    let inner = lvol_in(&mut client, "inner", "disk", 64);
    lvstore(&mut client, &inner, "core");
    lvol_in(&mut client, "core", "vol", 16);
    let stores = client.call("bdev_lvol_get_lvstores", &json!({"lvs_name": "core"}));
    assert_eq!(stores[0]["base_bdev"], inner);

    let data: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let mut connection = server.connect("core/vol");
    connection.write(1 << 20, &data, 0).unwrap();
    connection.flush().unwrap();
    assert_eq!(connection.read(1 << 20, 1 << 20).unwrap(), data);
    connection.disconnect();

    // What a store is on is that store's: nobody else writes to it or takes it away.
    assert_eq!(client.call("bdev_get_bdevs", &lvol("disk"))[0]["claim_type"], "exclusive_write");
    assert_eq!(client.call("nbd_get_exports", &json!({"bdev_name": disk})), json!([]));
    client.refuse("bdev_lvol_delete", &lvol("disk"), -32603);
    client.refuse("bdev_lvol_resize", &json!({"name": "lvs/disk", "size_in_mib": 64}), -32602);
    client.refuse("bdev_lvol_create_lvstore", &json!({"bdev_name": "lvs/disk", "lvs_name": "more"}), -1);
    client.refuse("bdev_lvol_delete_lvstore", &json!({"lvs_name": "inner"}), -32602);
    assert_eq!(client.call("bdev_examine", &lvol("disk")), true);

    // Growing goes from below to above.
    client.call("bdev_lvol_resize", &json!({"name": "lvs/disk", "size_in_mib": 160}));
    let clusters = |client: &mut Client| {
        let stores = client.call("bdev_lvol_get_lvstores", &json!({"lvs_name": "inner"}));
        stores[0]["total_data_clusters"].as_u64().unwrap()
    };
    let before = clusters(&mut client);
    client.call("bdev_lvol_grow_lvstore", &json!({"lvs_name": "inner"}));
    assert_eq!(clusters(&mut client) - before, 512);

    // A server that ends closes each store before the one below it, and nothing looks for stores on lvols unasked.
    let config = store.file("config.json");
    let subsystems = client.call("framework_get_config", &json!({"name": "bdev"}));
    let saved = json!({"subsystems": [{"subsystem": "bdev", "config": subsystems}]});
    std::fs::write(&config, saved.to_string()).unwrap();
    server.stop();
    assert_eq!(store.info("clean"), true);
    let (server, mut client) = serve(&store);
    assert_eq!(client.call("bdev_lvol_get_lvstores", &Value::Null).as_array().unwrap().len(), 1);
    assert_eq!(client.call("bdev_examine", &lvol("disk")), true);
    assert_eq!(client.call("bdev_examine", &json!({"name": "inner/disk"})), true);
    assert_eq!(server.connect("core/vol").read(1 << 20, 1 << 20).unwrap(), data);
    // One that is killed leaves stores as after any crash.
    server.kill();
    let server = Server::start_with(&[], &["--config", text(&config)]);
    assert_eq!(server.connect("core/vol").read(1 << 20, 1 << 20).unwrap(), data);

    // Once its store is gone an lvol is like any other.
    let mut client = Client::connect(&server.rpc_socket());
    client.call("bdev_lvol_delete_lvstore", &json!({"lvs_name": "core"}));
    client.call("bdev_lvol_delete_lvstore", &json!({"lvs_name": "inner"}));
    assert_eq!(client.call("bdev_get_bdevs", &lvol("disk"))[0]["claimed"], false);
    assert_eq!(client.call("bdev_examine", &lvol("disk")), true);
    assert_eq!(client.call("bdev_lvol_delete", &lvol("disk")), true);
    server.stop();
}

#[test]
fn a_full_store_below_says_no_space() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    create(&mut client, "disk", 256);
    lvstore(&mut client, &json!("lvs/disk"), "inner");
    lvol_in(&mut client, "inner", "vol", 128);
    let mut connection = server.connect("inner/vol");
    let data = vec![3; 1 << 20];
    let full = (0..128).find_map(|at| connection.write(at << 20, &data, 0).err());
    assert_eq!(full, Some(28));
    drop(connection);
    server.stop();
}

#[test]
fn snapshots_of_one_store_are_external_snapshots_of_another() {
    let (store, other) = (Store::init("lvs", "64M"), Store::init("other", "64M"));
    let (server, mut client) = serve(&store);
    client.call("bdev_aio_create", &json!({"filename": text(&other.path), "name": "other.img"}));
    create(&mut client, "vol", 4);
    server.connect("lvs/vol").write(1 << 20, &[7; 8192], 0).unwrap();
    let clone =
        |bdev: &str, lvs: &str, name: &str| json!({"bdev": bdev, "lvs_name": lvs, "clone_name": name});
    // One that can be written is no snapshot.
    client.refuse("bdev_lvol_clone_bdev", &clone("lvs/vol", "other", "a"), -32602);
    let golden = snapshot(&mut client, "vol", "golden");
    client.call("bdev_lvol_clone_bdev", &clone("lvs/golden", "other", "a"));
    client.refuse("bdev_lvol_clone_bdev", &clone("other/a", "lvs", "b"), -32602);
    let shown = client.call("bdev_get_bdevs", &json!({"name": "other/a"}));
    assert_eq!(shown[0]["driver_specific"]["lvol"]["external_snapshot_name"], golden);
    assert_eq!(client.call("bdev_get_bdevs", &lvol("golden"))[0]["claim_type"], "read_many_write_none");
    let mut connection = server.connect("other/a");
    connection.write((1 << 20) + 4096, &[8; 4096], 0).unwrap();
    assert_eq!(connection.read(1 << 20, 8192).unwrap(), [[7; 4096], [8; 4096]].concat());
    // Snapshots are read by others as well.
    assert_eq!(server.connect("lvs/golden").read(1 << 20, 8192).unwrap(), [7; 8192]);
    connection.disconnect();
    client.refuse("bdev_lvol_delete", &lvol("golden"), -32603);
    client.refuse("bdev_aio_delete", &json!({"name": "store.img"}), -16);

    // It is found again, whichever store comes first.
    server.kill();
    for stores in [[&other, &store], [&store, &other]] {
        let server = Server::start_with_rpc(&stores.map(|store| store.path.as_path()));
        assert_eq!(server.connect("other/a").read(1 << 20, 8192).unwrap(), [[7; 4096], [8; 4096]].concat());
        server.stop();
    }

    // And let go when the last clone is gone.
    let server = Server::start_with_rpc(&[&store.path, &other.path]);
    let mut client = Client::connect(&server.rpc_socket());
    client.refuse("bdev_lvol_delete", &lvol("golden"), -32603);
    client.call("bdev_lvol_delete", &json!({"name": "other/a"}));
    assert_eq!(client.call("bdev_lvol_delete", &lvol("golden")), true);
    server.stop();
}

#[test]
fn memory_is_an_external_snapshot_of_several_stores() {
    let (store, other) = (Store::init("lvs", "64M"), Store::init("other", "64M"));
    let (server, mut client) = serve(&store);
    client.call("bdev_aio_create", &json!({"filename": text(&other.path), "name": "other.img"}));
    // What is on it comes from an lvol, by a shallow copy.
    create(&mut client, "vol", 4);
    server.connect("lvs/vol").write(0, &[7; 8192], 0).unwrap();
    snapshot(&mut client, "vol", "golden");
    let memory = json!({"num_blocks": 8192, "block_size": 512, "name": "memory"});
    client.call("bdev_malloc_create", &memory);
    let copy = json!({"src_lvol_name": "lvs/golden", "dst_bdev_name": "memory"});
    let copy = client.call("bdev_lvol_start_shallow_copy", &copy);
    while client.call("bdev_lvol_check_shallow_copy", &copy)["state"] == "in progress" {}
    for (lvs, name) in [("lvs", "a"), ("other", "b")] {
        let params = json!({"bdev": "memory", "lvs_name": lvs, "clone_name": name});
        client.call("bdev_lvol_clone_bdev", &params);
        let mut connection = server.connect(&format!("{lvs}/{name}"));
        assert_eq!(connection.read(4096, 8192).unwrap(), [[7; 4096], [0; 4096]].concat());
    }
    client.refuse("bdev_malloc_delete", &json!({"name": "memory"}), -16);
    server.stop();
}
