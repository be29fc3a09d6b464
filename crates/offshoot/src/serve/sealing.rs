//! `serve --seal`: a store becomes one that SPDK can open while its lvols are in use.
//!
//! It ends with the server at the latest, and whatever it has done until then need not be done again.

use crate::progress::Progress;
use crate::report;
use offshoot_store::{Engine, Error, Ticket};
use std::path::Path;
use tracing::{info, warn};

/// How a store is to be sealed while it is served.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SealPace {
    /// Bytes that may be copied in a second. `None`: as many as clients leave room for.
    pub(crate) bytes_per_second: Option<u64>,
}

/// What is told about the sealing of one store, under way.
#[derive(Debug)]
pub(super) struct Sealing {
    job: Ticket,
    progress: Progress,
}

impl Sealing {
    /// A job that has so many bytes to write.
    pub(super) fn new(job: Ticket, bytes: u64) -> Self {
        Self { job, progress: Progress::lines("seal", Some(bytes)) }
    }

    /// The job.
    pub(super) fn job(&self) -> Ticket {
        self.job
    }

    /// Shows how far it is.
    pub(super) fn tick(&mut self, engine: &Engine) {
        if let Some(progress) = engine.progress(self.job) {
            self.progress.reach(progress.bytes_done.min(progress.bytes));
        }
    }

    /// Says what became of it.
    pub(super) fn end(self, path: &Path, result: Result<(), &Error>) {
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
