//! The nodes of a map: leaves, those above them, and those that are worked out where they are looked at.
//!
//! A clone that forgets its parent keeps what it wrote and nothing else. To pick that out of its map takes as long as the map
//! is large; to say that it is to be picked out takes a moment. Each node does it for itself when it is first needed.

use super::{Leaf, Tag};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::array;
use once_cell::race::OnceBox;

pub(super) const FANOUT_BITS: u32 = 6;
pub(super) const FANOUT: usize = 1 << FANOUT_BITS;

/// A node of the tree that a map is.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nodes are few and always behind a pointer")]
pub(super) enum Node {
    Inner([Option<Arc<Node>>; FANOUT]),
    Leaf(Leaf),
    /// A part of either of them, of the same level. Stands for it until it is changed.
    Own(OwnPart),
}

impl Node {
    pub(super) fn empty(level: u32) -> Self {
        if level == 0 { Self::Leaf(Leaf::default()) } else { Self::Inner(array::from_fn(|_| None)) }
    }
}

/// A node that can be changed: one that stands for a part of another one makes way for that part.
pub(super) fn settled(slot: &mut Option<Arc<Node>>) -> Option<&mut Arc<Node>> {
    if let Some(Node::Own(part)) = slot.as_deref() {
        *slot = part.node().cloned();
    }
    slot.as_mut()
}

/// What a node stands for.
pub(super) fn seen(node: Option<&Arc<Node>>) -> Option<&Arc<Node>> {
    match &**node? {
        Node::Own(part) => part.node(),
        Node::Inner(_) | Node::Leaf(_) => node,
    }
}

/// A node that stands for another one without the layers that other tags own.
#[derive(Clone, Debug)]
pub(super) struct OwnPart {
    /// The other one, which is no such node itself.
    of: Arc<Node>,
    /// Whose layers remain, in order. They are the newest in each entry.
    tags: Arc<[Tag]>,
    /// What remains, once somebody asked. `None`: nothing.
    picked: OnceBox<Option<Arc<Node>>>,
}

impl OwnPart {
    /// What some tags own of a node. `None` when that is nothing, as far as can be told at once.
    pub(super) fn of(node: &Arc<Node>, tags: &Arc<[Tag]>) -> Option<Arc<Node>> {
        let (of, tags) = match &**node {
            // Never one upon the other: they would grow with every generation of clones that nobody reads.
            Node::Own(inner) => match inner.picked.get() {
                Some(picked) => (Arc::clone(picked.as_ref()?), Arc::clone(tags)),
                None => (Arc::clone(&inner.of), inner.tags_among(tags)),
            },
            Node::Inner(_) | Node::Leaf(_) => (Arc::clone(node), Arc::clone(tags)),
        };
        let part = Self { of, tags, picked: OnceBox::new() };
        (!part.tags.is_empty()).then(|| Arc::new(Node::Own(part)))
    }

    /// The node that this one stands for. `None`: nothing remains.
    pub(super) fn node(&self) -> Option<&Arc<Node>> {
        self.picked.get_or_init(|| Box::new(self.pick())).as_ref()
    }

    fn pick(&self) -> Option<Arc<Node>> {
        match &*self.of {
            Node::Inner(children) => {
                let part = |child: &Option<Arc<Node>>| Self::of(child.as_ref()?, &self.tags);
                Some(Arc::new(Node::Inner(array::from_fn(|index| part(&children[index])))))
            }
            Node::Leaf(leaf) => {
                let own = leaf.own_part(&|tag| self.tags.binary_search(&tag).is_ok());
                (!own.is_empty()).then(|| Arc::new(Node::Leaf(own)))
            }
            // `of` sees to it that there is none. It would be as good.
            Node::Own(inner) => Self::of(inner.node()?, &self.tags),
        }
    }

    /// Those of its tags that are among others, which are in order.
    fn tags_among(&self, others: &[Tag]) -> Arc<[Tag]> {
        let both: Vec<Tag> =
            self.tags.iter().copied().filter(|tag| others.binary_search(tag).is_ok()).collect();
        both.into()
    }
}

#[cfg(test)]
mod tests {
    use crate::map::{BlockStates, Entry, Layer, Source, Stack, Tag, Tree};
    use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
    use offshoot_format::{BlobCluster, BlockState, ClusterIdx};
    use proptest::prelude::*;

    const PARENT: Tag = Tag(0);
    const OWN: [Tag; 2] = [Tag(1), Tag(2)];

