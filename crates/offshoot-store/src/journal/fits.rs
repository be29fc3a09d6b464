//! Whether a record may be applied to a State.
//!
//! In life records are planned against the State that they change, so they fit. In recovery they come from a device:
//! a valid checksum says that they are what was written, not that a well-meaning writer wrote them. A record that
//! fits can be applied and leaves a State in which every cluster and md page has one owner and every count is right.
//!
//! What a planner guarantees beyond that is asked for only where a State without it could not be written, read back
//! or held in memory: refusing what has once been committed would lose data. Names may conflict, as in loaded stores.

use crate::blob::Blob;
use crate::limits::CHAIN_DEPTH_MAX;
use crate::map::Tag;
use crate::pages::{OrdinalMd, by_ordinal, by_range};
use crate::record::{Below, Encoding, MappedRun, Record};
use crate::state::State;
use alloc::{collections::BTreeSet, vec::Vec};
use core::ops::Range;
use offshoot_format::{
    BlobCluster, BlobId, ClusterIdx, DESCRIPTORS_BYTES, ExtentOrdinal, Flags, XATTR_NAME, XATTR_UUID, Xattr,
    parse_name, parse_uuid,
};
use thiserror::Error;

/// A record that cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind} of blob {blob}: {why}")]
pub(crate) struct Misfit {
    /// What the record does.
    pub kind: &'static str,
    /// The blob that it is about: for a snapshot the origin, for a clone the parent.
    pub blob: BlobId,
    /// What is in the way.
    pub why: Why,
}

/// Why a record cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum Why {
    /// The blob is not there.
    #[error("it does not exist")]
    Missing,
    /// A new blob has the id of another.
    #[error("blob {0} exists already")]
    Exists(BlobId),
    /// The root page of a new blob is not free.
    #[error("md page {0} is not free")]
    RootInUse(u32),
    /// The super blob is no lvol.
    #[error("it is the super blob")]
    SuperBlob,
    /// The blob is being removed.
    #[error("it is dying")]
    Dying,
    /// Only a blob that is being removed is released and destroyed.
    #[error("it is not dying")]
    NotDying,
    /// Its map is not known.
    #[error("it is damaged")]
    Damaged,
    /// Its data cannot change.
    #[error("it is read-only")]
    ReadOnly,
    /// Its data can change, so nothing may inherit from it.
    #[error("it is writable")]
    Writable,
    /// Blobs inherit from it.
    #[error("it has {0} clones")]
    HasClones(usize),
    /// The other blob is not the only one that inherits from it.
    #[error("blob {0} is not its only clone")]
    NotTheOnlyClone(BlobId),
    /// Only what is thin has anything below it.
    #[error("it is thick")]
    Thick,
    /// The chain of snapshots would become too long.
    #[error("a chain of {depth} snapshots, at most {CHAIN_DEPTH_MAX}")]
    TooDeep {
        /// Snapshots below the blob at the top.
        depth: u32,
    },
    /// A snapshot or clone of another size than what it is made of.
    #[error("{len} clusters are named, it has {stored}")]
    Length {
        /// Clusters of the new blob.
        len: u64,
        /// Clusters of the blob that it is made of.
        stored: u64,
    },
    /// A cluster that the blob does not have.
    #[error("cluster {at} is beyond its end at {len}")]
    BeyondEnd {
        /// The cluster.
        at: u64,
        /// Size of the blob in clusters.
        len: u64,
    },
    /// A physical cluster that belongs to something else.
    #[error("cluster {0} is in use")]
    ClusterInUse(ClusterIdx),
    /// Runs that overlap, or back clusters that the record does not add.
    #[error("the run at cluster {0} overlaps another, or backs what is not new")]
    Run(BlobCluster),
    /// A blob that is not thin would have a cluster without backing.
    #[error("it is thick, and cluster {0} would not be backed")]
    Hole(u64),
    /// Only what has a parent can do without it.
    #[error("it has no parent")]
    NoParent,
    /// It would need what it does not hold itself.
    #[error("it does not hold every cluster itself")]
    NotFull,
    /// The store does not allow new partial or zero clusters.
    #[error("cluster {0} would be in a state that the store does not allow")]
    NativeState(u64),
    /// A cluster that reads something else than zeros, or would without what the blob says of it.
    #[error("cluster {0} does not read zeros by itself")]
    Shown(u64),
    /// More layers in one cluster than can be numbered.
    #[error("cluster {0} has as many layers as can be")]
    Layers(BlobCluster),
    /// More metadata than the store has room for.
    #[error("it needs {needed} md pages or more, free are {free}")]
    MdPages {
        /// Pages.
        needed: usize,
        /// Pages.
        free: usize,
    },
    /// A map of runs that need not fit one md page.
    #[error("a map of {0} clusters is not encoded in runs")]
    TooLongForRuns(u64),
    /// Relatives whose maps are encoded in two ways.
    #[error("the map of blob {0} in its family is encoded in runs")]
    RelativeWithRuns(BlobId),
    /// A dying blob owns nothing there, or the ordinals are out of order.
    #[error("it owns nothing at extent page {0}, or that is named twice")]
    NothingOwned(ExtentOrdinal),
    /// A dying blob cannot go yet.
    #[error("it owns {0} clusters")]
    OwnsClusters(u64),
    /// A part of it would read something else.
    #[error("it would show more or less of what lies below")]
    Visible,
    /// A value without which the store or the lvol could not be found again.
    #[error("the value of {0} is no good")]
    Value(&'static str),
}

