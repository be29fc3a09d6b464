//! Ctrl-C during long work: noticed at the next good moment, so that what is half done can be taken back.

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The user wants the work to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Whether a signal has asked for the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on SIGINT and SIGTERM only raise a flag.
    ///
    /// # Errors
    /// The system does not let signals be handled.
    pub(crate) fn install() -> Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.raised))
                .context("cannot handle signals")?;
        }
        Ok(interrupt)
    }

    /// Goes on, unless the end was asked for.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if self.raised.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}
