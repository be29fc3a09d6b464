//! What `--json` shows: types that mirror what the commands know, so that the output changes only on purpose.
//!
//! Sizes are bytes, times are RFC 3339 in UTC, what is not known is null.

use crate::deed::View;
use crate::listing::Lvol;
use crate::time::Utc;
use anyhow::Result;
use offshoot_store::{Blob, Change, Finding, State};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write as _};

/// `info --json`.
#[derive(Debug, Serialize)]
pub(crate) struct StoreInfo {
    name: String,
    uuid: Option<String>,
    path: String,
    size: u64,
    /// What the device has, and what the store can grow to.
    device_size: u64,
    max_size: u64,
    md_pages: u32,
    used_md_pages: usize,
    max_md_pages: u32,
    cluster_size: u32,
    block_size: u32,
    total_clusters: u32,
    free_clusters: u64,
    /// These four are all clusters, in bytes.
    metadata_bytes: u64,
    allocated_bytes: u64,
    pending_free_bytes: u64,
    free_bytes: u64,
    /// Promised to thick and reserved lvols, and what of that is free and kept for them.
    committed_bytes: u64,
    reserved_bytes: u64,
    sealed: bool,
    clean: bool,
    lvols: usize,
    /// Free clusters that sealing takes; null where damage or a missing external snapshot keeps it from being done.
    seal_clusters: Option<u64>,
}

impl StoreInfo {
    /// Of an open store.
    pub(crate) fn of(view: &View<'_>) -> Self {
        let (state, super_block) = (view.engine.state(), view.engine.super_block());
        let clean = super_block.is_clean();
        let space = state.space();
        let bytes = |clusters: u64| clusters * state.units.cluster;
        Self {
            name: state.name(),
            uuid: state.uuid().map(|uuid| uuid.to_string()),
            path: view.path.display().to_string(),
            size: state.layout.size_bytes,
            device_size: view.device.geometry().size_bytes,
            max_size: state.layout.growable_bytes(),
            md_pages: state.layout.md_len,
            used_md_pages: state.md.used().count_ones(),
            max_md_pages: state.layout.growable_md_pages(),
            cluster_size: state.layout.cluster_size,
            block_size: state.layout.io_unit_size,
            total_clusters: state.layout.total_clusters,
            free_clusters: space.free,
            metadata_bytes: bytes(space.metadata),
            allocated_bytes: bytes(space.allocated),
            pending_free_bytes: bytes(space.pending_free),
            free_bytes: bytes(space.free),
            committed_bytes: bytes(space.committed),
            reserved_bytes: bytes(space.reserved),
            sealed: clean && !super_block.is_native(),
            clean,
            lvols: state.lvols().count(),
            seal_clusters: view.engine.seal_cost().ok().map(|cost| cost.clusters),
        }
    }
}

/// An element of `ls --json`.
#[derive(Debug, Serialize)]
pub(crate) struct LvolInfo<'l> {
    name: &'l str,
    uuid: Option<String>,
    kind: &'static str,
    size: u64,
    thin: bool,
    reserved: bool,
    copy_on_read: bool,
    read_only: bool,
    parent: Option<&'l str>,
    clones: &'l [String],
    own_bytes: u64,
    shared_bytes: u64,
    freed_bytes: u64,
    created: Option<String>,
    labels: &'l BTreeMap<String, String>,
    damaged: bool,
    degraded: bool,
}

impl<'l> From<&'l Lvol> for LvolInfo<'l> {
    fn from(lvol: &'l Lvol) -> Self {
        Self {
            name: &lvol.name,
            uuid: lvol.uuid.map(|uuid| uuid.to_string()),
            kind: lvol.kind.name(),
            size: lvol.size_bytes,
            thin: lvol.thin,
            reserved: lvol.reserved,
            copy_on_read: lvol.copy_on_read,
            read_only: lvol.read_only,
            parent: lvol.parent.as_ref().map(|(_, name)| name.as_str()),
            clones: &lvol.clones,
            own_bytes: lvol.own_bytes,
            shared_bytes: lvol.shared_bytes,
            freed_bytes: lvol.freed_bytes,
            created: created(lvol),
            labels: &lvol.labels,
            damaged: lvol.damaged,
            degraded: lvol.degraded,
        }
    }
}

/// An element of `tree --json`. They come in the order in which they are drawn, and not one within the other: chains of
/// snapshots are deeper than what reads JSON can follow.
#[derive(Debug, Serialize)]
pub(crate) struct FamilyMember<'l> {
    name: &'l str,
    uuid: Option<String>,
    kind: &'static str,
    size: u64,
    own_bytes: u64,
    shared_bytes: u64,
    freed_bytes: u64,
    parent: Option<&'l str>,
    created: Option<String>,
}

