//! The verbs: what people do with lvols. One file each.
//!
//! A verb is planned against the State of one moment and changes nothing by itself: it yields the records of
//! one transaction, or the reason why not.

mod clone;
mod create;
mod decouple;
mod deferred;
mod external;
mod grow;
mod inflate;
mod keep;
mod label;
mod merge;
mod name;
mod parent;
mod read_only;
mod remove;
mod rename;
mod rename_store;
mod resize;
mod revert;
mod seal;
mod snapshot;
mod step;
mod unfinished;

pub use create::CreateOptions;
pub use name::check_name;
pub use seal::WorkCost;
pub(crate) use seal::{Blocks, Need, Needed};
pub(crate) use step::Step;

use crate::apply::md_pages_at_most;
use crate::blob::{Blob, XATTR_CREATED};
use crate::error::Error;
use crate::limits::{LVOL_BYTES_MAX, LVOL_CLUSTERS_MAX, MD_PAGES_KEPT};
use crate::record::{Encoding, MappedRun, Record};
use crate::state::State;
use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use offshoot_format::{BlobCluster, BlobId, ClusterIdx, LvolIdentity, MdPageIdx, Xattr};
use uuid::Uuid;

/// What a new lvol is called and when it came to be. Uuids and times come from outside: the engine has no clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// A fresh random UUID.
    pub uuid: Uuid,
    /// Seconds since 1970.
    pub created: u64,
}

impl Identity {
    fn xattrs(&self) -> Vec<Xattr> {
        let identity = LvolIdentity { name: self.name.clone().into_bytes(), uuid: Some(self.uuid) };
        let mut xattrs = identity.xattrs();
        xattrs.push(Xattr::new(XATTR_CREATED, self.created.to_string()));
        xattrs
    }
}

/// What an lvol is put onto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Underlay {
    /// Nothing: what it does not hold itself reads zeros.
    Nothing,
    /// A snapshot or read-only lvol of the same size.
    Snapshot(BlobId),
    /// An external snapshot.
    External(Uuid),
}

/// A verb with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A new lvol.
    Create {
        /// What it is called.
        identity: Identity,
        /// Its size in bytes, rounded up to a cluster.
        size_bytes: u64,
        /// How.
        options: CreateOptions,
    },
    /// A new thin lvol that is not listed until it is finished, and does not outlive the store's next opening for writing if
    /// it never is.
    Begin {
        /// What it is going to be called.
        identity: Identity,
        /// Its size in bytes, rounded up to a cluster.
        size_bytes: u64,
    },
    /// An lvol that was begun becomes one like any other.
    Finish {
        /// Which.
        lvol: BlobId,
        /// What it is called.
        name: String,
    },
    /// Snapshots of one or more lvols, at one point in time.
    Snapshot {
        /// Each lvol, and what its snapshot is called.
        items: Vec<(BlobId, Identity)>,
    },
    /// A writable child of a snapshot or read-only lvol.
    Clone {
        /// The snapshot.
        parent: BlobId,
        /// What the clone is called.
        identity: Identity,
    },
    /// A writable child of an external snapshot.
    CloneExternal {
        /// What the clone is called.
        identity: Identity,
        /// Its size in bytes, rounded up to a cluster.
        size_bytes: u64,
        /// The external snapshot.
        external: Uuid,
        /// How many bytes that has. What the clone has beyond them, in whole clusters, reads zeros for good.
        external_bytes: u64,
        /// Whether it keeps what it has read from there.
        copy_on_read: bool,
    },
    /// An lvol or snapshot goes away.
    Remove {
        /// Which.
        lvol: BlobId,
    },
    /// A snapshot goes away as soon as at most one clone is left, and is not listed from now on.
    RemoveDeferred {
        /// Which.
        lvol: BlobId,
    },
    /// A new size.
    Resize {
        /// The lvol.
        lvol: BlobId,
        /// The size in bytes, rounded up to a cluster.
        size_bytes: u64,
    },
    /// A new name.
    Rename {
        /// The lvol or snapshot.
        lvol: BlobId,
        /// The name.
        name: String,
    },
    /// A new name for the store.
    RenameStore {
        /// The name.
        name: String,
    },
    /// The data of an lvol cannot change any more.
    SetReadOnly {
        /// The lvol.
        lvol: BlobId,
    },
    /// Labels are set, or taken away where the value is `None`.
    Label {
        /// The lvol or snapshot.
        lvol: BlobId,
        /// Keys and values.
        labels: Vec<(String, Option<String>)>,
    },
    /// What an lvol does not hold itself it reads from elsewhere.
    SetParent {
        /// The lvol.
        lvol: BlobId,
        /// From where.
        underlay: Underlay,
    },
    /// An lvol reads what a snapshot of its family reads, and has its size.
    Revert {
        /// The lvol.
        lvol: BlobId,
        /// The snapshot.
        snapshot: BlobId,
    },
}

