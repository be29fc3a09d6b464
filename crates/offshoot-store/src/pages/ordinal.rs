//! What a blob owns in one extent page's worth of clusters, and the md pages that say so on disk.

use super::{Section, Spread, Totals};
use crate::record::Encoding;
use alloc::{collections::BTreeMap, vec::Vec};
use core::ops::Range;
use offshoot_format::MdPageIdx;

/// What a blob owns in one extent page's worth of clusters, and the md pages that say so on disk.
#[derive(Clone, Debug, Default)]
pub struct OrdinalMd {
    /// Own full clusters at the bottom of their entries: slots of the extent page.
    pub own_full: u16,
    /// The extent page, once a checkpoint has assigned one.
    pub extent: Option<MdPageIdx>,
    /// Whether the extent page must be written.
    pub(crate) extent_dirty: bool,
    /// Own layers in each range of slots; empty where there are none.
    pub(crate) layers: Vec<u32>,
    /// Whether the records are packed without regard to ranges: all that is said about sections is about one section
    /// then, which is the whole. Somebody else wrote them like that, or there were no pages to spread them.
    pub(crate) packed: bool,
    /// The sections that own layers or have pages.
    pub(crate) sections: BTreeMap<Section, SectionMd>,
}

/// The layer pages of a section.
#[derive(Clone, Debug, Default)]
pub struct SectionMd {
    /// Layer records.
    pub(crate) records: u32,
    /// Where they are, in the order of their slots.
    pub(crate) pages: Vec<MdPageIdx>,
    /// Whether they must be written.
    pub(crate) dirty: bool,
}

impl OrdinalMd {
    /// Own layers: records of the layer pages.
    #[must_use]
    pub fn own_layers(&self) -> u32 {
        self.layers.iter().sum()
    }

    /// Whether the blob owns anything here.
    #[must_use]
    pub fn owns_any(&self) -> bool {
        self.own_full > 0 || self.own_layers() > 0
    }

    /// The layer pages, in the order of their slots.
    pub fn layer_pages(&self) -> impl Iterator<Item = MdPageIdx> {
        self.sections.values().flat_map(|section| &section.pages).copied()
    }

    /// The extent page and the layer pages.
    pub fn pages(&self) -> impl Iterator<Item = MdPageIdx> {
        self.extent.into_iter().chain(self.layer_pages())
    }

    /// Whether an extent page is needed.
    pub(crate) fn needs_extent(&self, encoding: Encoding) -> bool {
        self.own_full > 0 && encoding == Encoding::Table
    }

    /// How many md pages this ordinal has or needs, whichever is more, and what of them a checkpoint does.
    pub(crate) fn totals(&self, encoding: Encoding, spread: Spread) -> Totals {
        let (extent, has_extent) = (self.needs_extent(encoding), self.extent.is_some());
        let mut totals = Totals {
            extents: usize::from(extent || has_extent),
            layers: 0,
            missing: usize::from(extent && !has_extent),
            images: usize::from(self.extent_dirty && extent && has_extent),
        };
        for section in self.sections.values() {
            let (needed, has) = (spread.pages(section.records), section.pages.len());
            totals.layers += needed.max(has);
            totals.missing += needed.saturating_sub(has);
            totals.images += if section.dirty { needed.min(has) } else { 0 };
        }
        totals
    }

    /// How many more layer pages another layer in each of some clusters may take, at most: the ranges of the clusters
    /// are given, with how many are in each.
    pub(crate) fn growth(&self, spread: Spread, more: impl Iterator<Item = (usize, u32)>) -> usize {
        let mut layers = self.layers.clone();
        layers.resize(spread.ranges(), 0);
        let spread_before = spread.pages_for(&layers);
        let packed_before = spread.pages(layers.iter().sum());
        for (range, clusters) in more {
            layers[range] += clusters;
        }
        let grown = spread.pages_for(&layers) - spread_before;
        // A checkpoint may spread what is packed now.
        let packed = if self.packed { spread.pages(layers.iter().sum()) - packed_before } else { 0 };
        grown.max(packed)
    }

