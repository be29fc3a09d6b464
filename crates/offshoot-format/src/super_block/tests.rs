use super::*;
use crate::native::sample_header;
use crate::{JournalArea, LayoutParams, MaskKind, MaskRoom, MdPageIdx};

const GIB: u64 = 1 << 30;

type Edit = fn(&mut PageImage);

fn layout() -> Layout {
    let params = LayoutParams {
        size_bytes: GIB,
        cluster_size: 1 << 20,
        io_unit_size: 512,
        md_page_size: 4096,
        md_len: 2048,
        room: MaskRoom::default(),
    };
    Layout::plan(&params).unwrap()
}

fn sample() -> SuperBlock {
    SuperBlock { super_blob: Some(BlobId(1 << 32)), ..SuperBlock::create(&layout()) }
}

fn native() -> SuperBlock {
    SuperBlock { version: NATIVE_VERSION, native: Some(sample_header()), ..sample() }
}

/// Decodes what `edit` makes of the bytes of `super_block`, with a good checksum.
fn decode_edited(super_block: &SuperBlock, edit: impl FnOnce(&mut PageImage)) -> Result<SuperBlock, Fault> {
    let mut image = super_block.encode();
    edit(&mut image);
    seal_page(&mut image);
    SuperBlock::decode(&image).map_err(|damage| damage.what)
}

/// A super block that was published in a bug report against SPDK (issue 944).
#[test]
fn published_vector() {
    let region = |start, len| Region { start, len };
    let published = SuperBlock {
        version: 3,
        length: 0x1000,
        clean: 1,
        super_blob: Some(BlobId(0x1_0000_0000)),
        cluster_size: 0x40_0000,
        used_page_mask: region(1, 12),
        used_cluster_mask: region(13, 12),
        md_start: 37,
        md_len: 381_546,
        bstype: BSTYPE_LVOLSTORE,
        used_blobid_mask: region(25, 12),
        size_bytes: 1_600_321_314_816,
        io_unit_size: 512,
        md_page_size: 0,
        native: None,
        reserved: Reserved::default(),
    };
    let image = published.encode();
    assert_eq!(image[0xffc..], 0x2da8_4daa_u32.to_le_bytes());
    assert_eq!(SuperBlock::decode(&image), Ok(published.clone()));
    let layout = published.layout(published.size_bytes + 1).unwrap();
    assert_eq!(layout.md_page_size, 4096);
    assert_eq!(layout.mask_bytes(MaskKind::Clusters), 12 * 4096);
    assert!(published.is_clean());
}

#[test]
fn a_plan_is_a_layout() {
    let layout = layout();
    assert_eq!(SuperBlock::create(&layout).layout(GIB), Ok(layout.clone()));
    assert_eq!(SuperBlock::create(&layout).layout(2 * GIB), Ok(layout));
}

#[test]
fn old_stores_get_defaults() {
    let old = SuperBlock {
        version: 1,
        bstype: [0; 16],
        size_bytes: 0,
        io_unit_size: 0,
        md_page_size: 0,
        used_blobid_mask: Region::default(),
        ..sample()
    };
    let decoded = SuperBlock::decode(&old.encode()).unwrap();
    assert_eq!(decoded, old);
    let filled = decoded.layout(GIB).unwrap();
    assert_eq!((filled.size_bytes, filled.io_unit_size, filled.md_page_size), (GIB, 4096, 4096));
    assert_eq!(decoded.layout(4096), Err(Damage::in_super_block(Fault::ClusterSize { stored: 1 << 20 })));
}

/// An absent mask behind the md region once let the cluster mask grow into it.
#[test]
fn an_absent_mask_bounds_nothing() {
    let old = SuperBlock { used_blobid_mask: Region { start: 5000, len: 0 }, ..sample() };
    let layout = old.layout(GIB).unwrap();
    assert_eq!(layout.used_blobid_mask, Region::default());
    assert_eq!(layout.cluster_mask_room(), layout.md_start - layout.used_cluster_mask.start);
    assert_eq!(SuperBlock::decode(&old.encode()), Ok(old));
}

