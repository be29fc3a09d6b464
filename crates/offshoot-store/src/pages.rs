//! The md pages of a blob: which it has, which are out of date, and how many a checkpoint may have to add.
//!
//! A checkpoint never fails for want of a page: what it may need at most, the *debt*, is counted with every change
//! and held against what is free before a change is planned.

mod ordinal;
mod parts;
mod spread;

pub use ordinal::{OrdinalMd, SectionMd};
pub(crate) use parts::{by_ordinal, by_range};
pub use spread::{Section, Spread};

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use offshoot_format::{ExtentOrdinal, MdPageIdx};

/// The metadata of a blob as it lies on disk, and what of it is out of date.
#[derive(Clone, Debug, Default)]
pub struct BlobPages {
    /// The chain, root first. Only the root until the first checkpoint.
    pub chain: Vec<MdPageIdx>,
    /// By ordinal, where the blob owns something or has pages.
    pub ordinals: BTreeMap<ExtentOrdinal, OrdinalMd>,
    /// Ordinals of which some page must be written.
    pub dirty: BTreeSet<ExtentOrdinal>,
    /// What the blob adds to `State::image_pages` now.
    pub images: usize,
    /// Whether the chain holds a native descriptor as it was written last.
    pub native: bool,
    /// Whether the root has never been written: nothing on disk refers to it, so that it needs no image.
    pub unwritten: bool,
    /// Whether some of the chain cannot be read, so that it is not written until the blob goes.
    pub unread: bool,
    /// Whether the chain must be written.
    pub chain_dirty: bool,
    /// How many md pages the ordinals need.
    pub totals: Totals,
    /// Upper bound of the runs of an RLE map.
    pub rle_runs: u64,
    /// Md pages that the next checkpoint may have to add for this blob, at most.
    pub debt: usize,
}

/// How many md pages of a kind a set of ordinals has or needs, whichever is more, and what of them a checkpoint does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Extent pages.
    pub extents: usize,
    /// Layer pages.
    pub layers: usize,
    /// Of both, how many have no md page yet.
    pub missing: usize,
    /// Of both, how many are written over: their images take room in the journal.
    pub images: usize,
}

impl BlobPages {
    /// Md pages that a checkpoint of this blob writes over, at most.
    fn overwritten(&self) -> usize {
        self.chain.len() - usize::from(self.unwritten && !self.chain.is_empty()) + self.totals.images
    }

    /// Brings this blob's part of what a checkpoint writes over up to date.
    pub(crate) fn settle_images(&mut self, is_dirty: bool, image_pages: &mut usize) {
        let images = if is_dirty { self.overwritten() } else { 0 };
        *image_pages = *image_pages + images - self.images;
        self.images = images;
    }
}

impl Totals {
    pub(crate) fn replace(&mut self, before: Self, after: Self) {
        self.extents = self.extents + after.extents - before.extents;
        self.layers = self.layers + after.layers - before.layers;
        self.missing = self.missing + after.missing - before.missing;
        self.images = self.images + after.images - before.images;
    }

    /// Whether the chain says something else now, or needs more pages.
    pub(crate) fn differ_in_pages(self, other: Self) -> bool {
        Self { images: 0, ..self } != Self { images: 0, ..other }
    }
}
