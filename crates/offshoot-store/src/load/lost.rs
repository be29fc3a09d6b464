//! What is lost, and how far it reaches: which blobs are damaged, and what becomes of records about them.
//!
//! A blob is damaged by itself, where its own metadata cannot be read, or from below, where all that is unknown is what
//! it inherits ([`Blob::damaged_below`]). What a blob of the second kind owns is known and can be written, so its
//! records are replayed like all others. Of a blob of the first kind nothing is written: what it has on the device may
//! be put right yet.

use super::verify::{Finding, Found};
use crate::blob::Blob;
use crate::map::Tree;
use crate::record::{Below, Encoding, MappedRun, Record};
use crate::state::State;
use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};
use offshoot_format::{BlobId, ClusterIdx, JournalArea};

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

/// Makes a record of the journal true, as far as the blobs that it is about are known.
///
/// # Errors
/// It does not fit, and nothing that is lost explains that; or it does not tell what else it did.
pub(super) fn replay(state: &mut State, area: JournalArea, record: Record) -> Result<(), String> {
    list_lost(state, area, &record);
    let record = readable_part(state, record);
    let misfit = match state.fits(&record) {
        Ok(()) => {
            state.apply(&record);
            return Ok(());
        }
        Err(misfit) => misfit.to_string(),
    };
    if !record.blobs().into_iter().any(|id| is_damaged(state, id)) {
        return Err(misfit);
    }
    match &record {
        Record::Clone { parent, id, .. } if stands(state, *parent, *id) => state.apply(&record),
        Record::Snapshot { origin, id, len, xattrs } if stands(state, *origin, *id) => {
            // The origin is not written, so it cannot become a clone: the snapshot shows what the origin shows.
            let (parent, xattrs) = (*origin, xattrs.clone());
            state.apply(&Record::Clone { parent, id: *id, len: *len, xattrs });
            state.apply(&Record::SetReadOnly { blob: *id });
        }
        Record::SetParent { blob, below: Below::Blob(parent) } if moves_onto(state, *blob, *parent) => {
            state.apply(&record);
        }
        Record::Adopt { snapshot, clone } if stands_in(state, *snapshot, *clone) => {
            state.apply(&Record::MarkDying { blob: *snapshot });
            state.apply(&Record::Destroy { blob: *snapshot });
        }
        // Nobody knows which clusters went with it, and others may have been given them since.
        Record::Adopt { snapshot, clone } if hands_over_unread(state, *snapshot, *clone) => {
            disown(state, *snapshot, *clone);
            return Err(misfit);
        }
        // Some of what it owned may be another's by now. The clone reads on what is known of it.
        Record::Adopt { snapshot, .. } => lose(state, *snapshot),
        // What would be written of its map is not what the journal says.
        _ if map_of(&record).is_some_and(|id| is_readable(state, id)) => return Err(misfit),
        _ => {
            protect(state, &record);
            map_of(&record).into_iter().for_each(|id| lose(state, id));
        }
    }
    Ok(())
}

/// A change of encoding is about each blob by itself: those that cannot be read stay as they are.
fn readable_part(state: &State, mut record: Record) -> Record {
    if let Record::UseExtentTable { blobs } = &mut record {
        blobs.retain(|id| is_readable(state, *id));
    }
    record
}

/// Blobs that a record is about and that are not there, but whose root pages are in use and nobody else's, are lost
/// with these pages. They are listed, so that what is made of them has something to inherit from.
fn list_lost(state: &mut State, area: JournalArea, record: &Record) {
    for id in record.blobs() {
        let root = id.root().0;
        let is_of_journal = (u64::from(area.start.0)..area.end()).contains(&root.into());
        let is_held = !is_of_journal && !state.md.is_used(root) && !state.md.is_available(root);
        let is_let_go = state.freed_md.contains(&id.root());
        if state.blob(id).is_none() && is_held && !is_let_go {
            let damage = Some("its root page cannot be read".into());
            let mut blob = Blob { damage, lost_len: u64::MAX, ..Blob::new(id, state.tags.assign(id)) };
            (blob.pages.unread, blob.pages.native) = (true, true);
            state.md.take(root);
            state.blobs.insert(id, blob);
        }
    }
}

/// Whether a blob is lost, or damaged, or inherits from one that is.
fn is_damaged(state: &State, id: BlobId) -> bool {
    let mut next = Some(id);
    while let Some(id) = next {
        let Some(blob) = state.blob(id).filter(|blob| blob.damage.is_none()) else { return true };
        next = blob.parent;
    }
    false
}

