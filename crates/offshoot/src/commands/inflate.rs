//! `offshoot inflate`: an lvol that needs no parent.

use crate::deed::{Job, Toil};
use crate::open::StoreArgs;
use crate::size::Size;
use crate::{job, lookup};
use anyhow::Result;
use clap::Args;
use offshoot_store::{Engine, Work};
use serde::{Deserialize, Serialize};

/// Make an lvol or snapshot hold everything that it reads, so that it needs no parent
///
/// What it reads from its snapshots is copied, and every cluster is allocated: it is thick afterwards, and has no parent.
/// What that takes is said beforehand, and kept for it: if there is not enough, nothing is done. If it is interrupted,
/// what was done is kept, and the next run goes on from there.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct InflateArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol or snapshot
    name: String,
    /// How many bytes a second it may write
    #[arg(long, value_name = "SIZE")]
    rate: Option<Size>,
}

impl Toil for InflateArgs {
    fn plan(&self, engine: &Engine) -> Result<Job> {
        let bytes_per_second = job::rate(self.rate)?;
        let blob = lookup::lvol(engine.state(), &self.name)?;
        let work = Work::Inflate { lvol: blob.id };
        let said = format!("lvol \"{}\" holds all that it reads\n", blob.display_name());
        Ok(Job {
            what: "inflate",
            work,
            bytes_per_second,
            takes: job::takes(engine, work)?,
            said: Box::new(|_, _| said),
        })
    }
}
