//! Any bytes decode to a value or a damage; what decodes encodes; what is encoded decodes to the same.

use offshoot_format::{
    Bitmap, BlobId, BlobMd, ClusterIdx, DataRoFlags, ExtentOrdinal, ExtentPage, FRAME_HEADER_BYTES, Flags,
    FrameHeader, FrameKind, ImageSet, InvalidFlags, LayerPage, LayerRecord, Layout, LayoutParams,
    LiveMaskPage, MD_STRUCT_BYTES, MapMd, MaskKind, MaskRoom, MdPage, MdPageIdx, MdPageRun, NATIVE_VERSION,
    NativeBlob, NativeFlags, NativeHeader, PageImage, PreviousEpoch, Run, SessionId, SuperBlock, Xattr,
    crc32c, decode_mask, dump_blob, dump_frame, dump_image_set, dump_super_block, encode_frame, encode_mask,
    live_mask_pages, page_crc_ok, records_per_layer_page,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const ROOT: MdPageIdx = MdPageIdx(7);

/// Where the word stands that keeps the checksum of a super block what it is when sealed: behind our header.
const BALANCE: usize = offshoot_format::NATIVE_HEADER_OFFSET + offshoot_format::NATIVE_HEADER_BYTES;

fn seal(image: &mut PageImage) {
    let crc = crc32c(&image[..MD_STRUCT_BYTES - 4]);
    image[MD_STRUCT_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn cluster() -> impl Strategy<Value = ClusterIdx> {
    (1..u32::MAX).prop_map(ClusterIdx)
}

fn page() -> impl Strategy<Value = MdPageIdx> {
    (1..u32::MAX).prop_map(MdPageIdx)
}

fn xattr() -> impl Strategy<Value = Xattr> {
    // Internal xattrs of this length are never `SNAP`, whose value has to be a blob id.
    (vec(any::<u8>(), 5..40), vec(any::<u8>(), 0..2000)).prop_map(|(name, value)| Xattr { name, value })
}

fn map() -> impl Strategy<Value = MapMd> {
    let run = (option::of(1..1_u32 << 30), 1..1_u32 << 20)
        .prop_map(|(cluster, length)| Run { cluster: cluster.map(ClusterIdx), length });
    let table = (vec(option::of(page()), 0..1500), 0_u64..512).prop_map(|(pages, short)| {
        let num_clusters = (pages.len() as u64 * 512).saturating_sub(short);
        MapMd::Table { num_clusters, pages }
    });
    prop_oneof![vec(run, 0..1500).prop_map(MapMd::Rle), table]
}

fn native_blob() -> impl Strategy<Value = NativeBlob> {
    let layer_pages = vec((0..1_u32 << 23, page()), 0..700).prop_map(|mut pages| {
        pages.sort_by_key(|(ordinal, _)| *ordinal);
        pages.into_iter().map(|(ordinal, page)| (ExtentOrdinal(ordinal), page)).collect()
    });
    let flags = (any::<bool>(), any::<bool>());
    (flags, any::<u64>(), layer_pages).prop_map(|((dying, outdated), inherit_len, layer_pages)| NativeBlob {
        dying,
        outdated,
        inherit_len,
        layer_pages,
    })
}

fn flags() -> impl Strategy<Value = Flags> {
    any::<(u64, u64, u64)>().prop_map(|(invalid, data_ro, md_ro)| Flags {
        invalid: InvalidFlags::from_bits_retain(invalid) | InvalidFlags::THIN_PROV,
        data_ro: DataRoFlags::from_bits_retain(data_ro),
        md_ro,
    })
}

prop_compose! {
    fn blob()(
        flags in flags(),
        xattrs in vec(xattr(), 0..6),
        internal_xattrs in vec(xattr(), 0..6),
        native in option::of(native_blob()),
        map in map(),
        unknown in vec((0x90_u8..0xff, vec(any::<u8>(), 0..4068)), 0..3),
    ) -> BlobMd {
        BlobMd { id: BlobId::from_root(ROOT), flags, xattrs, internal_xattrs, native, map, unknown }
    }
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<([u8; 16], u64)>().prop_map(|(boot_id, device_generation)| SessionId { boot_id, device_generation })
}

fn previous() -> impl Strategy<Value = PreviousEpoch> {
    any::<([u8; 16], [u64; 3], u32)>().prop_map(|(epoch, [last_lsn, checkpoint, tail], image_frames)| {
        PreviousEpoch { epoch, last_lsn, checkpoint, tail, image_frames }
    })
}

prop_compose! {
    fn frame()(
        epoch: [u8; 16],
        position in 0_u64..64,
        lsns: [u64; 5],
        is_images: bool,
        image_frames: u32,
        image_index: u32,
        in_place: bool,
    ) -> FrameHeader {
        let [lsn, covered, checkpoint, tail, capture] = lsns;
        FrameHeader {
            epoch,
            lsn,
            position: position * 512,
            kind: if is_images { FrameKind::Images } else { FrameKind::Records },
            covered,
            checkpoint,
            image_frames,
            in_place,
            tail,
            capture,
            image_index,
            ..FrameHeader::default()
        }
    }
}

fn image_set() -> impl Strategy<Value = ImageSet> {
    let images = vec((page(), any::<u8>()), 0..4)
        .prop_map(|pages| pages.into_iter().map(|(page, fill)| (page, [fill; MD_STRUCT_BYTES])).collect());
    let run =
        (0_u32..1 << 31, 1_u32..1 << 31).prop_map(|(start, len)| MdPageRun { start: MdPageIdx(start), len });
    (images, vec(run, 0..40)).prop_map(|(images, zeroed)| ImageSet { images, zeroed })
}

prop_compose! {
    fn header()(
        base_version in 2_u32..=3,
        flags: u32,
        epoch: [u8; 16],
        lsns: (u64, u64),
        mask_crcs: [u32; 3],
        session in option::of(session()),
        previous in option::of(previous()),
    ) -> NativeHeader {
        NativeHeader {
            base_version,
            flags: NativeFlags::from_bits_retain(flags),
            epoch,
            start_lsn: lsns.0,
            journal: None,
            sequence: lsns.1,
            mask_crcs,
            session,
            previous,
        }
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    let sizes = (12_u32..20, 12_u32..17, 9_u32..13, any::<u64>(), 1_u32..1 << 20);
    sizes.prop_filter_map("no room", |(cluster, page, unit, size, md_len)| {
        let params = LayoutParams {
            size_bytes: size >> 22,
            cluster_size: (1 << cluster) * 3,
            io_unit_size: 1 << unit,
            md_page_size: 1 << page,
            md_len,
            room: MaskRoom::default(),
        };
        Layout::plan(&params).ok()
    })
}

/// A few bytes of a page to overwrite, small values preferred: lengths and counts live there.
fn edits() -> impl Strategy<Value = Vec<(usize, u8)>> {
    vec((prop_oneof![0_usize..96, 0..MD_STRUCT_BYTES], prop_oneof![0_u8..8, any::<u8>()]), 0..6)
}

fn encode(blob: &BlobMd) -> Vec<(MdPageIdx, PageImage)> {
    let chain: Vec<_> = (0..).map(|page| MdPageIdx(ROOT.0 + page)).take(blob.chain_len()).collect();
    let images = blob.encode_chain(&chain);
    chain.into_iter().zip(images).collect()
}

fn decode(pages: &[(MdPageIdx, PageImage)]) -> Result<BlobMd, offshoot_format::Damage> {
    let pages: Vec<_> = pages.iter().map(|(at, image)| (*at, image.as_slice())).collect();
    BlobMd::decode_chain(&pages)
}

proptest! {
    #[test]
    fn blobs_round_trip(blob in blob()) {
        let pages = encode(&blob);
        prop_assert!(pages.iter().all(|(_, image)| page_crc_ok(image)));
        let decoded = decode(&pages).unwrap();
        prop_assert!(encode(&decoded) == pages);
        for (at, image) in &pages {
            prop_assert!(MdPage::decode(*at, image).unwrap().encode() == *image);
        }
        prop_assert_eq!(decoded, blob);
    }

    #[test]
    fn edited_blobs_decode_to_something_that_encodes(blob in blob(), edits in edits()) {
        let mut pages = encode(&blob);
        let count = pages.len();
        for (offset, byte) in edits {
            let image = &mut pages[offset % count].1;
            image[offset] = byte;
            seal(image);
        }
        if let Ok(decoded) = decode(&pages) {
            dump_blob(&decoded, &mut String::new()).unwrap();
            prop_assert_eq!(decode(&encode(&decoded)), Ok(decoded));
        }
    }

    #[test]
    fn any_page_decodes_or_is_refused(head in vec(any::<u8>(), 0..200), fill: u8, sealed: bool) {
        let mut image = [fill; MD_STRUCT_BYTES];
        image[..head.len()].copy_from_slice(&head);
        if sealed {
            seal(&mut image);
        }
        if let Ok(page) = MdPage::decode(ROOT, &image) {
            let again = MdPage::decode(ROOT, &page.encode());
            prop_assert_eq!(again, Ok(page));
        }
        let _ = BlobMd::decode_chain(&[(ROOT, &image)]);
        let _ = ExtentPage::decode_as_found(ROOT, &image);
        let _ = LayerPage::decode(ROOT, &image, ExtentOrdinal(0), 64);
        let _ = SuperBlock::decode(&image);
        let _ = SuperBlock::probe(&image);
        let _ = decode_mask(MaskKind::Clusters, &image, 1000);
    }

    #[test]
    fn any_length_decodes_or_is_refused(bytes in vec(any::<u8>(), 0..4200)) {
        let _ = MdPage::decode(ROOT, &bytes);
        let _ = SuperBlock::decode(&bytes);
        for kind in MaskKind::ALL {
            let _ = decode_mask(kind, &bytes, 40_000);
        }
    }

    #[test]
    fn extent_pages_round_trip(ordinal in 0_u32..1 << 23, clusters in vec(option::of(cluster()), 0..=512)) {
        let page = ExtentPage { id: BlobId::from_root(ROOT), start: ordinal * 512, clusters };
        let image = page.encode();
        prop_assert_eq!(page.ordinal(), Some(ExtentOrdinal(ordinal)));
        let len = page.clusters.len();
        prop_assert_eq!(ExtentPage::decode(ROOT, &image, ExtentOrdinal(ordinal), len), Ok(page));
    }

    #[test]
    fn layer_pages_round_trip(ordinal: u32, states_bytes in 1_u16..=2048, seed in vec(any::<(u16, u8)>(), 0..200)) {
        let mut slots: Vec<_> = seed.iter().map(|(place, state)| (place % 512, place / 512, state % 3)).collect();
        slots.sort_unstable();
        slots.dedup_by_key(|(slot, depth, _)| (*slot, *depth));
        slots.truncate(records_per_layer_page(states_bytes.into()));
        let records = slots.into_iter().map(|(slot, depth, state)| LayerRecord {
            slot,
            depth,
            cluster: (state == 1).then_some(ClusterIdx(9)),
            states: vec![state * 0b0101_0101; states_bytes.into()],
        });
        let page = LayerPage {
            id: BlobId::from_root(ROOT),
            ordinal: ExtentOrdinal(ordinal),
            states_bytes,
            records: records.collect(),
        };
        let image = page.encode();
        let decoded = LayerPage::decode(ROOT, &image, ExtentOrdinal(ordinal), states_bytes);
        prop_assert_eq!(decoded, Ok(page));
        prop_assert!(MdPage::decode(ROOT, &image).unwrap().encode() == image);
    }

    #[test]
    fn super_blocks_keep_every_byte(
        layout in layout(),
        native in option::of(header()),
        super_blob in option::of(any::<u32>()),
        edits in edits(),
    ) {
        let made = SuperBlock {
            version: if native.is_some() { NATIVE_VERSION } else { 3 },
            native,
            super_blob: super_blob.map(|root| BlobId::from_root(MdPageIdx(root))),
            ..SuperBlock::create(&layout)
        };
        let mut image = made.encode();
        prop_assert_eq!(SuperBlock::decode(&image), Ok(made));
        for (offset, byte) in edits {
            image[offset] = byte;
        }
        seal(&mut image);
        if let Ok(decoded) = SuperBlock::decode(&image) {
            let again = decoded.encode();
            // Whoever changed a native one did not balance its checksum.
            let balanced = if decoded.is_native() { [BALANCE..BALANCE + 4, 0xffc..0x1000] } else { [0..0, 0..0] };
            for at in (0..MD_STRUCT_BYTES).filter(|at| balanced.iter().all(|range| !range.contains(at))) {
                prop_assert_eq!(again[at], image[at], "byte {:#x}", at);
            }
            prop_assert_eq!(SuperBlock::decode(&again), Ok(decoded.clone()));
            dump_super_block(&decoded, &mut String::new()).unwrap();
            for device_bytes in [0, decoded.size_bytes, u64::MAX] {
                decoded.layout(device_bytes).iter().for_each(exercise);
            }
        }
    }

    /// A device writes 512 bytes as a whole: whatever it is torn away from, the super block is one or the other.
    #[test]
    fn opening_and_sealing_change_one_sector(
        layout in layout(),
        headers in (header(), header()),
        super_block in any::<(u32, u32)>(),
        reserved in vec((BALANCE + 4..0xffc, any::<u8>()), 0..20),
    ) {
        let (super_blob, clean) = super_block;
        let mut image = SuperBlock {
            super_blob: Some(BlobId::from_root(MdPageIdx(super_blob))),
            ..SuperBlock::create(&layout)
        }.encode();
        reserved.iter().for_each(|(at, byte)| image[*at] = *byte);
        seal(&mut image);
        let found = SuperBlock::decode(&image).unwrap();
        let open = |header: &NativeHeader| {
            let native = Some(NativeHeader { base_version: 3, ..header.clone() });
            SuperBlock { version: NATIVE_VERSION, clean, native, ..found.clone() }
        };
        let forms = [found.sealed(), open(&headers.0), open(&headers.1), open(&headers.0).sealed()];
        for from in &forms {
            for to in &forms {
                let mut torn = from.encode();
                prop_assert_eq!(&torn[512..], &to.encode()[512..]);
                torn[..512].copy_from_slice(&to.encode()[..512]);
                prop_assert_eq!(SuperBlock::decode(&torn), Ok(to.clone()));
            }
        }
    }

    #[test]
    fn frames_round_trip(
        header in frame(),
        payload in vec(any::<u8>(), 0..2000),
        block in prop_oneof![Just(512), Just(4096)],
        behind in 0_usize..100,
    ) {
        let frame = encode_frame(&header, &payload, block);
        prop_assert!(frame.len().is_multiple_of(block));
        let start = usize::try_from(header.position).unwrap();
        let mut ring = vec![0; start];
        ring.extend_from_slice(&frame);
        ring.resize(ring.len() + behind, 0);
        let decoded = FrameHeader::decode(&ring[start..], header.position).unwrap();
        prop_assert_eq!(decoded.frame_len(block), frame.len() as u64);
        prop_assert_eq!(decoded.payload(&ring), Some(payload.as_slice()));
        let (payload_len, payload_crc) = (decoded.payload_len, decoded.payload_crc);
        prop_assert_eq!(decoded, FrameHeader { payload_len, payload_crc, ..header });
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed(header in frame(), payload in vec(any::<u8>(), 0..150)) {
        let header = FrameHeader { position: 0, ..header };
        let mut frame = encode_frame(&header, &payload, 512);
        for bit in 0..(FRAME_HEADER_BYTES + payload.len()) * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            let decoded = FrameHeader::decode(&frame, 0);
            prop_assert!(decoded.is_none_or(|decoded| decoded.payload(&frame).is_none()), "bit {}", bit);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_none(bytes in vec(any::<u8>(), 0..600), with_magic: bool, position: u64) {
        let mut bytes = bytes;
        if with_magic {
            let magic = encode_frame(&FrameHeader::default(), &[], 512);
            bytes.splice(..bytes.len().min(8), magic[..8].iter().copied());
        }
        let _ = FrameHeader::decode(&bytes, position);
        let _ = ImageSet::decode(0, &bytes);
        for kind in MaskKind::ALL {
            let _ = LiveMaskPage::decode(&bytes, kind, 0, &mut Bitmap::new(1000));
        }
    }

    /// What a frame says of itself need not be true.
    #[test]
    fn any_header_is_looked_up_in_any_ring(header in frame(), position: u64, payload_len: u32, ring in vec(any::<u8>(), 0..600)) {
        let header = FrameHeader { position, payload_len, ..header };
        let _ = header.payload(&ring);
        let _ = header.frame_len(4096);
        dump_frame(&header, &mut String::new()).unwrap();
    }

    #[test]
    fn image_sets_round_trip(set in image_set(), edits in vec((any::<usize>(), any::<u8>()), 0..4)) {
        let mut payload = set.encode();
        prop_assert_eq!(payload.len(), set.encoded_len());
        prop_assert_eq!(ImageSet::decode(1, &payload), Ok(set));
        for (at, byte) in edits {
            let at = at % payload.len();
            payload[at] = byte;
        }
        if let Ok(set) = ImageSet::decode(1, &payload) {
            dump_image_set(&set, &mut String::new()).unwrap();
            prop_assert!(set.encode() == payload);
        }
        let _ = ImageSet::decode(1, &payload[..payload.len() / 2]);
    }

    #[test]
    fn live_masks_round_trip(len in 0_usize..100_000, ones in vec(any::<usize>(), 0..200), before in vec(any::<usize>(), 0..200)) {
        let bitmap = |ones: &[usize]| {
            let mut bitmap = Bitmap::new(len);
            ones.iter().filter(|_| len != 0).for_each(|bit| bitmap.set(bit % len, true));
            bitmap
        };
        let (mask, mut read) = (bitmap(&ones), bitmap(&before));
        for index in 0..live_mask_pages(u32::try_from(len).unwrap()) {
            let page = LiveMaskPage::encode(MaskKind::Clusters, index, &mask);
            prop_assert_eq!(LiveMaskPage::decode(&page, MaskKind::Clusters, index, &mut read), Ok(()));
        }
        prop_assert_eq!(read, mask);
    }

    #[test]
    fn plans_are_layouts(layout in layout(), more: u32) {
        exercise(&layout);
        let super_block = SuperBlock::create(&layout);
        prop_assert_eq!(super_block.layout(layout.size_bytes), Ok(layout.clone()));
        if let Ok(grown) = layout.grown(layout.size_bytes + u64::from(more), layout.md_len) {
            exercise(&grown);
            let super_block = SuperBlock::create(&grown);
            prop_assert_eq!(super_block.layout(u64::MAX), Ok(grown));
        }
    }

    #[test]
    fn masks_round_trip(ones in vec(any::<bool>(), 0..2000)) {
        let mut bitmap = Bitmap::new(ones.len());
        ones.iter().enumerate().for_each(|(index, one)| bitmap.set(index, *one));
        for kind in MaskKind::ALL {
            let region = encode_mask(kind, &bitmap, 4096);
            prop_assert_eq!(decode_mask(kind, &region, ones.len()), Ok(bitmap.clone()));
        }
    }
}

/// A layout that was accepted computes without overflow, and its areas lie inside the store.
fn exercise(layout: &Layout) {
    let last_md = layout.md_page_offset(MdPageIdx(layout.md_len - 1)) + u64::from(layout.md_page_size);
    assert!(last_md <= layout.cluster_offset(layout.first_data_cluster()));
    assert!(layout.cluster_offset(ClusterIdx(layout.total_clusters)) <= layout.size_bytes);
    assert_eq!(layout.metadata_clusters() + layout.total_data_clusters(), layout.total_clusters);
    assert!(layout.cluster_mask_room() >= layout.used_cluster_mask.len);
    assert!(layout.used_cluster_mask.start + layout.cluster_mask_room() <= layout.md_start);
    for kind in MaskKind::ALL {
        let end = layout.mask_offset(kind) + layout.mask_bytes(kind) as u64;
        assert!(end <= layout.md_page_offset(MdPageIdx(0)));
    }
    let _ = layout.md_page_offset(MdPageIdx(u32::MAX));
    let _ = layout.max_growable_bytes();
}
