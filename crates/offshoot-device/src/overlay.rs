//! A device whose changes stay in memory.

use crate::LoggedOp;
use crate::check::{check, completion};
use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use std::collections::BTreeMap;

/// Shows what would become of another device, which is read and never written: for trying something out.
///
/// Each changed block is held in memory. What is discarded keeps its content.
#[derive(Debug)]
pub struct OverlayDevice<D> {
    inner: D,
    /// Changed blocks by their number; `None` for zeros.
    blocks: BTreeMap<u64, Option<Box<[u8]>>>,
    /// Where the reads under way begin, in bytes.
    reads: BTreeMap<OpId, u64>,
    done: Vec<Completion>,
}

impl<D: BlockDevice> OverlayDevice<D> {
    /// As the device is, so far.
    #[must_use]
    pub fn new(inner: D) -> Self {
        Self { inner, blocks: BTreeMap::new(), reads: BTreeMap::new(), done: Vec::new() }
    }

    /// The device itself.
    #[must_use]
    pub fn inner(&self) -> &D {
        &self.inner
    }

    fn block(&self) -> u64 {
        u64::from(self.inner.geometry().logical_block)
    }

    /// Puts what has changed over what was read.
    fn put_over(&self, offset: u64, bytes: &mut [u8]) {
        let block = self.block();
        let end = offset + bytes.len() as u64;
        for (number, changed) in self.blocks.range(offset / block..end.div_ceil(block)) {
            let start = usize::try_from(number * block - offset).unwrap_or(usize::MAX);
            let target = bytes[start..].iter_mut().take(usize::try_from(block).unwrap_or(usize::MAX));
            match changed {
                Some(changed) => target.zip(changed).for_each(|(target, changed)| *target = *changed),
                None => target.for_each(|byte| *byte = 0),
            }
        }
    }

    fn take(&mut self, below: Vec<Completion>, completions: &mut Vec<Completion>) {
        for mut completion in below {
            if let (Some(offset), Some(buffer)) = (self.reads.remove(&completion.id), &mut completion.buffer)
            {
                self.put_over(offset, buffer.as_mut_slice());
            }
            completions.push(completion);
        }
        completions.append(&mut self.done);
    }
}

impl<D: BlockDevice> BlockDevice for OverlayDevice<D> {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry { read_only: false, ..self.inner.geometry() }
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let result = check(&self.geometry(), &op);
        let block = self.block();
        match (&op, result) {
            (DeviceOp::Read { offset, .. }, Ok(())) => {
                self.reads.insert(id, offset.0);
                return self.inner.submit(id, op);
            }
            (DeviceOp::Write { offset, buffer }, Ok(())) => {
                let chunks = buffer.as_slice().chunks(usize::try_from(block).unwrap_or(usize::MAX));
                let changed = (offset.0 / block..).zip(chunks.map(|bytes| Some(bytes.into())));
                self.blocks.extend(changed);
            }
            (DeviceOp::WriteZeroes { .. }, Ok(())) => {
                let LoggedOp { offset, len, .. } = LoggedOp::of(&op);
                self.blocks.extend((offset.0 / block..(offset.0 + len) / block).map(|number| (number, None)));
            }
            _ => {}
        }
        self.done.push(completion(id, op, result));
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        let mut below = Vec::new();
        self.inner.poll(&mut below);
        self.take(below, completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        let mut below = Vec::new();
        if self.done.is_empty() {
            self.inner.wait(&mut below);
        }
        self.take(below, completions);
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding() + self.done.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemDevice;
    use offshoot_block::{Buffer, DeviceError, DeviceOffset};
    use proptest::prelude::*;

    const BYTES: u64 = 32 << 10;

    fn run(device: &mut impl BlockDevice, op: DeviceOp) -> (Option<Buffer>, Result<(), DeviceError>) {
        device.submit(OpId(3), op);
        let mut completions = Vec::new();
        while device.outstanding() > 0 {
            device.wait(&mut completions);
        }
        let completion = completions.remove(0);
        (completion.buffer, completion.result)
    }

    proptest! {
        #[test]
        fn reads_as_if_it_had_been_written(ops in prop::collection::vec((0_u64..60, 1_u64..9, 0_u8..4), 1..30)) {
            let mut plain = MemDevice::with_content(&[9; 32 << 10], 512);
            let mut below = plain.clone();
            below.set_read_only(true);
            let mut overlay = OverlayDevice::new(below);
            for (at, len, with) in ops {
                let (offset, len) = (DeviceOffset(at * 512), len.min(64 - at) * 512);
                let mut buffer = Buffer::zeroed(usize::try_from(len).unwrap());
                buffer.as_mut_slice().fill(with);
                let op = match with {
                    0 => DeviceOp::WriteZeroes { offset, len, may_unmap: true },
                    _ => DeviceOp::Write { offset, buffer },
                };
                prop_assert!(run(&mut plain, op.clone()).1.is_ok() && run(&mut overlay, op).1.is_ok());
                let read = DeviceOp::Read { offset: DeviceOffset(512), buffer: Buffer::zeroed(8192) };
                let (one, other) = (run(&mut plain, read.clone()).0.unwrap(), run(&mut overlay, read).0.unwrap());
                prop_assert!(one.as_slice() == other.as_slice());
            }
            let mut content = vec![0; usize::try_from(BYTES).unwrap()];
            overlay.inner().read_at(0, &mut content);
            prop_assert!(content.iter().all(|byte| *byte == 9));
        }
    }
}
