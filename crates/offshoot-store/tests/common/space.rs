//! What State says about space, counted again from nothing but its maps, or tried out.

use offshoot_format::{BlobCluster, BlobId, ClusterIdx};
use offshoot_store::map::Source;
use offshoot_store::{Blob, LvolSpace, Record, State, Verb};
use std::collections::BTreeSet;

/// Everything that is said about space is so.
pub fn verify_space(state: &State) {
    let spaces = state.spaces();
    for (id, space) in &spaces {
        let blob = state.blob(*id).unwrap();
        let own = clusters(state, blob, |owner| owner == *id).len() as u64;
        let shared =
            shown(state, blob).difference(&clusters(state, blob, |owner| owner == *id)).count() as u64;
        let expected = LvolSpace { own, shared, freed: freed(state, *id) };
        assert_eq!(*space, expected, "{}", blob.display_name());
    }
    let space = state.space();
    let used = state.clusters.used().count_ones() as u64;
    assert_eq!(space.total, state.clusters.used().len() as u64);
    assert_eq!(space.free, space.total - used);
    assert_eq!(space.metadata + space.allocated + space.pending_free + space.free, space.total);
    assert_eq!(space.allocated, spaces.values().map(|space| space.own).sum::<u64>());
    let promised =
        state.lvols().filter(|blob| !blob.is_read_only() && (!blob.is_thin() || blob.is_reserved()));
    assert_eq!(space.committed, promised.map(|blob| blob.len).sum::<u64>());
    let reserved =
        state.lvols().filter(|blob| blob.is_reserved()).map(|blob| blob.len - overwritable(state, blob));
    assert_eq!(space.reserved, reserved.sum::<u64>());
    assert!(space.reserved <= space.free + space.pending_free, "more is promised than there is");
}

/// The clusters of some owners in the map of a blob, seen or not.
fn clusters(state: &State, blob: &Blob, of: impl Fn(BlobId) -> bool + Copy) -> BTreeSet<ClusterIdx> {
    let leaves = blob.tree.ordinals().into_iter().map(|at| blob.tree.leaf(at).unwrap());
    let entries = leaves.flat_map(|leaf| leaf.entries());
    entries
        .flat_map(|(_, entry)| entry.clusters_of(|tag| state.owner(tag).is_some_and(of)).collect::<Vec<_>>())
        .collect()
}

/// The clusters that a blob reads something from, asked block by block.
fn shown(state: &State, blob: &Blob) -> BTreeSet<ClusterIdx> {
    let mut found = BTreeSet::new();
    for at in blob.tree.ordinals() {
        for (_, entry) in blob.tree.leaf(at).unwrap().entries() {
            for block in 0..state.units.blocks {
                if let (Source::Cluster { cluster, .. }, _) = entry.source(block, block + 1) {
                    found.insert(cluster);
                }
            }
        }
    }
    found
}

/// The clusters of a blob that are overwritten without another one.
fn overwritable(state: &State, blob: &Blob) -> u64 {
    let entries = (0..blob.len).map(|at| blob.tree.entry(BlobCluster(at)));
    let newest =
        entries.filter_map(|entry| entry.layers().next().map(|(tag, cluster, _)| (tag, cluster.is_some())));
    newest.filter(|(tag, has_cluster)| *has_cluster && state.owner(*tag) == Some(blob.id)).count() as u64
}

/// What is free afterwards when an lvol is removed from a copy of the State.
fn freed(state: &State, lvol: BlobId) -> u64 {
    let mut after = state.clone();
    let Ok(plan) = (Verb::Remove { lvol }).plan(&after) else { return 0 };
    let waiting: Vec<BlobId> = after.blobs().filter(|blob| blob.dying).map(|blob| blob.id).collect();
    plan.records.iter().for_each(|record| after.apply(record));
    let dying: Vec<BlobId> = after.blobs().filter(|blob| blob.dying).map(|blob| blob.id).collect();
    for blob in dying.into_iter().filter(|blob| !waiting.contains(blob)) {
        let ordinals = after.blob(blob).unwrap().tree.ordinals();
        after.apply(&Record::Release { blob, ordinals });
    }
    (after.clusters.free() - state.clusters.free()) as u64
}
