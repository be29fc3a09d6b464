//! From a byte range of an lvol to where the bytes are.

use crate::blob::Blob;
use crate::map::{Entry, Source};
use crate::state::State;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_block::DeviceOffset;
use offshoot_format::{BlobCluster, ClusterIdx, ExtentOrdinal};

/// Where a run of bytes is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nothing is there.
    Zeros,
    /// Nobody can tell.
    Unknown,
    /// On the store's own device.
    Store(DeviceOffset),
    /// In the external snapshot, at the same offset as in the lvol.
    External(DeviceOffset),
}

impl Origin {
    fn plus(self, bytes: u64) -> Self {
        match self {
            Self::Zeros => Self::Zeros,
            Self::Unknown => Self::Unknown,
            Self::Store(offset) => Self::Store(offset.plus(bytes)),
            Self::External(offset) => Self::External(offset.plus(bytes)),
        }
    }
}

/// A run of bytes of an lvol with one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// First byte, from the start of the lvol.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
    /// Where the first byte is.
    pub origin: Origin,
}

/// Behind the end of an external snapshot there are zeros: lvols may be longer.
pub(crate) fn cut_externals(segments: &mut Vec<Segment>, size_bytes: u64) {
    let mut number = 0;
    while let Some(segment) = segments.get_mut(number) {
        number += 1;
        let Origin::External(at) = segment.origin else { continue };
        let there = size_bytes.saturating_sub(at.0).min(segment.len);
        if there == 0 {
            segment.origin = Origin::Zeros;
        } else if there < segment.len {
            let behind =
                Segment { start: segment.start + there, len: segment.len - there, origin: Origin::Zeros };
            segment.len = there;
            segments.insert(number, behind);
            number += 1;
        }
    }
}

/// A run of an lvol as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
    /// Whether it reads zeros because nothing is stored for it. Stored zeros are data.
    pub hole: bool,
    /// Whether nobody can tell what it reads, because metadata is damaged: reading it fails with
    /// [`Error::UnknownPart`](crate::Error::UnknownPart). Everything else of a damaged lvol can be read, so that what
    /// is left of it can be saved. Never together with `hole`.
    pub unknown: bool,
}

impl State {
    /// Byte position of a block of a physical cluster.
    pub(crate) fn block_offset(&self, cluster: ClusterIdx, in_cluster: u64) -> DeviceOffset {
        DeviceOffset(self.layout.cluster_offset(cluster) + in_cluster)
    }

    /// Where blocks of a cluster lie on the device: all of them with `None`.
    pub(crate) fn device_range(&self, cluster: ClusterIdx, blocks: Option<&Range<u32>>) -> Range<u64> {
        let start = self.layout.cluster_offset(cluster);
        match blocks {
            Some(blocks) => {
                let at = |block: u32| {
                    (start + u64::from(block) * self.units.block).min(start + self.units.cluster)
                };
                at(blocks.start)..at(blocks.end)
            }
            None => start..start + self.units.cluster,
        }
    }

    /// The run of bytes from `pos` on (at most to `end`) within one cluster that comes from one source.
    pub(crate) fn source_at(&self, blob: &Blob, pos: u64, end: u64) -> (Source, Range<u64>) {
        let at = pos / self.units.cluster;
        let entry = blob.tree.entry(BlobCluster(at));
        self.source_in(&entry, at, pos, end)
    }

    /// The same for an entry that is at hand already.
    pub(crate) fn source_in(&self, entry: &Entry, at: u64, pos: u64, end: u64) -> (Source, Range<u64>) {
        let units = self.units;
        let base = at * units.cluster;
        let last = (end - base).div_ceil(units.block).min(u64::from(units.blocks));
        #[expect(clippy::cast_possible_truncation, reason = "a cluster has fewer than 2^32 blocks")]
        let (block, limit) = (((pos - base) / units.block) as u32, last as u32);
        let (source, run_end) = entry.source(block, limit);
        let run_end = base + (u64::from(run_end) * units.block).min(units.cluster);
        (source, pos..run_end.min(end))
    }

