//! Md pages in memory, by number.

use alloc::{boxed::Box, collections::BTreeMap};
use offshoot_format::{MD_STRUCT_BYTES, MdPageIdx, PageImage};

/// What no written page is.
const EMPTY: PageImage = [0; MD_STRUCT_BYTES];

/// The md pages that were read and are not empty: most of the region of a large store is.
#[derive(Debug, Default)]
pub(super) struct MdPages {
    pages: BTreeMap<MdPageIdx, Box<PageImage>>,
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
}
