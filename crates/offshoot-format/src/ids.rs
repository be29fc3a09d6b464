//! Positions and names inside a store. No bare integer crosses a function.

use core::fmt;

/// Bytes of a super block or of the structured part of an md page, whatever the md page size.
pub const MD_STRUCT_BYTES: usize = 4096;

/// Bytes of an md page that hold descriptors.
pub const DESCRIPTORS_BYTES: usize = 4072;

/// The link of a last md page: there is no next one.
pub const NO_PAGE: u32 = 0xffff_ffff;

/// Clusters of a blob that one extent page maps (SPDK's `SPDK_EXTENTS_PER_EP`).
pub const CLUSTERS_PER_EXTENT_PAGE: usize = 512;

/// Most extent pages that a blob can have: an extent page names its first cluster in 32 bits.
pub const EXTENT_PAGES_MAX: u32 = 1 << 23;

/// The structured part of an md page, or a super block.
pub type PageImage = [u8; MD_STRUCT_BYTES];

/// A physical cluster, counted from the start of the device (the metadata area included).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterIdx(pub u32);

/// An md page, counted from the start of the md region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MdPageIdx(pub u32);

/// The id of a blob: bit 32, and the index of its root md page below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub u64);

/// A cluster of a blob, counted from the blob's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobCluster(pub u64);

/// Which extent page of a blob: each maps [`CLUSTERS_PER_EXTENT_PAGE`] clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentOrdinal(pub u32);

impl MdPageIdx {
    /// The page that a stored link names, if it names one.
    #[must_use]
    pub const fn from_link(link: u32) -> Option<Self> {
        if link == NO_PAGE { None } else { Some(Self(link)) }
    }

    /// The stored form of a link.
    #[must_use]
    pub const fn to_link(next: Option<Self>) -> u32 {
        match next {
            Some(page) => page.0,
            None => NO_PAGE,
        }
    }
}

impl BlobId {
    const ROOT_BIT: u64 = 1 << 32;

    /// The id of the blob whose root is `root`.
    #[must_use]
    pub const fn from_root(root: MdPageIdx) -> Self {
        Self(Self::ROOT_BIT | root.0 as u64)
    }

    /// The md page that holds the root of this blob: the low half of the id.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
    pub const fn root(self) -> MdPageIdx {
        MdPageIdx(self.0 as u32)
    }

    /// Whether the high half is what every blob has. Ids that fail this name no blob.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 >> 32 == 1
    }
}

impl ExtentOrdinal {
    /// The extent page that maps `cluster`, and the slot in it.
    ///
    /// A cluster beyond what any blob can hold falls into the ordinal [`u32::MAX`], which no blob has.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the slot is below 512")]
    pub fn of(cluster: BlobCluster) -> (Self, usize) {
        let per_page = CLUSTERS_PER_EXTENT_PAGE as u64;
        let ordinal = u32::try_from(cluster.0 / per_page).unwrap_or(u32::MAX);
        (Self(ordinal), (cluster.0 % per_page) as usize)
    }

    /// The first cluster that this extent page maps.
    #[must_use]
    pub const fn first_cluster(self) -> BlobCluster {
        BlobCluster(self.0 as u64 * CLUSTERS_PER_EXTENT_PAGE as u64)
    }
}

macro_rules! display {
    ($type:ident, $format:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

display!(ClusterIdx, "{}");
display!(MdPageIdx, "{}");
display!(BlobId, "{:#x}");
display!(BlobCluster, "{}");
display!(ExtentOrdinal, "{}");

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn blob_ids_name_their_root() {
        let id = BlobId::from_root(MdPageIdx(0x2a));
        assert_eq!(id, BlobId(0x1_0000_002a));
        assert_eq!(id.root(), MdPageIdx(0x2a));
        assert_eq!(id.to_string(), "0x10000002a");
        assert!(id.is_valid());
        assert!(!BlobId(u64::MAX).is_valid());
        assert!(!BlobId(0x2a).is_valid());
    }

    #[test]
    fn extent_ordinals_split_at_512() {
        for (cluster, ordinal, slot) in [(0, 0, 0), (511, 0, 511), (512, 1, 0), (1 << 32, 1 << 23, 0)] {
            assert_eq!(ExtentOrdinal::of(BlobCluster(cluster)), (ExtentOrdinal(ordinal), slot));
        }
        assert_eq!(ExtentOrdinal::of(BlobCluster(u64::MAX)), (ExtentOrdinal(u32::MAX), 511));
        assert_eq!(ExtentOrdinal(3).first_cluster(), BlobCluster(1536));
    }

    #[test]
    fn links() {
        assert_eq!(MdPageIdx::from_link(NO_PAGE), None);
        assert_eq!(MdPageIdx::from_link(0), Some(MdPageIdx(0)));
        assert_eq!(MdPageIdx::to_link(None), NO_PAGE);
        assert_eq!(MdPageIdx::to_link(Some(MdPageIdx(7))), 7);
    }
}
