//! Shallow copy: what an lvol says itself, without what it reads from others.
//!
//! SPDK copies the clusters that an lvol holds. Here an lvol may hold a part of a cluster, and may only say that it reads
//! zeros: the blocks in which it differs from what lies below it. So copies of a chain, the oldest first, onto one
//! destination add up to what the last one reads, as they do with SPDK.
//!
//! What lies below it is what the copies before have left: behind the end of its parent that of a longer ancestor, which
//! the lvol does not show.

use super::diff::{Diff, Side};
use crate::blob::Blob;
use crate::error::Error;
use crate::state::State;
use core::iter;
use offshoot_format::BlobId;

impl State {
    /// The ranges of an lvol that a shallow copy consists of.
    ///
    /// # Errors
    /// The lvol does not exist, is damaged, or is writable: a copy of what changes meanwhile is of no moment.
    pub fn shallow_copy(&self, lvol: BlobId) -> Result<Diff<'_>, Error> {
        let lvol = self.sound_lvol(lvol)?;
        if !lvol.is_read_only() {
            return Err(Error::CopyOfWritable(lvol.display_name()));
        }
        let below = match lvol.parent.and_then(|parent| self.blob(parent)) {
            Some(parent) => self.left_by_copies(parent, lvol.len),
            None if lvol.external_is_parent => Side::whole_external(lvol),
            None => Side::default(),
        };
        Ok(Diff::new(self, below, lvol))
    }

    /// What copies of a blob and all that it lies on, the oldest first, leave up to a number of clusters.
    fn left_by_copies<'s>(&'s self, blob: &'s Blob, len: u64) -> Side<'s> {
        let mut left = Side::of(blob);
        let parent = |blob: &&'s Blob| self.blob(blob.parent?);
        for ancestor in iter::successors(Some(blob), parent) {
            left.extend(ancestor, len);
        }
        left
    }
}
