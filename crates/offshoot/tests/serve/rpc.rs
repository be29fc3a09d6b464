//! The server's JSON-RPC: a client that shares nothing with the server's code, and what SPDK has no methods for.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, Store, refused, text};

/// A connection.
#[derive(Debug)]
pub(crate) struct Client(UnixStream);

impl Client {
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        // A server that does not answer fails the test instead of stopping it.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(stream)
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next line.
    pub(crate) fn receive(&mut self) -> Value {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        serde_json::from_slice(&line).unwrap()
    }

    /// Sends a request.
    pub(crate) fn begin(&mut self, id: u64, method: &str, params: &Value) {
        let mut request = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if !params.is_null() {
            request["params"] = params.clone();
        }
        self.send(request.to_string().as_bytes());
    }

    /// Calls a method. Returns the response's `result` or `error`, as the only member.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.begin(1, method, params);
        let response = self.receive();
        match response.get("error") {
            Some(error) => json!({"error": error}),
            None => json!({"result": response["result"]}),
        }
    }

    /// Calls a method, which must succeed.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer.get("result").is_some(), "{method} {params}: {answer}");
        answer["result"].clone()
    }

    /// Calls a method, which must fail with that code.
    pub(crate) fn refuse(&mut self, method: &str, params: &Value, code: i32) {
        let answer = self.ask(method, params);
        assert_eq!(answer["error"]["code"], json!(code), "{method} {params}: {answer}");
    }
}

pub(crate) fn lvol(name: &str) -> Value {
    json!({"name": format!("lvs/{name}")})
}

pub(crate) fn create(client: &mut Client, name: &str, mib: u64) -> Value {
    let params = json!({"lvol_name": name, "size_in_mib": mib, "thin_provision": true, "lvs_name": "lvs"});
    client.call("bdev_lvol_create", &params)
}

pub(crate) fn snapshot(client: &mut Client, lvol: &str, name: &str) -> Value {
    let params = json!({"lvol_name": format!("lvs/{lvol}"), "snapshot_name": name});
    client.call("bdev_lvol_snapshot", &params)
}

/// A store called `lvs` on a server with RPC.
pub(crate) fn serve(store: &Store) -> (Server, Client) {
    let server = Server::start_with_rpc(&[&store.path]);
    let client = Client::connect(&server.rpc_socket());
    (server, client)
}

#[test]
fn the_socket_is_the_owners_and_goes_with_the_server() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    let socket = server.rpc_socket();
    let mode = socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(server.lines.contains(&format!("serving RPC at {}", text(&socket))), "{:?}", server.lines);
    let methods = client.call("rpc_get_methods", &Value::Null);
    let methods = methods.as_array().unwrap();
    assert!(
        methods.contains(&json!("bdev_lvol_create"))
            && !methods.contains(&json!("bdev_nvme_attach_controller"))
    );
    let version = client.call("spdk_get_version", &Value::Null);
    assert!(version["version"].as_str().unwrap().starts_with("SPDK v"));
    let stores = client.call("bdev_lvol_get_lvstores", &Value::Null);
    assert_eq!((&stores[0]["name"], &stores[0]["base_bdev"]), (&json!("lvs"), &json!("store.img")));
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn what_a_verb_answered_is_durable_and_clients_see_it() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    let uuid = create(&mut client, "vol", 8);
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 4096], 0).unwrap();
    snapshot(&mut client, "vol", "snap");
    connection.write(0, &[2; 4096], 0).unwrap();
    connection.flush().unwrap();
    assert_eq!(server.connect("lvs/snap").read(0, 4096).unwrap(), [1; 4096]);
    server.kill();
    let list: Value = serde_json::from_str(&store.run("ls", &["--json"])).unwrap();
    assert_eq!((&list[1]["name"], &list[1]["uuid"]), (&json!("vol"), &uuid));
    assert_eq!(list[1]["parent"], "snap");
}

