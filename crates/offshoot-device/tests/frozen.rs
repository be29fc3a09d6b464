//! A process is killed while its write is with a disk that does not answer. The disk is nbdkit, stopped;
//! nbdfuse makes it a file, losetup a block device, and on that lies the store, or an ext4 with it.
//!
//! Wants root, nbdkit, nbdfuse and loop devices.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of this is tests")]

mod common;

use common::loop_device::LoopDevice;
use offshoot_block::{BlockDevice, Buffer, DeviceOffset, DeviceOp, OpId};
use offshoot_device::{FileDevice, LockMode, OpenOptions, StoreLock};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// Names the store that [`write_when_told`] opens; set only in children of these tests.
const STORE: &str = "OFFSHOOT_TEST_STORE";

/// What is written by the process that is killed, and by the one after it.
const OLD: u8 = 0xdd;
const NEW: u8 = 0xee;

/// One test at a time: a child that another one is starting has a copy of every lock for a moment.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Not a test of its own: a child process that opens a store, gives it one write when it is told to, and
/// waits to be killed.
#[test]
fn write_when_told() {
    let Some(path) = std::env::var_os(STORE) else {
        return;
    };
    let mut device = FileDevice::open(PathBuf::from(path), &OpenOptions::writable()).unwrap();
    assert!(device.is_direct(), "{:?}", device.direct_note());
    say("open");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let buffer = Buffer::copy_of(&[OLD; 4096]);
    device.submit(OpId(0), DeviceOp::Write { offset: DeviceOffset(0), buffer });
    device.poll(&mut Vec::new());
    say("submitted");
    device.wait(&mut Vec::new());
    unreachable!("the disk is frozen");
}

fn say(what: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{what}").unwrap();
    out.flush().unwrap();
}

#[test]
fn nobody_opens_a_file_before_the_last_write_has_landed() {
    let _alone = alone();
    let Some(disk) = Disk::new() else { return };
    let Some(mounted) = disk.mount() else { return };
    let store = mounted.0.join("store");
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        outlives_its_process(&disk, &store, mode, || ());
    }
}

#[test]
fn nobody_opens_a_block_device_before_the_last_write_has_landed() {
    let _alone = alone();
    let Some(disk) = Disk::new() else { return };
    let store = disk.block_device.path();
    let is_claimed = || {
        let flags = OFlags::EXCL.bits().cast_signed();
        let error = File::options().read(true).custom_flags(flags).open(store).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::BUSY));
    };
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        outlives_its_process(&disk, store, mode, is_claimed);
    }
}

/// `while_frozen` is called when the process is dead and its write is not.
fn outlives_its_process(disk: &Disk, store: &Path, mode: LockMode, while_frozen: impl Fn()) {
    // Written once, so that the file system has nothing to allocate later.
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(store)
        .unwrap()
        .write_all(&[0; 1 << 16])
        .unwrap();
    let mut device = FileDevice::open(store, &OpenOptions::writable()).unwrap();
    assert_eq!(device.fence_note(), None);
    common::write(&mut device, 0, &[0; 1 << 16]).unwrap();
    common::run(&mut device, DeviceOp::Sync).result.unwrap();
    drop(device);

    let mut writer = Writer::start(store);
    let frozen = disk.freeze();
    writer.write_and_die();
    File::open(store).unwrap().try_lock().expect("the lock of a dead process is free");
    while_frozen();

    let thawed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            let lock = StoreLock::acquire(store, mode).unwrap();
            (thawed.load(Ordering::SeqCst), lock)
        });
        // Time to do it wrong.
        std::thread::sleep(Duration::from_millis(500));
        thawed.store(true, Ordering::SeqCst);
        drop(frozen);
        let (waited, lock) = opener.join().unwrap();
        assert!(waited, "{mode:?}: open while the write of a dead process was under way");
        drop(lock);
    });
    let mut device = FileDevice::open(store, &OpenOptions::writable()).unwrap();
    assert_eq!(common::read(&mut device, 0, 4096).unwrap(), [OLD; 4096], "it has landed");
    common::write(&mut device, 0, &[NEW; 4096]).unwrap();
    drop(device);
    let mut device = FileDevice::open(store, &OpenOptions::read_only()).unwrap();
    assert_eq!(common::read(&mut device, 0, 4096).unwrap(), [NEW; 4096]);
}

/// The process that is killed.
struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(store: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write_when_told", "--nocapture"])
            .env(STORE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut writer = Self { child, lines };
        writer.await_line("open");
        writer
    }

    fn write_and_die(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        self.await_line("submitted");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn await_line(&mut self, expected: &str) {
        let said = self.lines.by_ref().map_while(Result::ok).any(|line| line == expected);
        assert!(said, "the child has ended without a word of \"{expected}\"");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A block device whose disk can be stopped. Fields in the order in which they have to go.
struct Disk {
    block_device: LoopDevice,
    _fuse: Fuse,
    nbdkit: Process,
    directory: TempDir,
}

impl Disk {
    /// `None`, and a word about it, where there is none to be had.
    fn new() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let (socket, folder) = (directory.path().join("socket"), directory.path().join("fuse"));
        std::fs::create_dir(&folder).unwrap();
        let nbdkit = Command::new("nbdkit").args(["-f", "-U"]).arg(&socket).args(["memory", "64M"]).spawn();
        let mut nbdkit = Process(nbdkit.inspect_err(|error| eprintln!("SKIPPED: nbdkit: {error}")).ok()?);
        let uri = format!("nbd+unix:///?socket={}", socket.display());
        let mut fuse = Fuse { folder, process: None };
        while !socket.exists() {
            assert!(nbdkit.0.try_wait().unwrap().is_none(), "nbdkit has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        let process = Command::new("nbdfuse").arg(&fuse.folder).arg(uri).spawn();
        let process = process.inspect_err(|error| eprintln!("SKIPPED: nbdfuse: {error}")).ok()?;
        let process = fuse.process.insert(Process(process));
        let file = fuse.folder.join("nbd");
        while !file.exists() {
            if process.0.try_wait().unwrap().is_some() {
                eprintln!("SKIPPED: nbdfuse cannot mount");
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let block_device = LoopDevice::attach(&file, 512)?;
        Some(Self { block_device, _fuse: fuse, nbdkit, directory })
    }

    /// Makes an ext4 on it. `None`, and a word about it, where it cannot be mounted.
    fn mount(&self) -> Option<Mounted> {
        let folder = self.directory.path().join("mounted");
        std::fs::create_dir(&folder).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(self.block_device.path()).status();
        let mounted = Command::new("mount").arg(self.block_device.path()).arg(&folder).status();
        if [made, mounted].into_iter().all(|status| status.is_ok_and(|status| status.success())) {
            return Some(Mounted(folder));
        }
        eprintln!("SKIPPED: no ext4 to be mounted");
        None
    }

    /// Stops the disk, until what this returns is dropped.
    fn freeze(&self) -> Frozen {
        let pid = Pid::from_child(&self.nbdkit.0);
        let frozen = Frozen(pid);
        kill_process(pid, Signal::STOP).unwrap();
        let status = format!("/proc/{}/stat", self.nbdkit.0.id());
        while !std::fs::read_to_string(&status).unwrap().contains(") T ") {
            std::thread::yield_now();
        }
        frozen
    }
}

struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // After a failure, a write may have to end first.
        for _ in 0..100 {
            if Command::new("umount").arg(&self.0).status().is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A server as a file system with one file.
struct Fuse {
    folder: PathBuf,
    process: Option<Process>,
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.folder).stderr(Stdio::null()).status();
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
