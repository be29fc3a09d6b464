//! Merge: snapshots go into what lies on them, one after the other, and of the clusters that both hold parts of one is left.
//!
//! Each fold is a hand-over as when a snapshot is removed: one record, whatever the sizes. Afterwards the heir owns several
//! layers of some clusters. Of these the one that shows most takes the blocks of the others, and their clusters come free.
//! From the first fold on the heir says of itself which snapshots it is taking up, so that the same request, made again
//! after a stop, finds where to go on.

use super::{Blocks, Need, Needed, Plan, WorkCost};
use crate::blob::Blob;
use crate::error::Error;
use crate::limits::{LABEL_BYTES_MAX, MD_PAGES_KEPT};
use crate::map::{Entry, Leaf, Source, Tag};
use crate::record::{Encoding, Record};
use crate::state::State;
use alloc::{collections::BTreeMap, collections::BTreeSet, vec::Vec};
use offshoot_format::{BlobCluster, BlobId, ClusterIdx, ExtentOrdinal, Xattr};

/// Xattr of an lvol that is taking up snapshots: their names, those that are gone already, with `/` between them.
const XATTR_MERGING: &[u8] = b"offshoot.merging";

/// Folds the parent of an lvol into it.
pub(super) fn fold(state: &State, snapshot: BlobId, into: BlobId) -> Result<Plan, Error> {
    let heir = state.sound_lvol(into)?;
    if heir.parent != Some(snapshot) {
        return Ok(Plan::default());
    }
    let folded = state.sound_lvol(snapshot)?;
    if folded.clones.len() > 1 {
        return Err(state.has_clones(folded));
    }
    let md_pages = 2;
    let spare = state.md_spare();
    if spare < md_pages + MD_PAGES_KEPT {
        return Err(Error::NoMdPages { needed: md_pages as u64, free: spare as u64 });
    }
    let mut names = heir.xattr(XATTR_MERGING).map(<[u8]>::to_vec).unwrap_or_default();
    if !names.is_empty() {
        names.push(b'/');
    }
    names.extend(folded.name());
    // The oldest ones are forgotten: what is left to be done is in the map.
    while names.len() > LABEL_BYTES_MAX {
        let end = names.iter().position(|byte| *byte == b'/').map_or(names.len(), |at| at + 1);
        names.drain(..end);
    }
    let xattr = Xattr::new(XATTR_MERGING, names);
    let records =
        alloc::vec![Record::SetXattr { blob: into, xattr }, Record::Adopt { snapshot, clone: into }];
    Ok(Plan { records, md_pages, handed_over: Some(into), ..Plan::default() })
}

/// The last transaction: of every cluster one is left.
pub(super) fn plan(state: &State, into: BlobId) -> Result<Plan, Error> {
    let lvol = state.sound_lvol(into)?;
    if state.join_needs(lvol, ExtentOrdinal(0)).is_some() {
        return Err(Error::Restless);
    }
    let is_marked = lvol.xattr(XATTR_MERGING).is_some();
    let name = XATTR_MERGING.to_vec();
    let record = is_marked.then_some(Record::RemoveXattr { blob: into, name });
    Ok(Plan { records: record.into_iter().collect(), ..Plan::default() })
}

impl State {
    /// What folding some snapshots comes to: the oldest of them, and what they are folded into. One snapshot goes into its
    /// only clone; of several, which must lie on each other, the newest takes up the others.
    ///
    /// # Errors
    /// Why they cannot be merged.
    pub fn merge_run(&self, snapshots: &[BlobId]) -> Result<(BlobId, BlobId), Error> {
        let mut run = Vec::new();
        for id in snapshots {
            run.push(self.sound_lvol(*id)?);
        }
        run.sort_by_key(|blob| self.depth(blob));
        run.dedup_by_key(|blob| blob.id);
        if let Some(pair) = run.windows(2).find(|pair| pair[1].parent != Some(pair[0].id)) {
            let (name, parent) = (pair[1].display_name(), pair[0].display_name());
            return Err(Error::NotConsecutive { name, parent });
        }
        let (oldest, newest) = match &run[..] {
            [] => return Err(Error::UnknownBlob(BlobId(0))),
            [only] => match only.clones.first() {
                Some(clone) => (*only, self.sound_lvol(*clone)?),
                None => return Err(Error::NoClone(only.display_name())),
            },
            [oldest, .., newest] => (*oldest, *newest),
        };
        self.merge_cost(oldest.id, newest.id)?;
        Ok((oldest.id, newest.id))
    }

    /// The lvol that is taking up a snapshot of this name, which is gone already.
    #[must_use]
    pub fn merging(&self, name: &[u8]) -> Option<&Blob> {
        self.lvols().find(|blob| {
            let names =
                blob.xattr(XATTR_MERGING).into_iter().flat_map(|names| names.split(|byte| *byte == b'/'));
            names.into_iter().any(|own| own == name)
        })
    }