/// Most clusters of a new map that is encoded in runs: each may be a run of its own, of 8 bytes.
const RLE_CLUSTERS_MAX: u64 = DESCRIPTORS_BYTES as u64 / 8;

/// Most layers that one blob has in one cluster: on disk they are numbered in 16 bits.
const OWN_LAYERS_MAX: usize = u16::MAX as usize;

impl State {
    /// Whether a record, as it was decoded, may be applied.
    ///
    /// # Errors
    /// [`Misfit`]: which record, and why not.
    pub(crate) fn fits(&self, record: &Record) -> Result<(), Misfit> {
        let (kind, blob, fits) = match record {
            Record::Create { id, flags, len, runs, encoding, .. } => {
                ("create", *id, self.create_fits(*id, *flags, *len, runs, *encoding))
            }
            Record::Snapshot { origin, id, len, .. } => {
                ("snapshot", *origin, self.snapshot_fits(*origin, *id, *len))
            }
            Record::Clone { parent, id, len, .. } => ("clone", *parent, self.clone_fits(*parent, *id, *len)),
            Record::Map { blob, at, cluster, blocks } => {
                ("map", *blob, self.map_fits(*blob, *at, *cluster, blocks))
            }
            Record::Fill { blob, at, cluster, blocks } => {
                ("fill", *blob, self.fill_fits(*blob, *at, *cluster, blocks))
            }
            Record::DropZeros { blob, at } => ("drop zeros", *blob, self.drop_zeros_fits(*blob, *at)),
            Record::KeepZeros { blob, at } => ("keep zeros", *blob, self.keep_zeros_fits(*blob, *at)),
            Record::Bypass { blob, inherit_len } => ("bypass", *blob, self.bypass_fits(*blob, *inherit_len)),
            Record::Inherit { blob, len } => ("inherit", *blob, self.inherit_fits(*blob, *len)),
            Record::Inflate { blob } => ("inflate", *blob, self.inflate_fits(*blob)),
            Record::ZeroBlocks { blob, at, blocks } => {
                let whole = *blocks == (0..self.units.blocks);
                ("zero blocks", *blob, self.zero_fits(*blob, &(at.0..at.0.saturating_add(1)), whole))
            }
            Record::ZeroClusters { blob, range } => {
                ("zero clusters", *blob, self.zero_fits(*blob, range, true))
            }
            Record::Resize { blob, len, runs } => ("resize", *blob, self.resize_fits(*blob, *len, runs)),
            Record::SetXattr { blob, xattr } => ("set xattr", *blob, self.set_xattr_fits(*blob, xattr)),
            Record::RemoveXattr { blob, name } => {
                ("remove xattr", *blob, self.remove_xattr_fits(*blob, name))
            }
            Record::SetReadOnly { blob } => ("set read-only", *blob, self.readable(*blob).map(drop)),
            Record::SetParent { blob, below } => ("set parent", *blob, self.set_parent_fits(*blob, below)),
            Record::UseExtentTable { blobs } => return self.use_extent_table_fits(blobs),
            Record::MarkDying { blob } => ("mark dying", *blob, self.mark_dying_fits(*blob)),
            Record::Release { blob, ordinals } => ("release", *blob, self.release_fits(*blob, ordinals)),
            Record::Destroy { blob } => ("destroy", *blob, self.destroy_fits(*blob)),
            Record::Adopt { snapshot, clone } => ("adopt", *snapshot, self.adopt_fits(*snapshot, *clone)),
            // Made by checkpoints from the State itself, and never journaled.
            Record::Assign { blob, .. } => ("assign", *blob, self.existing(*blob).map(drop)),
        };
        fits.map_err(|why| Misfit { kind, blob, why })
    }

