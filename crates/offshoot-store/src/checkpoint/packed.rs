//! Layer records that are not spread over sections: as somebody else wrote them, or for want of md pages.

use crate::limits::MD_PAGES_KEPT;
use crate::pages::{OrdinalMd, Spread};
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::{BlobId, ExtentOrdinal};

/// Spreads what is packed and must be written, as far as there are md pages for that and room for the images.
pub(super) fn spread_or_pack(state: &mut State, images_max: usize) {
    let spread = state.units.spread;
    for (id, ordinal) in dirty(state, |md| md.packed && md.sections.values().any(|section| section.dirty)) {
        let md = state.blob(id).and_then(|blob| blob.pages.ordinals.get(&ordinal));
        let Some(md) = md else { continue };
        let has = md.layer_pages().count();
        let more = spread.pages_for(&md.layers).saturating_sub(has);
        // The chain names each page, and takes two more for its own rounding.
        let needed = more + 2 + more / 256 + MD_PAGES_KEPT;
        if needed <= state.md_spare() && state.image_pages + has <= images_max {
            state.touch_ordinal(id, ordinal, |md| md.set_packed(spread, false));
        }
    }
    state.pack_if_short();
}

impl State {
    /// Packs what must be written where there are not enough md pages to spread it. What a store adds up to depends
    /// on where checkpoints came in between, so that a replay may need pages that there was no need for in life.
    pub(crate) fn pack_if_short(&mut self) {
        if self.has_checkpoint_pages() {
            return;
        }
        let spread = self.units.spread;
        for (id, ordinal) in dirty(self, |md| saves_pages(md, spread)) {
            self.touch_ordinal(id, ordinal, |md| md.set_packed(spread, true));
            if self.has_checkpoint_pages() {
                return;
            }
        }
    }
}

fn saves_pages(md: &OrdinalMd, spread: Spread) -> bool {
    !md.packed && spread.pages(md.own_layers()) < spread.pages_for(&md.layers)
}

/// Dirty ordinals of a kind.
fn dirty(state: &State, is_meant: impl Fn(&OrdinalMd) -> bool) -> Vec<(BlobId, ExtentOrdinal)> {
    let blobs = state.dirty.iter().filter_map(|id| state.blob(*id));
    let ordinals = blobs.flat_map(|blob| blob.pages.dirty.iter().map(move |ordinal| (blob, ordinal)));
    let meant = ordinals.filter(|(blob, at)| blob.pages.ordinals.get(at).is_some_and(&is_meant));
    meant.map(|(blob, ordinal)| (blob.id, *ordinal)).collect()
}
