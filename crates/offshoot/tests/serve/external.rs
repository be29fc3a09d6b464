//! Clones of files outside of the store, while it is served.

use std::fs;

use crate::common::golden::sha256;
use crate::program::Program;
use crate::server::{Server, Store, offshoot, text};
use crate::wire::{CMD_TRIM, CMD_WRITE_ZEROES};

/// What a command said of the external snapshot: `UUID=FILE`.
fn named(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("  --external "));
    line.unwrap_or_else(|| panic!("no external snapshot is named: {said}")).to_owned()
}

/// Bytes of which none is zero.
fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| 1 + u8::try_from((at / 512 + usize::from(seed)) % 251).unwrap()).collect()
}

#[test]
fn a_clone_made_while_the_store_is_served() {
    let store = Store::init("lvs", "64M");
    let (one, two) = (store.file("one"), store.file("two"));
    // One ends within a block.
    let image = bytes(1, (1 << 20) + 512);
    fs::write(&one, &image).unwrap();
    fs::write(&two, bytes(2, 2 << 20)).unwrap();
    let server = store.serve();
    let first = named(&store.run("clone", &["--from-external", text(&one), "vm"]));
    let mut expected = image.clone();
    expected.resize(5 << 18, 0);
    let mut client = server.connect("vm");
    assert_eq!(client.size_bytes, 5 << 18);
    assert!(client.read(0, 5 << 18).unwrap() == expected);
    client.write((1 << 20) - 100, &[7; 1000], 0).unwrap();
    expected[(1 << 20) - 100..][..1000].fill(7);
    client.request(CMD_WRITE_ZEROES, 0, 1000, 5000).unwrap();
    expected[1000..6000].fill(0);
    client.request(CMD_TRIM, 0, 1 << 18, 1 << 18).unwrap();
    expected[1 << 18..1 << 19].fill(0);
    client.flush().unwrap();
    assert!(client.read(0, 5 << 18).unwrap() == expected);

    // Another lvol is put onto another file, one more onto the same.
    store.run("create", &["other", "2M"]);
    let second = named(&store.run("set-parent", &["other", "--from-external", text(&two)]));
    assert!(server.connect("other").read(0, 2 << 20).unwrap() == bytes(2, 2 << 20));
    store.run("clone", &["--external", &first, "--from-external", text(&one), "vm2"]);
    assert!(server.connect("vm2").read(0, 1 << 20).unwrap() == image[..1 << 20]);

    // One id is one file.
    let wrong = format!("{}={}", &first[..36], text(&two));
    let args = ["--external", &wrong, "--from-external", text(&two), "vm3"];
    let refused = offshoot("clone", &store.path, &args);
    let line = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && line.contains(" here, not "), "{line}");

    drop(client);
    server.stop();
    let server = Server::start(&[&store.path], &["--external", &first, "--external", &second]);
    assert!(server.connect("vm").read(0, 5 << 18).unwrap() == expected);
    server.stop();
    assert!(fs::read(&one).unwrap() == image, "the external snapshot was written to");
    store.run("check", &[]);
}

/// A server that was started without the file learns of it with the next clone.
#[test]
fn a_degraded_clone_is_served_once_its_file_is_there() {
    let store = Store::init("lvs", "64M");
    let file = store.file("image");
    fs::write(&file, bytes(3, 1 << 20)).unwrap();
    let external = named(&store.run("clone", &["--from-external", text(&file), "vm"]));
    let server = store.serve();
    assert!(crate::wire::Connection::open(&server.socket, "vm").is_err());
    store.run("clone", &["--external", &external, "--from-external", text(&file), "vm2"]);
    for name in ["vm", "vm2"] {
        assert!(server.connect(name).read(0, 1 << 20).unwrap() == bytes(3, 1 << 20), "{name}");
    }
    server.stop();

    // So it does with any other command that changes something.
    let server = store.serve();
    store.run("inflate", &["vm", "--external", &external]);
    assert!(server.connect("vm2").read(0, 1 << 20).unwrap() == bytes(3, 1 << 20));
    server.stop();
    let server = store.serve();
    assert!(server.connect("vm").read(0, 1 << 20).unwrap() == bytes(3, 1 << 20), "inflated");
    assert!(crate::wire::Connection::open(&server.socket, "vm2").is_err());
    server.stop();
}

#[test]
fn qemu_writes_to_a_clone_of_an_image() {
    let (Some(qemu_io), Some(qemu_img)) = (Program::find("qemu-io"), Program::find("qemu-img")) else {
        return;
    };
    let store = Store::init("lvs", "64M");
    let (file, copy) = (store.file("image"), store.file("copy"));
    fs::write(&file, bytes(4, 8 << 20)).unwrap();
    fs::copy(&file, &copy).unwrap();
    let before = sha256(fs::File::open(&file).unwrap());
    let server = store.serve();
    let external = named(&store.run("clone", &["--from-external", text(&file), "vm"]));
    let uri = server.uri("vm");
    let commands =
        ["write -P 9 100k 300k", "write -z 1M 100k", "write -P 8 5000 512", "read -P 9 100k 300k", "flush"];
    let args: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
    for target in [uri.as_str(), text(&copy)] {
        qemu_io.run(&[&["-f", "raw", target][..], &args].concat());
    }
    qemu_img.run(&["compare", "-f", "raw", "-F", "raw", text(&copy), &uri]);
    server.kill();
    let server = Server::start(&[&store.path], &["--external", &external]);
    qemu_img.run(&["compare", "-f", "raw", "-F", "raw", text(&copy), &server.uri("vm")]);
    server.stop();
    assert_eq!(sha256(fs::File::open(&file).unwrap()), before, "the external snapshot was written to");
}

/// What a client has read is the clone's own, and the rest is the file's.
#[test]
fn what_is_read_is_kept() {
    let store = Store::init("lvs", "64M");
    let image = store.file("image");
    fs::write(&image, bytes(4, 4 << 20)).unwrap();
    let server = store.serve();
    let external = named(&store.run("clone", &["--from-external", text(&image), "--copy-on-read", "vm"]));
    let mut client = server.connect("vm");
    assert!(client.read(1 << 20, 1 << 20).unwrap() == bytes(4, 4 << 20)[1 << 20..2 << 20]);
    drop(client);
    server.stop();
    let lvols: serde_json::Value = serde_json::from_str(&store.run("ls", &["--json"])).unwrap();
    assert_eq!((&lvols[0]["copy_on_read"], &lvols[0]["own_bytes"]), (&true.into(), &(1 << 20).into()));
    let exported = store.file("exported");
    store.run("export", &["vm", text(&exported), "--external", &external]);
    assert!(fs::read(&exported).unwrap() == bytes(4, 4 << 20));
    store.run("check", &[]);
}
