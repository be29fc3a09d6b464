//! Md pages without a good checksum: what they may have been.
//!
//! Nothing of such a page is believed. But a device writes 512 bytes as a whole, so each sector of a page that was torn
//! is that of some version of it, and the first one holds what tells a root from other pages.

use crate::checksum::seal_page;
use crate::md_page_header::DESCRIPTORS_OFFSET;
use crate::piece::Piece;
use crate::{
    BlobId, BlobMd, DESCRIPTORS_BYTES, DataRoFlags, Descriptor, DescriptorKind, InvalidFlags,
    MD_STRUCT_BYTES, MdPage, MdPageIdx, NO_PAGE, PageImage, XATTR_SNAPTMP, Xattr, blob_id_value,
};

/// What a device writes as a whole, in bytes.
const SECTOR_BYTES: usize = 512;

/// Payload of a FLAGS descriptor in bytes, which every root has first.
const FLAGS_BYTES: u32 = 24;

/// More internal xattrs than this SPDK gives to no blob: there are five names that it knows.
const INTERNAL_XATTRS_MAX: usize = 8;

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

/// The root page of a snapshot of `origin`, at `at`, which was torn while SPDK wrote the last thing that makes it one:
/// its mark `SNAPTMP` goes, `READ_ONLY` comes. First come sectors of the new page, then those of the old one, whose
/// checksum is the last of them. What the old page was follows from the new one: if its sectors and its checksum are
/// exactly what the page ends with, nothing of either is in doubt, and the new page is what this gives.
///
/// Nothing is taken for a snapshot that has more internal xattrs than any of SPDK's. The work is bounded, whatever the
/// page says.
#[must_use]
pub fn mend_torn_snapshot(at: MdPageIdx, bytes: &[u8], origin: BlobId) -> Option<PageImage> {
    let page = bytes.first_chunk::<MD_STRUCT_BYTES>()?;
    (SECTOR_BYTES..MD_STRUCT_BYTES).step_by(SECTOR_BYTES).find_map(|new_bytes| {
        let mut image = [0; MD_STRUCT_BYTES];
        image[..new_bytes].copy_from_slice(&page[..new_bytes]);
        image[MD_STRUCT_BYTES - 8..MD_STRUCT_BYTES - 4].copy_from_slice(&NO_PAGE.to_le_bytes());
        seal_page(&mut image);
        let snapshot = MdPage::decode(at, &image).ok()?;
        let image = proven(snapshot, origin, |old| old[new_bytes..] == page[new_bytes..])?;
        let new = BlobMd::decode_chain(&[(at, &image)]).ok()?;
        let is_finished = new.flags.data_ro.contains(DataRoFlags::READ_ONLY) && new.transition().is_none();
        is_finished.then_some(image)
    })
}

