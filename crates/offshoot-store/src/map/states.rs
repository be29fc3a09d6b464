//! The state of each block of a partial cluster, two bits a block.

use alloc::{boxed::Box, vec, vec::Vec};
use core::ops::Range;
use offshoot_format::BlockState;

const BLOCKS_PER_WORD: u32 = 32;

/// What each block of one layer of a cluster holds. Packed as on disk: two bits a block, block 0 lowest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockStates {
    words: Box<[u64]>,
    blocks: u32,
}

impl BlockStates {
    /// All `blocks` blocks in one state.
    #[must_use]
    pub fn all(blocks: u32, state: BlockState) -> Self {
        let mut states = Self { words: vec![0; blocks.div_ceil(BLOCKS_PER_WORD) as usize].into(), blocks };
        states.set(0..blocks, state);
        states
    }

    /// From the packed bytes of a layer record. `None` when a block is in no valid state or bytes are missing.
    #[must_use]
    pub fn unpack(blocks: u32, packed: &[u8]) -> Option<Self> {
        let mut states = Self::all(blocks, BlockState::Inherit);
        for block in 0..blocks {
            let byte = *packed.get(block as usize / 4)?;
            let state = match (byte >> (block % 4 * 2)) & 3 {
                0 => continue,
                1 => BlockState::Data,
                2 => BlockState::Zero,
                _ => return None,
            };
            states.set(block..block + 1, state);
        }
        Some(states)
    }

    /// The packed bytes of a layer record.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(self.blocks.div_ceil(4) as usize);
        bytes
    }

    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The state of one block.
    #[must_use]
    pub fn of(&self, block: u32) -> BlockState {
        debug_assert!(block < self.blocks);
        match (self.words[(block / BLOCKS_PER_WORD) as usize] >> (block % BLOCKS_PER_WORD * 2)) & 3 {
            0 => BlockState::Inherit,
            1 => BlockState::Data,
            _ => BlockState::Zero,
        }
    }

    /// Puts a range of blocks into one state.
    pub fn set(&mut self, range: Range<u32>, state: BlockState) {
        debug_assert!(range.end <= self.blocks);
        let pattern = word_of(state);
        let mut block = range.start;
        while block < range.end {
            let first = block % BLOCKS_PER_WORD;
            let count = (BLOCKS_PER_WORD - first).min(range.end - block);
            let mask = (u64::MAX >> (64 - count * 2)) << (first * 2);
            let word = &mut self.words[(block / BLOCKS_PER_WORD) as usize];
            *word = (*word & !mask) | (pattern & mask);
            block += count;
        }
    }

    /// The end of the run of equal states that starts at `block`, at most `limit`.
    #[must_use]
    pub fn run_end(&self, block: u32, limit: u32) -> u32 {
        debug_assert!(block < limit);
        let pattern = word_of(self.of(block));
        let mut at = block;
        while at < limit {
            let first = at % BLOCKS_PER_WORD;
            let differing = (self.words[(at / BLOCKS_PER_WORD) as usize] ^ pattern) >> (first * 2);
            if differing != 0 {
                return (at + differing.trailing_zeros() / 2).min(limit);
            }
            at += BLOCKS_PER_WORD - first;
        }
        limit
    }

    /// Whether some block is in this state.
    #[must_use]
    pub fn any(&self, state: BlockState) -> bool {
        const LOW: u64 = 0x5555_5555_5555_5555;
        let last = self.words.len().wrapping_sub(1);
        self.words.iter().enumerate().any(|(index, word)| {
            let valid = match self.blocks % BLOCKS_PER_WORD {
                rest if index == last && rest != 0 => (1_u64 << (rest * 2)) - 1,
                _ => u64::MAX,
            };
            let hit = match state {
                BlockState::Inherit => !(word | word >> 1) & LOW,
                BlockState::Data => word & LOW,
                BlockState::Zero => (word >> 1) & LOW,
            };
            hit & valid != 0
        })
    }
}

/// A word of blocks that are all in one state.
fn word_of(state: BlockState) -> u64 {
    match state {
        BlockState::Inherit => 0,
        BlockState::Data => 0x5555_5555_5555_5555,
        BlockState::Zero => 0xaaaa_aaaa_aaaa_aaaa,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state() -> impl Strategy<Value = BlockState> {
        prop_oneof![Just(BlockState::Inherit), Just(BlockState::Data), Just(BlockState::Zero)]
    }

    proptest! {
        #[test]
        fn equals_a_plain_vector(
            blocks in 1_u32..200,
            sets in proptest::collection::vec((0_u32..200, 0_u32..200, state()), 0..20),
        ) {
            let mut packed = BlockStates::all(blocks, BlockState::Inherit);
            let mut plain = vec![BlockState::Inherit; blocks as usize];
            for (start, len, state) in sets {
                let (start, end) = (start.min(blocks), (start.min(blocks) + len).min(blocks));
                packed.set(start..end, state);
                plain[start as usize..end as usize].fill(state);
            }
            for block in 0..blocks {
                prop_assert_eq!(packed.of(block), plain[block as usize]);
                let end = packed.run_end(block, blocks);
                prop_assert!(plain[block as usize..end as usize].iter().all(|s| *s == plain[block as usize]));
                prop_assert!(end == blocks || plain[end as usize] != plain[block as usize]);
            }
            for state in [BlockState::Inherit, BlockState::Data, BlockState::Zero] {
                prop_assert_eq!(packed.any(state), plain.contains(&state));
            }
            prop_assert_eq!(BlockStates::unpack(blocks, &packed.pack()), Some(packed));
        }
    }
}