    /// What folding all snapshots from `oldest` on into an lvol takes, and what it brings. `oldest` may be the lvol itself:
    /// then what was folded before is joined.
    ///
    /// # Errors
    /// One of them does not exist, is damaged or has other clones, or the lvol does not lie on them.
    pub fn merge_cost(&self, oldest: BlobId, into: BlobId) -> Result<WorkCost, Error> {
        let heir = self.sound_lvol(into)?;
        let mut owners = BTreeSet::from([into]);
        let mut next = heir;
        while next.id != oldest {
            let parent = next.parent.ok_or(Error::UnknownBlob(oldest))?;
            next = self.sound_lvol(parent)?;
            if next.clones.len() > 1 {
                return Err(self.has_clones(next));
            }
            owners.insert(parent);
        }
        let owned = |tag: Tag| self.owner(tag).is_some_and(|owner| owners.contains(&owner));
        let blobs: Vec<&Blob> = owners.iter().filter_map(|id| self.blob(*id)).collect();
        let mut cost =
            WorkCost { freed: blobs.iter().map(|blob| blob.own_clusters).sum(), ..WorkCost::default() };
        let ordinals: BTreeSet<&ExtentOrdinal> =
            blobs.iter().flat_map(|blob| blob.pages.ordinals.keys()).collect();
        for ordinal in ordinals {
            let filled = cost.filled;
            for (_, entry) in heir.tree.leaf(*ordinal).into_iter().flat_map(Leaf::entries) {
                let hidden = entry.clusters_of(owned).count() as u64;
                cost.freed -= match self.shown_per_cluster(&entry, &owned).is_empty() {
                    // Clones of the heir have its layers in their maps.
                    true if !heir.clones.is_empty() => hidden,
                    true => 0,
                    false => 1,
                };
                if let Some((_, missing)) = self.join_of(&entry, &owned) {
                    cost.filled += 1;
                    cost.bytes += missing;
                }
            }
            let has_extent = heir.pages.ordinals.get(ordinal).is_some_and(|md| md.extent.is_some());
            let may_need = cost.filled > filled && !has_extent && heir.encoding == Encoding::Table;
            cost.md_pages += u64::from(may_need);
        }
        if cost.filled > 0 {
            cost.md_pages += 2 + cost.md_pages / 256;
        }
        Ok(cost)
    }

    /// The first ordinal from `from` on in which a blob has several clusters for one, with all of these.
    pub(crate) fn join_needs(
        &self,
        blob: &Blob,
        from: ExtentOrdinal,
    ) -> Option<(ExtentOrdinal, Vec<Needed>)> {
        blob.pages.ordinals.range(from..).filter(|(_, md)| md.own_layers() > 0).find_map(|(ordinal, _)| {
            let first = ordinal.first_cluster().0;
            let entries = blob.tree.leaf(*ordinal).into_iter().flat_map(Leaf::entries);
            let clusters = entries.map(|(slot, _)| BlobCluster(first + slot as u64));
            let needed: Vec<Needed> =
                clusters.filter_map(|at| Some((at, self.join_need(blob, at)?))).collect();
            (!needed.is_empty()).then_some((*ordinal, needed))
        })
    }

    /// What a cluster of a blob needs to be in one.
    pub(crate) fn join_need(&self, blob: &Blob, at: BlobCluster) -> Option<Need> {
        let owned = |tag| self.owner(tag) == Some(blob.id);
        let (target, missing) = self.join_of(&blob.tree.entry(at), &owned)?;
        Some(Need::Fill { target: Some(target), missing, blocks: Blocks::Joined })
    }

    /// Which of several clusters that are owned takes up the others, and how many bytes these show.
    fn join_of(&self, entry: &Entry, owned: &dyn Fn(Tag) -> bool) -> Option<(ClusterIdx, u64)> {
        if entry.clusters_of(owned).count() < 2 {
            return None;
        }
        let shown = self.shown_per_cluster(entry, owned);
        let shown_by = |own: &ClusterIdx| shown.get(own).copied().unwrap_or(0);
        let target = entry.clusters_of(owned).max_by_key(shown_by).filter(|_| !shown.is_empty())?;
        Some((target, shown.values().sum::<u64>() - shown_by(&target)))
    }

    /// The clusters that are owned of which something shows, and how many bytes.
    pub(super) fn shown_per_cluster(
        &self,
        entry: &Entry,
        owned: &dyn Fn(Tag) -> bool,
    ) -> BTreeMap<ClusterIdx, u64> {
        let mut shown: BTreeMap<ClusterIdx, u64> = BTreeMap::new();
        let (mut pos, end) = (0, self.units.cluster);
        while pos < end {
            let (source, run) = self.source_in(entry, 0, pos, end);
            if let Source::Cluster { tag, cluster } = source
                && owned(tag)
            {
                *shown.entry(cluster).or_default() += run.end - run.start;
            }
            pos = run.end;
        }
        shown
    }
}
