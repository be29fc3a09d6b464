//! Requests under way in the backend.

use crate::limits::Limits;

/// What has to be remembered until a request is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) cookie: u64,
    pub(super) kind: Kind,
}

/// The kinds of requests, by what their replies look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Read { offset: u64, len: u32 },
    Write { len: u32 },
    Status { len: u64, one: bool },
    Other,
}

impl Kind {
    /// Bytes of buffers that the request holds.
    fn held_bytes(self) -> usize {
        match self {
            Self::Read { len, .. } | Self::Write { len } => len as usize,
            Self::Status { .. } | Self::Other => 0,
        }
    }
}

/// A table with a slot for each request under way. Slots are used again, last freed first.
#[derive(Debug)]
pub(super) struct RequestTable {
    limits: Limits,
    slots: Vec<Option<Pending>>,
    free: Vec<u32>,
    held_bytes: usize,
}

impl RequestTable {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, slots: Vec::new(), free: Vec::new(), held_bytes: 0 }
    }

    /// Requests under way.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether another request may be taken, while `unsent_bytes` wait for the client to read them.
    pub(super) fn has_room(&self, unsent_bytes: usize) -> bool {
        self.len() < self.limits.requests && self.held_bytes + unsent_bytes < self.limits.bytes
    }

    /// Takes a slot.
    pub(super) fn insert(&mut self, pending: Pending) -> u32 {
        self.held_bytes += pending.kind.held_bytes();
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(pending);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Some(pending));
        slot
    }

    /// Frees a slot. `None` when nothing is under way in it.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Pending> {
        let pending = self.slots.get_mut(slot as usize)?.take()?;
        self.held_bytes -= pending.kind.held_bytes();
        self.free.push(slot);
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(len: u32) -> Pending {
        Pending { cookie: 0, kind: Kind::Read { offset: 0, len } }
    }

    #[test]
    fn is_bounded_by_count() {
        let mut table = RequestTable::new(Limits::default());
        let slots: Vec<_> = (0..Limits::default().requests).map(|_| table.insert(read(1))).collect();
        assert!(!table.has_room(0));
        assert!(table.remove(slots[7]).is_some());
        assert!(table.remove(slots[7]).is_none(), "answered once");
        assert!(table.has_room(0));
        assert_eq!(table.insert(read(1)), slots[7]);
    }

    #[test]
    fn is_bounded_by_bytes() {
        let mut table = RequestTable::new(Limits::default());
        assert!(!table.has_room(Limits::default().bytes));
        let slot = table.insert(read(32 << 20));
        assert!(!table.has_room(0));
        table.remove(slot);
        assert!(table.has_room(0));
    }
}
