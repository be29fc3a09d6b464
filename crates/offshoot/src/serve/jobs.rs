//! The jobs that run in a store while it is served, each at its pace.
//!
//! A job is the engine's; what is here is the clock that paces it.

use crate::pace::Budget;
use offshoot_block::BlockDevice;
use offshoot_store::{Store, Ticket, Work};
use std::time::Instant;

/// Jobs under way.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    running: Vec<Paced>,
}

#[derive(Debug)]
struct Paced {
    job: Ticket,
    /// `None` without a limit.
    budget: Option<Budget>,
}

impl Jobs {
    /// Starts a job that may copy so many bytes in a second. `None`: as many as clients leave room for.
    pub(super) fn start<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        work: Work,
        bytes_per_second: Option<u64>,
        now: Instant,
    ) -> Ticket {
        let budget = bytes_per_second.map(|rate| Budget::new(rate, now));
        // Something to begin with: however soon the server ends, it was of use.
        let job = store.start_job(work, budget.map(|_| 1));
        self.running.push(Paced { job, budget });
        job
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        !self.running.is_empty()
    }

    /// Lets them go on as the time allows.
    pub(super) fn tick<D: BlockDevice>(&mut self, store: &mut Store<D>, now: Instant) {
        for Paced { job, budget } in &mut self.running {
            if let Some(budget) = budget {
                store.allow(*job, Some(budget.earn(now)));
            }
        }
    }

    /// One has replied, if it is one.
    pub(super) fn end(&mut self, ticket: Ticket) -> bool {
        let before = self.running.len();
        self.running.retain(|paced| paced.job != ticket);
        self.running.len() < before
    }
}
