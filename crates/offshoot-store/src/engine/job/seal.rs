//! Sealing a store that is in use.

use super::Ticket;
use crate::engine::Engine;
use crate::engine::journal::After;
use crate::error::Error;
use crate::verb::WorkCost;

impl Engine {
    /// What sealing takes now.
    ///
    /// # Errors
    /// An lvol is damaged, or cannot be read where it must be because its external snapshot is missing.
    pub fn seal_cost(&self) -> Result<WorkCost, Error> {
        let cost = self.state.seal_cost()?;
        let degraded = self.state.blobs().find(|blob| {
            let needs = || self.state.seal_needs(blob, offshoot_format::ExtentOrdinal(0)).is_some();
            self.is_degraded(blob.id) && needs()
        });
        match degraded {
            Some(blob) => Err(Error::Degraded(blob.display_name())),
            None => Ok(cost),
        }
    }

    /// From now on nothing native arises, and no family is left with two encodings.
    pub(super) fn begin_seal(&mut self, ticket: Ticket) {
        self.state.native_allowed = false;
        for record in self.state.seal_encodings() {
            if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
                job.under_way += 1;
            }
            if let Err(error) = self.commit(alloc::vec![record], After::Job(ticket)) {
                self.job_committed(ticket, Err(error));
            }
        }
    }

    /// The store is not going to be sealed, unless it is.
    pub(super) fn abandon_seal(&mut self) {
        if !self.jobs.sealed {
            self.state.native_allowed = self.state.allows_native();
        }
    }

    /// Whether there is nothing that sealing would change.
    pub(super) fn is_seal_done(&self) -> Result<bool, Error> {
        let cost = self.seal_cost()?;
        Ok(cost.filled == 0 && self.state.dying.is_empty() && self.state.seal_encodings().is_empty())
    }
}
