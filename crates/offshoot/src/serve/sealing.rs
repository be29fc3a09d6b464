//! `serve --seal`: a store becomes one that SPDK can open while its lvols are in use.
//!
//! The job is the engine's; what is here is the clock that paces it, and what is told about it. It ends with the server
//! at the latest, and whatever it has done until then need not be done again.

use crate::progress::Progress;
use crate::report;
use offshoot_store::{Error, Store, Ticket, Work};
use std::path::Path;
use std::time::{Duration, Instant};
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

/// Bytes that a job is allowed, by the time that passes.
#[derive(Clone, Copy, Debug)]
struct Budget {
    bytes_per_second: u64,
    /// Up to when all has been handed out.
    spent: Instant,
}

impl Budget {
    fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self { bytes_per_second, spent: now }
    }

    /// What has been earned since this was asked last: a second's worth at most.
    fn earn(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.spent).min(Duration::from_secs(1));
        let earned = u128::from(self.bytes_per_second) * passed.as_micros() / 1_000_000;
        if earned > 0 {
            self.spent = now;
        }
        u64::try_from(earned).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_budget_follows_the_clock() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut budget = Budget::new(10 * MIB, start);
        assert_eq!(budget.earn(at(0)), 0);
        assert_eq!(budget.earn(at(500)), 5 * MIB);
        assert_eq!(budget.earn(at(600)), MIB);
        // Nobody was there to take it: one second's worth is all that comes.
        assert_eq!(budget.earn(at(60_000)), 10 * MIB);
    }

    #[test]
    fn slow_rates_are_not_lost_in_short_ticks() {
        let start = Instant::now();
        let mut budget = Budget::new(2, start);
        let all: u64 = (1..=5000).map(|millis| budget.earn(start + Duration::from_millis(millis))).sum();
        assert_eq!(all, 10);
    }
}
