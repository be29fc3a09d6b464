//! What can go wrong, by operation family, and the small kind that callers act on.

use crate::limits::LABELS_MAX;
use alloc::string::String;
use core::fmt;
use offshoot_block::DeviceError;
use offshoot_format::{BlobId, Damage};
use thiserror::Error;
use uuid::Uuid;

/// What a caller does about an error. Maps once to an errno, an NBD error or a JSON-RPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A device failed. EIO.
    Io,
    /// Metadata cannot be trusted. EIO on reads.
    Corrupt,
    /// Clusters or md pages are used up. ENOSPC.
    NoSpace,
    /// Something else holds what is needed. EBUSY.
    Busy,
    /// Not while it takes writes, or while it does not. EPERM.
    ReadOnly,
    /// No such lvol. ENODEV.
    NotFound,
    /// A name is taken. EEXIST.
    Exists,
    /// An argument is out of its range. EINVAL.
    Invalid,
    /// The store needs something that this version does not do. ENOTSUP.
    Unsupported,
}

/// Why a request or a verb was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(clippy::error_impl_error, reason = "the crate's one error for requests and verbs")]
#[non_exhaustive]
pub enum Error {
    /// A device operation failed.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// No lvol with this name.
    #[error("no lvol named \"{0}\"")]
    UnknownLvol(String),
    /// The lvol went away while the request was under way.
    #[error("lvol {0} does not exist")]
    UnknownBlob(BlobId),
    /// An lvol of this name exists.
    #[error("an lvol named \"{0}\" exists already")]
    NameExists(String),
    /// The name cannot be given to an lvol or lvstore.
    #[error("name \"{name}\" {why}")]
    BadName {
        /// The name, escaped.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The range reaches beyond the end of the lvol.
    #[error("range {offset}+{len} reaches beyond the end of the lvol at {size}")]
    OutOfRange {
        /// Start in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Size of the lvol in bytes.
        size: u64,
    },
    /// A write to a snapshot or read-only lvol.
    #[error("lvol \"{0}\" is read-only")]
    ReadOnlyLvol(String),
    /// A change of the name, size or relations of an lvol with a flag that says that its metadata is read-only.
    #[error("the metadata of \"{0}\" is read-only: it has flags that are not known here")]
    ReadOnlyMetadata(String),
    /// A change of a store that is open read-only.
    #[error("the store is open read-only{0}")]
    ReadOnlyStore(ReadOnlyCause),
    /// A change of a store that stopped taking any, because its metadata could not be written.
    #[error("read-only: {0}")]
    Stopped(Failure),
    /// A transaction that the journal of the store cannot take at once.
    #[error("it takes {needed} bytes of journal at once, of {room}")]
    JournalRoom {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        room: u64,
    },
    /// A snapshot of a snapshot, or of a read-only lvol.
    #[error("\"{0}\" is read-only: clone it instead of taking a snapshot")]
    SnapshotOfReadOnly(String),
    /// A clone of something writable.
    #[error("\"{0}\" is writable: take a snapshot and clone that")]
    CloneOfWritable(String),
    /// A shallow copy of something writable.
    #[error("\"{0}\" is writable: take a snapshot and copy that")]
    CopyOfWritable(String),
    /// Only a thin lvol has anything below it.
    #[error("\"{0}\" is thick: it reads nothing from elsewhere")]
    ThickLvol(String),
    /// There is nothing below the lvol.
    #[error("\"{0}\" has no parent")]
    NoParent(String),
    /// An lvol of the store itself is no external snapshot.
    #[error("external snapshot {uuid} is \"{name}\", which is in the store itself")]
    ExternalIsLvol {
        /// The id that was asked for.
        uuid: Uuid,
        /// The lvol that has it.
        name: String,
    },
    /// The lvol lies on that already.
    #[error("the parent of \"{name}\" is \"{parent}\" already")]
    ParentAlready {
        /// The lvol.
        name: String,
        /// What it lies on.
        parent: String,
    },
    /// An lvol and what it is to lie on must have one size.
    #[error("\"{name}\" has {size} bytes, \"{parent}\" has {parent_size}")]
    SizesDiffer {
        /// The lvol.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// What it was to lie on.
        parent: String,
        /// Its size in bytes.
        parent_size: u64,
    },
    /// An lvol can be reverted to snapshots of its own family.
    #[error("\"{snapshot}\" is no snapshot of \"{name}\" or of its relatives")]
    NotItsSnapshot {
        /// The lvol.
        name: String,
        /// What it was to read.
        snapshot: String,
    },
    /// What differs can be told of relatives only.
    #[error("\"{name}\" is not related to \"{other}\": they have no ancestor in common")]
    NotRelated {
        /// The lvol.
        name: String,
        /// The other one.
        other: String,
    },
    /// A label that cannot be set.
    #[error("label \"{key}\": {why}")]
    BadLabel {
        /// Its key, escaped.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More labels than an lvol can have.
    #[error("\"{name}\" would have {count} labels, at most {LABELS_MAX}")]
    TooManyLabels {
        /// The lvol.
        name: String,
        /// How many there would be.
        count: usize,
    },
    /// The store has no place for a name.
    #[error("the store has no super blob, which would hold its name")]
    NoSuperBlob,
    /// A snapshot that more than one lvol depends on.
    #[error("\"{name}\" has {count} clones: {clones}")]
    HasClones {
        /// The snapshot.
        name: String,
        /// How many clones.
        count: usize,
        /// Their names.
        clones: String,
    },
    /// Snapshots that are to be merged do not lie on each other.
    #[error("\"{name}\" does not lie on \"{parent}\"")]
    NotConsecutive {
        /// The newer one.
        name: String,
        /// The older one.
        parent: String,
    },
    /// A snapshot that is to be merged into its clone.
    #[error("\"{0}\" has no clone that it could go into")]
    NoClone(String),
    /// The lvol is exported or otherwise in use.
    #[error("\"{0}\" is in use")]
    InUse(String),
    /// Not enough clusters.
    #[error("no space: {needed} clusters needed, {free} free")]
    NoClusters {
        /// How many were asked for.
        needed: u64,
        /// How many there are.
        free: u64,
    },
    /// Not enough md pages.
    #[error("no space for metadata: {needed} md pages needed, {free} free")]
    NoMdPages {
        /// How many were asked for.
        needed: u64,
        /// How many there are.
        free: u64,
    },
    /// A size that no lvol can have.
    #[error("size {size} is beyond the largest lvol of {max} bytes")]
    TooLarge {
        /// The size asked for, in bytes.
        size: u64,
        /// The largest possible, in bytes.
        max: u64,
    },
    /// A size that the store cannot grow to.
    #[error("the store cannot grow to {size} bytes: its masks have room for {max}")]
    StoreTooLarge {
        /// The size asked for, in bytes.
        size: u64,
        /// The largest possible, in bytes.
        max: u64,
    },
    /// A store whose device has become smaller, which nothing can be done about.
    #[error("the store has {present} bytes, and cannot shrink to {size}")]
    StoreShrinks {
        /// The size asked for, in bytes.
        size: u64,
        /// The size of the store, in bytes.
        present: u64,
    },
    /// A store that grows is written to two places of which one is always whole.
    #[error("the store cannot grow: where a second super block would stand it has something else")]
    NoSuperBlockCopy,
    /// An md region does not become smaller.
    #[error("the store has {present} md pages, and cannot have fewer: {pages}")]
    MdShrinks {
        /// Md pages asked for.
        pages: u32,
        /// Md pages of the store.
        present: u32,
    },
    /// More md pages than the masks of the store can index.
    #[error("the store cannot have {pages} md pages: its masks have room for {max}")]
    TooManyMdPages {
        /// Md pages asked for.
        pages: u32,
        /// The most that there can be.
        max: u32,
    },
    /// A store that grows has to have its journal elsewhere for that.
    #[error("no room for moving the journal out of the way: free clusters or grow the store first")]
    NoRoomForJournal,
    /// The chain of snapshots below the lvol is as long as it may be.
    #[error("\"{name}\" already has {depth} snapshots below it")]
    ChainTooDeep {
        /// The lvol.
        name: String,
        /// How many there are.
        depth: u32,
    },
    /// A change of an lvol of whose map not everything is known.
    #[error("lvol \"{0}\" is damaged")]
    Damaged(String),
    /// A read of what nobody can tell, because the metadata that said so is damaged.
    #[error("lvol \"{name}\" is damaged: what it holds at {offset}+{len} is not known")]
    UnknownPart {
        /// The lvol.
        name: String,
        /// First byte of the part.
        offset: u64,
        /// Its length in bytes, within the read.
        len: u64,
    },
    /// A read of what was written since the last barrier, after a sync that failed: something else may stand there now.
    #[error("what was written to lvol \"{name}\" at {offset}+{len} may be lost with a sync that failed")]
    MayBeLost {
        /// The lvol.
        name: String,
        /// First byte of the part.
        offset: u64,
        /// Its length in bytes, within the read.
        len: u64,
    },
    /// Not enough clusters, because others may belong to damaged lvols.
    #[error("no space: {needed} clusters needed, {free} free; {withheld} more may belong to what is damaged")]
    ClustersWithheld {
        /// How many were asked for.
        needed: u64,
        /// How many there are.
        free: u64,
        /// How many nobody can tell the owner of.
        withheld: u64,
    },
    /// Only one job of a kind at a time.
    #[error("that is being done already")]
    JobRunning,
    /// A job was ended before it was done.
    #[error("ended before it was done")]
    Cancelled,
    /// A job that is about everything does not come to an end.
    #[error("there is always something left to do: the store changes meanwhile")]
    Restless,
    /// A read through to an external snapshot that was not given.
    #[error("lvol \"{0}\" is degraded: its external snapshot is missing")]
    Degraded(String),
}

impl Error {
    /// What a caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Device(error) | Self::Stopped(Failure { error, .. }) => match error {
                DeviceError::NoSpace => ErrorKind::NoSpace,
                _ => ErrorKind::Io,
            },
            Self::Degraded(_) | Self::MayBeLost { .. } => ErrorKind::Io,
            Self::UnknownLvol(_) | Self::UnknownBlob(_) => ErrorKind::NotFound,
            Self::NameExists(_) | Self::ParentAlready { .. } => ErrorKind::Exists,
            Self::BadName { .. }
            | Self::OutOfRange { .. }
            | Self::SnapshotOfReadOnly(_)
            | Self::CloneOfWritable(_)
            | Self::ThickLvol(_)
            | Self::NoParent(_)
            | Self::ExternalIsLvol { .. }
            | Self::SizesDiffer { .. }
            | Self::NotItsSnapshot { .. }
            | Self::NotRelated { .. }
            | Self::NotConsecutive { .. }
            | Self::NoClone(_)
            | Self::BadLabel { .. }
            | Self::TooManyLabels { .. }
            | Self::NoSuperBlob
            | Self::TooLarge { .. }
            | Self::StoreShrinks { .. }
            | Self::MdShrinks { .. }
            | Self::NoSuperBlockCopy
            | Self::ChainTooDeep { .. } => ErrorKind::Invalid,
            // EPERM, as SPDK says.
            Self::CopyOfWritable(_)
            | Self::ReadOnlyLvol(_)
            | Self::ReadOnlyMetadata(_)
            | Self::ReadOnlyStore(_) => ErrorKind::ReadOnly,
            Self::HasClones { .. } | Self::InUse(_) | Self::JobRunning | Self::Cancelled | Self::Restless => {
                ErrorKind::Busy
            }
            Self::NoClusters { .. }
            | Self::ClustersWithheld { .. }
            | Self::NoMdPages { .. }
            | Self::StoreTooLarge { .. }
            | Self::TooManyMdPages { .. }
            | Self::NoRoomForJournal
            | Self::JournalRoom { .. } => ErrorKind::NoSpace,
            Self::Damaged(_) | Self::UnknownPart { .. } => ErrorKind::Corrupt,
        }
    }
}

