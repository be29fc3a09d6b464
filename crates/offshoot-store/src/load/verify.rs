//! Does the metadata agree with itself? Every cluster and md page has one owner, and the masks say so too.

use crate::journal::JournalDamage;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::fmt;
use offshoot_block::DeviceError;
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
    /// Md pages of a store that was not closed which hold something unreadable that nothing refers to. Any of
    /// them may be the root of an lvol, so nothing is allocated until they are repaired.
    RottenPages {
        /// How many.
        count: usize,
    },
    /// Clusters of a store that SPDK did not close which no readable blob owns and damaged ones may. They are not
    /// handed out.
    Withheld {
        /// How many.
        clusters: u64,
    },
    /// A write of the super block was torn when SPDK died. With the fields put back that it was about to change, the
    /// checksum fits. The next opening for writing writes it anew.
    SuperBlockTorn {
        /// Their names.
        fields: Vec<&'static str>,
    },
    /// One bit of the super block is wrong. It was put right in memory.
    SuperBlockBit {
        /// What is wrong with it.
        why: String,
    },
    /// The super block cannot be read. Its copy was used.
    SuperBlock {
        /// What is wrong with it.
        why: String,
    },
    /// A page of the live masks of a store that was not closed. All that it is about counts as used.
    LiveMask {
        /// What is wrong with it.
        why: String,
    },
    /// A frame of the journal that must be there cannot be read.
    Journal(JournalDamage),
    /// A record of the journal does not fit the store.
    JournalRecord {
        /// The number of its frame.
        lsn: u64,
        /// What is wrong with it.
        why: String,
    },
    /// What loading has put right takes more md pages than are free. It is not written, so nothing else is either.
    NoMdPages {
        /// Md pages that it takes.
        needed: usize,
        /// Those that are free.
        free: usize,
    },
    /// What is known of an lvol contradicts itself.
    Inconsistent {
        /// Which.
        blob: BlobId,
        /// What contradicts what.
        why: String,
    },
    /// A cluster or md page that has two owners.
    Twice {
        /// Which kind.
        kind: MaskKind,
        /// Its number.
        unit: u32,
    },
    /// A part of the metadata that the device could not read.
    Unreadable {
        /// Where it is, in bytes.
        offset: u64,
        /// What the device said.
        error: DeviceError,
    },
    /// The masks of an orderly closed native store are not those that it was closed with. The md pages were
    /// searched instead.
    MaskChecksum,
    /// A mask of a closed store cannot be read. The md pages were searched instead.
    MaskUnreadable {
        /// What is wrong with it.
        why: String,
    },
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
            Self::ClusterOwners { cluster, first, second } => {
                write!(f, "cluster {cluster} belongs to blob {first} and to blob {second}")
            }
            Self::MdPageOwners { page, first, second } => {
                write!(f, "md page {page} belongs to blob {first} and to blob {second}")
            }
            Self::Mask { kind, surplus, missing } => {
                write!(f, "{kind}: {surplus} marked used but unreferenced, {missing} in use but not marked")
            }
            Self::RottenPages { count } => {
                write!(f, "{count} md pages cannot be read, and nothing refers to them: lvols may be missing")
            }
            Self::Withheld { clusters } => {
                write!(f, "{clusters} clusters may belong to what is damaged and are not handed out")
            }
            Self::SuperBlockTorn { fields } => {
                write!(
                    f,
                    "super block: torn by a crash; its checksum fits with the old {}",
                    fields.join(", ")
                )
            }
            Self::SuperBlockBit { why } => write!(f, "super block: {why}; one bit of it is wrong"),
            Self::SuperBlock { why } => write!(f, "super block: {why}; its copy is good"),
            Self::LiveMask { why } => write!(f, "{why}: all that it is about counts as used"),
            Self::Journal(damage) => write!(f, "{damage}"),
            Self::JournalRecord { lsn, why } => write!(f, "frame {lsn} of the journal: {why}"),
            Self::NoMdPages { needed, free } => {
                write!(f, "what is to be written takes {needed} md pages, {free} are free")
            }
            Self::Inconsistent { why, .. } => f.write_str(why),
            Self::Twice { kind, unit } => write!(f, "{kind}: {unit} is owned twice"),
            Self::Unreadable { offset, error } => write!(f, "metadata at byte {offset}: {error}"),
            Self::MaskUnreadable { why } => f.write_str(why),
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
            Self::Damaged { .. } | Self::Inconsistent { .. } => {
                "export what can be read of it, remove it, and restore it from a snapshot or backup"
            }
            Self::ClusterOwners { .. } | Self::MdPageOwners { .. } | Self::Twice { .. } => {
                "give each of them its own, and look at the content of both"
            }
            Self::RottenPages { .. } => "erase them: what they may have been is given up",
            Self::Unreadable { .. } => "write it anew where something is known of it",
            Self::Withheld { .. } => "remove or restore what is damaged, then rebuild the masks",
            Self::SuperBlock { .. } => "write it anew from its copy",
            Self::SuperBlockBit { .. } => "write it anew with that bit put right",
            Self::SuperBlockTorn { .. } => "write it anew as it was understood",
            Self::Journal(_) | Self::JournalRecord { .. } => {
                "go on with what the journal says up to there: what came after is given up"
            }
            Self::Mask { .. } | Self::MaskChecksum | Self::MaskUnreadable { .. } | Self::LiveMask { .. } => {
                "rebuild the masks from the md pages"
            }
            Self::NoMdPages { .. } => "export what is needed: the store cannot be written",
            Self::DuplicateName { .. } => "give the second a name of its own",
        }
    }
}

