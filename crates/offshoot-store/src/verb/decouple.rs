//! Decouple: a clone comes to hold what it reads from its parent, and lies on what lies below the parent from then on.
//!
//! Only what the parent itself holds is copied, block by block where it or the clone hold parts of a cluster. What the
//! parent says reads zeros the clone says itself, where anything lies below. The clone stays thin, and keeps what it reads
//! from older snapshots. In the end one record passes the parent over.

use super::{Blocks, Need, Needed, Plan, WorkCost, check_metadata};
use crate::blob::Blob;
use crate::error::Error;
use crate::map::{BlockStates, SLOTS, Source};
use crate::pages::OrdinalMd;
use crate::record::Record;
use crate::state::State;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ExtentOrdinal};

/// The last transaction: nothing of the parent shows any more.
pub(super) fn plan(state: &State, id: BlobId, parent: BlobId) -> Result<Plan, Error> {
    let lvol = state.sound_lvol(id)?;
    if lvol.parent != Some(parent) {
        return Ok(Plan::default());
    }
    if state.decouple_needs(lvol, ExtentOrdinal(0)).is_some() {
        return Err(Error::Restless);
    }
    // Whatever the order of its descriptors: the chain and one page more.
    let md_pages = lvol.chain_pages_at_most() + 1;
    let spare = state.md_spare();
    if spare < md_pages {
        return Err(Error::NoMdPages { needed: md_pages as u64, free: spare as u64 });
    }
    let records = alloc::vec![Record::Bypass { blob: id, inherit_len: state.bypassed_len(lvol) }];
    Ok(Plan { records, md_pages, ..Plan::default() })
}

impl State {
    /// What it takes an lvol to hold what its parent holds.
    ///
    /// # Errors
    /// There is no such lvol, it has no parent in the store, it is damaged, or its metadata may not change.
    pub fn decouple_cost(&self, id: BlobId) -> Result<WorkCost, Error> {
        let lvol = self.sound_lvol(id)?;
        check_metadata(lvol)?;
        if lvol.parent.is_none() {
            return Err(Error::NoParent(lvol.display_name()));
        }
        let mut cost = WorkCost::default();
        let (spread, vacant) = (self.units.spread, OrdinalMd::default());
        let mut next = ExtentOrdinal(0);
        while let Some((ordinal, needed)) = self.decouple_needs(lvol, next) {
            next = ExtentOrdinal(ordinal.0 + 1);
            cost.filled += needed.len() as u64;
            for (_, need) in &needed {
                if let Need::Fill { target, missing, .. } = need {
                    cost.clusters += u64::from(target.is_none());
                    cost.bytes += missing;
                }
            }
            let md = lvol.pages.ordinals.get(&ordinal).unwrap_or(&vacant);
            let more = needed.iter().map(|(at, _)| (spread.range_of(ExtentOrdinal::of(*at).1), 1));
            cost.md_pages += md.growth(spread, more) as u64 + u64::from(md.extent.is_none());
        }
        if cost.filled > 0 {
            cost.md_pages += 2 + cost.md_pages / 256;
        }
        Ok(cost)
    }

    /// The first ordinal from `from` on in which a blob shows what its parent holds or says itself, with all of that.
    pub(crate) fn decouple_needs(
        &self,
        blob: &Blob,
        from: ExtentOrdinal,
    ) -> Option<(ExtentOrdinal, Vec<Needed>)> {
        let parent = blob.parent.and_then(|id| self.blob(id))?;
        let tail = self.bypassed_tail(blob, parent);
        let mut owned = parent.pages.ordinals.range(from..).filter(|(_, md)| md.owns_any()).peekable();
        let mut hidden = super::seal::ordinals(&tail, from).peekable();
        loop {
            let next = match (owned.peek(), hidden.peek()) {
                (Some((owned, _)), Some(hidden)) => **owned.min(&hidden),
                (Some((owned, _)), None) => **owned,
                (None, Some(hidden)) => *hidden,
                (None, None) => return None,
            };
            owned.next_if(|(at, _)| **at == next);
            hidden.next_if(|at| *at == next);
            let first = next.first_cluster().0;
            let clusters = (first..(first + SLOTS as u64).min(blob.len)).map(BlobCluster);
            let needed: Vec<Needed> =
                clusters.filter_map(|at| Some((at, self.decouple_need(blob, at)?))).collect();
            if !needed.is_empty() {
                return Some((next, needed));
            }
        }
    }

    /// What a cluster of a blob needs so that it shows nothing that its parent holds or says itself.
    pub(crate) fn decouple_need(&self, blob: &Blob, at: BlobCluster) -> Option<Need> {
        let parent = blob.parent.and_then(|id| self.blob(id))?;
        let entry = blob.tree.entry(at);
        let (mut missing, mut pos) = (0, at.0 * self.units.cluster);
        let end = pos + self.units.cluster;
        while pos < end {
            let (source, run) = self.source_in(&entry, at.0, pos, end);
            if matches!(source, Source::Cluster { tag, .. } if self.owner(tag) == Some(parent.id)) {
                missing += run.end - run.start;
            }
            pos = run.end;
        }
        let below = || self.parent_holds(parent, at);
        let zeros = self.zeroed_by_parent(blob, at).is_some() && below();
        if self.native_allowed {
            let owned = |tag| self.owner(tag) == Some(blob.id);
            let target = entry.clusters_of(owned).next();
            let fill = Need::Fill { target, missing, blocks: Blocks::Of(parent.id) };
            let rest = if zeros { Some(Need::KeepZeros) } else { None };
            return if missing > 0 { Some(fill) } else { rest };
        }
        let is_tail = || self.bypassed_tail(blob, parent).contains(&at.0);
        if missing > 0 || zeros || is_tail() && self.shows_below(blob, at) && below() {
            let (target, missing) = self.fill_target(blob, &entry, at);
            return Some(Need::Fill { target, missing, blocks: Blocks::All });
        }
        None
    }

    /// Blocks of a cluster that read zeros in a blob because its parent says so.
    pub(crate) fn zeroed_by_parent(&self, blob: &Blob, at: BlobCluster) -> Option<BlockStates> {
        let parent = blob.parent?;
        let owned = |tag| self.owner(tag) == Some(blob.id);
        let theirs = |tag| self.owner(tag) == Some(parent);
        blob.tree.entry(at).zeroed_below(self.units.blocks, &owned, &theirs)
    }

    /// Up to where what lies below the parent of a blob shows through both.
    pub(crate) fn bypassed_len(&self, blob: &Blob) -> u64 {
        let parent = blob.parent.and_then(|id| self.blob(id));
        let parent = parent.filter(|parent| parent.parent.is_some() || parent.external_is_parent);
        parent.map_or(0, |parent| blob.inherit_len.min(parent.inherit_len))
    }

    /// Clusters of a blob that would come to hide something of what lies below its parent, where nothing on disk could
    /// say so.
    fn bypassed_tail(&self, blob: &Blob, parent: &Blob) -> Range<u64> {
        let below = match parent.parent.and_then(|id| self.blob(id)) {
            _ if self.native_allowed => 0,
            Some(below) => below.len,
            None if parent.external_is_parent => u64::MAX,
            None => 0,
        };
        self.bypassed_len(blob)..blob.len.min(below)
    }
}
