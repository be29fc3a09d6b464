//! What the md pages of one blob say by themselves, as far as they can be read.
//!
//! Everything is bounded by what is there: a chain is followed only forward through pages that belong to the blob, in
//! sequence, each once. What cannot be read costs as little as possible: an extent page its 512 clusters, a page of the
//! chain the map, a root everything but the blob's number.

use super::pages::MdPages;
use crate::map::SLOTS;
use crate::pages::{BlobPages, OrdinalMd};
use crate::record::Encoding;
use crate::state::Units;
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::ops::Range;
use offshoot_format::{
    BlobCluster, BlobId, BlobMd, ClusterIdx, ExtentOrdinal, ExtentPage, Flags, InvalidFlags, LayerPage,
    LayerRecord, Layout, MapMd, MdPageIdx, Run,
};

/// Physical clusters by slot, 0 for none, as in a leaf of the cluster map.
pub(super) type Slots = Box<[u32; SLOTS]>;

/// How md pages are read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) layout: &'a Layout,
    pub(super) units: &'a Units,
    pub(super) pages: &'a MdPages,
    /// Whether offshoot's descriptors may stand there.
    pub(super) native: bool,
    /// Whether SPDK may have been in the midst of a resize, which it begins with the extent pages.
    pub(super) resizing: bool,
}

/// A blob as its own pages describe it, before its ancestors are known.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) md: BlobMd,
    pub(super) pages: BlobPages,
    /// Size in clusters.
    pub(super) len: u64,
    /// Own full clusters, by ordinal. No entry is empty.
    pub(super) full: BTreeMap<ExtentOrdinal, Slots>,
    /// Own layers, by blob cluster; newest first within one.
    pub(super) layers: Vec<(BlobCluster, LayerRecord)>,
    /// Ordinals of which an extent or layer page cannot be read.
    pub(super) lost: BTreeSet<ExtentOrdinal>,
    /// Clusters of which no extent page tells, although the blob's size says that one does.
    pub(super) untold: Vec<Range<u64>>,
    /// Whether flags that are not known here say that it cannot be understood. What it claims is its own all the same.
    pub(super) is_refused: bool,
    /// Whether the map as a whole is lost, and if so, how it was encoded, where that is known.
    pub(super) lost_map: Option<Option<Encoding>>,
    /// What is wrong with it.
    pub(super) damage: Option<String>,
    /// Md pages that a resize which SPDK had begun lets go.
    pub(super) cut_off: Vec<MdPageIdx>,
    /// Whether the chain is to be written anew, and which extent pages.
    pub(super) is_changed: bool,
    pub(super) changed: BTreeSet<ExtentOrdinal>,
}

impl Parts {
    fn new(md: BlobMd, chain: Vec<MdPageIdx>, len: u64) -> Self {
        let native = md.native.is_some();
        Self {
            md,
            pages: BlobPages { chain, native, rle_runs: 1, ..BlobPages::default() },
            len,
            full: BTreeMap::new(),
            layers: Vec::new(),
            lost: BTreeSet::new(),
            untold: Vec::new(),
            is_refused: false,
            lost_map: None,
            damage: None,
            cut_off: Vec::new(),
            is_changed: false,
            changed: BTreeSet::new(),
        }
    }

    /// A blob of which nothing but the number is known.
    pub(super) fn unreadable(root: MdPageIdx, encoding: Option<Encoding>, why: String) -> Self {
        let md = BlobMd {
            id: BlobId::from_root(root),
            flags: Flags::default(),
            xattrs: Vec::new(),
            internal_xattrs: Vec::new(),
            native: None,
            map: MapMd::Rle(Vec::new()),
            unknown: Vec::new(),
        };
        let mut parts = Self::new(md, alloc::vec![root], 0);
        parts.lost_map = Some(encoding);
        parts.damage = Some(why);
        parts
    }

