//! Which md pages are roots of blobs, where masks say so that carry no checksum.
//!
//! SPDK goes by the mask of blob ids alone. But a root says itself that it is one, and the mask of md pages has its bit
//! too: two of the three are enough. A bit that flipped in a mask neither hides a blob nor makes one up.

use super::pages::MdPages;
use alloc::vec::Vec;
use offshoot_format::{Bitmap, BlobId, BlobMd, MdPageIdx, TornPage, page_crc_ok};

/// The roots, by the masks of md pages and of blob ids and by what the pages say.
pub(super) fn of_masks(pages: &MdPages, md: &Bitmap, blob_ids: &Bitmap) -> Vec<MdPageIdx> {
    let named = blob_ids.iter_ones().map(|root| (root, true));
    let forgotten = md.iter_ones().filter(|page| !blob_ids.get(*page)).map(|page| (page, false));
    let mut roots: Vec<MdPageIdx> = named
        .chain(forgotten)
        .filter_map(|(page, is_named)| Some((MdPageIdx(u32::try_from(page).ok()?), is_named)))
        .filter(|(at, is_named)| match pages.page(*at) {
            Some(bytes) if has_id_of_root(*at, bytes) => *is_named || BlobMd::is_root(*at, bytes),
            Some(bytes) if page_crc_ok(bytes) => false,
            // Nothing can be told from the page: rotten, or empty.
            _ => *is_named && md.get(at.0 as usize),
        })
        .map(|(at, _)| at)
        .collect();
    roots.sort_unstable();
    roots
}

/// The roots, by a mask of blob ids that can be trusted, but for those that were unreadable when it was written.
pub(super) fn of_mask(pages: &MdPages, blob_ids: &Bitmap) -> Vec<MdPageIdx> {
    let named = blob_ids.iter_ones().filter_map(|root| u32::try_from(root).ok().map(MdPageIdx));
    let is_named = |at: MdPageIdx| blob_ids.get(at.0 as usize);
    let mut roots: Vec<MdPageIdx> = named.chain(of_pages(pages, true).filter(|at| !is_named(*at))).collect();
    roots.sort_unstable();
    roots
}

/// The roots by what the md pages say: with `torn`, those as well that are not whole.
pub(super) fn of_pages(pages: &MdPages, torn: bool) -> impl Iterator<Item = MdPageIdx> {
    let is_torn = |at, bytes: &[u8]| matches!(TornPage::of(at, bytes), TornPage::Root { .. });
    pages
        .iter()
        .filter(move |(at, bytes)| {
            has_id_of_root(*at, bytes) && (BlobMd::is_root(*at, bytes) || torn && is_torn(*at, bytes))
        })
        .map(|(at, _)| at)
}

/// Whether a page says that it is a root, by the first bytes: most pages do not, and need no checksum to tell.
fn has_id_of_root(at: MdPageIdx, bytes: &[u8]) -> bool {
    let (id, sequence) = (BlobId::from_root(at).0.to_le_bytes(), [0; 4]);
    bytes.strip_prefix(&id).is_some_and(|rest| rest.starts_with(&sequence))
}
