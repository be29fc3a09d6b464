//! Counting and logging of operations, for tests of what a verb costs.

use offshoot_block::{DeviceOffset, DeviceOp, OpKind};

/// An operation without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoggedOp {
    /// What was done.
    pub kind: OpKind,
    /// Start of the range; 0 for a sync.
    pub offset: DeviceOffset,
    /// Length of the range in bytes; 0 for a sync.
    pub len: u64,
}

impl LoggedOp {
    /// The kind and range of `op`.
    #[must_use]
    pub fn of(op: &DeviceOp) -> Self {
        let (offset, len) = match op {
            DeviceOp::Read { offset, buffer } | DeviceOp::Write { offset, buffer } => {
                (*offset, buffer.len() as u64)
            }
            DeviceOp::WriteZeroes { offset, len, .. } | DeviceOp::Unmap { offset, len } => (*offset, *len),
            DeviceOp::Sync => (DeviceOffset(0), 0),
        };
        Self { kind: OpKind::of(op), offset, len }
    }
}

/// Number and bytes of the operations of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpCount {
    /// How many.
    pub ops: u64,
    /// Their lengths together, in bytes.
    pub bytes: u64,
}

impl OpCount {
    fn add(&mut self, bytes: u64) {
        self.ops += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What a device was asked to do since it was made or since its statistics were reset.
///
/// Operations that were refused (out of range, misaligned, read-only) are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Reads.
    pub reads: OpCount,
    /// Writes.
    pub writes: OpCount,
    /// Ranges made zero.
    pub write_zeroes: OpCount,
    /// Ranges discarded.
    pub unmaps: OpCount,
    /// Syncs.
    pub syncs: u64,
}

impl DeviceStats {
    pub(crate) fn count(&mut self, op: LoggedOp) {
        match op.kind {
            OpKind::Read => self.reads.add(op.len),
            OpKind::Write => self.writes.add(op.len),
            OpKind::WriteZeroes => self.write_zeroes.add(op.len),
            OpKind::Unmap => self.unmaps.add(op.len),
            OpKind::Sync => self.syncs += 1,
        }
    }
}
