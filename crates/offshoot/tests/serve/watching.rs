//! What a server tells about itself: notifications, its log, what it is at, and signals over RPC.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rpc::Client;
use crate::server::{OFFSHOOT, Server, Store, text};
use crate::wire::{CMD_FLUSH, CMD_WRITE, Connection};

fn serve(store: &Store) -> (Server, Client) {
    let server = Server::start_with_rpc(&[&store.path]);
    let client = Client::connect(&server.rpc_socket());
    (server, client)
}

fn create(client: &mut Client, name: &str, mib: u64) -> Value {
    let params = json!({"lvol_name": name, "size_in_mib": mib, "thin_provision": true, "lvs_name": "lvs"});
    client.call("bdev_lvol_create", &params)
}

/// Types and subjects from an id on.
fn notices(client: &mut Client, id: u64) -> Vec<(String, String)> {
    let told = client.call("notify_get_notifications", &json!({"id": id}));
    let told = told.as_array().unwrap().iter().enumerate().map(|(at, notice)| {
        assert_eq!(notice["id"], json!(id + at as u64));
        let text = |member: &str| notice[member].as_str().unwrap().to_owned();
        (text("type"), text("ctx"))
    });
    told.collect()
}

#[test]
fn bdevs_that_come_and_go_are_told() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    let types = client.call("notify_get_types", &Value::Null);
    assert_eq!(types.as_array().unwrap()[..2], [json!("bdev_register"), json!("bdev_unregister")]);
    let notice = |kind: &str, subject: &Value| (kind.to_owned(), subject.as_str().unwrap().to_owned());
    let base = notice("bdev_register", &json!("store.img"));
    assert_eq!(notices(&mut client, 0), [base]);
    let vol = create(&mut client, "vol", 4);
    client.call("bdev_malloc_create", &json!({"name": "ram", "num_blocks": 8, "block_size": 512}));
    assert_eq!(notices(&mut client, 1).len(), 2);
    client.call("bdev_lvol_delete", &json!({"name": "lvs/vol"}));
    assert_eq!(notices(&mut client, 3), [notice("bdev_unregister", &vol)]);
    let one = client.call("notify_get_notifications", &json!({"id": 1, "max": 1}));
    assert_eq!(one.as_array().unwrap().len(), 1);
    client.refuse("notify_get_notifications", &json!({"from": 1}), -32602);
    server.stop();
}

#[test]
fn a_store_that_is_almost_full_is_told() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    let free = client.call("bdev_lvol_get_lvstores", &Value::Null)[0]["free_clusters"].as_u64().unwrap();
    let mib = (free * 256).div_ceil(1024) - 1;
    let params = json!({"lvol_name": "all", "size_in_mib": mib, "thin_provision": false, "lvs_name": "lvs"});
    client.call("bdev_lvol_create", &params);
    let low = ("lvstore_space_low".to_owned(), "lvs".to_owned());
    assert!(notices(&mut client, 0).contains(&low));
    server.stop();
}

#[test]
fn a_signal_over_rpc_ends_the_server_in_order() {
    let store = Store::init("lvs", "64M");
    let (mut server, mut client) = serve(&store);
    client.refuse("spdk_kill_instance", &json!({"sig_name": "SIGNONE"}), -32602);
    assert_eq!(client.call("spdk_kill_instance", &json!({"sig_name": "SIGTERM"})), json!(true));
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(store.info("clean"), json!(true));
}

#[test]
fn the_state_tells_what_waits() {
    let store = Store::init("lvs", "128M");
    let (server, mut client) = serve(&store);
    let uuid = create(&mut client, "vol", 64);
    client.call("bdev_set_qos_limit", &json!({"name": "lvs/vol", "w_mbytes_per_sec": 1}));
    let mut connection = server.connect("vol");
    connection.write(0, &vec![1; 32 << 20], 0).unwrap();
    connection.send(CMD_WRITE, 0, 4096, 512, &[2; 512]);
    connection.send(CMD_FLUSH, 0, 0, 0, &[]);
    assert_eq!(connection.receive(), (0, Ok(())));
    let state = client.call("framework_dump_state", &Value::Null);
    assert_eq!(state["connections"][uuid.as_str().unwrap()], json!(1));
    let lvs = &state["stores"][0];
    assert_eq!((&lvs["name"], &lvs["held_requests"]), (&json!("lvs"), &json!(1)));
    assert_eq!(lvs["requests_by_connection"].as_object().unwrap().len(), 1);
    assert!(lvs["journal_used_bytes"].as_u64() <= lvs["journal_bytes"].as_u64());
    client.call("bdev_set_qos_limit", &json!({"name": "lvs/vol", "w_mbytes_per_sec": 0}));
    assert_eq!(connection.receive(), (4096, Ok(())));
    server.stop();
}

