//! Records about whole blobs: create, snapshot, clone, xattrs, death, adoption.

use super::clusters::what_is_owned;
use crate::blob::Blob;
use crate::map::{Tag, Tree};
use crate::pages::{BlobPages, OrdinalMd};
use crate::record::Encoding;
use crate::state::State;
use alloc::{collections::BTreeSet, vec::Vec};
use offshoot_format::{
    BlobCluster, BlobId, ClusterIdx, DataRoFlags, ExtentOrdinal, Flags, InvalidFlags, MdPageIdx, Xattr,
};

impl State {
    pub(super) fn apply_create(
        &mut self,
        id: BlobId,
        flags: Flags,
        xattrs: &[Xattr],
        len: u64,
        encoding: Encoding,
    ) {
        let mut blob = self.new_blob(id, flags, xattrs, len, encoding);
        blob.inherit_len = 0;
        self.insert_blob(blob);
    }

    pub(super) fn apply_snapshot(&mut self, origin_id: BlobId, id: BlobId, xattrs: &[Xattr]) {
        let Some(origin) = self.blobs.get(&origin_id) else {
            return;
        };
        let mut flags = origin.flags;
        flags.data_ro.insert(DataRoFlags::READ_ONLY);
        let (len, encoding, parent) = (origin.len, origin.encoding, origin.parent);
        // The pages change hands before the debt is counted anew for both.
        let root = origin.pages.chain.clone();
        let pages = self.forget_pages(origin_id);
        let mut snapshot = self.new_blob(id, flags, xattrs, len, encoding);
        self.tags.retire(snapshot.write_tag());
        let fresh = self.tags.assign(origin_id);
        let Some(origin) = self.blobs.get_mut(&origin_id) else {
            return;
        };
        snapshot.tags = core::mem::replace(&mut origin.tags, alloc::vec![fresh]);
        for tag in &snapshot.tags {
            self.tags.hand_over(*tag, id);
        }
        snapshot.tree = origin.tree.clone();
        snapshot.parent = parent;
        snapshot.inherit_len = origin.inherit_len;
        snapshot.lost_len = origin.lost_len;
        snapshot.external.clone_from(&origin.external);
        snapshot.external_is_parent = core::mem::take(&mut origin.external_is_parent);
        snapshot.own_clusters = core::mem::take(&mut origin.own_clusters);
        snapshot.clones = BTreeSet::from([origin_id]);
        snapshot.pages.ordinals = pages.ordinals;
        snapshot.pages.dirty = pages.dirty;
        snapshot.pages.totals = pages.totals;
        snapshot.pages.rle_runs = pages.rle_runs;
        origin.parent = Some(id);
        origin.inherit_len = len;
        origin.flags.invalid.insert(InvalidFlags::THIN_PROV | InvalidFlags::INTERNAL_XATTR);
        let unwritten = pages.unwritten;
        origin.pages = BlobPages { chain: root, rle_runs: 1, unwritten, ..BlobPages::default() };
        if let Some(grandparent) = parent.and_then(|parent| self.blobs.get_mut(&parent)) {
            grandparent.clones.remove(&origin_id);
            grandparent.clones.insert(id);
        }
        self.insert_blob(snapshot);
        self.set_backed(origin_id, 0);
        self.touch_chain(origin_id);
    }

    pub(super) fn apply_clone(&mut self, parent_id: BlobId, id: BlobId, len: u64, xattrs: &[Xattr]) {
        let Some(parent) = self.blobs.get(&parent_id) else {
            return;
        };
        let (tree, encoding, lost_len) = (parent.tree.clone(), parent.encoding, parent.lost_len.min(len));
        let external = Self::inherited_external(parent, len);
        let mut flags = Flags::default();
        flags.invalid.insert(InvalidFlags::THIN_PROV | InvalidFlags::INTERNAL_XATTR);
        let mut clone = self.new_blob(id, flags, xattrs, len, encoding);
        clone.parent = Some(parent_id);
        clone.tree = tree;
        clone.external = external;
        clone.lost_len = lost_len;
        self.insert_blob(clone);
        if let Some(parent) = self.blobs.get_mut(&parent_id) {
            parent.clones.insert(id);
        }
    }

