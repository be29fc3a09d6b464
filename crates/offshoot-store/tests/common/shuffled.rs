//! A device that completes operations in any order.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shared by several test programs")]

use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::MemDevice;

/// Runs what is submitted one by one in an order drawn from a seed.
#[derive(Clone, Debug)]
pub struct ShuffledDevice {
    pub inner: MemDevice,
    waiting: Vec<(OpId, DeviceOp)>,
    seed: u64,
    /// How many more it may complete.
    pub grant: u64,
}

impl ShuffledDevice {
    pub fn new(inner: MemDevice, seed: u64) -> Self {
        Self { inner, waiting: Vec::new(), seed: seed | 1, grant: u64::MAX }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        usize::try_from(self.seed % below as u64).unwrap()
    }
}

impl BlockDevice for ShuffledDevice {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.waiting.push((id, op));
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        if self.waiting.is_empty() || self.grant == 0 {
            return;
        }
        self.grant -= 1;
        let index = self.draw(self.waiting.len());
        let (id, op) = self.waiting.swap_remove(index);
        self.inner.submit(id, op);
        self.inner.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        self.waiting.len()
    }
}
