//! The two encodings of a blob's cluster map.

use crate::{BlobCluster, CLUSTERS_PER_EXTENT_PAGE, ClusterIdx, EXTENT_PAGES_MAX, Fault, MdPageIdx};
use alloc::vec::Vec;

/// Most clusters that a blob can have.
pub const BLOB_CLUSTERS_MAX: u64 = EXTENT_PAGES_MAX as u64 * CLUSTERS_PER_EXTENT_PAGE as u64;

/// Consecutive clusters of a blob: all unallocated, or physically consecutive as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The first physical cluster, `None` when unallocated. Never cluster 0: on disk that means unallocated, and the
    /// super block lies there.
    pub cluster: Option<ClusterIdx>,
    /// How many clusters, at least one.
    pub length: u32,
}

/// An entry of an EXTENT_TABLE: one extent page, or a run of absent ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableEntry {
    /// Where the extent page is, `None` when absent. Never md page 0, which on disk means absent.
    pub page: Option<MdPageIdx>,
    /// How many extent pages, at least one; exactly one when there is a page.
    pub count: u32,
}

/// The cluster map of a blob as its chain holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapMd {
    /// The whole map (SPDK's EXTENT_RLE). A blob without any map descriptor is one of no clusters.
    Rle(Vec<Run>),
    /// Where the extent pages are (SPDK's EXTENT_TABLE).
    Table {
        /// Size of the blob.
        num_clusters: u64,
        /// One for each [`CLUSTERS_PER_EXTENT_PAGE`] clusters; `None` when all of them are unallocated.
        pages: Vec<Option<MdPageIdx>>,
    },
}

impl MapMd {
    /// The runs of a map, maximal as SPDK writes them, as an EXTENT_RLE.
    #[must_use]
    pub fn rle(clusters: impl IntoIterator<Item = Option<ClusterIdx>>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for cluster in clusters {
            match runs.last_mut() {
                Some(run) if run.length < u32::MAX && run.continues_with(cluster) => run.length += 1,
                _ => runs.push(Run { cluster, length: 1 }),
            }
        }
        Self::Rle(runs)
    }

    /// Size of the blob in clusters.
    #[must_use]
    pub fn num_clusters(&self) -> u64 {
        match self {
            Self::Rle(runs) => runs.iter().map(|run| u64::from(run.length)).sum(),
            Self::Table { num_clusters, .. } => *num_clusters,
        }
    }

    /// How many extent pages a blob of this size has, absent ones included.
    #[must_use]
    pub const fn extent_page_count(num_clusters: u64) -> u64 {
        num_clusters.div_ceil(CLUSTERS_PER_EXTENT_PAGE as u64)
    }

    /// The first cluster that the chain alone shows to be unallocated.
    pub(crate) fn first_hole(&self) -> Option<BlobCluster> {
        match self {
            Self::Rle(runs) => {
                let hole = runs.iter().position(|run| run.cluster.is_none())?;
                Some(BlobCluster(runs[..hole].iter().map(|run| u64::from(run.length)).sum()))
            }
            Self::Table { pages, .. } => {
                let hole = pages.iter().position(Option::is_none)?;
                Some(BlobCluster(hole as u64 * CLUSTERS_PER_EXTENT_PAGE as u64))
            }
        }
    }
}

impl Run {
    /// Whether a blob cluster that follows this run may join it.
    fn continues_with(&self, next: Option<ClusterIdx>) -> bool {
        match (self.cluster, next) {
            (None, None) => true,
            (Some(first), Some(next)) => first.0.checked_add(self.length) == Some(next.0),
            _ => false,
        }
    }
}

impl TableEntry {
    /// The entries that stand for these extent pages: absent neighbours share one.
    pub(crate) fn fold(pages: &[Option<MdPageIdx>]) -> Vec<Self> {
        let mut entries: Vec<Self> = Vec::new();
        for page in pages {
            match entries.last_mut() {
                Some(last) if page.is_none() && last.page.is_none() => last.count += 1,
                _ => entries.push(Self { page: *page, count: 1 }),
            }
        }
        entries
    }
}

/// Collects the map descriptors of a chain, in order.
#[derive(Debug, Default)]
pub(crate) struct MapParts {
    runs: Option<Vec<Run>>,
    table: Option<(u64, Vec<TableEntry>)>,
}

impl MapParts {
    pub(crate) fn add_runs(&mut self, runs: Vec<Run>) {
        self.runs.get_or_insert_default().extend(runs);
    }

