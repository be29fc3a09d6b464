//! The records of a journal, where not all of the blobs that they are about can be read.
//!
//! In life each of them did something, known or not. Of what is known the record is made true. Of a blob that cannot be
//! read the map stays as it is on the device, and from the record on it is that of an earlier time: nothing that the
//! record may have made untrue is served, the next checkpoint marks the chain as outdated, and what the blob owned is
//! nobody's. The record may have let go of it, so that later ones may give it to others; what they do not is kept for a
//! repair.

use crate::blob::Blob;
use crate::map::{Tag, Tree};
use crate::record::{Below, Encoding, Record};
use crate::state::{State, give_up};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec::Vec,
};
use offshoot_format::{BlobId, BlockState, ClusterIdx, ExtentOrdinal, JournalArea};

/// What a replay has to keep in mind of blobs that cannot be read.
#[derive(Debug)]
pub(super) struct Lost {
    /// Md pages that may be in use although no readable blob owns them. They are held.
    md: Vec<u32>,
    /// Clusters likewise, and how many had been let go when each became nobody's.
    clusters: BTreeMap<u32, usize>,
    /// Snapshots that the journal has made of lvols that cannot be read, and those: in life they own what these own.
    stand_ins: BTreeMap<BlobId, BlobId>,
    /// Blobs that cannot be read, and of which in life others own what they owned: the clones of snapshots that were
    /// removed, and the snapshots of lvols.
    heired: BTreeSet<BlobId>,
}

impl Lost {
    /// With md pages and clusters that are held, because no readable blob owns them.
    pub(super) fn new(md: Vec<u32>, clusters: Vec<u32>) -> Self {
        let clusters = clusters.into_iter().map(|cluster| (cluster, 0)).collect();
        Self { md, clusters, stand_ins: BTreeMap::new(), heired: BTreeSet::new() }
    }

    /// Makes a record of the journal true, as far as the blobs that it is about are known.
    ///
    /// # Errors
    /// It does not fit, and nothing that is lost explains that.
    pub(super) fn replay(
        &mut self,
        state: &mut State,
        area: JournalArea,
        record: Record,
    ) -> Result<(), String> {
        list_lost(state, area, &record);
        self.shed_clones(state, &record);
        self.lose_source(state, &record);
        self.condemn_heir(state, &record);
        let record = readable_part(state, record);
        let misfit = match state.fits(&record) {
            Ok(()) => {
                state.apply(&record);
                return Ok(());
            }
            Err(misfit) => misfit.to_string(),
        };
        if !record.blobs().into_iter().any(|id| self.is_damaged(state, id)) {
            return Err(misfit);
        }
        match &record {
            Record::Clone { parent, id, .. } if stands(state, *parent, *id) => state.apply(&record),
            Record::Snapshot { origin, id, len, xattrs } if stands(state, *origin, *id) => {
                // The origin is not written, so it cannot become a clone: the snapshot shows what the origin shows.
                let (parent, xattrs) = (*origin, xattrs.clone());
                state.apply(&Record::Clone { parent, id: *id, len: *len, xattrs });
                state.apply(&Record::SetReadOnly { blob: *id });
                self.stand_ins.insert(*id, *origin);
                self.heired.insert(*origin);
            }
            Record::SetParent { blob, below: Below::Blob(parent) } if moves_onto(state, *blob, *parent) => {
                state.apply(&record);
            }
            Record::SetParent { blob, .. } | Record::Bypass { blob, .. } | Record::Inflate { blob } => {
                self.cut_off(state, *blob, "what it inherits from is lost");
            }
            // That it shows as much as before was seen in life.
            Record::Inherit { blob, .. } if is_readable(state, *blob) => state.apply(&record),
            Record::Adopt { snapshot, clone } if self.stands_in(state, *snapshot, *clone) => {
                state.apply(&Record::MarkDying { blob: *snapshot });
                state.apply(&Record::Destroy { blob: *snapshot });
            }
            // Where the clone hid what the snapshot held, that is gone; the rest became the clone's.
            Record::Adopt { snapshot, .. } => {
                condemn(state, *snapshot, "it was removed, and of its clone not all can be read");
                self.lose(state, *snapshot);
                self.heired.insert(*snapshot);
            }
            Record::Release { blob, ordinals } if is_going(state, *blob) => {
                mark_dying(state, *blob);
                let known = owned_ordinals(state, *blob, ordinals);
                state.apply(&Record::Release { blob: *blob, ordinals: known });
            }
            Record::Destroy { blob } if is_going(state, *blob) => {
                mark_dying(state, *blob);
                self.lose(state, *blob);
                if state.blob(*blob).is_some_and(|blob| blob.own_clusters > 0) {
                    return Err(misfit);
                }
                state.apply(&record);
            }
            // It goes on saying by itself that it reads zeros.
            Record::DropZeros { blob, .. } | Record::KeepZeros { blob, .. } if is_readable(state, *blob) => {}
            // What would be written of its map is not what the journal says.
            _ if map_of(&record).is_some_and(|id| is_readable(state, id)) => return Err(misfit),
            _ => {
                self.protect(state, &record);
                if let Some(id) = map_of(&record) {
                    self.lose(state, id);
                }
            }
        }
        Ok(())
    }

