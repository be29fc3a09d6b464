//! The record of a checkpoint: where a blob's metadata lies.

use crate::record::Assignment;
use crate::state::{State, give_up};
use alloc::{collections::BTreeSet, vec::Vec};
use offshoot_format::{BlobId, MdPageIdx};

impl State {
    pub(super) fn apply_assign(&mut self, id: BlobId, pages: &Assignment) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let mut before: BTreeSet<MdPageIdx> = blob.pages.chain.iter().copied().collect();
        let mut after: BTreeSet<MdPageIdx> = pages.chain.iter().copied().collect();
        blob.pages.chain.clone_from(&pages.chain);
        let (encoding, per_page) = (blob.encoding, self.units.records_per_page);
        for (ordinal, extent) in &pages.extents {
            let md = blob.pages.ordinals.entry(*ordinal).or_default();
            let planned = md.planned(encoding, per_page);
            before.extend(md.extent);
            after.extend(extent);
            md.extent = *extent;
            blob.pages.totals.replace(planned, md.planned(encoding, per_page));
        }
        for (ordinal, layers) in &pages.layers {
            let md = blob.pages.ordinals.entry(*ordinal).or_default();
            let planned = md.planned(encoding, per_page);
            before.extend(&md.layers);
            after.extend(layers);
            md.layers.clone_from(layers);
            blob.pages.totals.replace(planned, md.planned(encoding, per_page));
            if md.is_vacant() {
                blob.pages.ordinals.remove(ordinal);
            }
        }
        self.dirty_ordinals -= blob.pages.dirty.len();
        blob.pages.dirty.clear();
        for page in after.difference(&before) {
            self.md.take(page.0);
        }
        let freed: Vec<MdPageIdx> = before.difference(&after).copied().collect();
        self.free_md(&freed);
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.settle_debt(&mut self.md_debt);
            blob.pages.chain_dirty = false;
            self.dirty.remove(&id);
        }
    }

    pub(super) fn free_md(&mut self, freed: &[MdPageIdx]) {
        for page in freed {
            if !give_up(&mut self.disputed_md, page) {
                self.md.drop_use(page.0);
                self.freed_md.push(*page);
            }
        }
    }
}