    pub(crate) fn add_table(&mut self, num_clusters: u64, entries: Vec<TableEntry>) -> Result<(), Fault> {
        let (expected, all) = self.table.get_or_insert_with(|| (num_clusters, Vec::new()));
        if num_clusters != *expected {
            return Err(Fault::TableSize { stored: num_clusters, expected: *expected });
        }
        all.extend(entries);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<MapMd, Fault> {
        let map = match (self.runs, self.table) {
            (Some(_), Some(_)) => return Err(Fault::MixedMaps),
            (runs, None) => MapMd::Rle(runs.unwrap_or_default()),
            (None, Some((num_clusters, entries))) => {
                MapMd::Table { num_clusters, pages: expand(num_clusters, &entries)? }
            }
        };
        let clusters = map.num_clusters();
        if clusters > BLOB_CLUSTERS_MAX {
            return Err(Fault::MapSize { clusters, max: BLOB_CLUSTERS_MAX });
        }
        Ok(map)
    }
}

/// One element for each extent page. The size is checked first, since a few bytes can ask for any amount of memory.
fn expand(num_clusters: u64, entries: &[TableEntry]) -> Result<Vec<Option<MdPageIdx>>, Fault> {
    if num_clusters > BLOB_CLUSTERS_MAX {
        return Err(Fault::MapSize { clusters: num_clusters, max: BLOB_CLUSTERS_MAX });
    }
    let expected = MapMd::extent_page_count(num_clusters);
    let stored = entries.iter().map(|entry| u64::from(entry.count)).sum();
    if stored != expected {
        return Err(Fault::TableCover { stored, expected });
    }
    let mut pages = Vec::new();
    for entry in entries {
        pages.resize(pages.len() + entry.count as usize, entry.page);
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn run(cluster: u32, length: u32) -> Run {
        Run { cluster: (cluster != 0).then_some(ClusterIdx(cluster)), length }
    }

    fn entry(page: u32, count: u32) -> TableEntry {
        TableEntry { page: (page != 0).then_some(MdPageIdx(page)), count }
    }

    #[test]
    fn runs_are_maximal() {
        let clusters = [5, 6, 7, 0, 0, 9, 8, 9].map(|c| (c != 0).then_some(ClusterIdx(c)));
        let map = MapMd::rle(clusters);
        assert_eq!(map, MapMd::Rle(vec![run(5, 3), run(0, 2), run(9, 1), run(8, 2)]));
        assert_eq!(map.num_clusters(), 8);
        assert_eq!(map.first_hole(), Some(BlobCluster(3)));
        assert_eq!(MapMd::rle([]), MapMd::Rle(vec![]));
    }

    #[test]
    fn tables_fold_and_expand() {
        let pages = [0, 0, 7, 8, 0, 9].map(|p| (p != 0).then_some(MdPageIdx(p)));
        let entries = TableEntry::fold(&pages);
        assert_eq!(entries, [entry(0, 2), entry(7, 1), entry(8, 1), entry(0, 1), entry(9, 1)]);
        assert_eq!(expand(5 * 512 + 1, &entries).as_deref(), Ok(&pages[..]));
    }

    #[test]
    fn refuses() {
        let table = |num_clusters, entries: &[TableEntry]| {
            let mut parts = MapParts::default();
            parts.add_table(num_clusters, entries.to_vec()).and_then(|()| parts.finish())
        };
        let max = BLOB_CLUSTERS_MAX;
        let cases = [
            (table(512, &[entry(0, 2)]), Fault::TableCover { stored: 2, expected: 1 }),
            (table(513, &[entry(3, 1)]), Fault::TableCover { stored: 1, expected: 2 }),
            (table(max + 1, &[]), Fault::MapSize { clusters: max + 1, max }),
            (table(u64::MAX, &[entry(0, u32::MAX)]), Fault::MapSize { clusters: u64::MAX, max }),
        ];
        for (result, fault) in cases {
            assert_eq!(result, Err(fault));
        }

        let mut parts = MapParts::default();
        parts.add_runs(vec![run(1, u32::MAX), run(0, 2)]);
        assert_eq!(parts.finish(), Err(Fault::MapSize { clusters: max + 1, max }));

        let mut parts = MapParts::default();
        parts.add_table(0, vec![]).unwrap();
        assert_eq!(parts.add_table(1, vec![]), Err(Fault::TableSize { stored: 1, expected: 0 }));
        parts.add_runs(vec![]);
        assert_eq!(parts.finish(), Err(Fault::MixedMaps));
    }
}
