//! A device in memory.

use crate::check::{check, completion, is_logical_block};
use crate::{DeviceStats, HostDevice, LoggedOp};
use offshoot_block::{BlockDevice, Completion, DeviceError, DeviceGeometry, DeviceOp, OpId};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Sparse memory as a device: what was never written takes no space and reads as zeros.
///
/// Operations take effect and complete at the next poll, in the order of their submission. There is
/// no volatile cache: a completed write counts as durable. A clone is an independent copy of the
/// content, including what has been submitted and not yet polled.
#[derive(Clone)]
pub struct MemDevice {
    geometry: DeviceGeometry,
    /// Chunks of [`CHUNK_BYTES`] by their index; a missing one is zeros.
    chunks: BTreeMap<u64, Arc<[u8]>>,
    queue: Vec<(OpId, DeviceOp, Result<(), DeviceError>)>,
    stats: DeviceStats,
    log: Option<Vec<LoggedOp>>,
}

/// Unit in which memory is taken and given back.
const CHUNK_BYTES: usize = 64 << 10;

impl MemDevice {
    /// A device of zeros. `size_bytes` is rounded down to the logical block.
    ///
    /// # Panics
    /// When `logical_block` is neither 512 nor 4096.
    #[must_use]
    pub fn new(size_bytes: u64, logical_block: u32) -> Self {
        assert!(is_logical_block(logical_block), "logical block of {logical_block} bytes");
        let geometry = DeviceGeometry {
            size_bytes: size_bytes - size_bytes % u64::from(logical_block),
            logical_block,
            physical_block: 4096,
            volatile_cache: false,
            read_only: false,
        };
        Self {
            geometry,
            chunks: BTreeMap::new(),
            queue: Vec::new(),
            stats: DeviceStats::default(),
            log: None,
        }
    }

    /// A device that holds `bytes`, rounded up to the logical block with zeros.
    ///
    /// # Panics
    /// When `logical_block` is neither 512 nor 4096.
    #[must_use]
    pub fn with_content(bytes: &[u8], logical_block: u32) -> Self {
        let size_bytes = (bytes.len() as u64).next_multiple_of(u64::from(logical_block));
        let mut device = Self::new(size_bytes, logical_block);
        device.write_at(0, bytes);
        device
    }

