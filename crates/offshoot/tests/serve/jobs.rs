//! Long work on a store that is served: over RPC and as commands, watched, paced and ended.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::rpc::Client;
use crate::server::{OFFSHOOT, Server, Store, offshoot, text};

const CLUSTER: u64 = 256 << 10;

/// A store with lvol `vol`, whose snapshot `base` holds two clusters; `vol` has written a block of each since, and that is
/// in its snapshot `top`.
fn store() -> Store {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let server = store.serve();
    let mut connection = server.connect("vol");
    connection.write(0, &vec![1; 512 << 10], 0).unwrap();
    store.run("snapshot", &["vol=base"]);
    for cluster in 0..2 {
        connection.write(cluster * CLUSTER, &[2; 4096], 0).unwrap();
    }
    store.run("snapshot", &["vol=top"]);
    connection.disconnect();
    server.stop();
    store
}

fn serve(store: &Store) -> (Server, Client) {
    let server = Server::start_with_rpc(&[&store.path]);
    let client = Client::connect(&server.rpc_socket());
    (server, client)
}

/// All operations that are listed.
fn operations(client: &mut Client) -> Vec<Value> {
    client.call("bdev_lvol_get_operations", &Value::Null).as_array().unwrap().clone()
}

/// The operation that is under way, once there is one: it may have been begun over another connection.
fn running(client: &mut Client) -> Value {
    loop {
        let under_way = operations(client).into_iter().find(|one| one["state"] == "in progress");
        if let Some(operation) = under_way {
            return operation;
        }
    }
}

/// An answer that is an error.
fn error(answer: &Value) -> (i64, String) {
    let error = &answer["error"];
    (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
}

#[test]
fn commands_that_move_data_say_the_same_with_a_server_and_without() {
    let served = store();
    let alone = served.copy();
    let server = served.serve();
    for (command, args) in [
        ("merge", &["base", "--dry-run"][..]),
        ("merge", &["base"]),
        ("clone", &["top", "one"]),
        ("clone", &["top", "two"]),
        ("clone", &["top", "three"]),
        ("decouple", &["one", "--keep", "--rate", "1G"]),
        ("decouple", &["two", "--zero"]),
        ("inflate", &["three"]),
        ("inflate", &["three"]),
    ] {
        assert_eq!(served.run(command, args), alone.run(command, args), "{command} {args:?}");
    }
    for name in ["vol", "one", "three"] {
        let mut connection = server.connect(name);
        assert_eq!(connection.read(0, 4096).unwrap(), [2; 4096], "{name}");
        assert_eq!(connection.read(4096, 4096).unwrap(), [1; 4096], "{name}");
        connection.disconnect();
    }
    let sealed = served.run("seal", &[]);
    assert!(sealed.contains("nothing is left to seal"), "{sealed}");
    server.stop();
    assert_eq!(served.info("sealed"), true);
    served.run("check", &[]);
    let list = |store: &Store| -> Value { serde_json::from_str(&store.run("ls", &["--json"])).unwrap() };
    let names = |list: Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|lvol| lvol["name"].to_string()).collect()
    };
    assert_eq!(names(list(&served)), names(list(&alone)));
}

#[test]
fn a_job_can_be_watched_and_ended_and_goes_on_when_it_is_asked_for_again() {
    let store = store();
    let (server, mut client) = serve(&store);
    let mut other = Client::connect(&server.rpc_socket());
    client.begin(7, "bdev_lvol_inflate", &json!({"name": "lvs/vol", "bytes_per_sec": 1}));
    let listed = running(&mut other);
    assert_eq!((&listed["kind"], &listed["state"]), (&json!("inflate"), &json!("in progress")));
    assert_eq!((&listed["lvol_name"], &listed["lvs_name"]), (&json!("lvs/vol"), &json!("lvs")));
    assert!(listed["total_bytes"].as_u64().unwrap() >= CLUSTER, "{listed}");
    // Its shape is not to change meanwhile; its clients go on.
    other.refuse("bdev_lvol_delete", &json!({"name": "lvs/vol"}), -32603);
    server.connect("vol").write(8 * CLUSTER, &[3; 4096], 0).unwrap();
    other.call("bdev_lvol_cancel", &json!({"operation_id": listed["operation_id"]}));
    assert_eq!(error(&client.receive()), (-32602, "Operation canceled".to_owned()));
    assert_eq!(operations(&mut client)[0]["state"], "error");
    client.refuse("bdev_lvol_cancel", &json!({"operation_id": listed["operation_id"]}), -19);
    client.refuse("bdev_lvol_inflate", &json!({"name": "lvs/vol", "bytes_per_sec": 0}), -22);
    client.call("bdev_lvol_inflate", &json!({"name": "lvs/vol"}));
    assert_eq!(operations(&mut client)[1]["state"], "complete");
    let lvols = client.call("bdev_lvol_get_lvols", &Value::Null);
    let vol = lvols.as_array().unwrap().iter().find(|lvol| lvol["name"] == "vol").unwrap();
    assert_eq!((&vol["is_clone"], &vol["num_allocated_clusters"]), (&json!(false), &json!(16)));
    server.stop();
}

