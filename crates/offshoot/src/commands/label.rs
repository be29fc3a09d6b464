//! `offshoot label`: words about an lvol.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::Verb;

/// Show the labels of an lvol, or change them
#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    name: String,
    /// Labels to set; one without a value is taken away
    #[arg(value_name = "KEY=[VALUE]")]
    labels: Vec<String>,
}

/// Shows or changes the labels.
///
/// # Errors
/// Why not; then none was changed.
pub(crate) fn run(args: &LabelArgs) -> Result<()> {
    let labels: Vec<_> = args.labels.iter().map(|text| parse(text)).collect::<Result<_>>()?;
    if labels.is_empty() {
        let store = args.store.look()?;
        for (key, value) in lookup::lvol(store.state(), &args.name)?.labels() {
            report::done(format_args!("{key}={value}"));
        }
        return Ok(());
    }
    let name = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.name)?;
        let (lvol, name) = (blob.id, blob.display_name());
        store.execute(Verb::Label { lvol, labels })?;
        Ok(name)
    })?;
    report::done(format_args!("labelled lvol \"{name}\""));
    Ok(())
}

fn parse(text: &str) -> Result<(String, Option<String>)> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty()))),
        None => bail!("\"{text}\" is no label: give KEY=VALUE, or KEY= to take it away"),
    }
}