    /// Sets whether writes are refused from now on.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.geometry.read_only = read_only;
    }

    /// Changes the size, rounded down to the logical block. What is cut off is gone: growing again
    /// shows zeros.
    pub fn resize(&mut self, size_bytes: u64) {
        let size_bytes = size_bytes - size_bytes % u64::from(self.geometry.logical_block);
        if let Some(cut) = self.geometry.size_bytes.checked_sub(size_bytes) {
            self.zero_at(size_bytes, cut);
        }
        self.geometry.size_bytes = size_bytes;
    }

    /// What was asked of the device since it was made or since [`MemDevice::reset_stats`].
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        self.stats
    }

    /// Starts counting at zero again.
    pub fn reset_stats(&mut self) {
        self.stats = DeviceStats::default();
    }

    /// Starts an empty log of operations, in the order of their submission.
    pub fn start_log(&mut self) {
        self.log = Some(Vec::new());
    }

    /// Ends the log and hands it out; empty when none was started.
    pub fn take_log(&mut self) -> Vec<LoggedOp> {
        self.log.take().unwrap_or_default()
    }

    /// Memory that the content takes, in bytes.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.chunks.len() as u64 * CHUNK_BYTES as u64
    }

    /// Copies content out, past the queue and uncounted: for tests that look at what a store wrote.
    ///
    /// # Panics
    /// When the range does not lie within the device.
    pub fn read_at(&self, offset: u64, target: &mut [u8]) {
        self.assert_within(offset, target.len());
        for (index, within, range) in pieces(offset, target.len()) {
            let target = &mut target[range];
            match self.chunks.get(&index) {
                Some(chunk) => target.copy_from_slice(&chunk[within..within + target.len()]),
                None => target.fill(0),
            }
        }
    }

    /// Changes content, past the queue and uncounted: for tests that damage a store.
    ///
    /// # Panics
    /// When the range does not lie within the device.
    pub fn write_at(&mut self, offset: u64, source: &[u8]) {
        self.assert_within(offset, source.len());
        for (index, within, range) in pieces(offset, source.len()) {
            let source = &source[range];
            let chunk = self.chunks.entry(index).or_insert_with(|| vec![0; CHUNK_BYTES].into());
            Arc::make_mut(chunk)[within..within + source.len()].copy_from_slice(source);
        }
    }

    /// The whole content.
    ///
    /// # Panics
    /// When it does not fit into memory.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let len = usize::try_from(self.geometry.size_bytes).expect("a device that fits into memory");
        let mut bytes = vec![0; len];
        self.read_at(0, &mut bytes);
        bytes
    }

    fn assert_within(&self, offset: u64, len: usize) {
        let end = offset.checked_add(len as u64);
        let size_bytes = self.geometry.size_bytes;
        assert!(end.is_some_and(|end| end <= size_bytes), "range {offset}+{len} beyond {size_bytes} bytes");
    }

    /// Zeroes a range and gives whole chunks back. Costs the chunks that exist, not the length.
    fn zero_at(&mut self, offset: u64, len: u64) {
        const CHUNK: u64 = CHUNK_BYTES as u64;
        let end = offset + len;
        let touched = offset / CHUNK..end.div_ceil(CHUNK);
        let mut gone = Vec::new();
        for (&index, chunk) in self.chunks.range_mut(touched) {
            let start = index * CHUNK;
            let from = offset.saturating_sub(start);
            let to = (end - start).min(CHUNK);
            if from == 0 && to == CHUNK {
                gone.push(index);
            } else {
                Arc::make_mut(chunk)[within_chunk(from)..within_chunk(to)].fill(0);
            }
        }
        for index in gone {
            self.chunks.remove(&index);
        }
    }

    fn apply(&mut self, op: &mut DeviceOp) {
        match op {
            DeviceOp::Read { offset, buffer } => self.read_at(offset.0, buffer.as_mut_slice()),
            DeviceOp::Write { offset, buffer } => self.write_at(offset.0, buffer.as_slice()),
            DeviceOp::WriteZeroes { offset, len, .. } | DeviceOp::Unmap { offset, len } => {
                self.zero_at(offset.0, *len);
            }
            DeviceOp::Sync => {}
        }
    }
}

impl BlockDevice for MemDevice {
    fn geometry(&self) -> DeviceGeometry {
        self.geometry
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let verdict = check(&self.geometry, &op);
        if verdict.is_ok() {
            let logged = LoggedOp::of(&op);
            self.stats.count(logged);
            if let Some(log) = &mut self.log {
                log.push(logged);
            }
        }
        self.queue.push((id, op, verdict));
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        let mut queue = std::mem::take(&mut self.queue);
        for (id, mut op, verdict) in queue.drain(..) {
            // A resize may have come between.
            let result = verdict.and_then(|()| check(&self.geometry, &op));
            if result.is_ok() {
                self.apply(&mut op);
            }
            completions.push(completion(id, op, result));
        }
        // Keeps the allocation for the next round.
        self.queue = queue;
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        self.queue.len()
    }
}

impl HostDevice for MemDevice {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn clear_wakeup(&self) {}

    fn description(&self) -> String {
        "memory".to_owned()
    }

    fn stats(&self) -> DeviceStats {
        self.stats
    }

    /// Memory is shared until one of the two changes it.
    fn duplicate(&self) -> Option<Box<dyn HostDevice>> {
        Some(Box::new(self.clone()))
    }

    fn grow(&mut self, size_bytes: u64) -> io::Result<()> {
        if size_bytes > self.geometry.size_bytes {
            self.resize(size_bytes);
        }
        Ok(())
    }
}

impl fmt::Debug for MemDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemDevice")
            .field("geometry", &self.geometry)
            .field("chunks", &self.chunks.len())
            .field("queue", &self.queue.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// Cuts a range at the chunks: index of the chunk, position within it, and the part of the range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    const CHUNK: u64 = CHUNK_BYTES as u64;
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = within_chunk(at % CHUNK);
        let start = done;
        done = len.min(start + CHUNK_BYTES - within);
        Some((at / CHUNK, within, start..done))
    })
}

