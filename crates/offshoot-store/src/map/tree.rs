//! The cluster map of an lvol: a persistent radix tree of leaves.
//!
//! Cloning a tree copies one pointer. Changing a clone copies the nodes on the way to the leaf, once; all
//! others stay shared. So a snapshot is O(1), an idle clone costs nothing, and comparing two trees skips
//! every part that they share.

use super::node::{FANOUT, FANOUT_BITS, Node, OwnPart, seen, settled};
use super::{Entry, Leaf, SLOTS, Stack, Tag};
use alloc::{sync::Arc, vec::Vec};
use core::array;
use offshoot_format::{BlobCluster, ExtentOrdinal};

/// A cluster map. Leaf `n` covers blob clusters `512 * n ..`.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: Option<Arc<Node>>,
    /// Inner levels above the leaves.
    height: u32,
}

impl Tree {
    /// How a cluster reads.
    #[must_use]
    pub fn entry(&self, cluster: BlobCluster) -> Entry {
        let (ordinal, slot) = ExtentOrdinal::of(cluster);
        self.leaf(ordinal).map_or(Entry::Absent, |leaf| leaf.entry(slot))
    }

    /// Changes how a cluster reads; hands back what was there.
    pub fn replace(&mut self, cluster: BlobCluster, entry: Entry) -> Entry {
        let (ordinal, slot) = ExtentOrdinal::of(cluster);
        if matches!(entry, Entry::Absent) && self.leaf(ordinal).is_none() {
            return Entry::Absent;
        }
        self.leaf_mut(ordinal).replace(slot, entry)
    }

    /// The stack of a cluster.
    #[must_use]
    pub fn stack(&self, cluster: BlobCluster) -> Option<&Stack> {
        let (ordinal, slot) = ExtentOrdinal::of(cluster);
        self.leaf(ordinal)?.stack(slot)
    }

    /// The stack of a cluster, for a change in place.
    pub fn stack_mut(&mut self, cluster: BlobCluster) -> Option<&mut Stack> {
        let (ordinal, slot) = ExtentOrdinal::of(cluster);
        self.leaf(ordinal)?;
        self.leaf_mut(ordinal).stack_mut(slot)
    }

    /// The leaf of an ordinal, if anything is in it.
    #[must_use]
    pub fn leaf(&self, ordinal: ExtentOrdinal) -> Option<&Leaf> {
        match &**self.leaf_node(ordinal)? {
            Node::Leaf(leaf) => Some(leaf),
            Node::Inner(_) | Node::Own(_) => None,
        }
    }

    fn leaf_node(&self, ordinal: ExtentOrdinal) -> Option<&Arc<Node>> {
        if u64::from(ordinal.0) >> (FANOUT_BITS * self.height) != 0 {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut level = self.height;
        loop {
            match &**node {
                Node::Leaf(_) => return Some(node),
                Node::Own(part) => node = part.node()?,
                Node::Inner(children) => {
                    level -= 1;
                    node = children[digit(ordinal, level)].as_ref()?;
                }
            }
        }
    }

    /// The map without what lies below the newest layers of each entry that some tags own, and without the entries in which
    /// they own nothing. Takes the same time whatever the map: nodes are worked out when they are first looked at.
    #[must_use]
    pub fn own_part(&self, tags: &[Tag]) -> Self {
        let mut tags = tags.to_vec();
        tags.sort_unstable();
        let root = self.root.as_ref().and_then(|root| OwnPart::of(root, &tags.into()));
        Self { root, height: self.height }
    }

    /// Puts a leaf in as a whole, where there is none yet.
    pub fn insert_leaf(&mut self, ordinal: ExtentOrdinal, leaf: Leaf) {
        *self.leaf_mut(ordinal) = leaf;
    }

    /// Whether this tree and another share the leaf of an ordinal (or both have none).
    #[must_use]
    pub fn shares_leaf(&self, other: &Self, ordinal: ExtentOrdinal) -> bool {
        match (self.leaf(ordinal), other.leaf(ordinal)) {
            (None, None) => true,
            (Some(mine), Some(theirs)) => core::ptr::eq(mine, theirs),
            _ => false,
        }
    }

    /// Shares a part of `after` that this tree shared with `before`: everything, or the leaf of an ordinal. Says whether
    /// it shared either.
    pub fn follow(&mut self, before: &Self, after: &Self, ordinal: ExtentOrdinal) -> bool {
        let same = |left: Option<&Arc<Node>>, right: Option<&Arc<Node>>| match (left, right) {
            (None, None) => true,
            (Some(left), Some(right)) => Arc::ptr_eq(left, right),
            _ => false,
        };
        if self.height == before.height && same(self.root.as_ref(), before.root.as_ref()) {
            *self = after.clone();
            return true;
        }
        if !same(self.leaf_node(ordinal), before.leaf_node(ordinal)) {
            return false;
        }
        match after.leaf_node(ordinal) {
            Some(leaf) => *self.leaf_slot(ordinal) = Some(Arc::clone(leaf)),
            None => self.remove_leaf(ordinal),
        }
        true
    }

    /// Takes a leaf out.
    pub fn remove_leaf(&mut self, ordinal: ExtentOrdinal) {
        if self.leaf(ordinal).is_none() {
            return;
        }
        let mut slot = &mut self.root;
        for level in (0..self.height).rev() {
            let Some(node) = settled(slot) else { return };
            let Node::Inner(children) = Arc::make_mut(node) else {
                return;
            };
            slot = &mut children[digit(ordinal, level)];
        }
        *slot = None;
    }

    /// Ordinals that have a leaf, ascending.
    #[must_use]
    pub fn ordinals(&self) -> Vec<ExtentOrdinal> {
        let mut found = Vec::new();
        if let Some(root) = &self.root {
            collect(root, 0, &mut found);
        }
        found
    }

    /// Ordinals whose leaf differs between two trees, ascending. Costs nothing for what they share.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<ExtentOrdinal> {
        let mut found = Vec::new();
        let (mut mine, mut theirs) = (self.clone(), other.clone());
        while mine.height < theirs.height {
            mine.grow();
        }
        while theirs.height < mine.height {
            theirs.grow();
        }
        compare(mine.root.as_ref(), theirs.root.as_ref(), 0, &mut found);
        found
    }

