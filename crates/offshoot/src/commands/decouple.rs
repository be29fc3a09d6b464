//! `offshoot decouple`: an lvol without its parent.

use crate::deed::{Change, Job, Planned, Toil};
use crate::open::StoreArgs;
use crate::size::Size;
use crate::{job, lookup};
use anyhow::Result;
use clap::{ArgGroup, Args};
use offshoot_format::BlobId;
use offshoot_store::{Blob, Engine, State, Underlay, Verb, Work};
use serde::{Deserialize, Serialize};

/// Take the parent away from a clone
///
/// With --keep everybody reads the same afterwards: what the parent itself holds is copied, and the clone lies on what the
/// parent lies on. What that takes is said beforehand, and kept for it; if it is interrupted, what was done is kept, and
/// the next run goes on from there. A clone of an external snapshot becomes what `inflate` makes of it.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(group(ArgGroup::new("how").required(true).args(["keep", "zero"])))]
pub(crate) struct DecoupleArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The clone
    name: String,
    /// Copy what the parent holds
    #[arg(long)]
    keep: bool,
    /// Forget what the parent holds: what the clone does not hold itself reads zeros from now on
    #[arg(long)]
    zero: bool,
    /// How many bytes a second may be copied
    #[arg(long, value_name = "SIZE", requires = "keep")]
    rate: Option<Size>,
}

impl DecoupleArgs {
    /// Whether what the parent holds is copied.
    pub(crate) fn keeps(&self) -> bool {
        self.keep
    }
}

impl Toil for DecoupleArgs {
    fn plan(&self, engine: &Engine) -> Result<Job> {
        let bytes_per_second = job::rate(self.rate)?;
        let lvol = lookup::lvol(engine.state(), &self.name)?.id;
        let work = Work::Decouple { lvol };
        Ok(Job {
            what: "decouple",
            work,
            bytes_per_second,
            takes: job::takes(engine, work)?,
            said: Box::new(move |state, _| decoupled(state, lvol)),
        })
    }
}

impl Change for DecoupleArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let lvol = lookup::lvol(state, &self.name)?.id;
        let verb = Verb::SetParent { lvol, underlay: Underlay::Nothing };
        Ok(Planned::new(verb, move |state, _| decoupled(state, lvol)))
    }
}

/// What has become of an lvol.
fn decoupled(state: &State, lvol: BlobId) -> String {
    let name = state.blob(lvol).map(Blob::display_name).unwrap_or_default();
    match parent(state, lvol) {
        Some(parent) => format!("the parent of lvol \"{name}\" is \"{parent}\" now\n"),
        None => format!("lvol \"{name}\" has no parent any more\n"),
    }
}

/// What an lvol lies on, as people call it.
fn parent(state: &State, lvol: BlobId) -> Option<String> {
    let blob = state.blob(lvol)?;
    let external = blob.external.as_ref().filter(|_| blob.external_is_parent);
    let parent = blob.parent.and_then(|parent| state.blob(parent)).map(Blob::display_name);
    parent.or_else(|| external.map(offshoot_store::External::name))
}
