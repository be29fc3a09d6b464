//! `serve --config`, `save_config`, SIGHUP, and words to the service manager.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rpc::Client;
use crate::server::{OFFSHOOT, Server, Store, refused, text};

/// A server that has its stores from a configuration.
fn start(config: &Path) -> (Server, Client, TempDir) {
    // Not next to the store, whose path may be too long for a socket.
    let folder = TempDir::with_prefix("offshoot-").unwrap();
    let (socket, rpc) = (folder.path().join("nbd"), folder.path().join("rpc"));
    let place = format!("unix:{}", text(&socket));
    let args = ["--config", text(config), "--nbd", &place, "--rpc", text(&rpc)];
    let server = Server::start_on(&[], &args, socket);
    let client = Client::connect(&rpc);
    (server, client, folder)
}

fn write(store: &Store, config: &Value) -> PathBuf {
    let path = store.file("config.json");
    fs::write(&path, config.to_string()).unwrap();
    path
}

fn call(method: &str, params: Value) -> Value {
    json!({"method": method, "params": params})
}

fn config(bdev: &[Value]) -> Value {
    json!({"subsystems": [
        {"subsystem": "scheduler", "config": [call("framework_set_scheduler", json!({"name": "static"}))]},
        {"subsystem": "bdev", "config": bdev},
        {"subsystem": "nbd", "config": [call("nbd_unexport", json!({"bdev_name": "lvs/hidden"}))]},
        {"subsystem": "vmd", "config": null},
    ]})
}

/// A store with lvols `vol` and `hidden`, and the calls that have it served.
fn store() -> (Store, Vec<Value>) {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    store.run("create", &["hidden", "4M"]);
    let calls = vec![
        call("bdev_aio_create", json!({"name": "disk", "filename": text(&store.path)})),
        call("bdev_malloc_create", json!({"name": "ram", "num_blocks": 64, "block_size": 512})),
        json!({"method": "bdev_wait_for_examine"}),
        call("bdev_set_qos_limit", json!({"name": "lvs/vol", "rw_ios_per_sec": 7000, "burst_ms": 9})),
    ];
    (store, calls)
}

#[test]
fn a_server_starts_from_what_another_has_saved() {
    let (store, calls) = store();
    let (server, mut client, _folder) = start(&write(&store, &config(&calls)));
    let limits = client.call("bdev_get_bdevs", &json!({"name": "lvs/vol"}));
    assert_eq!(limits[0]["assigned_rate_limits"]["rw_ios_per_sec"], json!(7000));
    assert_eq!(client.call("nbd_get_exports", &Value::Null).as_array().unwrap().len(), 1);
    server.connect("vol").write(0, &[1; 512], 0).unwrap();
    let saved = client.call("save_config", &Value::Null);
    let names = |method: &str| {
        let calls = saved["subsystems"].as_array().unwrap().iter().flat_map(|part| part["config"].as_array());
        calls.flatten().filter(|call| call["method"] == method).count()
    };
    assert_eq!(["bdev_aio_create", "bdev_malloc_create", "nbd_unexport"].map(names), [1; 3]);
    // The same as SPDK's clients put it together.
    for part in client.call("framework_get_subsystems", &Value::Null).as_array().unwrap() {
        let calls = client.call("framework_get_config", &json!({"name": part["subsystem"]}));
        assert!(saved["subsystems"].as_array().unwrap().iter().any(|other| other["config"] == calls));
    }
    client.refuse("framework_get_config", &json!({"name": "nvmf"}), -32602);
    server.stop();
    let (server, mut client, _folder) = start(&write(&store, &saved));
    assert_eq!(client.call("save_config", &Value::Null), saved);
    assert_eq!(server.connect("vol").read(0, 512).unwrap(), [1; 512]);
    server.stop();
}