fn is_readable(state: &State, id: BlobId) -> bool {
    state.blob(id).is_some_and(Blob::is_readable)
}

/// The blob whose map a record makes or changes by itself.
fn map_of(record: &Record) -> Option<BlobId> {
    match record {
        Record::Create { id: blob, .. }
        | Record::Map { blob, .. }
        | Record::Fill { blob, .. }
        | Record::DropZeros { blob, .. }
        | Record::ZeroBlocks { blob, .. }
        | Record::ZeroClusters { blob, .. }
        | Record::Resize { blob, .. }
        | Record::SetParent { blob, .. }
        // What it owned became the snapshot's.
        | Record::Snapshot { origin: blob, .. } => Some(*blob),
        _ => None,
    }
}

/// Whether a new blob can be made of one that cannot be read.
fn stands(state: &State, parent: BlobId, id: BlobId) -> bool {
    let is_lost = |parent: &Blob| !parent.is_readable() && !parent.dying;
    state.blob(parent).is_some_and(is_lost) && state.new_id_fits(id).is_ok()
}

/// Whether an lvol can be put onto one that cannot be read.
fn moves_onto(state: &State, id: BlobId, parent: BlobId) -> bool {
    let is_free = |blob: &Blob| {
        blob.is_thin() && blob.clones.is_empty() && blob.encoding == Encoding::Table && !blob.dying
    };
    let is_lost = |parent: &Blob| !parent.is_readable() && !parent.dying && parent.id != id;
    is_readable(state, id) && state.blob(id).is_some_and(is_free) && state.blob(parent).is_some_and(is_lost)
}

/// Whether a snapshot shows what an lvol shows that should have become its clone, and can go because nobody else needs
/// it.
fn stands_in(state: &State, snapshot: BlobId, origin: BlobId) -> bool {
    let is_empty = |blob: &Blob| blob.clones.is_empty() && blob.own_clusters == 0 && !blob.dying;
    state.blob(snapshot).is_some_and(|blob| blob.parent == Some(origin) && is_empty(blob))
}

/// Clusters that a record gives to a damaged blob are handed to nobody else.
fn protect(state: &mut State, record: &Record) {
    for ClusterIdx(cluster) in clusters_of(record) {
        if !state.clusters.is_used(cluster) {
            state.clusters.take(cluster);
        }
    }
}

/// Whether a snapshot of which all is known leaves what it has to a clone that cannot be read.
fn hands_over_unread(state: &State, snapshot: BlobId, clone: BlobId) -> bool {
    is_readable(state, snapshot) && state.blob(clone).is_some_and(|blob| !blob.is_readable())
}

/// What a snapshot that was removed held may be gone: nothing of it is served, nor of what inherits from it.
fn disown(state: &mut State, snapshot: BlobId, clone: BlobId) {
    if let Some(blob) = state.blobs.get_mut(&snapshot) {
        blob.damage = Some("it was removed, and its clone cannot be read".into());
        blob.damaged_below = false;
    }
    lose(state, snapshot);
    lose(state, clone);
}

/// What was known of a damaged blob is out of date once a record that changes its map cannot be applied. The next
/// checkpoint says so where its chain is, for the opening that does not find the record any more.
fn lose(state: &mut State, id: BlobId) {
    let Some(blob) = state.blobs.get_mut(&id).filter(|blob| !blob.is_readable() && !blob.dying) else {
        return;
    };
    // What it owns stays in use, and its pages stay where they are.
    // Its size may be another by now.
    blob.lost_len = u64::MAX;
    blob.tree = Tree::default();
    blob.own_clusters = 0;
    blob.outdated = true;
    if !blob.pages.unread {
        state.touch_chain(id);
    }
}

/// Clusters that a record gives to a blob.
pub(super) fn clusters_of(record: &Record) -> impl Iterator<Item = ClusterIdx> + '_ {
    let one = match record {
        Record::Map { cluster, .. } | Record::Fill { cluster, .. } => Some(*cluster),
        _ => None,
    };
    let runs: &[MappedRun] = match record {
        Record::Create { runs, .. } | Record::Resize { runs, .. } => runs,
        _ => &[],
    };
    let runs = runs.iter().flat_map(|run| run.cluster.0..run.cluster.0 + run.length).map(ClusterIdx);
    one.into_iter().chain(runs)
}
