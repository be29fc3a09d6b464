//! Bounds on what clients may take, and on the end.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rpc::{Client, create};
use crate::server::{OFFSHOOT, Server, Store, refused, text};

const EINVAL: u32 = 22;

#[test]
fn wrong_limits_are_told() {
    let store = Store::init("lvs", "64M");
    for (flag, value) in [
        ("--max-connections", "0"),
        ("--max-requests", "0"),
        ("--max-bytes", "0"),
        ("--max-rpc-connections", "0"),
        ("--max-request", "32K"),
        ("--max-request", "96K"),
        ("--max-request", "64M"),
    ] {
        assert!(refused(&store.path, &[flag, value]).contains(flag), "{flag} {value}");
    }
}

#[test]
fn a_request_is_as_large_as_it_may_be() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let server =
        Server::start(&[&store.path], &["--max-request", "64K", "--max-requests", "1", "--max-bytes", "4K"]);
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 65_536], 0).unwrap();
    assert_eq!(connection.write(0, &[2; 65_537], 0), Err(EINVAL));
    assert_eq!(connection.read(0, 65_536).unwrap(), [1; 65_536]);
    // One after the other: each waits for those before it.
    for at in 0..20 {
        connection.send(crate::wire::CMD_WRITE, 0, at << 12, 4096, &[3; 4096]);
    }
    for _ in 0..20 {
        connection.receive().1.unwrap();
    }
    server.stop();
}

#[test]
fn connections_above_the_limit_wait() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let args = ["--max-connections", "1", "--max-rpc-connections", "1", "--negotiation-timeout", "1"];
    let server = Server::start_with(&[&store.path], &args);
    // Whoever says nothing makes room after a second.
    let mut silent = UnixStream::connect(&server.socket).unwrap();
    silent.read_exact(&mut [0; 18]).unwrap();
    let first = server.connect("vol");
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let mut second = UnixStream::connect(&server.socket).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(second.read(&mut [0]).is_err(), "nobody greets it");
    first.disconnect();
    second.set_read_timeout(None).unwrap();
    second.read_exact(&mut [0; 18]).unwrap();
    drop(second);

    let mut client = Client::connect(&server.rpc_socket());
    client.call("spdk_get_version", &json!(null));
    let mut waiting = Client::connect(&server.rpc_socket());
    waiting.begin(1, "spdk_get_version", &json!(null));
    drop(client);
    assert_eq!(waiting.receive()["id"], 1);
    server.stop();
}

/// Limits are for clients: a command that moves content neither waits for a place nor asks for less at a time.
#[test]
fn a_command_is_no_client() {
    let store = Store::init("lvs", "64M");
    let image = store.file("image");
    std::fs::write(&image, vec![7; 3 << 20]).unwrap();
    store.run("import", &["vol", text(&image)]);
    store.run("snapshot", &["vol=snap"]);
    let server = Server::start(&[&store.path], &["--max-connections", "1", "--max-request", "64K"]);
    let client = server.connect("vol");
    for (command, args) in [
        ("export", &["snap", text(&store.file("out"))][..]),
        ("copy", &["snap", text(&store.file("copy"))]),
        ("import", &["new", text(&image)]),
    ] {
        // One that waits for a place would do so for ever.
        let mut run = Command::new("timeout");
        let output = run.arg("60").arg(OFFSHOOT).arg(command).arg(&store.path).args(args).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
    for file in ["out", "copy"] {
        assert!(std::fs::read(store.file(file)).unwrap() == vec![7; 3 << 20], "{file}");
    }
    client.disconnect();
    server.stop();
    assert_eq!(store.sha256("new"), store.sha256("snap"));
}

/// A device that does not answer any more holds up the end for as long as that was allowed, and costs nothing that was
/// acknowledged.
#[test]
fn the_end_comes_whatever_the_device_does() {
    let store = Store::init("other", "64M");
    let image = store.file("image");
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let mut server = Server::start_with(&[&store.path], &["--shutdown-timeout", "1"]);
    let mut client = Client::connect(&server.rpc_socket());
    client.call("bdev_aio_create", &json!({"filename": text(&image), "name": "file", "block_size": 4096}));
    client.call("bdev_error_create", &json!({"base_name": "file"}));
    let params = json!({"bdev_name": "EE_file", "lvs_name": "lvs", "cluster_sz": 65536});
    client.call("bdev_lvol_create_lvstore", &params);
    create(&mut client, "vol", 16);
    let mut connection = server.connect("lvs/vol");
    connection.write(0, &[7; 4096], 0).unwrap();
    connection.flush().unwrap();
    connection.disconnect();
    let hang =
        json!({"name": "EE_file", "io_type": "all", "error_type": "pending", "num": 4_000_000_000_u32});
    client.call("bdev_error_inject_error", &hang);
    drop(client);
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(30));
    // The other store did not wait for that one.
    assert_eq!(store.info("clean"), true);
    let server = Server::start(&[&image], &[]);
    assert_eq!(server.connect("vol").read(0, 4096).unwrap(), [7; 4096]);
    server.stop();
}