    pub(super) fn apply_set_xattr(&mut self, id: BlobId, xattr: &Xattr) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let old_name = blob.name().to_vec();
        match blob.xattrs.iter_mut().find(|own| own.name == xattr.name) {
            Some(own) => own.value.clone_from(&xattr.value),
            None => blob.xattrs.push(xattr.clone()),
        }
        let new_name = blob.name().to_vec();
        if Some(id) != self.super_blob && old_name != new_name {
            self.forget_name(&old_name, id);
            self.names.insert(new_name, id);
        }
        self.settle_reserve(id);
        self.touch_chain(id);
    }

    pub(super) fn apply_remove_xattr(&mut self, id: BlobId, name: &[u8]) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        blob.xattrs.retain(|xattr| xattr.name != name);
        self.settle_reserve(id);
        self.touch_chain(id);
    }

    pub(super) fn apply_set_read_only(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        blob.flags.data_ro.insert(DataRoFlags::READ_ONLY);
        self.settle_reserve(id);
        self.touch_chain(id);
    }

    pub(super) fn apply_use_extent_table(&mut self, blobs: &[BlobId]) {
        for id in blobs {
            let Some(blob) = self.blobs.get_mut(id) else {
                continue;
            };
            blob.encoding = Encoding::Table;
            blob.flags.invalid.insert(InvalidFlags::EXTENT_TABLE);
            let ordinals: Vec<ExtentOrdinal> = blob.pages.ordinals.keys().copied().collect();
            for ordinal in ordinals {
                self.touch_ordinal(*id, ordinal, |md| md.extent_dirty = true);
            }
            self.recount(*id);
        }
    }

    pub(super) fn apply_mark_dying(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        debug_assert!(blob.clones.is_empty());
        let name = blob.name().to_vec();
        blob.dying = true;
        // It lets go of its clusters part by part: on disk only a thin blob may have holes.
        blob.flags.invalid.insert(InvalidFlags::THIN_PROV);
        self.dying.insert(id);
        blob.xattrs.clear();
        blob.internal_xattrs.clear();
        blob.external = None;
        blob.external_is_parent = false;
        blob.inherit_len = 0;
        blob.lost_len = 0;
        if let Some(parent) = blob.parent.take().and_then(|parent| self.blobs.get_mut(&parent)) {
            parent.clones.remove(&id);
        }
        self.forget_name(&name, id);
        self.settle_reserve(id);
        self.touch_chain(id);
    }

    pub(super) fn apply_destroy(&mut self, id: BlobId) {
        let pages = self.forget_pages(id);
        let Some(blob) = self.blobs.remove(&id) else {
            return;
        };
        debug_assert_eq!(blob.own_clusters, 0);
        self.dying.remove(&id);
        self.forget_name(blob.name(), id);
        for tag in blob.tags {
            self.tags.retire(tag);
        }
        let mapped = pages.ordinals.values().flat_map(OrdinalMd::pages);
        let all: Vec<MdPageIdx> = pages.chain.iter().copied().chain(mapped).collect();
        self.free_md(&all);
    }

    pub(super) fn apply_adopt(&mut self, snapshot_id: BlobId, clone_id: BlobId) {
        let snapshot_pages = self.forget_pages(snapshot_id);
        let clone_pages = self.forget_pages(clone_id);
        let Some(snapshot) = self.blobs.remove(&snapshot_id) else {
            return;
        };
        self.forget_name(snapshot.name(), snapshot_id);
        let Some(clone) = self.blobs.get_mut(&clone_id) else {
            return;
        };

        let (clone_len, snapshot_len) = (clone.len, snapshot.len);
        let differing = clone.tree.differing(&snapshot.tree);
        let tags = &self.tags;
        let freed =
            only_in(&snapshot.tree, &clone.tree, &differing, |tag| tags.owner(tag) == Some(snapshot_id));
        for tag in &snapshot.tags {
            self.tags.hand_over(*tag, clone_id);
        }
        clone.tags.splice(0..0, snapshot.tags);
        clone.parent = snapshot.parent;
        clone.inherit_len = clone.inherit_len.min(snapshot.inherit_len);
        clone.external_is_parent = snapshot.external_is_parent;
        clone.own_clusters = clone.own_clusters + snapshot.own_clusters - freed.len() as u64;
        if let Some(parent) = snapshot.parent.and_then(|parent| self.blobs.get_mut(&parent)) {
            parent.clones.remove(&snapshot_id);
            parent.clones.insert(clone_id);
        }
        self.free_clusters(&freed, snapshot.flags.clear_method());
        // Only where both own something can one hide the other's layers.
        let mut joined = differing.clone();
        joined.retain(|ordinal| {
            clone_pages.ordinals.contains_key(ordinal) && snapshot_pages.ordinals.contains_key(ordinal)
        });
        let spare = self.merge_pages(clone_id, clone_pages, snapshot_pages, &differing);
        self.free_md(&spare);
        self.recount(clone_id);
        self.drop_hidden_layers(clone_id, &joined);
        self.recount_reserve(clone_id);
        if clone_len != snapshot_len {
            self.touch_end(clone_id, snapshot_len);
            self.touch_end(clone_id, clone_len);
        }
    }

    /// Lets go of own layers of which no block is visible any more. A blob with clones keeps them: their maps name
    /// the same layers.
    fn drop_hidden_layers(&mut self, id: BlobId, ordinals: &[ExtentOrdinal]) {
        let Some(blob) = self.blobs.get(&id).filter(|blob| blob.clones.is_empty()) else { return };
        let tags = &self.tags;
        let owned = |tag: Tag| tags.owner(tag) == Some(id);
        let mut stacked = Vec::new();
        for ordinal in ordinals {
            for (slot, entry) in blob.tree.leaf(*ordinal).into_iter().flat_map(crate::map::Leaf::entries) {
                if entry.layers().filter(|(tag, ..)| owned(*tag)).count() > 1 {
                    stacked.push(BlobCluster(ordinal.first_cluster().0 + slot as u64));
                }
            }
        }
        for at in stacked {
            self.change_entry(id, at, |entry, _, owned| entry.without_hidden(owned));
        }
    }

    /// Joins the pages of a snapshot and its clone: where only one owns something its pages stay what they are or move
    /// by pointer; where both do, they are written anew. Hands back the pages that nobody needs.
    fn merge_pages(
        &mut self,
        id: BlobId,
        mut own: BlobPages,
        mut theirs: BlobPages,
        differing: &[ExtentOrdinal],
    ) -> Vec<MdPageIdx> {
        // Pages of the snapshot become the clone's where it may need more than it has: a removal must not fail for
        // want of md pages. The next checkpoint gives back what is too many.
        let mut spare: Vec<MdPageIdx> = theirs.chain.drain(..1).collect();
        own.chain.append(&mut theirs.chain);
        let spread = self.units.spread;
        let Some(blob) = self.blobs.get_mut(&id) else {
            return spare;
        };
        let tags = &self.tags;
        let owned = |tag: Tag| tags.owner(tag) == Some(id);
        let both = theirs.ordinals.keys().filter(|ordinal| own.ordinals.contains_key(ordinal));
        let changed: BTreeSet<ExtentOrdinal> = differing.iter().chain(both).copied().collect();
        for ordinal in &changed {
            let mut full = 0;
            let mut layers = alloc::vec![0; spread.ranges()];
            for (slot, entry) in blob.tree.leaf(*ordinal).into_iter().flat_map(crate::map::Leaf::entries) {
                let count = what_is_owned(&entry, owned);
                full += u16::from(count.full.is_some());
                layers[spread.range_of(slot)] += count.layers;
            }
            let md = own.ordinals.entry(*ordinal).or_default();
            let their = theirs.ordinals.remove(ordinal).unwrap_or_default();
            spare.extend(md.join(spread, their, full, layers));
        }
        own.ordinals.append(&mut theirs.ordinals);
        own.dirty.append(&mut theirs.dirty);
        own.dirty.extend(changed);
        own.ordinals.retain(|_, md| !md.is_vacant());
        own.rle_runs += theirs.rle_runs;
        own.debt = 0;
        own.images = 0;
        blob.pages = own;
        spare
    }

    fn new_blob(&mut self, id: BlobId, flags: Flags, xattrs: &[Xattr], len: u64, encoding: Encoding) -> Blob {
        let mut flags = flags;
        flags.invalid.set(InvalidFlags::EXTENT_TABLE, encoding == Encoding::Table);
        self.take_md(id.root());
        let blob = Blob::new(id, self.tags.assign(id));
        let mut blob = Blob { flags, xattrs: xattrs.to_vec(), len, inherit_len: len, encoding, ..blob };
        blob.pages.unwritten = true;
        blob
    }

    /// Gives a name up, unless it is another's: loaded stores may hold one name twice.
    fn forget_name(&mut self, name: &[u8], id: BlobId) {
        if self.names.get(name) == Some(&id) {
            self.names.remove(name);
        }
    }

    fn insert_blob(&mut self, blob: Blob) {
        let id = blob.id;
        if !blob.name().is_empty() && Some(id) != self.super_blob {
            self.names.insert(blob.name().to_vec(), id);
        }
        self.blobs.insert(id, blob);
        self.settle_reserve(id);
        self.touch_chain(id);
    }
}

/// Clusters that `owned` blobs have in `old` and that `new` does not read any more.
pub(crate) fn only_in(
    old: &Tree,
    new: &Tree,
    differing: &[ExtentOrdinal],
    owned: impl Fn(Tag) -> bool + Copy,
) -> Vec<ClusterIdx> {
    let mut found = Vec::new();
    for ordinal in differing {
        for (slot, entry) in old.leaf(*ordinal).into_iter().flat_map(crate::map::Leaf::entries) {
            let kept = new.leaf(*ordinal).map(|leaf| leaf.entry(slot));
            let kept: Vec<ClusterIdx> = kept.iter().flat_map(|entry| entry.clusters_of(owned)).collect();
            found.extend(entry.clusters_of(owned).filter(|cluster| !kept.contains(cluster)));
        }
    }
    found
}