/// What several blobs claim.
#[derive(Debug, Default)]
pub(super) struct Disputes {
    /// Claims beyond the first.
    pub(super) clusters: BTreeMap<ClusterIdx, u32>,
    /// Likewise.
    pub(super) md: BTreeMap<MdPageIdx, u32>,
    /// Who claims them, with the reason why they may not be written.
    pub(super) blobs: Vec<(BlobId, String)>,
}

/// Who owns what. Owners of units that more than one claims are found in a second pass: there are rarely any.
#[derive(Clone)]
pub(super) struct Owners {
    clusters: Bitmap,
    md: Bitmap,
    roots: Bitmap,
    doubled_clusters: BTreeSet<ClusterIdx>,
    doubled_md: BTreeSet<MdPageIdx>,
}

impl Owners {
    pub(super) fn new(layout: &Layout) -> Self {
        let mut clusters = Bitmap::new(layout.total_clusters as usize);
        (0..layout.metadata_clusters() as usize).for_each(|cluster| clusters.set(cluster, true));
        Self {
            clusters,
            md: Bitmap::new(layout.md_len as usize),
            roots: Bitmap::new(layout.md_len as usize),
            doubled_clusters: BTreeSet::new(),
            doubled_md: BTreeSet::new(),
        }
    }

    /// Counts a blob of which nothing but the root may be readable.
    pub(super) fn add_root(&mut self, root: MdPageIdx) {
        self.roots.set(root.0 as usize, true);
    }

    /// Counts what a blob claims. Everything lies within the store.
    pub(super) fn add_blob(
        &mut self,
        md: impl Iterator<Item = MdPageIdx>,
        clusters: impl Iterator<Item = ClusterIdx>,
    ) {
        for page in md {
            if self.md.get(page.0 as usize) {
                self.doubled_md.insert(page);
            }
            self.md.set(page.0 as usize, true);
        }
        for cluster in clusters {
            if self.clusters.get(cluster.0 as usize) {
                self.doubled_clusters.insert(cluster);
            }
            self.clusters.set(cluster.0 as usize, true);
        }
    }

    /// Whether a readable blob refers to an md page, or it is a root.
    pub(super) fn refers_to(&self, page: MdPageIdx) -> bool {
        self.md.get(page.0 as usize) || self.roots.get(page.0 as usize)
    }

    pub(super) fn has_doubles(&self) -> bool {
        !self.doubled_clusters.is_empty() || !self.doubled_md.is_empty()
    }

