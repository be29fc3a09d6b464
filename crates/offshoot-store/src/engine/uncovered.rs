//! Blocks that records made an lvol's own and that no barrier covers yet.
//!
//! When a sync fails, a device may have lost what was written before it. What was written in place then reads as it did
//! before. But a block in a cluster that was free a moment ago would read what somebody else had put there. So nothing
//! of the store is read from such blocks any more (D4).

use crate::record::Lsn;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

/// Ranges of bytes on the device.
#[derive(Debug, Default)]
pub(super) struct Uncovered {
    /// In the order of their records.
    ranges: VecDeque<(Lsn, Range<u64>)>,
    /// What a sync that failed was to make durable, in order.
    lost: Vec<Range<u64>>,
}

impl Uncovered {
    pub(super) fn add(&mut self, lsn: Lsn, range: Range<u64>) {
        match self.ranges.back_mut() {
            Some((last, before)) if *last == lsn && before.end == range.start => before.end = range.end,
            _ => self.ranges.push_back((lsn, range)),
        }
    }

    /// A barrier has made the records up to `lsn` durable, and the data that they speak of.
    pub(super) fn cover(&mut self, lsn: Lsn) {
        while self.ranges.front().is_some_and(|(record, _)| *record <= lsn) {
            self.ranges.pop_front();
        }
    }

    /// A sync has failed.
    pub(super) fn lose(&mut self) {
        self.lost.extend(core::mem::take(&mut self.ranges).into_iter().map(|(_, range)| range));
        self.lost.sort_unstable_by_key(|range| range.start);
        // One after the other, so that their ends are in order as well.
        self.lost.dedup_by(|next, before| {
            let joins = next.start <= before.end;
            if joins {
                before.end = before.end.max(next.end);
            }
            joins
        });
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Whether anything of a range may be lost.
    pub(super) fn may_have_lost(&self, range: &Range<u64>) -> bool {
        let first = self.lost.partition_point(|lost| lost.end <= range.start);
        self.lost.get(first).is_some_and(|lost| lost.start < range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_barrier_covers_is_not_lost() {
        let mut uncovered = Uncovered::default();
        uncovered.add(Lsn(1), 0..10);
        uncovered.add(Lsn(2), 50..60);
        uncovered.add(Lsn(2), 60..70);
        uncovered.add(Lsn(3), 20..30);
        uncovered.add(Lsn(4), 25..40);
        uncovered.cover(Lsn(1));
        assert!(!uncovered.has_lost());
        uncovered.lose();
        assert_eq!(uncovered.lost, [20..40, 50..70]);
        let table = [
            (0..20, false),
            (0..21, true),
            (39..41, true),
            (40..50, false),
            (40..51, true),
            (69..70, true),
            (70..80, false),
        ];
        for (range, lost) in table {
            assert_eq!(uncovered.may_have_lost(&range), lost, "{range:?}");
        }
    }
}