    /// Forgets every entry from `len` on.
    pub fn truncate(&mut self, len: BlobCluster) {
        for ordinal in self.ordinals() {
            let start = ordinal.first_cluster().0;
            if start >= len.0 {
                self.remove_leaf(ordinal);
            } else if start + SLOTS as u64 > len.0 {
                let keep = usize::try_from(len.0 - start).unwrap_or(SLOTS);
                let is_cut = |leaf: &Leaf| leaf.entries().any(|(slot, _)| slot >= keep);
                // A leaf that loses nothing stays shared.
                if self.leaf(ordinal).is_some_and(is_cut) {
                    let leaf = self.leaf_mut(ordinal);
                    for slot in keep..SLOTS {
                        leaf.replace(slot, Entry::Absent);
                    }
                }
            }
        }
    }

    fn grow(&mut self) {
        if let Some(root) = self.root.take() {
            let mut children = array::from_fn(|_| None);
            children[0] = Some(root);
            self.root = Some(Arc::new(Node::Inner(children)));
        }
        self.height += 1;
    }

    /// Where the node of a leaf belongs, with the nodes on the way to it.
    fn leaf_slot(&mut self, ordinal: ExtentOrdinal) -> &mut Option<Arc<Node>> {
        while u64::from(ordinal.0) >> (FANOUT_BITS * self.height) != 0 {
            self.grow();
        }
        let mut slot = &mut self.root;
        for level in (0..self.height).rev() {
            settled(slot);
            let node = Arc::make_mut(slot.get_or_insert_with(|| Arc::new(Node::empty(level + 1))));
            let Node::Inner(children) = node else { unreachable!("leaves lie at the lowest level") };
            slot = &mut children[digit(ordinal, level)];
        }
        slot
    }

    fn leaf_mut(&mut self, ordinal: ExtentOrdinal) -> &mut Leaf {
        let slot = self.leaf_slot(ordinal);
        settled(slot);
        match Arc::make_mut(slot.get_or_insert_with(|| Arc::new(Node::empty(0)))) {
            Node::Leaf(leaf) => leaf,
            Node::Inner(_) | Node::Own(_) => unreachable!("leaves lie at the lowest level"),
        }
    }
}

fn digit(ordinal: ExtentOrdinal, level: u32) -> usize {
    (ordinal.0 >> (FANOUT_BITS * level)) as usize % FANOUT
}

#[expect(clippy::cast_possible_truncation, reason = "a child index is below the fan-out")]
fn child_prefix(prefix: u32, index: usize) -> u32 {
    prefix << FANOUT_BITS | index as u32
}

