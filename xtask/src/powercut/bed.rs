//! The files of a run: the disk of the store before and after it, the log and the trace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::guest::{Guest, succeed};

/// The first program of the guest.
const INIT: &str = include_str!("guest/init.sh");

const DISK_BYTES: u64 = 64 << 20;
const LOG_BYTES: u64 = 16 << 30;
const TRACE_BYTES: u64 = 64 << 20;

/// The guest and what it leaves.
#[derive(Debug)]
pub(super) struct Bed(Guest);

impl Bed {
    /// Of the workspace at `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self(Guest::new(root, "powercut"))
    }

    /// The disk of the store before the guest ran.
    pub(super) fn base(&self) -> PathBuf {
        self.0.file("base.img")
    }

    /// The disk of the store after it.
    pub(super) fn disk(&self) -> PathBuf {
        self.0.file("disk.img")
    }

    /// What dm-log-writes recorded.
    pub(super) fn log(&self) -> PathBuf {
        self.0.file("log.img")
    }

    /// What the client recorded.
    pub(super) fn trace(&self) -> PathBuf {
        self.0.file("trace.img")
    }

    /// Prepares the guest, and makes an empty store.
    ///
    /// # Errors
    /// Something cannot be had, or built.
    pub(super) fn prepare(&self) -> Result<()> {
        let programs = self.0.prepare(INIT)?;
        for (path, size) in [(self.log(), LOG_BYTES), (self.trace(), TRACE_BYTES)] {
            // Anew, so that nothing of an earlier run can be taken for part of this one.
            File::create(path)?.set_len(size)?;
        }
        let base = self.base();
        let size = DISK_BYTES.to_string();
        let mut init = Command::new(programs.join("offshoot"));
        init.arg("init").arg(&base).args(["--force", "--name", "powercut", "--cluster-size", "64K"]);
        let _ = fs::remove_file(&base);
        succeed(init.args(["--size", &size]))?;
        fs::copy(base, self.disk())?;
        Ok(())
    }

    /// Boots the guest and waits until it has switched itself off. Returns what it showed if its client did not come
    /// to its end: then a verb or request has failed, and what was recorded until then is as good as any.
    ///
    /// # Errors
    /// It cannot be booted, or never ends.
    pub(super) fn boot(&self, seed: u64, seconds: u64) -> Result<Option<String>> {
        let variables = [("POWERCUT_SEED", seed), ("POWERCUT_SECONDS", seconds)];
        let disks = [("disk", self.disk()), ("log", self.log()), ("trace", self.trace())];
        let ended = self.0.boot(&variables, &disks, seconds)?;
        Ok((!ended.says("guest: the client ended with 0")).then_some(ended.console))
    }
}
