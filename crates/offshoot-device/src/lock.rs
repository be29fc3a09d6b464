//! The lock that keeps a second process, or a second open in this one, off a store.
//!
//! The choice is `flock(2)` on a descriptor of its own:
//!
//! - It belongs to the open file description. Two opens in one process exclude each other, and
//!   closing some other descriptor of the file does not drop it, as it would with a classic
//!   `fcntl` lock. Open-file-description locks of `fcntl` would do as well, but `/proc/locks` hides
//!   their holder (pid -1), and an operator wants the pid.
//! - The kernel drops it with the process, however that ends. The descriptor is never given to
//!   io_uring, whose requests keep a file open beyond the death of their process.
//! - Its holder stands in `/proc/locks` ([`holder`]).
//!
//! Those requests are the reason for a second lock, which nobody meets while a process lives: the
//! descriptor that writes carries a [`fence`], and a lock is granted only when the fence of a killed
//! process has gone.
//!
//! On a block device `flock` sees the device node, and there may be several nodes, and it knows
//! nothing of file systems. A [`FileDevice`](crate::FileDevice) that is locked exclusively therefore
//! also claims the block device itself (`O_EXCL`), which fails on a second claim through any node and
//! on a device that is mounted or part of another one. As a fence does, the claim lasts as long as the
//! requests of a killed process. It has to be on the descriptor that does the I/O: while another one has
//! it, the kernel may refuse to zero or discard (EBUSY). A reader claims nothing, and is therefore only
//! kept out of the node that the writer opened.
//!
//! The lock is advisory. It binds programs that ask for it: this one, and udev, which takes a shared
//! lock while it probes a block device. That one is waited out for up to [`PATIENCE`].

mod fence;
mod holder;

use rustix::fs::OFlags;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How much a [`StoreLock`] excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Everybody else: for writers.
    Exclusive,
    /// Writers: for any number of readers.
    Shared,
}

/// The right to use a store, held until this is dropped or the process ends.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
    mode: LockMode,
    fence_note: Option<String>,
}

/// Why a lock was not granted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody holds a lock that excludes this one.
    #[error("{}", held(*pid, *exclusive))]
    Held {
        /// The process, where `/proc` shows it.
        pid: Option<u32>,
        /// Whether it is known to hold an exclusive lock.
        exclusive: bool,
    },
    /// The block device is claimed without a lock.
    #[error("in use: mounted, part of another device, or open by another name")]
    InUse,
    /// A process that is gone has written what the disk has not carried out yet.
    #[error("writes of a process that died are still under way after {} s", waited.as_secs())]
    WritesUnderWay {
        /// How long they were waited for.
        waited: Duration,
    },
    /// The file could not be opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How long to wait for a shared lock on a block device to go away: udev probes for milliseconds.
/// And for a claim: what a killed process had in flight keeps it for a moment.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// How long to sleep before looking again.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

impl StoreLock {
    /// Excludes everybody else from the file or block device at `path`.
    ///
    /// # Errors
    /// [`LockError`]
    pub fn exclusive(path: &Path) -> Result<Self, LockError> {
        Self::acquire(path, LockMode::Exclusive)
    }

    /// Excludes writers from the file or block device at `path`.
    ///
    /// # Errors
    /// [`LockError`]
    pub fn shared(path: &Path) -> Result<Self, LockError> {
        Self::acquire(path, LockMode::Shared)
    }

    /// Takes the lock of the file or block device at `path`. Does not wait for a process to release
    /// it, but may sleep for half a second while udev looks at a block device, and for half a minute
    /// while writes of a process that was killed are under way.
    ///
    /// # Errors
    /// [`LockError`]
    pub fn acquire(path: &Path, mode: LockMode) -> Result<Self, LockError> {
        Self::acquire_within(path, mode, fence::PATIENCE)
    }

    /// As [`StoreLock::acquire`], with another patience for the writes of a killed process.
    fn acquire_within(path: &Path, mode: LockMode, patience: Duration) -> Result<Self, LockError> {
        let lock = Self::acquire_flock(path, mode)?;
        fence::outlast(&lock.file, patience)?;
        Ok(lock)
    }

    fn acquire_flock(path: &Path, mode: LockMode) -> Result<Self, LockError> {
        let deadline = Instant::now() + PATIENCE;
        let is_block_device = std::fs::metadata(path)?.file_type().is_block_device();
        loop {
            match Self::attempt(path, mode) {
                Err(LockError::Held { exclusive: false, .. })
                    if is_block_device && mode == LockMode::Exclusive && Instant::now() < deadline =>
                {
                    std::thread::sleep(PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    fn attempt(path: &Path, mode: LockMode) -> Result<Self, LockError> {
        // Without O_NONBLOCK a path that has become a FIFO would stop us here.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let locked = match mode {
            LockMode::Exclusive => file.try_lock(),
            LockMode::Shared => file.try_lock_shared(),
        };
        match locked {
            Ok(()) => Ok(Self { file, mode, fence_note: None }),
            Err(TryLockError::Error(error)) => Err(error.into()),
            Err(TryLockError::WouldBlock) => {
                let holder = holder::of(&file.metadata()?);
                // What refuses a shared lock is exclusive.
                let unknown = LockError::Held { pid: None, exclusive: mode == LockMode::Shared };
                Err(holder.map_or(unknown, holder::Holder::into_error))
            }
        }
    }

    /// How much the lock excludes.
    #[must_use]
    pub fn mode(&self) -> LockMode {
        self.mode
    }

    /// Fences off what is written through `writer`, a descriptor of the file that this
    /// [covers](Self::covers). Nobody but the holder of an exclusive lock has something to fence off.
    ///
    /// # Errors
    /// Those of `fcntl(2)`, but not those that mean that there is no such lock: see
    /// [`StoreLock::fence_note`].
    pub(crate) fn fence(&mut self, writer: &File) -> io::Result<()> {
        if self.mode == LockMode::Exclusive {
            self.fence_note = fence::raise(writer)?;
        }
        Ok(())
    }

    /// Why the next one does not wait for what this process has under way when it is killed.
    pub(crate) fn fence_note(&self) -> Option<&str> {
        self.fence_note.as_deref()
    }

    /// Whether this is the lock of `other`: paths may be replaced between a lock and an open.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn covers(&self, other: &File) -> io::Result<bool> {
        let (own, other) = (self.file.metadata()?, other.metadata()?);
        Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
    }
}

fn held(pid: Option<u32>, exclusive: bool) -> String {
    let who = pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"));
    let how = if exclusive { "" } else { ", which reads it" };
    format!("held by {who}{how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_holder() {
        let table = [
            (Some(1234), true, "held by process 1234"),
            (Some(1234), false, "held by process 1234, which reads it"),
            (None, true, "held by another process"),
        ];
        for (pid, exclusive, expected) in table {
            assert_eq!(LockError::Held { pid, exclusive }.to_string(), expected);
        }
    }
}
