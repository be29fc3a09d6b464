//! Shallow copy: what an lvol says itself, without what it reads from others.
//!
//! SPDK copies the clusters that an lvol holds. Here an lvol may hold a part of a cluster, and may only say that it reads
//! zeros: the blocks in which it differs from what lies below it. So copies of a chain, the oldest first, onto one
//! destination add up to what the last one reads, as they do with SPDK.

use super::diff::{Diff, Side};
use crate::error::Error;
use crate::state::State;
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
            Some(parent) => Side::of(parent),
            None if lvol.external_is_parent => Side::whole_external(lvol),
            None => Side::default(),
        };
        Ok(Diff::new(self, below, lvol))
    }
}
