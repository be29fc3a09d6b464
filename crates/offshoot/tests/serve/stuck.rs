//! A client that does not read its replies, as one that was stopped under load, holds up nobody else.

use serde_json::{Value, json};

use crate::rpc::Client;
use crate::server::{Server, Store};
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
