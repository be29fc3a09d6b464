//! What jobs there are, and what each of them wants.

use super::Engine;
use crate::blob::Blob;
use crate::error::Error;
use crate::state::State;
use crate::verb::{Need, Needed, Step, Verb, WorkCost};
use alloc::vec::Vec;
use offshoot_format::{BlobCluster, BlobId, ExtentOrdinal};

/// What a job is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// Everything in the store becomes what SPDK can read. Nothing native arises any more until the store is closed.
    Seal,
    /// An lvol or snapshot comes to hold all that it reads, and becomes thick. It has no parent any more then.
    Inflate {
        /// Which.
        lvol: BlobId,
    },
}

impl Work {
    /// The lvols whose size, clusters and relations must stay as they are meanwhile.
    fn binds(self) -> Vec<BlobId> {
        match self {
            Self::Seal => Vec::new(),
            Self::Inflate { lvol } => alloc::vec![lvol],
        }
    }

    /// Whether a job keeps another one from running beside it.
    pub(super) fn excludes(self, other: Self) -> bool {
        let theirs = other.binds();
        self == other || self.binds().iter().any(|lvol| theirs.contains(lvol))
    }

    /// Whether the clusters that it fills must be backed by space of the device, zeros or not.
    pub(super) fn keeps_space(self) -> bool {
        match self {
            Self::Seal => false,
            Self::Inflate { .. } => true,
        }
    }

    /// What a blob needs in the first ordinal from one on in which it needs something.
    pub(super) fn needs(
        self,
        state: &State,
        blob: &Blob,
        from: ExtentOrdinal,
    ) -> Option<(ExtentOrdinal, Vec<Needed>)> {
        match self {
            Self::Seal => state.seal_needs(blob, from),
            Self::Inflate { .. } => state.inflate_needs(blob, from),
        }
    }

    /// What a cluster of a blob needs.
    pub(in crate::engine) fn need(self, state: &State, blob: &Blob, at: BlobCluster) -> Option<Need> {
        match self {
            Self::Seal => state.seal_need(blob, at),
            Self::Inflate { .. } => state.inflate_need(blob, at),
        }
    }

    /// The transaction that makes it true once nothing is left to be filled.
    pub(super) fn last_step(self) -> Option<Step> {
        match self {
            Self::Seal => None,
            Self::Inflate { lvol } => Some(Step::Inflate(lvol)),
        }
    }
}

impl Engine {
    /// What a job takes now.
    ///
    /// # Errors
    /// Why it cannot be done: an lvol does not exist or is damaged, or cannot be read where it must be because its
    /// external snapshot is missing.
    pub fn work_cost(&self, work: Work) -> Result<WorkCost, Error> {
        match work {
            Work::Seal => self.seal_cost(),
            Work::Inflate { lvol } => {
                let cost = self.state.inflate_cost(lvol)?;
                self.check_readable(lvol, &cost)?;
                Ok(cost)
            }
        }
    }

    fn check_readable(&self, lvol: BlobId, cost: &WorkCost) -> Result<(), Error> {
        match self.state.blob(lvol).filter(|_| cost.bytes > 0 && self.is_degraded(lvol)) {
            Some(blob) => Err(Error::Degraded(blob.display_name())),
            None => Ok(()),
        }
    }

    /// The blobs that a job fills, in their order.
    pub(super) fn targets_of(&self, work: Work) -> Vec<BlobId> {
        match work {
            Work::Seal => self.state.clones_first(),
            Work::Inflate { lvol } => alloc::vec![lvol],
        }
    }

    /// Refuses a verb that a running job does not allow beside it.
    pub(in crate::engine) fn check_no_job(&self, verb: &Verb) -> Result<(), Error> {
        let bound: Vec<BlobId> = self.jobs.jobs.values().flat_map(|job| job.work.binds()).collect();
        let busy = verb.reshapes().into_iter().find(|lvol| bound.contains(lvol));
        match busy.and_then(|lvol| self.state.blob(lvol)) {
            Some(lvol) => Err(Error::InUse(lvol.display_name())),
            None => Ok(()),
        }
    }

    /// Whether what an lvol holds must not become less, because a job is about to make it thick.
    pub(in crate::engine) fn is_inflating(&self, lvol: BlobId) -> bool {
        self.jobs.jobs.values().any(|job| job.work == Work::Inflate { lvol })
    }

    /// Gives a write one of the clusters that are kept for making its lvol thick: the job does not need it any more then.
    pub(in crate::engine) fn draw_for_write(&mut self, lvol: BlobId) -> bool {
        let job = self.jobs.jobs.iter().find(|(_, job)| job.work == Work::Inflate { lvol });
        let job = job.map(|(ticket, _)| *ticket);
        job.is_some_and(|job| self.draw_clusters(job, 1) == 1)
    }
}
