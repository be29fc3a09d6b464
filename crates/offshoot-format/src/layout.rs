//! Where everything lies in a store, in numbers that have been checked.

use crate::{Area, ClusterIdx, Fault, MASK_HEADER_BYTES, MaskKind, MdPageIdx, NO_PAGE};
use core::{fmt, ops::Range};
use thiserror::Error;

/// Least md page size, and what cluster sizes must be a multiple of, in bytes.
const MD_PAGE_BYTES_MIN: u32 = 4096;

/// Largest md page size, in bytes. SPDK asks for at most 64 KiB, but takes the device's physical block if that is
/// larger. The limit keeps every offset in the md region far below 2^64.
const MD_PAGE_BYTES_MAX: u32 = 1 << 20;

/// Where the second copy of the super block stands while a store is open, in bytes from the start of the device: a fixed
/// place, so that it is found when the first copy cannot be read.
pub const SUPER_BLOCK_COPY_OFFSET: u64 = 4096;

/// A range of pages of the md page size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Region {
    /// First page.
    pub start: u32,
    /// Number of pages.
    pub len: u32,
}

/// The geometry of a store.
///
/// A layout comes from [`Layout::plan`], [`Layout::grown`] or [`crate::SuperBlock::layout`], which check that the masks
/// lie between the super block and the md region without overlap, that the md region lies inside the store, and that
/// sizes are sane. Page numbers count pages of `md_page_size` from the start of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Cluster size in bytes: a multiple of 4096, not below `md_page_size`.
    pub cluster_size: u32,
    /// Md page size in bytes: a power of two from 4096 to 1 MiB.
    pub md_page_size: u32,
    /// Smallest unit of I/O in bytes: a power of two from 512 to 4096.
    pub io_unit_size: u32,
    /// Size of the store in bytes. What remains behind the last whole cluster is not used.
    pub size_bytes: u64,
    /// Clusters of the store, metadata included.
    pub total_clusters: u32,
    /// First page of the md region.
    pub md_start: u32,
    /// Pages of the md region.
    pub md_len: u32,
    /// The mask of md pages in use.
    pub used_page_mask: Region,
    /// The mask of clusters in use, without the headroom behind it: see [`Layout::cluster_mask_room`].
    pub used_cluster_mask: Region,
    /// The mask of blob ids in use. Of length 0 in old stores, which have none.
    pub used_blobid_mask: Region,
}

/// What [`Layout::plan`] needs to know about a new store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutParams {
    /// Size of the store in bytes.
    pub size_bytes: u64,
    /// Cluster size in bytes.
    pub cluster_size: u32,
    /// Logical block size of the device in bytes.
    pub io_unit_size: u32,
    /// Md page size in bytes, not below the physical block size of the device.
    pub md_page_size: u32,
    /// Md pages. It also bounds how far the store can grow: see [`Layout::max_growable_bytes`].
    pub md_len: u32,
    /// Room that the masks get beyond what SPDK gives them: see [`Layout::growable_bytes`].
    pub room: MaskRoom,
}

/// How far a new store shall be able to grow. SPDK gives the cluster mask as many pages as the md page mask, and the
/// others none to grow into: so does the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskRoom {
    /// Clusters that the cluster mask has room for, at least.
    pub clusters: u32,
    /// Md pages that the masks of md pages and of blob ids have room for, at least.
    pub md_pages: u32,
}