fn collect(node: &Node, prefix: u32, found: &mut Vec<ExtentOrdinal>) {
    match node {
        Node::Leaf(leaf) => {
            if !leaf.is_empty() {
                found.push(ExtentOrdinal(prefix));
            }
        }
        Node::Inner(children) => {
            for (index, child) in children.iter().enumerate() {
                if let Some(child) = child {
                    collect(child, child_prefix(prefix, index), found);
                }
            }
        }
        Node::Own(part) => {
            if let Some(node) = part.node() {
                collect(node, prefix, found);
            }
        }
    }
}

fn compare(
    mine: Option<&Arc<Node>>,
    theirs: Option<&Arc<Node>>,
    prefix: u32,
    found: &mut Vec<ExtentOrdinal>,
) {
    if let (Some(left), Some(right)) = (mine, theirs)
        && Arc::ptr_eq(left, right)
    {
        return;
    }
    let (left, right) = match (seen(mine), seen(theirs)) {
        (None, None) => return,
        (Some(left), Some(right)) if Arc::ptr_eq(left, right) => return,
        (Some(only), None) | (None, Some(only)) => {
            collect(only, prefix, found);
            return;
        }
        (Some(left), Some(right)) => (left, right),
    };
    match (&**left, &**right) {
        (Node::Inner(left), Node::Inner(right)) => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(left.as_ref(), right.as_ref(), child_prefix(prefix, index), found);
            }
        }
        _ => found.push(ExtentOrdinal(prefix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Tag;
    use alloc::collections::BTreeMap;
    use offshoot_format::ClusterIdx;
    use proptest::prelude::*;

    fn full(cluster: u32) -> Entry {
        Entry::Full { tag: Tag(1), cluster: ClusterIdx(cluster) }
    }

    fn plain(tree: &Tree) -> BTreeMap<u64, u32> {
        let mut all = BTreeMap::new();
        for ordinal in tree.ordinals() {
            for (slot, entry) in tree.leaf(ordinal).unwrap().entries() {
                if let Entry::Full { cluster, .. } = entry {
                    all.insert(ordinal.first_cluster().0 + slot as u64, cluster.0);
                }
            }
        }
        all
    }

    proptest! {
        #[test]
        fn equals_a_plain_map_and_leaves_its_clone_alone(
            first in proptest::collection::vec((0_u64..300_000, 1_u32..100), 0..60),
            second in proptest::collection::vec((0_u64..40_000_000, 0_u32..100), 0..60),
            cut in 0_u64..300_000,
        ) {
            let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
            for (at, cluster) in first {
                tree.replace(BlobCluster(at), full(cluster));
                model.insert(at, cluster);
            }
            let (snapshot, frozen) = (tree.clone(), model.clone());
            for (at, cluster) in second {
                let entry = if cluster == 0 { Entry::Absent } else { full(cluster) };
                tree.replace(BlobCluster(at), entry);
                if cluster == 0 { model.remove(&at); } else { model.insert(at, cluster); }
            }
            prop_assert_eq!(plain(&tree), model.clone());
            prop_assert_eq!(plain(&snapshot), frozen.clone());
            // A clone of the snapshot with a leaf of its own comes to share every leaf but that again.
            let mut clone = snapshot.clone();
            clone.replace(BlobCluster(700_000), full(1));
            for ordinal in tree.differing(&snapshot) {
                let before = clone.shares_leaf(&snapshot, ordinal);
                prop_assert_eq!(clone.follow(&snapshot, &tree, ordinal), before);
                prop_assert_eq!(clone.shares_leaf(&tree, ordinal), before);
            }
            let own = ExtentOrdinal::of(BlobCluster(700_000)).0;
            prop_assert!(tree.differing(&clone).iter().all(|ordinal| *ordinal == own));
            for ordinal in tree.differing(&snapshot) {
                prop_assert!(!tree.shares_leaf(&snapshot, ordinal));
            }
            let differ = |at: &u64| model.get(at) != frozen.get(at);
            let changed: Vec<u64> = model.keys().chain(frozen.keys()).copied().filter(differ).collect();
            for at in changed {
                prop_assert!(tree.differing(&snapshot).contains(&ExtentOrdinal::of(BlobCluster(at)).0));
            }
            tree.truncate(BlobCluster(cut));
            model.retain(|at, _| *at < cut);
            prop_assert_eq!(plain(&tree), model);
        }
    }
}
