//! The record of a checkpoint: where a blob's metadata lies.

use crate::pages::{BlobPages, Totals};
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
        let (encoding, spread) = (blob.encoding, self.units.spread);
        let BlobPages { ordinals, totals, dirty, .. } = &mut blob.pages;
        for md in dirty.iter().filter_map(|ordinal| ordinals.get(ordinal)) {
            before.extend(md.pages());
            totals.replace(md.totals(encoding, spread), Totals::default());
        }
        for (ordinal, extent) in &pages.extents {
            if let Some(md) = ordinals.get_mut(ordinal) {
                md.extent = *extent;
            }
        }
        for (ordinal, section, layers) in &pages.layers {
            let md = ordinals.get_mut(ordinal).and_then(|md| md.sections.get_mut(section));
            if let Some(md) = md {
                md.pages.clone_from(layers);
            }
        }
        for ordinal in core::mem::take(dirty) {
            let Some(md) = ordinals.get_mut(&ordinal) else { continue };
            md.settle();
            after.extend(md.pages());
            totals.replace(Totals::default(), md.totals(encoding, spread));
            if md.is_vacant() {
                ordinals.remove(&ordinal);
            }
        }
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
