//! `offshoot label`: words about an lvol.

use crate::deed::{Change, Look, Planned, Shown, View};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::{State, Verb};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Show the labels of an lvol, or change them
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol
    name: String,
    /// Labels to set; one without a value is taken away
    #[arg(value_name = "KEY=[VALUE]")]
    labels: Vec<String>,
}

impl LabelArgs {
    /// Whether labels are to be shown, and none changed.
    pub(crate) fn only_looks(&self) -> bool {
        self.labels.is_empty()
    }
}

impl Look for LabelArgs {
    fn show(&self, view: &View<'_>) -> Result<Shown> {
        let mut text = String::new();
        for (key, value) in lookup::lvol(view.engine.state(), &self.name)?.labels() {
            writeln!(text, "{key}={value}")?;
        }
        Ok(text.into())
    }
}

impl Change for LabelArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let labels = self.labels.iter().map(|text| parse(text)).collect::<Result<_>>()?;
        let blob = lookup::lvol(state, &self.name)?;
        let said = format!("labelled lvol \"{}\"\n", blob.display_name());
        Ok(Planned::saying(Verb::Label { lvol: blob.id, labels }, said))
    }
}

fn parse(text: &str) -> Result<(String, Option<String>)> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty()))),
        None => bail!("\"{text}\" is no label: give KEY=VALUE, or KEY= to take it away"),
    }
}