    /// Writes a cluster: as a whole, or the first of its two blocks over what is there.
    fn write(tree: &mut Tree, at: u64, tag: Tag, cluster: u32, whole: bool) {
        let cluster = ClusterIdx(cluster);
        let entry = if whole {
            Entry::Full { tag, cluster }
        } else {
            let mut states = BlockStates::all(2, BlockState::Inherit);
            states.set(0..1, BlockState::Data);
            let top = Layer { tag, cluster: Some(cluster), states };
            Entry::Stack(Arc::new(Stack::new(top, tree.entry(BlobCluster(at)))))
        };
        tree.replace(BlobCluster(at), entry);
    }

    /// Where the blocks of each cluster come from that has an entry.
    fn sources(tree: &Tree) -> BTreeMap<u64, Vec<Source>> {
        let mut all = BTreeMap::new();
        for ordinal in tree.ordinals() {
            for (slot, entry) in tree.leaf(ordinal).unwrap().entries() {
                let blocks = [0, 1].map(|block| entry.source(block, 2).0);
                all.insert(ordinal.first_cluster().0 + slot as u64, blocks.into());
            }
        }
        all
    }

    /// The same of what some tags own, looked at one by one.
    fn own_sources(tree: &Tree, tags: &[Tag]) -> BTreeMap<u64, Vec<Source>> {
        let own = |source| match source {
            Source::Cluster { tag, .. } if tags.contains(&tag) => source,
            _ => Source::Base,
        };
        let all = sources(tree).into_iter();
        let own = all.map(|(at, blocks)| (at, blocks.into_iter().map(own).collect::<Vec<_>>()));
        own.filter(|(_, blocks)| blocks.iter().any(|source| *source != Source::Base)).collect()
    }

    type Writes = Vec<(u64, u32, bool)>;

    fn writes() -> impl Strategy<Value = Writes> {
        proptest::collection::vec((0_u64..150_000, 1_u32..1000, any::<bool>()), 0..40)
    }

    proptest! {
        #[test]
        fn is_what_the_tags_own(
            parent in writes(), own in proptest::collection::vec(writes(), 2), after in writes(),
            first in any::<bool>(),
        ) {
            let mut tree = Tree::default();
            let layers = [(PARENT, &parent), (OWN[0], &own[0]), (OWN[1], &own[1])];
            for (tag, writes) in layers {
                for (at, cluster, whole) in writes {
                    write(&mut tree, *at % 3000, tag, *cluster, *whole);
                    write(&mut tree, *at, tag, *cluster, *whole);
                }
            }
            let before = sources(&tree);
            let part = tree.own_part(&OWN);
            let mut newest = part.own_part(&OWN[1..]);
            if first {
                prop_assert_eq!(sources(&part), own_sources(&tree, &OWN));
            }
            prop_assert_eq!(sources(&newest), own_sources(&tree, &OWN[1..]));
            let mut changed = part.clone();
            let mut model = own_sources(&tree, &OWN);
            for (at, cluster, _) in after {
                write(&mut changed, at, Tag(3), cluster, true);
                write(&mut newest, at, Tag(3), cluster, true);
                let cluster = Source::Cluster { tag: Tag(3), cluster: ClusterIdx(cluster) };
                model.insert(at, [cluster; 2].into());
            }
            // What has changed is told, and what has not is shared.
            let differ: Vec<_> = changed.differing(&part);
            prop_assert_eq!(&sources(&changed), &model);
            let kept = sources(&part);
            prop_assert_eq!(&kept, &own_sources(&tree, &OWN));
            let ordinals = part.ordinals().into_iter().chain(changed.ordinals());
            for ordinal in ordinals {
                prop_assert_eq!(differ.contains(&ordinal), !part.shares_leaf(&changed, ordinal));
            }
            prop_assert_eq!(sources(&tree), before);
        }
    }

    #[test]
    fn parts_of_parts_do_not_pile_up() {
        let mut tree = Tree::default();
        (0..200).for_each(|leaf| write(&mut tree, 512 * leaf, OWN[0], 7, true));
        for _ in 0..200_000 {
            tree = tree.own_part(&OWN);
        }
        assert_eq!(tree.ordinals().len(), 200);
        assert!(tree.own_part(&[]).ordinals().is_empty());
        assert!(tree.own_part(&[PARENT]).own_part(&OWN).ordinals().is_empty());
    }
}