/// A position of at most [`CHUNK_BYTES`] as an index.
#[expect(clippy::cast_possible_truncation, reason = "at most 64 KiB")]
fn within_chunk(position: u64) -> usize {
    debug_assert!(position <= CHUNK_BYTES as u64);
    position as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OpCount, OpKind};
    use offshoot_block::{Buffer, DeviceOffset};

    fn run(device: &mut MemDevice, op: DeviceOp) -> Completion {
        let mut completions = Vec::new();
        device.submit(OpId(1), op);
        device.poll(&mut completions);
        assert_eq!(completions.len(), 1);
        completions.remove(0)
    }

    #[test]
    fn nothing_happens_before_the_poll() {
        let mut device = MemDevice::new(1 << 20, 512);
        device
            .submit(OpId(1), DeviceOp::Write { offset: DeviceOffset(0), buffer: Buffer::copy_of(&[7; 512]) });
        assert_eq!(device.outstanding(), 1);
        assert_eq!(device.content()[0], 0);
        device.poll(&mut Vec::new());
        assert_eq!(device.outstanding(), 0);
        assert_eq!(device.content()[..512], [7; 512]);
    }

    #[test]
    fn is_sparse_at_any_size() {
        let mut device = MemDevice::new(u64::MAX, 4096);
        let size = device.geometry().size_bytes;
        assert_eq!(size, u64::MAX - 4095);
        let offset = DeviceOffset(size - 8192);
        run(&mut device, DeviceOp::Write { offset, buffer: Buffer::copy_of(&[7; 8192]) });
        let read = run(&mut device, DeviceOp::Read { offset, buffer: Buffer::zeroed(8192) });
        assert_eq!(read.buffer.unwrap().as_slice(), [7; 8192]);
        assert_eq!(device.allocated_bytes(), CHUNK_BYTES as u64);
        let all = DeviceOp::WriteZeroes { offset: DeviceOffset(0), len: size, may_unmap: true };
        assert_eq!(run(&mut device, all).result, Ok(()));
        let mut bytes = [1; 8192];
        device.read_at(offset.0, &mut bytes);
        assert_eq!(bytes, [0; 8192]);
    }

    #[test]
    fn zeroing_keeps_what_is_around_it() {
        let mut device = MemDevice::with_content(&[7; 4 * CHUNK_BYTES], 512);
        let len = 2 * CHUNK_BYTES as u64;
        let op = DeviceOp::Unmap { offset: DeviceOffset(512), len };
        assert_eq!(run(&mut device, op).result, Ok(()));
        let mut expected = vec![7; 4 * CHUNK_BYTES];
        expected[512..512 + 2 * CHUNK_BYTES].fill(0);
        assert!(device.content() == expected);
        assert_eq!(device.allocated_bytes(), 3 * CHUNK_BYTES as u64);
    }

    #[test]
    fn counts_and_logs_what_it_accepts() {
        let mut device = MemDevice::new(1 << 20, 512);
        device.start_log();
        let offset = DeviceOffset(4096);
        run(&mut device, DeviceOp::Write { offset, buffer: Buffer::zeroed(1024) });
        run(&mut device, DeviceOp::Write { offset: DeviceOffset(1), buffer: Buffer::zeroed(1024) });
        run(&mut device, DeviceOp::Sync);
        assert_eq!(device.stats().writes, OpCount { ops: 1, bytes: 1024 });
        assert_eq!(device.stats().syncs, 1);
        let log = [(OpKind::Write, offset, 1024), (OpKind::Sync, DeviceOffset(0), 0)];
        assert_eq!(device.take_log(), log.map(|(kind, offset, len)| LoggedOp { kind, offset, len }));
        assert_eq!(device.take_log(), []);
    }

    #[test]
    fn shrinking_forgets() {
        let mut device = MemDevice::with_content(&[7; 8192], 512);
        device.resize(4096);
        device.resize(8192);
        assert_eq!(device.content()[..4096], [7; 4096]);
        assert_eq!(device.content()[4096..], [0; 4096]);
    }
}
