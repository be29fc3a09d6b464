//! Who depends on which md pages and clusters.

use crate::model::Number;
use offshoot_block::BlockDevice;
use offshoot_format::{BlobId, ClusterIdx};
use offshoot_store::map::Leaf;
use offshoot_store::{OrdinalMd, State, Store};
use std::collections::{BTreeMap, BTreeSet};

/// A blob as a sound store knows it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its lvol's number, or one that no lvol has.
    pub(super) number: Number,
    pub(super) parent: Option<BlobId>,
    pub(super) dying: bool,
    pub(super) chain: Vec<u32>,
    pub(super) extents: Vec<u32>,
    pub(super) layers: Vec<u32>,
    /// Its own clusters.
    pub(super) clusters: BTreeSet<u32>,
}

/// Stands for the super blob.
pub(super) const SUPER_BLOB: Number = 0;

/// Blobs, as the md pages and the journal have them, or the md pages alone.
#[derive(Clone, Debug)]
pub(super) struct Graph(pub(super) BTreeMap<BlobId, Node>);

impl Graph {
    pub(super) fn of<D: BlockDevice>(store: &Store<D>) -> Self {
        let state = store.state();
        Self(state.blobs().map(|blob| (blob.id, node(state, blob))).collect())
    }

    /// The lvols that md pages or clusters belong to.
    pub(super) fn owners(&self, pages: &BTreeSet<u32>, clusters: &BTreeSet<u32>) -> BTreeSet<Number> {
        let owns = |node: &&Node| {
            node.pages().any(|page| pages.contains(&page)) || !node.clusters.is_disjoint(clusters)
        };
        self.0.values().filter(owns).map(|node| node.number).collect()
    }

    /// The clusters that lvols own, dying ones excepted: those go.
    pub(super) fn clusters_of(&self, numbers: &BTreeSet<Number>) -> BTreeSet<u32> {
        let own = self.0.values().filter(|node| !node.dying && numbers.contains(&node.number));
        own.flat_map(|node| node.clusters.iter().copied()).collect()
    }

    /// Adds whatever inherits from an lvol of a set.
    pub(super) fn add_heirs(&self, numbers: &mut BTreeSet<Number>) {
        for node in self.0.values() {
            let parent = node.parent.and_then(|parent| self.0.get(&parent));
            if parent.is_some_and(|parent| numbers.contains(&parent.number)) {
                numbers.insert(node.number);
            }
        }
    }

    pub(super) fn knows(&self, number: Number) -> bool {
        self.0.values().any(|node| node.number == number)
    }
}

impl Node {
    pub(super) fn pages(&self) -> impl Iterator<Item = u32> {
        self.chain.iter().chain(&self.extents).chain(&self.layers).copied()
    }
}

fn node(state: &State, blob: &offshoot_store::Blob) -> Node {
    let ordinals = blob.pages.ordinals.values();
    let mut clusters = BTreeSet::new();
    for ordinal in blob.tree.ordinals() {
        for (_, entry) in blob.tree.leaf(ordinal).into_iter().flat_map(Leaf::entries) {
            let own = entry.clusters_of(|tag| state.owner(tag) == Some(blob.id));
            clusters.extend(own.map(|ClusterIdx(cluster)| cluster));
        }
    }
    let nameless = Number::MAX - Number::from(blob.id.0);
    let number = match blob.uuid() {
        _ if state.super_blob == Some(blob.id) => SUPER_BLOB,
        Some(uuid) => uuid.as_u128(),
        None => nameless,
    };
    Node {
        number,
        parent: blob.parent,
        dying: blob.dying,
        chain: blob.pages.chain.iter().map(|page| page.0).collect(),
        extents: ordinals.clone().filter_map(|md| md.extent).map(|page| page.0).collect(),
        layers: ordinals.flat_map(OrdinalMd::layer_pages).map(|page| page.0).collect(),
        clusters,
    }
}