#[test]
fn a_snapshot_that_a_client_reads_is_not_merged_away() {
    let store = store();
    let (server, mut client) = serve(&store);
    let connection = server.connect("base");
    let merge = |snapshots: &[&str]| json!({"snapshots": snapshots});
    let (code, message) = error(&client.ask("bdev_lvol_merge", &merge(&["lvs/base"])));
    let expected = "snapshot \"base\" cannot be merged away: a client is connected to the export \"base\"";
    assert_eq!((code, &*message), (-16, expected));
    let refused = offshoot("merge", &store.path, &["base"]);
    assert_eq!(String::from_utf8(refused.stderr).unwrap(), format!("offshoot: {expected}\n"));
    // The run is not one snapshot: the newest stays.
    let (code, _) = error(&client.ask("bdev_lvol_merge", &merge(&["lvs/top", "lvs/base"])));
    assert_eq!(code, -16);
    connection.disconnect();
    client.refuse("bdev_lvol_merge", &merge(&[]), -22);
    client.refuse("bdev_lvol_merge", &merge(&["lvs/base", "lvs/nobody"]), -19);
    // Not joined at once, so that what becomes of its exports meanwhile can be seen.
    let slow = json!({"snapshots": ["lvs/base"], "bytes_per_sec": 1});
    let mut other = Client::connect(&server.rpc_socket());
    other.begin(1, "bdev_lvol_merge", &slow);
    let merging = running(&mut client);
    assert_eq!(merging["kind"], "merge");
    assert!(crate::wire::Connection::open(&server.socket, "base").is_err());
    server.connect("top").disconnect();
    client.call("bdev_lvol_cancel", &json!({"operation_id": merging["operation_id"]}));
    other.receive();
    let heir = client.call("bdev_lvol_merge", &merge(&["lvs/base"]));
    let found = client.call("bdev_get_bdevs", &json!({"name": "lvs/top"}));
    assert_eq!(found[0]["name"], heir);
    client.refuse("bdev_get_bdevs", &json!({"name": "lvs/base"}), -19);
    let mut connection = server.connect("top");
    assert_eq!(connection.read(0, 4096).unwrap(), [2; 4096]);
    assert_eq!(connection.read(4096, 4096).unwrap(), [1; 4096]);
    connection.disconnect();
    server.stop();
    store.run("check", &[]);
}

#[test]
fn who_waits_for_a_job_is_told_when_the_server_ends() {
    let store = store();
    let (mut server, mut client) = serve(&store);
    client.begin(1, "bdev_lvol_decouple_parent", &json!({"name": "lvs/vol", "bytes_per_sec": 1}));
    let mut other = Client::connect(&server.rpc_socket());
    assert_eq!(running(&mut other)["kind"], "decouple");
    server.signal("TERM");
    assert_eq!(error(&client.receive()).1, "Operation canceled");
    assert_eq!(server.wait().code(), Some(0));
    store.run("check", &[]);
}

/// Begins a command that does not come to an end by itself.
fn slow(store: &Store, command: &str, args: &[&str]) -> Child {
    let mut child = Command::new(OFFSHOOT);
    child.args([command, text(&store.path)]).args(args).args(["--rate", "1"]);
    child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn ctrl_c_ends_a_command_that_a_server_runs() {
    let store = store();
    let (server, mut client) = serve(&store);
    let mut child = slow(&store, "inflate", &["vol"]);
    running(&mut client);
    let mut takes = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut takes).unwrap();
    let status = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with("offshoot: interrupted: run it again to go on\n"), "{said}");
    assert_eq!(operations(&mut client)[0]["state"], "error");
    assert!(store.run("inflate", &["vol"]).ends_with("lvol \"vol\" holds all that it reads\n"));
    server.stop();
}