#[test]
fn several_lvols_have_snapshots_of_one_moment_or_none() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    for name in ["a", "b"] {
        create(&mut client, name, 4);
    }
    let item = |lvol: &str, name: &str| json!({"lvol_name": format!("lvs/{lvol}"), "snapshot_name": name});
    let group = |items: &[Value]| json!({"lvols": items});
    let both = client.call("bdev_lvol_group_snapshot", &group(&[item("a", "a1"), item("b", "b1")]));
    assert_eq!(both.as_array().unwrap().len(), 2);
    for (items, code) in [
        (vec![], -22),
        (vec![item("a", "a2"), item("c", "c2")], -19),
        (vec![item("a", "a2"), item("b", "b1")], -32602),
    ] {
        client.refuse("bdev_lvol_group_snapshot", &group(&items), code);
    }
    let lvols = client.call("bdev_lvol_get_lvols", &json!({"lvs_name": "lvs"}));
    assert_eq!(lvols.as_array().unwrap().len(), 4);
    server.stop();
}

#[test]
fn an_lvol_goes_back_to_its_snapshot() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    create(&mut client, "vol", 4);
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 512], 0).unwrap();
    snapshot(&mut client, "vol", "snap");
    connection.write(0, &[2; 512], 0).unwrap();
    let back = json!({"lvol_name": "lvs/vol", "snapshot_name": "lvs/snap"});
    // Not under a client, which may have cached what it read.
    client.refuse("bdev_lvol_revert", &back, -32602);
    connection.disconnect();
    client.call("bdev_lvol_revert", &back);
    assert_eq!(server.connect("vol").read(0, 512).unwrap(), [1; 512]);
    server.stop();
}

#[test]
fn a_snapshot_with_clones_goes_when_it_can() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    create(&mut client, "vol", 4);
    snapshot(&mut client, "vol", "snap");
    client.call("bdev_lvol_clone", &json!({"snapshot_name": "lvs/snap", "clone_name": "clone"}));
    let delete = |deferred: bool| json!({"name": "lvs/snap", "deferred": deferred});
    client.refuse("bdev_lvol_delete", &delete(false), -32603);
    assert_eq!(client.call("bdev_lvol_delete", &delete(true)), json!(true));
    client.refuse("bdev_lvol_delete", &delete(true), -19);
    // Its name is free at once.
    snapshot(&mut client, "vol", "snap");
    client.call("bdev_lvol_delete", &lvol("clone"));
    server.stop();
    let lvols: Value = serde_json::from_str(&store.run("ls", &["--json"])).unwrap();
    assert_eq!(lvols.as_array().unwrap().len(), 2, "{lvols}");
}

#[test]
fn what_is_reserved_is_there_when_it_is_needed() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    let params = |name: &str, reserve: bool, mib: u64| json!({"lvol_name": name, "size_in_mib": mib, "thin_provision": true, "lvs_name": "lvs", "reserve": reserve});
    client.call("bdev_lvol_create", &params("kept", true, 32));
    // Not a second time, but as many thin ones as anybody likes.
    client.refuse("bdev_lvol_create", &params("other", true, 32), -32602);
    client.call("bdev_lvol_create", &params("thin", false, 512));
    server.stop();
    let lvols: Value = serde_json::from_str(&store.run("ls", &["--json"])).unwrap();
    let reserved = |name: &str| {
        let lvol = lvols.as_array().unwrap().iter().find(|lvol| lvol["name"] == name).unwrap();
        lvol["reserved"].clone()
    };
    assert_eq!((reserved("kept"), reserved("thin")), (json!(true), json!(false)));
}

#[test]
fn what_a_client_has_open_is_busy() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    create(&mut client, "vol", 8);
    let connection = server.connect("vol");
    let size = |mib: u64| json!({"name": "lvs/vol", "size_in_mib": mib});
    client.refuse("bdev_lvol_delete", &lvol("vol"), -32603);
    client.refuse("bdev_lvol_resize", &size(4), -32602);
    client.call("bdev_lvol_resize", &size(16));
    client.refuse("bdev_lvol_delete_lvstore", &json!({"lvs_name": "lvs"}), -32602);
    client.refuse("bdev_aio_delete", &json!({"name": "store.img"}), -16);
    client.refuse("nbd_unexport", &json!({"bdev_name": "lvs/vol"}), -16);
    connection.disconnect();
    client.call("bdev_lvol_resize", &size(4));
    client.call("bdev_lvol_delete", &lvol("vol"));
    client.refuse("bdev_lvol_delete", &lvol("vol"), -19);
    server.stop();
}

