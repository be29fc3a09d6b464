//! `offshoot info`: what a store is like.

use crate::deed::{Look, Shown, View};
use crate::job::Takes;
use crate::json::{self, StoreInfo};
use crate::open::StoreArgs;
use crate::report;
use crate::size::Bytes;
use anyhow::Result;
use clap::Args;
use offshoot_store::Engine;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Show what a store is like
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

impl Look for InfoArgs {
    fn show(&self, view: &View<'_>) -> Result<Shown> {
        if self.json {
            return Ok(json::text(&StoreInfo::of(view))?.into());
        }
        let path = report::plain(&view.path.display().to_string());
        let mut text = String::new();
        for (key, value) in [("path", path)].into_iter().chain(facts(view)) {
            writeln!(text, "{:<16} {value}", format!("{key}:"))?;
        }
        Ok(text.into())
    }
}

fn facts(view: &View<'_>) -> impl Iterator<Item = (&'static str, String)> {
    let state = view.engine.state();
    let layout = &state.layout;
    let cluster = state.units.cluster;
    let space = state.space();
    let clusters = |count: u64| format!("{count} clusters, {}", Bytes(count * cluster));
    let uuid = state.uuid().map_or_else(|| "unknown".to_owned(), |uuid| uuid.to_string());
    let geometry = view.device.geometry();
    [
        ("name", state.name()),
        ("uuid", uuid),
        ("size", exact(layout.size_bytes)),
        ("can grow to", growth(view)),
        ("cluster size", exact(cluster)),
        ("block size", layout.io_unit_size.to_string()),
        ("clusters", format!("{}, {} of them for metadata", space.total, space.metadata)),
        ("allocated", clusters(space.allocated)),
        ("free", clusters(space.free)),
        ("pending free", clusters(space.pending_free)),
        ("committed", format!("{}, {} of them free and kept", clusters(space.committed), space.reserved)),
        ("md pages", md_pages(view)),
        ("lvols", state.lvols().count().to_string()),
        ("state", condition(view).to_owned()),
        ("native states", native_states(view.engine)),
        ("damage", damage(view)),
        ("device", view.device.description()),
        (
            "device blocks",
            format!("{} logical, {} physical", geometry.logical_block, geometry.physical_block),
        ),
        ("volatile cache", if geometry.volatile_cache { "yes" } else { "no" }.to_owned()),
    ]
    .into_iter()
}

/// How many md pages there are, and how many there can be.
fn md_pages(view: &View<'_>) -> String {
    let state = view.engine.state();
    let (len, most) = (state.layout.md_len, state.layout.growable_md_pages());
    format!("{len}, {} free; can grow to {most}", state.md.free())
}

/// How far the store can grow, and what is there for it now.
fn growth(view: &View<'_>) -> String {
    let layout = &view.engine.state().layout;
    let (max, device) = (layout.growable_bytes(), view.device.geometry().size_bytes);
    match device > layout.size_bytes {
        true => format!("{}, its device has {}", exact(max), exact(device)),
        false => exact(max),
    }
}

/// A size to read and to compute with.
fn exact(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", Bytes(bytes))
}

fn condition(view: &View<'_>) -> &'static str {
    let super_block = view.engine.super_block();
    if view.is_served {
        return "open: being served";
    }
    match (super_block.is_clean(), super_block.is_native()) {
        (true, false) => "sealed: a plain SPDK store",
        (true, true) => "closed in order, with states that SPDK cannot read",
        (false, _) => "not closed in order",
    }
}

/// Whether there is anything that SPDK cannot read, and what it would take to change that.
fn native_states(engine: &Engine) -> String {
    let state = engine.state();
    match (state.has_native_states(), state.native_allowed) {
        (true, _) => match engine.seal_cost() {
            Ok(cost) => format!("yes: {}", Takes { cost, cluster_bytes: state.units.cluster }),
            Err(error) => format!("yes: cannot be sealed: {error}"),
        },
        (false, true) => "none, new ones may arise".to_owned(),
        (false, false) => "none, and none may arise".to_owned(),
    }
}

fn damage(view: &View<'_>) -> String {
    match view.findings.len() {
        0 => "none found".to_owned(),
        count => format!("{count} findings: see offshoot check"),
    }
}