/// Why a store cannot be laid out like that.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The md page size is no power of two from 4096 to 1 MiB.
    #[error("md page size {md_page_size} is not a power of two from 4096 to 1048576")]
    MdPageSize {
        /// Bytes.
        md_page_size: u32,
    },
    /// The io unit is no power of two from 512 to 4096.
    #[error("io unit size {io_unit_size} is not a power of two from 512 to 4096")]
    IoUnitSize {
        /// Bytes.
        io_unit_size: u32,
    },
    /// The cluster size is zero, not a multiple of 4096, or below the md page size.
    #[error("cluster size {cluster_size} is not a multiple of 4096 from the md page size {md_page_size} on")]
    ClusterSize {
        /// Bytes.
        cluster_size: u32,
        /// Bytes.
        md_page_size: u32,
    },
    /// The store is smaller than a cluster.
    #[error("{size_bytes} bytes are less than a cluster of {cluster_size}")]
    TooSmall {
        /// Bytes of the store.
        size_bytes: u64,
        /// Bytes of a cluster.
        cluster_size: u32,
    },
    /// There are more clusters than 32 bits can number.
    #[error("{clusters} clusters of {cluster_size} bytes, at most 4294967294")]
    TooManyClusters {
        /// How many.
        clusters: u64,
        /// Bytes of a cluster.
        cluster_size: u32,
    },
    /// No md pages, or more than 32 bits can number.
    #[error("{md_len} md pages")]
    MdLen {
        /// How many.
        md_len: u32,
    },
    /// The metadata takes more clusters than there are.
    #[error("metadata takes {needed} clusters of {total_clusters}")]
    NoRoom {
        /// Clusters of the metadata.
        needed: u64,
        /// Clusters of the store.
        total_clusters: u32,
    },
    /// A store cannot shrink.
    #[error("{size_bytes} bytes are less than the present {present_bytes}")]
    Shrinks {
        /// Bytes asked for.
        size_bytes: u64,
        /// Bytes of the store.
        present_bytes: u64,
    },
    /// The cluster mask would run into what follows it.
    #[error("cluster mask takes {needed} md pages, room for {room}")]
    MaskRoom {
        /// Pages of the mask.
        needed: u32,
        /// Pages from its start to what follows.
        room: u32,
    },
    /// The md region cannot shrink.
    #[error("{md_len} md pages are less than the present {present}")]
    MdShrinks {
        /// Md pages asked for.
        md_len: u32,
        /// Md pages of the store.
        present: u32,
    },
    /// The masks of md pages and blob ids cannot index so many.
    #[error("{md_len} md pages, room in the masks for {max}")]
    MdMaskRoom {
        /// Md pages asked for.
        md_len: u32,
        /// The most that there can be.
        max: u32,
    },
}

/// The md pages of a new lvstore in SPDK: `percent` of the number of clusters (SPDK's default is 100).
///
/// SPDK computes this in 32 bits; we do not wrap but stop at the largest number there can be. 0 is for
/// [`Layout::plan`] to refuse, as SPDK does.
#[must_use]
pub fn md_len_for_ratio(size_bytes: u64, cluster_size: u32, percent: u32) -> u32 {
    let clusters = size_bytes.checked_div(cluster_size.into()).unwrap_or(0);
    u32::try_from(clusters.saturating_mul(percent.into()) / 100).unwrap_or(u32::MAX).min(NO_PAGE - 1)
}

impl Region {
    /// The page behind the last one.
    #[must_use]
    pub fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.len)
    }

    fn overlaps(self, other: Self) -> bool {
        u64::from(self.start) < other.end() && u64::from(other.start) < self.end()
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} + {}", self.start, self.len)
    }
}

impl Layout {
    /// Lays out a new store as SPDK does.
    ///
    /// # Errors
    /// Sizes that are not allowed, and metadata that does not leave room. No room for data at all is allowed, as in
    /// SPDK.
    pub fn plan(params: &LayoutParams) -> Result<Self, LayoutError> {
        let LayoutParams { size_bytes, cluster_size, io_unit_size, md_page_size, md_len, room } = *params;
        if !is_md_page_size(md_page_size) {
            return Err(LayoutError::MdPageSize { md_page_size });
        }
        if !is_io_unit_size(io_unit_size) {
            return Err(LayoutError::IoUnitSize { io_unit_size });
        }
        if !is_cluster_size(cluster_size, md_page_size) {
            return Err(LayoutError::ClusterSize { cluster_size, md_page_size });
        }
        let total_clusters = count_clusters(size_bytes, cluster_size)?;
        if md_len == 0 || md_len == NO_PAGE {
            return Err(LayoutError::MdLen { md_len });
        }

        let page_mask_len = mask_pages(md_len, md_page_size);
        let cluster_mask_len = mask_pages(total_clusters, md_page_size);
        let page_mask_room = page_mask_len.max(mask_pages(room.md_pages, md_page_size));
        let used_page_mask = Region { start: 1, len: page_mask_len };
        let used_cluster_mask = Region { start: 1 + page_mask_room, len: cluster_mask_len };
        // The cluster mask can grow to as many pages as the md page mask has.
        let headroom = cluster_mask_len.max(page_mask_len).max(mask_pages(room.clusters, md_page_size));
        let used_blobid_mask = Region { start: used_cluster_mask.start + headroom, len: page_mask_len };
        let md_start = used_blobid_mask.start + page_mask_room;
        let needed = metadata_clusters(md_start, md_len, cluster_size, md_page_size);
        if needed > total_clusters.into() {
            return Err(LayoutError::NoRoom { needed, total_clusters });
        }
        Ok(Self {
            cluster_size,
            md_page_size,
            io_unit_size,
            size_bytes,
            total_clusters,
            md_start,
            md_len,
            used_page_mask,
            used_cluster_mask,
            used_blobid_mask,
        })
    }