    /// Whether the md pages are there that a checkpoint may need. [`State::fits`] does not count them: to be asked
    /// between the last record of a replay and the checkpoint, which relies on it.
    #[must_use]
    pub(crate) fn has_checkpoint_pages(&self) -> bool {
        // Md page 0 is never given to a map: there its number means "none".
        let page_0 = self.md.peek(0, 1).is_some_and(|pages| pages == [0]);
        self.md_debt <= self.md.available() - usize::from(page_0)
    }

    fn create_fits(
        &self,
        id: BlobId,
        flags: Flags,
        len: u64,
        runs: &[MappedRun],
        encoding: Encoding,
    ) -> Result<(), Why> {
        self.new_id_fits(id)?;
        if encoding == Encoding::Rle && len > RLE_CLUSTERS_MAX {
            return Err(Why::TooLongForRuns(len));
        }
        self.runs_fit(runs, 0..len)?;
        if flags.is_thin() { Ok(()) } else { all_backed(runs, 0..len) }
    }

    fn snapshot_fits(&self, origin: BlobId, id: BlobId, len: u64) -> Result<(), Why> {
        let blob = self.writable(origin)?;
        has_len(blob, len)?;
        self.new_id_fits(id)?;
        self.relative_fits(blob)
    }

    fn clone_fits(&self, parent: BlobId, id: BlobId, len: u64) -> Result<(), Why> {
        let blob = self.readable(parent)?;
        if !blob.is_read_only() {
            return Err(Why::Writable);
        }
        has_len(blob, len)?;
        self.new_id_fits(id)?;
        self.relative_fits(blob)
    }

    /// Whether a blob can get a relative: its own snapshot, or a clone.
    fn relative_fits(&self, blob: &Blob) -> Result<(), Why> {
        if blob.encoding == Encoding::Rle {
            return Err(Why::RelativeWithRuns(blob.id));
        }
        let depth = self.depth(blob) + 1;
        if depth > CHAIN_DEPTH_MAX { Err(Why::TooDeep { depth }) } else { Ok(()) }
    }

    fn map_fits(
        &self,
        id: BlobId,
        at: BlobCluster,
        cluster: ClusterIdx,
        blocks: &Range<u32>,
    ) -> Result<(), Why> {
        let blob = self.writable(id)?;
        within(blob, &(at.0..at.0.saturating_add(1)))?;
        if !self.native_allowed && *blocks != (0..self.units.blocks) {
            return Err(Why::NativeState(at.0));
        }
        let owned = |tag: Tag| self.tags.owner(tag) == Some(id);
        let entry = blob.tree.entry(at);
        let top = entry.layers().next().filter(|(tag, ..)| owned(*tag));
        if top.is_some_and(|(_, own, _)| own == Some(cluster)) {
            return Ok(());
        }
        if self.clusters.is_used(cluster.0) {
            return Err(Why::ClusterInUse(cluster));
        }
        // Only after a removal below it is a layer put on one of the blob's own.
        let stacks = top.is_some_and(|(_, own, _)| own.is_some());
        if stacks && entry.layers().filter(|(tag, ..)| owned(*tag)).count() >= OWN_LAYERS_MAX {
            return Err(Why::Layers(at));
        }
        Ok(())
    }

