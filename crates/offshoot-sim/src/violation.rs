//! What a run that breaks the contract leaves behind.

use std::fmt;

/// The promise that was broken: a line of the contract in `docs/durability.md`, or one that needs no crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// An acknowledged write survives the death of the process.
    D1,
    /// What was flushed survives a power cut.
    D2,
    /// What was flushed is not harmed by what comes later.
    D3,
    /// Nothing reads what was never written there.
    D4,
    /// A verb is durable and atomic.
    D5,
    /// A crash damages nothing.
    D6,
    /// Running out of space harms nothing.
    D7,
    /// Without any crash: reads see what was written, requests are answered, no cluster is lost.
    Service,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("service"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A broken promise, and what led to it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which promise.
    pub promise: Promise,
    /// What was found.
    pub what: String,
    /// What was done before, oldest first.
    pub history: Vec<String>,
}

impl Violation {
    pub(crate) fn new(promise: Promise, what: impl Into<String>) -> Self {
        Self { promise, what: what.into(), history: Vec::new() }
    }

    /// Says where it was found.
    #[must_use]
    pub(crate) fn during(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// Adds what was done before.
    #[must_use]
    pub(crate) fn after(mut self, history: &[String]) -> Self {
        self.history.splice(0..0, history.iter().cloned());
        self
    }
}

impl From<Box<Violation>> for Violation {
    fn from(violation: Box<Self>) -> Self {
        *violation
    }
}

/// Lines of the history that are shown unless the alternate form (`{:#}`) is asked for, but for the first two, which
/// say what the run was about.
const LINES_MAX: usize = 120;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if f.alternate() { usize::MAX } else { LINES_MAX };
        let skipped = self.history.len().saturating_sub(most);
        for (number, line) in self.history.iter().enumerate() {
            match number {
                _ if number < 2 || number >= skipped => writeln!(f, "  {line}")?,
                2 => writeln!(f, "  ... {} lines", skipped - 2)?,
                _ => {}
            }
        }
        write!(f, "{} broken: {}", self.promise, self.what)
    }
}
