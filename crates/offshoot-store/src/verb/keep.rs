//! Copy on read: what an lvol has read from its external snapshot it keeps. Here is what of a cluster that is.

use super::{Blocks, Need, Needed, WorkCost};
use crate::blob::Blob;
use crate::error::Error;
use crate::map::Source;
use crate::state::State;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ExtentOrdinal};

impl State {
    /// What keeping some blocks of a cluster takes.
    ///
    /// # Errors
    /// There is no such lvol, or it is damaged.
    pub(crate) fn keep_cost(
        &self,
        lvol: BlobId,
        at: BlobCluster,
        blocks: &Range<u32>,
    ) -> Result<WorkCost, Error> {
        let need = self.keep_need(self.sound_lvol(lvol)?, at, blocks);
        let Some(Need::Fill { target, missing, .. }) = need else { return Ok(WorkCost::default()) };
        // A layer page, an extent page, and a page of the chain that names them.
        Ok(WorkCost { filled: 1, clusters: target.is_none().into(), bytes: missing, md_pages: 3, freed: 0 })
    }

    /// The ordinal of the cluster, if it is not before `from` and something is left to be kept.
    pub(crate) fn keep_needs(
        &self,
        blob: &Blob,
        from: ExtentOrdinal,
        at: BlobCluster,
        blocks: &Range<u32>,
    ) -> Option<(ExtentOrdinal, Vec<Needed>)> {
        let (ordinal, _) = ExtentOrdinal::of(at);
        let need = self.keep_need(blob, at, blocks).filter(|_| ordinal >= from)?;
        Some((ordinal, alloc::vec![(at, need)]))
    }

    /// What a cluster needs to hold those of some blocks itself that it reads from the external snapshot.
    pub(crate) fn keep_need(&self, blob: &Blob, at: BlobCluster, blocks: &Range<u32>) -> Option<Need> {
        let shows = blob.external.as_ref().is_some_and(|external| at.0 < external.len.min(blob.len));
        if blob.dying || blob.is_read_only() || !shows {
            return None;
        }
        let entry = blob.tree.entry(at);
        let mut block = blocks.start;
        let mut missing = 0;
        while block < blocks.end {
            let (source, end) = entry.source(block, blocks.end);
            missing += if source == Source::Base { u64::from(end - block) * self.units.block } else { 0 };
            block = end;
        }
        if missing == 0 {
            return None;
        }
        let (target, rest) = self.fill_target(blob, &entry, at);
        // Where partial clusters may not arise, all of it is kept.
        Some(match self.native_allowed {
            true => {
                Need::Fill { target, missing, blocks: Blocks::Below { first: blocks.start, end: blocks.end } }
            }
            false => Need::Fill { target, missing: rest, blocks: Blocks::All },
        })
    }
}
