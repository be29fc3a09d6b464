//! Space: what each lvol holds, what it reads from others, what its removal would give back, and what there is in all.
//!
//! Counted in clusters, from the maps as they are. What snapshots and clones share is counted once and passed on: the cost
//! follows from what is stored, not from how many lvols read it.

use crate::apply::only_in;
use crate::blob::Blob;
use crate::map::{Entry, Leaf, Source, Tag, Tree};
use crate::record::Record;
use crate::state::State;
use crate::verb::Verb;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use offshoot_format::{BlobId, ClusterIdx, ExtentOrdinal};

/// The clusters of one lvol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LvolSpace {
    /// It holds so many itself.
    pub own: u64,
    /// It reads something from so many that others hold.
    pub shared: u64,
    /// So many come free when it is removed now: 0 if it cannot be.
    pub freed: u64,
}

/// The clusters of a store. All but the last two add up to the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSpace {
    /// So many there are.
    pub total: u64,
    /// Hold metadata.
    pub metadata: u64,
    /// Are held by lvols, snapshots that are removed and kept for their clones included, or may be by what is damaged.
    pub allocated: u64,
    /// Were held by what has been removed, and come free by themselves.
    pub pending_free: u64,
    /// Belong to nobody.
    pub free: u64,
    /// Are promised to writable lvols: the sizes of thick ones, and of those with a reservation.
    pub committed: u64,
    /// Are free and kept for lvols with a reservation, at most.
    pub reserved: u64,
}

impl State {
    /// The clusters of the store.
    #[must_use]
    pub fn space(&self) -> StoreSpace {
        let total = u64::from(self.layout.total_clusters);
        let metadata = u64::from(self.layout.metadata_clusters());
        let (free, pending_free) = (self.clusters.free() as u64, self.dying_clusters());
        let promised = |blob: &&Blob| blob.is_reserved() || !blob.is_thin() && !blob.is_read_only();
        StoreSpace {
            total,
            metadata,
            allocated: total.saturating_sub(metadata + free + pending_free),
            pending_free,
            free,
            committed: self.lvols().filter(promised).map(|blob| blob.len).sum(),
            reserved: self.clusters.promised() as u64,
        }
    }

    /// The clusters of every lvol, and of every snapshot that is removed and kept for its clones.
    #[must_use]
    pub fn spaces(&self) -> BTreeMap<BlobId, LvolSpace> {
        let shown = self.shown_clusters();
        let space = |blob: &Blob| LvolSpace {
            own: blob.own_clusters,
            shared: shown.get(&blob.id).map_or(0, |shown| shown - self.own_shown(blob)),
            freed: self.freed_by_removal(blob.id),
        };
        self.lvols().chain(self.deferred()).map(|blob| (blob.id, space(blob))).collect()
    }

    /// How many clusters each blob reads something from.
    fn shown_clusters(&self) -> BTreeMap<BlobId, u64> {
        let mut shown = BTreeMap::new();
        let parents_first = self.clones_first().into_iter().rev();
        // Those whose parent is lost are nobody's clones.
        let rest = self.blobs().map(|blob| blob.id);
        for blob in parents_first.chain(rest).filter_map(|id| self.blob(id)) {
            if shown.contains_key(&blob.id) {
                continue;
            }
            let parent = blob.parent.and_then(|id| Some((self.blob(id)?, *shown.get(&id)?)));
            let all = |tree: &Tree, ordinals: &[ExtentOrdinal]| -> u64 {
                ordinals
                    .iter()
                    .filter_map(|at| tree.leaf(*at))
                    .map(|leaf| self.shown_in(leaf, |_| true))
                    .sum()
            };
            let count = match parent {
                Some((parent, shown)) => {
                    let differing = blob.tree.differing(&parent.tree);
                    shown - all(&parent.tree, &differing) + all(&blob.tree, &differing)
                }
                None => all(&blob.tree, &blob.tree.ordinals()),
            };
            shown.insert(blob.id, count);
        }
        shown
    }

