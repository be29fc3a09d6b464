//! `offshoot tree`: the families of snapshots and clones, and what their members share.

use super::ls::created;
use crate::deed::{Look, Shown, View};
use crate::json::{self, FamilyMember};
use crate::listing::{Lvol, families};
use crate::open::StoreArgs;
use crate::size::Bytes;
use crate::table::{Align, Table};
use crate::tree::draw;
use anyhow::Result;
use clap::Args;
use offshoot_format::BlobId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Draw the families of snapshots and clones
///
/// A snapshot that was removed with --deferred and is kept for its clones is shown as removed, and what an import is filling, or was when it was killed, as unfinished. OWN is what an lvol holds itself, SHARED what it reads from snapshots above it, FREED what its removal would give back now, all in whole clusters.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

/// Which lvols hang under which, by their position in the list.
struct Families {
    roots: Vec<usize>,
    below: HashMap<BlobId, Vec<usize>>,
}

impl Families {
    fn of(lvols: &[Lvol]) -> Self {
        let mut families = Self { roots: Vec::new(), below: HashMap::new() };
        for (index, lvol) in lvols.iter().enumerate() {
            match lvol.below {
                Some(parent) => families.below.entry(parent).or_default().push(index),
                None => families.roots.push(index),
            }
        }
        families
    }

    fn below(&self, lvol: &Lvol) -> Vec<usize> {
        self.below.get(&lvol.id).cloned().unwrap_or_default()
    }
}

impl Look for TreeArgs {
    fn show(&self, view: &View<'_>) -> Result<Shown> {
        let lvols = families(view.engine);
        let families = Families::of(&lvols);
        let lines = draw(&families.roots, |index| families.below(&lvols[index]));
        if self.json {
            let names: HashMap<BlobId, &str> =
                lvols.iter().map(|lvol| (lvol.id, lvol.name.as_str())).collect();
            let parent = |lvol: &Lvol| names.get(&lvol.below?).copied();
            let members = lines.iter().map(|(index, _)| &lvols[*index]);
            let members: Vec<_> = members.map(|lvol| FamilyMember::new(lvol, parent(lvol))).collect();
            return Ok(json::text(&members)?.into());
        }
        let mut table = Table::new([
            ("LVOL", Align::Left),
            ("KIND", Align::Left),
            ("SIZE", Align::Right),
            ("OWN", Align::Right),
            ("SHARED", Align::Right),
            ("FREED", Align::Right),
            ("CREATED", Align::Left),
        ]);
        for (index, prefix) in &lines {
            let lvol = &lvols[*index];
            table.push([
                format!("{prefix}{}", lvol.name),
                lvol.kind.to_string(),
                Bytes(lvol.size_bytes).to_string(),
                Bytes(lvol.own_bytes).to_string(),
                Bytes(lvol.shared_bytes).to_string(),
                Bytes(lvol.freed_bytes).to_string(),
                created(lvol),
            ]);
        }
        Ok(table.to_string().into())
    }
}