/// Waits for a shallow copy.
fn finished(client: &mut Client, id: &Value) -> Value {
    loop {
        let progress = client.call("bdev_lvol_check_shallow_copy", id);
        if progress["state"] != "in progress" {
            return progress;
        }
    }
}

#[test]
fn copies_of_a_chain_add_up_wherever_they_go() {
    let store = store();
    let (server, mut client) = serve(&store);
    let file = store.file("copy");
    std::fs::File::create(&file).unwrap().set_len(4 << 20).unwrap();
    client.call("bdev_aio_create", &json!({"name": "file", "filename": text(&file)}));
    client.call("bdev_malloc_create", &json!({"name": "memory", "num_blocks": 8192, "block_size": 512}));
    store.run("create", &["lvol", "4M"]);
    for destination in ["memory", "lvs/lvol", "file"] {
        for snapshot in ["lvs/base", "lvs/top"] {
            let params = json!({"src_lvol_name": snapshot, "dst_bdev_name": destination});
            let id = client.call("bdev_lvol_start_shallow_copy", &params);
            assert_eq!(finished(&mut client, &id)["state"], "complete", "{params}");
            client.refuse("bdev_lvol_check_shallow_copy", &id, -19);
        }
    }
    let mut connection = server.connect("lvol");
    let copied = std::fs::read(&file).unwrap();
    for (at, byte) in [(0, 2), (4096, 1), (CLUSTER, 2), (CLUSTER + 4096, 1), (2 * CLUSTER, 0)] {
        assert_eq!(connection.read(at, 4096).unwrap(), [byte; 4096], "{at}");
        assert_eq!(copied[usize::try_from(at).unwrap()..][..4096], [byte; 4096], "{at}");
    }
    connection.disconnect();
    for (lvol, destination, error) in
        [("lvs/vol", "memory", "Operation not permitted"), ("lvs/top", "lvs/base", "Operation not permitted")]
    {
        let params = json!({"src_lvol_name": lvol, "dst_bdev_name": destination});
        let id = client.call("bdev_lvol_start_shallow_copy", &params);
        assert_eq!(finished(&mut client, &id)["error"], error, "{params}");
    }
    let claimed = json!({"src_lvol_name": "lvs/top", "dst_bdev_name": "store.img"});
    client.refuse("bdev_lvol_start_shallow_copy", &claimed, -32602);
    // What it used is free again.
    client.call("bdev_aio_delete", &json!({"name": "file"}));
    client.call("bdev_lvol_delete", &json!({"name": "lvs/lvol"}));
    server.stop();
    store.run("check", &[]);
}

#[test]
fn a_diff_is_told_in_pieces() {
    let store = store();
    let (server, mut client) = serve(&store);
    let diff = |offset: u64| json!({"from_name": "lvs/base", "to_name": "lvs/top", "offset": offset, "max_ranges": 1});
    let range = |offset: u64| json!([{"offset": offset, "length": 4096, "zero": false}]);
    let first = client.call("bdev_lvol_diff", &diff(0));
    assert_eq!((&first["ranges"], &first["next_offset"]), (&range(0), &json!(CLUSTER)));
    assert_eq!((&first["from_size"], &first["to_size"]), (&json!(4 << 20), &json!(4 << 20)));
    let second = client.call("bdev_lvol_diff", &diff(CLUSTER));
    assert_eq!((&second["ranges"], second.get("next_offset")), (&range(CLUSTER), None));
    create_other(&mut client);
    client.refuse("bdev_lvol_diff", &json!({"from_name": "lvs/base", "to_name": "lvs/other"}), -22);
    server.stop();
}

fn create_other(client: &mut Client) {
    let params = json!({"lvol_name": "other", "size_in_mib": 1, "thin_provision": true, "lvs_name": "lvs"});
    client.call("bdev_lvol_create", &params);
}

