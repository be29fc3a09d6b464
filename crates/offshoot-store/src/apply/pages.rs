//! The record of a checkpoint: where a blob's metadata lies.

use crate::record::Assignment;
use crate::state::{State, give_up};
use alloc::{collections::BTreeSet, vec::Vec};
use offshoot_format::{BlobId, MdPageIdx};

impl State {
    pub(super) fn apply_assign(&mut self, id: BlobId, pages: &Assignment) {
        let is_native = self.blobs.get(&id).is_some_and(|blob| self.is_native(blob));
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
        blob.pages.dirty.clear();
        blob.pages.dirty_images = 0;
        blob.pages.unwritten = false;
        if pages.write_chain {
            blob.pages.native = is_native;
        }
        for page in after.difference(&before) {
            self.take_md(*page);
        }
        let freed: Vec<MdPageIdx> = before.difference(&after).copied().collect();
        self.free_md(&freed);
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.settle_debt(&mut self.md_debt);
            blob.pages.chain_dirty = false;
            blob.pages.settle_images(false, &mut self.image_pages);
            self.dirty.remove(&id);
        }
    }

    /// Md pages come into use. Nothing durable refers to them yet.
    pub(super) fn take_md(&mut self, page: MdPageIdx) {
        self.md.take(page.0);
        self.fresh_md.insert(page);
    }

    pub(super) fn free_md(&mut self, freed: &[MdPageIdx]) {
        for page in freed {
            if !give_up(&mut self.disputed_md, page) {
                self.md.drop_use(page.0);
                self.fresh_md.remove(page);
                self.freed_md.push(*page);
            }
        }
    }
}
