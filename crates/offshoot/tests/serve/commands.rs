//! Commands on a store that a server holds: it runs them, and nobody sees the difference.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::server::{Server, Store, offshoot, text};

/// What a refused command said.
fn refusal(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn commands_say_the_same_with_a_server_and_without() {
    let served = Store::init("lvs", "64M");
    let alone = served.copy();
    let server = served.serve();
    for (command, args) in [
        ("create", &["vol", "5M"][..]),
        ("create", &["thick", "1M", "--thick"]),
        ("snapshot", &["vol=snap"]),
        ("clone", &["snap", "clone"]),
        ("create", &["other", "5M"]),
        ("set-parent", &["other", "snap"]),
        ("rename", &["clone", "branch"]),
        ("resize", &["branch", "8M"]),
        ("revert", &["vol", "snap"]),
        ("rm", &["other"]),
        ("read-only", &["branch"]),
        ("label", &["vol", "tier=gold", "owner=me"]),
        ("label", &["vol"]),
        ("diff", &["snap", "branch"]),
        ("diff", &["snap", "branch", "--json"]),
        ("check", &[]),
        ("check", &["--json"]),
        ("rename", &["--store", "renamed"]),
        ("grow", &["--size", "96M"]),
        ("grow", &[]),
    ] {
        assert_eq!(served.run(command, args), alone.run(command, args), "{command} {args:?}");
    }
    for (command, args) in [
        ("create", &["vol", "1M"][..]),
        ("create", &["a/b", "1M"]),
        ("create", &["huge", "100T", "--thick"]),
        ("create", &["nothing", "0"]),
        ("clone", &["vol", "c"]),
        ("rm", &["nobody"]),
        ("resize", &["snap", "1M"]),
        ("snapshot", &["branch=b"]),
        ("label", &["vol", "tier"]),
        ("diff", &["snap", "nobody"]),
        ("inflate", &["nobody"]),
        ("inflate", &["vol", "--rate", "0"]),
        ("decouple", &["snap", "--keep"]),
        ("merge", &["snap", "branch"]),
        ("grow", &["--size", "15E"]),
    ] {
        let with = refusal(&offshoot(command, &served.path, args));
        assert_eq!(with, refusal(&offshoot(command, &alone.path, args)), "{command} {args:?}");
    }
    // Times of creation are not compared.
    let names = |list: &str| {
        let list: serde_json::Value = serde_json::from_str(list).unwrap();
        let member = |lvol: &serde_json::Value| {
            [&lvol["name"], &lvol["kind"], &lvol["own_bytes"]].map(|v| v.to_string())
        };
        list.as_array().unwrap().iter().map(member).collect::<Vec<_>>()
    };
    assert_eq!(names(&served.run("ls", &["--json"])), names(&alone.run("ls", &["--json"])));
    assert_eq!(served.run("tree", &[]).lines().count(), alone.run("tree", &[]).lines().count());
    let before = served.run("ls", &[]);
    server.stop();
    assert_eq!(served.run("ls", &[]), before);
}

#[test]
fn what_a_command_did_is_durable_and_clients_see_it() {
    let store = Store::init("lvs", "64M");
    let server = store.serve();
    store.run("create", &["vol", "4M"]);
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 4096], 0).unwrap();
    store.run("snapshot", &["vol=snap"]);
    connection.write(0, &[2; 4096], 0).unwrap();
    assert_eq!(server.connect("snap").read(0, 4096).unwrap(), [1; 4096]);
    let busy = "offshoot: \"vol\" is in use\n";
    assert_eq!(refusal(&offshoot("rm", &store.path, &["vol"])), busy);
    assert_eq!(refusal(&offshoot("rm", &store.path, &["vol", "--deferred"])), busy);
    assert_eq!(refusal(&offshoot("resize", &store.path, &["vol", "1M"])), busy);
    assert_eq!(refusal(&offshoot("revert", &store.path, &["vol", "snap"])), busy);
    connection.disconnect();
    store.run("revert", &["vol", "snap"]);
    server.kill();
    assert!(store.run("ls", &[]).contains("snap"));
}

