//! `offshoot check`: is a store sound? And if not, what can be done about it.

mod repair;
mod treatment;
mod undo;

use crate::deed::{Look, Shown, View};
use crate::json::{self, CheckReport, Damage, Deferred};
use crate::open::{self, StoreArgs};
use crate::report::{self, Outcome};
use anyhow::Result;
use clap::Args;
use offshoot_store::{Finding, LoadError, State};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Look for damage: metadata or a journal that cannot be read, clusters and md pages without exactly one owner, wrong
/// masks, relations and block states that contradict each other
///
/// A store that was not closed is checked as it would be after recovery. Exit status 3 if there is damage. Nothing is
/// written, unless --repair says so: then what can be put right is, everything that is written over is saved in an undo
/// file before, and the exit status is 3 if damage is left. `check STORE --undo FILE` puts all of that back. Neither is
/// done to a store that is served.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Show JSON
    #[arg(long, conflicts_with = "force")]
    json: bool,
    /// Put right what can be
    #[arg(long)]
    repair: bool,
    /// Only say what --repair would do
    #[arg(long, requires = "repair", conflicts_with = "undo")]
    dry_run: bool,
    /// With --repair: where the undo file is made, by default in the current folder, named after the store and the time.
    /// Without: put back what the repair with this undo file changed
    #[arg(long, value_name = "FILE")]
    undo: Option<PathBuf>,
    /// Put back even if something else than that repair has changed the store since
    #[arg(long, requires = "undo", conflicts_with = "repair")]
    force: bool,
}

impl CheckArgs {
    /// Whether nothing is to be changed.
    pub(crate) fn only_looks(&self) -> bool {
        self.undo.is_none() && !self.repair
    }
}

/// Repairs the store, or undoes a repair.
///
/// # Errors
/// The store cannot be opened, for another reason than damage, or cannot be written.
pub(crate) fn run(args: &CheckArgs) -> Result<Outcome> {
    let done = match &args.undo {
        Some(file) if !args.repair => undo::run(&args.store.path, file, args.force).map(|()| Outcome::Done),
        _ => repair::run(args),
    };
    done.map_err(|error| open::wants_it_alone(error, "a repair"))
}

/// Looks for damage, also where it is such that the store cannot be opened.
///
/// # Errors
/// It cannot be opened for another reason.
pub(crate) fn look(args: &CheckArgs) -> Result<Shown> {
    match args.store.show(args) {
        Err(error) => args.shown(vec![fatal(error)?], 0, Vec::new()),
        shown => shown,
    }
}

impl Look for CheckArgs {
    fn show(&self, view: &View<'_>) -> Result<Shown> {
        let state = view.engine.state();
        let deferred = state.deferred().filter(|blob| !state.is_unfinished(blob));
        let deferred = deferred.map(|blob| Deferred::new(state, blob)).collect();
        let damage = findings_of(view.findings, state).iter().map(Damage::from).collect();
        self.shown(damage, state.lvols().count(), deferred)
    }
}

impl CheckArgs {
    fn shown(&self, damage: Vec<Damage>, lvols: usize, deferred: Vec<Deferred>) -> Result<Shown> {
        let outcome = if damage.is_empty() { Outcome::Done } else { Outcome::Damage };
        if self.json {
            return Ok(Shown { text: json::text(&CheckReport { damage, deferred })?, outcome });
        }
        let mut text = String::new();
        for damage in &damage {
            writeln!(text, "{}", headline(damage))?;
            writeln!(text, "  repair: {}", damage.repair)?;
        }
        for Deferred { name, clones } in &deferred {
            writeln!(text, "{name}: removed, kept until one of its clones is left: {}", clones.join(", "))?;
        }
        match damage.len() {
            0 => writeln!(text, "no damage found in {lvols} lvols")?,
            count => writeln!(text, "{count} findings")?,
        }
        Ok(Shown { text, outcome })
    }
}

/// What is wrong, and with whom.
fn headline(Damage { lvol, what, .. }: &Damage) -> String {
    let whose = lvol.as_ref().map_or_else(String::new, |lvol| format!("lvol \"{lvol}\": "));
    format!("{whose}{}", report::plain(what))
}

/// What loading found, and where that leaves nothing to say, what the State that came of it contradicts.
fn findings_of(found: &[Finding], state: &State) -> Vec<Finding> {
    match found {
        [] => state.audit(),
        found => found.to_vec(),
    }
}

/// The damage because of which nothing of the store can be read. Any other error is handed back.
fn fatal(error: anyhow::Error) -> Result<Damage> {
    match error.downcast_ref() {
        Some(damage @ (LoadError::Damage(_) | LoadError::NoSuperBlob(_))) => Ok(Damage {
            lvol: None,
            what: damage.to_string(),
            repair: "restore the store from a backup: nothing of it can be read",
        }),
        _ => Err(error),
    }
}
