//! `offshoot check`: is a store sound?

use crate::json::{self, CheckReport, Damage};
use crate::open::{Store, StoreArgs};
use crate::report::{self, Outcome};
use anyhow::Result;
use clap::Args;
use offshoot_store::LoadError;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Look for damage: metadata or a journal that cannot be read, clusters and md pages without exactly one owner, wrong
/// masks, relations and block states that contradict each other
///
/// A store that was not closed is checked as it would be after recovery. Exit status 3 if there is damage. Nothing is
/// written.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

/// Looks for damage and shows it.
///
/// # Errors
/// The store cannot be opened, for another reason than damage.
pub(crate) fn run(args: &CheckArgs) -> Result<Outcome> {
    let (damage, lvols) = match args.store.look() {
        Ok(store) => (damage_of(&store), store.state().lvols().count()),
        Err(error) => (vec![fatal(error)?], 0),
    };
    let outcome = if damage.is_empty() { Outcome::Done } else { Outcome::Damage };
    if args.json {
        json::print(&CheckReport::from(damage))?;
        return Ok(outcome);
    }
    let mut text = String::new();
    for Damage { lvol, what, repair } in &damage {
        let whose = lvol.as_ref().map_or_else(String::new, |lvol| format!("lvol \"{lvol}\": "));
        writeln!(text, "{whose}{}", report::plain(what))?;
        writeln!(text, "  repair: {repair}")?;
    }
    match damage.len() {
        0 => writeln!(text, "no damage found in {lvols} lvols")?,
        count => writeln!(text, "{count} findings")?,
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(outcome)
}

/// What loading found, and where that leaves nothing to say, what the State that came of it contradicts.
fn damage_of(store: &Store) -> Vec<Damage> {
    let audited = if store.findings().is_empty() { store.state().audit() } else { Vec::new() };
    store.findings().iter().chain(&audited).map(Damage::from).collect()
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
