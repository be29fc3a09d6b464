//! `offshoot tree`: the families of snapshots and clones, and what their members share.

use super::ls::created;
use crate::errand::Look;
use crate::json::{self, FamilyMember};
use crate::listing::{Lvol, lvols, shared_bytes};
use crate::open::StoreArgs;
use crate::size::Bytes;
use crate::table::{Align, Table};
use crate::tree::draw;
use anyhow::Result;
use clap::Args;
use offshoot_format::BlobId;
use offshoot_store::Engine;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Draw the families of snapshots and clones
///
/// OWN is what an lvol holds itself, SHARED what it reads from snapshots above it, both in whole clusters.
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
            match &lvol.parent {
                Some((parent, _)) => families.below.entry(*parent).or_default().push(index),
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
    fn text(&self, engine: &Engine) -> Result<String> {
        let lvols = lvols(engine);
        let families = Families::of(&lvols);
        let lines = draw(&families.roots, |index| families.below(&lvols[index]));
        let state = engine.state();
        let shared = |lvol: &Lvol| state.blob(lvol.id).map_or(0, |blob| shared_bytes(state, blob));
        if self.json {
            let members = lines.iter().map(|(index, _)| &lvols[*index]);
            let members: Vec<_> = members.map(|lvol| FamilyMember::new(lvol, shared(lvol))).collect();
            return json::text(&members);
        }
        let mut table = Table::new([
            ("LVOL", Align::Left),
            ("KIND", Align::Left),
            ("SIZE", Align::Right),
            ("OWN", Align::Right),
            ("SHARED", Align::Right),
            ("CREATED", Align::Left),
        ]);
        for (index, prefix) in &lines {
            let lvol = &lvols[*index];
            table.push([
                format!("{prefix}{}", lvol.name),
                lvol.kind.to_string(),
                Bytes(lvol.size_bytes).to_string(),
                Bytes(lvol.own_bytes).to_string(),
                Bytes(shared(lvol)).to_string(),
                created(lvol),
            ]);
        }
        Ok(table.to_string())
    }
}