    fn fill_fits(
        &self,
        id: BlobId,
        at: BlobCluster,
        cluster: ClusterIdx,
        blocks: &Range<u32>,
    ) -> Result<(), Why> {
        let blob = self.readable(id)?;
        within(blob, &(at.0..at.0.saturating_add(1)))?;
        let entry = blob.tree.entry(at);
        let owned = |tag: Tag| self.tags.owner(tag) == Some(id);
        if !blob.is_thin() && *blocks != (0..self.units.blocks) {
            return Err(Why::Hole(at.0));
        }
        // What is native already may become less so, part by part.
        let is_partial = entry.layers().next().is_some_and(|(tag, _, states)| states.is_some() && owned(tag));
        if !self.native_allowed && !is_partial && *blocks != (0..self.units.blocks) {
            return Err(Why::NativeState(at.0));
        }
        if entry.clusters_of(owned).any(|own| own == cluster) {
            return Ok(());
        }
        if self.clusters.is_used(cluster.0) {
            return Err(Why::ClusterInUse(cluster));
        }
        if entry.layers().filter(|(tag, ..)| owned(*tag)).count() >= OWN_LAYERS_MAX {
            return Err(Why::Layers(at));
        }
        Ok(())
    }

    fn drop_zeros_fits(&self, id: BlobId, at: BlobCluster) -> Result<(), Why> {
        let blob = self.readable(id)?;
        within(blob, &(at.0..at.0.saturating_add(1)))?;
        if self.is_needless_zero(blob, at) { Ok(()) } else { Err(Why::Shown(at.0)) }
    }

    fn keep_zeros_fits(&self, id: BlobId, at: BlobCluster) -> Result<(), Why> {
        let blob = self.readable(id)?;
        let range = at.0..at.0.saturating_add(1);
        within(blob, &range)?;
        if !self.native_allowed {
            return Err(Why::NativeState(at.0));
        }
        self.layers_fit(blob, &range)
    }

    fn bypass_fits(&self, id: BlobId, inherit_len: u64) -> Result<(), Why> {
        let blob = self.readable(id)?;
        within(blob, &(0..inherit_len))?;
        let parent = self.readable(blob.parent.ok_or(Why::NoParent)?)?;
        if self.decouple_needs(blob, ExtentOrdinal(0)).is_some() {
            return Err(Why::Visible);
        }
        // Where nothing is hidden it need not be known from where on.
        let shown = self.bypassed_len(blob);
        let changed = inherit_len.min(shown)..inherit_len.max(shown);
        let mut held = self.held_by_parent(parent, changed);
        if held.any(|at| self.shows_below(blob, BlobCluster(at))) { Err(Why::Visible) } else { Ok(()) }
    }

    fn inherit_fits(&self, id: BlobId, len: u64) -> Result<(), Why> {
        let blob = self.readable(id)?;
        within(blob, &(0..len))?;
        let changed = len.min(blob.inherit_len)..len.max(blob.inherit_len);
        let mut held = self.held_by_parent(blob, changed);
        if held.any(|at| self.shows_below(blob, BlobCluster(at))) { Err(Why::Visible) } else { Ok(()) }
    }

    fn inflate_fits(&self, id: BlobId) -> Result<(), Why> {
        let blob = self.readable(id)?;
        if self.is_all_full(blob) { Ok(()) } else { Err(Why::NotFull) }
    }