    /// This store, grown to `size_bytes` and `md_len` md pages. All starts stay: the md region takes the clusters behind
    /// it, which must be nobody's.
    ///
    /// # Errors
    /// Less than there is of either, masks that do not fit where they stand, and an md region that takes more clusters
    /// than there are.
    pub fn grown(&self, size_bytes: u64, md_len: u32) -> Result<Self, LayoutError> {
        if size_bytes < self.size_bytes {
            return Err(LayoutError::Shrinks { size_bytes, present_bytes: self.size_bytes });
        }
        if md_len < self.md_len {
            return Err(LayoutError::MdShrinks { md_len, present: self.md_len });
        }
        let total_clusters = count_clusters(size_bytes, self.cluster_size)?;
        // What a store has is never taken away, even if it is more than it needs.
        let needed = mask_pages(total_clusters, self.md_page_size).max(self.used_cluster_mask.len);
        let room = self.cluster_mask_room();
        if needed > room {
            return Err(LayoutError::MaskRoom { needed, room });
        }
        let max = self.growable_md_pages();
        if md_len > max {
            return Err(LayoutError::MdMaskRoom { md_len, max });
        }
        let needed_clusters = metadata_clusters(self.md_start, md_len, self.cluster_size, self.md_page_size);
        if needed_clusters > total_clusters.into() {
            return Err(LayoutError::NoRoom { needed: needed_clusters, total_clusters });
        }
        let md_mask = |region: Region| match region.len {
            // An old store has no mask of blob ids, and gets none.
            0 => region,
            len => Region { len: len.max(mask_pages(md_len, self.md_page_size)), ..region },
        };
        Ok(Self {
            size_bytes,
            total_clusters,
            md_len,
            used_cluster_mask: Region { len: needed, ..self.used_cluster_mask },
            used_page_mask: md_mask(self.used_page_mask),
            used_blobid_mask: md_mask(self.used_blobid_mask),
            ..self.clone()
        })
    }

