//! Which cluster is the next one: a cursor over the blobs of a store, so that nothing is listed that is not about to be
//! done.

use crate::blob::Blob;
use crate::limits::FILL_BYTES;
use crate::state::State;
use crate::verb::{Need, Needed};
use alloc::{collections::VecDeque, vec::Vec};
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ExtentOrdinal};

/// What is left of one pass over the store.
#[derive(Debug, Default)]
pub(super) struct Targets {
    blobs: VecDeque<BlobId>,
    next: ExtentOrdinal,
    /// Clusters of the first blob, as they were when its ordinal was looked at.
    clusters: VecDeque<Needed>,
    /// Blocks of the first of these that are left.
    blocks: Option<Range<u32>>,
}

/// Blocks of a cluster of a blob.
pub(super) type Target = (BlobId, BlobCluster, Range<u32>);

impl Targets {
    /// All that is found in some blobs, one blob after the other.
    pub(super) fn new(blobs: Vec<BlobId>) -> Self {
        Self { blobs: blobs.into(), ..Self::default() }
    }

    /// The next target, with `whole` never a part of a cluster. `needs` says in which ordinal, from one on, a blob needs
    /// what.
    pub(super) fn next(
        &mut self,
        state: &State,
        whole: bool,
        needs: impl Fn(&Blob, ExtentOrdinal) -> Option<(ExtentOrdinal, Vec<Needed>)>,
    ) -> Option<Target> {
        loop {
            let id = *self.blobs.front()?;
            if let Some((at, need)) = self.clusters.front().copied() {
                let blocks = self.blocks.take().unwrap_or(0..state.units.blocks);
                let (piece, rest) = match whole {
                    true => (blocks, 0..0),
                    false => piece(state, (id, at), need, blocks),
                };
                if rest.is_empty() {
                    self.clusters.pop_front();
                } else {
                    self.blocks = Some(rest);
                }
                return Some((id, at, piece));
            }
            match state.blob(id).and_then(|blob| needs(blob, self.next)) {
                Some((ordinal, clusters)) => {
                    self.next = ExtentOrdinal(ordinal.0 + 1);
                    self.clusters = clusters.into();
                }
                None => {
                    self.next = ExtentOrdinal(0);
                    self.blobs.pop_front();
                }
            }
        }
    }
}

/// How many of some blocks are filled at once, and the others. Zeros are the device's to write, however many.
fn piece(
    state: &State,
    (id, at): (BlobId, BlobCluster),
    need: Need,
    blocks: Range<u32>,
) -> (Range<u32>, Range<u32>) {
    let at_once = u32::try_from(FILL_BYTES / state.units.block).unwrap_or(u32::MAX).max(1);
    let base = at.0 * state.units.cluster;
    let reads_zeros = state.blob(id).is_none_or(|blob| {
        let in_blob = base + state.units.cluster <= state.bytes(blob);
        in_blob && state.extents(blob, base..base + state.units.cluster, 2).iter().all(|extent| extent.hole)
    });
    // Where native states may not arise, a cluster becomes the blob's own in one go.
    let own = |tag| state.owner(tag) == Some(id);
    let entry = state.blob(id).map(|blob| blob.tree.entry(at));
    let is_partial = entry.is_some_and(|entry| {
        entry.layers().next().is_some_and(|(tag, _, states)| states.is_some() && own(tag))
    });
    let at_once = if state.native_allowed || is_partial { at_once } else { u32::MAX };
    let is_said = matches!(need, Need::DropZeros | Need::KeepZeros);
    if is_said || reads_zeros || blocks.end - blocks.start <= at_once {
        return (blocks.clone(), blocks.end..blocks.end);
    }
    let middle = blocks.start + at_once;
    (blocks.start..middle, middle..blocks.end)
}