#[test]
fn a_store_grows_while_a_client_writes() {
    let store = Store::init("lvs", "32M");
    let server = store.serve();
    store.run("create", &["vol", "64M"]);
    let mut connection = server.connect("vol");
    let mut written = 0;
    let full = loop {
        match connection.write(written, &[7; 256 << 10], 0) {
            Ok(()) => written += 256 << 10,
            Err(error) => break error,
        }
    };
    assert!(written < 32 << 20, "{full:?}");
    let refused = refusal(&offshoot("grow", &store.path, &["--size", "16M"]));
    assert!(refused.contains("which --size 16777216 cannot change"), "{refused}");
    assert!(store.run("grow", &["--size", "128M"]).starts_with("grew lvstore \"lvs\" from 32M to 128M"));
    for at in (written..64 << 20).step_by(256 << 10) {
        connection.write(at, &[7; 256 << 10], 0).unwrap();
    }
    connection.flush().unwrap();
    server.kill();
    assert_eq!(store.info("size"), 128 << 20);
    store.run("check", &[]);
    let server = store.serve();
    let mut connection = server.connect("vol");
    assert!(connection.read((64 << 20) - 4096, 4096).unwrap().iter().all(|byte| *byte == 7));
    connection.disconnect();
    server.stop();
    assert_eq!((store.info("size"), store.info("clean")), ((128 << 20).into(), true.into()));
}

#[test]
fn the_store_is_found_by_what_it_is_and_not_by_its_path() {
    let (one, two) = (Store::init("one", "64M"), Store::init("two", "64M"));
    let server = Server::start(&[&one.path, &two.path], &[]);
    let link = one.file("link");
    std::os::unix::fs::symlink(&two.path, &link).unwrap();
    assert!(offshoot("create", &link, &["vol", "4M"]).status.success());
    assert_eq!(server.connect("two/vol").size_bytes, 4 << 20);
    // Names of stores tell their exports apart.
    let taken = refusal(&offshoot("rename", &one.path, &["--store", "two"]));
    assert!(taken.contains("another store that is served is called \"two\""), "{taken}");
    server.stop();
    let folder = Path::new(text(&one.path)).parent().unwrap();
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn what_takes_a_whole_store_is_refused_and_the_rest_is_not() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let server = store.serve();
    let client = server.connect("vol");
    let held = format!("offshoot: {} is held by process {}", text(&store.path), server.pid());
    let undo = store.file("undo");
    for (command, args, what) in [
        ("check", &["--repair"][..], "a repair"),
        ("check", &["--repair", "--dry-run"], "a repair"),
        ("check", &["--repair", "--undo", text(&undo)], "a repair"),
        ("init", &["--force"], "making it anew"),
        ("init", &["--force", "--size", "1G"], "making it anew"),
    ] {
        let expected = format!("{held}: {what} needs a store that nobody uses: stop that process first\n");
        let refused = refusal(&offshoot(command, &store.path, args));
        assert_eq!(refused, expected, "{command} {args:?}");
    }
    let refused = refusal(&offshoot("init", &store.path, &[]));
    assert!(refused.contains("is held by process"), "{refused}");
    assert!(!undo.exists());
    assert_eq!(fs::metadata(&store.path).unwrap().len(), 64 << 20);
    // A client has an lvol open; none of these is in its way.
    assert!(store.run("check", &[]).contains("no damage found in 1 lvols"));
    assert!(store.run("dump", &[]).contains("[super block]"));
    assert!(store.run("dump", &["--json"]).starts_with('['));
    store.run("label", &["vol", "tier=gold"]);
    assert_eq!(store.run("label", &["vol"]), "tier=gold\n");
    assert!(store.run("grow", &["--size", "96M"]).starts_with("grew lvstore"));
    assert!(store.run("seal", &[]).contains("closing makes it a store that SPDK can open"));
    client.disconnect();
    server.stop();
    assert_eq!((store.info("sealed"), store.info("size")), (true.into(), (96 << 20).into()));
}