    /// Reads the blob whose root is at `root`.
    pub(super) fn decode(reading: Reading<'_>, root: MdPageIdx) -> Self {
        let (chain, broken) = collect_chain(reading.pages, root);
        if let Some(why) = broken {
            return Self::without_map(root, &chain, why);
        }
        let md = match BlobMd::decode_chain(&chain) {
            Ok(md) => md,
            Err(damage) => return Self::without_map(root, &chain, damage.to_string()),
        };
        if md.native.is_some() && !reading.native {
            let why = format!("md page {root}: native descriptors in a store of SPDK's version");
            return Self::without_map(root, &chain, why);
        }
        let len = md.map.num_clusters();
        let outdated = md.native.as_ref().is_some_and(|native| native.outdated);
        let dying = md.native.as_ref().is_some_and(|native| native.dying);
        let mut parts = Self::new(md, chain.iter().map(|(at, _)| *at).collect(), len);
        parts.damage = outdated.then(|| "changes to it were lost with the journal".into());
        parts.read_map(reading);
        parts.read_layers(reading);
        parts.finish_shrink();
        if outdated {
            // What they name may be another's by now.
            (parts.full, parts.layers) = (BTreeMap::new(), Vec::new());
            // Nothing of it is read any more.
            parts.damage = parts.damage.filter(|_| !dying);
        }
        parts.refuse_unknown_flags();
        // What is refused will not be released: nobody counts on it.
        for (ordinal, slots) in parts.full.iter().filter(|_| !parts.is_refused) {
            let count = slots.iter().filter(|cluster| **cluster != 0).count();
            parts.pages.ordinals.entry(*ordinal).or_default().own_full =
                u16::try_from(count).unwrap_or(u16::MAX);
        }
        parts
    }

    /// A blob with a chain of which only the first pages can be read.
    fn without_map(root: MdPageIdx, chain: &[(MdPageIdx, &[u8])], why: String) -> Self {
        let heads = (1..=chain.len()).rev().map(|len| &chain[..len]);
        let Some((head, (md, size))) =
            heads.filter_map(|head| Some((head, BlobMd::decode_head(head).ok()?))).next()
        else {
            return Self::unreadable(root, None, why);
        };
        let has_table = md.flags.invalid.contains(InvalidFlags::EXTENT_TABLE) && size.is_some();
        let mut parts = Self::new(md, head.iter().map(|(at, _)| *at).collect(), size.unwrap_or(0));
        parts.lost_map = Some(has_table.then_some(Encoding::Table));
        parts.damage = Some(why);
        parts
    }

    fn read_map(&mut self, reading: Reading<'_>) {
        match core::mem::replace(&mut self.md.map, MapMd::Rle(Vec::new())) {
            MapMd::Rle(runs) => {
                self.read_runs(reading.layout, &runs);
                self.md.map = MapMd::Rle(Vec::new());
            }
            MapMd::Table { num_clusters, pages } => {
                for (ordinal, page) in (0..).map(ExtentOrdinal).zip(&pages) {
                    if let Some(page) = page {
                        self.read_extent_page(reading, num_clusters, ordinal, *page);
                    }
                }
                self.md.map = MapMd::Table { num_clusters, pages: Vec::new() };
            }
        }
    }

    fn read_runs(&mut self, layout: &Layout, runs: &[Run]) {
        self.pages.rle_runs = runs.len() as u64;
        let (mut at, mut mapped) = (0_u64, 0_u64);
        for run in runs {
            if let Some(first) = run.cluster {
                // Checked as a whole before it is taken apart: a run may claim 2^32 clusters.
                let last = ClusterIdx(first.0.saturating_add(run.length - 1));
                if !layout.contains_data_cluster(first) || !layout.contains_data_cluster(last) {
                    let why = format!("a run of {} clusters from {first} holds no data", run.length);
                    return self.lose_map(why);
                }
                mapped += u64::from(run.length);
                if mapped > u64::from(layout.total_clusters) {
                    return self.lose_map("it maps more clusters than the store has".into());
                }
                for (at, cluster) in (at..).zip(first.0..=last.0) {
                    let (ordinal, slot) = ExtentOrdinal::of(BlobCluster(at));
                    self.full.entry(ordinal).or_insert_with(no_slots)[slot] = cluster;
                }
            }
            at += u64::from(run.length);
        }
    }

