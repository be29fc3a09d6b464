//! How much a record makes a checkpoint write, before it is applied.

use crate::blob::Blob;
use crate::map::SLOTS;
use crate::record::Record;
use crate::state::State;
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ExtentOrdinal};

impl State {
    /// Md pages that a checkpoint writes over because of a record, at most, beyond what is dirty already.
    pub(crate) fn images_of(&self, record: &Record) -> usize {
        match record {
            Record::Create { .. } | Record::Assign { .. } | Record::Destroy { .. } => 0,
            Record::Snapshot { origin, .. } => self.chain_images(*origin) + 1,
            Record::Clone { parent, .. } => self.chain_images(*parent),
            Record::Map { blob, at, .. } | Record::ZeroBlocks { blob, at, .. } => {
                self.chain_images(*blob) + self.blob(*blob).map_or(0, |blob| self.ordinal_images(blob, *at))
            }
            Record::ZeroClusters { blob, range } => {
                self.chain_images(*blob)
                    + self.blob(*blob).map_or(0, |blob| self.range_images(blob, range.clone()))
            }
            Record::Resize { blob, len, .. } => {
                let ends = |blob: &Blob| {
                    let last = |len: u64| self.ordinal_images(blob, BlobCluster(len.saturating_sub(1)));
                    last(blob.len) + last(*len)
                };
                self.chain_images(*blob) + self.blob(*blob).map_or(0, ends)
            }
            Record::SetXattr { blob, .. } | Record::MarkDying { blob } | Record::Release { blob, .. } => {
                self.chain_images(*blob)
            }
            Record::UseExtentTable { blobs } => {
                let pages =
                    |blob: &Blob| blob.pages.ordinals.values().map(|md| md.layers.len()).sum::<usize>();
                let images = |id: &BlobId| self.chain_images(*id) + self.blob(*id).map_or(0, pages);
                blobs.iter().map(images).sum()
            }
            Record::Adopt { snapshot, clone } => {
                self.chain_images(*snapshot)
                    + self.chain_images(*clone)
                    + self.joined_images(*snapshot, *clone)
            }
        }
    }

    /// Pages of a blob's chain that are not counted yet.
    fn chain_images(&self, id: BlobId) -> usize {
        self.blob(id).filter(|_| !self.dirty.contains(&id)).map_or(0, |blob| blob.pages.chain.len())
    }

    /// Pages of the ordinal of a cluster that are not counted yet.
    fn ordinal_images(&self, blob: &Blob, at: BlobCluster) -> usize {
        let (ordinal, _) = ExtentOrdinal::of(at);
        let pages = blob.pages.ordinals.get(&ordinal);
        let pages = pages.map_or(0, |md| usize::from(md.extent.is_some()) + md.layers.len());
        if blob.pages.dirty.contains(&ordinal) { pages.min(1) } else { pages }
    }

    fn range_images(&self, blob: &Blob, range: Range<u64>) -> usize {
        let starts =
            (range.start / SLOTS as u64..range.end.div_ceil(SLOTS as u64)).map(|start| start * SLOTS as u64);
        starts.map(|at| self.ordinal_images(blob, BlobCluster(at))).sum()
    }

    /// Pages of ordinals in which both a snapshot and its clone own something: they are written anew.
    fn joined_images(&self, snapshot: BlobId, clone: BlobId) -> usize {
        let (Some(snapshot), Some(clone)) = (self.blob(snapshot), self.blob(clone)) else { return 0 };
        let both =
            clone.pages.ordinals.iter().filter_map(|(at, md)| Some((md, snapshot.pages.ordinals.get(at)?)));
        both.map(|(own, theirs)| {
            usize::from(own.extent.is_some() || theirs.extent.is_some())
                + own.layers.len()
                + theirs.layers.len()
        })
        .sum()
    }
}
