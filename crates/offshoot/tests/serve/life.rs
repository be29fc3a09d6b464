//! How a server starts, ends and dies, and what is left in the store.

use std::fs;

use crate::server::{Server, Store, refused, text};
use crate::wire::{CMD_FLAG_FUA, CMD_WRITE, Connection};

/// A cluster of these stores.
const CLUSTER: usize = 256 << 10;

const MIB: usize = 1 << 20;

#[test]
fn a_signal_ends_it_in_order_and_the_next_start_finds_everything() {
    for signal in ["TERM", "INT"] {
        let store = Store::init("lvs", "128M");
        store.run("create", &["vol", "16M"]);
        let mut server = store.serve();
        let mut client = server.connect("vol");
        // Not flushed: an orderly end keeps it all the same. Whole clusters, so that nothing native is left.
        client.write(0, &[0x5a; CLUSTER], 0).unwrap();
        server.signal(signal);
        // The client has its connection open and nothing under way: it is let go.
        client.wait_for_end();
        assert_eq!(server.wait().code(), Some(0), "{signal}");
        assert!(!server.socket.exists(), "{signal}");
        assert_eq!(store.info("clean"), true, "{signal}");
        assert_eq!(store.info("sealed"), true, "{signal}");
        store.run("check", &[]);

        let server = store.serve();
        let mut client = server.connect("vol");
        assert_eq!(client.read(0, CLUSTER).unwrap(), [0x5a; CLUSTER]);
        assert_eq!(client.read(CLUSTER as u64, 4096).unwrap(), [0; 4096]);
        client.disconnect();
        server.stop();
    }
}

#[test]
fn further_signals_do_no_harm() {
    let store = Store::init("lvs", "128M");
    store.run("create", &["vol", "64M"]);
    let mut server = store.serve();
    let mut client = server.connect("vol");
    for number in 0..32 {
        client.write(number * 65536, &[7; 4096], 0).unwrap();
    }
    for signal in ["INT", "TERM", "INT", "TERM"] {
        // It may be gone before the last one: `kill` finds it until it has been waited for.
        server.signal(signal);
    }
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(store.info("clean"), true);
    store.run("check", &[]);
}

#[test]
fn what_was_under_way_is_finished() {
    let store = Store::init("lvs", "128M");
    store.run("create", &["vol", "64M"]);
    let mut server = store.serve();
    let mut client = server.connect("vol");
    for number in 0..8_u8 {
        let data = vec![number + 1; MIB];
        client.send(CMD_WRITE, 0, u64::from(number) << 20, MIB, &data);
    }
    // The first reply says that the requests have begun to arrive.
    let (first, result) = client.receive();
    assert_eq!(result, Ok(()));
    server.signal("TERM");
    let mut answered = client.receive_all();
    answered.push(first);
    assert_eq!(server.wait().code(), Some(0));

    let server = store.serve();
    let mut client = server.connect("vol");
    for offset in answered {
        let data = client.read(offset, MIB).unwrap();
        let expected = u8::try_from(offset >> 20).unwrap() + 1;
        assert!(data.iter().all(|byte| *byte == expected), "the write at {offset:#x} was answered");
    }
    client.disconnect();
    server.stop();
}

#[test]
fn what_was_flushed_survives_a_kill() {
    let store = Store::init("lvs", "128M");
    store.run("create", &["vol", "16M"]);
    let server = store.serve();
    let mut client = server.connect("vol");
    client.write(4096, &[1; 8192], 0).unwrap();
    client.flush().unwrap();
    client.write(1 << 20, &[2; 4096], CMD_FLAG_FUA).unwrap();
    server.kill();
    assert_eq!(store.info("clean"), false);

    let server = store.serve();
    let mut client = server.connect("vol");
    assert_eq!(client.read(4096, 8192).unwrap(), [1; 8192]);
    assert_eq!(client.read(1 << 20, 4096).unwrap(), [2; 4096]);
    assert_eq!(client.read(0, 4096).unwrap(), [0; 4096]);
    client.disconnect();
    server.stop();
    assert_eq!(store.info("clean"), true);
    store.run("check", &[]);
}

#[test]
fn without_an_address_the_socket_stands_next_to_the_store() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let socket = store.file("store.img.sock");
    // A socket that nobody listens on, as a killed server leaves it.
    drop(std::os::unix::net::UnixListener::bind(&socket));
    assert!(socket.exists());
    let server = Server::start_on(&[&store.path], &[], socket);
    let expected = format!("serving {}: 1 lvol at {}", text(&store.path), server.uri("NAME"));
    assert_eq!(server.lines, [expected]);
    server.connect("vol").disconnect();
    server.stop();
}

#[test]
fn a_store_in_use_is_refused_with_the_pid() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let server = store.serve();
    let line = refused(&store.path, &[]);
    assert!(line.contains(&server.pid().to_string()), "{line}");
    // The one that was there is not disturbed.
    server.connect("vol").write(0, &[1; 512], 0).unwrap();
    server.stop();
}

#[test]
fn what_cannot_be_served_is_refused_and_leaves_the_store_alone() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let before = fs::read(&store.path).unwrap();
    let taken = store.file("taken");
    fs::write(&taken, "precious").unwrap();
    let on_taken = format!("unix:{}", text(&taken));
    let long = format!("unix:/tmp/{}", "x".repeat(200));
    for (args, expected) in [
        (vec!["--nbd", "/run/nbd.sock"], "no place to listen"),
        (vec!["--nbd", "tcp:somewhere:1"], "no place to listen"),
        (vec!["--nbd", "tcp:0.0.0.0:0"], "not a loopback address"),
        (vec!["--nbd", &on_taken], "not a socket"),
        (vec!["--nbd", &long], "cannot listen"),
        (vec![text(&taken)], "taken"),
        (vec!["/no/such/store"], "/no/such/store"),
        (vec![text(&store.path)], "held by process"),
    ] {
        let line = refused(&store.path, &args);
        assert!(line.contains(expected), "{args:?}: {line}");
        assert!(fs::read(&store.path).unwrap() == before, "{args:?} changed the store");
    }
    assert_eq!(fs::read(&taken).unwrap(), b"precious");
}

#[test]
fn two_addresses_serve_the_same_store() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let second = store.file("second.sock");
    let server = Server::start(&[&store.path], &["--nbd", &format!("unix:{}", text(&second))]);
    assert_eq!(server.lines.len(), 2, "{:?}", server.lines);
    let mut one = server.connect("vol");
    let mut other = Connection::open(&second, "vol").unwrap();
    one.write(0, &[9; 512], 0).unwrap();
    assert_eq!(other.read(0, 512).unwrap(), [9; 512]);
    // A flush on either covers both.
    other.flush().unwrap();
    drop((one, other));
    server.stop();
    assert!(!second.exists());
}
