//! Bdevs for tests and measurements: through io_uring, of nothing, with faults, and slow.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::skip;
use crate::metrics;
use crate::mount::{Mounted, obstacle};
use crate::program::Program;
use crate::rpc::{Client, create};
use crate::server::{Server, Store, text};

/// A server without stores.
fn start() -> (Server, Client) {
    let server = Server::start_with_rpc(&[]);
    let client = Client::connect(&server.rpc_socket());
    (server, client)
}

fn named(bdev: &str) -> Value {
    json!({"name": bdev})
}

fn shown(client: &mut Client, bdev: &str) -> Value {
    client.call("bdev_get_bdevs", &named(bdev))[0].clone()
}

fn lvstore(client: &mut Client, bdev: &str) {
    let params = json!({"bdev_name": bdev, "lvs_name": "lvs", "cluster_sz": 65536});
    client.call("bdev_lvol_create_lvstore", &params);
}

fn malloc(client: &mut Client) {
    let params = json!({"name": "memory", "num_blocks": 131_072, "block_size": 512});
    client.call("bdev_malloc_create", &params);
}

fn inject(bdev: &str, io: &str, error: &str, more: &Value) -> Value {
    let mut params = json!({"name": bdev, "io_type": io, "error_type": error});
    params.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    params
}

const DELAY: &str = "bdev_delay_create";

/// A delay bdev `slow` over `base`, with these latencies in microseconds.
fn delay(base: &str, [read, write]: [u64; 2]) -> Value {
    json!({
        "name": "slow", "base_bdev_name": base, "avg_read_latency": read, "p99_read_latency": read,
        "avg_write_latency": write, "p99_write_latency": write,
    })
}

#[test]
fn a_file_through_io_uring() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = start();
    let params = |name: &str, file: &str| json!({"name": name, "filename": file});
    let failed = client.ask("bdev_uring_create", &params("none", "/nothing/there"));
    assert_eq!(failed["error"]["message"], "Unable to create URING bdev.");
    assert_eq!(client.call("bdev_uring_create", &params("ring", text(&store.path))), "ring");
    let bdev = shown(&mut client, "ring");
    assert_eq!((&bdev["product_name"], &bdev["claimed"]), (&json!("URING bdev"), &json!(true)));
    assert_eq!(bdev["driver_specific"], json!({"uring": {"filename": text(&store.path)}}));
    create(&mut client, "vol", 8);
    server.connect("vol").write(0, &[1; 4096], 0).unwrap();
    File::options().write(true).open(&store.path).unwrap().set_len(96 << 20).unwrap();
    client.refuse("bdev_aio_rescan", &named("ring"), -19);
    client.call("bdev_uring_rescan", &named("ring"));
    client.call("bdev_lvol_grow_lvstore", &json!({"lvs_name": "lvs"}));
    assert_eq!(shown(&mut client, "ring")["num_blocks"], (96 << 20) / bdev["block_size"].as_u64().unwrap());
    client.refuse("bdev_aio_delete", &named("ring"), -19);
    client.call("bdev_uring_delete", &named("ring"));
    server.stop();
    assert_eq!(store.info("clean"), true);
}

#[test]
fn nothing_at_all() {
    let (server, mut client) = start();
    let null = |name: &str, blocks: u64, block: u32| json!({"name": name, "num_blocks": blocks, "block_size": block});
    client.refuse("bdev_null_create", &null("none", 0, 512), -22);
    client.refuse("bdev_null_create", &null("none", 8, 500), -22);
    let mut told = null("none", 1 << 20, 512);
    told["optimal_write_size"] = json!(8);
    assert_eq!(client.call("bdev_null_create", &told), "none");
    client.refuse("bdev_null_create", &null("none", 8, 512), -17);
    let bdev = shown(&mut client, "none");
    assert_eq!((&bdev["product_name"], &bdev["optimal_write_size"]), (&json!("Null disk"), &json!(8)));
    client.call("bdev_null_resize", &json!({"name": "none", "new_size": 64}));
    assert_eq!(shown(&mut client, "none")["num_blocks"], (64 << 20) / 512);
    // What lies on it works as long as nobody reads back what was written.
    lvstore(&mut client, "none");
    create(&mut client, "vol", 16);
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 8192], 0).unwrap();
    connection.flush().unwrap();
    assert_eq!(connection.read(0, 8192).unwrap(), [0; 8192]);
    connection.disconnect();
    client.refuse("bdev_null_resize", &json!({"name": "none", "new_size": 32}), -16);
    client.call("bdev_null_resize", &json!({"name": "none", "new_size": 128}));
    client.refuse("bdev_malloc_delete", &named("none"), -19);
    client.call("bdev_null_delete", &named("none"));
    client.refuse("bdev_null_delete", &named("none"), -19);
    server.stop();
}

