//! Who may open a store at the same time, in one process and in several.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of this is tests")]

mod common;

use common::loop_device::LoopDevice;
use offshoot_block::{BlockDevice, Buffer, DeviceOffset, DeviceOp, OpId};
use offshoot_device::{FileDevice, LockError, LockMode, OpenError, OpenOptions, StoreLock};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Names the store that [`hold`] opens; set only in children of these tests.
const STORE: &str = "OFFSHOOT_TEST_STORE";
/// Set when it is to be opened read-only.
const READ_ONLY: &str = "OFFSHOOT_TEST_READ_ONLY";

/// Not a test of its own: a child process that opens a store, keeps it busy and waits to be killed.
#[test]
fn hold() {
    let Some(path) = std::env::var_os(STORE) else {
        return;
    };
    let options = match std::env::var_os(READ_ONLY) {
        Some(_) => OpenOptions::read_only(),
        None => OpenOptions::writable(),
    };
    let mut device = FileDevice::open(PathBuf::from(path), &options).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nholding").unwrap();
    out.flush().unwrap();
    let mut completions = Vec::new();
    for id in 0.. {
        let offset = DeviceOffset(id % 16 * 65536);
        device.submit(OpId(id), DeviceOp::Read { offset, buffer: Buffer::zeroed(65536) });
        if device.outstanding() >= 64 {
            device.wait(&mut completions);
        }
        completions.clear();
    }
}

/// A child that holds a store; killed on drop.
struct Holder(Child);

impl Holder {
    fn start(path: &Path, read_only: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "hold", "--nocapture"]).env(STORE, path).stdout(Stdio::piped());
        if read_only {
            command.env(READ_ONLY, "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).any(|line| line == "holding");
        assert!(ready, "the child could not open the store");
        Self(child)
    }

    /// `kill -9`, and waits for the process to be gone.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
    }
}

fn store(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("store");
    std::fs::File::create_new(&path).unwrap().set_len(1 << 20).unwrap();
    path
}

/// The pid that an attempt to open names.
fn refused_by(path: &Path, options: &OpenOptions) -> (u32, bool) {
    match FileDevice::open(path, options).unwrap_err() {
        OpenError::Locked { source: LockError::Held { pid: Some(pid), exclusive }, .. } => (pid, exclusive),
        other => panic!("{other}"),
    }
}

/// Everything about one store, whatever it lies on.
fn excludes(path: &Path) {
    let (writer, reader) = (OpenOptions::writable(), OpenOptions::read_only());
    let own = std::process::id();

    // One writer, in this process.
    let device = FileDevice::open(path, &writer).unwrap();
    assert_eq!(refused_by(path, &writer), (own, true));
    assert_eq!(refused_by(path, &reader), (own, true));
    // Closing some other descriptor of the file does not let anybody in.
    drop(std::fs::File::open(path).unwrap());
    assert_eq!(refused_by(path, &writer), (own, true));
    drop(device);

    // Many readers, no writer.
    let readers = [FileDevice::open(path, &reader).unwrap(), FileDevice::open(path, &reader).unwrap()];
    assert_eq!(refused_by(path, &writer), (own, false));
    drop(readers);

    // Another process, until it is killed.
    for read_only in [false, true] {
        let mut holder = Holder::start(path, read_only);
        assert_eq!(refused_by(path, &writer), (holder.0.id(), !read_only));
        assert_eq!(FileDevice::open(path, &reader).is_ok(), read_only);
        holder.kill();
        drop(FileDevice::open(path, &writer).unwrap());
    }
}

#[test]
fn files() {
    for directory in common::directories() {
        excludes(&store(&directory));
    }
}

#[test]
fn block_devices() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(loop_device) = LoopDevice::attach(&store(&directory), 512) else {
        return;
    };
    excludes(loop_device.path());
}

#[test]
fn another_node_of_the_same_block_device_is_refused() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(loop_device) = LoopDevice::attach(&store(&directory), 512) else {
        return;
    };
    let alias = directory.path().join("alias");
    let copied = Command::new("cp").arg("-R").arg(loop_device.path()).arg(&alias).status();
    if !copied.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no right to make a device node");
        return;
    }
    let device = FileDevice::open(loop_device.path(), &OpenOptions::writable()).unwrap();
    let error = FileDevice::open(&alias, &OpenOptions::writable()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { source: LockError::InUse, .. }), "{error}");
    drop(device);
    FileDevice::open(&alias, &OpenOptions::writable()).unwrap();
}

#[test]
fn no_lock_is_taken_when_none_is_wanted() {
    let directory = TempDir::new().unwrap();
    let path = store(&directory);
    let device = FileDevice::open(&path, &OpenOptions::writable()).unwrap();
    let options = OpenOptions { lock: None, ..OpenOptions::writable() };
    assert!(FileDevice::open(&path, &options).unwrap().lock().is_none());
    assert_eq!(device.lock().unwrap().mode(), LockMode::Exclusive);
}

#[test]
fn the_message_names_store_and_holder() {
    let directory = TempDir::new().unwrap();
    let path = store(&directory);
    let _lock = StoreLock::exclusive(&path).unwrap();
    let error = FileDevice::open(&path, &OpenOptions::writable()).unwrap_err();
    let expected = format!("{}: held by process {}", path.display(), std::process::id());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_lock_knows_its_file() {
    let directory = TempDir::new().unwrap();
    let path = store(&directory);
    let lock = StoreLock::shared(&path).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    assert!(lock.covers(&file).unwrap());
    std::fs::rename(&path, directory.path().join("moved")).unwrap();
    std::fs::write(&path, b"").unwrap();
    assert!(!lock.covers(&std::fs::File::open(&path).unwrap()).unwrap());
}
