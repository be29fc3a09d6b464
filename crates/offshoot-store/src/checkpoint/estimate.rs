//! How much a record makes a checkpoint write, before it is applied.

use crate::blob::Blob;
use crate::pages::{OrdinalMd, by_ordinal};
use crate::record::Record;
use crate::state::State;
use alloc::collections::BTreeSet;
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ExtentOrdinal};

impl Record {
    /// Blobs whose roots a checkpoint writes over because of this record, at most. Roots stay where they are.
    pub(crate) fn roots(&self) -> usize {
        match self {
            Self::Create { .. } | Self::Clone { .. } | Self::Destroy { .. } => 0,
            Self::UseExtentTable { blobs } => blobs.len(),
            Self::Snapshot { .. }
            | Self::Map { .. }
            | Self::Fill { .. }
            | Self::DropZeros { .. }
            | Self::KeepZeros { .. }
            | Self::Bypass { .. }
            | Self::Inherit { .. }
            | Self::Inflate { .. }
            | Self::ZeroBlocks { .. }
            | Self::ZeroClusters { .. }
            | Self::Resize { .. }
            | Self::SetXattr { .. }
            | Self::RemoveXattr { .. }
            | Self::SetReadOnly { .. }
            | Self::SetParent { .. }
            | Self::MarkDying { .. }
            | Self::Release { .. }
            | Self::Adopt { .. }
            | Self::Assign { .. } => 1,
        }
    }
}

/// The one cluster that a record is about.
fn place(record: &Record) -> Option<(BlobId, BlobCluster)> {
    match record {
        Record::Map { blob, at, .. }
        | Record::Fill { blob, at, .. }
        | Record::ZeroBlocks { blob, at, .. } => Some((*blob, *at)),
        _ => None,
    }
}

impl State {
    /// Md pages that a checkpoint writes over because of a record, at most, beyond what is dirty already.
    pub(crate) fn images_of(&self, record: &Record) -> usize {
        match record {
            // What they write nobody refers to yet, or any more.
            Record::Create { .. } | Record::Clone { .. } | Record::Assign { .. } | Record::Destroy { .. } => {
                0
            }
            Record::Snapshot { origin, .. } => self.chain_images(*origin) + 1,
            Record::Map { blob, at, .. }
            | Record::Fill { blob, at, .. }
            | Record::DropZeros { blob, at }
            | Record::KeepZeros { blob, at }
            | Record::ZeroBlocks { blob, at, .. } => {
                let pages = self.blob(*blob).map_or(0, |blob| self.range_images(blob, at.0..at.0 + 1));
                self.chain_images(*blob) + pages
            }
            Record::ZeroClusters { blob, range } => {
                self.chain_images(*blob)
                    + self.blob(*blob).map_or(0, |blob| self.range_images(blob, range.clone()))
            }
            Record::Resize { blob, len, runs } => {
                let pages = |blob: &Blob| {
                    let last = |len: u64| self.range_images(blob, len.saturating_sub(1)..len);
                    // What was cut off lately has its extent pages still.
                    let start = runs.first().map_or(0, |run| run.at.0);
                    let end = runs.last().map_or(start, |run| run.at.0 + u64::from(run.length));
                    last(blob.len) + last(*len) + self.range_images(blob, start..end)
                };
                self.chain_images(*blob) + self.blob(*blob).map_or(0, pages)
            }
            Record::SetXattr { blob, .. }
            | Record::RemoveXattr { blob, .. }
            | Record::SetReadOnly { blob }
            | Record::Inherit { blob, .. }
            | Record::Inflate { blob }
            | Record::Bypass { blob, .. }
            | Record::SetParent { blob, .. }
            | Record::MarkDying { blob }
            | Record::Release { blob, .. } => self.chain_images(*blob),
            Record::UseExtentTable { blobs } => {
                let extents = |blob: &Blob| blob.pages.ordinals.values().filter_map(|md| md.extent).count();
                let images = |id: &BlobId| self.chain_images(*id) + self.blob(*id).map_or(0, extents);
                blobs.iter().map(images).sum()
            }
            Record::Adopt { snapshot, clone } => {
                self.chain_images(*snapshot)
                    + self.chain_images(*clone)
                    + self.joined_images(*snapshot, *clone)
            }
        }
    }

    /// The same for the records of a transaction, and how many of these pages are roots. What records of neighbouring
    /// clusters write over counts once.
    pub(crate) fn images_of_all(&self, records: &[Record]) -> (usize, usize) {
        let is_next = |left: &Record, right: &Record| match (place(left), place(right)) {
            (Some((blob, at)), Some((other, next))) => {
                blob == other && (at.0..=at.0.saturating_add(1)).contains(&next.0)
            }
            _ => false,
        };
        let (mut images, mut roots) = (0, 0);
        for run in records.chunk_by(is_next) {
            let ends = run.first().and_then(place).zip(run.last().and_then(place));
            images += match ends.and_then(|ends| Some((ends, self.blob(ends.0.0)?))) {
                Some((((id, first), (_, last)), blob)) => {
                    self.chain_images(id) + self.range_images(blob, first.0..last.0.saturating_add(1))
                }
                None => run.iter().map(|record| self.images_of(record)).sum(),
            };
            roots += run.first().map_or(0, Record::roots);
        }
        (images, roots)
    }

    /// Pages of a blob's chain that are not counted yet.
    fn chain_images(&self, id: BlobId) -> usize {
        self.blob(id).filter(|_| !self.dirty.contains(&id)).map_or(0, |blob| blob.pages.chain.len())
    }

    /// Pages of a range of clusters that are not counted yet.
    fn range_images(&self, blob: &Blob, range: Range<u64>) -> usize {
        let images = |(ordinal, slots)| {
            let md = blob.pages.ordinals.get(&ordinal);
            md.map_or(0, |md| md.uncounted_images(self.units.spread, slots))
        };
        by_ordinal(range).map(images).sum()
    }

    /// Pages of ordinals in which both a snapshot and its clone own something, or the clone hides what the snapshot
    /// owns: they are written anew.
    fn joined_images(&self, snapshot: BlobId, clone: BlobId) -> usize {
        let (Some(snapshot), Some(clone)) = (self.blob(snapshot), self.blob(clone)) else { return 0 };
        let (shown, _) = ExtentOrdinal::of(BlobCluster(clone.inherit_len));
        let last = |len: u64| ExtentOrdinal::of(BlobCluster(len.saturating_sub(1))).0;
        let ends = [last(clone.len), last(snapshot.len)];
        let ends = if clone.len == snapshot.len { &ends[..0] } else { &ends[..] };
        let vacant = OrdinalMd::default();
        let ordinals: BTreeSet<&ExtentOrdinal> =
            clone.pages.ordinals.keys().chain(snapshot.pages.ordinals.keys()).collect();
        let pages = |at: &&ExtentOrdinal| {
            let own = clone.pages.ordinals.get(at);
            let theirs = snapshot.pages.ordinals.get(at);
            let is_hidden = clone.inherit_len < snapshot.len && **at >= shown;
            let joins = own.is_some() && theirs.is_some() || is_hidden;
            let (own, theirs) = (own.unwrap_or(&vacant), theirs.unwrap_or(&vacant));
            let extent = joins || ends.contains(at);
            let layers = if joins { own.layer_pages().count() + theirs.layer_pages().count() } else { 0 };
            usize::from(extent && (own.extent.is_some() || theirs.extent.is_some())) + layers
        };
        ordinals.iter().map(pages).sum()
    }
}
