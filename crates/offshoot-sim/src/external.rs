//! The external snapshot of every simulated store: a small disk that is full, ends within a cluster and a block, and is
//! read-only.

use crate::cell;
use crate::disk::{Caching, DiskState, SimDisk};
use crate::image::{SECTOR_BYTES, index};
use crate::pattern::{Version, fill};
use crate::violation::{Promise, Violation};
use offshoot_block::{BlockDevice, Buffer, DeviceOffset, DeviceOp, OpId};
use std::sync::LazyLock;
use uuid::Uuid;

/// The number of what is no lvol, which lvols have as their parent.
pub(crate) const NUMBER: u128 = u128::MAX;

/// What put its content there.
pub(crate) const VERSION: Version = Version::MAX;

/// Its size.
pub(crate) const SECTORS: usize = 41;

/// The same in bytes.
pub(crate) const BYTES: u64 = SECTORS as u64 * SECTOR_BYTES;

/// Smallest unit of I/O in bytes, whatever that of the store is.
const LOGICAL_BLOCK: u32 = 512;

static CONTENT: LazyLock<DiskState> = LazyLock::new(|| {
    let mut disk = SimDisk::new(BYTES, LOGICAL_BLOCK, Caching::WriteThrough, 1);
    let mut buffer = Buffer::zeroed(index(BYTES));
    fill(buffer.as_mut_slice(), VERSION, &cell::cells(0..SECTORS));
    disk.submit(OpId(0), DeviceOp::Write { offset: DeviceOffset(0), buffer });
    disk.wait(&mut Vec::new());
    disk.state()
});

/// The disk, with nothing in flight.
pub(crate) fn disk(seed: u64) -> SimDisk {
    SimDisk::resume(CONTENT.clone(), seed)
}

/// What a store is opened with.
pub(crate) fn given(disk: &SimDisk) -> Vec<(String, SimDisk)> {
    vec![(uuid().to_string(), disk.clone())]
}

/// What a store is opened with of which nobody cares when it is read.
pub(crate) fn at_once() -> Vec<(String, SimDisk)> {
    given(&disk(1))
}

/// What lvols call it.
pub(crate) fn uuid() -> Uuid {
    Uuid::from_u128(NUMBER)
}

/// Nobody writes to it.
///
/// # Errors
/// Somebody has.
pub(crate) fn untouched(disk: &SimDisk) -> Result<(), Violation> {
    match disk.asked().changing {
        0 => Ok(()),
        asked => {
            let what = format!("{asked} operations would change the external snapshot");
            Err(Violation::new(Promise::D4, what))
        }
    }
}
