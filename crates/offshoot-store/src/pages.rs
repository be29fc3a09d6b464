//! The md pages of a blob: which it has, which are out of date, and how many a checkpoint may have to add.
//!
//! A checkpoint never fails for want of a page: what it may need at most, the *debt*, is counted with every change
//! and held against what is free before a change is planned.

use crate::record::Encoding;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use offshoot_format::{ExtentOrdinal, MdPageIdx};

/// What a blob owns in one extent page's worth of clusters, and the md pages that say so on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrdinalMd {
    /// Own full clusters at the bottom of their entries: slots of the extent page.
    pub own_full: u16,
    /// Own layers: records of the layer pages.
    pub own_layers: u32,
    /// The extent page, once a checkpoint has assigned one.
    pub extent: Option<MdPageIdx>,
    /// The layer pages.
    pub layers: Vec<MdPageIdx>,
}

/// The metadata of a blob as it lies on disk, and what of it is out of date.
#[derive(Clone, Debug, Default)]
pub struct BlobPages {
    /// The chain, root first. Only the root until the first checkpoint.
    pub chain: Vec<MdPageIdx>,
    /// By ordinal, where the blob owns something or has pages.
    pub ordinals: BTreeMap<ExtentOrdinal, OrdinalMd>,
    /// Ordinals whose pages must be written.
    pub dirty: BTreeSet<ExtentOrdinal>,
    /// Md pages of the dirty ordinals that would be written over: their images take room in the journal.
    pub dirty_images: usize,
    /// What the blob adds to `State::image_pages` now.
    pub images: usize,
    /// Whether the chain holds a native descriptor as it was written last.
    pub native: bool,
    /// Whether the root has never been written: nothing on disk refers to it, so that it needs no image.
    pub unwritten: bool,
    /// Whether the chain must be written.
    pub chain_dirty: bool,
    /// How many md pages the ordinals need.
    pub totals: Totals,
    /// Upper bound of the runs of an RLE map.
    pub rle_runs: u64,
    /// Md pages that the next checkpoint may have to add for this blob, at most.
    pub debt: usize,
}

/// How many md pages of a kind a set of ordinals has or needs, whichever is more, and how many are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Extent pages.
    pub extents: usize,
    /// Layer pages.
    pub layers: usize,
    /// Of both, how many have no md page yet.
    pub missing: usize,
}

impl BlobPages {
    /// Md pages that a checkpoint of this blob writes over, at most.
    fn overwritten(&self) -> usize {
        self.chain.len() - usize::from(self.unwritten && !self.chain.is_empty()) + self.dirty_images
    }

    /// Brings this blob's part of what a checkpoint writes over up to date.
    pub(crate) fn settle_images(&mut self, is_dirty: bool, image_pages: &mut usize) {
        let images = if is_dirty { self.overwritten() } else { 0 };
        *image_pages = *image_pages + images - self.images;
        self.images = images;
    }

    /// Counts the images of the dirty ordinals anew.
    pub(crate) fn recount_images(&mut self, encoding: Encoding, records_per_page: usize) {
        let dirty = self.dirty.iter().filter_map(|ordinal| self.ordinals.get(ordinal));
        self.dirty_images = dirty.map(|md| md.overwritten(encoding, records_per_page)).sum();
    }
}

impl Totals {
    pub(crate) fn replace(&mut self, before: Self, after: Self) {
        self.extents = self.extents + after.extents - before.extents;
        self.layers = self.layers + after.layers - before.layers;
        self.missing = self.missing + after.missing - before.missing;
    }
}

impl OrdinalMd {
    /// Whether this ordinal needs an extent page, and how many layer pages.
    pub(crate) fn needed(&self, encoding: Encoding, records_per_page: usize) -> (bool, usize) {
        let extent = self.own_full > 0 && encoding == Encoding::Table;
        (extent, (self.own_layers as usize).div_ceil(records_per_page))
    }

    /// How many md pages this ordinal has or needs, whichever is more.
    pub(crate) fn planned(&self, encoding: Encoding, records_per_page: usize) -> Totals {
        let (extent, layers) = self.needed(encoding, records_per_page);
        let extents = usize::from(extent);
        let has_extent = usize::from(self.extent.is_some());
        Totals {
            extents: extents.max(has_extent),
            layers: layers.max(self.layers.len()),
            missing: extents.saturating_sub(has_extent) + layers.saturating_sub(self.layers.len()),
        }
    }

    /// How many of its md pages a checkpoint writes over.
    pub(crate) fn overwritten(&self, encoding: Encoding, records_per_page: usize) -> usize {
        let (extent, layers) = self.needed(encoding, records_per_page);
        usize::from(extent && self.extent.is_some()) + layers.min(self.layers.len())
    }

    /// Whether nothing is owned here and no page is left over.
    pub(crate) fn is_vacant(&self) -> bool {
        *self == Self::default()
    }
}
