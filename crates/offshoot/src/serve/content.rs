//! Lvols that commands have open: beginning, reaching and ending that.

use super::backend::StoreBackend;
use super::exports;
use super::openings::{Export, StoreId};
use super::transfers::Transfer;
use crate::volume::Told;
use offshoot_format::BlobId;
use offshoot_nbd::limits::PAYLOAD_BYTES_MAX;
use offshoot_nbd::{ExportId, ExportInfo};
use std::iter;

/// What commands have open.
impl StoreBackend {
    /// Opens an lvol for a command, until the connection ends that it came over. Nobody removes, shrinks or reverts the lvol
    /// meanwhile, and no client is let in that could write to it. One that is to be called `fills` is written to. Returns the
    /// name of the export.
    pub(super) fn begin_transfer(
        &mut self,
        export: Export,
        size_bytes: u64,
        connection: u64,
        fills: Option<String>,
    ) -> String {
        let hold = self.openings.open_transfer(export);
        if let Some(store) = self.stores.get_mut(&export.store) {
            store.watch_failures(export.lvol);
        }
        self.transfers.add(Transfer { export, hold, size_bytes, connection, fills })
    }

    /// The transfer of a name.
    pub(super) fn transfer(&self, name: &str) -> Option<&Transfer> {
        self.transfers.find(name)
    }

    /// The names of those of a connection to the private socket, or of all.
    pub(super) fn transfers_of(&self, connection: Option<u64>) -> Vec<String> {
        self.transfers.names(connection)
    }

    /// Ends one. Nobody reaches the lvol under its name any more who does not yet.
    pub(super) fn end_transfer(&mut self, name: &str) -> Option<Transfer> {
        let transfer = self.transfers.take(name)?;
        let Transfer { export, hold, .. } = transfer;
        self.openings.close(hold);
        if !self.transfers.concern(export)
            && let Some(store) = self.stores.get_mut(&export.store)
        {
            store.ignore_failures(export.lvol);
        }
        Some(transfer)
    }

    /// Why the last request from that byte on, to an lvol that a command has open, failed.
    pub(super) fn failure(&self, export: Export, offset: u64) -> Option<&Told> {
        self.stores.get(&export.store)?.failure(export.lvol, offset)
    }

    /// Whether a client uses an lvol: not a command.
    pub(super) fn has_clients(&self, export: Export) -> bool {
        self.openings.clients(export) > 0
    }

    /// Whether a command reads an lvol, or one that lies on it.
    pub(super) fn is_read_through(&self, store: StoreId, lvol: BlobId) -> bool {
        let Some(state) = self.state(store) else { return false };
        let parent = |lvol: &BlobId| state.blob(*lvol)?.parent;
        self.transfers.of(store).any(|read| iter::successors(Some(read), parent).any(|below| below == lvol))
    }

    /// Opens the export of a command, if there is one of that name.
    pub(super) fn open_transfer(&mut self, name: &str) -> Option<(ExportId, ExportInfo)> {
        let transfer = self.transfers.find(name)?;
        let (export, size_bytes, read_only) =
            (transfer.export, transfer.size_bytes, transfer.fills.is_none());
        let store = self.stores.get(&export.store)?;
        let lvol = store.engine().state().blob(export.lvol)?;
        // Commands ask for as much as they like: limits are for clients.
        let info = exports::info(store.engine(), lvol, name.to_owned(), PAYLOAD_BYTES_MAX);
        let info = ExportInfo { size_bytes, read_only: read_only || info.read_only, ..info };
        Some((self.openings.open_transfer(export), info))
    }
}
