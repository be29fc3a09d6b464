//! Content of lvols that goes in and out by commands while a server holds the store.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::server::{OFFSHOOT, Server, Store, offshoot, text};
use crate::wire::{CMD_WRITE, CMD_WRITE_ZEROES, Connection};

/// Bytes that look like data.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    bytes
}

/// A file with parts of data at offsets, and holes.
fn sparse(store: &Store, name: &str, len: u64, parts: &[(u64, usize)]) -> std::path::PathBuf {
    let path = store.file(name);
    let file = File::create(&path).unwrap();
    file.set_len(len).unwrap();
    for (offset, len) in parts {
        file.write_all_at(&noise(*offset, *len), *offset).unwrap();
    }
    path
}

/// A store with the lvol `vol` of 12 MiB, made of the file `image`, and its snapshot `snap`.
fn with_vol() -> Store {
    let store = Store::init("lvs", "64M");
    let image = sparse(&store, "image", 12 << 20, &[(100, 3 << 20), (7 << 20, 1 << 20), ((12 << 20) - 5, 5)]);
    store.run("import", &["vol", text(&image)]);
    store.run("snapshot", &["vol=snap"]);
    store
}

/// Starts a command on a store, with pipes.
fn start(command: &str, store: &Path, args: &[&str]) -> Child {
    let mut process = Command::new(OFFSHOOT);
    process.arg(command).arg(store).args(args);
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The line of a refusal.
fn refusal(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// Why an export cannot be opened.
fn closed(server: &Server, export: &str) -> String {
    Connection::open(&server.socket, export).unwrap_err().to_string()
}

/// Waits for what is about to be so.
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

/// Names in the folder of a store.
fn files(store: &Store) -> Vec<String> {
    let names = fs::read_dir(store.path.parent().unwrap()).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_export_is_the_same_with_a_server_and_without() {
    let served = with_vol();
    let alone = served.copy();
    let server = served.serve();
    let image = fs::read(served.file("image")).unwrap();
    for (name, args) in [
        ("vol", &[][..]),
        ("snap", &["--format", "qcow2"]),
        ("vol", &["--force"]),
        ("vol", &[]),
        ("nobody", &["--force"]),
        ("snap", &["--format", "raw", "--force"]),
    ] {
        let out = |store: &Store| {
            let out = store.file("out");
            let output = offshoot("export", &store.path, &[&[name, text(&out)], args].concat());
            // Each has a folder of its own.
            let plain = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(text(&out), "out");
            (output.status.code(), plain(&output.stdout), plain(&output.stderr), fs::read(out).ok())
        };
        let with = out(&served);
        assert_eq!(with.0 == Some(0), name != "nobody" && with.2.is_empty(), "{with:?}");
        assert!(with == out(&alone), "{name} {args:?}: {} {}", with.1, with.2);
    }
    assert!(fs::read(served.file("out")).unwrap() == image);
    let blocks = |store: &Store| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(store.file("out")).unwrap().blocks()
    };
    assert_eq!(blocks(&served), blocks(&alone));
    let output = offshoot("export", &served.path, &["vol", "-"]);
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout == image);
    let refused = refusal(&offshoot("export", &served.path, &["vol", "-", "--format", "qcow2"]));
    assert_eq!(refused, "offshoot: qcow2 cannot be written to standard output: give a file\n");
    let refused = refusal(&offshoot("export", &served.path, &["vol", text(&served.path), "--force"]));
    assert!(refused.ends_with(": is the store itself\n"), "{refused}");
    assert_eq!(files(&served), ["image", "out", "store.img"]);
    server.stop();
}

#[test]
fn what_a_client_writes_to_is_exported_by_a_snapshot() {
    let store = with_vol();
    let server = store.serve();
    let mut client = server.connect("vol");
    client.write(0, &[9; 4096], 0).unwrap();
    let refused = refusal(&offshoot("export", &store.path, &["vol", text(&store.file("out"))]));
    let expected =
        "offshoot: \"vol\" is in use, and would change meanwhile: take a snapshot and export that\n";
    assert_eq!(refused, expected);
    // A snapshot may have readers.
    let reader = server.connect("snap");
    store.run("export", &["snap", text(&store.file("out"))]);
    assert!(fs::read(store.file("out")).unwrap() == fs::read(store.file("image")).unwrap());
    reader.disconnect();
    client.disconnect();
    let now = offshoot("export", &store.path, &["vol", "-"]);
    assert_eq!((now.status.code(), String::from_utf8_lossy(&now.stderr)), (Some(0), "".into()));
    assert!(now.stdout[..4096] == [9; 4096]);
    server.stop();
}

#[test]
fn an_lvol_stays_what_it_is_while_it_is_exported() {
    let store = with_vol();
    let server = store.serve();
    let mut client = server.connect("vol");
    client.write(9 << 20, &noise(5, 2 << 20), 0).unwrap();
    let expected = client.read(0, 12 << 20).unwrap();
    client.disconnect();
    // It waits for its reader.
    let mut export = start("export", &store.path, &["vol", "-"]);
    let mut output = export.stdout.take().unwrap();
    let mut image = vec![0; 1000];
    output.read_exact(&mut image).unwrap();
    assert!(closed(&server, "vol").contains("being exported by a command"));
    for (command, args) in [
        ("rm", &["vol"][..]),
        ("rm", &["vol", "--deferred"]),
        ("resize", &["vol", "1M"]),
        ("revert", &["vol", "snap"]),
        ("decouple", &["vol", "--zero"]),
    ] {
        let refused = refusal(&offshoot(command, &store.path, args));
        assert_eq!(refused, "offshoot: \"vol\" is in use\n", "{command} {args:?}");
    }
    // What changes nothing of it, and another export.
    store.run("rename", &["vol", "renamed"]);
    store.run("snapshot", &["renamed=later"]);
    assert!(offshoot("export", &store.path, &["renamed", "-"]).stdout == expected);
    output.read_to_end(&mut image).unwrap();
    assert!(image == expected && export.wait().unwrap().success());
    // It is let go of at the end.
    until(|| Connection::open(&server.socket, "renamed").is_ok());
    server.stop();
}

#[test]
fn an_export_that_dies_lets_go_of_its_lvol() {
    let store = with_vol();
    let server = store.serve();
    let mut export = start("export", &store.path, &["vol", "-"]);
    let mut output = export.stdout.take().unwrap();
    output.read_exact(&mut [0; 1000]).unwrap();
    assert!(closed(&server, "vol").contains("being exported by a command"));
    export.kill().unwrap();
    export.wait().unwrap();
    until(|| Connection::open(&server.socket, "vol").is_ok());
    until(|| offshoot("rm", &store.path, &["vol"]).status.success());
    server.stop();
}

#[test]
fn an_export_whose_server_dies_says_so() {
    let store = with_vol();
    let server = store.serve();
    let mut export = start("export", &store.path, &["vol", "-"]);
    let mut output = export.stdout.take().unwrap();
    output.read_exact(&mut [0; 1000]).unwrap();
    server.kill();
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    let ended = export.wait_with_output().unwrap();
    let line = refusal(&ended);
    assert!(line.starts_with("offshoot: the server has ended"), "{line}");
}

/// Flips a bit in the root page of an lvol of a store that is not served.
fn damage(store: &Store, lvol: &str) {
    const PAGE: u64 = 4096;
    let dump = store.run("dump", &[]);
    let md = dump.lines().find_map(|line| line.strip_prefix("md: page ")).unwrap();
    let md_start: u64 = md.split_once(' ').unwrap().0.parse().unwrap();
    let section = dump.split("[blob 0x").find(|section| section.contains(&format!("xattr.name: \"{lvol}\"")));
    let id = u64::from_str_radix(section.unwrap().split_once(']').unwrap().0, 16).unwrap();
    let file = File::options().read(true).write(true).open(&store.path).unwrap();
    let offset = (md_start + (id & 0xffff_ffff)) * PAGE + 100;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn what_is_left_of_a_damaged_lvol_is_exported_by_a_server_too() {
    let served = with_vol();
    served.run("clone", &["snap", "clone"]);
    damage(&served, "snap");
    let alone = served.copy();
    let server = served.serve();
    for name in ["vol", "clone"] {
        let export = |store: &Store| {
            let out = store.file("out");
            let output = offshoot("export", &store.path, &[name, text(&out)]);
            let image = fs::read(&out).ok();
            let _ = fs::remove_file(out);
            (output.status.code(), output.stdout, output.stderr, image)
        };
        let with = export(&served);
        assert_eq!(with.0, Some(1));
        assert!(!with.2.is_empty());
        assert!(with == export(&alone), "{}", String::from_utf8_lossy(&with.2));
    }
    server.stop();
}

/// Several parts that cannot be read, and two commands that come upon them.
#[test]
fn what_a_device_has_lost_is_left_out_by_a_server_too() {
    let store = with_vol();
    let server = store.serve();
    let [total, free, cluster] =
        ["total_clusters", "free_clusters", "cluster_size"].map(|part| store.info(part).as_u64().unwrap());
    // What was imported lies behind everything else.
    let end = (total - free) * cluster;
    File::options().write(true).open(&store.path).unwrap().set_len(end - (3 << 20)).unwrap();
    let outs = ["one", "two"].map(|name| store.file(name));
    let exports = outs.each_ref().map(|out| start("export", &store.path, &["snap", text(out)]));
    let ended = exports.map(|export| export.wait_with_output().unwrap());
    let said = ended.map(|output| {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    });
    assert_eq!(said[0].replace(text(&outs[0]), ""), said[1].replace(text(&outs[1]), ""));
    assert!(said[0].contains("7340032"), "{}", said[0]);
    let image = fs::read(store.file("image")).unwrap();
    let exported = outs.map(|out| fs::read(out).unwrap());
    assert!(exported[0] == exported[1]);
    assert!(exported[0][..1 << 20] == image[..1 << 20], "what is there is exported");
    assert!(exported[0][7 << 20..8 << 20] == vec![0; 1 << 20][..], "what is not is left out");
    drop(server);
}

#[test]
fn a_copy_is_the_same_with_a_server_and_without() {
    let served = with_vol();
    // What the next snapshot holds itself: data, zeros, and more stretches than are told at a time.
    let server = served.serve();
    served.run("resize", &["vol", "40M"]);
    let mut client = server.connect("vol");
    for blocks in (0..1100).collect::<Vec<u64>>().chunks(50) {
        blocks.iter().for_each(|block| client.send(CMD_WRITE, 0, block * 8192, 4096, &[7; 4096]));
        blocks.iter().for_each(|_| assert_eq!(client.receive().1, Ok(())));
    }
    client.request(CMD_WRITE_ZEROES, 0, 4096, 4096).unwrap();
    client.disconnect();
    served.run("snapshot", &["vol=top"]);
    server.stop();
    let alone = served.copy();
    let server = served.serve();
    let mut client = server.connect("vol");
    for (name, size) in [("snap", 12 << 20), ("top", 0), ("vol", 0), ("nobody", 0), ("top", 1 << 20)] {
        let copy = |store: &Store| {
            let out = store.file("out");
            if size > 0 {
                let file = File::options().create(true).append(true).open(&out).unwrap();
                file.set_len(size).unwrap();
            }
            let output = offshoot("copy", &store.path, &[name, text(&out)]);
            let plain = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(text(&out), "out");
            let copied = fs::read(&out).ok();
            let _ = fs::remove_file(&out);
            (output.status.code(), plain(&output.stdout), plain(&output.stderr), copied)
        };
        let with = copy(&served);
        assert!(with == copy(&alone), "{name}: {:?}", (with.0, with.1, with.2));
        client.write(0, &[8; 4096], 0).unwrap();
    }
    // The chain adds up, while a client writes to what lies on it.
    let whole = offshoot("export", &served.path, &["top", "-"]).stdout;
    let out = sparse(&served, "out", 40 << 20, &[]);
    served.run("copy", &["snap", text(&out)]);
    served.run("copy", &["top", text(&out)]);
    assert!(fs::read(&out).unwrap() == whole);
    let refused = refusal(&offshoot("copy", &served.path, &["top", text(&served.path)]));
    assert!(refused.ends_with(": is what is copied from\n"), "{refused}");
    client.disconnect();
    server.stop();
}

/// Starts an import of standard input, and gives it so much that most of it is in the store.
fn begun_import(store: &Store, name: &str) -> Child {
    let mut import = start("import", &store.path, &[name, "-"]);
    import.stdin.as_mut().unwrap().write_all(&noise(3, 8 << 20)).unwrap();
    import
}

/// Whether something is being filled.
fn is_filling(store: &Store) -> bool {
    store.run("tree", &[]).contains(".unfinished-")
}

#[test]
fn an_import_is_the_same_with_a_server_and_without() {
    let served = Store::init("lvs", "64M");
    let raw = sparse(&served, "raw", (9 << 20) + 5, &[(100, 2 << 20), (6 << 20, 1 << 20), (9 << 20, 5)]);
    served.run("import", &["taken", text(&raw)]);
    let qcow2 = served.file("qcow2");
    served.run("export", &["taken", text(&qcow2), "--format", "qcow2"]);
    let empty = sparse(&served, "empty", 0, &[]);
    let large = sparse(&served, "large", 80 << 20, &[(0, 70 << 20)]);
    let alone = served.copy();
    let server = served.serve();
    for (name, file, args) in [
        ("raw", &raw, &[][..]),
        ("qcow2", &qcow2, &[]),
        ("as raw", &qcow2, &["--format", "raw"]),
        ("taken", &raw, &[]),
        ("a/b", &raw, &[]),
        ("empty", &empty, &[]),
        ("large", &large, &[]),
        ("nothing", &served.file("nothing"), &[]),
    ] {
        let import = |store: &Store| offshoot("import", &store.path, &[&[name, text(file)], args].concat());
        let (with, without) = (import(&served), import(&alone));
        assert_eq!(with.status.success(), ["raw", "qcow2", "as raw"].contains(&name), "{with:?}");
        assert!(with == without, "{with:?} {without:?}");
    }
    for (name, len) in [("a", 0), ("b", 1), ("c", 3 << 20), ("d", (5 << 20) + 777), ("e", 70 << 20)] {
        let import = |store: &Store| {
            let mut import = start("import", &store.path, &[name, "-"]);
            // A command that refuses may not read it.
            let _ = import.stdin.take().unwrap().write_all(&noise(7, len));
            import.wait_with_output().unwrap()
        };
        let (with, without) = (import(&served), import(&alone));
        assert_eq!(with.status.success(), !["a", "e"].contains(&name), "{with:?}");
        assert!(with == without, "{with:?} {without:?}");
    }
    assert!(!is_filling(&served));
    for name in ["raw", "qcow2", "as raw", "b", "c", "d"] {
        let content = |store: &Store| offshoot("export", &store.path, &[name, "-"]).stdout;
        assert!(content(&served) == content(&alone), "{name}");
    }
    let free = |store: &Store| (store.info("free_clusters"), store.run("ls", &[]).lines().count());
    assert_eq!(free(&served), free(&alone));
    server.stop();
    assert_eq!((served.info("clean"), free(&served)), (true.into(), free(&alone)));
    served.run("check", &[]);
}

#[test]
fn an_import_is_out_of_sight_until_it_is_complete() {
    let store = Store::init("lvs", "64M");
    let server = store.serve();
    let mut import = begun_import(&store, "vol");
    assert!(is_filling(&store));
    assert_eq!(store.run("ls", &["--json"]).trim(), "[]");
    assert_eq!(store.run("check", &[]), "no damage found in 0 lvols\n");
    assert!(closed(&server, "vol").contains("no such export"));
    assert!(closed(&server, "").contains("no such export"));
    // A name that is free until the end may be taken by then.
    let second = begun_import(&store, "vol");
    drop(import.stdin.take());
    let imported = import.wait_with_output().unwrap();
    assert!(imported.status.success() && imported.stderr.is_empty(), "{imported:?}");
    let mut connection = server.connect("vol");
    assert!(connection.read(0, 8 << 20).unwrap() == noise(3, 8 << 20));
    connection.write(0, &[1; 512], 0).unwrap();
    connection.disconnect();
    let refused = refusal(&second.wait_with_output().unwrap());
    assert_eq!(refused, "offshoot: an lvol named \"vol\" exists already\n");
    until(|| !is_filling(&store));
    server.kill();
    assert_eq!(store.sha256("vol"), {
        let mut image = noise(3, 8 << 20);
        image[..512].fill(1);
        crate::common::golden::sha256(&image[..])
    });
}

#[test]
fn an_import_that_ends_early_leaves_nothing() {
    let store = Store::init("lvs", "64M");
    let server = store.serve();
    let free = store.info("free_clusters");
    // Killed.
    let mut import = begun_import(&store, "vol");
    assert_ne!(store.info("free_clusters"), free);
    import.kill().unwrap();
    import.wait().unwrap();
    until(|| !is_filling(&store) && store.info("free_clusters") == free);
    // Interrupted: nothing is there when it has ended.
    let mut import = begun_import(&store, "vol");
    // Whose end would be that of the image.
    let input = import.stdin.take();
    let status = Command::new("kill").args(["-s", "INT", &import.id().to_string()]).status();
    assert!(status.unwrap().success());
    assert_eq!(refusal(&import.wait_with_output().unwrap()), "offshoot: interrupted\n");
    drop(input);
    assert!(!is_filling(&store));
    // The server ends in order.
    let import = begun_import(&store, "vol");
    server.stop();
    let line = refusal(&import.wait_with_output().unwrap());
    assert!(line.starts_with("offshoot: the server has ended"), "{line}");
    assert!(!is_filling(&store));
    assert_eq!((store.info("free_clusters"), store.info("clean")), (free.clone(), true.into()));
    // The server is killed.
    let server = store.serve();
    let import = begun_import(&store, "vol");
    server.kill();
    let line = refusal(&import.wait_with_output().unwrap());
    assert!(line.starts_with("offshoot: the server has ended"), "{line}");
    assert_eq!(store.run("ls", &["--json"]).trim(), "[]");
    let server = store.serve();
    assert!(!is_filling(&store));
    until(|| store.info("free_clusters") == free);
    server.stop();
    store.run("check", &[]);
}
