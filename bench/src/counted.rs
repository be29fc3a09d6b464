//! A device that counts what it is asked.

use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::{DeviceStats, LoggedOp, OpKind};

/// Another device, what was asked of it, and which ranges were read.
#[derive(Debug)]
pub(crate) struct Counted<D> {
    inner: D,
    stats: DeviceStats,
    reads: Vec<LoggedOp>,
}

impl<D> Counted<D> {
    pub(crate) fn new(inner: D) -> Self {
        Self { inner, stats: DeviceStats::default(), reads: Vec::new() }
    }

    pub(crate) fn stats(&self) -> DeviceStats {
        self.stats
    }

    /// Every read so far, in the order of submission.
    pub(crate) fn reads(&self) -> &[LoggedOp] {
        &self.reads
    }

    fn count(&mut self, op: LoggedOp) {
        let count = match op.kind {
            OpKind::Read => {
                self.reads.push(op);
                &mut self.stats.reads
            }
            OpKind::Write => &mut self.stats.writes,
            OpKind::WriteZeroes => &mut self.stats.write_zeroes,
            OpKind::Unmap => &mut self.stats.unmaps,
            OpKind::Sync => {
                self.stats.syncs += 1;
                return;
            }
        };
        count.ops += 1;
        count.bytes += op.len;
    }
}

impl<D: BlockDevice> BlockDevice for Counted<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.count(LoggedOp::of(&op));
        self.inner.submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.inner.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.inner.wait(completions);
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding()
    }
}