#[test]
fn exports_are_listed_withdrawn_and_offered_again() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    let uuid = create(&mut client, "vol", 4);
    let name = json!({"bdev_name": "lvs/vol"});
    let export = client.call("nbd_get_exports", &name);
    assert_eq!(export[0]["bdev_name"], uuid);
    assert_eq!(export[0]["uris"], json!([server.uri("vol")]));
    let connection = server.connect("vol");
    assert_eq!(client.call("nbd_get_exports", &Value::Null)[0]["connections"], 1);
    connection.disconnect();
    client.call("nbd_unexport", &name);
    let refused = crate::wire::Connection::open(&server.socket, "vol").unwrap_err();
    assert!(refused.to_string().contains("not exported"), "{refused}");
    assert_eq!(client.call("nbd_get_exports", &Value::Null), json!([]));
    assert_eq!(client.call("nbd_export", &name)["name"], "vol");
    server.connect("vol").disconnect();
    server.stop();
}

/// What can be told without the kernel. `cargo xtask kernel-disks` has one that has NBD.
#[test]
fn devices_of_the_kernel_s_are_refused_with_a_way_out() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    create(&mut client, "vol", 4);
    assert_eq!(client.call("nbd_get_disks", &Value::Null), json!([]));
    client.refuse("nbd_get_disks", &json!({"nbd_device": "/dev/nbd0"}), -19);
    client.refuse("nbd_stop_disk", &json!({"nbd_device": "/dev/nbd0"}), -19);
    client.refuse("nbd_start_disk", &json!({"bdev_name": "lvs/none"}), -19);
    let answer = client.ask("nbd_start_disk", &json!({"bdev_name": "lvs/vol", "nbd_device": "/dev/sda"}));
    assert_eq!(answer["error"], json!({"code": -19, "message": "illegal nbd device /dev/sda"}));
    if std::fs::exists("/sys/module/nbd").unwrap() {
        return server.stop();
    }
    let answer = client.ask("nbd_start_disk", &json!({"bdev_name": "lvs/vol", "nbd_device": "/dev/nbd0"}));
    assert_eq!(answer["error"]["code"], -19);
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.starts_with("nbd device not found") && text.ends_with(&server.uri("vol")), "{answer}");
    // It is as free as before.
    assert_eq!(client.call("nbd_get_exports", &Value::Null)[0]["connections"], 0);
    assert_eq!(client.call("bdev_lvol_delete", &json!({"name": "lvs/vol"})), json!(true));
    server.stop();
}

#[test]
fn stores_come_and_go() {
    let (one, two) = (Store::init("one", "64M"), Store::init("two", "64M"));
    one.run("create", &["vol", "4M"]);
    two.run("create", &["vol", "4M"]);
    let server = Server::start_with_rpc(&[]);
    let mut client = Client::connect(&server.rpc_socket());
    let aio = |name: &str, store: &Store| json!({"name": name, "filename": text(&store.path)});
    client.call("bdev_aio_create", &aio("a", &one));
    assert_eq!(server.connect("vol").size_bytes, 4 << 20);
    client.call("bdev_aio_create", &aio("b", &two));
    client.refuse("bdev_aio_create", &aio("b", &two), -17);
    // Held by this very server.
    client.refuse("bdev_aio_create", &aio("c", &two), -16);
    client.refuse("bdev_aio_create", &json!({"name": "d", "filename": "/nowhere"}), -2);
    assert!(crate::wire::Connection::open(&server.socket, "vol").is_err());
    // A name that does not depend on how many stores there are.
    assert_eq!(server.connect("two/vol").size_bytes, 4 << 20);
    assert_eq!(client.call("bdev_aio_delete", &json!({"name": "a"})), json!(true));
    assert!(one.info("clean").as_bool().unwrap());
    assert_eq!(server.connect("two/vol").size_bytes, 4 << 20);
    // What is deleted is no store any more; what is made in its place is empty.
    client.call("bdev_lvol_delete_lvstore", &json!({"lvs_name": "two"}));
    assert_eq!(client.call("bdev_lvol_get_lvstores", &Value::Null), json!([]));
    client.call("bdev_lvol_create_lvstore", &json!({"bdev_name": "b", "lvs_name": "new"}));
    assert_eq!(client.call("bdev_lvol_get_lvols", &Value::Null), json!([]));
    server.stop();
    assert_eq!(two.info("name"), "new");
}