impl<'l> FamilyMember<'l> {
    /// An lvol, and what it hangs under, in sight or removed.
    pub(crate) fn new(lvol: &'l Lvol, parent: Option<&'l str>) -> Self {
        Self {
            name: &lvol.name,
            uuid: lvol.uuid.map(|uuid| uuid.to_string()),
            kind: lvol.kind.name(),
            size: lvol.size_bytes,
            own_bytes: lvol.own_bytes,
            shared_bytes: lvol.shared_bytes,
            freed_bytes: lvol.freed_bytes,
            parent,
            created: created(lvol),
        }
    }
}

/// `diff --json`.
#[derive(Debug, Serialize)]
pub(crate) struct DiffInfo {
    from: String,
    to: String,
    from_size: u64,
    to_size: u64,
    ranges: Vec<DiffRange>,
}

/// A range of `diff --json`.
#[derive(Debug, Serialize)]
struct DiffRange {
    offset: u64,
    length: u64,
    kind: &'static str,
}

impl DiffInfo {
    /// The changes from one lvol to another.
    pub(crate) fn new(state: &State, from: &Blob, to: &Blob, changes: impl Iterator<Item = Change>) -> Self {
        let range =
            |change: Change| DiffRange { offset: change.start, length: change.len, kind: range_kind(change) };
        Self {
            from: from.display_name(),
            to: to.display_name(),
            from_size: state.bytes(from),
            to_size: state.bytes(to),
            ranges: changes.map(range).collect(),
        }
    }
}

/// The word for what a changed range holds.
pub(crate) fn range_kind(change: Change) -> &'static str {
    if change.zero { "zero" } else { "data" }
}

/// A section of `dump --json`.
#[derive(Debug, Serialize)]
pub(crate) struct DumpSection {
    section: String,
    /// The lines of the text, key and value.
    facts: Vec<(String, String)>,
}

impl DumpSection {
    /// From the text of a section.
    pub(crate) fn new(section: &str, text: &str) -> Self {
        let fact = |line: &str| {
            let (key, value) = line.split_once(": ").unwrap_or((line, ""));
            (key.to_owned(), value.to_owned())
        };
        Self { section: section.to_owned(), facts: text.lines().map(fact).collect() }
    }
}

/// `check --json`.
#[derive(Debug, Serialize)]
pub(crate) struct CheckReport {
    pub(crate) damage: Vec<Damage>,
    /// Left out when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) deferred: Vec<Deferred>,
}

/// A snapshot that was removed and is kept for its clones.
#[derive(Debug, Serialize)]
pub(crate) struct Deferred {
    /// What SPDK would show.
    pub(crate) name: String,
    pub(crate) clones: Vec<String>,
}

impl Deferred {
    pub(crate) fn new(state: &State, blob: &Blob) -> Self {
        let clones = blob.clones.iter().filter_map(|clone| state.blob(*clone));
        Self { name: blob.display_name(), clones: clones.map(Blob::display_name).collect() }
    }
}

/// `check --repair --json`.
#[derive(Debug, Serialize)]
pub(crate) struct RepairReport {
    pub(crate) damage: Vec<Treated>,
    /// Findings that are left.
    pub(crate) left: usize,
    /// Whether nothing was written.
    pub(crate) dry_run: bool,
    /// The undo file, if one was needed.
    pub(crate) undo: Option<String>,
}

/// Something that was wrong with a store, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Treated {
    #[serde(flatten)]
    pub(crate) damage: Damage,
    /// Whether it is gone, or would be.
    pub(crate) repaired: bool,
    /// What else is to be said: what was done in particular, or why it is left.
    pub(crate) note: Option<String>,
}

/// Something that is wrong with a store.
#[derive(Debug, Serialize)]
pub(crate) struct Damage {
    /// The lvol that it concerns, if it is one.
    pub(crate) lvol: Option<String>,
    /// What is wrong.
    pub(crate) what: String,
    /// What could be done about it.
    pub(crate) repair: &'static str,
}

impl From<&Finding> for Damage {
    fn from(finding: &Finding) -> Self {
        Self { lvol: finding.lvol.clone(), what: finding.what.to_string(), repair: finding.what.repair() }
    }
}

fn created(lvol: &Lvol) -> Option<String> {
    lvol.created.and_then(Utc::of).map(|created| created.to_string())
}

/// Writes a value to standard output, readable and with a newline at the end.
///
/// # Errors
/// Those of standard output.
pub(crate) fn print(value: &impl Serialize) -> Result<()> {
    io::stdout().write_all(text(value)?.as_bytes())?;
    Ok(())
}

/// JSON as it is printed.
///
/// # Errors
/// None for the types of this module.
pub(crate) fn text(value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}
