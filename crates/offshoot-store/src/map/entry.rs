//! What a cluster of an lvol is made of: nothing, one full cluster, or a stack of layers.

use super::{BlockStates, Flat};
use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;
use offshoot_format::{BlockState, ClusterIdx};

/// Names the owner of a cluster indirectly: a table says which blob a tag stands for today.
///
/// Entries are shared by every blob that inherits them. Handing all clusters of a snapshot to its
/// clone is therefore one change in that table, wherever the entries lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);

/// How one cluster of an lvol reads.
#[derive(Clone, Debug)]
pub enum Entry {
    /// No ancestor holds anything here: the external snapshot shows through, or zeros.
    Absent,
    /// Every block is in this physical cluster.
    Full {
        /// Who owns the cluster.
        tag: Tag,
        /// Where the data is.
        cluster: ClusterIdx,
    },
    /// Blocks come from several places.
    Stack(Arc<Stack>),
    /// Nobody can tell: the metadata of the blob, or of an ancestor, that said so cannot be read. Only damaged blobs
    /// have such entries, and a damaged blob is never written.
    Unknown,
}

/// One layer of a cluster: the blocks that one blob wrote or zeroed here.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Who owns the layer.
    pub tag: Tag,
    /// Where its data blocks are. `None` when it only zeroes.
    pub cluster: Option<ClusterIdx>,
    /// What each block is.
    pub states: BlockStates,
}

/// A layer and what lies below it. Shared with the snapshots that hold the lower layers.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The newest layer.
    pub top: Layer,
    /// Where blocks that `top` inherits come from. [`Entry::Absent`] when `top` inherits none.
    pub below: Entry,
    /// Layers from here down.
    depth: u32,
    /// `below` resolved block by block, where it is deep: reading must not cost more with every snapshot.
    pub(super) flat: Option<Arc<Flat>>,
}

impl Stack {
    /// A layer over an entry.
    #[must_use]
    pub fn new(top: Layer, below: Entry) -> Self {
        let depth_below = match &below {
            Entry::Absent => 0,
            Entry::Full { .. } | Entry::Unknown => 1,
            Entry::Stack(stack) => stack.depth,
        };
        let flat = (depth_below > Flat::DEPTH_MIN).then(|| Arc::new(Flat::of(&below, top.states.blocks())));
        Self { top, below, depth: depth_below + 1, flat }
    }
}

impl Drop for Stack {
    /// Takes a deep stack down one layer at a time: dropping it layer within layer would exhaust the program's stack.
    fn drop(&mut self) {
        let mut below = core::mem::replace(&mut self.below, Entry::Absent);
        while let Entry::Stack(stack) = below {
            match Arc::into_inner(stack) {
                Some(mut last) => below = core::mem::replace(&mut last.below, Entry::Absent),
                None => return,
            }
        }
    }
}

/// A layer of one owner, at any depth of an entry.
enum OwnLayer {
    Full(Tag, ClusterIdx),
    Partial(Layer),
}

impl OwnLayer {
    fn cluster(&self) -> Option<ClusterIdx> {
        match self {
            Self::Full(_, cluster) => Some(*cluster),
            Self::Partial(layer) => layer.cluster,
        }
    }
}

/// Where a run of blocks of one cluster is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What lies below the whole chain: the external snapshot if there is one, else zeros, unless the map of an
    /// ancestor is lost ([`crate::Blob::lost_len`]).
    Base,
    /// Nobody can tell.
    Unknown,
    /// Zeros.
    Zeros,
    /// The same blocks of a physical cluster.
    Cluster {
        /// Who owns it.
        tag: Tag,
        /// Which cluster.
        cluster: ClusterIdx,
    },
}

impl Entry {
    /// Where `block` comes from, and the end of the run of blocks (at most `limit`) that come from there as well.
    #[must_use]
    pub fn source(&self, block: u32, limit: u32) -> (Source, u32) {
        let mut entry = self;
        let mut end = limit;
        loop {
            match entry {
                Self::Absent => return (Source::Base, end),
                Self::Unknown => return (Source::Unknown, end),
                Self::Full { tag, cluster } => {
                    return (Source::Cluster { tag: *tag, cluster: *cluster }, end);
                }
                Self::Stack(stack) => {
                    end = stack.top.states.run_end(block, end);
                    match (stack.top.states.of(block), stack.top.cluster) {
                        (BlockState::Inherit, _) => match &stack.flat {
                            Some(flat) => return flat.source(block, end),
                            None => entry = &stack.below,
                        },
                        (BlockState::Data, Some(cluster)) => {
                            return (Source::Cluster { tag: stack.top.tag, cluster }, end);
                        }
                        // A layer without a cluster holds no data: load refuses such a record.
                        (BlockState::Zero | BlockState::Data, _) => return (Source::Zeros, end),
                    }
                }
            }
        }
    }

