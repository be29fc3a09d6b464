//! How far it reaches that a blob is lost.
//!
//! A blob is damaged by itself, where its own metadata cannot be read, or from below, where all that is unknown is what
//! it inherits ([`Blob::damaged_below`](crate::blob::Blob::damaged_below)). What a blob of the second kind owns is known and can be written. Of a blob of
//! the first kind nothing is written: what it has on the device may be put right yet.

use super::verify::{Finding, Found};
use crate::state::State;
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use offshoot_format::BlobId;

/// What inherits unknown parts from a damaged blob is damaged too.
pub(super) fn spread_damage(state: &mut State) {
    for blob in state.blobs.values_mut().filter(|blob| blob.damaged_below) {
        (blob.damage, blob.damaged_below) = (None, false);
    }
    let damaged = state.blobs.values().filter(|blob| blob.damage.is_some());
    let mut queue: Vec<(BlobId, String)> = damaged.map(|blob| (blob.id, blob.display_name())).collect();
    let mut seen = BTreeSet::new();
    while let Some((id, name)) = queue.pop() {
        let clones = state.blobs.get(&id).map(|blob| blob.clones.clone()).unwrap_or_default();
        for clone in clones.into_iter().filter(|clone| seen.insert(*clone)) {
            queue.push((clone, name.clone()));
            let is_hit = state.blob(clone).is_some_and(|blob| state.reads_unknown(blob));
            let hit = state.blobs.get_mut(&clone).filter(|blob| is_hit && blob.damage.is_none());
            if let Some(blob) = hit {
                blob.damage = Some(format!("it inherits from \"{name}\", which is damaged"));
                blob.damaged_below = true;
            }
        }
    }
}

/// What is to be said of damaged lvols.
pub(super) fn findings(state: &State) -> impl Iterator<Item = Finding> {
    state.blobs().filter(|blob| !blob.dying).filter_map(|blob| {
        let what = Found::Damaged { blob: blob.id, why: blob.damage.clone()? };
        Some(Finding { lvol: Some(blob.display_name()), what })
    })
}
