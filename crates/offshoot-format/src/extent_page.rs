//! Extent pages: the physical clusters of 512 consecutive clusters of a blob.

use crate::descriptor::split_extent_page;
use crate::md_page::sole_descriptor;
use crate::piece::{Piece, write_page};
use crate::{
    BlobId, CLUSTERS_PER_EXTENT_PAGE, ClusterIdx, Damage, DescriptorKind, ExtentOrdinal, Fault, MdPageHeader,
    MdPageIdx, PageImage,
};
use alloc::vec::Vec;

/// An extent page: EXTENT_PAGE as the only descriptor of an md page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentPage {
    /// The blob that wrote it last. Not necessarily the owner: snapshots and their deletion move extent pages between
    /// blobs by pointer.
    pub id: BlobId,
    /// The first cluster of the blob that it maps: 512 times its ordinal.
    pub start: u32,
    /// Physical clusters, `None` where unallocated. Shorter than 512 on the last page of a blob only.
    pub clusters: Vec<Option<ClusterIdx>>,
}

impl ExtentPage {
    /// The extent page at `at`, which must map `expected_len` clusters from the start of `ordinal` on.
    ///
    /// # Errors
    /// Whatever [`ExtentPage::decode_as_found`] refuses, another start and another length.
    pub fn decode(
        at: MdPageIdx,
        bytes: &[u8],
        ordinal: ExtentOrdinal,
        expected_len: usize,
    ) -> Result<Self, Damage> {
        let page = Self::decode_as_found(at, bytes)?;
        page.verify(at, ordinal, expected_len)?;
        Ok(page)
    }

    /// Whether this, found at `at`, is the extent page of that ordinal and maps as many clusters as it should.
    ///
    /// # Errors
    /// It starts at another cluster, or maps more or fewer.
    pub fn verify(&self, at: MdPageIdx, ordinal: ExtentOrdinal, expected_len: usize) -> Result<(), Damage> {
        let what = if u64::from(self.start) != ordinal.first_cluster().0 {
            Fault::ExtentStart { stored: self.start, expected: ordinal.first_cluster().0 }
        } else if self.clusters.len() != expected_len {
            Fault::ExtentLength { stored: self.clusters.len(), expected: expected_len }
        } else {
            return Ok(());
        };
        Err(Damage::in_md_page(at, what))
    }

    /// The extent page at `at`, wherever it belongs and however many clusters it maps (0 to 512).
    ///
    /// For the recovery of dirty stores: SPDK rewrites extent pages in place before the root that tells their length, so
    /// a resize that was cut leaves a page that is longer or shorter than its blob says.
    ///
    /// # Errors
    /// A bad checksum, another kind of page, more descriptors than one, and more than 512 clusters.
    pub fn decode_as_found(at: MdPageIdx, bytes: &[u8]) -> Result<Self, Damage> {
        let (header, payload) = sole_descriptor(at, bytes, DescriptorKind::EXTENT_PAGE)?;
        let (start, clusters) = split_extent_page(payload).map_err(|what| Damage::in_md_page(at, what))?;
        if clusters.len() > CLUSTERS_PER_EXTENT_PAGE {
            let what = Fault::ExtentLength { stored: clusters.len(), expected: CLUSTERS_PER_EXTENT_PAGE };
            return Err(Damage::in_md_page(at, what));
        }
        let clusters = clusters.iter().map(|cluster| Some(ClusterIdx(cluster.get())).filter(|c| c.0 != 0));
        Ok(Self { id: BlobId(header.id), start, clusters: clusters.collect() })
    }

    /// Which extent page of its blob this is, `None` when it starts where none does.
    #[must_use]
    pub fn ordinal(&self) -> Option<ExtentOrdinal> {
        let per_page = CLUSTERS_PER_EXTENT_PAGE as u64;
        let start = u64::from(self.start);
        start.is_multiple_of(per_page).then(|| ExtentOrdinal::of(crate::BlobCluster(start)).0)
    }

    /// The md page.
    ///
    /// # Panics
    /// On more than 512 clusters.
    #[must_use]
    pub fn encode(&self) -> PageImage {
        let mut clusters = [0; CLUSTERS_PER_EXTENT_PAGE];
        let clusters = &mut clusters[..self.clusters.len()];
        for (raw, cluster) in clusters.iter_mut().zip(&self.clusters) {
            *raw = cluster.map_or(0, |cluster| cluster.0);
        }
        let header = MdPageHeader { id: self.id.0, sequence: 0, next: None };
        write_page(header, [Piece::ExtentPage { start: self.start, clusters }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Descriptor, Flags, MdPage};
    use alloc::vec;

    const AT: MdPageIdx = MdPageIdx(9);

    fn page(start: u32, len: usize) -> ExtentPage {
        let cluster = |slot: u32| (!slot.is_multiple_of(3)).then_some(ClusterIdx(77 + slot));
        let clusters = (0..).map(cluster).take(len).collect();
        ExtentPage { id: BlobId(0x1_0000_0004), start, clusters }
    }

    #[test]
    fn round_trips() {
        for (start, len, ordinal) in [(0, 512, 0), (512, 1, 1), (u32::MAX - 511, 512, (1 << 23) - 1)] {
            let sample = page(start, len);
            let image = sample.encode();
            assert_eq!(ExtentPage::decode(AT, &image, ExtentOrdinal(ordinal), len), Ok(sample.clone()));
            assert_eq!(sample.ordinal(), Some(ExtentOrdinal(ordinal)));
            assert_eq!(MdPage::decode(AT, &image).map(|page| page.encode()), Ok(image));
        }
        assert_eq!(page(1, 1).ordinal(), None);
    }

    #[test]
    fn tells_wrong_places_and_lengths() {
        let image = page(512, 7).encode();
        let decode = |ordinal, len| {
            ExtentPage::decode(AT, &image, ExtentOrdinal(ordinal), len).map_err(|damage| damage.what)
        };
        assert_eq!(decode(2, 7), Err(Fault::ExtentStart { stored: 512, expected: 1024 }));
        assert_eq!(decode(1, 8), Err(Fault::ExtentLength { stored: 7, expected: 8 }));
        assert_eq!(ExtentPage::decode_as_found(AT, &image), Ok(page(512, 7)));
    }

    #[test]
    fn refuses_other_pages() {
        let extents = |len| Descriptor::ExtentPage { start: 0, clusters: vec![1; len] };
        let kind = DescriptorKind::EXTENT_PAGE;
        let cases = [
            (0, None, vec![extents(513)], Fault::ExtentLength { stored: 513, expected: 512 }),
            (1, None, vec![extents(1)], Fault::Sequence { stored: 1, expected: 0 }),
            (0, Some(MdPageIdx(3)), vec![extents(1)], Fault::Link { stored: 3, expected: u32::MAX }),
            (0, None, vec![], Fault::NoDescriptor { kind }),
            (0, None, vec![Descriptor::Flags(Flags::default())], Fault::NoDescriptor { kind }),
            (0, None, vec![extents(1), extents(1)], Fault::Misplaced { kind }),
        ];
        for (sequence, next, descriptors, what) in cases {
            let image = MdPage { id: 4, sequence, next, descriptors }.encode();
            assert_eq!(ExtentPage::decode_as_found(AT, &image), Err(Damage::in_md_page(AT, what)));
        }
    }
}