    /// The layers from the newest down: owner, cluster, and the states (`None` for a full cluster).
    pub fn layers(&self) -> impl Iterator<Item = (Tag, Option<ClusterIdx>, Option<&BlockStates>)> {
        let mut next = Some(self);
        core::iter::from_fn(move || match next? {
            Self::Absent | Self::Unknown => None,
            Self::Full { tag, cluster } => {
                next = None;
                Some((*tag, Some(*cluster), None))
            }
            Self::Stack(stack) => {
                next = Some(&stack.below);
                Some((stack.top.tag, stack.top.cluster, Some(&stack.top.states)))
            }
        })
    }

    /// The clusters of the layers that `owned` says yes to.
    pub fn clusters_of(&self, owned: impl Fn(Tag) -> bool) -> impl Iterator<Item = ClusterIdx> {
        self.layers().filter(move |(tag, ..)| owned(*tag)).filter_map(|(_, cluster, _)| cluster)
    }

    /// The entry without those of its newest layers, as far as `owned` says yes, of which no data is visible. What
    /// they zero is zeroed by the top layer instead.
    #[must_use]
    pub fn without_hidden(self, owned: &dyn Fn(Tag) -> bool) -> Self {
        let Self::Stack(stack) = &self else { return self };
        if !owned(stack.top.tag) {
            return self;
        }
        let mut top = stack.top.clone();
        // What the layers kept so far make of each block.
        let mut seen = top.states.clone();
        let mut kept = Vec::new();
        let mut below = &stack.below;
        while let Self::Stack(stack) = below
            && owned(stack.top.tag)
        {
            let layer = &stack.top;
            let blocks = 0..layer.states.blocks();
            let shown: Vec<u32> = blocks.filter(|block| seen.of(*block) == BlockState::Inherit).collect();
            let has_data = shown.iter().any(|block| layer.states.of(*block) == BlockState::Data);
            for block in shown {
                let state = layer.states.of(block);
                seen.set(block..block + 1, state);
                if !has_data && state == BlockState::Zero {
                    top.states.set(block..block + 1, state);
                }
            }
            if has_data {
                kept.push(layer.clone());
            }
            below = &stack.below;
        }
        let mut entry = if seen.any(BlockState::Inherit) { below.clone() } else { Self::Absent };
        for layer in kept.into_iter().rev() {
            entry = Self::Stack(Arc::new(Stack::new(layer, entry)));
        }
        entry.covered_by(top, false)
    }

    /// The newest layers, as far as `owned` says yes, and what lies below them.
    fn split(&self, owned: &dyn Fn(Tag) -> bool) -> (Vec<OwnLayer>, &Self) {
        let mut own = Vec::new();
        let mut entry = self;
        loop {
            match entry {
                Self::Full { tag, cluster } if owned(*tag) => {
                    own.push(OwnLayer::Full(*tag, *cluster));
                    return (own, &Self::Absent);
                }
                Self::Stack(stack) if owned(stack.top.tag) => {
                    own.push(OwnLayer::Partial(stack.top.clone()));
                    entry = &stack.below;
                }
                _ => return (own, entry),
            }
        }
    }

    /// The entry with some of its `all` blocks in a cluster of the owner, one of those that it has here or a new one.
    /// What holds nothing visible any more is gone.
    #[must_use]
    pub fn filled(
        self,
        tag: Tag,
        cluster: ClusterIdx,
        blocks: Range<u32>,
        all: u32,
        owned: &dyn Fn(Tag) -> bool,
    ) -> Self {
        let (mut own, below) = self.split(owned);
        let target = own.iter().position(|layer| layer.cluster() == Some(cluster)).unwrap_or_else(|| {
            match own.first_mut() {
                Some(OwnLayer::Partial(top)) if top.cluster.is_none() => top.cluster = Some(cluster),
                _ => {
                    let states = BlockStates::all(all, BlockState::Inherit);
                    own.insert(0, OwnLayer::Partial(Layer { tag, cluster: Some(cluster), states }));
                }
            }
            0
        });
        for (depth, layer) in own.iter_mut().enumerate().take(target + 1) {
            if let OwnLayer::Partial(layer) = layer {
                let state = if depth == target { BlockState::Data } else { BlockState::Inherit };
                layer.states.set(blocks.clone(), state);
                layer.cluster = layer.cluster.filter(|_| layer.states.any(BlockState::Data));
            }
        }
        own.into_iter().rev().fold(below.clone(), Self::covered_by_own)
    }

