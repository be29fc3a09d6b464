//! Files and block devices that go away under a server, and come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::skip;
use crate::mount::obstacle;
use crate::program::{Program, find_all};
use crate::rpc::Client;
use crate::server::{Server, Store, offshoot, text};
use crate::wire::Connection;

const EIO: u32 = 5;
const ESHUTDOWN: u32 = 108;

/// An lvol as a file, `FOLDER/nbd`, which fails when its server is gone. It is unmounted when this is dropped.
struct Below {
    umount: Program,
    fuse: Child,
    folder: PathBuf,
}

impl Below {
    fn mount([nbdfuse, umount]: &[Program; 2], uri: &str, folder: &Path) -> Self {
        let fuse = nbdfuse.command().args(["-C", "2", text(folder), uri]).spawn().unwrap();
        let mut below = Self { umount: umount.clone(), fuse, folder: folder.to_owned() };
        while !below.file().exists() {
            assert!(below.fuse.try_wait().unwrap().is_none(), "nbdfuse has ended");
            sleep(Duration::from_millis(5));
        }
        below
    }

    fn file(&self) -> PathBuf {
        self.folder.join("nbd")
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        // Whoever has the file open does not keep it from going.
        let _ = self.umount.command().args(["-l", text(&self.folder)]).status();
        let _ = self.fuse.kill();
        let _ = self.fuse.wait();
    }
}

fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_device_that_goes_away_is_taken_up_when_it_is_back() {
    if let Some(why) = obstacle() {
        return skip("a device that goes away", why);
    }
    let Some(programs) = find_all(["nbdfuse", "umount"]) else { return };
    let (disk, other) = (Store::init("disks", "128M"), Store::init("other", "64M"));
    disk.run("create", &["disk", "64M"]);
    other.run("create", &["vol", "4M"]);
    let folder = disk.file("mounted");
    fs::create_dir(&folder).unwrap();
    let server_below = disk.serve();
    let below = Below::mount(&programs, &server_below.uri("disk"), &folder);
    let place = below.file();
    for (command, args) in
        [("init", &["--force", "--name", "lvs"][..]), ("create", &["vol", "4M"]), ("create", &["idle", "4M"])]
    {
        let output = offshoot(command, &place, args);
        assert!(output.status.success(), "{command}: {output:?}");
    }
    let server = Server::start_with_rpc(&[&place, &other.path]);
    let mut client = Client::connect(&server.rpc_socket());
    client.call("bdev_set_qos_limit", &json!({"name": "lvs/vol", "rw_ios_per_sec": 50_000}));
    let (mut connection, mut idle) = (server.connect("lvs/vol"), server.connect("lvs/idle"));
    let mut beside = server.connect("other/vol");
    connection.write(0, &[7; 8192], 0).unwrap();
    connection.flush().unwrap();

    server_below.kill();
    until(|| connection.write(4096, &[8; 4096], 0).and_then(|()| connection.flush()).is_err());
    beside.write(0, &[9; 4096], 0).unwrap();
    let lvs = |client: &mut Client| client.ask("bdev_get_bdevs", &json!({"name": "lvs/vol"}));
    until(|| lvs(&mut client)["error"]["code"] == -19);
    // Whoever did not notice is told: what was acknowledged may be lost.
    assert!(matches!(idle.read(0, 512), Err(ESHUTDOWN | EIO)));
    beside.flush().unwrap();
    assert!(Connection::open(&server.socket, "lvs/vol").is_err());
    drop(below);

    let server_below = disk.serve();
    let below = Below::mount(&programs, &server_below.uri("disk"), &folder);
    until(|| lvs(&mut client)["result"].is_array());
    let back = &lvs(&mut client)["result"][0];
    assert_eq!(back["assigned_rate_limits"]["rw_ios_per_sec"], 50_000);
    assert_eq!(idle.write(0, &[1; 512], 0), Err(ESHUTDOWN), "it has to connect again");
    let mut again = server.connect("lvs/vol");
    assert_eq!(again.read(0, 4096).unwrap(), [7; 4096]);
    again.write(0, &[10; 4096], 0).unwrap();
    again.flush().unwrap();
    assert_eq!(beside.read(0, 4096).unwrap(), [9; 4096]);
    for connection in [connection, idle, again, beside] {
        connection.disconnect();
    }
    drop(client);
    server.stop();
    let info: Value = serde_json::from_slice(&offshoot("info", &place, &["--json"]).stdout).unwrap();
    assert_eq!(info["clean"], true);
    drop(below);
    server_below.stop();
}

#[test]
fn a_file_without_a_name_is_served_to_the_end() {
    let store = Store::init("lvs", "64M");
    store.run("create", &["vol", "4M"]);
    let server = store.serve();
    let mut connection = server.connect("vol");
    fs::remove_file(&store.path).unwrap();
    connection.write(0, &[7; 4096], 0).unwrap();
    connection.flush().unwrap();
    assert_eq!(connection.read(0, 4096).unwrap(), [7; 4096]);
    connection.disconnect();
    server.stop();
}
