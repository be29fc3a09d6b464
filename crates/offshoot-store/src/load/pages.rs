//! Md pages in memory, by number.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use offshoot_format::{
    BlobId, BlobMd, MD_STRUCT_BYTES, MdPageIdx, PageImage, TornPage, mend_torn_snapshot, page_crc_ok,
};

/// What no written page is.
const EMPTY: PageImage = [0; MD_STRUCT_BYTES];

/// The md pages that were read and are not empty: most of the region of a large store is.
#[derive(Debug, Default)]
pub(super) struct MdPages {
    pages: BTreeMap<MdPageIdx, Box<PageImage>>,
    /// Roots that are not here as they were read.
    mended_snapshots: BTreeSet<MdPageIdx>,
}

impl MdPages {
    /// Adds those of a run of pages of `stride` bytes each that are wanted.
    pub(super) fn add(
        &mut self,
        first: MdPageIdx,
        bytes: &[u8],
        stride: usize,
        is_wanted: impl Fn(MdPageIdx) -> bool,
    ) {
        for (at, page) in (first.0..).map(MdPageIdx).zip(bytes.chunks_exact(stride)) {
            if is_wanted(at)
                && let Some(structure) = page.first_chunk::<MD_STRUCT_BYTES>()
                && *structure != EMPTY
            {
                self.pages.insert(at, Box::new(*structure));
            }
        }
    }

    /// Forgets a page: it is empty.
    pub(super) fn remove(&mut self, at: MdPageIdx) {
        self.pages.remove(&at);
    }

    /// Replaces a page.
    pub(super) fn replace(&mut self, at: MdPageIdx, image: &PageImage) {
        self.pages.insert(at, Box::new(*image));
    }

    /// The structure in a page: its first 4096 bytes. `None` when the page was not read or is empty.
    pub(super) fn page(&self, at: MdPageIdx) -> Option<&[u8]> {
        self.pages.get(&at).map(|page| page.as_slice())
    }

    /// Every page that is not empty.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MdPageIdx, &[u8])> {
        self.pages.iter().map(|(at, page)| (*at, page.as_slice()))
    }

    /// Puts torn roots together whose content is proven: those of snapshots that SPDK had just made.
    pub(super) fn mend_torn_snapshots(&mut self) {
        let is_torn_root =
            |at, page: &[u8]| !page_crc_ok(page) && matches!(TornPage::of(at, page), TornPage::Root { .. });
        let torn: Vec<MdPageIdx> =
            self.iter().filter(|(at, page)| is_torn_root(*at, page)).map(|(at, _)| at).collect();
        if torn.is_empty() {
            return;
        }
        let mut clones: BTreeMap<MdPageIdx, Vec<BlobId>> =
            torn.into_iter().map(|root| (root, Vec::new())).collect();
        for (at, page) in self.iter() {
            if let Ok((md, _)) = BlobMd::decode_head(&[(at, page)])
                && let Some(of_torn) = md.parent().and_then(|parent| clones.get_mut(&parent.root()))
            {
                of_torn.push(md.id);
            }
        }
        for (at, clones) in clones {
            // A snapshot that is just being made has one: the lvol that it was made of.
            let [origin] = clones[..] else { continue };
            if let Some(image) = self.page(at).and_then(|page| mend_torn_snapshot(at, page, origin)) {
                self.replace(at, &image);
                self.mended_snapshots.insert(at);
            }
        }
    }

    /// The roots that [`MdPages::mend_torn_snapshots`] has put together.
    pub(super) fn mended_snapshots(&self) -> impl Iterator<Item = MdPageIdx> {
        self.mended_snapshots.iter().copied()
    }
}