    /// Reads an extent page of a blob of so many clusters.
    fn read_extent_page(
        &mut self,
        reading: Reading<'_>,
        num_clusters: u64,
        ordinal: ExtentOrdinal,
        page: MdPageIdx,
    ) {
        if reading.layout.contains_md(page) {
            self.pages.ordinals.entry(ordinal).or_default().extent = Some(page);
        }
        let start = ordinal.first_cluster().0;
        let len = usize::try_from(num_clusters - start).unwrap_or(SLOTS).min(SLOTS);
        let Some(bytes) = reading.pages.page(page) else {
            return self.lose(ordinal, format!("extent page {page} is empty or not in use"));
        };
        let extent = match ExtentPage::decode_as_found(page, bytes) {
            Ok(extent) => extent,
            Err(damage) => return self.lose(ordinal, damage.to_string()),
        };
        let fault = extent.verify(page, ordinal, len).err();
        let is_emptied = reading.resizing && extent.clusters.is_empty();
        if let Some(fault) = fault.as_ref().filter(|_| extent.ordinal() != Some(ordinal) && !is_emptied) {
            return self.lose(ordinal, fault.to_string());
        }
        let told = extent.clusters.len().min(len);
        if reading.resizing {
            if extent.clusters.len() != len {
                // Longer: a growth that never came to be. Shorter: a shrinking that has lost what it cuts off.
                self.changed.insert(ordinal);
            }
            if told < len {
                self.len = self.len.min(start + told as u64);
            }
        } else if let Some(fault) = fault {
            self.damage.get_or_insert(fault.to_string());
            self.untold.extend((told < len).then(|| start + told as u64..start + len as u64));
        }
        let mut slots = no_slots();
        for (slot, cluster) in slots.iter_mut().zip(extent.clusters.iter().take(len)) {
            *slot = cluster.map_or(0, |cluster| cluster.0);
        }
        let is_bad =
            |cluster: &&u32| **cluster != 0 && !reading.layout.contains_data_cluster(ClusterIdx(**cluster));
        if let Some(bad) = slots.iter().find(is_bad) {
            return self.lose(ordinal, format!("extent page {page}: cluster {bad} holds no data"));
        }
        if slots.iter().any(|cluster| *cluster != 0) {
            self.full.insert(ordinal, slots);
        }
    }

    fn read_layers(&mut self, reading: Reading<'_>) {
        let Some(native) = self.md.native.take() else { return };
        let mut found: BTreeMap<ExtentOrdinal, Vec<(MdPageIdx, Vec<usize>)>> = BTreeMap::new();
        for (ordinal, page) in &native.layer_pages {
            match self.read_layer_page(reading, *ordinal, *page) {
                Ok(records) => {
                    let slots = records.iter().map(|record| usize::from(record.slot)).collect();
                    found.entry(*ordinal).or_default().push((*page, slots));
                    let first = ordinal.first_cluster().0;
                    let records = records.into_iter();
                    self.layers
                        .extend(records.map(|record| (BlobCluster(first + u64::from(record.slot)), record)));
                }
                Err(why) => {
                    // Its place is known: the page goes with the blob.
                    if reading.layout.contains_md(*page) {
                        found.entry(*ordinal).or_default().push((*page, Vec::new()));
                    }
                    self.lose(*ordinal, why);
                }
            }
        }
        for (ordinal, found) in found {
            self.pages.ordinals.entry(ordinal).or_default().load(reading.units.spread, found);
        }
        self.md.native = Some(native);
    }

    fn read_layer_page(
        &self,
        reading: Reading<'_>,
        ordinal: ExtentOrdinal,
        page: MdPageIdx,
    ) -> Result<Vec<LayerRecord>, String> {
        let states_bytes = u16::try_from(reading.units.states_bytes).unwrap_or(u16::MAX);
        let bytes = reading.pages.page(page).ok_or_else(|| format!("layer page {page} is not in use"))?;
        let layers =
            LayerPage::decode(page, bytes, ordinal, states_bytes).map_err(|damage| damage.to_string())?;
        for record in &layers.records {
            let at = ordinal.first_cluster().0 + u64::from(record.slot);
            if at >= self.len {
                return Err(format!("layer page {page}: cluster {at} is beyond the end"));
            }
            if let Some(cluster) =
                record.cluster.filter(|cluster| !reading.layout.contains_data_cluster(*cluster))
            {
                return Err(format!("layer page {page}: cluster {cluster} holds no data"));
            }
        }
        Ok(layers.records)
    }