/// Names listed in a refusal before it says how many more there are.
const NAMES_LISTED: usize = 8;

/// What a verb is going to do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The transaction.
    pub records: Vec<Record>,
    /// Clusters that must read zeros before the records are committed.
    pub zero: Vec<MappedRun>,
    /// Md pages that the records may need, at most.
    pub md_pages: usize,
    /// Clusters that are promised to lvols with a reservation from then on.
    pub promised: u64,
    /// The blobs that the verb made.
    pub made: Vec<BlobId>,
    /// A blob that it makes for the engine's own use.
    pub aside: Option<BlobId>,
    /// A blob that took over clusters and may not modify them before a barrier (R2).
    pub handed_over: Option<BlobId>,
}

impl Verb {
    /// Bytes that are zeroed before it is done: what a thick lvol gets. 0 for a verb that is refused.
    #[must_use]
    pub fn zeroed_bytes(&self, state: &State) -> u64 {
        let may_zero = match self {
            Self::Create { options, .. } => options.thick,
            Self::Resize { .. } => true,
            _ => false,
        };
        let plan = if may_zero { self.plan(state) } else { Ok(Plan::default()) };
        let clusters: u64 = plan.unwrap_or_default().zero.iter().map(|run| u64::from(run.length)).sum();
        clusters * state.units.cluster
    }
}

impl Plan {
    pub(crate) fn promises(&self) -> usize {
        usize::try_from(self.promised).unwrap_or(usize::MAX)
    }
}

impl Verb {
    /// Lvols whose writes must have finished before the verb is planned, in order of their ids.
    #[must_use]
    pub fn drains(&self, state: &State) -> Vec<BlobId> {
        let mut drains: Vec<BlobId> = match self {
            Self::Snapshot { items } => items.iter().map(|(lvol, _)| *lvol).collect(),
            // What is removed with it is drained like it.
            Self::Remove { lvol }
            | Self::RemoveDeferred { lvol }
            | Self::SetParent { lvol, .. }
            | Self::Revert { lvol, .. } => state.deferred_ancestors(*lvol).chain([*lvol]).collect(),
            Self::Resize { lvol, .. } | Self::SetReadOnly { lvol } => alloc::vec![*lvol],
            Self::Create { .. }
            | Self::Begin { .. }
            | Self::Finish { .. }
            | Self::Clone { .. }
            | Self::CloneExternal { .. }
            | Self::Rename { .. }
            | Self::RenameStore { .. }
            | Self::Label { .. } => Vec::new(),
        };
        drains.sort_unstable();
        drains.dedup();
        drains
    }

    /// Lvols whose size, clusters or relations it changes.
    pub(crate) fn reshapes(&self, state: &State) -> Vec<BlobId> {
        match self {
            Self::SetReadOnly { .. } => Vec::new(),
            _ => self.drains(state),
        }
    }

    /// The name of the new lvol, where making one is all that the verb does to the store.
    #[must_use]
    pub fn only_makes(&self) -> Option<&str> {
        match self {
            Self::Create { identity, .. }
            | Self::Clone { identity, .. }
            | Self::CloneExternal { identity, .. } => Some(&identity.name),
            Self::Begin { .. }
            | Self::Finish { .. }
            | Self::Snapshot { .. }
            | Self::Remove { .. }
            | Self::RemoveDeferred { .. }
            | Self::Resize { .. }
            | Self::Rename { .. }
            | Self::RenameStore { .. }
            | Self::SetReadOnly { .. }
            | Self::Label { .. }
            | Self::SetParent { .. }
            | Self::Revert { .. } => None,
        }
    }