    /// After the last record: what no record has let go of since it became nobody's counts as used from here on, and
    /// nothing is inherited that the next opening would not find.
    pub(super) fn settle(self, state: &mut State) {
        forget_outdated(state);
        let freed = state.freed_clusters.iter().map(|cluster| cluster.0);
        let freed: BTreeMap<u32, usize> = freed.zip(1..).collect();
        for (cluster, since) in self.clusters {
            let is_free = freed.get(&cluster).is_some_and(|count| *count > since);
            if !is_free && !state.clusters.is_used(cluster) {
                state.clusters.take(cluster);
            }
        }
        let freed: BTreeSet<u32> = state.freed_md.iter().map(|page| page.0).collect();
        for page in self.md {
            if !freed.contains(&page) && !state.md.is_used(page) {
                state.md.take(page);
            }
        }
    }

    /// Whether a blob is lost, or damaged, or inherits from one that is.
    fn is_damaged(&self, state: &State, id: BlobId) -> bool {
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(blob) = state.blob(id).filter(|blob| blob.damage.is_none()) else { return true };
            if self.stand_ins.contains_key(&id) {
                return true;
            }
            next = blob.parent;
        }
        false
    }

    /// Clones of which not all can be read are no clones any more of what a record removes: they had gone before, by
    /// records that could not be applied to them.
    fn shed_clones(&mut self, state: &mut State, record: &Record) {
        let (id, heir) = match record {
            Record::MarkDying { blob } => (*blob, None),
            Record::Adopt { snapshot, clone } => (*snapshot, Some(*clone)),
            _ => return,
        };
        let clones = state.blob(id).map(|blob| blob.clones.clone()).unwrap_or_default();
        for clone in clones.into_iter().filter(|clone| Some(*clone) != heir) {
            if !is_readable(state, clone) {
                self.cut_off(state, clone, "what it inherits from was removed");
            }
        }
    }

    /// What a snapshot lets go of that was made of an lvol that cannot be read is counted as that lvol's.
    fn lose_source(&mut self, state: &mut State, record: &Record) {
        let (snapshot, heir) = match record {
            Record::Fill { blob, .. } | Record::DropZeros { blob, .. } | Record::Release { blob, .. } => {
                (blob, None)
            }
            Record::Adopt { snapshot, clone } => (snapshot, Some(clone)),
            _ => return,
        };
        let Some(source) = self.stand_ins.get(snapshot).copied().filter(|source| Some(source) != heir) else {
            return;
        };
        self.lose(state, source);
    }

    /// Zeros of which nobody can tell whether they hid anything are no zeros over something else.
    ///
    /// What a blob left to another is not known, so that it cannot be told from what lies below both; and nobody can say
    /// what there is in a cluster that was among it, beside the blocks that a record puts there.
    fn condemn_heir(&self, state: &mut State, record: &Record) {
        let id = match record {
            Record::SetParent { blob, .. } | Record::Bypass { blob, .. } => *blob,
            Record::Map { blob, at, cluster, blocks } | Record::Fill { blob, at, cluster, blocks }
                if *blocks != (0..state.units.blocks)
                    && self.clusters.contains_key(&cluster.0)
                    && !state.owns_cluster(*blob, *at, *cluster) =>
            {
                *blob
            }
            _ => return,
        };
        let Some(blob) = state.blob(id) else { return };
        if blob.parent.is_some_and(|parent| self.heired.contains(&parent)) {
            condemn(state, id, "what it took over cannot be read");
        } else if may_drop_zeros(record) && says_needless_zeros(state, blob) {
            condemn(state, id, "nobody can tell what it hid of what it inherited from");
        }
    }

    /// Whether a snapshot shows what an lvol shows that should have become its clone, and can go because nobody else
    /// needs it.
    fn stands_in(&self, state: &State, snapshot: BlobId, origin: BlobId) -> bool {
        let is_empty = |blob: &Blob| blob.clones.is_empty() && blob.own_clusters == 0 && !blob.dying;
        self.stand_ins.get(&snapshot) == Some(&origin) && state.blob(snapshot).is_some_and(is_empty)
    }

    /// Takes a blob from its parent, with which it had no more to do in the end.
    fn cut_off(&mut self, state: &mut State, id: BlobId, why: &str) {
        condemn(state, id, why);
        let parent = state.blobs.get_mut(&id).and_then(|blob| blob.parent.take());
        if let Some(parent) = parent.and_then(|parent| state.blobs.get_mut(&parent)) {
            parent.clones.remove(&id);
        }
        self.lose(state, id);
    }

    /// What was known of a blob that cannot be read is out of date once a record that changes its map cannot be applied.
    /// The next checkpoint says so where its chain is, for the opening that does not find the record any more.
    fn lose(&mut self, state: &mut State, id: BlobId) {
        if is_readable(state, id) {
            return;
        }
        let owned = |tag: Tag| state.owner(tag) == Some(id);
        let entries = state.own_entries(id);
        let own: BTreeSet<ClusterIdx> =
            entries.iter().flat_map(|(_, entry)| entry.clusters_of(owned)).collect();
        for cluster in own {
            if !give_up(&mut state.disputed_clusters, &cluster) {
                state.clusters.drop_use(cluster.0);
                self.clusters.insert(cluster.0, state.freed_clusters.len());
            }
        }
        let Some(blob) = state.blobs.get_mut(&id) else { return };
        // Its size may be another by now.
        blob.lost_len = u64::MAX;
        blob.tree = Tree::default();
        blob.own_clusters = 0;
        blob.outdated = true;
        if !blob.pages.unread {
            state.touch_chain(id);
        }
    }

    /// Clusters that a record gives to a blob that cannot be read are handed to nobody else.
    fn protect(&mut self, state: &mut State, record: &Record) {
        for (ClusterIdx(cluster), _) in record.given() {
            if !state.clusters.is_used(cluster) {
                state.clusters.hold_if_available(cluster);
                self.clusters.insert(cluster, state.freed_clusters.len());
            }
        }
    }
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

