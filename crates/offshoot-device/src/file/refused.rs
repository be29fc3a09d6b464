//! Which ways of giving space back a file has refused.

use rustix::fs::FallocateFlags;

/// A way to zero or discard a range by `fallocate(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reclaim {
    /// The range reads as zeros and its space goes back to the file system. On a block device:
    /// the device zeroes it by itself and may unmap it.
    PunchHole,
    /// The range reads as zeros and keeps its space.
    ZeroRange,
    /// Discard of a block device; content undefined. Kernels that have lost this mode refuse it.
    Discard,
}

impl Reclaim {
    pub(super) fn flags(self) -> FallocateFlags {
        match self {
            Self::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Self::ZeroRange => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            Self::Discard => {
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE | FallocateFlags::NO_HIDE_STALE
            }
        }
    }
}

/// A set of [`Reclaim`]. Remembered per device, so that an unsupported call is made once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused(u8);

impl Refused {
    pub(super) fn insert(&mut self, how: Reclaim) {
        self.0 |= 1 << how as u8;
    }

    pub(super) fn contains(self, how: Reclaim) -> bool {
        self.0 & 1 << how as u8 != 0
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
