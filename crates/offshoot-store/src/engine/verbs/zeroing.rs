//! The zeroing that comes before the records of a verb: piece by piece, so that it can be watched and ended.

use alloc::collections::VecDeque;
use core::ops::Range;

/// Bytes of a piece: what is begun is completed, also when the verb is ended.
const PIECE_BYTES: u64 = 64 << 20;

/// Pieces under way at one time. Where free space is in shreds a piece is one of them.
pub(super) const PIECES_MAX: usize = 16;

/// What is to be zeroed, in bytes of the device, and how far that is.
#[derive(Debug, Default)]
pub(super) struct Zeroing {
    /// What was not begun.
    left: VecDeque<Range<u64>>,
    /// Pieces that were.
    pub(super) under_way: usize,
    pub(super) bytes: u64,
    pub(super) bytes_done: u64,
}

impl Zeroing {
    pub(super) fn new(ranges: impl Iterator<Item = Range<u64>>) -> Self {
        let left: VecDeque<_> = ranges.filter(|range| !range.is_empty()).collect();
        let bytes = left.iter().map(|range| range.end - range.start).sum();
        Self { left, bytes, ..Self::default() }
    }

    /// The next piece to begin, if one may be.
    pub(super) fn begin(&mut self) -> Option<Range<u64>> {
        if self.under_way >= PIECES_MAX {
            return None;
        }
        let range = self.left.front_mut()?;
        let piece = range.start..range.end.min(range.start + PIECE_BYTES);
        range.start = piece.end;
        if range.is_empty() {
            self.left.pop_front();
        }
        self.under_way += 1;
        Some(piece)
    }

    /// A piece is done.
    pub(super) fn end(&mut self, bytes: u64) {
        self.under_way -= 1;
        self.bytes_done += bytes;
    }

    /// Begins nothing more.
    pub(super) fn stop(&mut self) {
        self.left.clear();
    }

    /// Whether pieces are under way or to come.
    pub(super) fn goes_on(&self) -> bool {
        self.under_way > 0 || !self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn pieces_cover_everything_once() {
        let ranges = [0..10, 20..20, 100..100 + 2 * PIECE_BYTES + 1];
        let mut zeroing = Zeroing::new(ranges.clone().into_iter());
        assert_eq!(zeroing.bytes, 10 + 2 * PIECE_BYTES + 1);
        let mut pieces = Vec::new();
        while let Some(piece) = zeroing.begin() {
            pieces.push(piece.clone());
            zeroing.end(piece.end - piece.start);
        }
        let end = 100 + 2 * PIECE_BYTES;
        assert_eq!(pieces, [0..10, 100..100 + PIECE_BYTES, 100 + PIECE_BYTES..end, end..end + 1]);
        assert!(!zeroing.goes_on() && zeroing.bytes_done == zeroing.bytes);
    }

    #[test]
    fn no_more_are_under_way_than_may_be() {
        let mut zeroing = Zeroing::new((0..100).map(|at| at * 10..at * 10 + 1));
        let begun = core::iter::from_fn(|| zeroing.begin()).count();
        assert_eq!(begun, PIECES_MAX);
        zeroing.end(1);
        assert!(zeroing.begin().is_some() && zeroing.begin().is_none());
        zeroing.stop();
        (0..PIECES_MAX).for_each(|_| zeroing.end(1));
        assert!(zeroing.begin().is_none() && !zeroing.goes_on());
    }
}
