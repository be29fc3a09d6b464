//! Does the metadata agree with itself? Every cluster and md page has one owner, and the masks say so too.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::fmt;
use offshoot_format::{Bitmap, BlobId, ClusterIdx, Layout, MaskKind, MdPageIdx};

/// Something that is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The lvol that it concerns, as text.
    pub lvol: Option<String>,
    /// What it is.
    pub what: Found,
}

/// What can be wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// A blob whose metadata cannot be read.
    Damaged {
        /// Which.
        blob: BlobId,
        /// What is wrong.
        why: String,
    },
    /// A cluster that two blobs claim, or one twice.
    ClusterOwners {
        /// The cluster.
        cluster: ClusterIdx,
        /// The first owner.
        first: BlobId,
        /// The second.
        second: BlobId,
    },
    /// An md page that two blobs claim, or one twice.
    MdPageOwners {
        /// The page.
        page: MdPageIdx,
        /// The first owner.
        first: BlobId,
        /// The second.
        second: BlobId,
    },
    /// Bits of a mask that differ from what the metadata says.
    Mask {
        /// Which mask.
        kind: MaskKind,
        /// Units marked used that nothing refers to: space is lost.
        surplus: usize,
        /// Units in use that are not marked: they could be handed out again.
        missing: usize,
    },
    /// The masks of an orderly closed native store are not those that it was closed with. The md pages were
    /// searched instead.
    MaskChecksum,
    /// Two lvols of one name: only the first can be addressed by it.
    DuplicateName {
        /// The first.
        first: BlobId,
        /// The second.
        second: BlobId,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { why, .. } => f.write_str(why),
            Self::ClusterOwners {
                cluster,
                first,
                second,
            } => {
                write!(
                    f,
                    "cluster {cluster} belongs to blob {first} and to blob {second}"
                )
            }
            Self::MdPageOwners { page, first, second } => {
                write!(f, "md page {page} belongs to blob {first} and to blob {second}")
            }
            Self::Mask {
                kind,
                surplus,
                missing,
            } => {
                write!(
                    f,
                    "{kind}: {surplus} marked used but unreferenced, {missing} in use but not marked"
                )
            }
            Self::MaskChecksum => f.write_str("the masks do not match their checksums"),
            Self::DuplicateName { first, second } => {
                write!(f, "blob {second} has the same name as blob {first}")
            }
        }
    }
}

impl Found {
    /// What could be done about it.
    #[must_use]
    pub fn repair(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "remove the lvol and restore it from a snapshot or backup",
            Self::ClusterOwners { .. } | Self::MdPageOwners { .. } => "remove one of the two lvols",
            Self::Mask { .. } | Self::MaskChecksum => "rebuild the masks from the md pages",
            Self::DuplicateName { .. } => "rename one of the two, addressed by its UUID",
        }
    }
}

/// Who owns what.
pub(super) struct Owners {
    clusters: BTreeMap<ClusterIdx, BlobId>,
    md: BTreeMap<MdPageIdx, BlobId>,
    roots: BTreeSet<MdPageIdx>,
    metadata_clusters: u32,
    total_clusters: usize,
    md_len: usize,
    doubles: Vec<(BlobId, String)>,
}

impl Owners {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            clusters: BTreeMap::new(),
            md: BTreeMap::new(),
            roots: BTreeSet::new(),
            metadata_clusters: layout.metadata_clusters(),
            total_clusters: layout.total_clusters as usize,
            md_len: layout.md_len as usize,
            doubles: Vec::new(),
        }
    }

    pub(super) fn add_root(&mut self, root: MdPageIdx) {
        self.roots.insert(root);
    }

    pub(super) fn add_blob(
        &mut self,
        blob: BlobId,
        md: impl Iterator<Item = MdPageIdx>,
        clusters: impl Iterator<Item = ClusterIdx>,
        found: &mut Vec<Finding>,
    ) {
        for page in md {
            if let Some(first) = self.md.insert(page, blob) {
                found.push(Finding {
                    lvol: None,
                    what: Found::MdPageOwners {
                        page,
                        first,
                        second: blob,
                    },
                });
                self.doubles
                    .extend([first, blob].map(|owner| (owner, format!("md page {page} has two owners"))));
            }
        }
        for cluster in clusters {
            if let Some(first) = self.clusters.insert(cluster, blob) {
                found.push(Finding {
                    lvol: None,
                    what: Found::ClusterOwners {
                        cluster,
                        first,
                        second: blob,
                    },
                });
                self.doubles
                    .extend([first, blob].map(|owner| (owner, format!("cluster {cluster} has two owners"))));
            }
        }
    }

    /// Blobs that may not be written because another claims the same, with the reason.
    pub(super) fn take_double_owners(&mut self) -> Vec<(BlobId, String)> {
        core::mem::take(&mut self.doubles)
    }

    /// Holds the masks against what the metadata says.
    pub(super) fn compare(&self, masks: &[Option<Bitmap>; 3], found: &mut Vec<Finding>) {
        for ((kind, mask), referenced) in MaskKind::ALL.iter().zip(masks).zip(self.referenced()) {
            let Some(mask) = mask else { continue };
            let surplus = mask.iter_ones().filter(|unit| !referenced.get(*unit)).count();
            let missing = referenced.iter_ones().filter(|unit| !mask.get(*unit)).count();
            if surplus + missing > 0 {
                found.push(Finding {
                    lvol: None,
                    what: Found::Mask {
                        kind: *kind,
                        surplus,
                        missing,
                    },
                });
            }
        }
    }

    /// Clusters and md pages that may not be handed out: what is referenced, and what the masks add to that.
    /// A marked cluster that nothing readable refers to may belong to a damaged blob.
    pub(super) fn pools(&self, masks: &[Option<Bitmap>; 3]) -> (Bitmap, Bitmap) {
        let [mut md, mut clusters, roots] = self.referenced();
        for (bits, mask) in [(&mut md, &masks[0]), (&mut clusters, &masks[1])] {
            for unit in mask.iter().flat_map(Bitmap::iter_ones) {
                bits.set(unit, true);
            }
        }
        roots.iter_ones().for_each(|root| md.set(root, true));
        (clusters, md)
    }

    /// In the order of [`MaskKind::ALL`].
    fn referenced(&self) -> [Bitmap; 3] {
        let mut md = Bitmap::new(self.md_len);
        self.md.keys().for_each(|page| md.set(page.0 as usize, true));
        let mut clusters = Bitmap::new(self.total_clusters);
        (0..self.metadata_clusters).for_each(|cluster| clusters.set(cluster as usize, true));
        self.clusters
            .keys()
            .for_each(|cluster| clusters.set(cluster.0 as usize, true));
        let mut roots = Bitmap::new(self.md_len);
        self.roots
            .iter()
            .for_each(|root| roots.set(root.0 as usize, true));
        self.roots
            .iter()
            .filter(|root| !self.md.contains_key(root))
            .for_each(|root| md.set(root.0 as usize, true));
        [md, clusters, roots]
    }
}
