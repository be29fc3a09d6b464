//! One node of the cluster map: 512 entries, an extent page's worth.

use super::{Entry, Stack, Tag};
use alloc::{boxed::Box, sync::Arc, vec, vec::Vec};
use core::ops::Range;
use offshoot_format::{CLUSTERS_PER_EXTENT_PAGE, ClusterIdx};

/// Entries in a leaf.
pub const SLOTS: usize = CLUSTERS_PER_EXTENT_PAGE;

/// Stands where a cluster would for an entry that nobody knows. No store has a cluster of this number.
const UNKNOWN: u32 = u32::MAX;

/// 512 entries of a cluster map. Full clusters cost 4 bytes each while one tag owns them all, 8 bytes otherwise;
/// only stacks cost more.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Physical cluster of a full entry, [`UNKNOWN`], or 0 for the others: cluster 0 holds the super block and is
    /// never data.
    full: Box<[u32]>,
    owners: Owners,
    /// Sorted by slot.
    stacks: Vec<(u16, Arc<Stack>)>,
}

#[derive(Clone, Debug)]
enum Owners {
    One(Tag),
    Each(Box<[Tag]>),
}

impl Default for Leaf {
    fn default() -> Self {
        Self { full: vec![0; SLOTS].into(), owners: Owners::One(Tag(0)), stacks: Vec::new() }
    }
}

impl Leaf {
    /// A leaf of full clusters that one tag owns: the physical cluster by slot, 0 where there is none.
    #[must_use]
    pub fn of_full(tag: Tag, full: Box<[u32; SLOTS]>) -> Self {
        Self { full, owners: Owners::One(tag), stacks: Vec::new() }
    }

    /// A leaf of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { full: Box::new([UNKNOWN; SLOTS]), ..Self::default() }
    }

    /// The entry in a slot.
    #[must_use]
    pub fn entry(&self, slot: usize) -> Entry {
        match self.full[slot] {
            0 => match self.find_stack(slot) {
                Ok(position) => Entry::Stack(Arc::clone(&self.stacks[position].1)),
                Err(_) => Entry::Absent,
            },
            UNKNOWN => Entry::Unknown,
            cluster => Entry::Full { tag: self.owner(slot), cluster: ClusterIdx(cluster) },
        }
    }

    /// Puts an entry into a slot and hands back the one that was there.
    pub fn replace(&mut self, slot: usize, entry: Entry) -> Entry {
        let old = self.entry(slot);
        if matches!(old, Entry::Stack(_))
            && let Ok(position) = self.find_stack(slot)
        {
            self.stacks.remove(position);
        }
        self.full[slot] = 0;
        match entry {
            Entry::Absent => {}
            Entry::Unknown => self.full[slot] = UNKNOWN,
            Entry::Full { tag, cluster } => {
                self.set_owner(slot, tag);
                self.full[slot] = cluster.0;
            }
            Entry::Stack(stack) => {
                if let Err(position) = self.find_stack(slot) {
                    self.stacks.insert(position, (slot_u16(slot), stack));
                }
            }
        }
        old
    }

    /// The stack in a slot.
    #[must_use]
    pub fn stack(&self, slot: usize) -> Option<&Stack> {
        self.find_stack(slot).ok().map(|position| &*self.stacks[position].1)
    }

    /// The stack in a slot, for a change in place. Copied first when a snapshot shares it.
    pub fn stack_mut(&mut self, slot: usize) -> Option<&mut Stack> {
        let position = self.find_stack(slot).ok()?;
        Some(Arc::make_mut(&mut self.stacks[position].1))
    }

    /// Whether no slot holds anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty() && self.full.iter().all(|cluster| *cluster == 0)
    }

    /// Slots that hold something, with their entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = (usize, Entry)> {
        self.entries_in(0..SLOTS)
    }

    /// Those of a range of slots.
    pub fn entries_in(&self, slots: Range<usize>) -> impl Iterator<Item = (usize, Entry)> {
        slots.map(|slot| (slot, self.entry(slot))).filter(|(_, entry)| !matches!(entry, Entry::Absent))
    }

    /// The leaf without what lies below the newest layers of each entry, as far as `owned` says yes of those.
    #[must_use]
    pub fn own_part(&self, owned: &dyn Fn(Tag) -> bool) -> Self {
        let mut own = Self::default();
        for (slot, entry) in self.entries() {
            // One that hides all that is below stays what it is.
            let entry = entry.over(Entry::Absent, owned).unwrap_or(entry);
            own.replace(slot, entry);
        }
        own
    }

    fn find_stack(&self, slot: usize) -> Result<usize, usize> {
        self.stacks.binary_search_by_key(&slot_u16(slot), |(slot, _)| *slot)
    }

    fn owner(&self, slot: usize) -> Tag {
        match &self.owners {
            Owners::One(tag) => *tag,
            Owners::Each(tags) => tags[slot],
        }
    }

    fn set_owner(&mut self, slot: usize, tag: Tag) {
        match &mut self.owners {
            Owners::Each(tags) => tags[slot] = tag,
            Owners::One(common) if *common == tag => {}
            Owners::One(common) if self.full.iter().all(|cluster| *cluster == 0) => *common = tag,
            Owners::One(common) => {
                let mut tags: Box<[Tag]> = vec![*common; SLOTS].into();
                tags[slot] = tag;
                self.owners = Owners::Each(tags);
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "slots are below 512")]
fn slot_u16(slot: usize) -> u16 {
    debug_assert!(slot < SLOTS);
    slot as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{BlockStates, Layer};
    use offshoot_format::BlockState;

    #[test]
    fn holds_entries_of_all_kinds() {
        let mut leaf = Leaf::default();
        leaf.replace(7, Entry::Full { tag: Tag(3), cluster: ClusterIdx(70) });
        leaf.replace(8, Entry::Full { tag: Tag(3), cluster: ClusterIdx(80) });
        assert!(matches!(leaf.owners, Owners::One(Tag(3))));
        leaf.replace(9, Entry::Full { tag: Tag(4), cluster: ClusterIdx(90) });
        let states = BlockStates::all(4, BlockState::Zero);
        let top = Layer { tag: Tag(4), cluster: None, states };
        leaf.replace(2, Entry::Stack(Arc::new(Stack::new(top, Entry::Absent))));
        let slots: Vec<usize> = leaf.entries().map(|(slot, _)| slot).collect();
        assert_eq!(slots, [2, 7, 8, 9]);
        assert!(matches!(leaf.entry(8), Entry::Full { tag: Tag(3), cluster: ClusterIdx(80) }));
        assert!(matches!(leaf.entry(9), Entry::Full { tag: Tag(4), cluster: ClusterIdx(90) }));
        assert!(matches!(leaf.replace(2, Entry::Absent), Entry::Stack(_)));
        for slot in 7..10 {
            leaf.replace(slot, Entry::Absent);
        }
        assert!(leaf.is_empty());
    }
}
