//! Records: the small logical changes that State is made of.
//!
//! A record holds every choice that was made (which cluster, which md page, which uuid), so that applying it
//! is deterministic. It is self-sufficient: it states what holds from now on, not a difference to what another
//! record said, so that a record that never makes it costs no other.

use crate::pages::Section;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ClusterIdx, ExtentOrdinal, Flags, MdPageIdx, Xattr};

/// Position of a record in the history of a store. The first record has 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A run of consecutive blob clusters in consecutive physical clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRun {
    /// First blob cluster.
    pub at: BlobCluster,
    /// Physical cluster of the first.
    pub cluster: ClusterIdx,
    /// How many.
    pub length: u32,
}

/// The md pages of one blob, as a checkpoint lays them out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The whole chain, root first.
    pub chain: Vec<MdPageIdx>,
    /// Whether the chain's content is out of date.
    pub write_chain: bool,
    /// The extent pages that changed; `None` takes one away.
    pub extents: Vec<(ExtentOrdinal, Option<MdPageIdx>)>,
    /// Layer pages of the sections that changed.
    pub layers: Vec<(ExtentOrdinal, Section, Vec<MdPageIdx>)>,
}

/// How a blob's map is encoded on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Runs in the chain (`EXTENT_RLE`).
    Rle,
    /// A table of extent pages (`EXTENT_TABLE`).
    Table,
}

/// What lies below a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Below {
    /// Nothing: what it does not hold itself reads zeros.
    Nothing,
    /// A read-only blob.
    Blob(BlobId),
    /// An external snapshot, by the id that is stored on disk.
    External(Vec<u8>),
}

/// One change of State.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A new blob without parent.
    Create {
        /// Its id, which names its root page.
        id: BlobId,
        /// Flag words.
        flags: Flags,
        /// Xattrs, in the order on disk.
        xattrs: Vec<Xattr>,
        /// Size in clusters.
        len: u64,
        /// Clusters that it owns from the start (thick), already zeroed.
        runs: Vec<MappedRun>,
        /// Encoding of its map.
        encoding: Encoding,
    },
    /// `id` takes over everything that `origin` is, `origin` becomes its clone.
    Snapshot {
        /// The lvol that stays writable.
        origin: BlobId,
        /// The new snapshot.
        id: BlobId,
        /// Size in clusters: the origin's, which may be lost with its metadata.
        len: u64,
        /// Xattrs of the snapshot.
        xattrs: Vec<Xattr>,
    },
    /// A new writable child of a read-only blob.
    Clone {
        /// The read-only blob.
        parent: BlobId,
        /// The new blob.
        id: BlobId,
        /// Size in clusters: the parent's, likewise.
        len: u64,
        /// Xattrs of the clone.
        xattrs: Vec<Xattr>,
    },
    /// Blocks of a cluster hold data in a physical cluster that the blob owns.
    Map {
        /// The blob.
        blob: BlobId,
        /// Its cluster.
        at: BlobCluster,
        /// The physical cluster.
        cluster: ClusterIdx,
        /// The blocks.
        blocks: Range<u32>,
    },
    /// Blocks of a cluster are in a physical cluster that the blob owns, with the content that they had: no reader can
    /// tell, so that this may happen to a snapshot as well. Once that is all blocks nothing else is kept for the cluster.
    Fill {
        /// The blob.
        blob: BlobId,
        /// Its cluster.
        at: BlobCluster,
        /// The physical cluster.
        cluster: ClusterIdx,
        /// The blocks.
        blocks: Range<u32>,
    },
    /// A cluster of which the blob says that it reads zeros, and below which there is nothing, needs no saying.
    DropZeros {
        /// The blob.
        blob: BlobId,
        /// Its cluster.
        at: BlobCluster,
    },
    /// Blocks of a cluster that the parent of a blob says read zeros, the blob says so itself of.
    KeepZeros {
        /// The blob.
        blob: BlobId,
        /// Its cluster.
        at: BlobCluster,
    },
    /// A blob that shows nothing of what its parent holds or says itself lies on what lies below the parent.
    Bypass {
        /// The blob.
        blob: BlobId,
        /// Clusters up to which that shows through. 0 where there is nothing.
        inherit_len: u64,
    },
    /// From this cluster on a blob shows nothing of what lies below it. It shows as much as before: where nothing is
    /// hidden metadata does not say from where on, and this does, before something comes to be hidden there.
    Inherit {
        /// The blob.
        blob: BlobId,
        /// Clusters.
        len: u64,
    },
    /// A blob of which every cluster is full and its own needs nothing below it: it has no parent any more, and is thick.
    Inflate {
        /// The blob.
        blob: BlobId,
    },
    /// Blocks of a cluster read zeros, whatever lies below.
    ZeroBlocks {
        /// The blob.
        blob: BlobId,
        /// Its cluster.
        at: BlobCluster,
        /// The blocks.
        blocks: Range<u32>,
    },
    /// Whole clusters read zeros, whatever lies below, and own nothing.
    ZeroClusters {
        /// The blob.
        blob: BlobId,
        /// Its clusters.
        range: Range<u64>,
    },
    /// A new size. What is cut off is freed; what is added reads zeros.
    Resize {
        /// The blob.
        blob: BlobId,
        /// New size in clusters.
        len: u64,
        /// Clusters that back the added part, already zeroed.
        runs: Vec<MappedRun>,
    },
    /// An xattr gets a value.
    SetXattr {
        /// The blob.
        blob: BlobId,
        /// The xattr; replaced in place where it exists.
        xattr: Xattr,
    },
    /// An xattr is gone.
    RemoveXattr {
        /// The blob.
        blob: BlobId,
        /// The name of the xattr.
        name: Vec<u8>,
    },
    /// The data of a blob cannot change any more, so that others may inherit from it.
    SetReadOnly {
        /// The blob.
        blob: BlobId,
    },
    /// What a blob does not hold itself it reads from elsewhere from now on.
    SetParent {
        /// The blob. It is thin, and nothing inherits from it.
        blob: BlobId,
        /// What lies below it.
        below: Below,
    },
    /// These blobs are encoded with an extent table from now on.
    UseExtentTable {
        /// The blobs: a whole family of snapshots and clones.
        blobs: Vec<BlobId>,
    },
    /// A blob that nothing depends on begins to die: it has no name and no parent from now on.
    MarkDying {
        /// The blob.
        blob: BlobId,
    },
    /// A dying blob lets go of its clusters in these ordinals.
    Release {
        /// The blob.
        blob: BlobId,
        /// The ordinals.
        ordinals: Vec<ExtentOrdinal>,
    },
    /// A dying blob that owns nothing any more is gone.
    Destroy {
        /// The blob.
        blob: BlobId,
    },
    /// The only clone of a snapshot takes over what it reads from it; the snapshot is gone.
    Adopt {
        /// The snapshot.
        snapshot: BlobId,
        /// Its only clone.
        clone: BlobId,
    },
    /// A checkpoint laid out a blob's md pages.
    Assign {
        /// The blob.
        blob: BlobId,
        /// Where its metadata lies.
        pages: Assignment,
    },
}