    /// Plans the verb against a State.
    ///
    /// # Errors
    /// The one reason why it cannot be done. Nothing has changed then.
    pub fn plan(&self, state: &State) -> Result<Plan, Error> {
        let mut plan = self.plan_alone(state)?;
        deferred::let_go(state, &mut plan);
        Ok(plan)
    }

    /// Without what others have put off until now.
    fn plan_alone(&self, state: &State) -> Result<Plan, Error> {
        match self {
            Self::Create { identity, size_bytes, options } => {
                create::plan(state, identity, *size_bytes, *options)
            }
            Self::Begin { identity, size_bytes } => unfinished::begin(state, identity, *size_bytes),
            Self::Finish { lvol, name } => unfinished::finish(state, *lvol, name),
            Self::Snapshot { items } => snapshot::plan(state, items),
            Self::Clone { parent, identity } => clone::plan(state, *parent, identity),
            Self::CloneExternal { identity, size_bytes, external, external_bytes, copy_on_read } => {
                external::plan(state, identity, *size_bytes, (*external, *external_bytes), *copy_on_read)
            }
            Self::Remove { lvol } => remove::plan(state, *lvol),
            Self::RemoveDeferred { lvol } => deferred::plan(state, *lvol),
            Self::Resize { lvol, size_bytes } => resize::plan(state, *lvol, *size_bytes),
            Self::Rename { lvol, name } => rename::plan(state, *lvol, name),
            Self::RenameStore { name } => rename_store::plan(state, name),
            Self::SetReadOnly { lvol } => read_only::plan(state, *lvol),
            Self::Label { lvol, labels } => label::plan(state, *lvol, labels),
            Self::SetParent { lvol, underlay } => parent::plan(state, *lvol, underlay),
            Self::Revert { lvol, snapshot } => revert::plan(state, *lvol, *snapshot),
        }
    }
}

/// Whether name, size and relations of an lvol may change.
fn check_metadata(lvol: &Blob) -> Result<(), Error> {
    if lvol.has_read_only_metadata() {
        return Err(Error::ReadOnlyMetadata(lvol.display_name()));
    }
    Ok(())
}

impl State {
    pub(crate) fn lvol(&self, id: BlobId) -> Result<&Blob, Error> {
        self.blob(id).filter(|blob| self.is_lvol(blob)).ok_or(Error::UnknownBlob(id))
    }

    pub(crate) fn sound_lvol(&self, id: BlobId) -> Result<&Blob, Error> {
        self.lvol(id)?;
        self.sound_blob(id)
    }

    /// An lvol, finished or not.
    fn sound_or_unfinished(&self, id: BlobId) -> Result<&Blob, Error> {
        match self.blob(id).filter(|blob| self.is_unfinished(blob)) {
            Some(_) => self.sound_blob(id),
            None => self.sound_lvol(id),
        }
    }

    /// The same, hidden or not.
    fn sound_blob(&self, id: BlobId) -> Result<&Blob, Error> {
        let blob = self.blob(id).ok_or(Error::UnknownBlob(id))?;
        if blob.damage.is_some() { Err(Error::Damaged(blob.display_name())) } else { Ok(blob) }
    }

    fn check_new_name(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        match self.names.get(name.as_bytes()) {
            Some(_) => Err(Error::NameExists(name.to_string())),
            None => Ok(()),
        }
    }

    /// The refusal of what would take from clones what they read.
    fn has_clones(&self, lvol: &Blob) -> Error {
        let display = |id: &BlobId| self.blob(*id).map_or_else(String::new, Blob::display_name);
        let mut names: Vec<String> = lvol.clones.iter().take(NAMES_LISTED).map(display).collect();
        if lvol.clones.len() > NAMES_LISTED {
            names.push(alloc::format!("and {} more", lvol.clones.len() - NAMES_LISTED));
        }
        let (name, count) = (lvol.display_name(), lvol.clones.len());
        Error::HasClones { name, count, clones: names.join(", ") }
    }

    fn check_no_clones(&self, lvol: &Blob) -> Result<(), Error> {
        if lvol.clones.is_empty() { Ok(()) } else { Err(self.has_clones(lvol)) }
    }

