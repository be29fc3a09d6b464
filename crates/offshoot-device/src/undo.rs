//! Undoing what was done to a device: the undo file.
//!
//! [`UndoDevice`] stands before a device while something risky is done to it. Before a range is written for the first
//! time, its content goes into the undo file, and before *any* write begins, the file says what that write will bring.
//! Both are synced first. So whatever happens at whatever moment, each 512-byte sector of the device holds what it held
//! before, or something that the file knows of; a sector that holds anything else was changed by somebody else.
//! [`Undo`] reads the file again, compares the device with it, and puts everything back.
//!
//! The file is append-only but for its header, which says how much of it counts, and is written once that is durable. What
//! is behind was being written when the end came; nothing that it announces has begun. A bad record before is damage, and
//! so is a file that is shorter.

mod device;
mod file;
mod ranges;
mod restore;

pub use device::UndoDevice;
pub use file::{Undo, UndoLog, UndoOf};
pub use restore::{Compared, RestoreError};

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Bytes of a sector: what a device writes wholly or not at all.
const SECTOR: u64 = 512;

/// Bytes that are read or written at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Why an undo file is no good.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UndoError {
    /// The operating system does not give it, or does not take it.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It begins with something else than an undo file does.
    #[error("{path}: is not an undo file", path = .0.display())]
    NotUndo(PathBuf),
    /// A later version made it.
    #[error("{path}: an undo file of version {version}, this program reads version 1", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        version: u32,
    },
    /// A record that counts cannot be read.
    #[error("{path}: the record at byte {offset} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the record begins, in bytes.
        offset: u64,
    },
    /// It was longer once.
    #[error("{path}: has {found} bytes of {expected}", path = path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes of it that count.
        expected: u64,
    },
}
