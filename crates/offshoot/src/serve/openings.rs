//! Which lvols are open, by how many connections.

use offshoot_format::BlobId;
use offshoot_nbd::ExportId;

/// One of the stores that are served, now or before: no two have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StoreId(pub(super) usize);

/// An lvol of one of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Export {
    /// Which store.
    pub(super) store: StoreId,
    /// Which of its lvols.
    pub(super) lvol: BlobId,
}

#[derive(Debug)]
struct Opening {
    export: Export,
    connections: usize,
    /// Whether the lvol is gone.
    revoked: bool,
    /// Whether it is a command that moves content, and no client.
    transfer: bool,
}

/// The lvols that connections have open. All connections to one lvol share its entry, and an entry without
/// connections is used again, so that the table does not grow with reconnections.
#[derive(Debug, Default)]
pub(super) struct Openings {
    entries: Vec<Opening>,
}

impl Openings {
    /// Another connection opens an lvol.
    pub(super) fn open(&mut self, export: Export) -> ExportId {
        self.open_for(export, false)
    }

    /// A command opens an lvol for its content.
    pub(super) fn open_transfer(&mut self, export: Export) -> ExportId {
        self.open_for(export, true)
    }

    fn open_for(&mut self, export: Export, transfer: bool) -> ExportId {
        let entries = &self.entries;
        let index = entries
            .iter()
            .position(|entry| entry.export == export && !entry.revoked && entry.transfer == transfer)
            .or_else(|| entries.iter().position(|entry| entry.connections == 0));
        let index = index.unwrap_or_else(|| {
            self.entries.push(Opening { export, connections: 0, revoked: false, transfer });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[index];
        (entry.export, entry.revoked, entry.transfer) = (export, false, transfer);
        entry.connections += 1;
        ExportId(index as u64)
    }

    /// A connection closes what it has opened.
    pub(super) fn close(&mut self, id: ExportId) {
        if let Some(entry) = Self::index(id).and_then(|index| self.entries.get_mut(index)) {
            debug_assert!(entry.connections > 0, "{id:?} is closed more often than opened");
            entry.connections = entry.connections.saturating_sub(1);
        }
    }

    /// What is open under an id.
    pub(super) fn find(&self, id: ExportId) -> Option<Export> {
        let entry = self.entries.get(Self::index(id)?)?;
        (entry.connections > 0 && !entry.revoked).then_some(entry.export)
    }

    /// Connections to an lvol.
    pub(super) fn count(&self, export: Export) -> usize {
        let entries = self.entries.iter().filter(|entry| entry.export == export && !entry.revoked);
        entries.map(|entry| entry.connections).sum()
    }

    /// Connections to an lvol, without those of commands that move its content.
    pub(super) fn clients(&self, export: Export) -> usize {
        let entries = self.entries.iter().filter(|entry| entry.export == export && !entry.revoked);
        entries.filter(|entry| !entry.transfer).map(|entry| entry.connections).sum()
    }

    /// Whether a connection has an lvol of a store open.
    pub(super) fn has_open(&self, store: StoreId) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.export.store == store && entry.connections > 0)
    }

    /// What connections have open under this export is gone. They find nothing from now on.
    pub(super) fn revoke(&mut self, export: Export) {
        for entry in self.entries.iter_mut().filter(|entry| entry.export == export) {
            entry.revoked = true;
        }
    }

    /// What connections have open of a store is gone.
    pub(super) fn revoke_store(&mut self, store: StoreId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.export.store == store) {
            entry.revoked = true;
        }
    }

    fn index(id: ExportId) -> Option<usize> {
        usize::try_from(id.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_shared_and_used_again() {
        let export = |number| Export { store: StoreId(0), lvol: BlobId(number) };
        let mut openings = Openings::default();
        let first = openings.open(export(1));
        let second = openings.open(export(2));
        assert_eq!(openings.open(export(1)), first);
        openings.close(first);
        assert_eq!(openings.find(first), Some(export(1)));
        openings.close(first);
        assert_eq!(openings.find(first), None);
        assert_eq!(openings.find(second), Some(export(2)));
        assert_eq!(openings.open(export(3)), first);
        assert_eq!(openings.find(first), Some(export(3)));
        assert_eq!(openings.find(ExportId(7)), None);
    }

    #[test]
    fn a_command_is_no_client() {
        let export = Export { store: StoreId(0), lvol: BlobId(1) };
        let mut openings = Openings::default();
        let command = openings.open_transfer(export);
        assert_eq!((openings.count(export), openings.clients(export)), (1, 0));
        let client = openings.open(export);
        assert_ne!(client, command);
        assert_eq!((openings.count(export), openings.clients(export)), (2, 1));
        openings.close(command);
        assert_eq!((openings.count(export), openings.clients(export)), (1, 1));
        assert!(openings.has_open(StoreId(0)));
    }

    #[test]
    fn a_revoked_lvol_is_not_found_again_under_the_same_id() {
        let export = |number| Export { store: StoreId(0), lvol: BlobId(number) };
        let mut openings = Openings::default();
        let old = openings.open(export(1));
        openings.revoke(export(1));
        assert_eq!((openings.find(old), openings.count(export(1))), (None, 0));
        assert!(openings.has_open(StoreId(0)));
        let new = openings.open(export(1));
        assert_ne!(new, old);
        assert_eq!((openings.find(old), openings.find(new)), (None, Some(export(1))));
        openings.close(old);
        assert_eq!(openings.open(export(2)), old);
        assert_eq!(openings.find(old), Some(export(2)));
    }
}