#[test]
fn refuses_in_order() {
    let cases: [(Edit, Fault); 4] = [
        (|image| image[8] = 4, Fault::Version { stored: 4 }),
        (|image| image[0] = b'X', Fault::Signature { stored: *b"XPDKBLOB" }),
        (|image| image[0x38] = b'X', Fault::StoreType { stored: *b"XVOLSTORE\0\0\0\0\0\0\0" }),
        (|image| image[0x38..0x48].fill(0), Fault::StoreType { stored: [0; 16] }),
    ];
    for (edit, fault) in cases {
        assert_eq!(decode_edited(&sample(), edit), Err(fault));
    }
    assert!(decode_edited(&sample(), |image| image[8] = 1).is_ok(), "version 1 with a type");
    let mut image = sample().encode();
    image[100] = 1;
    let torn = SuperBlock::decode(&image).map_err(|damage| damage.what);
    assert!(matches!(torn, Err(Fault::Crc { .. })));
    let short = SuperBlock::decode(&image[..512]).map_err(|damage| damage.what);
    assert_eq!(short, Err(Fault::Short { len: 512, needed: 4096 }));
}

#[test]
fn refuses_sizes() {
    let decode = |edit: fn(&mut SuperBlock)| {
        let mut super_block = sample();
        edit(&mut super_block);
        SuperBlock::decode(&super_block.encode()).map_err(|damage| damage.what).unwrap_err()
    };
    assert_eq!(decode(|sb| sb.cluster_size = 0), Fault::ClusterSize { stored: 0 });
    assert_eq!(decode(|sb| sb.cluster_size = 4097), Fault::ClusterSize { stored: 4097 });
    assert_eq!(decode(|sb| sb.cluster_size = 1 << 31), Fault::ClusterSize { stored: 1 << 31 });
    assert_eq!(decode(|sb| sb.md_page_size = 512), Fault::MdPageSize { stored: 512 });
    assert_eq!(decode(|sb| sb.md_page_size = 1 << 21), Fault::MdPageSize { stored: 1 << 21 });
    assert_eq!(decode(|sb| sb.io_unit_size = 520), Fault::IoUnitSize { stored: 520 });
    assert_eq!(decode(|sb| sb.size_bytes = u64::MAX), Fault::ClusterCount { clusters: u64::MAX >> 20 });
    let device = Damage::in_super_block(Fault::DeviceSize { stored: GIB, device: GIB - 1 });
    assert_eq!(sample().layout(GIB - 1), Err(device));
}

#[test]
fn keeps_reserved_bytes() {
    for super_block in [sample(), native()] {
        let kept = decode_edited(&super_block, |image| image[0x100..0x108].fill(7)).unwrap();
        assert_eq!(kept.native, super_block.native);
        assert!(!kept.reserved.is_zero());
        assert_eq!(kept.encode()[0x100..0x108], [7; 8]);
    }
    // Bytes where our header would be, in a store that never was ours, are somebody else's.
    let kept = decode_edited(&sample(), |image| image[0x60..0x64].fill(7)).unwrap();
    assert_eq!(kept.encode()[0x60..0x64], [7; 4]);
}

#[test]
fn sealing_leaves_nothing_behind() {
    let open = SuperBlock::decode(&native().encode()).unwrap();
    assert_eq!(open, native());
    assert!(open.is_native());
    let clean = SuperBlock { clean: 1, ..sample() };
    assert_eq!(open.sealed(), clean);
    assert_eq!(open.sealed().encode(), clean.encode());
    assert_eq!(sample().sealed(), clean);
}

/// Bytes of others where our header comes to stand are lost when the store is opened, not first when it is sealed.
#[test]
fn a_header_does_not_come_back_from_the_reserved_bytes() {
    let foreign = decode_edited(&sample(), |image| image[0x60..0x100].fill(7)).unwrap();
    let open = SuperBlock { version: NATIVE_VERSION, native: Some(sample_header()), ..foreign };
    assert_eq!(SuperBlock::decode(&open.encode()).unwrap().sealed(), open.sealed());
    assert_eq!(open.sealed().encode()[0x60..0xfc], [0; 0x9c]);
    assert_eq!(open.sealed().encode()[0xfc..0x100], [7; 4]);
}

#[test]
fn a_native_version_needs_its_header() {
    let bare = SuperBlock { version: NATIVE_VERSION, ..sample() };
    assert_eq!(decode_edited(&bare, |_| ()), Err(Fault::NativeHeaderMissing));
    let crc = decode_edited(&native(), |image| image[0x90] ^= 1);
    assert!(matches!(crc, Err(Fault::NativeHeaderCrc { .. })));
    // Under SPDK's version the same bytes are not ours.
    let foreign = SuperBlock { version: 3, ..native() };
    let kept = decode_edited(&foreign, |image| image[0x90] ^= 1).unwrap();
    assert_eq!(kept.native, None);
    assert_eq!(kept.encode()[0x60..0x68], *b"OFFSHOOT");
}

