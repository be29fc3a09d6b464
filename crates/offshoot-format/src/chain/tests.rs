use super::*;
use crate::{
    BlobCluster, ClusterIdx, DescriptorKind, ExtentOrdinal, InvalidFlags, Place, Run, XATTR_BYTES_MAX,
    blob_id_value,
};
use alloc::vec;

const ROOT: MdPageIdx = MdPageIdx(7);

fn blob(map: MapMd) -> BlobMd {
    BlobMd {
        id: BlobId::from_root(ROOT),
        flags: Flags { invalid: InvalidFlags::THIN_PROV, ..Flags::default() },
        xattrs: vec![],
        internal_xattrs: vec![],
        native: None,
        map,
        unknown: vec![],
    }
}

fn rle(count: u32) -> MapMd {
    MapMd::Rle((0..count).map(|run| Run { cluster: Some(ClusterIdx(1 + 2 * run)), length: 1 }).collect())
}

fn table(count: u32) -> MapMd {
    let pages = (0..count).map(|page| Some(MdPageIdx(100 + page))).collect();
    MapMd::Table { num_clusters: u64::from(count) * 512, pages }
}

fn native(count: u32) -> NativeBlob {
    let layer_pages = (0..count).map(|page| (ExtentOrdinal(page), MdPageIdx(100 + page))).collect();
    NativeBlob { dying: false, outdated: false, inherit_len: 9, layer_pages }
}

fn decode(pages: &[(MdPageIdx, PageImage)]) -> Result<BlobMd, Damage> {
    let pages: Vec<_> = pages.iter().map(|(at, image)| (*at, image.as_slice())).collect();
    BlobMd::decode_chain(&pages)
}

fn chain_of(len: usize) -> Vec<MdPageIdx> {
    // Not in ascending order, as in a store where pages have come and gone.
    core::iter::once(ROOT).chain((0..).map(|page| MdPageIdx(500 - page))).take(len).collect()
}

fn encode(blob: &BlobMd) -> Vec<(MdPageIdx, PageImage)> {
    let chain = chain_of(blob.chain_len());
    let images = blob.encode_chain(&chain);
    chain.into_iter().zip(images).collect()
}

#[test]
fn pages_are_filled_to_the_last_entry() {
    // FLAGS takes 29 bytes of the root, so 4043 are left there and 4072 on each further page.
    let table_of = [(0, 1), (503, 1), (504, 2), (503 + 507, 2), (504 + 507, 3)];
    for (entries, len) in table_of {
        assert_eq!(blob(table(entries)).chain_len(), len, "table of {entries}");
    }
    for (runs, len) in [(0, 1), (504, 1), (505, 2), (504 + 508, 2), (505 + 508, 3)] {
        assert_eq!(blob(rle(runs)).chain_len(), len, "{runs} runs");
    }
    for (pages, len) in [(0, 1), (502, 1), (503, 2), (502 + 506, 2), (503 + 506, 3)] {
        let blob = BlobMd { native: Some(native(pages)), ..blob(MapMd::Rle(vec![])) };
        assert_eq!(blob.chain_len(), len, "{pages} layer pages");
    }
}

#[test]
fn round_trips() {
    let full = BlobMd {
        xattrs: vec![Xattr::new(*b"name", [b'x'; 64]), Xattr::new(*b"big", vec![9; XATTR_BYTES_MAX - 3])],
        internal_xattrs: vec![Xattr::new(XATTR_SNAP, blob_id_value(BlobId(0x1_0000_0001)))],
        native: Some(native(1200)),
        unknown: vec![(0x90, vec![1; 4067]), (0x91, vec![])],
        ..blob(table(1200))
    };
    for sample in [full, blob(rle(0)), blob(rle(2000)), blob(table(0)), blob(table(2000))] {
        let pages = encode(&sample);
        assert_eq!(decode(&pages), Ok(sample));
    }
}

#[test]
fn absent_extent_pages_share_an_entry() {
    let mut pages = vec![None; 1 << 20];
    pages[1 << 19] = Some(MdPageIdx(3));
    let sparse = blob(MapMd::Table { num_clusters: (1 << 29) - 5, pages });
    assert_eq!(sparse.chain_len(), 1);
    assert_eq!(decode(&encode(&sparse)), Ok(sparse));
}

#[test]
fn leads_along_the_chain() {
    let pages = encode(&blob(rle(1200)));
    let links: Vec<_> = pages.iter().map(|(at, image)| BlobMd::next_of(*at, image).unwrap()).collect();
    assert_eq!(links, [Some(MdPageIdx(500)), Some(MdPageIdx(499)), None]);
    let roots: Vec<_> = pages.iter().map(|(at, image)| BlobMd::is_root(*at, image)).collect();
    assert_eq!(roots, [true, false, false]);
    assert!(!BlobMd::is_root(MdPageIdx(8), &pages[0].1));
    assert!(!BlobMd::is_root(MdPageIdx(0), &[0; 4096]));
}

