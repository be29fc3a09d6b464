//! Md pages without a good checksum: what they may have been.
//!
//! Nothing of such a page is believed. But a device writes 512 bytes as a whole, so each sector of a page that was torn
//! is that of some version of it, and the first one holds what tells a root from other pages.

use crate::md_page_header::DESCRIPTORS_OFFSET;
use crate::{BlobId, DESCRIPTORS_BYTES, DescriptorKind, InvalidFlags, MD_STRUCT_BYTES, MdPageIdx};

/// What a device writes as a whole, in bytes.
const SECTOR_BYTES: usize = 512;

/// Payload of a FLAGS descriptor in bytes, which every root has first.
const FLAGS_BYTES: u32 = 24;

/// What an md page without a good checksum may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TornPage {
    /// A page that was never written in full, or is half erased: its first or its last sector is zeros, which those of
    /// no written page are. What it describes never came to be, or is gone.
    Unfinished,
    /// The root of the blob that belongs there.
    Root {
        /// Whether the map is surely an EXTENT_TABLE: then everything that the blob owns is named by extent pages.
        has_table: bool,
    },
    /// An extent page, or a page of the chain of a blob whose root is elsewhere.
    Other,
    /// Nothing can be told.
    Unrecognised,
}

impl TornPage {
    /// For the page at `at`, whose bytes are the first 4096 of `bytes`.
    #[must_use]
    pub fn of(at: MdPageIdx, bytes: &[u8]) -> Self {
        let Some(page) = bytes.first_chunk::<MD_STRUCT_BYTES>() else {
            return Self::Unrecognised;
        };
        let is_zero = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
        if is_zero(&page[..SECTOR_BYTES]) || is_zero(&page[MD_STRUCT_BYTES - SECTOR_BYTES..]) {
            return Self::Unfinished;
        }
        let (id, sequence) = (BlobId(le64(page, 0)), le32(page, 8));
        let descriptors = &page[DESCRIPTORS_OFFSET..DESCRIPTORS_OFFSET + DESCRIPTORS_BYTES];
        let first = DescriptorKind(descriptors[0]);
        match sequence {
            0 if id == BlobId::from_root(at) => Self::Root { has_table: has_table(descriptors) },
            0 if id.is_valid() && first == DescriptorKind::EXTENT_PAGE => Self::Other,
            // Longer chains than this there are none: a page holds hundreds of entries.
            1..0x10_0000 if id.is_valid() && id != BlobId::from_root(at) => Self::Other,
            _ => Self::Unrecognised,
        }
    }
}

/// Whether flags and descriptors both say that the map is a table. A walk along descriptors that may be of two versions
/// ends where their lengths make no sense.
fn has_table(descriptors: &[u8]) -> bool {
    let flags = InvalidFlags::from_bits_retain(le64(descriptors, 5));
    let is_flags =
        DescriptorKind(descriptors[0]) == DescriptorKind::FLAGS && le32(descriptors, 1) == FLAGS_BYTES;
    let (mut has_table, mut has_runs) = (false, false);
    let mut rest = descriptors;
    while let [kind, tail @ ..] = rest
        && *kind != 0
    {
        has_table |= DescriptorKind(*kind) == DescriptorKind::EXTENT_TABLE;
        has_runs |= DescriptorKind(*kind) == DescriptorKind::EXTENT_RLE;
        let len = tail.first_chunk().map_or(u32::MAX, |len| u32::from_le_bytes(*len));
        let end = usize::try_from(len).ok().and_then(|len| len.checked_add(4));
        let Some(next) = end.and_then(|end| tail.get(end..)) else { break };
        rest = next;
    }
    is_flags && flags.contains(InvalidFlags::EXTENT_TABLE) && has_table && !has_runs
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlobMd, ClusterIdx, ExtentPage, Flags, MapMd, Run};
    use alloc::vec;

    const AT: MdPageIdx = MdPageIdx(4);

    fn root(map: MapMd) -> [u8; MD_STRUCT_BYTES] {
        let table = matches!(map, MapMd::Table { .. });
        let mut flags = Flags::default();
        flags.invalid.insert(InvalidFlags::THIN_PROV);
        flags.invalid.set(InvalidFlags::EXTENT_TABLE, table);
        let blob = BlobMd {
            id: BlobId::from_root(AT),
            flags,
            xattrs: vec![],
            internal_xattrs: vec![],
            native: None,
            map,
            unknown: vec![],
        };
        blob.encode_chain(&[AT])[0]
    }

    #[test]
    fn tells_what_a_page_may_have_been() {
        let table = root(MapMd::Table { num_clusters: 600, pages: vec![Some(MdPageIdx(9)), None] });
        let runs = root(MapMd::Rle(vec![Run { cluster: Some(ClusterIdx(7)), length: 600 }]));
        let extents = ExtentPage { id: BlobId::from_root(AT), start: 0, clusters: vec![None; 512] }.encode();
        let mut half_new = table;
        half_new[2048..].fill(0);
        let mut half_erased = table;
        half_erased[..2048].fill(0);
        let mut strange = table;
        strange[1] ^= 1;
        let mut wrong_flag = runs;
        wrong_flag[DESCRIPTORS_OFFSET + 5] |= 4;
        let cases = [
            (AT, table, TornPage::Root { has_table: true }),
            (AT, runs, TornPage::Root { has_table: false }),
            (AT, wrong_flag, TornPage::Root { has_table: false }),
            (AT, half_new, TornPage::Unfinished),
            (AT, half_erased, TornPage::Unfinished),
            (AT, strange, TornPage::Unrecognised),
            (MdPageIdx(9), extents, TornPage::Other),
            (AT, [7; MD_STRUCT_BYTES], TornPage::Unrecognised),
        ];
        for (number, (at, page, expected)) in cases.into_iter().enumerate() {
            assert_eq!(TornPage::of(at, &page), expected, "case {number}");
        }
        assert_eq!(TornPage::of(AT, &[]), TornPage::Unrecognised);
    }
}