    fn zero_fits(&self, id: BlobId, range: &Range<u64>, whole: bool) -> Result<(), Why> {
        let blob = self.writable(id)?;
        within(blob, range)?;
        if !blob.is_thin() {
            return Err(Why::Hole(range.start));
        }
        if self.native_allowed {
            return self.layers_fit(blob, range);
        }
        // A cluster below which there is nothing is let go of as a whole.
        let hidden = if whole { self.held_by_parent(blob, range.clone()).next() } else { Some(range.start) };
        hidden.map_or(Ok(()), |at| Err(Why::NativeState(at)))
    }

    /// Whether there are md pages for a layer in each cluster of a range, as far as one may arise. With many
    /// clusters of an external snapshot to hide they would sooner exhaust the memory.
    fn layers_fit(&self, blob: &Blob, range: &Range<u64>) -> Result<(), Why> {
        let spread = self.units.spread;
        let vacant = OrdinalMd::default();
        let free = self.md.available();
        let mut needed = 0;
        for (ordinal, slots) in by_ordinal(range.clone()) {
            let start = ordinal.first_cluster().0 + slots.start as u64;
            let shows = blob.external.as_ref().is_some_and(|external| start < external.len);
            if !shows && blob.tree.leaf(ordinal).is_none() {
                continue;
            }
            let md = blob.pages.ordinals.get(&ordinal).unwrap_or(&vacant);
            needed += md.growth(spread, by_range(spread, slots));
            if needed > free {
                return Err(Why::MdPages { needed, free });
            }
        }
        Ok(())
    }

    fn resize_fits(&self, id: BlobId, len: u64, runs: &[MappedRun]) -> Result<(), Why> {
        let blob = self.writable(id)?;
        let added = blob.len..len.max(blob.len);
        self.runs_fit(runs, added.clone())?;
        if added.is_empty() {
            return Ok(());
        }
        if blob.encoding == Encoding::Rle && len > RLE_CLUSTERS_MAX {
            return Err(Why::TooLongForRuns(len));
        }
        if !blob.is_thin() {
            return all_backed(runs, added);
        }
        if self.native_allowed {
            return Ok(());
        }
        // New space reads zeros. Where the parent would show through only a cluster can say so.
        let is_backed = |at: u64| {
            let before = runs.partition_point(|run| run.at.0 <= at);
            runs[..before].last().is_some_and(|run| at - run.at.0 < u64::from(run.length))
        };
        let shown = self.held_by_parent(blob, added).find(|at| !is_backed(*at));
        shown.map_or(Ok(()), |at| Err(Why::NativeState(at)))
    }

    fn set_xattr_fits(&self, id: BlobId, xattr: &Xattr) -> Result<(), Why> {
        let blob = self.existing(id)?;
        if blob.dying {
            return Err(Why::Dying);
        }
        // It would be written anew, with the little that is known of it.
        if !blob.is_readable() {
            return Err(Why::Damaged);
        }
        if xattr.name == XATTR_NAME && parse_name(&xattr.value).is_none_or(<[u8]>::is_empty) {
            return Err(Why::Value("name"));
        }
        // Without it the store could not be opened again.
        if Some(id) == self.super_blob && xattr.name == XATTR_UUID && parse_uuid(&xattr.value).is_none() {
            return Err(Why::Value("uuid"));
        }
        Ok(())
    }

    fn remove_xattr_fits(&self, id: BlobId, name: &[u8]) -> Result<(), Why> {
        let blob = self.existing(id)?;
        if blob.dying {
            return Err(Why::Dying);
        }
        // It would be written anew, with the little that is known of it.
        if !blob.is_readable() {
            return Err(Why::Damaged);
        }
        // Without them neither the store nor the lvol could be found again.
        match name {
            XATTR_NAME => Err(Why::Value("name")),
            XATTR_UUID => Err(Why::Value("uuid")),
            _ => Ok(()),
        }
    }

    fn set_parent_fits(&self, id: BlobId, below: &Below) -> Result<(), Why> {
        let blob = self.readable(id)?;
        no_clones(blob)?;
        if !blob.is_thin() {
            return Err(Why::Thick);
        }
        let Below::Blob(parent) = below else { return Ok(()) };
        // Nothing inherits from the blob: no chain can become a ring.
        let parent = self.readable(*parent).ok().filter(|parent| parent.is_read_only() && parent.id != id);
        let parent = parent.ok_or(Why::Writable)?;
        if blob.encoding == Encoding::Rle {
            return Err(Why::RelativeWithRuns(id));
        }
        self.relative_fits(parent)
    }

