//! Putting back what a device held.

use super::file::{Kind, Record, Undo, index};
use super::ranges::Ranges;
use super::{PIECE_BYTES, SECTOR, UndoError};
use crc32c::crc32c;
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceError, DeviceOffset, DeviceOp, OpId};
use std::collections::HashSet;
use thiserror::Error;

/// Why a device was not put back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The undo file cannot be read.
    #[error("{0}")]
    Undo(#[from] UndoError),
    /// The device failed.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// The device is not the one, or not any more.
    #[error("the undo file is about a device of {expected} bytes, this one has {found}")]
    Size {
        /// Bytes of the device that the file is about.
        expected: u64,
        /// Bytes of this one.
        found: u64,
    },
}

/// What the ranges that an undo file knows hold now, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// What they held before.
    pub old: u64,
    /// Something that the file says was written.
    pub written: u64,
    /// Something else: another device, or somebody has changed it since.
    pub foreign: u64,
    /// The first of those, in bytes from the start of the device.
    pub first_foreign: Option<u64>,
}

/// What was announced.
#[derive(Default)]
struct Announced {
    /// Position and CRC of sectors.
    sectors: HashSet<(u64, u32)>,
    zeros: Ranges,
}

impl Undo {
    /// Holds the device against the file: does everything there come from before, or from what the file says was done?
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn compare(&self, device: &mut impl BlockDevice) -> Result<Compared, RestoreError> {
        self.check_size(device)?;
        let announced = self.announced()?;
        let mut compared = Compared::default();
        for record in self.records.iter().filter(|record| record.is_before()) {
            let old = self.payload(record)?;
            for start in record.range().step_by(index(PIECE_BYTES)) {
                let len = index(PIECE_BYTES.min(record.offset + record.len - start));
                let op = DeviceOp::Read { offset: DeviceOffset(start), buffer: Buffer::zeroed(len) };
                let found = match run(device, op) {
                    Ok(Some(buffer)) => buffer,
                    // What could not be read then may not be readable now.
                    _ if record.kind == Kind::Unreadable => continue,
                    Ok(None) => continue,
                    Err(error) => return Err(error.into()),
                };
                for (at, sector) in
                    (start..).step_by(index(SECTOR)).zip(found.as_slice().chunks(index(SECTOR)))
                {
                    let within = index(at - record.offset);
                    let is_old = match record.kind {
                        Kind::Bytes => old.get(within..within + sector.len()) == Some(sector),
                        _ => is_zero(sector),
                    };
                    compared
                        .count(at, is_old || record.kind == Kind::Unreadable, || announced.knows(at, sector));
                }
            }
        }
        Ok(compared)
    }

    /// Puts everything back, durably. May be stopped at any moment and done again.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(&self, device: &mut impl BlockDevice) -> Result<(), RestoreError> {
        self.check_size(device)?;
        for record in self.records.iter().filter(|record| record.is_before()) {
            let offset = DeviceOffset(record.offset);
            let op = match record.kind {
                Kind::Bytes => DeviceOp::Write { offset, buffer: Buffer::copy_of(&self.payload(record)?) },
                Kind::Zeros => DeviceOp::WriteZeroes { offset, len: record.len, may_unmap: true },
                Kind::Unreadable | Kind::Writes | Kind::WritesZeros => continue,
            };
            run(device, op)?;
        }
        run(device, DeviceOp::Sync)?;
        Ok(())
    }

    fn check_size(&self, device: &impl BlockDevice) -> Result<(), RestoreError> {
        let (expected, found) = (self.of().device_bytes, device.geometry().size_bytes);
        if expected == found { Ok(()) } else { Err(RestoreError::Size { expected, found }) }
    }

    fn announced(&self) -> Result<Announced, UndoError> {
        let mut announced = Announced::default();
        for record in &self.records {
            match record.kind {
                Kind::Writes => announced.add(record, &self.payload(record)?),
                Kind::WritesZeros => drop(announced.zeros.add(record.range())),
                Kind::Bytes | Kind::Zeros | Kind::Unreadable => {}
            }
        }
        Ok(announced)
    }
}

impl Announced {
    fn add(&mut self, record: &Record, sums: &[u8]) {
        let sums =
            sums.chunks_exact(4).map(|sum| sum.first_chunk().map_or(0, |sum| u32::from_le_bytes(*sum)));
        self.sectors.extend((record.offset..).step_by(index(SECTOR)).zip(sums));
    }

    fn knows(&self, at: u64, sector: &[u8]) -> bool {
        self.sectors.contains(&(at, crc32c(sector)))
            || is_zero(sector) && self.zeros.contains(at..at + sector.len() as u64)
    }
}

impl Compared {
    fn count(&mut self, at: u64, is_old: bool, was_written: impl FnOnce() -> bool) {
        if is_old {
            self.old += 1;
        } else if was_written() {
            self.written += 1;
        } else {
            self.foreign += 1;
            self.first_foreign.get_or_insert(at);
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Runs one operation on a device that nothing else uses. Returns the buffer of a read.
fn run(device: &mut impl BlockDevice, op: DeviceOp) -> Result<Option<Buffer>, DeviceError> {
    device.submit(OpId(0), op);
    let mut completions = Vec::new();
    while completions.is_empty() {
        device.wait(&mut completions);
    }
    match completions.pop() {
        Some(Completion { buffer, result, .. }) => result.map(|()| buffer),
        None => Ok(None),
    }
}
