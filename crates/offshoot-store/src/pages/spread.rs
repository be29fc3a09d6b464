//! Which layer records of an ordinal share md pages.
//!
//! The slots of an ordinal fall into ranges of which each fits a page, as long as no slot holds several layers. Where
//! there are few records neighbouring ranges share a page: the ordinal is halved, and halved again, until what is in
//! each *section* fits a page or is one range. So a change concerns the pages of one section, whatever else the
//! ordinal holds; and the sections follow from what is owned alone, in whatever order it came to be.

use crate::map::SLOTS;
use alloc::vec::Vec;
use core::ops::Range;

/// How layer records are spread over md pages: follows from the cluster size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Slots of one range; the last range may have fewer.
    pub range_slots: usize,
    /// Layer records that fit one md page.
    pub records_per_page: usize,
}

/// Consecutive ranges of an ordinal whose records share md pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Section {
    /// The first range.
    pub start: usize,
    /// The range behind the last one.
    pub end: usize,
}

impl Spread {
    /// For pages that hold so many records, at least one.
    #[must_use]
    pub const fn of(records_per_page: usize) -> Self {
        // All about the same size, which leaves room for slots with several layers.
        let ranges = SLOTS.div_ceil(records_per_page);
        Self { range_slots: SLOTS.div_ceil(ranges), records_per_page }
    }

    /// The range of a slot.
    #[must_use]
    pub const fn range_of(self, slot: usize) -> usize {
        slot / self.range_slots
    }

    /// Ranges of an ordinal.
    #[must_use]
    pub const fn ranges(self) -> usize {
        SLOTS.div_ceil(self.range_slots)
    }

    /// All of an ordinal.
    #[must_use]
    pub const fn whole(self) -> Section {
        Section { start: 0, end: self.ranges() }
    }

    /// The slots of a section.
    #[must_use]
    pub fn slots(self, section: Section) -> Range<usize> {
        section.start * self.range_slots..(section.end * self.range_slots).min(SLOTS)
    }

    /// Md pages for so many records.
    #[must_use]
    pub const fn pages(self, records: u32) -> usize {
        (records as usize).div_ceil(self.records_per_page)
    }

    /// The section of a range, of an ordinal with so many layers in each range.
    pub(super) fn section_of(self, layers: &[u32], range: usize) -> Section {
        let mut section = self.whole();
        while self.is_split(layers, section) {
            let (left, right) = section.halves();
            section = if range < left.end { left } else { right };
        }
        section
    }

    /// The sections of an ordinal, or of a part of it that was a section once, with the records in each.
    pub(super) fn sections(self, layers: &[u32], part: Section) -> Vec<(Section, u32)> {
        let mut found = Vec::new();
        let mut open = alloc::vec![part];
        while let Some(section) = open.pop() {
            if self.is_split(layers, section) {
                let (left, right) = section.halves();
                open.extend([right, left]);
            } else {
                found.push((section, section.records(layers)));
            }
        }
        found
    }

    /// Md pages for an ordinal with so many layers in each range.
    pub(crate) fn pages_for(self, layers: &[u32]) -> usize {
        self.sections(layers, self.whole()).into_iter().map(|(_, records)| self.pages(records)).sum()
    }

    fn is_split(self, layers: &[u32], section: Section) -> bool {
        section.end - section.start > 1 && self.pages(section.records(layers)) > 1
    }
}

impl Section {
    pub(super) const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    pub(super) const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn halves(self) -> (Self, Self) {
        let middle = self.start.midpoint(self.end);
        (Self { end: middle, ..self }, Self { start: middle, ..self })
    }

    fn records(self, layers: &[u32]) -> u32 {
        layers.get(self.start..self.end).into_iter().flatten().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_fit_a_page_each() {
        for (records, slots, ranges) in
            [(405, 256, 2), (169, 128, 4), (56, 52, 10), (15, 15, 35), (1, 1, 512)]
        {
            let spread = Spread::of(records);
            assert_eq!((spread.range_slots, spread.ranges()), (slots, ranges), "{records} records in a page");
            assert_eq!(spread.slots(spread.whole()), 0..SLOTS);
        }
    }

    #[test]
    fn a_full_ordinal_needs_a_page_for_each_range_and_a_sparse_one_few() {
        let spread = Spread::of(15);
        let mut full = alloc::vec![15; 34];
        full.push(2);
        assert_eq!(spread.pages_for(&full), 35);
        assert_eq!(spread.pages_for(&[0; 35]), 0);
        assert_eq!(spread.pages_for(&[2; 35]), 8);
        let mut one = alloc::vec![0; 35];
        one[20] = 31;
        assert_eq!(spread.pages_for(&one), 3);
    }

    proptest! {
        /// One record more takes one page more at most, and none less: what admission counts on.
        #[test]
        fn a_record_costs_a_page_at_most(
            layers in prop::collection::vec(0_u32..20, 35),
            range in 0_usize..35,
        ) {
            let spread = Spread::of(15);
            let mut more = layers.clone();
            more[range] += 1;
            let (before, after) = (spread.pages_for(&layers), spread.pages_for(&more));
            prop_assert!(before <= after && after <= before + 1, "{before}, then {after}");
        }

        #[test]
        fn sections_cover_each_range_once(layers in prop::collection::vec(0_u32..20, 35)) {
            let spread = Spread::of(15);
            let sections = spread.sections(&layers, spread.whole());
            let mut next = 0;
            for (section, records) in sections {
                prop_assert_eq!(section.start, next);
                next = section.end;
                prop_assert!(records <= 15 || section.end - section.start == 1);
                for range in section.start..section.end {
                    prop_assert_eq!(spread.section_of(&layers, range), section);
                }
            }
            prop_assert_eq!(next, 35);
        }
    }
}
