//! Records that put a blob onto something else.

use crate::blob::{Blob, External};
use crate::map::{Entry, Leaf, Tag, Tree};
use crate::record::Below;
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::{BlobCluster, BlobId};

/// What a blob lies on: nothing by default.
#[derive(Debug, Default)]
struct Link {
    parent: Option<BlobId>,
    external: Option<External>,
    /// Whether the external is the blob's own parent and not one of an ancestor.
    external_is_parent: bool,
    /// Clusters that show what is below.
    inherit_len: u64,
}

impl State {
    pub(super) fn apply_set_parent(&mut self, id: BlobId, below: &Below) {
        let Some(blob) = self.blobs.get(&id) else { return };
        debug_assert!(blob.clones.is_empty(), "clones hold what they inherit in their own trees");
        let len = blob.len;
        let link = match below {
            Below::Nothing => Link::default(),
            Below::External(external) => Link {
                external: Some(External { id: external.clone(), len }),
                external_is_parent: true,
                inherit_len: len,
                parent: None,
            },
            Below::Blob(parent) => Link {
                external: self.blob(*parent).and_then(|parent| Self::inherited_external(parent, len)),
                external_is_parent: false,
                inherit_len: len,
                parent: Some(*parent),
            },
        };
        self.relink(id, link);
    }

    pub(super) fn apply_bypass(&mut self, id: BlobId, inherit_len: u64) {
        let Some(blob) = self.blobs.get(&id) else { return };
        let Some(old) = blob.parent.and_then(|old| self.blobs.get(&old)) else { return };
        let (parent, external_is_parent) = (old.parent, old.external_is_parent);
        let giver =
            if external_is_parent { Some(old) } else { parent.and_then(|parent| self.blobs.get(&parent)) };
        let external = giver.and_then(|giver| Self::inherited_external(giver, inherit_len));
        self.relink(id, Link { parent, external, external_is_parent, inherit_len });
        self.hand_external_down(id);
        self.hand_tree_down(id);
    }

    /// Takes a blob off what it lies on and puts it onto something else. What it owns stays.
    fn relink(&mut self, id: BlobId, link: Link) {
        let Some(old) = self.blobs.get(&id).map(|blob| blob.parent) else { return };
        let parent = link.parent.and_then(|parent| self.blobs.get(&parent));
        let tree = self.tree_over(id, parent, link.inherit_len);
        let lost_len = parent.map_or(0, |parent| parent.lost_len.min(link.inherit_len));
        let parent = parent.map(|parent| parent.id);
        if let Some(old) = old.and_then(|old| self.blobs.get_mut(&old)) {
            old.clones.remove(&id);
        }
        if let Some(parent) = parent.and_then(|parent| self.blobs.get_mut(&parent)) {
            parent.clones.insert(id);
        }
        if let Some(blob) = self.blobs.get_mut(&id) {
            (blob.tree, blob.parent, blob.external) = (tree, parent, link.external);
            blob.external_is_parent = link.external_is_parent;
            (blob.inherit_len, blob.lost_len) = (link.inherit_len, lost_len);
        }
        self.touch_chain(id);
    }

    /// Brings the maps of all the clones of a blob up to date with that of the blob.
    pub(crate) fn hand_tree_down(&mut self, id: BlobId) {
        let mut changed = alloc::vec![id];
        while let Some(id) = changed.pop() {
            let Some(parent) = self.blobs.get(&id) else { continue };
            for id in parent.clones.iter().copied().collect::<Vec<_>>() {
                let Some(clone) = self.blobs.get(&id) else { continue };
                let parent = self.blobs.get(&clone.parent.unwrap_or(id));
                let lost_len = parent.map_or(0, |parent| parent.lost_len.min(clone.inherit_len));
                let (tree, lost_len) = match clone.is_readable() {
                    true => (self.tree_over(id, parent, clone.inherit_len), lost_len),
                    false => (self.known_over(clone, parent), lost_len.max(clone.lost_len)),
                };
                if let Some(clone) = self.blobs.get_mut(&id) {
                    (clone.tree, clone.lost_len) = (tree, lost_len);
                }
                changed.push(id);
            }
        }
    }

    /// What a blob owns over what it inherits of another one.
    fn tree_over(&self, id: BlobId, parent: Option<&Blob>, inherit_len: u64) -> Tree {
        let Some(parent) = parent else {
            return self.blob(id).map_or_else(Tree::default, |blob| blob.tree.own_part(&blob.tags));
        };
        let mut tree = parent.tree.clone();
        if inherit_len < parent.len {
            tree.truncate(BlobCluster(inherit_len));
        }
        let owned = |tag: Tag| self.tags.owner(tag) == Some(id);
        for (at, entry) in self.own_entries(id) {
            let entry = entry.over(tree.entry(at), &owned).unwrap_or(entry);
            tree.replace(at, entry);
        }
        tree
    }

    /// The same of a damaged blob: what is not known of it is not inherited either.
    fn known_over(&self, blob: &Blob, parent: Option<&Blob>) -> Tree {
        let mut tree = blob.tree.clone();
        let owned = |tag: Tag| self.tags.owner(tag) == Some(blob.id);
        for ordinal in blob.tree.ordinals() {
            for (slot, entry) in blob.tree.leaf(ordinal).into_iter().flat_map(Leaf::entries) {
                let at = BlobCluster(ordinal.first_cluster().0 + slot as u64);
                let below = parent.filter(|_| at.0 < blob.inherit_len).map(|parent| parent.tree.entry(at));
                if !matches!(entry, Entry::Unknown)
                    && let Some(entry) = entry.over(below.unwrap_or(Entry::Absent), &owned)
                {
                    tree.replace(at, entry);
                }
            }
        }
        tree
    }

    /// The entries of a blob in which it holds something itself.
    pub(crate) fn own_entries(&self, id: BlobId) -> Vec<(BlobCluster, Entry)> {
        let Some(blob) = self.blob(id) else { return Vec::new() };
        let mut own = Vec::new();
        for ordinal in blob.pages.ordinals.keys() {
            for (slot, entry) in blob.tree.leaf(*ordinal).into_iter().flat_map(Leaf::entries) {
                if entry.layers().any(|(tag, ..)| self.tags.owner(tag) == Some(id)) {
                    own.push((BlobCluster(ordinal.first_cluster().0 + slot as u64), entry));
                }
            }
        }
        own
    }
}
