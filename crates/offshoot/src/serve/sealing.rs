//! `serve --seal`: a store becomes one that SPDK can open while its lvols are in use.
//!
//! The job is the engine's; what is here is the clock that paces it, and what is told about it. It ends with the server
//! at the latest, and whatever it has done until then need not be done again.

use crate::pace::Budget;
use crate::progress::Progress;
use crate::report;
use offshoot_store::{Error, Store, Ticket, Work};
use std::path::Path;
use std::time::Instant;
use tracing::{info, warn};

/// How a store is to be sealed while it is served.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SealPace {
    /// Bytes that may be copied in a second. `None`: as many as clients leave room for.
    pub(crate) bytes_per_second: Option<u64>,
}

/// The sealing of one store, under way.
#[derive(Debug)]
pub(super) struct Sealing {
    job: Ticket,
    /// `None` without a limit.
    budget: Option<Budget>,
    progress: Progress,
}

impl Sealing {
    /// Begins to seal a store.
    ///
    /// # Errors
    /// What there is to do cannot be told.
    pub(super) fn start<D: offshoot_block::BlockDevice>(
        store: &mut Store<D>,
        pace: SealPace,
        now: Instant,
    ) -> Result<Self, Error> {
        let cost = store.engine().seal_cost()?;
        let budget = pace.bytes_per_second.map(|rate| Budget::new(rate, now));
        // Something to begin with: however soon the server ends, it was of use.
        let job = store.start_job(Work::Seal, budget.map(|_| 1));
        Ok(Self { job, budget, progress: Progress::lines("seal", Some(cost.bytes)) })
    }

    /// Whether this is the job that replied.
    pub(super) fn is(&self, ticket: Ticket) -> bool {
        self.job == ticket
    }

    /// Lets the job go on as the time allows, and shows how far it is.
    pub(super) fn tick<D: offshoot_block::BlockDevice>(&mut self, store: &mut Store<D>, now: Instant) {
        let Some(progress) = store.engine().progress(self.job) else { return };
        self.progress.reach(progress.bytes_done.min(progress.bytes));
        if let Some(budget) = &mut self.budget {
            store.allow(self.job, Some(budget.earn(now)));
        }
    }

    /// Says what became of it.
    pub(super) fn end(self, path: &Path, result: Result<(), Error>) {
        let path = path.display();
        match result {
            Ok(()) => {
                report::done(format_args!(
                    "{path}: nothing is left to seal: closing makes it a store that SPDK can open"
                ));
            }
            Err(Error::Cancelled) => info!(store = %path, "sealing ends here; the next time it goes on"),
            Err(cause) => warn!(store = %path, %cause, "not sealed"),
        }
    }
}