#[test]
fn what_is_new_in_the_file_is_done_when_the_signal_comes() {
    let (store, mut calls) = store();
    let path = write(&store, &config(&calls));
    let (server, mut client, _folder) = start(&path);
    let mut connection = server.connect("vol");
    calls.push(call("bdev_malloc_create", json!({"name": "more", "num_blocks": 64, "block_size": 512})));
    calls[3]["params"]["rw_ios_per_sec"] = json!(9000);
    write(&store, &config(&calls));
    server.signal("HUP");
    let more = client.call("bdev_get_bdevs", &json!({"name": "more", "timeout": 60_000}));
    assert_eq!(more[0]["num_blocks"], json!(64));
    // It came behind the limit.
    let limits = client.call("bdev_get_bdevs", &json!({"name": "lvs/vol"}));
    assert_eq!(limits[0]["assigned_rate_limits"]["rw_ios_per_sec"], json!(9000));
    // A file that is none changes nothing.
    fs::write(&path, "{").unwrap();
    server.signal("HUP");
    connection.write(0, &[1; 512], 0).unwrap();
    let own = json!({"subsystems": [{"subsystem": "bdev", "config": [
        call("bdev_malloc_create", json!({"name": "last", "num_blocks": 64, "block_size": 512})),
    ]}]});
    assert_eq!(client.call("load_config", &own), json!(true));
    assert_eq!(client.call("load_config", &json!({"subsystems": []})), json!(true));
    client.call("bdev_get_bdevs", &json!({"name": "last"}));
    let twice = json!({"subsystems": [{"subsystem": "bdev", "config": [
        call("bdev_malloc_create", json!({"name": "last", "num_blocks": 65, "block_size": 512})),
    ]}]});
    client.refuse("load_config", &twice, -17);
    server.stop();
}

#[test]
fn a_configuration_that_fails_is_said_in_one_line() {
    let (store, calls) = store();
    let other = Store::init("other", "64M");
    for (content, expected) in [
        ("{".to_owned(), "offshoot: configuration "),
        (r#"{"subsystems":7}"#.to_owned(), "offshoot: configuration "),
        (config(&[calls[3].clone()]).to_string(), "bdev_set_qos_limit lvs/vol: No such device"),
    ] {
        let path = store.file("config.json");
        fs::write(&path, content).unwrap();
        let line = refused(&other.path, &["--config", text(&path)]);
        assert!(line.contains(expected), "{line}");
    }
    assert_eq!(other.info("clean"), json!(true));
}

#[test]
fn stores_of_the_command_line_may_be_in_the_file_too() {
    let (store, _) = store();
    let server = Server::start_with_rpc(&[&store.path]);
    let saved = Client::connect(&server.rpc_socket()).call("save_config", &Value::Null);
    server.stop();
    let path = write(&store, &saved);
    Server::start(&[&store.path], &["--config", text(&path)]).stop();
}

#[test]
fn the_service_manager_hears_of_it() {
    let (store, calls) = store();
    let path = write(&store, &config(&calls));
    let folder = TempDir::with_prefix("offshoot-").unwrap();
    let place = |name: &str| folder.path().join(name);
    let manager = UnixDatagram::bind(place("notify")).unwrap();
    // A server that says nothing fails the test instead of stopping it.
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let heard = |expected: &str| {
        let mut bytes = [0; 256];
        let len = manager.recv(&mut bytes).unwrap();
        let text = str::from_utf8(&bytes[..len]).unwrap();
        assert!(text.starts_with(expected), "{text}");
    };
    let mut child = Command::new(OFFSHOOT)
        .args(["serve", "--config", text(&path), "--rpc", text(&place("rpc"))])
        .env("OFFSHOOT_LOG", "error")
        .env("NOTIFY_SOCKET", place("notify"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    heard("READY=1\nSTATUS=serving 1 store");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let signal = |name: &str| {
        Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    };
    signal("HUP");
    heard("RELOADING=1\nMONOTONIC_USEC=");
    heard("READY=1\n");
    signal("TERM");
    heard("STOPPING=1\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(lines.map(Result::unwrap).any(|line| line == "ready"));
}
