//! Ranges of clusters, cut into the parts that pages are about.

use super::Spread;
use crate::map::SLOTS;
use core::ops::Range;
use offshoot_format::{BlobCluster, ExtentOrdinal};

/// The parts of a range of clusters that lie in one extent page's worth each, as slots.
pub(crate) fn by_ordinal(range: Range<u64>) -> impl Iterator<Item = (ExtentOrdinal, Range<usize>)> {
    let mut at = range.start;
    core::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let (ordinal, slot) = ExtentOrdinal::of(BlobCluster(at));
        let count = usize::try_from(range.end - at).unwrap_or(SLOTS).min(SLOTS - slot);
        at += count as u64;
        Some((ordinal, slot..slot + count))
    })
}

/// The ranges that slots lie in, with how many are in each.
pub(crate) fn by_range(spread: Spread, slots: Range<usize>) -> impl Iterator<Item = (usize, u32)> {
    let mut next = slots.start;
    core::iter::from_fn(move || {
        let range = spread.range_of(next);
        let end = ((range + 1) * spread.range_slots).min(slots.end);
        let count = u32::try_from(end.saturating_sub(next)).ok().filter(|count| *count > 0)?;
        next = end;
        Some((range, count))
    })
}
