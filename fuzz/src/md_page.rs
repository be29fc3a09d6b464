//! Everything that an md page or a part of the journal can be, from any bytes.
//!
//! The first byte says whether checksums are made to fit; the rest are pages of a chain, zeros behind them.

use offshoot_format::{
    Bitmap, BlobMd, ExtentOrdinal, ExtentPage, FrameHeader, ImageSet, LayerPage, LiveMaskPage,
    MD_STRUCT_BYTES, MaskKind, MdPage, MdPageIdx, PageImage, crc32c, decode_mask, dump_blob,
    dump_extent_page, dump_frame, dump_image_set, dump_layer_page,
};

/// Where the root of the chain stands. The other pages follow.
const ROOT: u32 = 7;

/// Decodes as each structure; what is one decodes to the same when it is encoded.
pub fn run(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let pages: Vec<PageImage> =
        bytes.chunks(MD_STRUCT_BYTES).take(4).map(|part| page(part, how & 1 == 1)).collect();
    for (at, image) in (ROOT..).map(MdPageIdx).zip(&pages) {
        single_page(at, image);
    }
    blob(&pages);
    journal(bytes);
    for kind in MaskKind::ALL {
        let _ = decode_mask(kind, bytes, 5000);
        let _ = LiveMaskPage::decode(bytes, kind, 0, &mut Bitmap::new(5000));
    }
}

fn page(bytes: &[u8], sealed: bool) -> PageImage {
    let mut image = [0; MD_STRUCT_BYTES];
    image[..bytes.len()].copy_from_slice(bytes);
    if sealed {
        let sum = crc32c(&image[..MD_STRUCT_BYTES - 4]);
        image[MD_STRUCT_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    }
    image
}

fn single_page(at: MdPageIdx, image: &PageImage) {
    let _ = BlobMd::is_root(at, image);
    if let Ok(page) = MdPage::decode(at, image) {
        assert_eq!(MdPage::decode(at, &page.encode()), Ok(page));
    }
    if let Ok(page) = ExtentPage::decode_as_found(at, image) {
        dump_extent_page(&page, &mut String::new()).expect("a string takes everything");
        if let Some(ordinal) = page.ordinal() {
            let again = ExtentPage::decode(at, &page.encode(), ordinal, page.clusters.len());
            assert_eq!(again, Ok(page));
        }
    }
    for states_bytes in [1, 16, 64] {
        if let Ok(page) = LayerPage::decode(at, image, ExtentOrdinal(0), states_bytes) {
            dump_layer_page(&page, &mut String::new()).expect("a string takes everything");
            page.records
                .iter()
                .for_each(|record| assert_eq!(record.states().count(), usize::from(states_bytes) * 4));
            assert_eq!(LayerPage::decode(at, &page.encode(), ExtentOrdinal(0), states_bytes), Ok(page));
        }
    }
}

fn blob(pages: &[PageImage]) {
    let chain: Vec<(MdPageIdx, &[u8])> =
        (ROOT..).map(MdPageIdx).zip(pages.iter().map(|page| page.as_slice())).collect();
    for len in 1..=chain.len() {
        let Ok(blob) = BlobMd::decode_chain(&chain[..len]) else { continue };
        dump_blob(&blob, &mut String::new()).expect("a string takes everything");
        let _ = (blob.parent(), blob.external_parent().map(<[u8]>::len), blob.transition());
        let places: Vec<MdPageIdx> =
            (0..).map(|page| MdPageIdx(ROOT + page)).take(blob.chain_len()).collect();
        let images = blob.encode_chain(&places);
        let again: Vec<(MdPageIdx, &[u8])> =
            places.iter().copied().zip(images.iter().map(|page| page.as_slice())).collect();
        assert_eq!(BlobMd::decode_chain(&again), Ok(blob));
    }
}

fn journal(bytes: &[u8]) {
    if let Some(header) = FrameHeader::decode(bytes, 0) {
        dump_frame(&header, &mut String::new()).expect("a string takes everything");
        let _ = (header.frame_len(512), header.payload(bytes).map(<[u8]>::len));
    }
    if let Ok(set) = ImageSet::decode(0, bytes) {
        dump_image_set(&set, &mut String::new()).expect("a string takes everything");
        assert_eq!(set.encode(), bytes);
    }
}
