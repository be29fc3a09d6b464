//! `offshoot seal`: a store becomes what SPDK can open.

use crate::deed::{Job, Toil};
use crate::job;
use crate::open::StoreArgs;
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::{Engine, Work};
use serde::{Deserialize, Serialize};

/// Make a store one that SPDK can open
///
/// Clusters that are stored in part, or only said to be zeros, become whole ones; what is being removed is removed. The
/// lvols stay what they are. What that takes is said beforehand, and kept for it; if it is interrupted, what was done is
/// kept, and the next run goes on from there. Of a store that is served, what is left to do is its closing.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct SealArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

impl Toil for SealArgs {
    fn plan(&self, engine: &Engine) -> Result<Job> {
        let said = "nothing is left to seal: closing makes it a store that SPDK can open\n";
        Ok(Job {
            what: "seal",
            work: Work::Seal,
            bytes_per_second: None,
            takes: job::takes(engine, Work::Seal)?,
            said: Box::new(|_, _| said.to_owned()),
        })
    }
}

/// Seals the store, and closes it. Returns what to print.
///
/// # Errors
/// Why not, or why not all of it.
pub(crate) fn run(args: &SealArgs) -> Result<String> {
    args.store.change(|store| {
        let job = args.plan(store.engine())?;
        job::run(store, job)
    })?;
    // Closing it has sealed it, unless something is left that only this can tell.
    let store = args.store.look()?;
    let super_block = store.super_block();
    if super_block.is_native() || !super_block.is_clean() {
        bail!("{}: is not sealed: see offshoot info", args.store.path.display());
    }
    Ok("sealed\n".to_owned())
}
