//! Regular files and block devices.

mod engine;
mod job;
mod open;
mod options;
mod probe;
mod refused;
mod threads;
mod uring;

pub use open::OpenError;
pub(crate) use open::sync_parent;
pub use options::{Direct, EngineChoice, EngineKind, OpenOptions};

use crate::check::{check, completion};
use crate::{DeviceStats, HostDevice, LoggedOp, PowerSession, Presence, StoreLock};
use engine::{Engine, Finished};
use job::{Job, Medium};
use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use probe::Findings;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

/// A regular file or a block device.
///
/// Goes past the page cache where it can, runs on io_uring or on threads, and holds the lock of the
/// store while it lives. Dropping it waits for the system calls under way and forgets operations
/// that had not started; their completions are lost.
///
/// The size is read once, at opening. An operation on a part of the file that has been truncated
/// away since fails with EIO or, for a write, brings that part back.
pub struct FileDevice {
    // Before `lock`: what is in flight must end before somebody else may open the store.
    engine: Box<dyn Engine>,
    engine_kind: EngineKind,
    engine_note: Option<String>,
    /// Completions of operations that did not pass the check.
    refusals: Vec<Completion>,
    /// Kept for its allocation.
    finished: Vec<Finished>,
    outstanding: usize,
    stats: DeviceStats,
    medium: Medium,
    findings: Findings,
    file: Arc<File>,
    lock: Option<StoreLock>,
}

impl FileDevice {
    /// How system calls are made.
    #[must_use]
    pub fn engine(&self) -> EngineKind {
        self.engine_kind
    }

    /// Why threads are used although io_uring would have been preferred.
    #[must_use]
    pub fn engine_note(&self) -> Option<&str> {
        self.engine_note.as_deref()
    }

    /// Whether I/O goes past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.findings.is_direct
    }

    /// Why I/O goes through the page cache although that was not asked for.
    #[must_use]
    pub fn direct_note(&self) -> Option<&str> {
        self.findings.direct_note.as_deref()
    }

    /// Whether this is a block device, as opposed to a regular file.
    #[must_use]
    pub fn is_block_device(&self) -> bool {
        self.findings.is_block_device
    }

    /// The lock, if one was taken.
    #[must_use]
    pub fn lock(&self) -> Option<&StoreLock> {
        self.lock.as_ref()
    }

    /// Why writes of this process may outlast its lock if it is killed: a file system without the
    /// locks that would keep the next one waiting, or another program's lock in their place.
    #[must_use]
    pub fn fence_note(&self) -> Option<&str> {
        self.lock.as_ref()?.fence_note()
    }

    /// Under which power this runs. `None` when that cannot be told: without `/proc`, or for a block device whose
    /// attachments the kernel does not count (before Linux 5.15).
    #[must_use]
    pub fn session(&self) -> Option<PowerSession> {
        PowerSession::of(&self.file)
    }

    /// Hands out refusals and what the engine has put into `finished`.
    fn hand_out(&mut self, completions: &mut Vec<Completion>) {
        self.outstanding -= self.refusals.len() + self.finished.len();
        completions.append(&mut self.refusals);
        for (job, result) in self.finished.drain(..) {
            self.medium.refused.extend(job.refused());
            completions.push(job.complete(result));
        }
    }
}

impl BlockDevice for FileDevice {
    fn geometry(&self) -> DeviceGeometry {
        self.findings.geometry
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.outstanding += 1;
        match check(&self.findings.geometry, &op) {
            Ok(()) => {
                self.stats.count(LoggedOp::of(&op));
                self.engine.submit(Job::new(id, op, self.medium));
            }
            Err(error) => self.refusals.push(completion(id, op, Err(error))),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.engine.poll(&mut self.finished);
        self.hand_out(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        if self.refusals.is_empty() {
            self.engine.wait(&mut self.finished);
        } else {
            self.engine.poll(&mut self.finished);
        }
        self.hand_out(completions);
    }

    fn outstanding(&self) -> usize {
        self.outstanding
    }
}

impl HostDevice for FileDevice {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.engine.completion_fd())
    }

    fn clear_wakeup(&self) {
        self.engine.clear_wakeup();
    }

    fn description(&self) -> String {
        let kind = if self.is_block_device() { "block device" } else { "regular file" };
        let cache = match (self.is_direct(), self.direct_note()) {
            (true, _) => "O_DIRECT".to_owned(),
            (false, Some(note)) => format!("page cache ({note})"),
            (false, None) => "page cache".to_owned(),
        };
        let engine = match (self.engine(), self.engine_note()) {
            (EngineKind::Uring, _) => "io_uring".to_owned(),
            (EngineKind::Threads, Some(note)) => format!("threads ({note})"),
            (EngineKind::Threads, None) => "threads".to_owned(),
        };
        format!("{kind}, {cache}, {engine}")
    }

    fn stats(&self) -> DeviceStats {
        self.stats
    }

    fn presence(&self) -> Presence {
        // Without an answer nothing is known to be wrong.
        let Ok(metadata) = self.file.metadata() else { return Presence::There };
        if self.findings.is_block_device {
            let number = metadata.rdev();
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            let is_known = Path::new("/sys/dev/block").exists();
            let is_there = Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists();
            return if is_known && !is_there { Presence::Gone } else { Presence::There };
        }
        if metadata.nlink() == 0 { Presence::Unlinked } else { Presence::There }
    }

    /// A regular file is made longer, durably. A block device grows by other means; this only notices it.
    fn grow(&mut self, size_bytes: u64) -> io::Result<()> {
        if !self.findings.is_block_device && size_bytes > self.file.metadata()?.len() {
            self.file.set_len(size_bytes)?;
            self.file.sync_all()?;
        }
        let geometry = &mut self.findings.geometry;
        let (before, now) = (geometry.size_bytes, probe::size_bytes(&self.file, geometry.logical_block)?);
        if now < before {
            let why = format!("it has shrunk from {before} bytes to {now}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        geometry.size_bytes = now;
        Ok(())
    }
}

impl fmt::Debug for FileDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileDevice")
            .field("findings", &self.findings)
            .field("engine", &self.engine_kind)
            .field("outstanding", &self.outstanding)
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}