    /// Md pages that a change of slots may make a checkpoint write over, at most, beyond what it does already.
    pub(crate) fn uncounted_images(&self, spread: Spread, slots: Range<usize>) -> usize {
        let ranges = Section { start: spread.range_of(slots.start), end: spread.range_of(slots.end - 1) + 1 };
        let (mut concerned, mut others) = (0, 0);
        for (section, md) in &self.sections {
            let counted = if md.dirty { spread.pages(md.records).min(md.pages.len()) } else { 0 };
            let pages = if section.overlaps(ranges) { &mut concerned } else { &mut others };
            *pages += md.pages.len() - counted;
        }
        let extent = usize::from(self.extent.is_some());
        // At both ends a section may become one with others.
        extent + concerned + others.min(2)
    }

    /// Everything here is written.
    pub(crate) fn settle(&mut self) {
        self.extent_dirty = false;
        self.sections.retain(|_, section| section.records > 0 || !section.pages.is_empty());
        self.sections.values_mut().for_each(|section| section.dirty = false);
        self.packed &= !self.sections.is_empty();
    }

    /// The layers of a slot changed: there were `before` of the blob's own, there are `after`.
    pub(crate) fn change_layers(&mut self, spread: Spread, slot: usize, before: u32, after: u32) {
        if before == 0 && after == 0 {
            return;
        }
        let range = spread.range_of(slot);
        self.layers.resize(spread.ranges(), 0);
        self.layers[range] = self.layers[range] + after - before;
        let section = if self.packed { spread.whole() } else { spread.section_of(&self.layers, range) };
        match self.sections.get_mut(&section) {
            Some(md) => {
                md.records = md.records + after - before;
                md.dirty = true;
            }
            None => self.lay_out(spread, section),
        }
    }

    /// The layer pages as they were found, each with the slots of its records. Pages that are not those of one section
    /// each, as in stores that others wrote, stay as they are until something changes.
    pub(crate) fn load(&mut self, spread: Spread, found: Vec<(MdPageIdx, Vec<usize>)>) {
        self.layers.resize(spread.ranges(), 0);
        for slot in found.iter().flat_map(|(_, slots)| slots) {
            self.layers[spread.range_of(*slot)] += 1;
        }
        let section = |slots: &[usize]| {
            let mut sections =
                slots.iter().map(|slot| spread.section_of(&self.layers, spread.range_of(*slot)));
            let first = sections.next()?;
            sections.all(|section| section == first).then_some(first)
        };
        let sections: Vec<Option<Section>> = found.iter().map(|(_, slots)| section(slots)).collect();
        self.packed = sections.contains(&None);
        for ((page, slots), section) in found.into_iter().zip(sections) {
            let section = section.filter(|_| !self.packed).unwrap_or(spread.whole());
            let md = self.sections.entry(section).or_default();
            md.records += u32::try_from(slots.len()).unwrap_or(u32::MAX);
            md.pages.push(page);
        }
    }

    /// Gives up pages that are another's. Says whether there were any.
    pub(crate) fn lose_pages(&mut self, is_lost: &mut impl FnMut(MdPageIdx) -> bool) -> bool {
        let before = self.pages().count();
        self.extent = self.extent.filter(|page| !is_lost(*page));
        self.sections.values_mut().for_each(|section| section.pages.retain(|page| !is_lost(*page)));
        self.pages().count() < before
    }

    /// All of it must be written.
    pub(crate) fn rewrite(&mut self) {
        self.extent_dirty = true;
        self.sections.values_mut().for_each(|section| section.dirty = true);
    }

    /// Nothing is owned here any more.
    pub(crate) fn clear(&mut self) {
        self.own_full = 0;
        self.layers.clear();
        self.extent_dirty = true;
        for section in self.sections.values_mut() {
            section.records = 0;
            section.dirty = true;
        }
    }

    /// Packs or spreads the records. All of them must be written.
    pub(crate) fn set_packed(&mut self, spread: Spread, packed: bool) {
        self.packed = packed;
        self.lay_out(spread, spread.whole());
    }

