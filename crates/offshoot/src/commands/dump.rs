//! `offshoot dump`: the metadata of a store as text.

use crate::json::{self, DumpSection};
use crate::open::{Store, StoreArgs};
use crate::report;
use anyhow::Result;
use clap::Args;
use offshoot_format::{dump_blob, dump_extent_page, dump_layer_page, dump_super_block};
use offshoot_store::{blob_md, extent_page, layer_pages};
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

/// Show the metadata of a store as text, one fact a line, the same text for the same metadata
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

/// Shows the metadata.
///
/// # Errors
/// The store cannot be opened.
pub(crate) fn run(args: &DumpArgs) -> Result<()> {
    let store = args.store.look()?;
    let sections = sections(&store)?;
    if args.json {
        let sections: Vec<DumpSection> =
            sections.iter().map(|(title, text)| DumpSection::new(title, text)).collect();
        return json::print(&sections);
    }
    let mut text = String::new();
    for (title, section) in sections {
        let gap = if text.is_empty() { "" } else { "\n" };
        write!(text, "{gap}[{title}]\n{section}")?;
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Title and text: the super block, then every blob in the order of their ids with the pages of its map.
fn sections(store: &Store) -> Result<Vec<(String, String)>, fmt::Error> {
    let state = store.state();
    let mut text = String::new();
    dump_super_block(store.super_block(), &mut text)?;
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
