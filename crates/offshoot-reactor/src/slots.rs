//! Things by slot.

/// A table whose slots are used again, last freed first.
#[derive(Debug)]
pub struct SlotTable<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> SlotTable<T> {
    /// How many slots are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no slot is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a thing and returns its slot: the smallest that was never used, or one that was freed.
    pub fn insert(&mut self, thing: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(thing);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Some(thing));
        slot
    }

    /// What is in a slot.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let thing = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(thing)
    }

    /// The slots in use, in order.
    #[must_use]
    pub fn occupied(&self) -> Vec<u32> {
        (0..).zip(&self.slots).filter(|(_, thing)| thing.is_some()).map(|(slot, _)| slot).collect()
    }
}

impl<T> Default for SlotTable<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut table = SlotTable::default();
        assert_eq!([table.insert('a'), table.insert('b'), table.insert('c')], [0, 1, 2]);
        assert_eq!((table.remove(1), table.remove(1), table.remove(9)), (Some('b'), None, None));
        assert_eq!((table.len(), table.occupied()), (2, vec![0, 2]));
        assert_eq!((table.insert('d'), table.get_mut(1)), (1, Some(&mut 'd')));
        assert_eq!(table.get_mut(3), None);
        assert!(!table.is_empty());
    }
}
