//! State: everything that a store is, in memory.
//!
//! Blobs, maps, names and relations are changed by [`State::apply`](crate::apply) and the loader alone; plans in
//! flight hold units of the pools. State does no I/O.

use crate::blob::{Blob, External};
use crate::error::Error;
use crate::map::{Entry, Tag, Tags};
use crate::pages::{BlobPages, OrdinalMd, Spread, Totals};
use crate::pool::Pool;
use crate::record::Encoding;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use core::ops::Range;
use offshoot_format::{
    BlobCluster, BlobId, ClearMethod, ClusterIdx, ExtentOrdinal, Layout, MdPageIdx, block_bytes,
    blocks_per_cluster, records_per_layer_page,
};
use uuid::Uuid;

/// Xattr of the super blob: new partial and zero clusters may arise. Absent on a store of SPDK's making.
pub const XATTR_NATIVE: &[u8] = b"offshoot.native";

/// Sizes that follow from the cluster size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Bytes of a block, the unit of copy-on-write.
    pub block: u64,
    /// Blocks of a cluster.
    pub blocks: u32,
    /// Bytes of the packed states of one layer.
    pub states_bytes: usize,
    /// How layer records are spread over md pages.
    pub spread: Spread,
}

impl Units {
    /// For a cluster size in bytes.
    #[must_use]
    pub fn of(cluster_size: u32) -> Self {
        let blocks = blocks_per_cluster(cluster_size);
        let states_bytes = blocks.div_ceil(4) as usize;
        Self {
            cluster: u64::from(cluster_size),
            block: u64::from(block_bytes(cluster_size)),
            blocks,
            states_bytes,
            spread: Spread::of(records_per_layer_page(states_bytes)),
        }
    }
}

/// A store in memory.
#[derive(Clone, Debug)]
pub struct State {
    /// Where everything lies on the device.
    pub layout: Layout,
    /// Sizes of clusters and blocks.
    pub units: Units,
    /// The blob that holds the store's identity.
    pub super_blob: Option<BlobId>,
    /// Whether new partial and zero clusters may arise, as long as the store is open: what [`State::allows_native`] says,
    /// unless it is being sealed.
    pub native_allowed: bool,
    /// Cluster numbers.
    pub clusters: Pool,
    /// Md page numbers.
    pub md: Pool,
    /// Whether a blob with relatives may be encoded in runs, or relatives may differ: only in loaded stores.
    pub(crate) mixed_encodings: bool,
    pub(crate) blobs: BTreeMap<BlobId, Blob>,
    pub(crate) names: BTreeMap<Vec<u8>, BlobId>,
    pub(crate) tags: Tags,
    /// Blobs whose clusters are being released.
    pub(crate) dying: BTreeSet<BlobId>,
    /// Claims beyond the first of clusters and md pages that several damaged blobs claim. Removing one of them
    /// frees nothing that another may own.
    pub(crate) disputed_clusters: BTreeMap<ClusterIdx, u32>,
    pub(crate) disputed_md: BTreeMap<MdPageIdx, u32>,
    /// Clusters in use that no readable blob owns: damaged ones may. Set by the loader.
    pub(crate) withheld: u64,
    /// Whether there are md pages in a native store that cannot be read and that nothing refers to. Set by the loader.
    pub(crate) hides_native: bool,
    /// Blobs whose metadata on disk is out of date.
    pub(crate) dirty: BTreeSet<BlobId>,
    /// Md pages that the next checkpoint writes over, at most: their images must fit the journal (R7).
    pub(crate) image_pages: usize,
    /// Md pages that the next checkpoint may have to add, at most.
    pub(crate) md_debt: usize,
    /// Md pages that plans count on which are not committed yet.
    pub(crate) md_reserved: usize,
    /// Md pages that are kept for lvols with a reservation.
    pub(crate) md_promised: usize,
    /// Clusters that the records applied since the last [`State::take_freed`] let go.
    pub(crate) freed_clusters: Vec<ClusterIdx>,
    /// Clusters that have been let go and are not to be discarded before they are used again, but cleared like this.
    pub(crate) clearing: BTreeMap<ClusterIdx, ClearMethod>,
    /// Md pages likewise.
    pub(crate) freed_md: Vec<MdPageIdx>,
    /// Md pages taken since the last [`State::take_fresh_md`]: nothing that is durable refers to them, so that they
    /// may be written at any time.
    pub(crate) fresh_md: BTreeSet<MdPageIdx>,
}

