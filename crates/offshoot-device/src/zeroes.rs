//! Devices without content.

use crate::HostDevice;
use crate::check::{check, completion, is_logical_block};
use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use std::io;
use std::os::fd::BorrowedFd;

/// A device that forgets what is written and reads as zeros: the cost of everything above it.
#[derive(Debug)]
pub struct NullDevice(Hollow);

/// A device of zeros that refuses to be written, for what an lvol without a parent inherits.
/// spdk: lib/blob/zeroes.c
#[derive(Debug)]
pub struct ZeroesDevice(Hollow);

impl NullDevice {
    /// A device of `size_bytes`, rounded down to the logical block.
    ///
    /// # Panics
    /// When `logical_block` is neither 512 nor 4096.
    #[must_use]
    pub fn new(size_bytes: u64, logical_block: u32) -> Self {
        Self(Hollow::new(size_bytes, logical_block, false))
    }
}

impl ZeroesDevice {
    /// A read-only device of `size_bytes`, rounded down to the logical block.
    ///
    /// # Panics
    /// When `logical_block` is neither 512 nor 4096.
    #[must_use]
    pub fn new(size_bytes: u64, logical_block: u32) -> Self {
        Self(Hollow::new(size_bytes, logical_block, true))
    }
}

/// What both have in common.
#[derive(Debug)]
struct Hollow {
    geometry: DeviceGeometry,
    completed: Vec<Completion>,
}

impl Hollow {
    fn new(size_bytes: u64, logical_block: u32, read_only: bool) -> Self {
        assert!(is_logical_block(logical_block), "logical block of {logical_block} bytes");
        let geometry = DeviceGeometry {
            size_bytes: size_bytes - size_bytes % u64::from(logical_block),
            logical_block,
            physical_block: logical_block,
            volatile_cache: false,
            read_only,
        };
        Self { geometry, completed: Vec::new() }
    }

    fn submit(&mut self, id: OpId, mut op: DeviceOp) {
        let result = check(&self.geometry, &op);
        if let (Ok(()), DeviceOp::Read { buffer, .. }) = (&result, &mut op) {
            buffer.as_mut_slice().fill(0);
        }
        self.completed.push(completion(id, op, result));
    }
}

macro_rules! impl_device {
    ($device:ty, $description:literal) => {
        impl BlockDevice for $device {
            fn geometry(&self) -> DeviceGeometry {
                self.0.geometry
            }

            fn submit(&mut self, id: OpId, op: DeviceOp) {
                self.0.submit(id, op);
            }

            fn poll(&mut self, completions: &mut Vec<Completion>) {
                completions.append(&mut self.0.completed);
            }

            fn wait(&mut self, completions: &mut Vec<Completion>) {
                self.poll(completions);
            }

            fn outstanding(&self) -> usize {
                self.0.completed.len()
            }
        }

        impl HostDevice for $device {
            fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
                None
            }

            fn clear_wakeup(&self) {}

            fn description(&self) -> String {
                $description.to_owned()
            }

            fn grow(&mut self, size_bytes: u64) -> io::Result<()> {
                let size_bytes = size_bytes - size_bytes % u64::from(self.0.geometry.logical_block);
                self.0.geometry.size_bytes = self.0.geometry.size_bytes.max(size_bytes);
                Ok(())
            }
        }
    };
}

impl_device!(NullDevice, "null");
impl_device!(ZeroesDevice, "zeroes");

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_block::{Buffer, DeviceError, DeviceOffset};

    /// How a write ends, and what is read from the same place afterwards.
    fn write_and_read(mut device: impl BlockDevice) -> (Result<(), DeviceError>, Vec<u8>) {
        let (offset, buffer) = (DeviceOffset(4096), Buffer::copy_of(&[7; 512]));
        let mut completions = Vec::new();
        device.submit(OpId(1), DeviceOp::Write { offset, buffer: buffer.clone() });
        device.submit(OpId(2), DeviceOp::Read { offset, buffer });
        assert_eq!(device.outstanding(), 2);
        device.wait(&mut completions);
        assert_eq!(device.outstanding(), 0);
        let read = completions.pop().unwrap().buffer.unwrap();
        (completions[0].result, read.as_slice().to_vec())
    }

    #[test]
    fn null_drops_writes() {
        assert_eq!(write_and_read(NullDevice::new(1 << 20, 512)), (Ok(()), vec![0; 512]));
    }

    #[test]
    fn zeroes_refuses_writes() {
        let expected = (Err(DeviceError::ReadOnly), vec![0; 512]);
        assert_eq!(write_and_read(ZeroesDevice::new(1 << 20, 512)), expected);
    }
}