    /// How many of its own clusters a blob reads something from.
    fn own_shown(&self, blob: &Blob) -> u64 {
        let leaves = blob.pages.ordinals.keys().filter_map(|at| blob.tree.leaf(*at));
        leaves.map(|leaf| self.shown_in(leaf, |owner| owner == Some(blob.id))).sum()
    }

    /// How many clusters of some owners are read through a leaf.
    fn shown_in(&self, leaf: &Leaf, of: impl Fn(Option<BlobId>) -> bool) -> u64 {
        let count = |entry: Entry| match entry {
            Entry::Absent | Entry::Unknown => 0,
            Entry::Full { tag, .. } => u64::from(of(self.owner(tag))),
            Entry::Stack(_) => {
                let (mut found, mut block) = (BTreeSet::new(), 0);
                while block < self.units.blocks {
                    let (source, end) = entry.source(block, self.units.blocks);
                    if let Source::Cluster { tag, cluster } = source
                        && of(self.owner(tag))
                    {
                        found.insert(cluster);
                    }
                    block = end;
                }
                found.len() as u64
            }
        };
        leaf.entries().map(|(_, entry)| count(entry)).sum()
    }

    /// How many clusters come free when an lvol is removed now, with all that its removal brings along.
    fn freed_by_removal(&self, lvol: BlobId) -> u64 {
        let Ok(plan) = (Verb::Remove { lvol }).plan(self) else { return 0 };
        let freed = plan.records.iter().map(|record| match record {
            Record::MarkDying { blob } => self.blob(*blob).map_or(0, |blob| self.undisputed(blob)),
            Record::Adopt { snapshot, clone } => match (self.blob(*snapshot), self.blob(*clone)) {
                (Some(snapshot), Some(clone)) => self.freed_by_adoption(snapshot, clone),
                _ => 0,
            },
            _ => 0,
        });
        freed.sum()
    }

    /// How many clusters of both come free when a clone adopts its snapshot: those that it does not read, and those whose
    /// layers are hidden once they are all its own.
    fn freed_by_adoption(&self, snapshot: &Blob, clone: &Blob) -> u64 {
        let differing = clone.tree.differing(&snapshot.tree);
        let not_read =
            only_in(&snapshot.tree, &clone.tree, &differing, |tag| self.owner(tag) == Some(snapshot.id));
        let owned = |tag: Tag| self.owner(tag).is_some_and(|owner| owner == snapshot.id || owner == clone.id);
        let of_both =
            |at: &&ExtentOrdinal| [snapshot, clone].iter().all(|blob| blob.pages.ordinals.contains_key(at));
        let joined = differing.iter().filter(of_both).filter(|_| clone.clones.is_empty());
        let entries = joined.filter_map(|at| clone.tree.leaf(*at)).flat_map(Leaf::entries);
        let hidden = entries.filter(|(_, entry)| entry.layers().filter(|(tag, ..)| owned(*tag)).count() > 1);
        let hidden = hidden.map(|(_, entry)| {
            let before = entry.clusters_of(owned).count();
            (before - entry.without_hidden(&owned).clusters_of(owned).count()) as u64
        });
        not_read.len() as u64 + hidden.sum::<u64>()
    }

    /// The clusters of a blob that nobody else claims.
    fn undisputed(&self, blob: &Blob) -> u64 {
        if self.disputed_clusters.is_empty() {
            return blob.own_clusters;
        }
        let leaves = blob.pages.ordinals.keys().filter_map(|at| blob.tree.leaf(*at));
        let own = leaves.flat_map(Leaf::entries).flat_map(|(_, entry)| {
            entry.clusters_of(|tag| self.owner(tag) == Some(blob.id)).collect::<Vec<ClusterIdx>>()
        });
        own.filter(|cluster| !self.disputed_clusters.contains_key(cluster)).count() as u64
    }
}