#[test]
fn memory_carries_a_store_too() {
    let server = Server::start_with_rpc(&[]);
    let mut client = Client::connect(&server.rpc_socket());
    let name = client.call("bdev_malloc_create", &json!({"num_blocks": 131_072, "block_size": 512}));
    assert_eq!(name, "Malloc0");
    client.call(
        "bdev_lvol_create_lvstore",
        &json!({"bdev_name": name, "lvs_name": "lvs", "cluster_sz": 65536}),
    );
    create(&mut client, "vol", 4);
    let mut connection = server.connect("vol");
    connection.write(1 << 20, &[9; 4096], 0).unwrap();
    assert_eq!(connection.read(1 << 20, 4096).unwrap(), [9; 4096]);
    connection.disconnect();
    client.call("bdev_malloc_delete", &json!({"name": "Malloc0"}));
    client.refuse("bdev_get_bdevs", &json!({"name": "lvs/vol"}), -19);
    server.stop();
}

/// Lvols of two stores over one file, which comes and goes with the server.
#[test]
fn lvols_read_from_a_bdev() {
    const UUID: &str = "11111111-2222-4333-8444-555555555555";
    let (store, other) = (Store::init("lvs", "64M"), Store::init("other", "64M"));
    let image = store.file("image");
    std::fs::write(&image, vec![5; 2 << 20]).unwrap();
    let (server, mut client) = serve(&store);
    let aio = json!({"filename": text(&image), "name": "image", "block_size": 512, "uuid": UUID});
    client.call("bdev_aio_create", &aio);
    client.call("bdev_aio_create", &json!({"filename": text(&other.path), "name": "base"}));
    let clone =
        |bdev: &str, lvs: &str, name: &str| json!({"bdev": bdev, "lvs_name": lvs, "clone_name": name});
    client.call("bdev_lvol_clone_bdev", &clone("image", "lvs", "a"));
    client.call("bdev_lvol_clone_bdev", &clone(UUID, "other", "b"));
    client.call(
        "bdev_lvol_create",
        &json!({"lvol_name": "c", "lvs_name": "lvs", "size_in_mib": 4, "thin_provision": true}),
    );
    client.call("bdev_lvol_set_parent_bdev", &json!({"lvol_name": "lvs/c", "parent_name": "image"}));
    let mut connection = server.connect("lvs/c");
    assert_eq!(connection.read((2 << 20) - 512, 1024).unwrap(), [[5; 512], [0; 512]].concat());
    connection.disconnect();
    assert_eq!(server.connect("other/b").read(0, 512).unwrap(), [5; 512]);

    // What there is to refuse, before anything is made.
    client.refuse("bdev_lvol_clone_bdev", &clone("image", "nothing", "d"), -32602);
    client.refuse("bdev_lvol_clone_bdev", &clone("nothing", "lvs", "d"), -32602);
    client.refuse("bdev_lvol_clone_bdev", &clone("lvs/a", "lvs", "d"), -32602);
    client.refuse("bdev_lvol_clone_bdev", &clone("base", "lvs", "d"), -32602);
    client.refuse("bdev_lvol_clone_bdev", &clone("image", "lvs", "a/b"), -32602);
    client.refuse(
        "bdev_lvol_set_parent_bdev",
        &json!({"lvol_name": "lvs/c", "parent_name": "nothing"}),
        -32602,
    );
    client.refuse(
        "bdev_lvol_set_parent_bdev",
        &json!({"lvol_name": "lvs/c", "parent_name": "lvs/a"}),
        -32602,
    );
    let thick = json!({"lvol_name": "thick", "lvs_name": "lvs", "size_in_mib": 2});
    client.call("bdev_lvol_create", &thick);
    client.refuse(
        "bdev_lvol_set_parent_bdev",
        &json!({"lvol_name": "lvs/thick", "parent_name": "image"}),
        -32602,
    );
    std::fs::write(store.file("odd"), vec![5; 1000 * 512]).unwrap();
    client.call(
        "bdev_aio_create",
        &json!({"filename": text(&store.file("odd")), "name": "odd", "block_size": 512}),
    );
    client.refuse("bdev_lvol_clone_bdev", &clone("odd", "lvs", "d"), -32602);
    client.refuse("bdev_aio_delete", &json!({"name": "image"}), -16);
    let shown = client.call("bdev_get_bdevs", &json!({"name": "image"}));
    assert_eq!(shown[0]["claim_type"], "read_many_write_none");
    assert_eq!(client.call("bdev_examine", &json!({"name": "odd"})), true);
    assert_eq!(client.call("bdev_examine", &json!({"name": "base"})), true);
    client.refuse("bdev_examine", &json!({"name": "nothing"}), -19);

    // The other store is opened anew: it finds the bdev that it wants.
    client.call("bdev_aio_delete", &json!({"name": "base"}));
    client.call("bdev_aio_create", &json!({"filename": text(&other.path), "name": "base"}));
    assert_eq!(server.connect("other/b").read(4096, 512).unwrap(), [5; 512]);
    for name in ["lvs/a", "lvs/c", "other/b"] {
        client.call("bdev_lvol_delete", &json!({"name": name}));
    }
    client.call("bdev_aio_delete", &json!({"name": "image"}));
    server.stop();
    assert!(std::fs::read(&image).unwrap() == vec![5; 2 << 20]);
}