/// Why a store that is open takes no changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadOnlyCause {
    /// It was asked for.
    Asked,
    /// Neither md pages nor clusters are free for a journal.
    NoRoomForJournal,
    /// What loading has put right takes more md pages than are free.
    NoRoomForCheckpoint,
    /// A frame of the journal that must be there cannot be read.
    JournalDamage,
}

impl fmt::Display for ReadOnlyCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "",
            Self::NoRoomForJournal => ": no md pages or clusters are free for its journal",
            Self::NoRoomForCheckpoint => ": no md pages are free for what must be written",
            Self::JournalDamage => ": its journal is damaged",
        })
    }
}

/// What was being written when metadata could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum During {
    /// A frame of the journal.
    JournalWrite,
    /// No room was left in the ring, which is a bug.
    JournalRing,
    /// The pages of a checkpoint.
    Checkpoint,
    /// The super block or the masks.
    SuperBlock,
    /// A sync.
    Sync,
}

/// Why a store takes no writes any more. Reads go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was being done.
    pub during: During,
    /// How it failed.
    pub error: DeviceError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.during {
            During::JournalWrite => "journal write",
            During::JournalRing => "journal ring",
            During::Checkpoint => "checkpoint",
            During::SuperBlock => "super block write",
            During::Sync => "sync",
        };
        write!(f, "{what} failed: {}", self.error)
    }
}

/// Why a store could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The device failed.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// Not a store at all.
    #[error("not an lvstore: {0}")]
    NotAStore(String),
    /// A version that this program does not know.
    #[error("the store has format version {0:#x}, which is newer than this program")]
    NewerVersion(u32),
    /// Metadata that nothing can be served without.
    #[error("{0}")]
    Damage(#[from] Damage),
    /// The store is larger than what it lies on.
    #[error("the store is {store} bytes long but its device only {device}: it was truncated")]
    Truncated {
        /// Size in the super block, in bytes.
        store: u64,
        /// Size of the device, in bytes.
        device: u64,
    },
    /// The store was not closed, and what was found could not be made durable.
    #[error("the store cannot be recovered: {0}")]
    Recovery(#[source] Error),
    /// The super blob, which names the store, cannot be read.
    #[error("the store has no readable super blob: {0}")]
    NoSuperBlob(String),
}
