//! The clients of a server, by slot.

use super::client::Client;

/// A table whose slots are used again, last freed first.
#[derive(Debug, Default)]
pub(super) struct ClientTable {
    slots: Vec<Option<Client>>,
    free: Vec<u32>,
}

impl ClientTable {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a client and returns its slot.
    pub(super) fn insert(&mut self, client: Client) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(client);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Some(client));
        slot
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Client> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Client> {
        let client = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(client)
    }

    /// The slots in use.
    pub(super) fn occupied(&self) -> Vec<u32> {
        (0..).zip(&self.slots).filter(|(_, client)| client.is_some()).map(|(slot, _)| slot).collect()
    }
}