/// Zeroing that does not end, since the device does not answer, and then does.
#[test]
fn a_thick_lvol_is_an_operation_while_it_is_zeroed() {
    let server = Server::start_with_rpc(&[]);
    let mut client = Client::connect(&server.rpc_socket());
    let mib = |mib: u64| json!({"name": "memory", "block_size": 512, "num_blocks": mib * 2048});
    client.call("bdev_malloc_create", &mib(300));
    client.call("bdev_error_create", &json!({"base_name": "memory"}));
    client.call("bdev_lvol_create_lvstore", &json!({"bdev_name": "EE_memory", "lvs_name": "lvs"}));
    let inject = |io: &str| json!({"name": "EE_memory", "io_type": io, "error_type": "pending", "num": 1000});
    client.call("bdev_error_inject_error", &inject("all"));
    let mut maker = Client::connect(&server.rpc_socket());
    let thick = json!({"lvol_name": "vol", "size_in_mib": 200, "lvs_name": "lvs"});
    maker.begin(7, "bdev_lvol_create", &thick);
    let operation = running(&mut client);
    assert_eq!((&operation["kind"], &operation["lvol_name"]), (&json!("create"), &json!("lvs/vol")));
    assert_eq!((&operation["bytes_done"], &operation["total_bytes"]), (&json!(0), &json!(200 << 20)));
    client.call("bdev_lvol_cancel", &json!({"operation_id": operation["operation_id"]}));
    client.call("bdev_error_inject_error", &inject("clear"));
    assert_eq!(error(&maker.receive()), (-32602, "Operation canceled".to_owned()));
    assert_eq!(client.call("bdev_lvol_get_lvols", &Value::Null), json!([]));
    assert_eq!(operations(&mut client)[0]["state"], "error");
    // Nothing of it is in the way.
    let uuid = maker.call("bdev_lvol_create", &thick);
    let made = &operations(&mut client)[1];
    assert_eq!((&made["state"], &made["lvol_uuid"]), (&json!("complete"), &uuid));
    assert_eq!(made["bytes_done"], made["total_bytes"]);
    assert_eq!((&made["clusters_done"], &made["total_clusters"]), (&json!(50), &json!(50)));
    let size = |mib: u64| json!({"name": "lvs/vol", "size_in_mib": mib});
    client.call("bdev_lvol_resize", &size(240));
    client.call("bdev_lvol_resize", &size(220));
    let resized = &operations(&mut client)[2..];
    assert_eq!(resized.len(), 1, "making it smaller is not long: {resized:?}");
    assert_eq!((&resized[0]["kind"], &resized[0]["total_bytes"]), (&json!("resize"), &json!(40 << 20)));
    server.stop();
}

#[test]
fn a_store_is_an_operation_while_it_is_made() {
    let folder = Store::init("folder", "64M");
    let image = folder.file("image");
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let server = Server::start_with_rpc(&[]);
    let mut client = Client::connect(&server.rpc_socket());
    client.call("bdev_aio_create", &json!({"filename": text(&image), "name": "file", "block_size": 4096}));
    client.call("bdev_error_create", &json!({"base_name": "file"}));
    let inject = |io: &str| json!({"name": "EE_file", "io_type": io, "error_type": "pending", "num": 1000});
    client.call("bdev_error_inject_error", &inject("all"));
    let mut maker = Client::connect(&server.rpc_socket());
    let params = |bdev: &str| json!({"bdev_name": bdev, "lvs_name": "lvs", "clear_method": "write_zeroes"});
    maker.begin(7, "bdev_lvol_create_lvstore", &params("EE_file"));
    let operation = running(&mut client);
    assert_eq!((&operation["kind"], &operation["lvs_name"]), (&json!("create_lvstore"), &json!("lvs")));
    client.call("bdev_lvol_cancel", &json!({"operation_id": operation["operation_id"]}));
    client.call("bdev_error_inject_error", &inject("clear"));
    assert_eq!(error(&maker.receive()), (-32602, "Operation canceled".to_owned()));
    assert_eq!(operations(&mut client)[0]["state"], "error");
    assert_eq!(client.call("bdev_lvol_get_lvstores", &Value::Null), json!([]));
    client.call("bdev_lvol_create_lvstore", &params("file"));
    let made = &operations(&mut client)[1];
    assert_eq!((&made["state"], &made["bytes_done"]), (&json!("complete"), &made["total_bytes"]));
    assert!(made["total_bytes"].as_u64().unwrap() > 60 << 20, "all of it is zeroed: {made}");
    server.stop();
}
