//! Where frames lie in the ring, and how much of it is free.

use crate::record::Lsn;
use alloc::collections::VecDeque;

/// The ring of an open journal. Positions are counted on without end; where a byte lies is the position modulo the
/// length. A frame never wraps: what is left at the end of a lap is skipped.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    /// Bytes of the ring.
    len: u64,
    /// What appends are a multiple of, in bytes.
    block: u64,
    /// Where the next frame goes.
    head: u64,
    /// Whether what lies beyond `head` may have been written, too.
    resumed: bool,
    /// Frames that may not be overwritten yet, oldest first, and where each starts.
    live: VecDeque<(Lsn, u64)>,
}

/// A place in the ring for one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Byte offset in the ring.
    pub position: u64,
    start: u64,
    end: u64,
}

impl Ring {
    /// An empty ring of `len` bytes on a device with this logical block.
    pub(crate) fn new(len: u64, block: u64) -> Self {
        Self { len: len / block * block, block, head: 0, resumed: false, live: VecDeque::new() }
    }

    /// A ring that was found with these frames still needed: their numbers, offsets and lengths, oldest first. They
    /// lie as one ring laid them, each behind the one before it.
    pub(crate) fn resume(len: u64, block: u64, frames: impl Iterator<Item = (Lsn, u64, u64)>) -> Self {
        let mut ring = Self::used_before(len, block);
        for (lsn, offset, frame_len) in frames {
            let lap = ring.head - ring.head % ring.len;
            let start = if lap + offset >= ring.head { lap + offset } else { lap + ring.len + offset };
            ring.live.push_back((lsn, start));
            ring.head = start + frame_len;
        }
        // The store may lie on a device with larger blocks now.
        ring.head = ring.head.next_multiple_of(block);
        ring
    }

    /// An empty ring in which frames may lie that mean nothing any more.
    pub(crate) fn used_before(len: u64, block: u64) -> Self {
        Self { resumed: true, ..Self::new(len, block) }
    }

    /// What appends are a multiple of, in bytes.
    pub(crate) fn block(&self) -> usize {
        usize::try_from(self.block).unwrap_or(usize::MAX)
    }

    /// Bytes of the ring.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that may not be overwritten, or lie skipped behind such.
    pub(crate) fn used(&self) -> u64 {
        self.live.front().map_or(0, |(_, start)| self.head - start)
    }

    /// Most bytes that one frame of records takes: a quarter of the ring, so that there is always room for another
    /// one and for a checkpoint.
    pub(crate) fn frame_max(&self) -> u64 {
        self.len / 4
    }

    /// Most bytes of one frame of images: small, so that records do not wait long behind one.
    pub(crate) fn image_frame_max(&self) -> u64 {
        (self.len / 16).min(crate::limits::IMAGE_FRAME_BYTES)
    }

    /// Bytes from the start on that may have been written since the journal came into use.
    pub(crate) fn touched(&self) -> u64 {
        if self.resumed { self.len } else { self.head.min(self.len) }
    }

    /// The place for a frame of `bytes`, if it is free.
    pub(crate) fn slot(&self, bytes: usize) -> Option<Slot> {
        let len = (bytes as u64).next_multiple_of(self.block);
        let left = self.len - self.head % self.len;
        let start = if len <= left { self.head } else { self.head + left };
        let end = start + len;
        let oldest = self.live.front().map_or(start, |(_, oldest)| *oldest);
        (end - oldest <= self.len).then_some(Slot { position: start % self.len, start, end })
    }

    /// Bytes that a frame of `bytes` takes from the ring, with what is skipped before it. `None` when it is not free.
    pub(crate) fn span(&self, bytes: u64) -> Option<u64> {
        self.slot(usize::try_from(bytes).ok()?).map(|slot| slot.end - self.head)
    }

    /// A frame goes into a slot that was just asked for.
    pub(crate) fn push(&mut self, lsn: Lsn, slot: Slot) {
        self.live.push_back((lsn, slot.start));
        self.head = slot.end;
    }

    /// Frames before `tail` are not needed any more.
    pub(crate) fn advance(&mut self, tail: Lsn) {
        while self.live.front().is_some_and(|(lsn, _)| *lsn < tail) {
            self.live.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &mut Ring, lsn: u64, bytes: usize) -> Option<u64> {
        let slot = ring.slot(bytes)?;
        ring.push(Lsn(lsn), slot);
        Some(slot.position)
    }

    #[test]
    fn laps_without_wrapping_a_frame_or_overwriting_a_live_one() {
        let mut ring = Ring::new(8192, 512);
        assert_eq!(push(&mut ring, 1, 3000), Some(0));
        assert_eq!(push(&mut ring, 2, 4000), Some(3072));
        assert_eq!((ring.used(), push(&mut ring, 3, 1500)), (7168, None), "it does not fit before the end");
        ring.advance(Lsn(2));
        assert_eq!(push(&mut ring, 3, 1500), Some(0), "the end of the lap is skipped");
        assert_eq!(ring.used(), 8192 - 3072 + 1536);
        assert_eq!(push(&mut ring, 4, 1536), Some(1536));
        assert_eq!(push(&mut ring, 5, 1), None);
        ring.advance(Lsn(5));
        assert_eq!((ring.used(), push(&mut ring, 5, 512)), (0, Some(3072)));
    }

    #[test]
    fn resumes_where_it_was_left() {
        let mut ring = Ring::new(8192, 512);
        for (lsn, bytes) in [(1, 3000), (2, 4000)] {
            push(&mut ring, lsn, bytes);
        }
        ring.advance(Lsn(2));
        push(&mut ring, 3, 1500);
        let frames = [(Lsn(2), 3072, 4000), (Lsn(3), 0, 1500)];
        let mut resumed = Ring::resume(8192, 512, frames.into_iter());
        assert_eq!((resumed.used(), push(&mut resumed, 4, 1536)), (ring.used(), Some(1536)));
        assert_eq!(push(&mut resumed, 5, 1), None, "what is live stays");
    }
}
