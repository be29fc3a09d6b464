//! What a job ends with: one transaction, planned like a verb once the data is where it belongs.

use super::{Plan, decouple, deferred, inflate, merge};
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
    /// Lvols whose writes must have finished before it is planned, in order of their ids.
    pub(crate) fn drains(self, state: &State) -> Vec<BlobId> {
        let parent = |lvol: &BlobId| state.blob(*lvol)?.parent;
        let mut drains: Vec<BlobId> = match self {
            // What is removed with it is drained like it.
            Self::Inflate(lvol) => state.deferred_ancestors(lvol).chain([lvol]).collect(),
            // What it shows of its ancestors depends on what they hold, and another job may be about to fill that.
            Self::Bypass { lvol, .. } => core::iter::successors(Some(lvol), parent).collect(),
            Self::Fold { snapshot, .. } => alloc::vec![snapshot],
            Self::Merged(_) => Vec::new(),
        };
        drains.sort_unstable();
        drains
    }

    /// Plans it against a State.
    ///
    /// # Errors
    /// Why it cannot be done; [`Error::Restless`] when the job has something left to do before.
    pub(crate) fn plan(self, state: &State) -> Result<Plan, Error> {
        let mut plan = match self {
            Self::Inflate(lvol) => inflate::plan(state, lvol),
            Self::Bypass { lvol, parent } => decouple::plan(state, lvol, parent),
            Self::Fold { snapshot, into } => merge::fold(state, snapshot, into),
            Self::Merged(into) => merge::plan(state, into),
        }?;
        deferred::let_go(state, &mut plan);
        Ok(plan)
    }
}
