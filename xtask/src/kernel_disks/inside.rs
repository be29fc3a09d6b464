//! What happens in the guest.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use offshoot_nbd::kernel::{self, KernelDisk};
use offshoot_rpc::{Client, ClientError};
use serde_json::{Value, json};

use crate::guest::server::{Server, run};

/// The disk of the store.
const STORE: &str = "/dev/vda";

const RPC: &str = "/run/rpc";
const CONFIG: &str = "/run/config.json";
const MOUNT: &str = "/mnt";

const MIB: usize = 1 << 20;

/// How long something that is about to happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server and a client of its RPC.
struct Session {
    server: Server,
    client: Client,
}

impl Session {
    fn start(args: &[&str]) -> Result<Self> {
        let server = Server::start(&[args, &["--rpc", RPC]].concat())?;
        let client = Client::connect(Path::new(RPC)).context("no RPC")?;
        Ok(Self { server, client })
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        let params = (!params.is_null()).then_some(params);
        self.client.call(method, params).with_context(|| format!("{method} {params:?}"))
    }

    /// A call that must fail with this code.
    fn refuse(&mut self, method: &str, params: &Value, code: i32) -> Result<()> {
        match self.client.call::<_, Value>(method, Some(params)) {
            Err(ClientError::Rpc(error)) if error.code == code => Ok(()),
            other => bail!("{method} {params} should fail with {code}: {other:?}"),
        }
    }

    /// Attaches an lvol. Returns its device.
    fn attach(&mut self, lvol: &str, device: Option<&str>) -> Result<String> {
        let mut params = json!({"bdev_name": lvol});
        if let Some(device) = device {
            params["nbd_device"] = device.into();
        }
        let device = self.call("nbd_start_disk", &params)?;
        Ok(device.as_str().context("no path of a device")?.to_owned())
    }

    fn detach(&mut self, device: &str) -> Result<()> {
        let answer = self.call("nbd_stop_disk", &json!({"nbd_device": device}))?;
        ensure!(answer == json!(true), "{device}: {answer}");
        ensure!(!is_attached(device), "{device} is attached still");
        Ok(())
    }

    /// The devices that are attached.
    fn devices(&mut self) -> Result<Vec<String>> {
        let disks = self.call("nbd_get_disks", &Value::Null)?;
        let disks = disks.as_array().context("no array")?.iter();
        let mut devices: Vec<String> =
            disks.filter_map(|disk| disk["nbd_device"].as_str().map(str::to_owned)).collect();
        devices.sort();
        Ok(devices)
    }

    /// What the lvol reads, by another way than its device.
    fn content(&mut self, lvol: &str, bytes: usize) -> Result<Vec<u8>> {
        run("offshoot", &["export", STORE, lvol, "/tmp/content", "--force"])?;
        let mut content = fs::read("/tmp/content")?;
        content.truncate(bytes);
        Ok(content)
    }
}

/// Goes through all of it.
///
/// # Errors
/// What went wrong first.
pub(super) fn go() -> Result<()> {
    fs::create_dir_all(MOUNT)?;
    run("offshoot", &["init", STORE, "--name", "lvs", "--cluster-size", "64K"])?;
    for (name, size) in [("vol", "64M"), ("raw", "8M"), ("other", "4M")] {
        run("offshoot", &["create", STORE, name, size])?;
    }
    let mut session = Session::start(&[STORE])?;
    refusals(&mut session)?;
    say("bad devices, bad lvols and devices in use are refused");
    file_system(&mut session)?;
    say("a file system lives on a device, and its snapshot on another");
    write_back(&mut session)?;
    say("what the kernel held back was written before a device went");
    other_ends(&mut session)?;
    say("a device that somebody else disconnects is gone");
    let session = restarts(session)?;
    say("a server that was killed is followed by one that takes its device over");
    session.server.stop()?;
    ensure!(!is_attached("/dev/nbd3"), "a device is left behind");
    say("a server that ends leaves no device behind");
    run("offshoot", &["check", STORE])?;
    say("the store is sound");
    Ok(())
}

fn refusals(session: &mut Session) -> Result<()> {
    ensure!(session.devices()?.is_empty());
    for device in ["/dev/vda", "/dev/nbd", "/dev/nbd0p1"] {
        session.refuse("nbd_start_disk", &json!({"bdev_name": "lvs/vol", "nbd_device": device}), -19)?;
    }
    session.refuse("nbd_start_disk", &json!({"bdev_name": "lvs/none"}), -19)?;
    let device = session.attach("lvs/vol", Some("/dev/nbd3"))?;
    ensure!(device == "/dev/nbd3", "{device}");
    session.refuse("nbd_start_disk", &json!({"bdev_name": "lvs/raw", "nbd_device": "/dev/nbd3"}), -16)?;
    session.refuse("nbd_stop_disk", &json!({"nbd_device": "/dev/nbd0"}), -19)?;
    session.refuse("nbd_get_disks", &json!({"nbd_device": "/dev/nbd0"}), -19)?;
    session.refuse("bdev_lvol_delete", &json!({"name": "lvs/vol"}), -32603)?;
    // The first that is free.
    let device = session.attach("lvs/raw", None)?;
    ensure!(device == "/dev/nbd0", "{device}");
    ensure!(session.devices()? == ["/dev/nbd0", "/dev/nbd3"]);
    let disk = &session.call("nbd_get_disks", &json!({"nbd_device": "/dev/nbd0"}))?[0];
    let lvol = &session.call("bdev_get_bdevs", &json!({"name": "lvs/raw"}))?[0];
    ensure!(disk["bdev_name"] == lvol["name"], "{disk} {lvol}");
    ensure!(sectors("/dev/nbd0")? == 8 * 2048);
    session.detach("/dev/nbd0")
}