#[test]
fn the_thread_that_serves_is_a_reactor() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    let busy = |client: &mut Client| {
        let reactors = client.call("framework_get_reactors", &Value::Null);
        let reactor = &reactors["reactors"][0];
        assert_eq!((&reactors["pid"], &reactors["tick_rate"]), (&reactor["tid"], &json!(1_000_000_000)));
        assert_eq!(reactor["lw_threads"][0]["name"], "app_thread");
        let elapsed = reactor["lw_threads"][0]["elapsed"].as_u64().unwrap();
        let [busy, idle] = ["busy", "idle"].map(|part| reactor[part].as_u64().unwrap());
        assert_eq!(busy + idle, elapsed);
        busy
    };
    let before = busy(&mut client);
    assert!(before > 0 && busy(&mut client) > before);
    let scheduler = client.call("framework_get_scheduler", &Value::Null);
    assert_eq!((&scheduler["scheduler_name"], &scheduler["scheduler_period"]), (&json!("static"), &json!(0)));
    client.call("framework_set_scheduler", &json!({"name": "static", "period": 5000}));
    client.call("framework_set_scheduler", &json!({"name": "static"}));
    assert_eq!(client.call("framework_get_scheduler", &Value::Null)["scheduler_period"], 5000);
    client.refuse("framework_set_scheduler", &json!({"name": "dynamic"}), -32603);
    client.refuse("framework_set_scheduler", &json!({"name": "static", "mappings": "a:1"}), -32603);
    client.refuse("framework_get_scheduler", &json!({"a": 1}), -32602);
    server.stop();
}

#[test]
fn the_log_follows_rpc_and_tells_of_slow_requests() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let folder = tempfile::TempDir::with_prefix("offshoot-").unwrap();
    let place = |name: &str| folder.path().join(name);
    let (nbd, rpc, log) = (place("nbd"), place("rpc"), place("log"));
    let mut child = Command::new(OFFSHOOT)
        .arg("serve")
        .arg(&store.path)
        .args(["--nbd", &format!("unix:{}", text(&nbd)), "--rpc", text(&rpc), "--slow-io", "0"])
        .env("OFFSHOOT_LOG", "error")
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    let mut client = Client::connect(&rpc);
    let mut connection = Connection::open(&nbd, "vol").unwrap();
    connection.write(0, &[1; 512], 0).unwrap();
    assert_eq!(client.call("log_get_print_level", &Value::Null), json!("ERROR"));
    client.call("log_set_print_level", &json!({"level": "WARNING"}));
    assert_eq!(client.call("log_get_print_level", &Value::Null), json!("WARNING"));
    connection.write(4096, &[1; 1024], 0).unwrap();
    client.call("log_set_flag", &json!({"flag": "serve"}));
    assert_eq!(client.call("log_get_flags", &Value::Null)["serve"], json!(true));
    client.call("log_get_level", &Value::Null);
    client.call("log_clear_flag", &json!({"flag": "all"}));
    client.refuse("log_set_flag", &json!({"flag": "no such part"}), -32602);
    client.refuse("log_set_level", &json!({"level": "LOUD"}), -32602);
    connection.disconnect();
    client.call("log_set_print_level", &json!({"level": "INFO"}));
    let monitor = |enabled: bool| json!({ "enabled": enabled });
    assert_eq!(client.call("framework_monitor_context_switch", &Value::Null), monitor(false));
    assert_eq!(client.call("framework_monitor_context_switch", &monitor(true)), monitor(true));
    while !fs::read_to_string(&log).unwrap().contains("context switches in the last second") {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.call("framework_monitor_context_switch", &monitor(false)), monitor(false));
    client.call("spdk_kill_instance", &json!({"sig_name": "SIGINT"}));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let log = fs::read_to_string(&log).unwrap();
    let slow: Vec<&str> = log.lines().filter(|line| line.contains("slow request")).collect();
    assert_eq!(slow.len(), 1, "{log}");
    for part in ["store.img", "lvol=\"vol\"", "op=\"write\"", "offset=4096", "bytes=1024", "left_out=0"] {
        assert!(slow[0].contains(part), "{part}: {}", slow[0]);
    }
    assert!(log.contains("called method=\"log_get_level\""), "{log}");
}