    /// The segments of a byte range, joined where they follow each other on the device.
    pub(crate) fn resolve(&self, blob: &Blob, range: Range<u64>, segments: &mut Vec<Segment>) {
        segments.clear();
        let mut pos = range.start;
        while pos < range.end {
            let (source, run) = self.source_at(blob, pos, range.end);
            let in_cluster = pos % self.units.cluster;
            let at = pos / self.units.cluster;
            let origin = match self.known(blob, at, source) {
                Source::Zeros => Origin::Zeros,
                Source::Unknown => Origin::Unknown,
                Source::Cluster { cluster, .. } => Origin::Store(self.block_offset(cluster, in_cluster)),
                Source::Base => match &blob.external {
                    Some(external) if at < external.len => Origin::External(DeviceOffset(pos)),
                    _ => Origin::Zeros,
                },
            };
            match segments.last_mut() {
                Some(last) if last.origin.plus(last.len) == origin => last.len += run.end - run.start,
                _ => segments.push(Segment { start: pos, len: run.end - run.start, origin }),
            }
            pos = run.end;
        }
    }

    /// What a source comes to for a blob that may be damaged: a cluster that others claim too, and what lies below a
    /// map that is lost, are unknown.
    fn known(&self, blob: &Blob, at: u64, source: Source) -> Source {
        if blob.damage.is_some() { self.judged(blob, at, source) } else { source }
    }

    fn judged(&self, blob: &Blob, at: u64, source: Source) -> Source {
        match source {
            Source::Base if at < blob.lost_len => Source::Unknown,
            Source::Cluster { cluster, .. } if self.disputed_clusters.contains_key(&cluster) => {
                Source::Unknown
            }
            _ => source,
        }
    }

    /// What of a byte range is data, what is a hole and what is unknown, in order and without gaps. At most `limit`
    /// extents; the last one may then end before the range does. Needs no I/O.
    #[must_use]
    pub fn extents(&self, blob: &Blob, range: Range<u64>, limit: usize) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut pos = range.start;
        while pos < range.end {
            let at = pos / self.units.cluster;
            let (source, run) = match self.absent_run(blob, pos, range.end) {
                Some(run) => (Source::Base, run),
                None => self.source_at(blob, pos, range.end),
            };
            let source = self.known(blob, at, source);
            let external = blob.external.as_ref().is_some_and(|external| at < external.len);
            let unknown = source == Source::Unknown;
            let hole = match source {
                Source::Zeros => true,
                Source::Base => !external,
                Source::Cluster { .. } | Source::Unknown => false,
            };
            let full = extents.len() == limit;
            match extents.last_mut() {
                Some(last) if (last.hole, last.unknown) == (hole, unknown) => last.len += run.end - run.start,
                _ if full => break,
                _ => extents.push(Extent { start: pos, len: run.end - run.start, hole, unknown }),
            }
            pos = run.end;
        }
        extents
    }

    /// Whether nobody can tell what some part of a blob reads.
    pub(crate) fn reads_unknown(&self, blob: &Blob) -> bool {
        let lost = blob.lost_len.min(blob.len);
        let ordinals = lost.div_ceil(crate::map::SLOTS as u64);
        let mut ordinals = (0..ordinals).map_while(|ordinal| u32::try_from(ordinal).ok()).map(ExtentOrdinal);
        if ordinals.any(|ordinal| blob.tree.leaf(ordinal).is_none()) {
            return true;
        }
        let is_unknown = |at: u64, entry: &Entry| {
            let mut block = 0;
            while block < self.units.blocks {
                let (source, end) = entry.source(block, self.units.blocks);
                if self.judged(blob, at, source) == Source::Unknown {
                    return true;
                }
                block = end;
            }
            false
        };
        blob.tree.ordinals().into_iter().any(|ordinal| {
            let start = ordinal.first_cluster().0;
            let slots = usize::try_from(blob.len.saturating_sub(start)).unwrap_or(usize::MAX);
            let slots = 0..slots.min(crate::map::SLOTS);
            let leaf = blob.tree.leaf(ordinal);
            leaf.is_some_and(|leaf| {
                slots.into_iter().any(|slot| is_unknown(start + slot as u64, &leaf.entry(slot)))
            })
        })
    }

    /// The run of clusters without a leaf at `pos`, so that sparse volumes are crossed in large steps.
    fn absent_run(&self, blob: &Blob, pos: u64, end: u64) -> Option<Range<u64>> {
        let at = pos / self.units.cluster;
        let (ordinal, _) = offshoot_format::ExtentOrdinal::of(BlobCluster(at));
        if blob.tree.leaf(ordinal).is_some() || blob.external.is_some() {
            return None;
        }
        let next = ordinal.first_cluster().0 + crate::map::SLOTS as u64;
        // All of a run is of one kind.
        let next = if at < blob.lost_len { next.min(blob.lost_len) } else { next };
        Some(pos..(next * self.units.cluster).min(end))
    }
}