fn file_system(session: &mut Session) -> Result<()> {
    let (device, file) = ("/dev/nbd3", "/mnt/file");
    run("mkfs.ext4", &["-q", device])?;
    run("mount", &["-t", "ext4", device, MOUNT])?;
    fs::write(file, pattern(1, 8 * MIB))?;
    run("sync", &[])?;
    session.call("bdev_lvol_snapshot", &json!({"lvol_name": "lvs/vol", "snapshot_name": "snap"}))?;
    fs::write(file, pattern(2, 8 * MIB))?;
    run("sync", &[])?;
    let snapshot = session.attach("lvs/snap", None)?;
    ensure!(fs::read_to_string(format!("/sys/block/{}/ro", &snapshot["/dev/".len()..]))?.trim() == "1");
    session.detach(&snapshot)?;
    // A clone of it, in which the journal can be played back, has what the file was then.
    session.call("bdev_lvol_clone", &json!({"snapshot_name": "lvs/snap", "clone_name": "clone"}))?;
    let clone = session.attach("lvs/clone", None)?;
    fs::create_dir_all("/tmp/clone")?;
    run("mount", &["-t", "ext4", &clone, "/tmp/clone"])?;
    ensure!(fs::read("/tmp/clone/file")? == pattern(1, 8 * MIB), "the snapshot has changed");
    run("umount", &["/tmp/clone"])?;
    session.detach(&clone)?;
    // What the file system has no use for any more is given back.
    let before = own_clusters(session)?;
    fs::remove_file(file)?;
    run("sync", &[])?;
    run("fstrim", &[MOUNT])?;
    let after = own_clusters(session)?;
    ensure!(after < before, "{before} clusters before trimming, {after} after it");
    fs::write(file, pattern(3, 4 * MIB))?;
    run("umount", &[MOUNT])?;
    session.detach(device)?;
    session.attach("lvs/vol", Some(device))?;
    run("mount", &["-t", "ext4", device, MOUNT])?;
    ensure!(fs::read(file)? == pattern(3, 4 * MIB), "the file has changed");
    run("umount", &[MOUNT])?;
    run("e2fsck", &["-fn", device])?;
    session.detach(device)
}

/// A device that somebody has open and has written to, and that is stopped.
fn write_back(session: &mut Session) -> Result<()> {
    let device = session.attach("lvs/raw", None)?;
    let open = File::options().read(true).write(true).open(&device)?;
    open.write_all_at(&pattern(4, MIB), 0)?;
    session.call("nbd_stop_disk", &json!({"nbd_device": device}))?;
    // Whoever has it open cannot read it any more, but keeps it from being attached again.
    ensure!(open.read_at(&mut [0; 512], 4 << 20).is_err(), "nobody serves it");
    session.refuse("nbd_start_disk", &json!({"bdev_name": "lvs/raw", "nbd_device": device}), -16)?;
    drop(open);
    until("a device is free", || Ok(!is_attached(&device)))?;
    ensure!(session.content("raw", MIB)? == pattern(4, MIB), "what was written is lost");
    Ok(())
}

fn other_ends(session: &mut Session) -> Result<()> {
    let device = session.attach("lvs/raw", Some("/dev/nbd5"))?;
    // As `nbd-client -d` does.
    let disk = KernelDisk::parse(&device).context("no device of the kernel's")?;
    kernel::disconnect(disk, &disk.backend().context("nobody serves it")?)?;
    until("a device goes", || Ok(session.devices()?.is_empty() && !is_attached(&device)))?;
    // It can be used again, and the lvol is free.
    session.attach("lvs/other", Some(&device))?;
    session.detach(&device)?;
    session.call("bdev_lvol_delete", &json!({"name": "lvs/other"}))?;
    Ok(())
}

fn restarts(mut session: Session) -> Result<Session> {
    let device = session.attach("lvs/raw", Some("/dev/nbd3"))?;
    let config = session.call("save_config", &Value::Null)?;
    File::create(CONFIG)?.write_all(config.to_string().as_bytes())?;
    session.server.kill()?;
    ensure!(is_attached(&device), "what should be left behind is not");
    ensure!(File::open(&device).and_then(|mut file| file.read(&mut [0; 4096])).is_err(), "nobody serves it");
    let mut session = Session::start(&["--config", CONFIG])?;
    ensure!(session.devices()? == std::slice::from_ref(&device));
    let mut bytes = vec![0; MIB];
    File::open(&device)?.read_exact(&mut bytes)?;
    ensure!(bytes == pattern(4, MIB), "what was written is lost");
    Ok(session)
}

fn say(what: &str) {
    println!("ok: {what}");
}

/// Bytes that tell of their place, and of which ones they are.
fn pattern(number: u8, len: usize) -> Vec<u8> {
    let page = |page: usize| [number, page.to_le_bytes()[0], page.to_le_bytes()[1], 0x5a].repeat(1024);
    let mut bytes: Vec<u8> = (0..len.div_ceil(4096)).flat_map(page).collect();
    bytes.truncate(len);
    bytes
}

fn is_attached(device: &str) -> bool {
    Path::new(&format!("/sys/block/{}/pid", &device["/dev/".len()..])).exists()
}

fn sectors(device: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/sys/block/{}/size", &device["/dev/".len()..]))?;
    Ok(text.trim().parse()?)
}

/// The clusters that the lvol with the file system has of its own.
fn own_clusters(session: &mut Session) -> Result<u64> {
    let bdev = &session.call("bdev_get_bdevs", &json!({"name": "lvs/vol"}))?[0];
    bdev["driver_specific"]["lvol"]["num_allocated_clusters"].as_u64().context("no clusters")
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < end, "{what}: not in time");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
