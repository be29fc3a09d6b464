//! Diff: where two related lvols may read differently, told from their maps.
//!
//! Blocks that come from the same place are the same, all others count as changed: nobody has looked at the data. What
//! the two maps share is skipped as a whole, so that the cost follows from what differs and not from the size.

use crate::blob::Blob;
use crate::error::Error;
use crate::map::{Entry, Leaf, SLOTS, Source, Tree};
use crate::pages::by_ordinal;
use crate::state::State;
use alloc::{
    collections::VecDeque,
    sync::Arc,
    vec::{self, Vec},
};
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ClusterIdx, ExtentOrdinal};

/// A range of the newer lvol that the older one may read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
    /// Whether the newer lvol reads zeros there because it stores nothing. Stored zeros are data.
    pub zero: bool,
}

/// The changes from one lvol to another, ascending, as long as possible.
///
/// Whoever has what the older lvol reads, cut or extended with zeros to the size of the newer one, and puts the changes
/// into it, has what the newer one reads.
#[derive(Clone, Debug)]
pub struct Diff<'s> {
    state: &'s State,
    from: Side<'s>,
    to: Side<'s>,
    /// Size of the newer lvol in clusters.
    len: u64,
    /// Parts of the maps that differ and have not been looked at.
    ordinals: vec::IntoIter<ExtentOrdinal>,
    /// What is left of the one that is being looked at, in bytes.
    rest: Range<u64>,
    /// Changes that touch no later one.
    ready: VecDeque<Change>,
    /// The last one found: the next may go on from it.
    open: Option<Change>,
}

/// What one of the two reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Side<'s> {
    tree: Tree,
    /// The id of what lies below the whole chain.
    external: &'s [u8],
    /// Clusters up to which that shows through.
    external_len: u64,
    /// Clusters of which the tree says what they are.
    len: u64,
}

impl<'s> Side<'s> {
    pub(super) fn of(blob: &'s Blob) -> Self {
        let external = blob.external.as_ref();
        Self {
            tree: blob.tree.clone(),
            external: external.map_or(&[], |external| &external.id),
            external_len: external.map_or(0, |external| external.len),
            len: blob.len,
        }
    }

    /// Behind its end, and up to a number of clusters, it is what a longer blob is.
    pub(super) fn extend(&mut self, longer: &Blob, len: u64) {
        let new = self.len..longer.len.min(len);
        if new.is_empty() {
            return;
        }
        for (ordinal, slots) in by_ordinal(new.clone()) {
            let first = ordinal.first_cluster().0;
            for (slot, entry) in longer.tree.leaf(ordinal).into_iter().flat_map(Leaf::entries) {
                if slots.contains(&slot) {
                    self.tree.replace(BlobCluster(first + slot as u64), entry);
                }
            }
        }
        self.len = new.end;
        // In between it may have ended before its blob did: who says zeros there says them once more.
        let external_len = longer.external.as_ref().map_or(0, |external| external.len);
        self.external_len = self.external_len.max(external_len);
    }

    /// The external snapshot below a blob, however far it shows through.
    pub(super) fn whole_external(blob: &'s Blob) -> Self {
        Self { tree: Tree::default(), external_len: u64::MAX, ..Self::of(blob) }
    }

    fn content(&self, at: u64, source: Source) -> Content<'s> {
        match source {
            Source::Cluster { cluster, .. } => Content::Stored(cluster),
            Source::Base if at < self.external_len => Content::External(self.external),
            // Only damaged lvols have parts that nobody knows.
            Source::Base | Source::Zeros | Source::Unknown => Content::Zeros,
        }
    }
}

/// Where bytes come from, as far as it tells whether they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content<'s> {
    Zeros,
    Stored(ClusterIdx),
    External(&'s [u8]),
}

impl State {
    /// What changed between two lvols of one family of snapshots and clones, in either direction.
    ///
    /// # Errors
    /// One of them does not exist or is damaged, or they are not related.
    pub fn diff(&self, from: BlobId, to: BlobId) -> Result<Diff<'_>, Error> {
        let (from, to) = (self.sound_lvol(from)?, self.sound_lvol(to)?);
        if self.family_root(from.id) != self.family_root(to.id) {
            return Err(Error::NotRelated { name: to.display_name(), other: from.display_name() });
        }
        Ok(Diff::new(self, Side::of(from), to))
    }
}