#[test]
fn journals_lie_in_one_place() {
    // 2048 md pages from page 4 on: 9 metadata clusters of 256 pages, so data begins at page 2304.
    let at = |start, len, masks| {
        let journal = Some(JournalArea { start: MdPageIdx(start), len, masks });
        let header = NativeHeader { journal, ..sample_header() };
        SuperBlock { native: Some(header), ..native() }.layout(GIB).is_ok()
    };
    let data = 2304 - 4;
    let end = 1024 * 256 - 4;
    let table = [
        (0, 2048, 0, true),
        (0, 2046, 2, true),
        (0, 2047, 2, false),
        (1024, 1025, 0, false),
        (2048, 1, 0, false),
        (data - 1, 2, 0, false),
        (data, 1024, 0, true),
        (end - 1, 1, 0, true),
        (end - 1, 1, 1, false),
        (end - 1, 2, 0, false),
        (u32::MAX, u32::MAX, u32::MAX, false),
    ];
    for (start, len, masks, allowed) in table {
        assert_eq!(at(start, len, masks), allowed, "{start}+{len}+{masks}");
    }
}

/// 32 TiB have more pages of 4096 bytes than 32 bits can number.
#[test]
fn every_page_of_a_journal_has_a_number() {
    let size_bytes = 32 << 40;
    let params = LayoutParams {
        size_bytes,
        cluster_size: 1 << 20,
        io_unit_size: 512,
        md_page_size: 4096,
        md_len: 2048,
        room: MaskRoom::default(),
    };
    let layout = Layout::plan(&params).unwrap();
    let at = |start, len| {
        let journal = Some(JournalArea { start: MdPageIdx(start), len, masks: 1 });
        let native = Some(NativeHeader { journal, ..sample_header() });
        let super_block = SuperBlock { version: NATIVE_VERSION, native, ..SuperBlock::create(&layout) };
        super_block.layout(size_bytes).is_ok()
    };
    assert!(at(u32::MAX - 3, 2));
    assert!(!at(u32::MAX - 3, 3));
}

#[test]
fn probes() {
    let edited = |edit: fn(&mut PageImage)| {
        let mut image = sample().encode();
        edit(&mut image);
        SuperBlock::probe(&image)
    };
    assert_eq!(edited(|_| ()), Probe::Store { version: 3 });
    assert_eq!(edited(|image| image[0xffc] ^= 1), Probe::Store { version: 3 });
    assert_eq!(edited(|image| image[8] = 9), Probe::NewerVersion(9));
    assert_eq!(edited(|image| image[0x38..0x48].fill(0)), Probe::OtherType([0; 16]));
    assert_eq!(edited(|image| image[0] = 0), Probe::NotAStore);
    assert_eq!(SuperBlock::probe(&[0; 512]), Probe::NotAStore);
    assert_eq!(SuperBlock::probe(&native().encode()), Probe::Store { version: NATIVE_VERSION });
}

/// What SPDK's own torn writes leave, in both orders of the sectors, and what it must not be taken for.
#[test]
fn a_torn_write_of_spdks_is_mended() {
    let old = sample();
    let device = old.size_bytes * 2;
    let cluster_mask_len = |size: u64| {
        let clusters = size / u64::from(old.cluster_size);
        u32::try_from((5 + clusters.div_ceil(8)).div_ceil(4096)).unwrap()
    };
    let mut grown = SuperBlock { clean: 0, size_bytes: device, ..old.clone() };
    grown.used_cluster_mask.len = cluster_mask_len(device);
    let cases =
        [SuperBlock { clean: 1 - old.clean, ..old.clone() }, SuperBlock { super_blob: None, ..old.clone() }];
    for new in cases {
        for (first, last) in [(&old, &new), (&new, &old)] {
            let (first, last) = (first.encode(), last.encode());
            let mut torn = first;
            torn[512..].copy_from_slice(&last[512..]);
            let mended = SuperBlock::mend(&torn, device).unwrap();
            assert_eq!(mended.super_block.encode(), last);
            assert_eq!(mended.fields.len(), 1);
            torn[700] ^= 1;
            assert_eq!(SuperBlock::mend(&torn, device), None, "a checksum that fits nothing");
        }
    }
    // The sectors of before, the checksum of after a growth: what the device tells is put in.
    let mut torn = old.encode();
    torn[512..].copy_from_slice(&grown.encode()[512..]);
    let mended = SuperBlock::mend(&torn, device);
    assert_eq!(mended.map(|mended| mended.super_block), Some(grown));
    assert_eq!(SuperBlock::mend(&old.encode(), device), None, "nothing to mend");
    assert_eq!(SuperBlock::mend(&[], device), None);
}