/// The page of a finished snapshot, if one of the pages that it may have been before its last write is the one that is
/// meant. SPDK appends internal xattrs, and its flag for them came with the origin's, or not.
fn proven(snapshot: MdPage, origin: BlobId, is_old: impl Fn(PageImage) -> bool) -> Option<PageImage> {
    let mut old = snapshot;
    let before = |descriptor: &&Descriptor| matches!(descriptor, Descriptor::Flags(_) | Descriptor::Xattr(_));
    let first = old.descriptors.iter().take_while(before).count();
    let is_internal = |descriptor: &&Descriptor| matches!(descriptor, Descriptor::XattrInternal(_));
    let internal = old.descriptors[first..].iter().take_while(is_internal).count();
    let is_map = |descriptor: &Descriptor| {
        matches!(descriptor, Descriptor::ExtentTable { .. } | Descriptor::ExtentRle(_))
    };
    let mark = Xattr::new(XATTR_SNAPTMP, blob_id_value(origin));
    let bytes = old.descriptors.iter().map(|descriptor| descriptor.as_piece().len()).sum::<usize>();
    if internal > INTERNAL_XATTRS_MAX
        || !old.descriptors[first + internal..].iter().all(is_map)
        || bytes + Piece::XattrInternal(&mark).len() > DESCRIPTORS_BYTES
    {
        return None;
    }
    // Without what stood in reserved bytes, of which nothing is proven.
    let finished = old.encode();
    for (place, is_flagged) in (first..=first + internal).flat_map(|place| [(place, false), (place, true)]) {
        let Some(Descriptor::Flags(flags)) = old.descriptors.first_mut() else { return None };
        flags.data_ro.remove(DataRoFlags::READ_ONLY);
        flags.invalid.set(InvalidFlags::INTERNAL_XATTR, is_flagged);
        old.descriptors.insert(place, Descriptor::XattrInternal(mark.clone()));
        if is_old(old.encode()) {
            return Some(finished);
        }
        old.descriptors.remove(place);
    }
    None
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
    fn a_snapshot_torn_at_the_end_of_its_making_is_whole_again() {
        let origin = BlobId::from_root(MdPageIdx(1));
        let map = MapMd::Table { num_clusters: 600, pages: vec![Some(MdPageIdx(9)), None] };
        let mut finished = BlobMd::decode_chain(&[(AT, &root(map))]).unwrap();
        finished.flags.data_ro.insert(DataRoFlags::READ_ONLY);
        finished.xattrs.push(Xattr::new("name", vec![b's'; 64]));
        finished
            .internal_xattrs
            .push(Xattr::new(crate::XATTR_SNAP, blob_id_value(BlobId::from_root(MdPageIdx(2)))));
        let new = finished.encode_chain(&[AT])[0];
        for (place, is_flagged) in [(0, false), (0, true), (1, false), (1, true)] {
            let mut old = finished.clone();
            old.flags.data_ro.remove(DataRoFlags::READ_ONLY);
            old.flags.invalid.set(InvalidFlags::INTERNAL_XATTR, is_flagged);
            old.internal_xattrs.insert(place, Xattr::new(XATTR_SNAPTMP, blob_id_value(origin)));
            let old = old.encode_chain(&[AT])[0];
            for sectors in 1..8 {
                let mut torn = old;
                torn[..sectors * SECTOR_BYTES].copy_from_slice(&new[..sectors * SECTOR_BYTES]);
                assert_eq!(mend_torn_snapshot(AT, &torn, origin), Some(new), "{sectors} sectors");
                assert_eq!(
                    mend_torn_snapshot(AT, &torn, BlobId::from_root(MdPageIdx(3))),
                    None,
                    "of another"
                );
                for bit in (0..8 * MD_STRUCT_BYTES).step_by(61) {
                    torn[bit / 8] ^= 1 << (bit % 8);
                    let mended = mend_torn_snapshot(AT, &torn, origin);
                    assert!(mended.is_none_or(|image| image == new), "{sectors} sectors, bit {bit}");
                    torn[bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
        assert_eq!(mend_torn_snapshot(AT, &[], origin), None);
    }

    /// A table of a few bytes may stand for millions of extent pages: it is not looked at before all else fits.
    #[test]
    fn what_cannot_be_a_snapshot_costs_little() {
        let origin = BlobId::from_root(MdPageIdx(1));
        let pages = vec![None; crate::EXTENT_PAGES_MAX as usize];
        let map = MapMd::Table { num_clusters: crate::BLOB_CLUSTERS_MAX, pages };
        let mut snapshot = BlobMd::decode_chain(&[(AT, &root(map))]).unwrap();
        snapshot.flags.data_ro.insert(DataRoFlags::READ_ONLY);
        for xattrs in [1, 8, 200] {
            snapshot.internal_xattrs = (0..xattrs).map(|name: u8| Xattr::new([name], [1])).collect();
            let mut torn = snapshot.encode_chain(&[AT])[0];
            torn[4090] ^= 0x55;
            for _ in 0..300 {
                assert_eq!(mend_torn_snapshot(AT, &torn, origin), None, "{xattrs} xattrs");
            }
        }
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
