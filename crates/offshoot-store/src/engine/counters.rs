//! What an engine has done since it was made, in numbers that only grow. Nothing in it depends on them.

use super::Engine;
use crate::journal::Ring;
use alloc::collections::BTreeMap;
use offshoot_format::BlobId;

/// What an engine has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Barriers that have completed, also those that were one sync because no record was uncovered.
    pub barriers: u64,
    /// Checkpoints that have completed.
    pub checkpoints: u64,
    /// Frames that have been appended to the journal, and their bytes, the padding to whole blocks included.
    pub frames: u64,
    /// See [`Counters::frames`].
    pub frame_bytes: u64,
    /// Writes of clients, by lvol, that needed a record: the first ones to their blocks.
    pub first_writes: BTreeMap<BlobId, u64>,
}

/// How full the journal is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalFill {
    /// What is needed still: after a crash it would be replayed.
    pub used: u64,
    /// What there is; 0 without a journal.
    pub size: u64,
}

impl Engine {
    /// What it has done since it was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How full the journal is.
    #[must_use]
    pub fn journal_fill(&self) -> JournalFill {
        let ring: &Ring = &self.journal.ring;
        JournalFill { used: ring.used(), size: ring.len() }
    }

    pub(super) fn count_first_write(&mut self, lvol: BlobId) {
        *self.counters.first_writes.entry(lvol).or_default() += 1;
    }

    /// An lvol was made. Its id may have stood for another one.
    pub(super) fn begin_counts(&mut self, lvol: BlobId) {
        self.counters.first_writes.remove(&lvol);
    }
}
