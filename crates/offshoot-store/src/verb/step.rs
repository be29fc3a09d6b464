//! What a job ends with: one transaction, planned like a verb once the data is where it belongs.

use super::{Plan, decouple, inflate, merge};
use crate::error::Error;
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::BlobId;

/// The last transaction of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// An lvol that holds everything itself becomes thick and has no parent any more.
    Inflate(BlobId),
    /// An lvol that shows nothing of its parent lies on what lies below it.
    Bypass {
        /// The lvol.
        lvol: BlobId,
        /// The parent.
        parent: BlobId,
    },
    /// The parent of an lvol goes into it.
    Fold {
        /// The parent.
        snapshot: BlobId,
        /// The lvol.
        into: BlobId,
    },
    /// An lvol has taken up what was to go into it.
    Merged(BlobId),
}

impl Step {
    /// Lvols whose writes must have finished before it is planned.
    pub(crate) fn drains(self) -> Vec<BlobId> {
        match self {
            Self::Inflate(lvol) | Self::Bypass { lvol, .. } | Self::Fold { snapshot: lvol, .. } => {
                alloc::vec![lvol]
            }
            Self::Merged(_) => Vec::new(),
        }
    }

    /// Plans it against a State.
    ///
    /// # Errors
    /// Why it cannot be done; [`Error::Restless`] when the job has something left to do before.
    pub(crate) fn plan(self, state: &State) -> Result<Plan, Error> {
        match self {
            Self::Inflate(lvol) => inflate::plan(state, lvol),
            Self::Bypass { lvol, parent } => decouple::plan(state, lvol, parent),
            Self::Fold { snapshot, into } => merge::fold(state, snapshot, into),
            Self::Merged(into) => merge::plan(state, into),
        }
    }
}
