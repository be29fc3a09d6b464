//! `offshoot merge`: snapshots go into what lies on them.

use crate::deed::{Job, Look, Shown, Toil, View};
use crate::open::StoreArgs;
use crate::size::{Bytes, Size};
use crate::{job, lookup};
use anyhow::Result;
use clap::Args;
use offshoot_format::BlobId;
use offshoot_store::{Blob, Engine, State, Work, WorkCost};
use serde::{Deserialize, Serialize};

/// Fold a snapshot into its only clone, or a run of snapshots into the newest of them
///
/// What a snapshot holds changes hands; data is moved only where both hold parts of one cluster, and the space of one of
/// the two comes free. The folded snapshots are gone. If it is interrupted, the same command goes on from there.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The snapshot; or several that lie on each other, of which the newest stays
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
    /// Say what it would move and free, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How many bytes a second may be copied
    #[arg(long, value_name = "SIZE")]
    rate: Option<Size>,
}

impl MergeArgs {
    /// Whether it is only to say what it would do.
    pub(crate) fn only_looks(&self) -> bool {
        self.dry_run
    }

    /// The oldest snapshot, what takes it up, and a line that says what that takes.
    fn run(&self, engine: &Engine) -> Result<(BlobId, BlobId, String)> {
        let (oldest, into) = lookup::merge(engine.state(), &self.snapshots)?;
        let WorkCost { bytes, freed, .. } = engine.work_cost(Work::Merge { oldest, into })?;
        let freed = Bytes(freed * engine.state().units.cluster);
        Ok((oldest, into, format!("to move: {}; to free: {freed}\n", Bytes(bytes))))
    }
}

impl Look for MergeArgs {
    fn show(&self, view: &View<'_>) -> Result<Shown> {
        Ok(self.run(view.engine)?.2.into())
    }
}

impl Toil for MergeArgs {
    fn plan(&self, engine: &Engine) -> Result<Job> {
        let bytes_per_second = job::rate(self.rate)?;
        let (oldest, into, takes) = self.run(engine)?;
        let said = move |state: &State, _: &[BlobId]| {
            let name = state.blob(into).map(Blob::display_name).unwrap_or_default();
            format!("merged into \"{name}\"\n")
        };
        Ok(Job {
            what: "merge",
            work: Work::Merge { oldest, into },
            bytes_per_second,
            takes,
            said: Box::new(said),
        })
    }
}