    /// Checks what a super block says. `total_clusters` is computed, so it is not in question.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let masks = MaskKind::ALL.map(|kind| (kind, self.mask(kind)));
        for (kind, region) in masks {
            // Old stores have no mask of blob ids.
            if kind == MaskKind::BlobIds && region.len == 0 {
                continue;
            }
            let area = Area::Mask(kind);
            let needed = mask_pages(self.mask_bits(kind), self.md_page_size);
            if region.len < needed {
                return Err(Fault::AreaShort { area, len: region.len, needed });
            }
            let (start, len) = (region.start.into(), region.len.into());
            let end = self.md_start.into();
            if start < 1 || region.end() > end {
                return Err(Fault::AreaOutside { area, start, len, first: 1, end });
            }
            let other = masks.into_iter().find(|(other, at)| *other < kind && region.overlaps(*at));
            if let Some((other, _)) = other {
                return Err(Fault::Overlap { area, other: Area::Mask(other) });
            }
        }
        if self.md_len == 0 {
            return Err(Fault::AreaShort { area: Area::MdPages, len: 0, needed: 1 });
        }
        let metadata = metadata_clusters(self.md_start, self.md_len, self.cluster_size, self.md_page_size);
        if metadata > self.total_clusters.into() {
            let (start, len) = (self.md_start.into(), self.md_len.into());
            let end = self.cluster_offset(ClusterIdx(self.total_clusters)) / u64::from(self.md_page_size);
            return Err(Fault::AreaOutside { area: Area::MdPages, start, len, first: 1, end });
        }
        Ok(())
    }

    /// Clusters that super block, masks and md region take, from cluster 0 on.
    #[must_use]
    pub fn metadata_clusters(&self) -> u32 {
        let clusters = metadata_clusters(self.md_start, self.md_len, self.cluster_size, self.md_page_size);
        // Both ways to a layout have seen that they are at most `total_clusters`.
        u32::try_from(clusters).unwrap_or(self.total_clusters)
    }

    /// The first cluster that a blob may own.
    #[must_use]
    pub fn first_data_cluster(&self) -> ClusterIdx {
        ClusterIdx(self.metadata_clusters())
    }

    /// The clusters behind the md region that one of so many pages would take.
    #[must_use]
    pub fn clusters_for_md(&self, md_len: u32) -> Range<u32> {
        let end = metadata_clusters(self.md_start, md_len, self.cluster_size, self.md_page_size);
        let start = self.metadata_clusters();
        start..u32::try_from(end).unwrap_or(u32::MAX).clamp(start, self.total_clusters)
    }

    /// Clusters that blobs may own.
    #[must_use]
    pub fn total_data_clusters(&self) -> u32 {
        self.total_clusters - self.metadata_clusters()
    }

    /// Whether there is such an md page.
    #[must_use]
    pub fn contains_md(&self, page: MdPageIdx) -> bool {
        page.0 < self.md_len
    }

    /// Whether a blob may own this cluster.
    #[must_use]
    pub fn contains_data_cluster(&self, cluster: ClusterIdx) -> bool {
        (self.metadata_clusters()..self.total_clusters).contains(&cluster.0)
    }

    /// Where an md page starts, in bytes from the start of the device. Defined for any number, also of pages behind the
    /// md region.
    #[must_use]
    pub fn md_page_offset(&self, page: MdPageIdx) -> u64 {
        (u64::from(self.md_start) + u64::from(page.0)) * u64::from(self.md_page_size)
    }

    /// Where the second copy of the super block can stand while the store is open, if it can: always at
    /// [`SUPER_BLOCK_COPY_OFFSET`].
    ///
    /// The 4096 bytes there must be free then. They are behind the first copy in an md page above 4096 bytes; else they
    /// are page 1, the first of the md page mask as SPDK lays stores out, and that mask is stale while a store is open.
    /// A store whose page 1 is something else has no second copy.
    #[must_use]
    pub fn super_block_copy(&self) -> Option<u64> {
        let in_page_0 = self.md_page_size > MD_PAGE_BYTES_MIN;
        let in_mask = self.used_page_mask.start <= 1 && self.used_page_mask.end() > 1;
        (in_page_0 || in_mask).then_some(SUPER_BLOCK_COPY_OFFSET)
    }

    /// Where a cluster starts, in bytes from the start of the device.
    #[must_use]
    pub fn cluster_offset(&self, cluster: ClusterIdx) -> u64 {
        u64::from(cluster.0) * u64::from(self.cluster_size)
    }

    /// Where a mask is.
    #[must_use]
    pub fn mask(&self, kind: MaskKind) -> Region {
        match kind {
            MaskKind::MdPages => self.used_page_mask,
            MaskKind::Clusters => self.used_cluster_mask,
            MaskKind::BlobIds => self.used_blobid_mask,
        }
    }

    /// How many bits a mask has.
    #[must_use]
    pub fn mask_bits(&self, kind: MaskKind) -> u32 {
        match kind {
            MaskKind::MdPages | MaskKind::BlobIds => self.md_len,
            MaskKind::Clusters => self.total_clusters,
        }
    }

    /// Where a mask starts, in bytes from the start of the device.
    #[must_use]
    pub fn mask_offset(&self, kind: MaskKind) -> u64 {
        u64::from(self.mask(kind).start) * u64::from(self.md_page_size)
    }

    /// Bytes of a mask: whole md pages, as many as its bits take; 0 when the store has no such mask.
    ///
    /// SPDK makes the regions just as long. One that is longer than that has nothing of meaning in the rest.
    #[must_use]
    pub fn mask_bytes(&self, kind: MaskKind) -> usize {
        let pages = mask_pages(self.mask_bits(kind), self.md_page_size).min(self.mask(kind).len);
        pages as usize * self.md_page_size as usize
    }

    /// How many pages the cluster mask can have where it stands, before it runs into what follows.
    #[must_use]
    pub fn cluster_mask_room(&self) -> u32 {
        self.mask_room(MaskKind::Clusters)
    }

    /// Pages from the start of a mask to what follows it.
    fn mask_room(&self, kind: MaskKind) -> u32 {
        let start = self.mask(kind).start;
        let followers = MaskKind::ALL.map(|kind| self.mask(kind)).into_iter();
        let followers = followers.filter(|region| region.len > 0 && region.start > start);
        let end = followers.map(|region| region.start).min().unwrap_or(self.md_start);
        end.saturating_sub(start)
    }

    /// The most md pages that the masks of md pages and of blob ids can index where they stand: as far as the md region
    /// can grow.
    #[must_use]
    pub fn growable_md_pages(&self) -> u32 {
        let kinds = [MaskKind::MdPages, MaskKind::BlobIds].into_iter();
        let rooms = kinds.filter(|kind| self.mask(*kind).len > 0).map(|kind| self.mask_room(kind));
        let bits = rooms.map(|room| mask_bits(room, self.md_page_size)).min().unwrap_or(0);
        bits.min(NO_PAGE - 1).max(self.md_len)
    }

    /// The most clusters that the cluster mask can index where it stands, metadata included: as far as the store can
    /// grow, in SPDK too.
    #[must_use]
    pub fn growable_clusters(&self) -> u32 {
        mask_bits(self.cluster_mask_room(), self.md_page_size).min(u32::MAX - 1)
    }

    /// How large the store can grow, in bytes: [`Layout::growable_clusters`]. Saturates.
    #[must_use]
    pub fn growable_bytes(&self) -> u64 {
        u64::from(self.growable_clusters()).saturating_mul(self.cluster_size.into())
    }

    /// How large SPDK says that the store can grow, in bytes: as many clusters as fit a mask as long as that of the md
    /// pages. Saturates.
    #[must_use]
    pub fn max_growable_bytes(&self) -> u64 {
        let mask = u64::from(mask_pages(self.md_len, self.md_page_size)) * u64::from(self.md_page_size);
        ((mask - MASK_HEADER_BYTES as u64) * 8).saturating_mul(self.cluster_size.into())
    }
}

