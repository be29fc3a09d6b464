//! What may belong to blobs that cannot be read, in a store whose masks say nothing.
//!
//! A store that SPDK did not close has no masks that count: a cluster is free when no blob names it. So one that cannot be
//! read must not make its clusters look free. How much is known of it decides how much is held back:
//!
//! - A root whose map is a table: the table is lost, the extent pages are not. Those that no readable blob names hold
//!   everything that it can own. The clusters in them are held back, all others are free.
//! - An extent page, a map of runs, or a page that may have been a root and tells nothing: what they named is nowhere
//!   else. Every cluster that no readable blob owns is held back.
//!
//! The masks of the last orderly close would not do instead. They tell what was in use then, and a cluster that a lost
//! part named may have been allocated since: they bound it from below only.
//!
//! No md page is held back that is empty: nothing is lost in it. The others are kept as they are, for a repair. Where
//! nothing is damaged they are leftovers, and become free: a blob that was being made or deleted, pages that others
//! have replaced.

use super::decode::Parts;
use super::pages::MdPages;
use super::verify::Owners;
use crate::record::Encoding;
use alloc::{collections::BTreeMap, vec::Vec};
use offshoot_format::{Bitmap, BlobId, ClusterIdx, ExtentPage, Layout, MdPageIdx, TornPage, page_crc_ok};

/// Md pages that nobody refers to, and what they may have been.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// All of them.
    pub(super) pages: Vec<MdPageIdx>,
    /// Roots whose checksum is bad, and whether their map is a table.
    pub(super) torn_roots: Vec<(MdPageIdx, bool)>,
    /// Pages with a bad checksum that may have been roots.
    pub(super) unrecognised: Vec<MdPageIdx>,
    /// Other pages with a bad checksum: extent pages or parts of chains.
    pub(super) torn_others: usize,
    /// Clusters that good extent pages name.
    clusters: Vec<ClusterIdx>,
}

impl Strays {
    /// Looks at every page that nobody refers to.
    pub(super) fn find(pages: &MdPages, owners: &Owners, layout: &Layout) -> Self {
        let mut strays = Self::default();
        for (at, bytes) in pages.iter().filter(|(at, _)| !owners.refers_to(*at)) {
            strays.pages.push(at);
            if page_crc_ok(bytes) {
                let extent = ExtentPage::decode_as_found(at, bytes);
                let clusters = extent.into_iter().flat_map(|extent| extent.clusters).flatten();
                strays.clusters.extend(clusters.filter(|cluster| layout.contains_data_cluster(*cluster)));
                continue;
            }
            match TornPage::of(at, bytes) {
                TornPage::Unfinished => {}
                TornPage::Root { has_table } => strays.torn_roots.push((at, has_table)),
                TornPage::Other => strays.torn_others += 1,
                TornPage::Unrecognised => strays.unrecognised.push(at),
            }
        }
        strays
    }

    /// Marks as used what may belong to blobs that cannot be read. Says whether that is anything.
    pub(super) fn hold_back(
        &self,
        all: &BTreeMap<BlobId, Parts>,
        pages: &MdPages,
        clusters: &mut Bitmap,
        md: &mut Bitmap,
    ) -> bool {
        let damaged = all.values().filter(|parts| parts.lost_map.is_some() || !parts.lost.is_empty());
        let mut lost_tables = 0;
        let mut is_unknown = !self.unrecognised.is_empty();
        for parts in damaged {
            match parts.lost_map {
                Some(Some(Encoding::Table)) => lost_tables += 1,
                Some(_) | None => is_unknown = true,
            }
        }
        // One of them may be an extent page of a lost table.
        is_unknown |= lost_tables > 0 && self.torn_others > 0;
        if !is_unknown && lost_tables == 0 {
            return false;
        }
        if is_unknown {
            (0..clusters.len()).for_each(|cluster| clusters.set(cluster, true));
        } else {
            self.clusters.iter().for_each(|cluster| clusters.set(cluster.0 as usize, true));
        }
        pages.iter().for_each(|(at, _)| md.set(at.0 as usize, true));
        true
    }
}