    fn use_extent_table_fits(&self, blobs: &[BlobId]) -> Result<(), Misfit> {
        let misfit = |blob, why| Misfit { kind: "use extent table", blob, why };
        let mut seen = BTreeSet::new();
        for id in blobs {
            let blob = self.existing(*id).map_err(|why| misfit(*id, why))?;
            if blob.dying {
                return Err(misfit(*id, Why::Dying));
            }
            // All of it would be written anew.
            if !blob.is_readable() {
                return Err(misfit(*id, Why::Damaged));
            }
        }
        for id in blobs {
            if seen.contains(id) {
                continue;
            }
            let family = self.family(*id);
            // One that cannot be read stays as it is.
            let has_runs = |blob: &Blob| blob.encoding == Encoding::Rle && blob.is_readable();
            let with_runs = |member: &&BlobId| self.blob(**member).is_some_and(has_runs);
            if let Some(left) = family.iter().filter(with_runs).find(|member| !blobs.contains(member)) {
                return Err(misfit(*id, Why::RelativeWithRuns(*left)));
            }
            seen.extend(family);
        }
        Ok(())
    }

    fn mark_dying_fits(&self, id: BlobId) -> Result<(), Why> {
        no_clones(self.lvol_in_use(id)?)
    }

    fn release_fits(&self, id: BlobId, ordinals: &[ExtentOrdinal]) -> Result<(), Why> {
        let blob = self.released(id)?;
        let mut last = None;
        for ordinal in ordinals {
            let md = blob.pages.ordinals.get(ordinal);
            let owns = md.is_some_and(OrdinalMd::owns_any);
            if !owns || last >= Some(*ordinal) {
                return Err(Why::NothingOwned(*ordinal));
            }
            last = Some(*ordinal);
        }
        Ok(())
    }

    fn destroy_fits(&self, id: BlobId) -> Result<(), Why> {
        let blob = self.released(id)?;
        no_clones(blob)?;
        if blob.own_clusters > 0 { Err(Why::OwnsClusters(blob.own_clusters)) } else { Ok(()) }
    }

    fn adopt_fits(&self, snapshot: BlobId, clone: BlobId) -> Result<(), Why> {
        let blob = self.readable(snapshot)?;
        let is_only = blob.clones.len() == 1 && blob.clones.contains(&clone);
        let is_heir = self.lvol_in_use(clone).is_ok_and(|heir| heir.parent == Some(snapshot));
        if !is_only || !is_heir {
            return Err(Why::NotTheOnlyClone(clone));
        }
        // What both own is written anew, so that what is not known of the clone would be forgotten.
        self.readable(clone).map(drop)
    }

    fn existing(&self, id: BlobId) -> Result<&Blob, Why> {
        self.blob(id).ok_or(Why::Missing)
    }

    /// An lvol: neither the super blob nor dying. It may be damaged.
    fn lvol_in_use(&self, id: BlobId) -> Result<&Blob, Why> {
        let blob = self.existing(id)?;
        if Some(id) == self.super_blob {
            return Err(Why::SuperBlob);
        }
        if blob.dying { Err(Why::Dying) } else { Ok(blob) }
    }

    /// One of which everything is known that it owns itself. It may inherit from one of which that cannot be said.
    fn readable(&self, id: BlobId) -> Result<&Blob, Why> {
        let blob = self.lvol_in_use(id)?;
        if blob.is_readable() { Ok(blob) } else { Err(Why::Damaged) }
    }

    /// A blob whose data may change: what others inherit must not.
    fn writable(&self, id: BlobId) -> Result<&Blob, Why> {
        let blob = self.readable(id)?;
        no_clones(blob)?;
        if blob.is_read_only() { Err(Why::ReadOnly) } else { Ok(blob) }
    }

