//! `offshoot dump`: the metadata of a store as text.

use crate::deed::{Look, Shown, View};
use crate::json::{self, DumpSection};
use crate::open::StoreArgs;
use crate::report;
use anyhow::Result;
use clap::Args;
use offshoot_format::{dump_blob, dump_extent_page, dump_layer_page, dump_super_block};
use offshoot_store::{Engine, blob_md, extent_page, layer_pages};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// Show the metadata of a store as text, one fact a line, the same text for the same metadata
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

impl Look for DumpArgs {
    fn show(&self, view: &View<'_>) -> Result<Shown> {
        let sections = sections(view.engine)?;
        if self.json {
            let sections: Vec<DumpSection> =
                sections.iter().map(|(title, text)| DumpSection::new(title, text)).collect();
            return Ok(json::text(&sections)?.into());
        }
        let mut text = String::new();
        for (title, section) in sections {
            let gap = if text.is_empty() { "" } else { "\n" };
            write!(text, "{gap}[{title}]\n{section}")?;
        }
        Ok(text.into())
    }
}

/// Title and text: the super block, then every blob in the order of their ids with the pages of its map.
fn sections(engine: &Engine) -> Result<Vec<(String, String)>, fmt::Error> {
    let state = engine.state();
    let mut text = String::new();
    dump_super_block(engine.super_block(), &mut text)?;
    let mut sections = vec![("super block".to_owned(), text)];
    for blob in state.blobs() {
        let mut text = String::new();
        if let Some(damage) = &blob.damage {
            writeln!(text, "damage: {}", report::plain(damage))?;
        }
        dump_blob(&blob_md(state, blob), &mut text)?;
        for (ordinal, md) in &blob.pages.ordinals {
            if md.extent.is_some() {
                dump_extent_page(&extent_page(state, blob, *ordinal), &mut text)?;
            }
            for page in layer_pages(state, blob, *ordinal) {
                dump_layer_page(&page, &mut text)?;
            }
        }
        sections.push((format!("blob {}", blob.id), text));
    }
    Ok(sections)
}