#[test]
fn what_is_told_to_fails() {
    let (server, mut client) = start();
    malloc(&mut client);
    let over = json!({"base_name": "memory"});
    assert_eq!(client.call("bdev_error_create", &over), true);
    client.refuse("bdev_error_create", &over, -17);
    assert_eq!(shown(&mut client, "memory")["claim_type"], "exclusive_write");
    let bdev = shown(&mut client, "EE_memory");
    assert_eq!(bdev["driver_specific"], json!({"error_disk": {"base_bdev": "memory"}}));
    client.refuse("bdev_malloc_delete", &named("memory"), -16);
    lvstore(&mut client, "EE_memory");
    create(&mut client, "vol", 16);
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 65536], 0).unwrap();

    let none = json!({});
    for wrong in [
        inject("EE_memory", "read", "nvme_failure", &none),
        inject("EE_memory", "read", "failure", &json!({"nvme_sc": 1})),
        inject("EE_memory", "read", "corrupt_data", &none),
    ] {
        client.refuse("bdev_error_inject_error", &wrong, -22);
    }
    client.refuse("bdev_error_inject_error", &inject("memory", "read", "failure", &none), -19);
    client.refuse("bdev_error_inject_error", &inject("EE_memory", "zap", "failure", &none), -32603);

    client.call("bdev_error_inject_error", &inject("EE_memory", "read", "failure", &json!({"num": 2})));
    let read = |connection: &mut crate::wire::Connection| connection.read(0, 4096);
    assert_eq!((read(&mut connection), read(&mut connection)), (Err(5), Err(5)));
    assert_eq!(read(&mut connection).unwrap(), [1; 4096]);
    let corrupt =
        inject("EE_memory", "read", "corrupt_data", &json!({"corrupt_offset": 3, "corrupt_value": 6}));
    client.call("bdev_error_inject_error", &corrupt);
    assert_eq!(read(&mut connection).unwrap()[..5], [1, 1, 1, 7, 1]);
    client.call("bdev_error_inject_error", &inject("EE_memory", "read", "nomem", &json!({"num": 3})));
    assert_eq!(read(&mut connection).unwrap(), [1; 4096]);

    // What does not end holds up nobody else, and goes on when that is over.
    client.call("bdev_error_inject_error", &inject("EE_memory", "read", "pending", &none));
    let waiting = std::thread::spawn(move || (read(&mut connection), connection));
    let mut other = server.connect("vol");
    let is_stuck = |client: &mut Client| {
        let state = client.call("framework_dump_state", &Value::Null);
        state["stores"][0]["device_operations"] == 1
    };
    while !is_stuck(&mut client) {}
    assert_eq!(other.read(8192, 4096).unwrap(), [1; 4096]);
    client.call("bdev_error_inject_error", &inject("EE_memory", "clear", "failure", &none));
    let (read, connection) = waiting.join().unwrap();
    assert_eq!(read.unwrap(), [1; 4096]);
    drop((connection, other));

    // The memory is as it was, without the bdev over it.
    client.call("bdev_error_delete", &named("EE_memory"));
    assert_eq!(shown(&mut client, "memory")["claimed"], false);
    client.call("bdev_error_create", &over);
    assert_eq!(server.connect("vol").read(0, 4096).unwrap(), [1; 4096]);
    server.stop();
}

#[test]
fn what_is_slow_takes_its_time_and_comes_back() {
    let store = Store::init("old", "64M");
    let blank = store.file("blank");
    File::create(&blank).unwrap().set_len(64 << 20).unwrap();
    let (server, mut client) = start();
    let aio = |name: &str, file: &std::path::Path| json!({"name": name, "filename": text(file), "block_size": 4096});
    client.call("bdev_aio_create", &aio("old", &store.path));
    let mut uneven = delay("file", [200, 0]);
    uneven["p99_read_latency"] = json!(100);
    client.refuse(DELAY, &uneven, -22);
    // A store is on that one already.
    client.refuse(DELAY, &delay("old", [0, 0]), -1);
    // One that there is not yet.
    assert_eq!(client.call(DELAY, &delay("file", [100, 50_000])), "slow");
    client.refuse(DELAY, &delay("file", [0, 0]), -17);
    client.refuse("bdev_get_bdevs", &named("slow"), -19);
    client.call("bdev_aio_create", &aio("file", &blank));
    client.call("bdev_wait_for_examine", &Value::Null);
    assert_eq!(shown(&mut client, "slow")["driver_specific"], json!({"delay": delay("file", [100, 50_000])}));
    lvstore(&mut client, "slow");
    create(&mut client, "vol", 16);
    let mut connection = server.connect("lvs/vol");
    let begun = Instant::now();
    connection.write(0, &[1; 4096], 0).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let latency =
        |bdev: &str, kind: &str| json!({"delay_bdev_name": bdev, "latency_type": kind, "latency_us": 0});
    client.refuse("bdev_delay_update_latency", &latency("slow", "none"), -32602);
    client.refuse("bdev_delay_update_latency", &latency("nothing", "avg_read"), -32602);
    client.refuse("bdev_delay_update_latency", &latency("file", "avg_read"), -32600);
    for kind in ["avg_write", "p99_write"] {
        client.call("bdev_delay_update_latency", &latency("slow", kind));
    }
    connection.flush().unwrap();
    connection.disconnect();

    let config = store.file("config.json");
    let saved = client.call("save_config", &Value::Null);
    fs::write(&config, saved.to_string()).unwrap();
    server.stop();
    let server = Server::start_with(&[], &["--config", text(&config)]);
    let mut client = Client::connect(&server.rpc_socket());
    assert_eq!(client.call("save_config", &Value::Null), saved);
    let lvstores = client.call("bdev_lvol_get_lvstores", &json!({"lvs_name": "lvs"}));
    assert_eq!(lvstores[0]["base_bdev"], "slow");
    assert_eq!(server.connect("lvs/vol").read(0, 4096).unwrap(), [1; 4096]);
    // Without it the store is where it was.
    client.call("bdev_delay_delete", &named("slow"));
    client.refuse("bdev_lvol_get_lvstores", &json!({"lvs_name": "lvs"}), -19);
    assert_eq!(client.call("bdev_examine", &named("file")), true);
    assert_eq!(server.connect("lvs/vol").read(0, 4096).unwrap(), [1; 4096]);
    server.stop();
}

