//! The test that every operation passes before a driver acts on it, and how one ends.

use crate::LoggedOp;
use offshoot_block::{Completion, DeviceError, DeviceGeometry, DeviceOp, OpId};

/// Whether a device of this geometry can take `op`. An empty range is fine anywhere within the device.
///
/// # Errors
/// It cannot: the device is read-only, or the range is not on its blocks or not within it.
pub fn check(geometry: &DeviceGeometry, op: &DeviceOp) -> Result<(), DeviceError> {
    let LoggedOp { kind, offset, len } = LoggedOp::of(op);
    if geometry.read_only && kind.modifies() {
        return Err(DeviceError::ReadOnly);
    }
    if !(offset.0 | len).is_multiple_of(u64::from(geometry.logical_block)) {
        return Err(DeviceError::Misaligned { offset, len });
    }
    match offset.0.checked_add(len) {
        Some(end) if end <= geometry.size_bytes => Ok(()),
        _ => Err(DeviceError::OutOfRange { offset, len }),
    }
}

/// The end of `op`, which gives its buffer back.
#[must_use]
pub fn completion(id: OpId, op: DeviceOp, result: Result<(), DeviceError>) -> Completion {
    let buffer = match op {
        DeviceOp::Read { buffer, .. } | DeviceOp::Write { buffer, .. } => Some(buffer),
        DeviceOp::WriteZeroes { .. } | DeviceOp::Unmap { .. } | DeviceOp::Sync => None,
    };
    Completion { id, buffer, result }
}

/// Whether a device may have this logical block.
pub(crate) fn is_logical_block(bytes: u32) -> bool {
    matches!(bytes, 512 | 4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_block::{Buffer, DeviceOffset};

    fn verdict(read_only: bool, op: &DeviceOp) -> Result<(), DeviceError> {
        let geometry = DeviceGeometry {
            size_bytes: 8192,
            logical_block: 512,
            physical_block: 4096,
            volatile_cache: false,
            read_only,
        };
        check(&geometry, op)
    }

    #[test]
    fn ranges_lie_within_the_device_and_on_its_blocks() {
        let misaligned = |offset, len| Err(DeviceError::Misaligned { offset: DeviceOffset(offset), len });
        let outside = |offset, len| Err(DeviceError::OutOfRange { offset: DeviceOffset(offset), len });
        let last = u64::MAX - 511;
        let table = [
            (0, 0, Ok(())),
            (0, 8192, Ok(())),
            (7680, 512, Ok(())),
            (8192, 0, Ok(())),
            (1, 512, misaligned(1, 512)),
            (512, 511, misaligned(512, 511)),
            (8192, 512, outside(8192, 512)),
            (7680, 1024, outside(7680, 1024)),
            (8704, 0, outside(8704, 0)),
            (last, 512, outside(last, 512)),
            (512, last, outside(512, last)),
        ];
        for (offset, len, expected) in table {
            let offset = DeviceOffset(offset);
            assert_eq!(verdict(false, &DeviceOp::Unmap { offset, len }), expected, "{offset}+{len}");
            let op = DeviceOp::WriteZeroes { offset, len, may_unmap: true };
            assert_eq!(verdict(false, &op), expected, "{offset}+{len}");
        }
    }

    #[test]
    fn a_read_only_device_takes_reads_and_syncs() {
        let offset = DeviceOffset(0);
        let read = DeviceOp::Read { offset, buffer: Buffer::zeroed(512) };
        let write = DeviceOp::Write { offset, buffer: Buffer::zeroed(512) };
        assert_eq!(verdict(true, &read), Ok(()));
        assert_eq!(verdict(true, &DeviceOp::Sync), Ok(()));
        assert_eq!(verdict(true, &write), Err(DeviceError::ReadOnly));
        assert_eq!(verdict(true, &DeviceOp::Unmap { offset, len: 512 }), Err(DeviceError::ReadOnly));
    }
}