impl Record {
    /// Clusters that the record gives to a blob, and which blocks of each it makes the blob's own: `None` for all.
    pub fn given(&self) -> impl Iterator<Item = (ClusterIdx, Option<&Range<u32>>)> {
        let one = match self {
            Self::Map { cluster, blocks, .. } | Self::Fill { cluster, blocks, .. } => {
                Some((*cluster, Some(blocks)))
            }
            _ => None,
        };
        let runs: &[MappedRun] = match self {
            Self::Create { runs, .. } | Self::Resize { runs, .. } => runs,
            _ => &[],
        };
        let runs = runs.iter().flat_map(|run| run.cluster.0..run.cluster.0 + run.length);
        one.into_iter().chain(runs.map(|cluster| (ClusterIdx(cluster), None)))
    }

    /// The cluster that the record gives to a blob for one of its own.
    pub(crate) fn mapped(&self) -> Option<(BlobId, BlobCluster, ClusterIdx)> {
        match self {
            Self::Map { blob, at, cluster, .. } | Self::Fill { blob, at, cluster, .. } => {
                Some((*blob, *at, *cluster))
            }
            _ => None,
        }
    }

    /// The blobs that must exist for this record to mean anything.
    #[must_use]
    pub fn blobs(&self) -> Vec<BlobId> {
        match self {
            Self::Create { .. } => Vec::new(),
            Self::Snapshot { origin: blob, .. }
            | Self::Clone { parent: blob, .. }
            | Self::Map { blob, .. }
            | Self::Fill { blob, .. }
            | Self::DropZeros { blob, .. }
            | Self::KeepZeros { blob, .. }
            | Self::Bypass { blob, .. }
            | Self::Inherit { blob, .. }
            | Self::Inflate { blob }
            | Self::ZeroBlocks { blob, .. }
            | Self::ZeroClusters { blob, .. }
            | Self::Resize { blob, .. }
            | Self::SetXattr { blob, .. }
            | Self::RemoveXattr { blob, .. }
            | Self::SetReadOnly { blob }
            | Self::MarkDying { blob }
            | Self::Release { blob, .. }
            | Self::Destroy { blob }
            | Self::Assign { blob, .. } => alloc::vec![*blob],
            Self::UseExtentTable { blobs } => blobs.clone(),
            Self::SetParent { blob, below: Below::Blob(parent) } => alloc::vec![*blob, *parent],
            Self::SetParent { blob, .. } => alloc::vec![*blob],
            Self::Adopt { snapshot, clone } => alloc::vec![*snapshot, *clone],
        }
    }
}