#[test]
fn refuses_broken_chains() {
    let pages = encode(&blob(rle(1200)));
    let id = BlobId::from_root(ROOT).0;
    let at = |index: usize, what| Err(Damage::in_md_page(pages[index].0, what));

    let shifted = [(MdPageIdx(8), pages[0].1)];
    let owner = Fault::Owner { stored: id, expected: BlobId::from_root(MdPageIdx(8)).0 };
    assert_eq!(decode(&shifted), Err(Damage::in_md_page(MdPageIdx(8), owner)));

    assert_eq!(decode(&pages[..2]), at(1, Fault::Link { stored: 499, expected: u32::MAX }));
    let skipped = [pages[0], pages[2]];
    assert_eq!(decode(&skipped), at(0, Fault::Link { stored: 500, expected: 499 }));
    let repeated = [pages[0], (pages[1].0, pages[2].1)];
    assert_eq!(decode(&repeated), at(1, Fault::Sequence { stored: 2, expected: 1 }));

    let mut torn = pages.clone();
    torn[1].1[2048..].fill(0);
    let crc = decode(&torn).unwrap_err();
    assert!(matches!(crc.what, Fault::Crc { stored: 0, .. }));
    assert_eq!(crc.at, Place::MdPage(pages[1].0));
}

#[test]
fn refuses_contents() {
    let flags = Descriptor::Flags(Flags::default());
    let runs = |cluster| Descriptor::ExtentRle(vec![Run { cluster, length: 2 }]);
    let table = Descriptor::ExtentTable { num_clusters: 0, entries: vec![] };
    let hole = TableEntry { page: None, count: 1 };
    let holes = Descriptor::ExtentTable { num_clusters: 3, entries: vec![hole] };
    let extents = Descriptor::ExtentPage { start: 0, clusters: vec![1] };
    let thin = Descriptor::Flags(Flags { invalid: InvalidFlags::THIN_PROV, ..Flags::default() });
    let snap = Descriptor::XattrInternal(Xattr::new(XATTR_SNAP, [1; 7]));
    let some = Some(ClusterIdx(5));
    let cases = [
        (vec![flags.clone(), flags.clone()], Fault::Repeated { kind: DescriptorKind::FLAGS }),
        (vec![flags.clone(), extents], Fault::Misplaced { kind: DescriptorKind::EXTENT_PAGE }),
        (vec![flags.clone(), runs(some), table], Fault::MixedMaps),
        (vec![flags.clone(), runs(some), runs(None)], Fault::Hole { cluster: BlobCluster(2) }),
        (vec![flags, holes], Fault::Hole { cluster: BlobCluster(0) }),
        (vec![thin, snap], Fault::XattrSize { name: "SNAP", length: 7, min: 8, max: 8 }),
    ];
    for (descriptors, what) in cases {
        let page = MdPage { id: BlobId::from_root(ROOT).0, sequence: 0, next: None, descriptors };
        assert_eq!(decode(&[(ROOT, page.encode())]), Err(Damage::in_md_page(ROOT, what)));
    }
}

#[test]
fn flags_stand_in_the_root_or_nowhere() {
    let id = BlobId::from_root(ROOT).0;
    let page = |sequence, next, descriptors| MdPage { id, sequence, next, descriptors }.encode();
    let flags = Descriptor::Flags(Flags::default());
    let old = decode(&[(ROOT, page(0, None, vec![]))]).unwrap();
    assert_eq!((old.flags, old.map), (Flags::default(), MapMd::Rle(vec![])));
    let second = MdPageIdx(9);
    let late = [(ROOT, page(0, Some(second), vec![])), (second, page(1, None, vec![flags]))];
    let what = Fault::Misplaced { kind: DescriptorKind::FLAGS };
    assert_eq!(decode(&late), Err(Damage::in_md_page(second, what)));
}

#[test]
#[should_panic(expected = "md pages for blob")]
fn does_not_write_into_too_few_pages() {
    let _ = blob(rle(1200)).encode_chain(&chain_of(2));
}

#[test]
#[should_panic(expected = "XATTR of 4073 bytes")]
fn does_not_write_an_xattr_that_fits_nowhere() {
    let xattr = Xattr::new(*b"big", vec![9; XATTR_BYTES_MAX - 2]);
    assert!(!xattr.fits());
    let _ = BlobMd { xattrs: vec![xattr], ..blob(rle(0)) }.chain_len();
}