    /// Which blobs share what, given every claim again.
    pub(super) fn doubles(
        &self,
        claims: impl Iterator<Item = (BlobId, Vec<MdPageIdx>, Vec<ClusterIdx>)>,
        found: &mut Vec<Finding>,
    ) -> Disputes {
        let mut disputes = Disputes::default();
        let mut clusters: BTreeMap<ClusterIdx, BlobId> = BTreeMap::new();
        let mut pages: BTreeMap<MdPageIdx, BlobId> = BTreeMap::new();
        for (second, md, owned) in claims {
            for page in md.into_iter().filter(|page| self.doubled_md.contains(page)) {
                if let Some(first) = pages.insert(page, second) {
                    found.push(Finding { lvol: None, what: Found::MdPageOwners { page, first, second } });
                    *disputes.md.entry(page).or_default() += 1;
                    let why = format!("md page {page} has two owners");
                    disputes.blobs.extend([(first, why.clone()), (second, why)]);
                }
            }
            for cluster in owned.into_iter().filter(|cluster| self.doubled_clusters.contains(cluster)) {
                if let Some(first) = clusters.insert(cluster, second) {
                    found.push(Finding { lvol: None, what: Found::ClusterOwners { cluster, first, second } });
                    *disputes.clusters.entry(cluster).or_default() += 1;
                    let why = format!("cluster {cluster} has two owners");
                    disputes.blobs.extend([(first, why.clone()), (second, why)]);
                }
            }
        }
        disputes
    }

    /// A cluster from `from` on that nothing refers to and that is not taken otherwise. It is in use then.
    pub(super) fn take_free(
        &mut self,
        from: &mut usize,
        is_taken: impl Fn(usize) -> bool,
    ) -> Option<ClusterIdx> {
        loop {
            let cluster =
                self.clusters.first_zero_from(*from).filter(|cluster| *cluster < self.clusters.len())?;
            *from = cluster + 1;
            if !is_taken(cluster) {
                self.clusters.set(cluster, true);
                return u32::try_from(cluster).ok().map(ClusterIdx);
            }
        }
    }

    /// Clusters that somebody claims.
    pub(super) fn clusters(&self) -> &Bitmap {
        &self.clusters
    }

    /// Whether more than one claims a cluster.
    pub(super) fn is_doubled(&self, cluster: ClusterIdx) -> bool {
        self.doubled_clusters.contains(&cluster)
    }

    /// Whether more than one claims an md page.
    pub(super) fn is_doubled_md(&self, page: MdPageIdx) -> bool {
        self.doubled_md.contains(&page)
    }

    /// Holds the masks against what the metadata says.
    pub(super) fn compare(&self, masks: &[Option<Bitmap>; 3], found: &mut Vec<Finding>) {
        for ((kind, mask), referenced) in MaskKind::ALL.iter().zip(masks).zip(self.referenced()) {
            let Some(mask) = mask else { continue };
            let surplus = mask.iter_ones().filter(|unit| !referenced.get(*unit)).count();
            let missing = referenced.iter_ones().filter(|unit| !mask.get(*unit)).count();
            if surplus + missing > 0 {
                found.push(Finding { lvol: None, what: Found::Mask { kind: *kind, surplus, missing } });
            }
        }
    }

    /// Clusters and md pages that may not be handed out: what is referenced, and, if they are `complete`, what the
    /// masks add to what was referenced `before` anything was settled. A marked cluster that nothing readable refers to
    /// may belong to a damaged blob; where a journal is still to be replayed, that is found out afterwards.
    pub(super) fn pools(
        &self,
        before: &Self,
        masks: &[Option<Bitmap>; 3],
        complete: bool,
    ) -> (Bitmap, Bitmap) {
        let [mut md, mut clusters, _] = self.referenced();
        let [md_before, clusters_before, _] = before.referenced();
        for (bits, known, mask) in
            [(&mut md, md_before, &masks[0]), (&mut clusters, clusters_before, &masks[1])]
        {
            for unit in mask.iter().filter(|_| complete).flat_map(Bitmap::iter_ones) {
                if !known.get(unit) {
                    bits.set(unit, true);
                }
            }
        }
        (clusters, md)
    }

    /// How many of these clusters nobody claims.
    pub(super) fn unclaimed(&self, clusters: &Bitmap) -> u64 {
        (clusters.count_ones() - self.clusters.count_ones()) as u64
    }

    /// In the order of [`MaskKind::ALL`].
    fn referenced(&self) -> [Bitmap; 3] {
        let mut md = self.md.clone();
        self.roots.iter_ones().for_each(|root| md.set(root, true));
        [md, self.clusters.clone(), self.roots.clone()]
    }
}