    /// A blob whose clusters are being released.
    fn released(&self, id: BlobId) -> Result<&Blob, Why> {
        let blob = self.existing(id)?;
        if self.dying.contains(&id) { Ok(blob) } else { Err(Why::NotDying) }
    }

    /// Whether a blob of this id can be made. A page that is held, as those of the journal are, is not free; one
    /// that records have just let go is.
    pub(crate) fn new_id_fits(&self, id: BlobId) -> Result<(), Why> {
        if self.blobs.contains_key(&id) {
            return Err(Why::Exists(id));
        }
        let root = id.root();
        let is_free = self.md.peek(root.0, 1).is_some_and(|pages| pages == [root.0]);
        let is_let_go = || !self.md.is_used(root.0) && self.freed_md.contains(&root);
        if is_free || is_let_go() { Ok(()) } else { Err(Why::RootInUse(root.0)) }
    }

    /// Whether runs lie within a range, in order and apart, on clusters that nothing uses.
    fn runs_fit(&self, runs: &[MappedRun], range: Range<u64>) -> Result<(), Why> {
        let mut end = range.start;
        for run in runs {
            let behind = run.at.0.saturating_add(run.length.into());
            if run.at.0 < end || behind > range.end {
                return Err(Why::Run(run.at));
            }
            end = behind;
        }
        // Apart first: then no cluster is looked at twice.
        let mut sorted: Vec<&MappedRun> = runs.iter().collect();
        sorted.sort_unstable_by_key(|run| run.cluster);
        let overlaps = |pair: &&[&MappedRun]| pair[1].cluster.0 - pair[0].cluster.0 < pair[0].length;
        if let Some(pair) = sorted.windows(2).find(overlaps) {
            return Err(Why::Run(pair[1].at));
        }
        let mut clusters = runs.iter().flat_map(|run| (run.cluster.0..).zip(0..run.length));
        let used = clusters.find(|(cluster, _)| self.clusters.is_used(*cluster));
        used.map_or(Ok(()), |(cluster, _)| Err(Why::ClusterInUse(ClusterIdx(cluster))))
    }

    /// Clusters of a range in which the parent holds something. Passes over what is empty as a whole.
    fn held_by_parent(&self, blob: &Blob, range: Range<u64>) -> impl Iterator<Item = u64> {
        let parent = blob.parent.and_then(|id| self.blob(id));
        let may_hold = move |(ordinal, slots): &(ExtentOrdinal, Range<usize>)| match parent {
            Some(parent) => {
                let start = ordinal.first_cluster().0 + slots.start as u64;
                parent.external.as_ref().is_some_and(|external| start < external.len)
                    || parent.tree.leaf(*ordinal).is_some()
            }
            None => blob.external_is_parent,
        };
        let parts = by_ordinal(range).filter(may_hold);
        let clusters = parts.flat_map(|(ordinal, slots)| {
            let first = ordinal.first_cluster().0;
            slots.map(move |slot| first + slot as u64)
        });
        clusters.filter(|at| self.parent_holds(blob, BlobCluster(*at)))
    }
}

fn has_len(blob: &Blob, len: u64) -> Result<(), Why> {
    if blob.len == len { Ok(()) } else { Err(Why::Length { len, stored: blob.len }) }
}

fn no_clones(blob: &Blob) -> Result<(), Why> {
    if blob.clones.is_empty() { Ok(()) } else { Err(Why::HasClones(blob.clones.len())) }
}

fn within(blob: &Blob, range: &Range<u64>) -> Result<(), Why> {
    if range.end > blob.len {
        return Err(Why::BeyondEnd { at: range.end.saturating_sub(1), len: blob.len });
    }
    Ok(())
}

/// Whether runs, in order and apart, back every cluster of a range that they lie in.
fn all_backed(runs: &[MappedRun], range: Range<u64>) -> Result<(), Why> {
    let mut end = range.start;
    for run in runs {
        if run.at.0 != end {
            break;
        }
        end = run.at.0 + u64::from(run.length);
    }
    if end < range.end { Err(Why::Hole(end)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