/// Whether an md page can have this size.
pub(crate) fn is_md_page_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (MD_PAGE_BYTES_MIN..=MD_PAGE_BYTES_MAX).contains(&bytes)
}

/// Whether an io unit can have this size: SPDK does not work on blocks above 4096 bytes.
pub(crate) fn is_io_unit_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (512..=4096).contains(&bytes)
}

/// Whether a cluster can have this size.
pub(crate) fn is_cluster_size(bytes: u32, md_page_size: u32) -> bool {
    bytes != 0 && bytes.is_multiple_of(MD_PAGE_BYTES_MIN) && bytes >= md_page_size
}

fn count_clusters(size_bytes: u64, cluster_size: u32) -> Result<u32, LayoutError> {
    let clusters = size_bytes / u64::from(cluster_size);
    match u32::try_from(clusters) {
        Ok(0) => Err(LayoutError::TooSmall { size_bytes, cluster_size }),
        Ok(count) if count < u32::MAX => Ok(count),
        _ => Err(LayoutError::TooManyClusters { clusters, cluster_size }),
    }
}

/// Pages of a mask of `bits` bits: at most 2^17 + 1.
fn mask_pages(bits: u32, md_page_size: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "5")]
    const HEADER: u32 = MASK_HEADER_BYTES as u32;
    // At most 2^29 bytes of bits, so the header cannot overflow.
    (bits.div_ceil(8) + HEADER).div_ceil(md_page_size)
}

/// Bits of a mask of so many pages. Saturates.
fn mask_bits(pages: u32, md_page_size: u32) -> u32 {
    let bytes = (u64::from(pages) * u64::from(md_page_size)).saturating_sub(MASK_HEADER_BYTES as u64);
    u32::try_from(bytes.saturating_mul(8)).unwrap_or(u32::MAX)
}

fn metadata_clusters(md_start: u32, md_len: u32, cluster_size: u32, md_page_size: u32) -> u64 {
    Region { start: md_start, len: md_len }.end().div_ceil((cluster_size / md_page_size).into())
}

#[cfg(test)]
mod tests;
