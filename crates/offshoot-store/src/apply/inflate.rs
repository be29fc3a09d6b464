//! Records that part a blob from what lies below it without changing what anybody reads.

use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::{BlobId, InvalidFlags};

impl State {
    pub(super) fn apply_inherit(&mut self, id: BlobId, len: u64) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        blob.inherit_len = len.min(blob.len);
        self.touch_chain(id);
    }

    pub(super) fn apply_inflate(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let parent = blob.parent.take();
        blob.external = None;
        blob.external_is_parent = false;
        blob.inherit_len = 0;
        blob.flags.invalid.remove(InvalidFlags::THIN_PROV);
        if let Some(parent) = parent.and_then(|parent| self.blobs.get_mut(&parent)) {
            parent.clones.remove(&id);
        }
        self.touch_chain(id);
        self.hand_external_down(id);
    }

    /// Brings what shows through all the clones of a blob up to date with what shows through the blob.
    pub(super) fn hand_external_down(&mut self, id: BlobId) {
        let mut changed = alloc::vec![id];
        while let Some(parent) = changed.pop().and_then(|id| self.blobs.get(&id)) {
            let clones: Vec<BlobId> = parent.clones.iter().copied().collect();
            let below = parent.external.clone();
            for id in clones {
                let Some(clone) = self.blobs.get_mut(&id) else { continue };
                let len = clone.inherit_len;
                let external = below
                    .clone()
                    .map(|external| crate::blob::External { len: external.len.min(len), ..external });
                if clone.external != external {
                    clone.external = external;
                    changed.push(id);
                }
            }
        }
    }
}