impl Iterator for Diff<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        while self.ready.is_empty() {
            if self.rest.is_empty() {
                let Some(ordinal) = self.ordinals.next() else { return self.open.take() };
                let (cluster, first) = (self.state.units.cluster, ordinal.first_cluster().0);
                self.rest = first * cluster..(first + SLOTS as u64).min(self.len) * cluster;
                continue;
            }
            self.step();
        }
        self.ready.pop_front()
    }
}

impl<'s> Diff<'s> {
    pub(super) fn new(state: &'s State, from: Side<'s>, to: &'s Blob) -> Self {
        let (len, to) = (to.len, Side::of(to));
        let (less, more) = (from.external_len.min(to.external_len), from.external_len.max(to.external_len));
        let base = by_ordinal(less..more.min(len)).map(|(ordinal, _)| ordinal);
        let mut ordinals: Vec<ExtentOrdinal> =
            from.tree.differing(&to.tree).into_iter().chain(base).collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        let ordinals = ordinals.into_iter();
        Self { state, from, to, len, ordinals, rest: 0..0, ready: VecDeque::new(), open: None }
    }

    /// Leaves out what lies before a byte, in leaves of the maps that this one is not in.
    #[must_use]
    pub fn starting_near(mut self, start: u64) -> Self {
        let at = start / self.state.units.cluster;
        let is_before = |ordinal: &ExtentOrdinal| ordinal.first_cluster().0 + SLOTS as u64 <= at;
        let before = self.ordinals.as_slice().partition_point(is_before);
        self.ordinals.by_ref().take(before).for_each(drop);
        self
    }

    /// Looks at one more cluster, or at all up to where one of the two maps says something.
    fn step(&mut self) {
        let (cluster, pos) = (self.state.units.cluster, self.rest.start);
        let at = pos / cluster;
        let (old, new) = (self.from.tree.entry(BlobCluster(at)), self.to.tree.entry(BlobCluster(at)));
        let end = match (&old, &new) {
            (Entry::Absent, Entry::Absent) => self.both_absent(at) * cluster,
            _ => (at + 1) * cluster,
        };
        self.rest.start = end.min(self.rest.end);
        let (base, below) = (self.from.content(at, Source::Base), self.to.content(at, Source::Base));
        match (&old, &new) {
            _ if is_same(&old, &new) && base == below => {}
            (Entry::Absent, Entry::Absent) => self.push(pos..self.rest.start, below == Content::Zeros),
            _ => self.compare(&old, &new, pos..self.rest.start),
        }
    }

    /// The cluster up to which neither map says anything from `at` on, and what lies below does not change.
    fn both_absent(&self, at: u64) -> u64 {
        let (ordinal, _) = ExtentOrdinal::of(BlobCluster(at));
        if self.from.tree.leaf(ordinal).is_some() || self.to.tree.leaf(ordinal).is_some() {
            return at + 1;
        }
        let ends = [self.from.external_len, self.to.external_len];
        let end = ordinal.first_cluster().0 + SLOTS as u64;
        ends.into_iter().filter(|end| *end > at).fold(end, u64::min)
    }

    /// Compares a cluster block by block.
    fn compare(&mut self, old: &Entry, new: &Entry, range: Range<u64>) {
        let at = range.start / self.state.units.cluster;
        let mut pos = range.start;
        while pos < range.end {
            let (from, one) = self.state.source_in(old, at, pos, range.end);
            let (to, other) = self.state.source_in(new, at, pos, range.end);
            let end = one.end.min(other.end);
            let (from, to) = (self.from.content(at, from), self.to.content(at, to));
            if from != to {
                self.push(pos..end, to == Content::Zeros);
            }
            pos = end;
        }
    }

    fn push(&mut self, range: Range<u64>, zero: bool) {
        let len = range.end - range.start;
        match &mut self.open {
            Some(open) if open.start + open.len == range.start && open.zero == zero => open.len += len,
            open => self.ready.extend(open.replace(Change { start: range.start, len, zero })),
        }
    }
}

/// Whether two entries are one and the same, at a glance.
fn is_same(old: &Entry, new: &Entry) -> bool {
    match (old, new) {
        (Entry::Absent, Entry::Absent) => true,
        (Entry::Full { cluster: old, .. }, Entry::Full { cluster: new, .. }) => old == new,
        (Entry::Stack(old), Entry::Stack(new)) => Arc::ptr_eq(old, new),
        _ => false,
    }
}
