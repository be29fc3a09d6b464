//! `bdev_set_qos_limit`: what a limit holds up, and what it does not.

use serde_json::{Value, json};

use crate::rpc::Client;
use crate::server::{Server, Store};
use crate::wire::{CMD_FLUSH, CMD_WRITE, Connection};

/// The largest write there is. At [`SLOW`] nothing else is written to its lvol for half a minute.
const LARGE: usize = 32 << 20;

const OFF: (u64, u64, u64, u64) = (0, 0, 0, 0);

/// A MiB written per second.
const SLOW: (u64, u64, u64, u64) = (0, 0, 0, 1);

fn serve(store: &Store) -> (Server, Client) {
    store.run("create", &["slow", "64M"]);
    store.run("create", &["fast", "64M"]);
    let server = Server::start_with_rpc(&[&store.path]);
    let client = Client::connect(&server.rpc_socket());
    (server, client)
}

fn members((ops, bytes, read, written): (u64, u64, u64, u64)) -> Value {
    json!({
        "rw_ios_per_sec": ops, "rw_mbytes_per_sec": bytes,
        "r_mbytes_per_sec": read, "w_mbytes_per_sec": written,
    })
}

fn limit(client: &mut Client, limits: (u64, u64, u64, u64)) {
    let mut params = members(limits);
    params["name"] = json!("lvs/slow");
    assert_eq!(client.call("bdev_set_qos_limit", &params), json!(true));
    let bdevs = client.call("bdev_get_bdevs", &json!({"name": "lvs/slow"}));
    assert_eq!(bdevs[0]["assigned_rate_limits"], members(limits));
}

/// A client of the slow lvol that has used up what it may, and whose next write waits.
fn held_up(server: &Server) -> Connection {
    let mut slow = server.connect("slow");
    slow.write(0, &vec![1; LARGE], 0).unwrap();
    slow.send(CMD_WRITE, 0, 4096, 512, &[2; 512]);
    // Behind that on the same connection, and before it to be answered.
    slow.send(CMD_FLUSH, 0, 0, 0, &[]);
    assert_eq!(slow.receive(), (0, Ok(())));
    slow
}

#[test]
fn a_limit_holds_up_writes_of_its_lvol_and_nothing_else() {
    let store = Store::init("lvs", "256M");
    let (server, mut client) = serve(&store);
    limit(&mut client, SLOW);
    let mut slow = held_up(&server);
    let mut other = server.connect("slow");
    assert_eq!(other.read(4096, 512).unwrap(), [1; 512]);
    let mut fast = server.connect("fast");
    fast.write(0, &[3; 4096], 0).unwrap();
    fast.flush().unwrap();
    // What waits is no obstacle to other verbs.
    client.call("bdev_lvol_snapshot", &json!({"lvol_name": "lvs/slow", "snapshot_name": "snap"}));
    limit(&mut client, OFF);
    assert_eq!(slow.receive(), (4096, Ok(())));
    assert_eq!(other.read(4096, 512).unwrap(), [2; 512]);
    assert_eq!(server.connect("snap").read(4096, 512).unwrap(), [1; 512]);
    server.stop();
}

#[test]
fn a_server_ends_in_time_with_requests_that_wait() {
    let store = Store::init("lvs", "256M");
    let (server, mut client) = serve(&store);
    limit(&mut client, SLOW);
    let _slow = held_up(&server);
    server.stop();
    assert_eq!(store.info("clean"), json!(true));
}

#[test]
fn what_waits_goes_with_its_client() {
    let store = Store::init("lvs", "256M");
    let (server, mut client) = serve(&store);
    limit(&mut client, SLOW);
    let slow = held_up(&server);
    drop(slow);
    let connections = |client: &mut Client| {
        let state = client.call("framework_dump_state", &Value::Null);
        state["connections"].as_object().unwrap().len()
    };
    while connections(&mut client) > 0 {
        std::thread::yield_now();
    }
    limit(&mut client, OFF);
    assert_eq!(server.connect("slow").read(4096, 512).unwrap(), [1; 512]);
    server.stop();
}

#[test]
fn limits_are_checked_and_rounded() {
    let store = Store::init("lvs", "256M");
    let (server, mut client) = serve(&store);
    let set = "bdev_set_qos_limit";
    for (params, code) in [
        (json!({"name": "lvs/none", "rw_ios_per_sec": 1000}), -19),
        (json!({"name": "lvs/slow"}), -22),
        (json!({"name": "lvs/slow", "burst_ms": 0}), -22),
        (json!({"name": "lvs/slow", "rw_mbytes_per_sec": u64::MAX}), -22),
        (json!({"name": "store.img", "rw_ios_per_sec": 1000}), -95),
        (json!({"rw_ios_per_sec": 1000}), -32603),
        (json!({"name": "lvs/slow", "rw_ios_per_sec": -1}), -32603),
    ] {
        client.refuse(set, &params, code);
    }
    limit(&mut client, (2000, 3, 2, 1));
    client.call(set, &json!({"name": "lvs/slow", "rw_ios_per_sec": 1, "r_mbytes_per_sec": 0, "burst_ms": 5}));
    let bdevs = client.call("bdev_get_bdevs", &json!({"name": "lvs/slow"}));
    assert_eq!(bdevs[0]["assigned_rate_limits"], members((1000, 3, 0, 1)));
    server.stop();
}
