//! What exports are called, and what clients are told about them.

use super::openings::StoreId;
use anyhow::{Result, bail};
use offshoot_nbd::ExportInfo;
use offshoot_store::{Blob, Engine, State};

/// Smallest block in bytes: the engine takes any range.
const MIN_BLOCK: u32 = 1;

/// The names of exports: `LVOL` when one store is served, `STORENAME/LVOL` when there are several. The latter leads to an
/// lvol also when there is one store, so that a client's name stays good when others come and go.
#[derive(Debug, Default)]
pub(super) struct Naming {
    stores: Vec<(StoreId, String)>,
}

impl Naming {
    /// For stores of these names.
    ///
    /// # Errors
    /// Two of several stores have the same name.
    pub(super) fn of(stores: Vec<(StoreId, String)>) -> Result<Self> {
        for (number, (_, name)) in stores.iter().enumerate() {
            if stores[..number].iter().any(|(_, other)| other == name) {
                bail!("two of the stores are called \"{name}\": serve them one by one");
            }
        }
        Ok(Self { stores })
    }

    /// The name of an export.
    pub(super) fn name(&self, store: StoreId, lvol: &str) -> String {
        match &self.stores[..] {
            [_] => lvol.to_owned(),
            stores => {
                let name = stores.iter().find(|(id, _)| *id == store).map_or("", |(_, name)| name);
                format!("{name}/{lvol}")
            }
        }
    }

    /// The stores, each with the name that its lvol would have, that an export name may lead to. More than one
    /// where names of stores or lvols contain slashes.
    pub(super) fn candidates<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (StoreId, &'a str)> {
        let only = match &self.stores[..] {
            [(id, _)] => Some((*id, name)),
            _ => None,
        };
        let prefixed = self.stores.iter().filter_map(move |(id, store)| {
            Some((*id, name.strip_prefix(store.as_str())?.strip_prefix('/')?))
        });
        only.into_iter().chain(prefixed)
    }
}

/// Why an lvol may not be opened, if so. One that would fail half of its reads is not worth a connection.
pub(super) fn refusal(engine: &Engine, lvol: &Blob) -> Option<String> {
    if let Some(damage) = &lvol.damage {
        return Some(format!("damaged: {damage}"));
    }
    if engine.is_degraded(lvol.id) {
        let external = lvol.external.as_ref()?;
        return Some(format!("degraded: its external snapshot {} is missing", external.name()));
    }
    None
}

/// What clients are told about an lvol.
pub(super) fn info(engine: &Engine, lvol: &Blob, name: String, request_bytes: u32) -> ExportInfo {
    let state = engine.state();
    ExportInfo {
        name,
        description: description(state, lvol),
        size_bytes: state.bytes(lvol),
        read_only: lvol.is_read_only() || engine.is_read_only(),
        min_block: MIN_BLOCK,
        preferred_block: u32::try_from(state.units.block).unwrap_or(4096),
        max_block: request_bytes,
    }
}

fn description(state: &State, lvol: &Blob) -> String {
    let kind = match (lvol.is_read_only(), lvol.is_thin()) {
        (true, _) => "snapshot",
        (false, true) => "thin lvol",
        (false, false) => "thick lvol",
    };
    match lvol.parent.and_then(|id| state.blob(id)) {
        Some(parent) => format!("{kind}, clone of {}", parent.display_name()),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(stores: &[&str]) -> Result<Naming> {
        let stores = stores.iter().enumerate().map(|(id, name)| (StoreId(id), (*name).to_owned()));
        Naming::of(stores.collect())
    }

    #[test]
    fn one_store_needs_no_prefix() {
        let naming = naming(&["a"]).unwrap();
        assert_eq!(naming.name(StoreId(0), "vol"), "vol");
        assert_eq!(naming.candidates("vol").collect::<Vec<_>>(), [(StoreId(0), "vol")]);
        let candidates: Vec<_> = naming.candidates("a/vol").collect();
        assert_eq!(candidates, [(StoreId(0), "a/vol"), (StoreId(0), "vol")]);
    }

    #[test]
    fn several_stores_are_told_apart_by_their_names() {
        let naming = naming(&["a", "b", "a/b"]).unwrap();
        assert_eq!(naming.name(StoreId(1), "vol"), "b/vol");
        let candidates = |name| naming.candidates(name).collect::<Vec<_>>();
        assert_eq!(candidates("b/vol"), [(StoreId(1), "vol")]);
        assert_eq!(candidates("a/b/vol"), [(StoreId(0), "b/vol"), (StoreId(2), "vol")]);
        assert_eq!(candidates("vol"), []);
    }

    #[test]
    fn stores_of_one_name_are_refused() {
        assert!(naming(&["a", "b", "a"]).is_err());
        assert!(naming(&["", ""]).is_err());
    }
}
