//! What a store lies on: a file, or a loop device over one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::common::skip;

/// Size of every store. Its lvols cannot fill it: whatever is refused for want of space is a mistake.
const STORE_BYTES: u64 = 96 << 20;

/// The kind of what a store lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    File,
    LoopDevice,
}

/// A place for a store, gone with this value.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The file or block device.
    pub(crate) store: PathBuf,
    /// Where a server listens. Not next to the store, whose path may be too long for a socket.
    pub(crate) socket: PathBuf,
    /// Where a server complains.
    pub(crate) log: PathBuf,
    // Detached before the folder with its file is removed.
    _loop_device: Option<LoopDevice>,
    folder: TempDir,
    _sockets: TempDir,
}

impl Ground {
    /// `None`, after a skip, where there are no loop devices to be had.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn new(medium: Medium, block_bytes: u32) -> Result<Option<Self>> {
        // Below the target folder and not in /tmp, which may be a file system in memory.
        let folder = TempDir::with_prefix_in("kills-", env!("CARGO_TARGET_TMPDIR"))?;
        let sockets = TempDir::with_prefix("offshoot-")?;
        let file = folder.path().join("store.img");
        File::create_new(&file)?.set_len(STORE_BYTES)?;
        let loop_device = match medium {
            Medium::File => None,
            Medium::LoopDevice => match LoopDevice::attach(&file, block_bytes) {
                Ok(device) => Some(device),
                Err(obstacle) => {
                    skip("kills on a loop device", &obstacle);
                    return Ok(None);
                }
            },
        };
        Ok(Some(Self {
            store: loop_device.as_ref().map_or(file, |device| device.path.clone()),
            socket: sockets.path().join("nbd.sock"),
            log: folder.path().join("serve.log"),
            _loop_device: loop_device,
            folder,
            _sockets: sockets,
        }))
    }

    /// Leaves the file of the store for whoever wants to look into it, and returns its folder.
    pub(crate) fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// A loop device over a file, detached with this value.
#[derive(Debug)]
struct LoopDevice {
    losetup: PathBuf,
    path: PathBuf,
}

impl LoopDevice {
    /// The obstacle, where there are none to be had.
    fn attach(file: &Path, sector_bytes: u32) -> Result<Self, String> {
        // A user's PATH often does not lead to the programs of the system.
        let places = ["/usr/sbin/losetup", "/sbin/losetup", "/usr/bin/losetup"].map(PathBuf::from);
        let losetup = places.into_iter().find(|path| path.is_file()).ok_or("losetup is not installed")?;
        let sector_size = format!("--sector-size={sector_bytes}");
        let output = Command::new(&losetup).args(["--find", "--show", &sector_size]).arg(file).output();
        let output = output.context("cannot run losetup").map_err(|error| format!("{error:#}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let path = String::from_utf8_lossy(&output.stdout).trim().into();
        Ok(Self { losetup, path })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let status = Command::new(&self.losetup).arg("--detach").arg(&self.path).status();
        if !std::thread::panicking() {
            assert!(status.is_ok_and(|status| status.success()), "{} stays attached", self.path.display());
        }
    }
}
