//! A set of bytes, as ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range. Returns the parts of it that were not there.
    pub(super) fn add(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let gaps = self.gaps(range.clone());
        if range.is_empty() {
            return gaps;
        }
        let (mut start, mut end) = (range.start, range.end);
        let before = self.0.range(..=range.start).next_back().map(|(start, end)| (*start, *end));
        if let Some((first, last)) = before.filter(|(_, last)| *last >= start) {
            start = first;
            end = end.max(last);
        }
        while let Some((first, last)) = self.0.range(start..=end).next().map(|(start, end)| (*start, *end)) {
            end = end.max(last);
            self.0.remove(&first);
        }
        self.0.insert(start, end);
        gaps
    }

    /// The parts of a range that are not in the set.
    pub(super) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let before = self.0.range(..=range.start).next_back().map(|(_, end)| *end);
        at = at.max(before.unwrap_or(at)).min(range.end.max(range.start));
        for (start, end) in self.0.range(at..range.end.max(at)) {
            if *start > at {
                gaps.push(at..*start);
            }
            at = at.max(*end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Whether a range lies within the set.
    pub(super) fn contains(&self, range: Range<u64>) -> bool {
        self.gaps(range).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_a_set_of_bytes(added in prop::collection::vec((0_u64..64, 0_u64..16), 1..40)) {
            let mut ranges = Ranges::default();
            let mut bytes = [false; 128];
            for (start, len) in added {
                let gaps = ranges.add(start..start + len);
                for gap in gaps {
                    for byte in gap {
                        let byte = &mut bytes[usize::try_from(byte).unwrap()];
                        prop_assert!(!*byte, "was there already");
                        *byte = true;
                    }
                }
                prop_assert!(ranges.contains(start..start + len));
            }
            let listed: u64 = ranges.0.iter().map(|(start, end)| end - start).sum();
            prop_assert_eq!(listed, bytes.iter().filter(|byte| **byte).count() as u64);
            let all: Vec<_> = ranges.0.iter().collect();
            prop_assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
