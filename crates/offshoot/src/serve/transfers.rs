//! Lvols whose content commands move in or out, over connections of their own.

use super::openings::{Export, StoreId};
use offshoot_format::BlobId;
use offshoot_nbd::ExportId;
use std::collections::HashMap;
use uuid::Uuid;

/// An lvol that a command has open.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) export: Export,
    /// What keeps the lvol from being removed.
    pub(super) hold: ExportId,
    /// What is told of its size, in bytes.
    pub(super) size_bytes: u64,
    /// The connection to the private socket that it ends with.
    pub(super) connection: u64,
    /// What an lvol that is being filled is going to be called. `None`: it is read.
    pub(super) fills: Option<String>,
}

/// All of them, each under a name that only its command knows.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    list: HashMap<String, Transfer>,
}

impl Transfers {
    /// Takes one in. Returns its name.
    pub(super) fn add(&mut self, transfer: Transfer) -> String {
        let name = Uuid::new_v4().to_string();
        self.list.insert(name.clone(), transfer);
        name
    }

    /// The one of a name.
    pub(super) fn find(&self, name: &str) -> Option<&Transfer> {
        self.list.get(name)
    }

    /// Takes one out.
    pub(super) fn take(&mut self, name: &str) -> Option<Transfer> {
        self.list.remove(name)
    }

    /// The names of those of a connection, or of all.
    pub(super) fn names(&self, connection: Option<u64>) -> Vec<String> {
        let wanted = |transfer: &Transfer| connection.is_none_or(|one| transfer.connection == one);
        self.list.iter().filter(|(_, transfer)| wanted(transfer)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether a command reads or fills an lvol.
    pub(super) fn concern(&self, export: Export) -> bool {
        self.list.values().any(|transfer| transfer.export == export)
    }

    /// The lvols of a store that commands have open.
    pub(super) fn of(&self, store: StoreId) -> impl Iterator<Item = BlobId> + use<'_> {
        let here = self.list.values().filter(move |transfer| transfer.export.store == store);
        here.map(|transfer| transfer.export.lvol)
    }
}
