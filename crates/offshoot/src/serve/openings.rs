//! Which lvols are open, by how many connections.

use offshoot_format::BlobId;
use offshoot_nbd::ExportId;

/// An lvol of one of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// Which store.
    pub(super) store: usize,
    /// Which of its lvols.
    pub(super) lvol: BlobId,
}

#[derive(Debug)]
struct Opening {
    export: Export,
    connections: usize,
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
        let entries = &self.entries;
        let index = entries
            .iter()
            .position(|entry| entry.export == export)
            .or_else(|| entries.iter().position(|entry| entry.connections == 0));
        let index = index.unwrap_or_else(|| {
            self.entries.push(Opening { export, connections: 0 });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[index];
        entry.export = export;
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
        (entry.connections > 0).then_some(entry.export)
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
        let export = |number| Export { store: 0, lvol: BlobId(number) };
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
}