    /// Divides a section anew that is one now, or what it was a part of until now.
    fn lay_out(&mut self, spread: Spread, section: Section) {
        let old: Vec<Section> = self.sections.keys().copied().filter(|old| old.overlaps(section)).collect();
        let part = old.iter().copied().find(|old| old.contains(section)).unwrap_or(section);
        let take = |section: Section| self.sections.remove(&section).map(|md| (section, md));
        let old = old.into_iter().filter_map(take).collect();
        self.divide(spread, part, old);
    }

    /// Divides a part of the ordinal into sections and gives them the pages of the old ones. Those that stay what they
    /// were need not be written.
    fn divide(&mut self, spread: Spread, part: Section, mut old: Vec<(Section, SectionMd)>) {
        let mut sections = match self.packed {
            true => alloc::vec![(part, self.own_layers())],
            false => spread.sections(&self.layers, part),
        };
        sections.retain(|(section, records)| {
            let mut same = old.iter().enumerate().filter(|(_, (old, _))| old.overlaps(*section));
            let kept = match (same.next(), same.next()) {
                (Some((at, (old, md))), None) if old == section && md.records == *records => Some(at),
                _ => None,
            };
            if let Some((section, md)) = kept.map(|at| old.swap_remove(at)) {
                self.sections.insert(section, md);
            }
            kept.is_none() && *records > 0
        });
        let mut pages = old.into_iter().flat_map(|(_, md)| md.pages);
        for (section, records) in sections {
            let pages = pages.by_ref().take(spread.pages(records)).collect();
            self.sections.insert(section, SectionMd { records, pages, dirty: true });
        }
        // What is left is given back by the next checkpoint.
        let left: Vec<MdPageIdx> = pages.collect();
        if !left.is_empty() {
            let at = self.sections.keys().copied().find(|section| part.contains(*section)).unwrap_or(part);
            let md = self.sections.entry(at).or_default();
            md.pages.extend(left);
            md.dirty = true;
        }
    }

    /// Takes over what a snapshot has in the same ordinal, of which this blob was a clone. `own_full` and `layers` are
    /// what is left of both: what nothing shows any more is gone. Hands back an extent page that nobody needs.
    pub(crate) fn join(
        &mut self,
        spread: Spread,
        other: Self,
        own_full: u16,
        layers: Vec<u32>,
    ) -> Option<MdPageIdx> {
        let spare = self.extent.and(other.extent);
        let both_full = self.own_full > 0 && other.own_full > 0;
        let hidden = own_full != self.own_full + other.own_full;
        self.extent_dirty |= other.extent_dirty || spare.is_some() || both_full || hidden;
        self.extent = self.extent.or(other.extent);
        self.own_full = own_full;
        // A removal must not fail for want of md pages: what they would not suffice to spread is packed.
        let planned = |md: &Self| md.totals(Encoding::Rle, spread).layers;
        let short = spread.pages_for(&layers) > planned(self) + planned(&other);
        self.packed |= other.packed || short;
        self.layers = layers;
        let old = core::mem::take(&mut self.sections).into_iter().chain(other.sections).collect();
        self.divide(spread, spread.whole(), old);
        spare
    }

    /// Whether these are the own layers in each range, and each section knows of its part.
    pub(crate) fn counts(&self, spread: Spread, layers: &[u32]) -> bool {
        let sections = match self.packed {
            true => alloc::vec![(spread.whole(), layers.iter().sum())],
            false => spread.sections(layers, spread.whole()),
        };
        let sections = sections.into_iter().filter(|(_, records)| *records > 0);
        let known = self.sections.iter().map(|(section, md)| (*section, md.records));
        let same = layers.iter().zip(self.layers.iter().chain(core::iter::repeat(&0)));
        same.into_iter().all(|(counted, kept)| counted == kept)
            && known.filter(|(_, records)| *records > 0).eq(sections)
    }