    /// Blocks that read zeros because another owner, whose layers come next below those of the owner, says so.
    #[must_use]
    pub fn zeroed_below(
        &self,
        blocks: u32,
        owned: &dyn Fn(Tag) -> bool,
        theirs: &dyn Fn(Tag) -> bool,
    ) -> Option<BlockStates> {
        let mut seen = BlockStates::all(blocks, BlockState::Inherit);
        let mut zeros = seen.clone();
        for (tag, _, states) in self.layers() {
            // A full cluster hides what is below, and so does whatever is neither's.
            let Some(states) = states.filter(|_| owned(tag) || theirs(tag)) else { break };
            let mut block = 0;
            while block < blocks {
                let (state, end) = (states.of(block), states.run_end(block, blocks));
                for block in (block..end).filter(|_| state != BlockState::Inherit) {
                    if seen.of(block) == BlockState::Inherit {
                        seen.set(block..block + 1, BlockState::Data);
                        if state == BlockState::Zero && theirs(tag) {
                            zeros.set(block..block + 1, BlockState::Zero);
                        }
                    }
                }
                block = end;
            }
        }
        zeros.any(BlockState::Zero).then_some(zeros)
    }

    /// The entry with some blocks that the owner itself says read zeros.
    #[must_use]
    pub fn with_zeros(self, tag: Tag, zeros: &BlockStates, owned: &dyn Fn(Tag) -> bool) -> Self {
        let blocks = zeros.blocks();
        let (mut top, below) = match self {
            Self::Stack(stack) if owned(stack.top.tag) => (stack.top.clone(), stack.below.clone()),
            other => {
                let states = BlockStates::all(blocks, BlockState::Inherit);
                (Layer { tag, cluster: None, states }, other)
            }
        };
        for block in (0..blocks).filter(|block| zeros.of(*block) == BlockState::Zero) {
            top.states.set(block..block + 1, BlockState::Zero);
        }
        below.covered_by(top, false)
    }

    /// The layers of the owner over another entry than before. `None` when they inherit nothing.
    #[must_use]
    pub fn over(&self, below: Self, owned: &dyn Fn(Tag) -> bool) -> Option<Self> {
        if !self.shows_below(owned) {
            return None;
        }
        let (own, _) = self.split(owned);
        Some(own.into_iter().rev().fold(below, Self::covered_by_own))
    }

    /// Whether the owner reads any block from what lies below its own layers.
    #[must_use]
    pub fn shows_below(&self, owned: &dyn Fn(Tag) -> bool) -> bool {
        let own = self.layers().take_while(|(tag, ..)| owned(*tag));
        own.into_iter().all(|(.., states)| states.is_some_and(|states| states.any(BlockState::Inherit)))
    }

    fn covered_by_own(self, layer: OwnLayer) -> Self {
        match layer {
            OwnLayer::Full(tag, cluster) => Self::Full { tag, cluster },
            OwnLayer::Partial(layer) => self.covered_by(layer, false),
        }
    }

