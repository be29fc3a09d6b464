//! Clients that do not read their replies, as those that were stopped under load, hold up nobody else.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::program::Program;
use crate::rpc::Client;
use crate::server::{OFFSHOOT, Server, Store, text};
use crate::wire::{CMD_READ, CMD_WRITE};

const MIB: usize = 1 << 20;

#[test]
fn other_volumes_rpc_and_the_end_of_the_server_go_on() {
    let store = Store::init("lvs", "256M");
    store.run("create", &["busy", "64M"]);
    store.run("create", &["other", "64M"]);
    let server = Server::start_with_rpc(&[&store.path]);
    let mut stuck = server.connect("busy");
    stuck.write(0, &vec![7; 32 * MIB], 0).unwrap();
    // More than sockets hold, and not one byte of it is read.
    for at in 0..32 {
        stuck.send(CMD_READ, 0, (at * MIB) as u64, MIB, &[]);
    }
    // Another is cut off in the middle of what it sends.
    let mut half = server.connect("busy");
    half.send(CMD_WRITE, 0, 0, MIB, &[1; 100]);
    let mut other = server.connect("other");
    for at in 0..64 {
        other.write(at * 4096, &[2; 4096], 0).unwrap();
    }
    other.flush().unwrap();
    let mut same = server.connect("busy");
    assert_eq!(same.read(0, 4096).unwrap(), [7; 4096]);
    let mut client = Client::connect(&server.rpc_socket());
    client.call("bdev_lvol_snapshot", &json!({"lvol_name": "lvs/busy", "snapshot_name": "snap"}));
    let state = client.call("framework_dump_state", &Value::Null);
    assert_eq!(state["stores"][0]["name"], json!("lvs"));
    server.stop();
    assert_eq!(store.info("clean"), json!(true));
}

/// Sends a signal to a process and those that it has begun. They have a group of their own.
fn signal(name: &str, leader: &Child) {
    let status = Command::new("kill").args(["-s", name, "--", &format!("-{}", leader.id())]).status();
    assert!(status.unwrap().success(), "{name}");
}

/// Requests of NBD clients under way.
fn requests(client: &mut Client) -> u64 {
    let state = client.call("framework_dump_state", &Value::Null);
    state["stores"][0]["requests"].as_u64().unwrap()
}

#[test]
fn processes_that_are_stopped_dead_hold_up_nobody() {
    let Some(fio) = Program::find("fio") else { return };
    let store = Store::init("lvs", "256M");
    store.run("create", &["busy", "64M"]);
    store.run("create", &["other", "64M"]);
    let server = Server::start_with_rpc(&[&store.path]);
    let mut client = Client::connect(&server.rpc_socket());
    // One reads and writes as fast as it can, the other asks over RPC without an end. Both in the middle of it, they stop.
    let uri = format!("--uri={}", server.uri("busy"));
    let load = ["--name=x", "--ioengine=nbd", "--rw=randrw", "--bs=64k", "--iodepth=32", "--time_based"];
    let mut writer = fio
        .command()
        .args(load)
        .args(["--runtime=60", "--size=64M", &uri])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let script = "while :; do \"$0\" rpc --socket \"$1\" bdev_get_bdevs || exit; done";
    let mut asker = Command::new("sh")
        .args(["-c", script, OFFSHOOT, text(&server.rpc_socket())])
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    while requests(&mut client) == 0 {
        assert_eq!(writer.try_wait().unwrap(), None);
    }
    // timeout(1), by which fio runs, makes a group as well.
    signal("STOP", &writer);
    signal("STOP", &asker);

    let mut other = server.connect("other");
    for at in 0..64 {
        other.write(at * 4096, &[2; 4096], 0).unwrap();
    }
    other.flush().unwrap();
    other.disconnect();
    client.call("bdev_lvol_snapshot", &json!({"lvol_name": "lvs/busy", "snapshot_name": "snap"}));
    client.call("bdev_lvol_clone", &json!({"snapshot_name": "lvs/snap", "clone_name": "clone"}));
    server.stop();
    assert_eq!(store.info("clean"), json!(true));
    signal("KILL", &writer);
    signal("KILL", &asker);
    writer.wait().unwrap();
    asker.wait().unwrap();
    store.run("check", &[]);
}