/// A server that is started without the file serves the clone once its bdev is there.
#[test]
fn a_bdev_that_comes_back_is_read() {
    let store = Store::init("lvs", "64M");
    let image = store.file("image");
    std::fs::write(&image, vec![6; 1 << 20]).unwrap();
    let aio = json!({
        "filename": text(&image), "name": "image", "block_size": 512,
        "uuid": "11111111-2222-4333-8444-555555555556",
    });
    let (server, mut client) = serve(&store);
    client.call("bdev_aio_create", &aio);
    client.call("bdev_lvol_clone_bdev", &json!({"bdev": "image", "lvs_name": "lvs", "clone_name": "vm"}));
    server.stop();
    let (server, mut client) = serve(&store);
    assert_eq!(client.call("bdev_lvol_get_lvols", &Value::Null)[0]["is_degraded"], true);
    client.call("bdev_aio_create", &aio);
    assert_eq!(client.call("bdev_lvol_get_lvols", &Value::Null)[0]["is_degraded"], false);
    assert_eq!(server.connect("lvs/vm").read(0, 4096).unwrap(), [6; 4096]);
    server.stop();
}

#[test]
fn a_bdev_can_be_waited_for() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    client.refuse("bdev_get_bdevs", &json!({"name": "lvs/vol", "timeout": 1}), -19);
    client.begin(7, "bdev_get_bdevs", &json!({"name": "lvs/vol", "timeout": 60_000}));
    let mut other = Client::connect(&server.rpc_socket());
    let uuid = create(&mut other, "vol", 4);
    let response = client.receive();
    assert_eq!((&response["id"], &response["result"][0]["name"]), (&json!(7), &uuid));
    assert_eq!(client.call("bdev_wait_for_examine", &Value::Null), true);
    server.stop();
}