    /// Puts a layer on top. Drops what no block inherits any more; a layer that is all data becomes a full
    /// cluster. `nothing_to_hide` says that the blob would read zeros here without any layer of its own: then
    /// a layer that only zeroes needs no place. It is the caller's to know, because entries forget what a
    /// covering layer has hidden while the parent's map on disk does not.
    #[must_use]
    pub fn covered_by(self, top: Layer, nothing_to_hide: bool) -> Self {
        let inherits = top.states.any(BlockState::Inherit);
        let zeroes = top.states.any(BlockState::Zero);
        let holds = top.states.any(BlockState::Data);
        let below = if inherits { self } else { Self::Absent };
        match top.cluster {
            Some(cluster) if !inherits && !zeroes => Self::Full { tag: top.tag, cluster },
            None if !inherits && nothing_to_hide => Self::Absent,
            None if !holds && !zeroes => below,
            None if nothing_to_hide && matches!(below, Self::Absent) => Self::Absent,
            _ => Self::Stack(Arc::new(Stack::new(top, below))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Tag = Tag(1);
    const PARENT: Tag = Tag(0);

    fn layer(cluster: Option<u32>, data: core::ops::Range<u32>, zero: core::ops::Range<u32>) -> Layer {
        let mut states = BlockStates::all(8, BlockState::Inherit);
        states.set(data, BlockState::Data);
        states.set(zero, BlockState::Zero);
        Layer { tag: OWN, cluster: cluster.map(ClusterIdx), states }
    }

    #[test]
    fn resolves_block_by_block() {
        let parent = Entry::Full { tag: PARENT, cluster: ClusterIdx(9) };
        let entry = parent.covered_by(layer(Some(4), 2..4, 5..6), true);
        let of_parent = Source::Cluster { tag: PARENT, cluster: ClusterIdx(9) };
        let of_own = Source::Cluster { tag: OWN, cluster: ClusterIdx(4) };
        assert_eq!(entry.source(0, 8), (of_parent, 2));
        assert_eq!(entry.source(2, 8), (of_own, 4));
        assert_eq!(entry.source(4, 8), (of_parent, 5));
        assert_eq!(entry.source(5, 8), (Source::Zeros, 6));
        assert_eq!(entry.source(6, 7), (of_parent, 7));
    }

    #[test]
    fn blocks_move_to_any_layer_of_the_owner() {
        let owned = |tag: Tag| tag == OWN;
        // Two layers of the owner, the lower one of all blocks.
        let joined =
            Entry::Full { tag: OWN, cluster: ClusterIdx(9) }.covered_by(layer(Some(4), 2..4, 5..6), true);
        let up = joined.clone().filled(OWN, ClusterIdx(4), 0..8, 8, &owned);
        assert!(matches!(up, Entry::Full { tag: OWN, cluster: ClusterIdx(4) }));
        let part = joined.filled(OWN, ClusterIdx(9), 0..4, 8, &owned);
        assert_eq!(part.source(0, 8), (Source::Cluster { tag: OWN, cluster: ClusterIdx(9) }, 5));
        assert_eq!(part.clusters_of(owned).collect::<Vec<_>>(), [ClusterIdx(9)], "4 holds nothing any more");
        assert_eq!(part.source(5, 8), (Source::Zeros, 6));
        let down = part.filled(OWN, ClusterIdx(9), 4..8, 8, &owned);
        assert!(matches!(down, Entry::Full { tag: OWN, cluster: ClusterIdx(9) }));
        // A new cluster, in parts: over nothing of the owner's, and in the place of one that only zeroes.
        let parent = Entry::Full { tag: PARENT, cluster: ClusterIdx(9) };
        for below in [parent.clone(), parent.covered_by(layer(None, 0..0, 1..3), false)] {
            let part = below.filled(OWN, ClusterIdx(5), 0..4, 8, &owned);
            assert_eq!(part.source(0, 8), (Source::Cluster { tag: OWN, cluster: ClusterIdx(5) }, 4));
            assert_eq!(part.layers().count(), 2);
            let full = part.filled(OWN, ClusterIdx(5), 4..8, 8, &owned);
            assert!(matches!(full, Entry::Full { tag: OWN, cluster: ClusterIdx(5) }));
        }
    }

    #[test]
    fn own_layers_come_to_lie_over_what_the_parent_has_become() {
        let owned = |tag: Tag| tag == OWN;
        let parent = Entry::Full { tag: PARENT, cluster: ClusterIdx(9) };
        let entry = parent.clone().covered_by(layer(Some(4), 2..4, 5..6), true);
        let moved = Entry::Full { tag: PARENT, cluster: ClusterIdx(7) };
        let after = entry.over(moved.clone(), &owned).unwrap();
        assert_eq!(after.source(0, 8), (Source::Cluster { tag: PARENT, cluster: ClusterIdx(7) }, 2));
        assert_eq!(after.source(5, 8), (Source::Zeros, 6));
        let covered = parent.covered_by(layer(Some(4), 0..7, 7..8), true);
        assert!(covered.over(moved.clone(), &owned).is_none(), "nothing of the parent shows");
        assert!(matches!(Entry::Absent.over(moved, &owned), Some(Entry::Full { tag: PARENT, .. })));
    }

    #[test]
    fn simplifies() {
        let parent = Entry::Full { tag: PARENT, cluster: ClusterIdx(9) };
        let full = parent.clone().covered_by(layer(Some(4), 0..8, 0..0), true);
        assert!(matches!(full, Entry::Full { tag: OWN, cluster: ClusterIdx(4) }));
        let gone = parent.clone().covered_by(layer(None, 0..0, 0..8), true);
        assert!(matches!(gone, Entry::Absent));
        let hidden = parent.clone().covered_by(layer(None, 0..0, 0..8), false);
        assert_eq!(hidden.source(0, 8), (Source::Zeros, 8));
        let untouched = parent.covered_by(layer(None, 0..0, 0..0), false);
        assert!(matches!(untouched, Entry::Full { tag: PARENT, .. }));
    }
}
