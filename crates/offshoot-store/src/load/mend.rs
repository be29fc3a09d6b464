//! Md pages that can be put right: from a copy in the journal, or because only one bit is wrong.

use super::pages::MdPages;
use super::repair::{Note, Repairs};
use super::verify::Found;
use crate::pages::OrdinalMd;
use crate::state::State;
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use offshoot_format::{BlobId, ExtentOrdinal, MdPageIdx, PageImage, mend_page, page_crc_ok};

/// The pages that were put right, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Mended(BTreeMap<MdPageIdx, String>);

impl Mended {
    /// Puts right what can be. `copies` are the images of a checkpoint that were written in place last.
    pub(super) fn mend(pages: &mut MdPages, copies: &BTreeMap<MdPageIdx, PageImage>) -> Self {
        let bad = pages.iter().filter(|(_, bytes)| !page_crc_ok(bytes));
        let mended = bad.filter_map(|(at, bytes)| match (copies.get(&at), mend_page(bytes)) {
            (Some(copy), _) => Some((at, *copy, format!("md page {at} is brought back from the journal"))),
            (None, Some(page)) => {
                Some((at, page, format!("one bit of md page {at} was wrong and is put right")))
            }
            (None, None) => None,
        });
        let mended: Vec<(MdPageIdx, PageImage, String)> = mended.collect();
        let put_back = |(at, page, how)| {
            pages.replace(at, &page);
            (at, how)
        };
        Self(mended.into_iter().map(put_back).collect())
    }

    /// Has the blobs written anew that they belong to.
    pub(super) fn mark_dirty(&self, state: &mut State, repairs: &mut Repairs) {
        if self.0.is_empty() {
            return;
        }
        let how = |page: &MdPageIdx| self.0.get(page).cloned();
        let mut chains: Vec<(BlobId, String)> = Vec::new();
        let mut ordinals: Vec<(BlobId, ExtentOrdinal, String)> = Vec::new();
        for blob in state.blobs().filter(|blob| blob.damage.is_none()) {
            chains.extend(blob.pages.chain.iter().filter_map(how).map(|how| (blob.id, how)));
            for (ordinal, md) in &blob.pages.ordinals {
                let found = OrdinalMd::pages(md).filter_map(|page| how(&page));
                ordinals.extend(found.map(|how| (blob.id, *ordinal, how)));
            }
        }
        let about = |blob: &BlobId| Found::Damaged { blob: *blob, why: String::new() };
        for (blob, text) in chains {
            state.touch_chain(blob);
            // Where no mask names the roots, a bad one is a page like any other.
            repairs.notes.push(Note { about: Found::RottenPages { count: 1 }, text: text.clone() });
            repairs.notes.push(Note { about: about(&blob), text });
        }
        for (blob, ordinal, text) in ordinals {
            state.touch_ordinal(blob, ordinal, OrdinalMd::rewrite);
            repairs.notes.push(Note { about: about(&blob), text });
        }
    }
}
