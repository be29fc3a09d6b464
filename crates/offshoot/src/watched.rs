//! A device whose long zeroing can be watched and stopped.

use crate::interrupt::Interrupt;
use crate::progress::Progress;
use offshoot_block::{BlockDevice, Completion, DeviceError, DeviceGeometry, DeviceOffset, DeviceOp, OpId};
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes that are zeroed without looking up.
const PIECE_BYTES: u64 = 64 << 20;

const EINTR: i32 = 4;

/// Who watches, and may say stop.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) progress: Progress,
    pub(crate) interrupt: Interrupt,
}

/// A device that does long zeroing piece by piece while it is watched. After each piece it shows the progress; after
/// Ctrl-C it fails the operation. Everything else goes straight through.
#[derive(Debug)]
pub(crate) struct Watched<D> {
    inner: D,
    watch: Option<Watch>,
    /// Zeroing under way, one piece of each at a time.
    long: BTreeMap<OpId, Long>,
    zeroed_bytes: u64,
    /// Kept for its memory.
    completions: Vec<Completion>,
}

#[derive(Debug)]
struct Long {
    /// What has not been handed down yet, in bytes.
    rest: Range<u64>,
    /// Length of the piece under way.
    piece: u64,
    may_unmap: bool,
}

impl<D: BlockDevice> Watched<D> {
    pub(crate) fn new(inner: D, watch: Option<Watch>) -> Self {
        Self { inner, watch, long: BTreeMap::new(), zeroed_bytes: 0, completions: Vec::new() }
    }

    /// The device itself.
    pub(crate) fn inner(&self) -> &D {
        &self.inner
    }

    /// The device itself.
    pub(crate) fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Hands the next piece of `id` down.
    fn submit_piece(&mut self, id: OpId) {
        let Some(Long { rest, piece, may_unmap }) = self.long.get_mut(&id) else {
            return;
        };
        let offset = DeviceOffset(rest.start);
        *piece = (rest.end - rest.start).min(PIECE_BYTES);
        rest.start += *piece;
        let op = DeviceOp::WriteZeroes { offset, len: *piece, may_unmap: *may_unmap };
        self.inner.submit(id, op);
    }

    /// Passes completions on, but those of pieces that another one follows. Says whether there were any to pass.
    fn pass_on(&mut self, completions: &mut Vec<Completion>) -> bool {
        let before = completions.len();
        for mut completion in std::mem::take(&mut self.completions) {
            if !self.goes_on(&mut completion) {
                completions.push(completion);
            }
        }
        completions.len() > before
    }

    /// Whether the operation that has come so far goes on.
    fn goes_on(&mut self, completion: &mut Completion) -> bool {
        let (Some(watch), Some(long)) = (&mut self.watch, self.long.get(&completion.id)) else {
            return false;
        };
        if completion.result.is_ok() {
            self.zeroed_bytes += long.piece;
            watch.progress.reach(self.zeroed_bytes);
            if watch.interrupt.check().is_err() {
                completion.result = Err(DeviceError::Io { errno: EINTR });
            } else if !long.rest.is_empty() {
                self.submit_piece(completion.id);
                return true;
            }
        }
        self.long.remove(&completion.id);
        false
    }
}

impl<D: BlockDevice> BlockDevice for Watched<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        match op {
            DeviceOp::WriteZeroes { offset, len, may_unmap } if self.watch.is_some() => {
                let long = Long {
                    // Saturates where the range is no range, which the device itself will say of the first piece.
                    rest: offset.0..offset.0.saturating_add(len),
                    piece: 0,
                    may_unmap,
                };
                self.long.insert(id, long);
                self.submit_piece(id);
            }
            op => self.inner.submit(id, op),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.inner.poll(&mut self.completions);
        self.pass_on(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        while self.outstanding() > 0 {
            self.inner.wait(&mut self.completions);
            if self.pass_on(completions) {
                return;
            }
        }
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_device::MemDevice;

    const MIB: u64 = 1 << 20;

    /// Zeroes `len` bytes and syncs. Returns how these two went, and how much was zeroed.
    fn zero(interrupt: Interrupt, len: u64) -> ([Result<(), DeviceError>; 2], u64) {
        let watch = Watch { progress: Progress::new("test", Some(len)), interrupt };
        let mut device = Watched::new(MemDevice::new(512 * MIB, 512), Some(watch));
        let op = DeviceOp::WriteZeroes { offset: DeviceOffset(MIB), len, may_unmap: false };
        device.submit(OpId(7), op);
        device.submit(OpId(8), DeviceOp::Sync);
        let mut completions = Vec::new();
        while device.outstanding() > 0 {
            device.wait(&mut completions);
        }
        completions.sort_by_key(|completion| completion.id);
        let ids: Vec<OpId> = completions.iter().map(|completion| completion.id).collect();
        assert_eq!(ids, [OpId(7), OpId(8)]);
        ([completions[0].result, completions[1].result], device.zeroed_bytes)
    }

    #[test]
    fn pieces_are_one_operation() {
        for len in [0, 512, 64 * MIB, 64 * MIB + 512, 300 * MIB] {
            assert_eq!(zero(Interrupt::default(), len), ([Ok(()), Ok(())], len), "{len}");
        }
    }

    #[test]
    fn an_interrupt_ends_it_after_the_piece_under_way() {
        let interrupt = Interrupt::default();
        interrupt.raise();
        let interrupted = Err(DeviceError::Io { errno: EINTR });
        assert_eq!(zero(interrupt, 300 * MIB), ([interrupted, Ok(())], 64 * MIB));
    }

    #[test]
    fn errors_pass_through() {
        let (results, zeroed) = zero(Interrupt::default(), 600 * MIB);
        assert!(results[0].is_err() && results[1].is_ok());
        assert!(zeroed < 600 * MIB);
    }
}
