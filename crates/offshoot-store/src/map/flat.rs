//! A deep stack of layers resolved block by block.

use super::{Entry, Layer, Source};
use alloc::{boxed::Box, vec::Vec};
use offshoot_format::BlockState;

/// Where each block of a cluster comes from, for the lower part of a deep stack.
///
/// Layers below the top belong to snapshots and never change, so the answer can be kept. It names owners by tag
/// like every entry and stays right when they change hands.
#[derive(Clone, Debug)]
pub struct Flat {
    /// The places that some block comes from.
    sources: Box<[Source]>,
    /// By block, an index into `sources`.
    of_block: Box<[u16]>,
}

impl Flat {
    /// Stacks up to this depth are walked.
    pub(super) const DEPTH_MIN: u32 = 4;

    pub(super) fn of(entry: &Entry, blocks: u32) -> Self {
        if let Entry::Stack(stack) = entry
            && let Some(below) = &stack.flat
        {
            return below.under(&stack.top);
        }
        let mut sources: Vec<Source> = Vec::new();
        let mut of_block = Vec::with_capacity(blocks as usize);
        let mut block = 0;
        while block < blocks {
            let (source, end) = entry.source(block, blocks);
            let index = sources.iter().position(|known| *known == source).unwrap_or_else(|| {
                sources.push(source);
                sources.len() - 1
            });
            // A cluster has at most 8192 blocks, so no more sources than that.
            of_block.resize(end as usize, u16::try_from(index).unwrap_or(u16::MAX));
            block = end;
        }
        Self { sources: sources.into(), of_block: of_block.into() }
    }

    /// The same with a layer on top of it. Costs one look at each block, however many layers there are: the first
    /// write to a cluster after a snapshot waits for it.
    fn under(&self, layer: &Layer) -> Self {
        const NONE: u16 = u16::MAX;
        let blocks = layer.states.blocks();
        let mut sources: Vec<Source> = Vec::new();
        let mut add = |source: Source| {
            sources.push(source);
            u16::try_from(sources.len() - 1).unwrap_or(NONE)
        };
        // What is not seen any more is left out.
        let mut of_theirs = alloc::vec![NONE; self.sources.len()];
        let (mut of_data, mut of_zero) = (NONE, NONE);
        let mut of_block = Vec::with_capacity(blocks as usize);
        let mut block = 0;
        while block < blocks {
            let end = layer.states.run_end(block, blocks);
            let (index, source) = match (layer.states.of(block), layer.cluster) {
                (BlockState::Inherit, _) => {
                    of_block.extend(self.of_block[block as usize..end as usize].iter().map(|theirs| {
                        let theirs = usize::from(*theirs);
                        if of_theirs[theirs] == NONE {
                            of_theirs[theirs] = add(self.sources[theirs]);
                        }
                        of_theirs[theirs]
                    }));
                    block = end;
                    continue;
                }
                (BlockState::Data, Some(cluster)) => {
                    (&mut of_data, Source::Cluster { tag: layer.tag, cluster })
                }
                (BlockState::Zero | BlockState::Data, _) => (&mut of_zero, Source::Zeros),
            };
            if *index == NONE {
                *index = add(source);
            }
            of_block.resize(end as usize, *index);
            block = end;
        }
        Self { sources: sources.into(), of_block: of_block.into() }
    }

    /// As [`Entry::source`].
    pub(super) fn source(&self, block: u32, limit: u32) -> (Source, u32) {
        let index = self.of_block[block as usize];
        let behind = self.of_block[block as usize..limit as usize].iter();
        let end = behind.zip(block..).find(|(other, _)| **other != index).map_or(limit, |(_, end)| end);
        (self.sources[usize::from(index)], end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{BlockStates, Layer, Tag};
    use offshoot_format::{BlockState, ClusterIdx};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_deep_stack_reads_like_its_layers(
            layers in proptest::collection::vec(
                proptest::collection::vec((0_u32..16, 0_u32..8, 0_u8..3), 1..4), 1..30),
        ) {
            let mut entry = Entry::Absent;
            let mut plain = [Source::Base; 16];
            for (number, sets) in (1_u32..).zip(layers) {
                let mut states = BlockStates::all(16, BlockState::Inherit);
                for (start, len, state) in sets {
                    let state = [BlockState::Inherit, BlockState::Data, BlockState::Zero][usize::from(state)];
                    states.set(start..(start + len).min(16), state);
                }
                for block in 0..16 {
                    match states.of(block) {
                        BlockState::Inherit => {}
                        BlockState::Zero => plain[block as usize] = Source::Zeros,
                        BlockState::Data => {
                            plain[block as usize] =
                                Source::Cluster { tag: Tag(number), cluster: ClusterIdx(number) };
                        }
                    }
                }
                let top = Layer { tag: Tag(number), cluster: Some(ClusterIdx(number)), states };
                entry = entry.covered_by(top, false);
                let mut block = 0;
                while block < 16 {
                    let (source, end) = entry.source(block, 16);
                    prop_assert!(plain[block as usize..end as usize].iter().all(|known| *known == source));
                    block = end;
                }
            }
        }
    }
}
