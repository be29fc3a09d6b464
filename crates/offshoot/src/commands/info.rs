//! `offshoot info`: what a store is like.

use crate::job::Takes;
use crate::json::{self, StoreInfo};
use crate::open::{Store, StoreArgs};
use crate::report;
use crate::size::Bytes;
use anyhow::Result;
use clap::Args;
use offshoot_block::BlockDevice as _;
use offshoot_device::{EngineKind, FileDevice};
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Show what a store is like
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

/// Shows the store.
///
/// # Errors
/// The store cannot be opened.
pub(crate) fn run(args: &InfoArgs) -> Result<()> {
    let store = args.store.look()?;
    if args.json {
        return json::print(&StoreInfo::of(&store, &args.store.path));
    }
    let path = report::plain(&args.store.path.display().to_string());
    let mut text = String::new();
    for (key, value) in [("path", path)].into_iter().chain(facts(&store)) {
        writeln!(text, "{:<16} {value}", format!("{key}:"))?;
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn facts(store: &Store) -> impl Iterator<Item = (&'static str, String)> {
    let state = store.state();
    let layout = &state.layout;
    let cluster = state.units.cluster;
    let space = state.space();
    let clusters = |count: u64| format!("{count} clusters, {}", Bytes(count * cluster));
    let uuid = state.uuid().map_or_else(|| "unknown".to_owned(), |uuid| uuid.to_string());
    let geometry = store.device().geometry();
    [
        ("name", state.name()),
        ("uuid", uuid),
        ("size", exact(layout.size_bytes)),
        ("can grow to", growth(store)),
        ("cluster size", exact(cluster)),
        ("block size", layout.io_unit_size.to_string()),
        ("clusters", format!("{}, {} of them for metadata", space.total, space.metadata)),
        ("allocated", clusters(space.allocated)),
        ("free", clusters(space.free)),
        ("pending free", clusters(space.pending_free)),
        ("committed", format!("{}, {} of them free and kept", clusters(space.committed), space.reserved)),
        ("md pages", format!("{}, {} free", layout.md_len, state.md.free())),
        ("lvols", state.lvols().count().to_string()),
        ("state", condition(store).to_owned()),
        ("native states", native_states(store)),
        ("damage", damage(store)),
        ("device", device_kind(store.device().inner())),
        (
            "device blocks",
            format!("{} logical, {} physical", geometry.logical_block, geometry.physical_block),
        ),
        ("volatile cache", if geometry.volatile_cache { "yes" } else { "no" }.to_owned()),
    ]
    .into_iter()
}

/// How far the store can grow, and what is there for it now.
fn growth(store: &Store) -> String {
    let layout = &store.state().layout;
    let (max, device) = (layout.growable_bytes(), store.device().geometry().size_bytes);
    match device > layout.size_bytes {
        true => format!("{}, its device has {}", exact(max), exact(device)),
        false => exact(max),
    }
}

/// A size to read and to compute with.
fn exact(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", Bytes(bytes))
}

fn condition(store: &Store) -> &'static str {
    let super_block = store.super_block();
    match (super_block.is_clean(), super_block.is_native()) {
        (true, false) => "sealed: a plain SPDK store",
        (true, true) => "closed in order, with states that SPDK cannot read",
        (false, _) => "not closed in order",
    }
}

/// Whether there is anything that SPDK cannot read, and what it would take to change that.
fn native_states(store: &Store) -> String {
    let state = store.state();
    match (state.has_native_states(), state.native_allowed) {
        (true, _) => match store.engine().seal_cost() {
            Ok(cost) => format!("yes: {}", Takes { cost, cluster_bytes: state.units.cluster }),
            Err(error) => format!("yes: cannot be sealed: {error}"),
        },
        (false, true) => "none, new ones may arise".to_owned(),
        (false, false) => "none, and none may arise".to_owned(),
    }
}

fn damage(store: &Store) -> String {
    match store.findings().len() {
        0 => "none found".to_owned(),
        count => format!("{count} findings: see offshoot check"),
    }
}

fn device_kind(device: &FileDevice) -> String {
    let kind = if device.is_block_device() { "block device" } else { "regular file" };
    let cache = match (device.is_direct(), device.direct_note()) {
        (true, _) => "O_DIRECT".to_owned(),
        (false, Some(note)) => format!("page cache ({note})"),
        (false, None) => "page cache".to_owned(),
    };
    let engine = match (device.engine(), device.engine_note()) {
        (EngineKind::Uring, _) => "io_uring".to_owned(),
        (EngineKind::Threads, Some(note)) => format!("threads ({note})"),
        (EngineKind::Threads, None) => "threads".to_owned(),
    };
    format!("{kind}, {cache}, {engine}")
}