#[test]
fn requests_under_way_are_answered_before_the_end() {
    let store = Store::init("lvs", "64M");
    let (mut server, mut client) = serve(&store);
    for id in 0..20 {
        let params = json!({"lvol_name": format!("v{id}"), "size_in_mib": 1, "lvs_name": "lvs"});
        client.begin(id, "bdev_lvol_create", &params);
    }
    // The first answer says that all were sent to a server that lives.
    client.receive();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let mut rest = String::new();
    client.0.read_to_string(&mut rest).unwrap();
    let answered = 1 + rest.lines().filter(|line| line.contains("result")).count();
    let list: Value = serde_json::from_str(&store.run("ls", &["--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), answered, "{rest}");
}

#[test]
fn a_socket_in_use_is_refused() {
    let (one, two) = (Store::init("one", "64M"), Store::init("two", "64M"));
    let (server, _client) = serve(&one);
    let line = refused(&two.path, &["--rpc", text(&server.rpc_socket())]);
    assert!(line.contains("rpc.sock"), "{line}");
    server.stop();
    let file = two.file("plain");
    File::create(&file).unwrap();
    refused(&two.path, &["--rpc", text(&file)]);
}

/// The statistics of one bdev.
fn iostat(client: &mut Client, params: &Value) -> Value {
    let told = client.call("bdev_get_iostat", params);
    assert_eq!(told["tick_rate"], 1_000_000_000);
    told["bdevs"][0].clone()
}

#[test]
fn what_clients_ask_is_counted_and_can_be_counted_anew() {
    let store = Store::init("lvs", "64M");
    let (server, mut client) = serve(&store);
    let uuid = create(&mut client, "vol", 4);
    let names = json!({"names": ["lvs/vol"]});
    assert_eq!(iostat(&mut client, &names)["num_write_ops"], 0);
    client.refuse("bdev_get_histogram", &lvol("vol"), -14);
    client.refuse("bdev_enable_histogram", &json!({"name": "lvs/vol", "enable": true, "opc": "fly"}), -22);
    client.call("bdev_enable_histogram", &json!({"name": "lvs/vol", "enable": true, "opc": "write"}));
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 4096], 0).unwrap();
    connection.write(4096, &[1; 512], 0).unwrap();
    connection.read(0, 4096).unwrap();
    let counts = iostat(&mut client, &names);
    assert_eq!(counts["name"], uuid);
    for (member, expected) in
        [("bytes_read", 4096), ("num_read_ops", 1), ("bytes_written", 4608), ("num_write_ops", 2)]
    {
        assert_eq!(counts[member], expected, "{member}");
    }
    assert!(counts["max_write_latency_ticks"].as_u64() >= counts["min_write_latency_ticks"].as_u64());
    // The device below was asked more.
    let below = iostat(&mut client, &json!({"names": ["store.img"]}));
    assert!(below["num_write_ops"].as_u64().unwrap() > 2, "{below}");
    assert_eq!(client.call("bdev_get_iostat", &Value::Null)["bdevs"].as_array().unwrap().len(), 2);
    let histogram = client.call("bdev_get_histogram", &lvol("vol"));
    assert_eq!((&histogram["granularity"], &histogram["max_range"]), (&json!(7), &json!(57)));
    // 58 ranges of 128 counts of 8 bytes, in base64.
    let text = histogram["histogram"].as_str().unwrap();
    assert_eq!(text.len(), (58_usize * 128 * 8).div_ceil(3) * 4);
    assert!(text.trim_start_matches('A').len() > 2);
    client.call("bdev_enable_histogram", &json!({"name": "lvs/vol", "enable": false}));
    client.refuse("bdev_get_histogram", &lvol("vol"), -14);
    let channel = client.call("bdev_get_iostat", &json!({"names": ["lvs/vol"], "per_channel": true}));
    assert_eq!(channel["channels"][0]["num_read_ops"], 1);
    client.refuse("bdev_get_iostat", &json!({"per_channel": true}), -22);
    client.refuse("bdev_get_iostat", &json!({"names": ["nobody"]}), -19);
    client.call("bdev_reset_iostat", &json!({"name": "lvs/vol", "mode": "maxmin"}));
    assert_eq!(iostat(&mut client, &names)["max_read_latency_ticks"], 0);
    assert_eq!(iostat(&mut client, &names)["num_read_ops"], 1);
    client.call("bdev_reset_iostat", &Value::Null);
    assert_eq!(iostat(&mut client, &names)["num_read_ops"], 0);
    connection.disconnect();
    server.stop();
}
