//! Resize: more or fewer clusters. What is added reads zeros, whatever a parent holds there.

use super::{Plan, check_metadata, encoding_for};
use crate::blob::Blob;
use crate::error::Error;
use crate::limits::MD_PAGES_KEPT;
use crate::map::SLOTS;
use crate::record::{Encoding, MappedRun, Record};
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::{BlobCluster, BlobId};

pub(super) fn plan(state: &State, id: BlobId, size_bytes: u64) -> Result<Plan, Error> {
    let lvol = state.sound_or_unfinished(id)?;
    if lvol.is_read_only() {
        return Err(Error::ReadOnlyLvol(lvol.display_name()));
    }
    let len = state.clusters_for(size_bytes)?;
    if len == lvol.len {
        return Ok(Plan::default());
    }
    check_metadata(lvol)?;
    let zero = added_clusters(state, lvol, len)?;
    let added: u64 = zero.iter().map(|run| u64::from(run.length)).sum();
    let mut promised = 0;
    if lvol.reserve.on {
        promised = len.saturating_sub(lvol.len + added);
        state.check_promise(promised, added)?;
    }
    let mut records = Vec::new();
    let mut needed = usize::try_from(added.div_ceil(SLOTS as u64)).unwrap_or(usize::MAX).saturating_add(4);
    if lvol.encoding == Encoding::Rle && len > lvol.len && encoding_for(len, &lvol.xattrs) == Encoding::Table
    {
        let (to_tables, pages) = state.family_to_tables(id)?;
        records.extend(to_tables);
        needed += pages;
    }
    if lvol.reserve.on {
        needed += state.md_promise(lvol.len, len);
    }
    let spare = state.md_spare();
    if len > lvol.len && spare < needed + MD_PAGES_KEPT {
        return Err(Error::NoMdPages { needed: needed as u64, free: spare as u64 });
    }
    records.push(Record::Resize { blob: id, len, runs: zero.clone() });
    Ok(Plan { records, zero, promised, md_pages: needed, ..Plan::default() })
}

/// Clusters that must be backed and zeroed now: all new ones of a thick lvol, and, where native states may not
/// arise, those in which the parent would show through again after a shrink.
fn added_clusters(state: &State, lvol: &Blob, len: u64) -> Result<Vec<MappedRun>, Error> {
    if len <= lvol.len {
        return Ok(Vec::new());
    }
    if !lvol.is_thin() {
        return state.back_clusters(lvol.len, len - lvol.len);
    }
    if state.native_allowed {
        return Ok(Vec::new());
    }
    let hidden: Vec<u64> = state.parent_tail(lvol, lvol.len..len).collect();
    let backing = state.back_clusters(0, hidden.len() as u64)?;
    let clusters = backing.iter().flat_map(|run| run.cluster.0..run.cluster.0 + run.length);
    let runs = hidden.iter().zip(clusters).map(|(at, cluster)| MappedRun {
        at: BlobCluster(*at),
        cluster: offshoot_format::ClusterIdx(cluster),
        length: 1,
    });
    Ok(runs.collect())
}
