//! The demonstration: the main job from a disk image to the bytes that come back, as a user would type it.
//!
//! Each step is shown as a command line and then done by the very command. What a user would do with another program is
//! done by a few lines here, so that the demonstration needs nothing but this binary.

mod client;
mod disk;
mod server;
mod session;

use anyhow::{Context as _, Result, ensure};
use client::Client;
use disk::{Change, Disk};
use server::Server;
pub(crate) use session::Runner;
use session::Session;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const STORE: &str = "demo.offshoot";
const SOCKET: &str = "demo.sock";
const MIB: u64 = 1 << 20;

/// The clones, and what is changed in each.
const CLONES: [(&str, Change); 3] = [
    ("web", Change { offset: 64 * MIB, len: 2 * MIB, byte: 0x11 }),
    ("db", Change { offset: 3 * MIB + 4096, len: 4 * MIB, byte: 0x22 }),
    ("ci", Change { offset: 200 * MIB, len: MIB, byte: 0x33 }),
];

/// Runs the demonstration in a folder, or in one of its own that goes away in the end.
///
/// # Errors
/// The first step that fails.
pub(crate) fn run(dir: Option<&Path>, runner: Runner) -> Result<()> {
    let session = Session::begin(dir, runner)?;
    let disk = import(&session)?;
    use_clones(&session)?;
    let bytes = look(&session)?;
    get_back(&session, &disk)?;
    clean_up(&session)?;
    session.say("");
    session.say(&bytes);
    session.say("demo passed");
    Ok(())
}

/// A disk image gets into a store, and is snapshotted and cloned.
fn import(session: &Session) -> Result<Disk> {
    session.title("A disk image: 256 MiB, 96 MiB of them data");
    let disk = Disk::create(Path::new("disk.raw"))?;
    session.say("(written: disk.raw)");
    session.title("Import it into a new store");
    session.run(&["init", STORE, "--size", "1G"])?;
    session.run(&["import", STORE, "golden", "disk.raw"])?;
    session.title("A snapshot of it, and three clones, which take no space");
    session.run(&["snapshot", STORE, "golden=base"])?;
    for (clone, _) in CLONES {
        session.run(&["clone", STORE, "base", clone])?;
    }
    Ok(disk)
}

/// Each clone is used as a block device.
fn use_clones(session: &Session) -> Result<()> {
    session.title("Use the clones as block devices");
    let listen = format!("unix:{SOCKET}");
    session.show(&format!("offshoot serve {STORE} --nbd {listen} &"));
    let server = Server::start(&["serve", STORE, "--nbd", &listen], session)?;
    for (clone, change) in CLONES {
        let Change { offset, len, byte } = change;
        let uri = format!("nbd+unix:///{clone}?socket={SOCKET}");
        session.show(&format!("qemu-io -f raw -c 'write -P {byte:#x} {offset} {len}' -c flush '{uri}'"));
        let mut client = Client::connect(Path::new(SOCKET), clone)?;
        client.write(offset, &vec![byte; usize::try_from(len)?])?;
        client.flush()?;
        let read = client.read(offset, 4096)?;
        ensure!(read.iter().all(|got| *got == byte), "{clone} does not read what was written");
        client.disconnect()?;
        session.say(&format!("(written and read back by this program: {len} bytes at {offset} of {clone})"));
    }
    session.show("kill %1");
    server.stop()
}

/// What is shared. Returns a line about what that saves.
fn look(session: &Session) -> Result<String> {
    session.title("What is shared");
    session.run(&["tree", STORE])?;
    let logical = (CLONES.len() as u64 + 2) * Disk::SIZE_BYTES;
    let stored = fs::metadata(STORE).with_context(|| STORE.to_owned())?.blocks() * 512;
    ensure!(stored < logical / 4, "nothing is shared: {stored} bytes are stored for {logical}");
    Ok(format!(
        "{} lvols of {} MiB in all take {} MiB of disk",
        CLONES.len() + 2,
        logical / MIB,
        stored / MIB
    ))
}

/// The bytes come back: the snapshot's as they were, each clone's with its change.
fn get_back(session: &Session, disk: &Disk) -> Result<()> {
    session.title("Get the bytes back");
    session.run(&["export", STORE, "base", "base.raw"])?;
    session.show("cmp disk.raw base.raw");
    disk.compare(Path::new("base.raw"), None)?;
    for (clone, change) in CLONES {
        let file = format!("{clone}.raw");
        session.run(&["export", STORE, clone, &file])?;
        disk.compare(Path::new(&file), Some(change))?;
        session.say(&format!("({file} is disk.raw with that change and no other)"));
    }
    Ok(())
}

/// Lvols go, the rest stays sound.
fn clean_up(session: &Session) -> Result<()> {
    session.title("Remove some, and see that all is well");
    session.run(&["rm", STORE, "ci"])?;
    session.run(&["rm", STORE, "golden"])?;
    session.run(&["ls", STORE])?;
    session.run(&["check", STORE])
}