    /// Whole clusters for a size in bytes.
    fn clusters_for(&self, size_bytes: u64) -> Result<u64, Error> {
        let max = (LVOL_BYTES_MAX / self.units.cluster).min(LVOL_CLUSTERS_MAX);
        let clusters = size_bytes.div_ceil(self.units.cluster);
        if clusters > max {
            return Err(Error::TooLarge { size: size_bytes, max: max * self.units.cluster });
        }
        Ok(clusters)
    }

    /// Root pages for new blobs, after a check that `needed` md pages in all are to be had.
    fn new_roots(&self, count: usize, needed: usize) -> Result<Vec<BlobId>, Error> {
        let spare = self.md_spare();
        let short = Error::NoMdPages { needed: needed as u64, free: spare as u64 };
        if spare < needed + MD_PAGES_KEPT {
            return Err(short);
        }
        let pages = self.md.peek(0, count).ok_or(short)?;
        Ok(pages.into_iter().map(|page| BlobId::from_root(MdPageIdx(page))).collect())
    }

    /// Whether so many more clusters can be promised, besides `taken`.
    fn check_promise(&self, count: u64, taken: u64) -> Result<(), Error> {
        let there_are = self.clusters.available() as u64;
        if there_are < count.saturating_add(taken) && count > 0 {
            return Err(self.no_clusters(count.saturating_add(taken)));
        }
        Ok(())
    }

    /// Md pages that are promised to an lvol with a reservation when its size in clusters changes.
    fn md_promise(&self, before: u64, now: u64) -> usize {
        let pages = |len| md_pages_at_most(len, self.units.spread);
        pages(now).saturating_sub(pages(before))
    }

    /// Runs that back `count` clusters from `at` on, lowest clusters first.
    fn back_clusters(&self, at: u64, count: u64) -> Result<Vec<MappedRun>, Error> {
        let short = || self.no_clusters(count);
        let clusters = usize::try_from(count).ok().filter(|count| *count <= self.clusters.available());
        let clusters = self.clusters.peek(0, clusters.ok_or_else(short)?).ok_or_else(short)?;
        let mut runs: Vec<MappedRun> = Vec::new();
        for (index, cluster) in (0..).zip(clusters) {
            match runs.last_mut() {
                Some(run) if run.cluster.0 + run.length == cluster => run.length += 1,
                _ => runs.push(MappedRun {
                    at: BlobCluster(at + index),
                    cluster: ClusterIdx(cluster),
                    length: 1,
                }),
            }
        }
        Ok(runs)
    }

    /// The record that moves a whole family to extent tables, when some member is not there yet, and the md
    /// pages that this takes.
    ///
    /// # Errors
    /// Such a member is damaged: writing it anew would forget what is not known of it.
    fn family_to_tables(&self, member: BlobId) -> Result<(Option<Record>, usize), Error> {
        // Families are walked only where one came mixed from elsewhere: ours never are.
        let family = if self.mixed_encodings { self.family(member) } else { alloc::vec![member] };
        let blobs = family.iter().filter_map(|id| self.blob(*id));
        let old: Vec<&Blob> = blobs.filter(|blob| blob.encoding == Encoding::Rle).collect();
        if let Some(damaged) = old.iter().find(|blob| blob.damage.is_some()) {
            return Err(Error::Damaged(damaged.display_name()));
        }
        if old.is_empty() {
            return Ok((None, 0));
        }
        let pages = old.iter().map(|blob| blob.pages.ordinals.len() + blob.chain_pages_at_most() + 1).sum();
        Ok((Some(Record::UseExtentTable { blobs: old.iter().map(|blob| blob.id).collect() }), pages))
    }
}

/// The encoding of a new blob without relatives: runs in the root page where any map of that size fits there.
fn encoding_for(len: u64, xattrs: &[Xattr]) -> Encoding {
    const FLAGS_AND_HEADERS: u64 = 29 + 5 + 64;
    let xattrs: usize = xattrs.iter().map(|xattr| 9 + xattr.name.len() + xattr.value.len()).sum();
    let worst = len.saturating_mul(8).saturating_add(FLAGS_AND_HEADERS + xattrs as u64);
    if worst <= offshoot_format::DESCRIPTORS_BYTES as u64 { Encoding::Rle } else { Encoding::Table }
}
