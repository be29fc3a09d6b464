//! Inflate: an lvol or snapshot comes to hold every one of its clusters itself, and needs no parent from then on.
//!
//! What it reads from elsewhere is copied, zeros are left to the device; clusters that it holds in part become whole. In
//! the end one record makes it thick. Here is what that takes and whether it is so far; the engine does it.

use super::{Blocks, Need, Needed, Plan, WorkCost, check_metadata};
use crate::blob::Blob;
use crate::error::Error;
use crate::limits::{FILL_BYTES, FILLS_AT_ONCE};
use crate::map::{Entry, Leaf, SLOTS};
use crate::record::{Encoding, Record};
use crate::state::State;
use offshoot_format::{BlobCluster, BlobId, ExtentOrdinal};

/// The last transaction: everything is in place.
pub(super) fn plan(state: &State, id: BlobId) -> Result<Plan, Error> {
    let lvol = state.sound_lvol(id)?;
    if !state.is_all_full(lvol) {
        return Err(Error::Restless);
    }
    if !lvol.is_thin() && lvol.parent.is_none() && !lvol.external_is_parent {
        return Ok(Plan::default());
    }
    // Whatever the order of its descriptors: the chain and one page more.
    let md_pages = lvol.chain_pages_at_most() + 1;
    let spare = state.md_spare();
    if spare < md_pages {
        return Err(Error::NoMdPages { needed: md_pages as u64, free: spare as u64 });
    }
    let records = alloc::vec![Record::Inflate { blob: id }];
    Ok(Plan { records, md_pages, ..Plan::default() })
}

impl State {
    /// What inflating an lvol takes. Looks at the clusters that it holds itself, not at all of them.
    ///
    /// # Errors
    /// There is no such lvol, it is damaged, or its metadata may not change.
    pub fn inflate_cost(&self, id: BlobId) -> Result<WorkCost, Error> {
        let lvol = self.sound_lvol(id)?;
        check_metadata(lvol)?;
        let mut cost = WorkCost::default();
        let (mut seen, mut extents) = (0, lvol.len.div_ceil(SLOTS as u64));
        // Pages behind the end of one that has shrunk are there until the next checkpoint.
        let within = lvol.pages.ordinals.iter().filter(|(at, _)| at.first_cluster().0 < lvol.len);
        for (ordinal, md) in within {
            extents -= u64::from(md.extent.is_some());
            let first = ordinal.first_cluster().0;
            if u64::from(md.own_full) == slots_of(lvol, *ordinal) && md.own_layers() == 0 {
                seen += u64::from(md.own_full);
                continue;
            }
            for (slot, _) in lvol.tree.leaf(*ordinal).into_iter().flat_map(Leaf::entries) {
                seen += 1;
                let Some(Need::Fill { target, missing, .. }) =
                    self.inflate_need(lvol, BlobCluster(first + slot as u64))
                else {
                    continue;
                };
                cost.filled += 1;
                cost.clusters += u64::from(target.is_none());
                cost.bytes += missing;
            }
        }
        let rest = lvol.len - seen;
        cost.filled += rest;
        cost.clusters += rest;
        cost.bytes += rest * self.units.cluster;
        if cost.filled > 0 {
            // The chain names each extent page, or holds up to two more runs for each cluster. Clusters that are filled
            // part by part are layers meanwhile.
            let is_table = lvol.encoding == Encoding::Table;
            let (extents, named) = if is_table { (extents, extents) } else { (0, 2 * cost.filled) };
            let layers = if self.units.cluster > FILL_BYTES { FILLS_AT_ONCE as u64 } else { 0 };
            cost.md_pages = extents + layers + 2 + named / 256;
        }
        Ok(cost)
    }

    /// The first ordinal from `from` on in which a blob does not hold everything itself, with what it does not.
    pub(crate) fn inflate_needs(
        &self,
        blob: &Blob,
        from: ExtentOrdinal,
    ) -> Option<(ExtentOrdinal, alloc::vec::Vec<Needed>)> {
        let ordinal = (from.0..).map(ExtentOrdinal).take_while(|at| at.first_cluster().0 < blob.len).find(
            |ordinal| {
                let md = blob.pages.ordinals.get(ordinal);
                !md.is_some_and(|md| {
                    u64::from(md.own_full) == slots_of(blob, *ordinal) && md.own_layers() == 0
                })
            },
        )?;
        let first = ordinal.first_cluster().0;
        let clusters = (first..first + slots_of(blob, ordinal)).map(BlobCluster);
        let needed = clusters.filter_map(|at| Some((at, self.inflate_need(blob, at)?))).collect();
        Some((ordinal, needed))
    }

    /// What a cluster of a blob needs to be all its own.
    pub(crate) fn inflate_need(&self, blob: &Blob, at: BlobCluster) -> Option<Need> {
        let entry = blob.tree.entry(at);
        let (target, missing) = match &entry {
            Entry::Full { tag, .. } if self.owner(*tag) == Some(blob.id) => return None,
            Entry::Absent | Entry::Full { .. } => (None, self.units.cluster),
            Entry::Stack(_) | Entry::Unknown => self.fill_target(blob, &entry, at),
        };
        Some(Need::Fill { target, missing, blocks: Blocks::All })
    }

    /// Whether every cluster of a blob is full and its own.
    pub(crate) fn is_all_full(&self, blob: &Blob) -> bool {
        let full: u64 = blob.pages.ordinals.values().map(|md| u64::from(md.own_full)).sum();
        full == blob.len && blob.pages.ordinals.values().all(|md| md.own_layers() == 0)
    }
}

/// Clusters of a blob in an ordinal.
fn slots_of(blob: &Blob, ordinal: ExtentOrdinal) -> u64 {
    blob.len.saturating_sub(ordinal.first_cluster().0).min(SLOTS as u64)
}