/// A change of encoding is about each blob by itself: those that cannot be read stay as they are.
fn readable_part(state: &State, mut record: Record) -> Record {
    if let Record::UseExtentTable { blobs } = &mut record {
        blobs.retain(|id| is_readable(state, *id));
    }
    record
}

/// Whether a record puts a blob onto something that shows where it says nothing itself.
fn may_drop_zeros(record: &Record) -> bool {
    match record {
        Record::SetParent { below, .. } => !matches!(below, Below::Nothing),
        Record::Bypass { .. } => true,
        _ => false,
    }
}

/// Whether a blob says of blocks that they read zeros, over what cannot be read: in life it said so only where there was
/// something to hide.
fn says_needless_zeros(state: &State, blob: &Blob) -> bool {
    let own = |tag: Tag| state.owner(tag) == Some(blob.id);
    let over_lost = state.own_entries(blob.id).into_iter().filter(|(at, _)| at.0 < blob.lost_len);
    over_lost.into_iter().any(|(_, entry)| {
        let mut layers = entry.layers().take_while(|(tag, ..)| own(*tag));
        layers.any(|(.., states)| states.is_some_and(|states| states.any(BlockState::Zero)))
    })
}

fn is_readable(state: &State, id: BlobId) -> bool {
    state.blob(id).is_some_and(Blob::is_readable)
}

/// Whether nothing inherits from a blob that a record releases, and it is on its way out, as far as anybody can tell.
fn is_going(state: &State, id: BlobId) -> bool {
    state.blob(id).is_some_and(|blob| blob.clones.is_empty() && (blob.dying || !blob.is_readable()))
}

/// Of one whose root is lost nobody could tell that it was dying.
fn mark_dying(state: &mut State, id: BlobId) {
    if state.blob(id).is_some_and(|blob| !blob.dying) {
        state.apply(&Record::MarkDying { blob: id });
    }
}

/// Ordinals of some in which a blob owns something.
fn owned_ordinals(state: &State, id: BlobId, ordinals: &[ExtentOrdinal]) -> Vec<ExtentOrdinal> {
    let ordinals: BTreeSet<ExtentOrdinal> = ordinals.iter().copied().collect();
    let pages = state.blob(id).map(|blob| &blob.pages.ordinals);
    let owns = |ordinal: &ExtentOrdinal| {
        pages.and_then(|pages| pages.get(ordinal)).is_some_and(crate::pages::OrdinalMd::owns_any)
    };
    ordinals.into_iter().filter(owns).collect()
}

/// The blob whose map a record makes or changes by itself.
fn map_of(record: &Record) -> Option<BlobId> {
    match record {
        Record::Map { blob, .. }
        | Record::Fill { blob, .. }
        | Record::DropZeros { blob, .. }
        | Record::KeepZeros { blob, .. }
        | Record::Inherit { blob, .. }
        | Record::ZeroBlocks { blob, .. }
        | Record::ZeroClusters { blob, .. }
        | Record::Resize { blob, .. }
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

/// A blob that could be read is damaged from here on.
fn condemn(state: &mut State, id: BlobId, why: &str) {
    if let Some(blob) = state.blobs.get_mut(&id).filter(|blob| blob.is_readable()) {
        (blob.damage, blob.damaged_below) = (Some(why.into()), false);
    }
}

/// What clones still have of blobs that are outdated is forgotten.
fn forget_outdated(state: &mut State) {
    let outdated: Vec<BlobId> = state.blobs().filter(|blob| blob.outdated).map(|blob| blob.id).collect();
    outdated.into_iter().for_each(|id| state.hand_tree_down(id));
}