    /// SPDK empties extent pages before the root says that the blob is shorter. What they named is lost, so that the
    /// blob can only be what it was to become.
    fn finish_shrink(&mut self) {
        if self.len == self.md_len() {
            return;
        }
        let (last, keep) = ExtentOrdinal::of(BlobCluster(self.len));
        let end = if keep == 0 { last } else { ExtentOrdinal(last.0 + 1) };
        for (_, md) in self.pages.ordinals.split_off(&end) {
            self.cut_off.extend(md.pages());
        }
        self.full.retain(|ordinal, _| *ordinal < end);
        self.lost.retain(|ordinal| *ordinal < end);
        if let Some(slots) = self.full.get_mut(&last) {
            slots[keep..].fill(0);
        }
        self.full.retain(|_, slots| slots.iter().any(|cluster| *cluster != 0));
        self.changed.retain(|ordinal| *ordinal < end);
        self.is_changed = true;
        let outdated = self.md.native.as_ref().is_some_and(|native| native.outdated);
        if self.lost.is_empty() && self.lost_map.is_none() && !outdated {
            self.damage = None;
        }
    }

    /// A bit that is unknown here may change what all else means.
    fn refuse_unknown_flags(&mut self) {
        let unknown = self.md.flags.invalid.unknown();
        if unknown != 0 {
            self.is_refused = true;
            self.damage = Some(format!("it has unknown flags {unknown:#x}, so its map cannot be understood"));
        }
    }

    /// Size as the root has it.
    fn md_len(&self) -> u64 {
        self.md.map.num_clusters().max(self.len)
    }

    fn lose(&mut self, ordinal: ExtentOrdinal, why: String) {
        self.lost.insert(ordinal);
        self.full.remove(&ordinal);
        self.damage.get_or_insert(why);
    }

    fn lose_map(&mut self, why: String) {
        self.full.clear();
        self.lost_map = Some(Some(Encoding::Rle));
        self.damage.get_or_insert(why);
    }

    /// How the map is encoded.
    pub(super) fn encoding(&self) -> Encoding {
        match (self.lost_map, &self.md.map) {
            (Some(Some(encoding)), _) => encoding,
            (_, MapMd::Rle(_)) => Encoding::Rle,
            (_, MapMd::Table { .. }) => Encoding::Table,
        }
    }

    /// Whether the chain can be read, so that flags, xattrs and relations are known.
    pub(super) fn has_chain(&self) -> bool {
        self.lost_map.is_none()
    }

    /// The md pages that it claims.
    pub(super) fn md_pages(&self) -> impl Iterator<Item = MdPageIdx> {
        self.pages.chain.iter().copied().chain(self.mapped_pages())
    }

    /// Extent and layer pages that it claims.
    pub(super) fn mapped_pages(&self) -> impl Iterator<Item = MdPageIdx> {
        self.pages.ordinals.values().flat_map(OrdinalMd::pages)
    }

    /// Whether all of its own md pages say is known.
    pub(super) fn is_known(&self) -> bool {
        self.damage.is_none() && self.lost.is_empty() && self.lost_map.is_none()
    }

    /// The clusters that it claims.
    pub(super) fn clusters(&self) -> impl Iterator<Item = ClusterIdx> {
        let layers = self.layers.iter().filter_map(|(_, record)| record.cluster);
        let full = self.full.values().flat_map(|slots| slots.iter().copied()).filter(|cluster| *cluster != 0);
        full.map(ClusterIdx).chain(layers)
    }
}

fn no_slots() -> Slots {
    Box::new([0; SLOTS])
}

/// The pages of a chain as far as they follow each other, and why it ends too soon.
fn collect_chain(pages: &MdPages, root: MdPageIdx) -> (Vec<(MdPageIdx, &[u8])>, Option<String>) {
    let mut chain: Vec<(MdPageIdx, &[u8])> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some(root);
    while let Some(at) = next {
        if !seen.insert(at) {
            return (chain, Some(format!("md page {at}: the chain runs in a circle")));
        }
        let Some(bytes) = pages.page(at) else {
            let why = format!("md page {at} is empty, not in use, or outside the md region");
            return (chain, Some(why));
        };
        match BlobMd::next_of(at, bytes) {
            Ok(link) => next = link,
            Err(damage) => return (chain, Some(damage.to_string())),
        }
        chain.push((at, bytes));
    }
    (chain, None)
}