    /// Whether nothing is owned here and no page is left over.
    pub(crate) fn is_vacant(&self) -> bool {
        !self.owns_any() && self.extent.is_none() && self.sections.values().all(|md| md.pages.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPREAD: Spread = Spread::of(15);

    /// Gives every section the pages that it needs, and numbers them.
    fn assigned(md: &mut OrdinalMd, next: &mut u32) {
        for section in md.sections.values_mut() {
            section.pages.truncate(SPREAD.pages(section.records));
            while section.pages.len() < SPREAD.pages(section.records) {
                section.pages.push(MdPageIdx(*next));
                *next += 1;
            }
        }
        md.settle();
    }

    /// The pages with the slots of their records, as a loader finds them. `per_slot` are the layers of each slot.
    fn found(md: &OrdinalMd, per_slot: &[u32]) -> Vec<(MdPageIdx, Vec<usize>)> {
        let mut found = Vec::new();
        for (section, pages) in &md.sections {
            let slots: Vec<usize> =
                SPREAD.slots(*section).flat_map(|slot| (0..per_slot[slot]).map(move |_| slot)).collect();
            found.extend(pages.pages.iter().copied().zip(slots.chunks(15).map(<[usize]>::to_vec)));
        }
        found
    }

    fn dirty_pages(md: &OrdinalMd) -> usize {
        md.sections
            .values()
            .filter(|section| section.dirty)
            .map(|section| SPREAD.pages(section.records))
            .sum()
    }

    #[test]
    fn a_change_in_a_full_ordinal_concerns_one_page() {
        let (mut md, mut next) = (OrdinalMd::default(), 1);
        (0..512).for_each(|slot| md.change_layers(SPREAD, slot, 0, 1));
        assigned(&mut md, &mut next);
        assert_eq!((md.layer_pages().count(), dirty_pages(&md)), (35, 0));
        md.change_layers(SPREAD, 100, 1, 1);
        assert_eq!(dirty_pages(&md), 1);
        assert_eq!(md.totals(Encoding::Table, SPREAD).images, 1);
    }

    #[test]
    fn what_others_packed_is_kept_until_it_is_spread() {
        let mut md = OrdinalMd::default();
        let slots: Vec<usize> = (0..64).map(|slot| slot * 8).collect();
        let found = (1..).map(MdPageIdx).zip(slots.chunks(15).map(<[usize]>::to_vec));
        md.load(SPREAD, found.collect());
        assert!(md.packed && dirty_pages(&md) == 0);
        assert_eq!((md.own_layers(), md.layer_pages().count()), (64, 5));
        md.change_layers(SPREAD, 8, 1, 1);
        assert_eq!(dirty_pages(&md), 5);
        md.set_packed(SPREAD, false);
        let totals = md.totals(Encoding::Table, SPREAD);
        assert_eq!((totals.layers, totals.missing), (6, 1));
        assert_eq!(md.layer_pages().map(|page| page.0).collect::<std::vec::Vec<_>>(), [1, 2, 3, 4, 5]);
    }

    proptest! {
        /// Whatever happens to its slots, an ordinal knows its sections, and loads as what it was.
        #[test]
        fn loads_as_what_it_was(
            changes in prop::collection::vec((0_usize..512, 0_u32..4, prop::bool::weighted(0.1)), 1..300),
        ) {
            let (mut md, mut next) = (OrdinalMd::default(), 1);
            let mut per_slot = [0; 512];
            for (slot, after, checkpoint) in changes {
                md.change_layers(SPREAD, slot, per_slot[slot], after);
                per_slot[slot] = after;
                if checkpoint {
                    assigned(&mut md, &mut next);
                }
            }
            let mut layers = [0; 35];
            per_slot.iter().enumerate().for_each(|(slot, count)| layers[SPREAD.range_of(slot)] += count);
            prop_assert!(md.counts(SPREAD, &layers));
            assigned(&mut md, &mut next);
            let mut loaded = OrdinalMd::default();
            loaded.load(SPREAD, found(&md, &per_slot));
            prop_assert!(!loaded.packed && loaded.counts(SPREAD, &layers));
            prop_assert!(loaded.layer_pages().eq(md.layer_pages()));
        }
    }
}
