//! The table behind the tags: which blob each stands for.

use super::Tag;
use alloc::vec::Vec;
use offshoot_format::BlobId;

/// Which blob each tag stands for today.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    owners: Vec<Option<BlobId>>,
    unused: Vec<Tag>,
}

impl Tags {
    /// A tag that no entry carries yet, for `blob`.
    ///
    /// # Panics
    /// When 2^32 tags are in use, which takes more blobs than ids.
    pub fn assign(&mut self, blob: BlobId) -> Tag {
        if let Some(tag) = self.unused.pop() {
            self.owners[tag.0 as usize] = Some(blob);
            return tag;
        }
        let tag = Tag(u32::try_from(self.owners.len()).expect("fewer tags than blob ids"));
        self.owners.push(Some(blob));
        tag
    }

    /// The blob behind a tag.
    #[must_use]
    pub fn owner(&self, tag: Tag) -> Option<BlobId> {
        self.owners.get(tag.0 as usize).copied().flatten()
    }

    /// Points a tag at another blob: everything marked with it changes hands.
    pub fn hand_over(&mut self, tag: Tag, blob: BlobId) {
        self.owners[tag.0 as usize] = Some(blob);
    }

    /// Gives a tag back, to be used for another blob. Entries with it may still be held by the tree of a dying blob, which is
    /// read for what that blob itself owns and nothing else, and by maps of which a part is to be picked out
    /// (`OwnPart`): that part was named by tags when they stood for who picks, none of which is given back as long as he has
    /// the map.
    pub fn retire(&mut self, tag: Tag) {
        self.owners[tag.0 as usize] = None;
        self.unused.push(tag);
    }
}
