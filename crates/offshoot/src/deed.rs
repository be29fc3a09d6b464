//! What a command does, apart from where it does it.
//!
//! A command that only looks makes text from an open store ([`Look`]); one that changes something plans one verb
//! ([`Change`]) or one job ([`Toil`]), or makes the store larger ([`Growth`]), and says what was done. All do so without knowing whether they run in the process of
//! the command or in a server that holds the store, so that what is printed is the same.

use crate::external::External;
use crate::report::Outcome;
use crate::size::Size;
use anyhow::Result;
use offshoot_device::HostDevice;
use offshoot_format::BlobId;
use offshoot_store::{Engine, Finding, State, Verb, Work};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a command does.
pub(crate) enum Deed<'e> {
    Look(&'e dyn Look),
    Change(&'e dyn Change),
    Toil(&'e dyn Toil),
    Grow(Growth),
}

/// A command that changes nothing.
pub(crate) trait Look {
    /// What to print, and how it ends.
    ///
    /// # Errors
    /// It cannot be told.
    fn show(&self, view: &View<'_>) -> Result<Shown>;
}

/// An open store, in whichever process, for looking at.
pub(crate) struct View<'s> {
    /// Where it is.
    pub(crate) path: &'s Path,
    /// The store.
    pub(crate) engine: &'s Engine,
    /// What opening it found wrong.
    pub(crate) findings: &'s [Finding],
    /// What it lies on.
    pub(crate) device: &'s dyn HostDevice,
    /// Whether clients use it meanwhile.
    pub(crate) is_served: bool,
}

/// What a command that looks has seen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Whole lines.
    pub(crate) text: String,
    /// How the command ends.
    pub(crate) outcome: Outcome,
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self { text, outcome: Outcome::Done }
    }
}

/// A command that is one verb.
pub(crate) trait Change {
    /// The verb for a store as it is.
    ///
    /// # Errors
    /// Why there is none.
    fn plan(&self, state: &State) -> Result<Planned>;
}

/// A command that is one job: long work, whose progress is shown.
pub(crate) trait Toil {
    /// The job for a store as it is.
    ///
    /// # Errors
    /// Why there is none.
    fn plan(&self, engine: &Engine) -> Result<Job>;
}

/// What there is to say, in lines, of a store as it is after a verb and of the lvols that were made.
pub(crate) type Said = Box<dyn FnOnce(&State, &[BlobId]) -> String>;

/// A store that is to become larger.
pub(crate) struct Growth {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// How long its file is to be made first.
    pub(crate) size: Option<Size>,
    /// Md pages that it is to have. `None`: as many as suit its size.
    pub(crate) md_pages: Option<u32>,
    /// Bytes that may be moved in a second.
    pub(crate) rate: Option<Size>,
}

/// A verb, and what to say once it is done.
pub(crate) struct Planned {
    pub(crate) verb: Verb,
    /// What the store reads through it.
    pub(crate) external: Option<External>,
    pub(crate) said: Said,
}

impl Planned {
    /// A verb of which something can be said only afterwards.
    pub(crate) fn new(verb: Verb, said: impl FnOnce(&State, &[BlobId]) -> String + 'static) -> Self {
        Self { verb, external: None, said: Box::new(said) }
    }

    /// A verb of which all can be said before.
    pub(crate) fn saying(verb: Verb, said: String) -> Self {
        Self::new(verb, |_, _| said)
    }

    /// The same verb, which lays an lvol over an external snapshot.
    pub(crate) fn over(self, external: External) -> Self {
        Self { external: Some(external), ..self }
    }
}

/// A job, and what to say about it.
pub(crate) struct Job {
    /// What it is called while it runs.
    pub(crate) what: &'static str,
    /// What is done.
    pub(crate) work: Work,
    /// Bytes that it may copy in a second. `None`: as many as clients leave room for.
    pub(crate) bytes_per_second: Option<u64>,
    /// What it takes: lines to be said before it begins.
    pub(crate) takes: String,
    /// What to say once it is done.
    pub(crate) said: Said,
}
