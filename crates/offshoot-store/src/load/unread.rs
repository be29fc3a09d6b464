//! Records of the journal about blobs that cannot be read.
//!
//! They are not applied: what is not known would be forgotten. But what they change on the medium has happened. So
//! nothing is served that they may have made untrue, no cluster that they name is handed to anybody else, and where the
//! chain of the blob can be written, it says from the next checkpoint on that its map is outdated: the opening after
//! that does not find the record any more.

use super::journal::clusters_of;
use crate::map::{Entry, Tree};
use crate::record::Record;
use crate::state::State;
use alloc::{format, vec::Vec};
use offshoot_format::{BlobCluster, BlobId, ClusterIdx};

/// A change of encoding is about each blob by itself: those that cannot be read stay as they are.
pub(super) fn readable_part(state: &State, mut record: Record) -> Record {
    if let Record::UseExtentTable { blobs } = &mut record {
        blobs.retain(|blob| !is_damaged(state, *blob));
    }
    record
}

/// Whether a sound snapshot leaves what it has to a clone that cannot be read, or found.
pub(super) fn hands_over_unread(state: &State, record: &Record) -> bool {
    matches!(record, Record::Adopt { snapshot, clone }
        if !is_damaged(state, *snapshot) && is_damaged(state, *clone))
}

/// What a snapshot that was removed held may be gone: nothing of it is served, nor of what inherits from it.
pub(super) fn disown(state: &mut State, record: &Record) {
    let Record::Adopt { snapshot, .. } = record else { return };
    if let Some(blob) = state.blobs.get_mut(snapshot) {
        blob.damage = Some("it was removed, and its clone cannot be read".into());
    }
    lose(state, record);
}

pub(super) fn is_damaged(state: &State, blob: BlobId) -> bool {
    state.blob(blob).is_none_or(|blob| blob.damage.is_some())
}

/// A clone of a damaged snapshot is as damaged, but it is there.
pub(super) fn apply_damaged_clone(state: &mut State, record: &Record) {
    let Record::Clone { parent, id, .. } = record else { return };
    if state.blob(*id).is_some() || state.md.is_used(id.root().0) {
        return;
    }
    state.apply(record);
    let parent = state.blob(*parent).map(|blob| (blob.display_name(), blob.lost_len));
    let (parent, lost_len) = parent.unwrap_or_default();
    if let Some(clone) = state.blobs.get_mut(id) {
        clone.lost_len = lost_len.min(clone.len);
        clone.damage = Some(format!("it inherits from \"{parent}\", which is damaged"));
    }
}

/// Clusters that a record gives to a damaged blob are handed to nobody else.
pub(super) fn protect(state: &mut State, record: &Record) {
    for ClusterIdx(cluster) in clusters_of(record) {
        if !state.clusters.is_used(cluster) {
            state.clusters.take(cluster);
        }
    }
}

/// What was known of a damaged blob is out of date once a record that changes its map cannot be applied. The next
/// checkpoint says so where its chain is, for the opening that does not find the record any more.
pub(super) fn lose(state: &mut State, record: &Record) {
    let blobs = match record {
        Record::Map { blob, .. }
        | Record::ZeroBlocks { blob, .. }
        | Record::ZeroClusters { blob, .. }
        | Record::Resize { blob, .. } => alloc::vec![*blob],
        Record::SetParent { blob: id, .. } => {
            // It may be sound itself, but what it is to read now is not. What it had below may go from now on.
            let before = state.blobs.get_mut(id).and_then(|blob| {
                blob.damage.get_or_insert_with(|| "what it inherits from is damaged".into());
                blob.parent.take()
            });
            if let Some(before) = before.and_then(|parent| state.blobs.get_mut(&parent)) {
                before.clones.remove(id);
            }
            alloc::vec![*id]
        }
        Record::Adopt { snapshot, clone } => alloc::vec![*snapshot, *clone],
        Record::Fill { blob, at, .. } => {
            // What it held there before may be gone, and others read that, too.
            let readers = readers(state, *blob, *at);
            for reader in &readers {
                if let Some(blob) = state.blobs.get_mut(reader) {
                    blob.damage.get_or_insert_with(|| "what it inherits from is damaged".into());
                }
            }
            readers
        }
        _ => Vec::new(),
    };
    blobs.into_iter().for_each(|blob| forget(state, blob));
}

/// A blob, and what reads clusters of its own at a place.
fn readers(state: &State, id: BlobId, at: BlobCluster) -> Vec<BlobId> {
    let mut readers = alloc::vec![id];
    let mut heirs = alloc::vec![id];
    while let Some(heir) = heirs.pop() {
        let clones = state.blob(heir).into_iter().flat_map(|blob| blob.clones.iter().copied());
        for clone in clones {
            let entry = state.blob(clone).map_or(Entry::Absent, |blob| blob.tree.entry(at));
            if entry.clusters_of(|tag| state.owner(tag) == Some(id)).next().is_some() {
                readers.push(clone);
            }
            heirs.push(clone);
        }
    }
    readers
}

/// Nothing is known of the map of a damaged blob any more. What it owns stays in use, and its pages stay where they are.
pub(super) fn forget(state: &mut State, id: BlobId) {
    let Some(blob) = state.blobs.get_mut(&id).filter(|blob| blob.damage.is_some() && !blob.dying) else {
        return;
    };
    blob.lost_len = blob.len;
    blob.tree = Tree::default();
    blob.own_clusters = 0;
    blob.outdated = true;
    if !blob.pages.unread {
        state.touch_chain(id);
    }
}
