//! What jobs there are, and what each of them wants.

use super::{Engine, Job, Ticket};
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
    /// An lvol or snapshot comes to hold what its parent holds, and lies on what lies below the parent then. One that lies
    /// on an external snapshot is inflated.
    Decouple {
        /// Which.
        lvol: BlobId,
    },
    /// An lvol takes up the snapshots that it lies on, down to one of them, and keeps one cluster where both hold parts of
    /// one. [`State::merge_run`] says which from which to which.
    Merge {
        /// The last one that it takes up. The lvol itself: what was taken up before is joined.
        oldest: BlobId,
        /// The lvol.
        into: BlobId,
    },
    /// Some blocks of a cluster that an lvol reads from its external snapshot become its own.
    Keep {
        /// The lvol.
        lvol: BlobId,
        /// Its cluster.
        at: BlobCluster,
        /// The first block.
        first: u32,
        /// Behind the last block.
        end: u32,
    },
    /// The store takes over a size that its device has already, and then as many md pages: the clusters behind the md
    /// region are moved out of its way.
    Grow {
        /// Bytes of the store.
        size_bytes: u64,
        /// Md pages of the store.
        md_pages: u32,
    },
}

impl Work {
    /// Whether the clusters that it fills must be backed by space of the device, zeros or not.
    pub(super) fn keeps_space(self) -> bool {
        match self {
            Self::Seal | Self::Decouple { .. } | Self::Merge { .. } => false,
            Self::Grow { .. } | Self::Keep { .. } => false,
            Self::Inflate { .. } => true,
        }
    }