impl State {
    /// A store without blobs whose pools are as given.
    #[must_use]
    pub fn new(layout: Layout, clusters: Pool, md: Pool) -> Self {
        let units = Units::of(layout.cluster_size);
        Self {
            layout,
            units,
            super_blob: None,
            native_allowed: true,
            clusters,
            md,
            mixed_encodings: false,
            blobs: BTreeMap::new(),
            names: BTreeMap::new(),
            tags: Tags::default(),
            dying: BTreeSet::new(),
            disputed_clusters: BTreeMap::new(),
            disputed_md: BTreeMap::new(),
            withheld: 0,
            hides_native: false,
            dirty: BTreeSet::new(),
            image_pages: 0,
            md_debt: 0,
            md_reserved: 0,
            md_promised: 0,
            freed_clusters: Vec::new(),
            clearing: BTreeMap::new(),
            freed_md: Vec::new(),
            fresh_md: BTreeSet::new(),
        }
    }

    /// A blob.
    #[must_use]
    pub fn blob(&self, id: BlobId) -> Option<&Blob> {
        self.blobs.get(&id)
    }

    /// Every blob by id, the super blob and dying ones included.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.blobs.values()
    }

    /// The lvols, snapshots and clones, by id, which is not their order of creation.
    pub fn lvols(&self) -> impl Iterator<Item = &Blob> {
        self.blobs.values().filter(|blob| self.is_lvol(blob))
    }

    /// Whether a blob is an lvol: neither the super blob nor dying, nor removed and kept for its clones.
    #[must_use]
    pub fn is_lvol(&self, blob: &Blob) -> bool {
        !blob.dying && Some(blob.id) != self.super_blob && !self.is_deferred(blob)
    }

    /// The lvol of a name.
    #[must_use]
    pub fn lvol_by_name(&self, name: &[u8]) -> Option<&Blob> {
        self.blob(*self.names.get(name)?).filter(|blob| self.is_lvol(blob))
    }

    /// The lvol of a UUID.
    #[must_use]
    pub fn lvol_by_uuid(&self, uuid: Uuid) -> Option<&Blob> {
        self.lvols().find(|blob| blob.uuid() == Some(uuid))
    }

    /// The blob that a tag of the cluster map stands for.
    #[must_use]
    pub fn owner(&self, tag: Tag) -> Option<BlobId> {
        self.tags.owner(tag)
    }

    /// Whether a cluster is one of those that a blob has at `at`, at any depth.
    pub(crate) fn owns_cluster(&self, id: BlobId, at: BlobCluster, cluster: ClusterIdx) -> bool {
        let owned = |tag| self.owner(tag) == Some(id);
        let entry = self.blob(id).map(|blob| blob.tree.entry(at));
        entry.is_some_and(|entry| entry.clusters_of(owned).any(|own| own == cluster))
    }

    /// Clusters that dying blobs have yet to let go.
    #[must_use]
    pub fn dying_clusters(&self) -> u64 {
        self.dying.iter().filter_map(|id| self.blob(*id)).map(|blob| blob.own_clusters).sum()
    }

    /// Name of the store, as text.
    #[must_use]
    pub fn name(&self) -> String {
        self.super_blob
            .and_then(|id| self.blob(id))
            .map_or_else(String::new, |blob| crate::blob::escape(blob.name()))
    }

    /// UUID of the store.
    #[must_use]
    pub fn uuid(&self) -> Option<Uuid> {
        self.super_blob.and_then(|id| self.blob(id)).and_then(Blob::uuid)
    }

    /// Size of a blob in bytes.
    #[must_use]
    pub fn bytes(&self, blob: &Blob) -> u64 {
        blob.len * self.units.cluster
    }

    /// Whether `blob` would read zeros in a cluster if it owned nothing there. Where native states may not arise
    /// nothing says on disk how far the parent shows through, so all of the parent counts.
    #[must_use]
    pub fn reads_zero_below(&self, blob: &Blob, at: BlobCluster) -> bool {
        let shows = at.0 < blob.inherit_len || !self.native_allowed;
        !(shows && self.parent_holds(blob, at))
    }

    /// Whether the parent of a blob, or what lies below the whole chain, has something in a cluster.
    #[must_use]
    pub(crate) fn parent_holds(&self, blob: &Blob, at: BlobCluster) -> bool {
        match blob.parent.and_then(|id| self.blob(id)) {
            // Nobody can tell: it may.
            Some(parent) if at.0 < parent.lost_len => true,
            Some(parent) => {
                let external = parent.external.as_ref().is_some_and(|external| at.0 < external.len);
                external || !matches!(parent.tree.entry(at), Entry::Absent)
            }
            None => blob.external_is_parent,
        }
    }

    /// Whether new partial and zero clusters may arise in this store: [`XATTR_NATIVE`].
    #[must_use]
    pub fn allows_native(&self) -> bool {
        let super_blob = self.super_blob.and_then(|id| self.blob(id));
        super_blob.is_some_and(|blob| blob.xattr(XATTR_NATIVE) == Some(b"1"))
    }

    /// Whether anything in the store is something that SPDK's format cannot say, or may be, because it cannot be read.
    #[must_use]
    pub fn has_native_states(&self) -> bool {
        self.hides_native || self.blobs().any(|blob| self.is_native(blob))
    }

    /// Whether the metadata of a blob needs native descriptors. What cannot be read stays as it is.
    #[must_use]
    pub fn is_native(&self, blob: &Blob) -> bool {
        blob.dying
            || (blob.pages.native && !blob.is_readable())
            || blob.outdated
            || self.hides_parent_tail(blob)
            || blob.pages.ordinals.values().any(|ordinal| ordinal.own_layers() > 0)
    }

    /// Marks blobs for writing whose metadata on disk is native although it need not be any more: what a parent shows
    /// of itself changes without them.
    pub(crate) fn touch_stale_native(&mut self) {
        let stale =
            self.blobs().filter(|blob| blob.pages.native && blob.is_readable() && !self.is_native(blob));
        let stale: Vec<BlobId> = stale.map(|blob| blob.id).collect();
        stale.into_iter().for_each(|id| self.touch_chain(id));
    }

    /// Whether some cluster past `inherit_len` reads zeros here although the parent holds something there:
    /// SPDK's format has no way to say that.
    #[must_use]
    pub fn hides_parent_tail(&self, blob: &Blob) -> bool {
        self.parent_tail(blob, blob.inherit_len..blob.len)
            .any(|at| matches!(blob.tree.entry(BlobCluster(at)), Entry::Absent))
    }

    /// Clusters of a range in which the parent of a blob holds something, `inherit_len` or not.
    pub(crate) fn parent_tail(&self, blob: &Blob, range: Range<u64>) -> impl Iterator<Item = u64> {
        let below = match blob.parent.and_then(|id| self.blob(id)) {
            Some(parent) => parent.len.max(parent.lost_len),
            None if blob.external_is_parent => u64::MAX,
            None => 0,
        };
        (range.start..range.end.min(below)).filter(|at| self.parent_holds(blob, BlobCluster(*at)))
    }

    /// How many snapshots lie below a blob.
    #[must_use]
    pub fn depth(&self, blob: &Blob) -> u32 {
        let mut depth = 0;
        let mut next = blob.parent;
        while let Some(parent) = next.and_then(|id| self.blob(id)) {
            depth += 1;
            next = parent.parent;
        }
        depth
    }

    /// Whether a blob inherits from another, over any number of snapshots.
    pub(crate) fn descends(&self, id: BlobId, ancestor: BlobId) -> bool {
        let mut next = self.blob(id).and_then(|blob| blob.parent);
        while let Some(parent) = next {
            if parent == ancestor {
                return true;
            }
            next = self.blob(parent).and_then(|blob| blob.parent);
        }
        false
    }

    /// The oldest ancestor of a family of snapshots and clones: related blobs have the same.
    #[must_use]
    pub fn family_root(&self, member: BlobId) -> BlobId {
        let mut root = member;
        while let Some(parent) = self.blob(root).and_then(|blob| blob.parent) {
            root = parent;
        }
        root
    }

    /// Every blob of a family of snapshots and clones, oldest ancestor first.
    #[must_use]
    pub fn family(&self, member: BlobId) -> Vec<BlobId> {
        let mut found = alloc::vec![self.family_root(member)];
        let mut next = 0;
        while let Some(blob) = found.get(next).and_then(|id| self.blob(*id)) {
            found.extend(blob.clones.iter().copied());
            next += 1;
        }
        found
    }

    /// Counts the clusters in use that no blob owns.
    pub(crate) fn count_withheld(&mut self) {
        let own: u64 = self.blobs.values().map(|blob| blob.own_clusters).sum();
        let extra: u64 = self.disputed_clusters.values().map(|claims| u64::from(*claims)).sum();
        let owned = own.saturating_sub(extra) + u64::from(self.layout.metadata_clusters());
        self.withheld = (self.clusters.used().count_ones() as u64).saturating_sub(owned);
    }

    /// The refusal of a request for more clusters than there are.
    pub(crate) fn no_clusters(&self, needed: u64) -> Error {
        let free = self.clusters.available() as u64;
        match self.withheld {
            0 => Error::NoClusters { needed, free },
            withheld => Error::ClustersWithheld { needed, free, withheld },
        }
    }

    /// Md pages that a new plan may count on.
    #[must_use]
    pub fn md_spare(&self) -> usize {
        self.md.available().saturating_sub(self.md_debt + self.md_reserved + self.md_promised)
    }

    /// Clusters and md pages that records have let go since the last call. They are held in their pools until
    /// the commit point releases them (R1).
    pub(crate) fn take_freed(&mut self) -> (Vec<ClusterIdx>, Vec<MdPageIdx>) {
        (core::mem::take(&mut self.freed_clusters), core::mem::take(&mut self.freed_md))
    }

    /// How a cluster that has been let go is cleared before it is used again: never [`ClearMethod::Default`]. Asked once.
    pub(crate) fn take_clearing(&mut self, cluster: ClusterIdx) -> ClearMethod {
        self.clearing.remove(&cluster).unwrap_or(ClearMethod::Unmap)
    }

    /// After a replay: what was freed and has been taken again since, which in life a barrier or a checkpoint came
    /// before, is not free; what was freed twice is freed once.
    pub(crate) fn settle_freed(&mut self) {
        self.freed_clusters.sort_unstable();
        self.freed_clusters.dedup();
        self.freed_clusters.retain(|cluster| !self.clusters.is_used(cluster.0));
        self.clearing.retain(|cluster, _| !self.clusters.is_used(cluster.0));
        self.freed_md.sort_unstable();
        self.freed_md.dedup();
        self.freed_md.retain(|page| !self.md.is_used(page.0));
    }

    /// Md pages that were taken since the last call.
    pub(crate) fn take_fresh_md(&mut self) -> BTreeSet<MdPageIdx> {
        core::mem::take(&mut self.fresh_md)
    }

    /// Marks a blob's chain for writing and brings the debt of md pages up to date.
    pub(crate) fn touch_chain(&mut self, id: BlobId) {
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.pages.chain_dirty = true;
            self.dirty.insert(id);
            blob.settle_debt(&mut self.md_debt);
            blob.pages.settle_images(true, &mut self.image_pages);
        }
    }

    /// Changes what a blob owns in an ordinal, and says what of it must be written; brings the debt up to date.
    pub(crate) fn touch_ordinal(
        &mut self,
        id: BlobId,
        ordinal: ExtentOrdinal,
        change: impl FnOnce(&mut OrdinalMd),
    ) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let (spread, encoding) = (self.units.spread, blob.encoding);
        let entry = blob.pages.ordinals.entry(ordinal).or_default();
        let before = entry.totals(encoding, spread);
        change(entry);
        let after = entry.totals(encoding, spread);
        if entry.is_vacant() {
            blob.pages.ordinals.remove(&ordinal);
        }
        blob.pages.dirty.insert(ordinal);
        self.dirty.insert(id);
        blob.pages.totals.replace(before, after);
        // An RLE map lies in the chain itself; the others name their pages there.
        let is_in_chain = encoding == Encoding::Rle || before.differ_in_pages(after);
        blob.pages.chain_dirty |= is_in_chain;
        if is_in_chain {
            blob.settle_debt(&mut self.md_debt);
        }
        blob.pages.settle_images(true, &mut self.image_pages);
    }

    /// Recounts a blob's totals after its table of ordinals was replaced as a whole.
    pub(crate) fn recount(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let mut totals = Totals::default();
        for ordinal in blob.pages.ordinals.values() {
            totals.replace(Totals::default(), ordinal.totals(blob.encoding, self.units.spread));
        }
        blob.pages.totals = totals;
        self.touch_chain(id);
    }

    /// Forgets a blob's part of the debt and of the dirty set, before it goes or changes hands.
    pub(crate) fn forget_pages(&mut self, id: BlobId) -> BlobPages {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return BlobPages::default();
        };
        let pages = core::mem::take(&mut blob.pages);
        self.md_debt -= pages.debt;
        self.image_pages -= pages.images;
        self.dirty.remove(&id);
        pages
    }

    /// The nearest external snapshot of a blob, cut to what shows through it.
    pub(crate) fn inherited_external(parent: &Blob, inherit_len: u64) -> Option<External> {
        let external = parent.external.as_ref()?;
        Some(External { id: external.id.clone(), len: external.len.min(inherit_len) })
    }
}

/// Gives up one of several claims on a unit. Says whether it was disputed, so that it stays in use.
pub(crate) fn give_up<K: Ord>(disputed: &mut BTreeMap<K, u32>, unit: &K) -> bool {
    match disputed.get_mut(unit) {
        None => false,
        Some(1) => disputed.remove(unit).is_some(),
        Some(claims) => {
            *claims -= 1;
            true
        }
    }
}
