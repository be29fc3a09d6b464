//! The record that puts a blob onto something else.

use crate::blob::{Blob, External};
use crate::map::{Entry, Leaf, Tag, Tree};
use crate::record::Below;
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::{BlobCluster, BlobId};

impl State {
    pub(super) fn apply_set_parent(&mut self, id: BlobId, below: &Below) {
        let Some(blob) = self.blobs.get(&id) else { return };
        debug_assert!(blob.clones.is_empty(), "clones hold what they inherit in their own trees");
        let (len, old) = (blob.len, blob.parent);
        let parent = match below {
            Below::Blob(parent) => self.blob(*parent),
            Below::Nothing | Below::External(_) => None,
        };
        let tree = self.tree_over(id, parent, len);
        let external = match below {
            Below::External(external) => Some(External { id: external.clone(), len }),
            Below::Nothing | Below::Blob(_) => {
                parent.and_then(|parent| Self::inherited_external(parent, len))
            }
        };
        let lost_len = parent.map_or(0, |parent| parent.lost_len.min(len));
        let parent = parent.map(|parent| parent.id);
        if let Some(old) = old.and_then(|old| self.blobs.get_mut(&old)) {
            old.clones.remove(&id);
        }
        if let Some(parent) = parent.and_then(|parent| self.blobs.get_mut(&parent)) {
            parent.clones.insert(id);
        }
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.tree = tree;
            blob.parent = parent;
            blob.external = external;
            blob.lost_len = lost_len;
            blob.external_is_parent = matches!(below, Below::External(_));
            blob.inherit_len = if matches!(below, Below::Nothing) { 0 } else { len };
        }
        self.touch_chain(id);
    }

    /// Brings what a blob inherits up to date with its parent, of which less may be known than before.
    pub(crate) fn inherit_anew(&mut self, id: BlobId) {
        let Some(blob) = self.blob(id) else { return };
        let Some(parent) = blob.parent.and_then(|parent| self.blob(parent)) else { return };
        let lost_len = blob.lost_len.max(parent.lost_len.min(blob.inherit_len));
        let mut tree = self.tree_over(id, Some(parent), blob.inherit_len);
        for ordinal in blob.tree.ordinals() {
            let first = ordinal.first_cluster().0;
            let entries = blob.tree.leaf(ordinal).into_iter().flat_map(Leaf::entries);
            for (slot, _) in entries.filter(|(_, entry)| matches!(entry, Entry::Unknown)) {
                tree.replace(BlobCluster(first + slot as u64), Entry::Unknown);
            }
        }
        if let Some(blob) = self.blobs.get_mut(&id) {
            (blob.tree, blob.lost_len) = (tree, lost_len);
        }
    }

    /// The tree of a blob: what it owns, over so many clusters of what it inherits from.
    fn tree_over(&self, id: BlobId, parent: Option<&Blob>, len: u64) -> Tree {
        let mut tree = parent.map_or_else(Tree::default, |parent| parent.tree.clone());
        if parent.is_some_and(|parent| len < parent.len) {
            tree.truncate(BlobCluster(len));
        }
        for (at, entry) in self.own_entries(id) {
            let owned = |tag: Tag| self.tags.owner(tag) == Some(id);
            let entry = entry.over(tree.entry(at), &owned).unwrap_or(entry);
            tree.replace(at, entry);
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