    /// Whether a cluster is filled in one go: what moves must not be in two places for a while, because that takes md
    /// pages.
    pub(super) fn fills_whole(self) -> bool {
        matches!(self, Self::Grow { .. })
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
            Self::Decouple { .. } => state.decouple_needs(blob, from),
            Self::Merge { .. } => state.join_needs(blob, from),
            Self::Keep { at, first, end, .. } => state.keep_needs(blob, from, at, &(first..end)),
            Self::Grow { md_pages, .. } => {
                state.move_needs(blob, from, &state.layout.clusters_for_md(md_pages))
            }
        }
    }

    /// What a cluster of a blob needs.
    pub(in crate::engine) fn need(self, state: &State, blob: &Blob, at: BlobCluster) -> Option<Need> {
        match self {
            Self::Seal => state.seal_need(blob, at),
            Self::Inflate { .. } => state.inflate_need(blob, at),
            Self::Decouple { .. } => state.decouple_need(blob, at),
            Self::Merge { .. } => state.join_need(blob, at),
            Self::Keep { at: of, first, end, .. } if of == at => state.keep_need(blob, at, &(first..end)),
            Self::Keep { .. } => None,
            Self::Grow { md_pages, .. } => state.move_need(blob, at, &state.layout.clusters_for_md(md_pages)),
        }
    }

    /// The transaction that has to come before anything is filled.
    pub(super) fn first_step(self, state: &State) -> Option<Step> {
        let Self::Merge { oldest, into } = self else { return None };
        let snapshot = state.blob(into)?.parent?;
        let is_left = into != oldest && (snapshot == oldest || state.descends(snapshot, oldest));
        is_left.then_some(Step::Fold { snapshot, into })
    }

    /// The transaction that makes it true once nothing is left to be filled.
    pub(super) fn last_step(self, state: &State) -> Option<Step> {
        match self {
            Self::Seal | Self::Grow { .. } | Self::Keep { .. } => None,
            Self::Inflate { lvol } => Some(Step::Inflate(lvol)),
            Self::Decouple { lvol } => {
                let parent = state.blob(lvol).and_then(|blob| blob.parent);
                // Without a parent nothing is left to do, and its plan says so.
                Some(Step::Bypass { lvol, parent: parent.unwrap_or(lvol) })
            }
            Self::Merge { into, .. } => Some(Step::Merged(into)),
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
        match self.settled(work) {
            Work::Seal => self.seal_cost(),
            Work::Inflate { lvol } => {
                let cost = self.state.inflate_cost(lvol)?;
                self.check_readable(lvol, &cost)?;
                Ok(cost)
            }
            // It copies nothing of an external snapshot.
            Work::Decouple { lvol } => self.state.decouple_cost(lvol),
            Work::Merge { oldest, into } => self.state.merge_cost(oldest, into),
            Work::Grow { size_bytes, md_pages } => self.grow_cost(size_bytes, md_pages),
            Work::Keep { lvol, at, first, end } => self.state.keep_cost(lvol, at, &(first..end)),
        }
    }

    /// What a job comes to in this State.
    pub(super) fn settled(&self, work: Work) -> Work {
        match work {
            Work::Decouple { lvol } if self.state.blob(lvol).is_some_and(|blob| blob.external_is_parent) => {
                Work::Inflate { lvol }
            }
            work => work,
        }
    }

    /// The lvols whose size, clusters and relations must stay as they are while a job runs.
    fn bound_by(&self, work: Work) -> Vec<BlobId> {
        match work {
            Work::Seal | Work::Grow { .. } | Work::Keep { .. } => Vec::new(),
            Work::Inflate { lvol } => alloc::vec![lvol],
            Work::Decouple { lvol } => {
                let parent = self.state.blob(lvol).and_then(|blob| blob.parent);
                parent.into_iter().chain([lvol]).collect()
            }
            Work::Merge { oldest, into } => {
                let mut bound = alloc::vec![into];
                while let Some(parent) = bound.last().and_then(|id| self.state.blob(*id)?.parent)
                    && bound.last() != Some(&oldest)
                    && self.state.descends(into, oldest)
                {
                    bound.push(parent);
                }
                bound
            }
        }
    }

    /// Whether a job that runs keeps another one from running beside it.
    pub(super) fn is_excluded(&self, work: Work) -> bool {
        let bound = self.bound_by(work);
        let mut running = self.jobs.jobs.values().map(|job| job.work);
        let grows = |work: Work| matches!(work, Work::Grow { .. });
        running.any(|other| {
            other == work
                || grows(other) && grows(work)
                || self.bound_by(other).iter().any(|lvol| bound.contains(lvol))
        })
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
            Work::Grow { md_pages, .. } => self.owners_in_way(md_pages),
            Work::Inflate { lvol }
            | Work::Decouple { lvol }
            | Work::Merge { into: lvol, .. }
            | Work::Keep { lvol, .. } => alloc::vec![lvol],
        }
    }

    /// Refuses a verb that a running job does not allow beside it.
    pub(in crate::engine) fn check_no_job(&self, verb: &Verb) -> Result<(), Error> {
        let bound: Vec<BlobId> = self.jobs.jobs.values().flat_map(|job| self.bound_by(job.work)).collect();
        let busy = verb.reshapes(&self.state).into_iter().find(|lvol| bound.contains(lvol));
        match busy.and_then(|lvol| self.state.blob(lvol)) {
            Some(lvol) => Err(Error::InUse(lvol.display_name())),
            None => Ok(()),
        }
    }

    /// Whether what an lvol holds must not become less, because a job is about to make it thick.
    pub(in crate::engine) fn is_inflating(&self, lvol: BlobId) -> bool {
        self.jobs.jobs.values().any(|job| job.work == Work::Inflate { lvol })
    }

    /// Gives a write one of the clusters that a job does not need any more then: one that is kept for making its lvol
    /// thick, or for moving what an lvol has let go of meanwhile.
    pub(in crate::engine) fn draw_for_write(&mut self, lvol: BlobId) -> bool {
        let spares = |(ticket, job): (&Ticket, &Job)| match job.work {
            Work::Inflate { lvol: inflated } => inflated == lvol,
            Work::Grow { md_pages, .. } => self.keeps_too_many(*ticket, md_pages, job.clusters),
            Work::Seal | Work::Decouple { .. } | Work::Merge { .. } | Work::Keep { .. } => false,
        };
        let job = self.jobs.jobs.iter().find(|job| spares(*job)).map(|(ticket, _)| *ticket);
        job.is_some_and(|job| self.draw_clusters(job, 1) == 1)
    }
}