#[test]
fn bdevs_over_bdevs_over_lvols() {
    let store = Store::init("lower", "64M");
    let server = Server::start_with_rpc(&[&store.path]);
    let mut client = Client::connect(&server.rpc_socket());
    let params = json!({"lvol_name": "disk", "size_in_mib": 32, "lvs_name": "lower", "thin_provision": true});
    let disk = client.call("bdev_lvol_create", &params);
    client.call("bdev_error_create", &json!({"base_name": "lower/disk"}));
    client.call(DELAY, &delay("EE_lower/disk", [10, 10]));
    lvstore(&mut client, "slow");
    create(&mut client, "vol", 8);
    server.connect("lvs/vol").write(0, &[3; 4096], 0).unwrap();
    assert_eq!(server.connect("lvs/vol").read(0, 4096).unwrap(), [3; 4096]);
    client.refuse("bdev_error_delete", &named("EE_lower/disk"), -16);
    client.refuse("bdev_lvol_delete", &json!({"name": disk}), -32603);
    client.call("bdev_delay_delete", &named("slow"));
    client.call("bdev_error_delete", &named("EE_lower/disk"));
    client.call("bdev_examine", &named("lower/disk"));
    assert_eq!(server.connect("lvs/vol").read(0, 4096).unwrap(), [3; 4096]);
    server.stop();
}

/// Syncs of the device below the store, as the metrics count them.
fn syncs(socket: &std::path::Path) -> f64 {
    metrics::value(&metrics::read(socket), r#"offshoot_device_operations_total{store="lvs",op="sync"}"#)
}

/// Every flush of a client, every write that is to be durable at once, and every fsync in a file system of the kernel's
/// reaches what the store is on.
#[test]
fn what_is_synced_reaches_the_device() {
    let folder = Store::init("other", "64M");
    let (image, socket) = (folder.file("image"), folder.file("m"));
    File::create(&image).unwrap().set_len(256 << 20).unwrap();
    let server = Server::start_with(&[], &["--metrics", &format!("unix:{}", text(&socket))]);
    let mut client = Client::connect(&server.rpc_socket());
    client.call("bdev_aio_create", &json!({"name": "file", "filename": text(&image)}));
    client.call(DELAY, &delay("file", [10, 10]));
    lvstore(&mut client, "slow");
    create(&mut client, "vol", 128);
    let mut connection = server.connect("vol");
    for round in 0..5_u8 {
        connection.write(u64::from(round) << 16, &[round; 4096], 0).unwrap();
        let before = syncs(&socket);
        connection.flush().unwrap();
        assert!(syncs(&socket) > before, "flush {round}");
        let before = syncs(&socket);
        connection.write(u64::from(round) << 16, &[round; 4096], crate::wire::CMD_FLAG_FUA).unwrap();
        assert!(syncs(&socket) > before, "write {round}");
    }
    connection.disconnect();

    let Some(mkfs) = Program::find("mke2fs") else { return };
    if let Some(why) = obstacle() {
        return skip("fsync in a file system of the kernel's", why);
    }
    let plain = folder.file("ext4");
    File::create(&plain).unwrap().set_len(128 << 20).unwrap();
    mkfs.run(&["-q", "-t", "ext4", text(&plain)]);
    let mut connection = server.connect("vol");
    for (at, block) in fs::read(&plain).unwrap().chunks(1 << 20).enumerate() {
        connection.write((at as u64) << 20, block, 0).unwrap();
    }
    connection.disconnect();
    let Some(mounted) = Mounted::new(&server.uri("vol"), &folder.file("mount")) else { return };
    let mut file = File::create(mounted.path().join("file")).unwrap();
    for round in 0..20 {
        file.write_all(&[7; 4096]).unwrap();
        let before = syncs(&socket);
        file.sync_all().unwrap();
        assert!(syncs(&socket) > before, "fsync {round}");
    }
    drop(file);
    mounted.unmount();
    server.stop();
}
