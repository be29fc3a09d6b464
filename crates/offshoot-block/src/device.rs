//! Operations, completions and the [`BlockDevice`] trait.

use crate::Buffer;
use alloc::vec::Vec;
use core::fmt;
use thiserror::Error;

/// A position on a device, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceOffset(pub u64);

impl DeviceOffset {
    /// The position `bytes` further on.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl fmt::Display for DeviceOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Names one operation between its submission and its completion. The submitter chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// One operation on a device. Offsets and lengths are multiples of the logical block.
#[derive(Clone, Debug)]
pub enum DeviceOp {
    /// Fills the whole buffer from the device.
    Read {
        /// Where to read.
        offset: DeviceOffset,
        /// Filled up to its length.
        buffer: Buffer,
    },
    /// Writes the whole buffer. Volatile until a later [`DeviceOp::Sync`] completes.
    Write {
        /// Where to write.
        offset: DeviceOffset,
        /// What to write.
        buffer: Buffer,
    },
    /// Makes a range read as zeros, whatever the device has to do for it.
    WriteZeroes {
        /// Start of the range.
        offset: DeviceOffset,
        /// Length of the range in bytes.
        len: u64,
        /// Whether the device may give the space back.
        may_unmap: bool,
    },
    /// Tells the device that the range is no longer needed. Its content is undefined afterwards.
    /// A device that cannot discard completes it with success.
    Unmap {
        /// Start of the range.
        offset: DeviceOffset,
        /// Length of the range in bytes.
        len: u64,
    },
    /// Makes every operation that *completed* before this one was submitted durable.
    Sync,
}

/// The kind of a [`DeviceOp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// [`DeviceOp::Read`].
    Read,
    /// [`DeviceOp::Write`].
    Write,
    /// [`DeviceOp::WriteZeroes`].
    WriteZeroes,
    /// [`DeviceOp::Unmap`].
    Unmap,
    /// [`DeviceOp::Sync`].
    Sync,
}

impl OpKind {
    /// The kind of `op`.
    #[must_use]
    pub fn of(op: &DeviceOp) -> Self {
        match op {
            DeviceOp::Read { .. } => Self::Read,
            DeviceOp::Write { .. } => Self::Write,
            DeviceOp::WriteZeroes { .. } => Self::WriteZeroes,
            DeviceOp::Unmap { .. } => Self::Unmap,
            DeviceOp::Sync => Self::Sync,
        }
    }

    /// Whether an operation of this kind changes what the device holds.
    #[must_use]
    pub fn modifies(self) -> bool {
        matches!(self, Self::Write | Self::WriteZeroes | Self::Unmap)
    }
}

/// The end of one operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation.
    pub id: OpId,
    /// The buffer of a read or write, also when it failed.
    pub buffer: Option<Buffer>,
    /// How it went. After an error the content of a written range is undefined per 512-byte sector
    /// (old or new), and that of a read buffer altogether.
    pub result: Result<(), DeviceError>,
}

/// Why a device operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device or the operating system reported an error.
    #[error("i/o error (errno {errno})")]
    Io {
        /// The errno value, 5 (EIO) where none is known.
        errno: i32,
    },
    /// A sparse file could not grow into its file system.
    #[error("no space left on the device below the store")]
    NoSpace,
    /// The range does not lie within the device.
    #[error("range {offset}+{len:#x} is outside the device")]
    OutOfRange {
        /// Start of the range.
        offset: DeviceOffset,
        /// Its length in bytes.
        len: u64,
    },
    /// Offset or length is no multiple of the logical block.
    #[error("range {offset}+{len:#x} is not aligned to the logical block")]
    Misaligned {
        /// Start of the range.
        offset: DeviceOffset,
        /// Its length in bytes.
        len: u64,
    },
    /// The device was opened read-only.
    #[error("the device is read-only")]
    ReadOnly,
}

/// What a device is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceGeometry {
    /// Size in bytes, a multiple of the logical block.
    pub size_bytes: u64,
    /// Smallest unit of I/O in bytes: 512 or 4096.
    pub logical_block: u32,
    /// Unit that the device writes without read-modify-write, in bytes.
    pub physical_block: u32,
    /// Whether a completed write may be lost by a power cut before a sync.
    pub volatile_cache: bool,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A device: the only door to storage.
///
/// Operations run in any order and complete in any order. A submitter that needs an order waits for
/// the completion of what must come first. A driver never blocks in [`BlockDevice::submit`] or
/// [`BlockDevice::poll`].
pub trait BlockDevice {
    /// What the device is like.
    fn geometry(&self) -> DeviceGeometry;

    /// Takes an operation. It may be held back until the next [`BlockDevice::poll`] or
    /// [`BlockDevice::wait`]. A range that is outside the device or misaligned completes with an error.
    fn submit(&mut self, id: OpId, op: DeviceOp);

    /// Starts what was submitted and appends what has completed, without waiting.
    fn poll(&mut self, completions: &mut Vec<Completion>);

    /// Like [`BlockDevice::poll`], but waits until at least one operation has completed. Returns at
    /// once when nothing is outstanding.
    fn wait(&mut self, completions: &mut Vec<Completion>);

    /// Operations that were submitted and whose completion has not been handed out.
    fn outstanding(&self) -> usize;
}

impl<D: BlockDevice + ?Sized> BlockDevice for alloc::boxed::Box<D> {
    fn geometry(&self) -> DeviceGeometry {
        (**self).geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        (**self).submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        (**self).poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        (**self).wait(completions);
    }

    fn outstanding(&self) -> usize {
        (**self).outstanding()
    }
}

impl<D: BlockDevice + ?Sized> BlockDevice for &mut D {
    fn geometry(&self) -> DeviceGeometry {
        (**self).geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        (**self).submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        (**self).poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        (**self).wait(completions);
    }

    fn outstanding(&self) -> usize {
        (**self).outstanding()
    }
}
