//! A maker of stores in SPDK's format, the odd ones of older and other writers among them.
//!
//! Beside [`crate::plain_checker`], which reads: it shares no line with the code under test, writes plain bytes, and
//! lays everything out in the simplest way that the specification allows: blob `n` of a plan has its root in md page
//! `n`, extent pages and chain pages follow behind the roots, clusters are handed out in order.
//!
//! The section numbers are those of the specification.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shared by several test programs")]
#![allow(clippy::cast_possible_truncation, reason = "test stores are small")]

use crate::plain_checker::checksum;

const PAGE: usize = 4096;
const NONE: u32 = u32::MAX;
const PER_EXTENT_PAGE: usize = 512;
/// Room for descriptors in an md page.
const ROOM: usize = 4072;
/// Entries of a descriptor for which an otherwise empty page has room.
const RUNS_MAX: usize = 508;

pub const THIN: u64 = 0x1;
pub const INTERNAL: u64 = 0x2;
pub const TABLE: u64 = 0x4;
pub const EXTERNAL: u64 = 0x8;
pub const READ_ONLY: u64 = 0x1;

/// A store to be made. [`Plan::new`] is what SPDK makes today; every field can be made odd.
#[derive(Clone, Debug)]
pub struct Plan {
    pub version: u32,
    pub clean: u32,
    pub cluster_size: u32,
    /// As stored: 0 stands for 4096.
    pub md_page_size: u32,
    /// As stored.
    pub io_unit: u32,
    pub clusters: u32,
    pub md_len: u32,
    pub super_blob: u64,
    pub has_blobid_mask: bool,
    /// Bits that the cluster mask has beyond the clusters, as after a growth that was given up.
    pub surplus_bits: u32,
    /// Md pages between the cluster mask and what follows it.
    pub headroom: u32,
    /// Whether the super block says how large the store is.
    pub stores_size: bool,
    /// Bytes of the device behind the store.
    pub bytes_behind: u64,
    pub blobs: Vec<Blob>,
}

/// How a blob's map is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    Runs,
    Table,
}

/// A blob to be made.
#[derive(Clone, Debug)]
pub struct Blob {
    pub flags: [u64; 3],
    /// Whether there is a FLAGS descriptor at all: before version 3 there was none.
    pub has_flags: bool,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub internal_xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Type and payload of descriptors behind all others.
    pub unknown: Vec<(u8, Vec<u8>)>,
    pub map: Map,
    /// For each cluster whether the blob holds it.
    pub holds: Vec<bool>,
    /// The blob of the plan that this is a clone of.
    pub parent: Option<usize>,
    /// What its extent pages say that their owner is, if not this blob.
    pub extent_page_id: Option<u64>,
    /// Runs in one descriptor at most.
    pub runs_max: usize,
}

/// A store that was made.
#[derive(Clone, Debug)]
pub struct Made {
    pub bytes: Vec<u8>,
    pub plan: Plan,
    /// For each blob its clusters, 0 where it holds none.
    pub clusters: Vec<Vec<u32>>,
    /// For each blob its md pages, the root first.
    pub md_pages: Vec<Vec<u32>>,
    pub regions: Regions,
}

/// Where things are, in md pages from the start of the device: start and length.
#[derive(Clone, Copy, Debug)]
pub struct Regions {
    pub page_mask: (u32, u32),
    pub cluster_mask: (u32, u32),
    pub blobid_mask: (u32, u32),
    pub md_start: u32,
    pub metadata_clusters: u32,
}

pub fn id_of(blob: usize) -> u64 {
    0x1_0000_0000 | blob as u64
}

/// The name as SPDK writes it at creation: 64 bytes.
pub fn padded_name(name: &str) -> Vec<u8> {
    let mut value = name.as_bytes().to_vec();
    value.resize(64, 0);
    value
}

/// The name as SPDK writes it at a rename.
pub fn short_name(name: &str) -> Vec<u8> {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    value
}

/// A UUID's text and its NUL, different for each number.
pub fn uuid_value(number: usize) -> Vec<u8> {
    format!("11111111-2222-4333-8444-{number:012x}\0").into_bytes()
}

/// What a cluster of an lvol holds, by the number that it has on the device. No byte is zero.
pub fn cluster_content(cluster: u32, cluster_size: u32) -> Vec<u8> {
    (0..cluster_size).map(|at| (1 + (cluster * 7 + at / 512) % 251) as u8).collect()
}

impl Plan {
    pub fn new() -> Self {
        Self {
            version: 3,
            clean: 1,
            cluster_size: 16_384,
            md_page_size: 4096,
            io_unit: 512,
            clusters: 64,
            md_len: 64,
            super_blob: id_of(0),
            has_blobid_mask: true,
            surplus_bits: 0,
            headroom: 0,
            stores_size: true,
            bytes_behind: 0,
            blobs: vec![Blob::store("lvs")],
        }
    }

    /// Adds a blob and hands back its number.
    pub fn add(&mut self, blob: Blob) -> usize {
        self.blobs.push(blob);
        self.blobs.len() - 1
    }

    fn page_bytes(&self) -> usize {
        match self.md_page_size {
            0 => PAGE,
            bytes => bytes as usize,
        }
    }

    /// Section 1.1.
    fn regions(&self) -> Regions {
        let page = self.page_bytes() as u32;
        let pages = |bits: u32| (5 + bits.div_ceil(8)).div_ceil(page);
        let page_mask = (1, pages(self.md_len));
        let cluster_mask = (1 + page_mask.1, pages(self.clusters + self.surplus_bits));
        let behind = cluster_mask.0 + cluster_mask.1.max(page_mask.1) + self.headroom;
        let blobid_mask = if self.has_blobid_mask { (behind, page_mask.1) } else { (0, 0) };
        let md_start = behind + blobid_mask.1;
        let metadata_clusters = (md_start + self.md_len).div_ceil(self.cluster_size / page);
        Regions { page_mask, cluster_mask, blobid_mask, md_start, metadata_clusters }
    }

    pub fn make(self) -> Made {
        let regions = self.regions();
        assert!(regions.metadata_clusters < self.clusters, "no room for data");
        let store_bytes = u64::from(self.clusters) * u64::from(self.cluster_size);
        let bytes = vec![0; (store_bytes + self.bytes_behind) as usize];
        let mut made = Made { bytes, clusters: Vec::new(), md_pages: Vec::new(), regions, plan: self };
        made.fill_clusters();
        made.write_blobs();
        made.write_masks();
        made.write_super_block();
        made
    }
}

impl Blob {
    /// A blob of a number of clusters none of which it holds.
    fn new(flags: [u64; 3], map: Map, clusters: usize) -> Self {
        Self {
            flags,
            has_flags: true,
            xattrs: Vec::new(),
            internal_xattrs: Vec::new(),
            unknown: Vec::new(),
            map,
            holds: vec![false; clusters],
            parent: None,
            extent_page_id: None,
            runs_max: RUNS_MAX,
        }
    }

    /// The super blob (section 6.4).
    pub fn store(name: &str) -> Self {
        let xattrs = vec![(b"uuid".to_vec(), uuid_value(0xfff)), (b"name".to_vec(), short_name(name))];
        Self { xattrs, ..Self::new([TABLE, 0, 0], Map::Table, 0) }
    }

    /// An lvol; its UUID follows from `number`.
    pub fn lvol(name: &str, number: usize, thin: bool, clusters: usize) -> Self {
        let xattrs = vec![(b"name".to_vec(), padded_name(name)), (b"uuid".to_vec(), uuid_value(number))];
        Self { xattrs, ..Self::new([TABLE | u64::from(thin), 0, 0], Map::Table, clusters) }
    }

    pub fn thick(name: &str, number: usize, clusters: usize) -> Self {
        Self { holds: vec![true; clusters], ..Self::lvol(name, number, false, clusters) }
    }

    /// A thin lvol with data where `holds` is an `x`.
    pub fn thin(name: &str, number: usize, holds: &str) -> Self {
        let holds: Vec<bool> = holds.bytes().map(|byte| byte == b'x').collect();
        Self { holds: holds.clone(), ..Self::lvol(name, number, true, holds.len()) }
    }

    pub fn snapshot(self) -> Self {
        Self { flags: [self.flags[0], READ_ONLY, self.flags[2]], ..self }
    }

    pub fn clone_of(mut self, parent: usize) -> Self {
        self.flags[0] |= THIN | INTERNAL;
        self.internal_xattrs.push((b"SNAP".to_vec(), id_of(parent).to_le_bytes().to_vec()));
        Self { parent: Some(parent), ..self }
    }

    /// A clone of a device outside, by the bytes that name it.
    pub fn external_clone_of(mut self, id: &[u8]) -> Self {
        self.flags[0] |= THIN | INTERNAL | EXTERNAL;
        self.internal_xattrs.push((b"EXTSNAP".to_vec(), id.to_vec()));
        self
    }

    pub fn is_external_clone(&self) -> bool {
        self.flags[0] & EXTERNAL != 0
    }

    /// Its map as runs (section 5.3).
    pub fn in_runs(mut self) -> Self {
        self.flags[0] &= !TABLE;
        Self { map: Map::Runs, ..self }
    }

    pub fn xattr(&self, name: &str) -> Option<&[u8]> {
        self.xattrs.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    pub fn set_xattr(&mut self, name: &str, value: &[u8]) {
        self.xattrs.retain(|(key, _)| key != name.as_bytes());
        self.xattrs.push((name.into(), value.into()));
    }

    pub fn without_xattr(mut self, name: &str) -> Self {
        self.xattrs.retain(|(key, _)| key != name.as_bytes());
        self
    }

    pub fn name(&self) -> String {
        let value = self.xattr("name").unwrap_or_default();
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        String::from_utf8_lossy(&value[..end]).into_owned()
    }
}

impl Made {
    pub fn cluster_bytes(&self) -> usize {
        self.plan.cluster_size as usize
    }

    /// What a blob reads, where it has no external parent.
    pub fn content(&self, blob: usize) -> Vec<u8> {
        let mut content = Vec::new();
        for at in 0..self.clusters[blob].len() {
            match self.owner_of(blob, at) {
                Some(cluster) => content.extend(cluster_content(cluster, self.plan.cluster_size)),
                None => content.resize(content.len() + self.cluster_bytes(), 0),
            }
        }
        content
    }

    fn owner_of(&self, blob: usize, at: usize) -> Option<u32> {
        let mut next = Some(blob);
        while let Some(blob) = next {
            match *self.clusters[blob].get(at)? {
                0 => next = self.plan.blobs[blob].parent,
                cluster => return Some(cluster),
            }
        }
        None
    }

    /// Where an md page is on the device.
    pub fn md_offset(&self, page: u32) -> usize {
        (self.regions.md_start + page) as usize * self.plan.page_bytes()
    }

    pub fn md_page_bytes(&self) -> usize {
        self.plan.page_bytes()
    }

    /// Changes an md page and its checksum.
    pub fn edit_md_page(&mut self, page: u32, edit: impl FnOnce(&mut [u8])) {
        let at = self.md_offset(page);
        let bytes = &mut self.bytes[at..at + PAGE];
        edit(bytes);
        seal(bytes);
    }

    /// Changes the super block and its checksum.
    pub fn edit_super_block(&mut self, edit: impl FnOnce(&mut [u8])) {
        let bytes = &mut self.bytes[..PAGE];
        edit(bytes);
        seal(bytes);
    }

    fn fill_clusters(&mut self) {
        let mut next = self.regions.metadata_clusters;
        for blob in &self.plan.blobs {
            let mut clusters = Vec::new();
            for holds in &blob.holds {
                clusters.push(if *holds { next } else { 0 });
                next += u32::from(*holds);
            }
            self.clusters.push(clusters);
        }
        assert!(next <= self.plan.clusters, "{next} clusters of {}", self.plan.clusters);
        let size = self.plan.cluster_size;
        for cluster in self.regions.metadata_clusters..next {
            let at = cluster as usize * size as usize;
            self.bytes[at..at + size as usize].copy_from_slice(&cluster_content(cluster, size));
        }
    }

    fn write_blobs(&mut self) {
        let mut free = self.plan.blobs.len() as u32;
        for number in 0..self.plan.blobs.len() {
            let blob = self.plan.blobs[number].clone();
            let id = id_of(number);
            let mut pages = vec![number as u32];
            let mut table = Vec::new();
            if blob.map == Map::Table {
                let clusters = self.clusters[number].clone();
                for (ordinal, part) in clusters.chunks(PER_EXTENT_PAGE).enumerate() {
                    if part.iter().all(|cluster| *cluster == 0) {
                        table.push(0);
                        continue;
                    }
                    let mut payload = ((ordinal * PER_EXTENT_PAGE) as u32).to_le_bytes().to_vec();
                    payload.extend(part.iter().flat_map(|cluster| cluster.to_le_bytes()));
                    let owner = blob.extent_page_id.unwrap_or(id);
                    self.write_md_page(free, owner, 0, NONE, &descriptor(6, &payload));
                    table.push(free);
                    pages.push(free);
                    free += 1;
                }
            }
            let areas = fill_pages(&blob.descriptors(&table, &self.clusters[number]));
            let chain: Vec<u32> = std::iter::once(number as u32).chain(free..).take(areas.len()).collect();
            free += chain.len() as u32 - 1;
            for (sequence, area) in areas.iter().enumerate() {
                let next = chain.get(sequence + 1).copied().unwrap_or(NONE);
                self.write_md_page(chain[sequence], id, sequence as u32, next, area);
            }
            pages.extend(&chain[1..]);
            self.md_pages.push(pages);
        }
        assert!(free <= self.plan.md_len, "{free} md pages of {}", self.plan.md_len);
    }

    /// Section 4.
    fn write_md_page(&mut self, page: u32, id: u64, sequence: u32, next: u32, area: &[u8]) {
        let mut bytes = vec![0; PAGE];
        bytes[..8].copy_from_slice(&id.to_le_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_le_bytes());
        bytes[16..16 + area.len()].copy_from_slice(area);
        bytes[0xff8..0xffc].copy_from_slice(&next.to_le_bytes());
        seal(&mut bytes);
        let at = self.md_offset(page);
        self.bytes[at..at + PAGE].copy_from_slice(&bytes);
    }

    /// Section 3. A store that was not closed has masks of zeros, as after its creation.
    fn write_masks(&mut self) {
        if self.plan.clean == 0 {
            return;
        }
        let regions = self.regions;
        let md: Vec<u32> = self.md_pages.iter().flatten().copied().collect();
        let mut clusters: Vec<u32> = (0..regions.metadata_clusters).collect();
        clusters.extend(self.clusters.iter().flatten().filter(|cluster| **cluster != 0));
        let roots: Vec<u32> = (0..self.plan.blobs.len() as u32).collect();
        let (md_len, bits) = (self.plan.md_len, self.plan.clusters + self.plan.surplus_bits);
        // What was to be beyond the clusters is marked: it must not count.
        clusters.extend(self.plan.clusters..bits);
        self.write_mask(0, regions.page_mask, md_len, &md);
        self.write_mask(1, regions.cluster_mask, bits, &clusters);
        if self.plan.has_blobid_mask {
            self.write_mask(2, regions.blobid_mask, md_len, &roots);
        }
    }

    fn write_mask(&mut self, kind: u8, (start, len): (u32, u32), bits: u32, set: &[u32]) {
        let page = self.plan.page_bytes();
        let region = &mut self.bytes[start as usize * page..(start + len) as usize * page];
        region[0] = kind;
        region[1..5].copy_from_slice(&bits.to_le_bytes());
        set.iter().for_each(|bit| region[5 + *bit as usize / 8] |= 1 << (bit % 8));
    }

    /// Section 2.
    fn write_super_block(&mut self) {
        let (plan, regions) = (self.plan.clone(), self.regions);
        let store_bytes = u64::from(plan.clusters) * u64::from(plan.cluster_size);
        let bytes = &mut self.bytes[..PAGE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"SPDKBLOB");
        put(0x08, &plan.version.to_le_bytes());
        put(0x0c, &4096_u32.to_le_bytes());
        put(0x10, &plan.clean.to_le_bytes());
        put(0x14, &plan.super_blob.to_le_bytes());
        put(0x1c, &plan.cluster_size.to_le_bytes());
        let areas = [
            (0x20, regions.page_mask),
            (0x28, regions.cluster_mask),
            (0x30, (regions.md_start, plan.md_len)),
            (0x48, regions.blobid_mask),
        ];
        for (at, (start, len)) in areas {
            put(at, &start.to_le_bytes());
            put(at + 4, &len.to_le_bytes());
        }
        if plan.version > 1 {
            put(0x38, b"LVOLSTORE");
        }
        put(0x50, &if plan.stores_size { store_bytes } else { 0 }.to_le_bytes());
        put(0x58, &plan.io_unit.to_le_bytes());
        put(0x5c, &plan.md_page_size.to_le_bytes());
        seal(bytes);
    }
}

impl Blob {
    /// Section 5, in the order in which SPDK writes them.
    fn descriptors(&self, table: &[u32], clusters: &[u32]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        if self.has_flags {
            let words: Vec<u8> = self.flags.iter().flat_map(|word| word.to_le_bytes()).collect();
            all.push(descriptor(3, &words));
        }
        for (kind, list) in [(2, &self.xattrs), (4, &self.internal_xattrs)] {
            for (name, value) in list {
                let mut payload = (name.len() as u16).to_le_bytes().to_vec();
                payload.extend((value.len() as u16).to_le_bytes());
                payload.extend(name);
                payload.extend(value);
                all.push(descriptor(kind, &payload));
            }
        }
        match self.map {
            Map::Runs => {
                let runs = runs_of(clusters);
                all.extend(runs.chunks(self.runs_max).map(|runs| descriptor(1, &pairs(runs))));
            }
            Map::Table => {
                let mut payload = (clusters.len() as u64).to_le_bytes().to_vec();
                let mut entries: Vec<(u32, u32)> = Vec::new();
                for page in table {
                    match entries.last_mut() {
                        Some((0, count)) if *page == 0 => *count += 1,
                        _ => entries.push((*page, 1)),
                    }
                }
                payload.extend(pairs(&entries));
                all.push(descriptor(5, &payload));
            }
        }
        all.extend(self.unknown.iter().map(|(kind, payload)| descriptor(*kind, payload)));
        all
    }
}

/// Runs of adjacent clusters, or of none.
fn runs_of(clusters: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for cluster in clusters {
        match runs.last_mut() {
            Some((0, len)) if *cluster == 0 => *len += 1,
            Some((first, len)) if *first != 0 && *first + *len == *cluster => *len += 1,
            _ => runs.push((*cluster, 1)),
        }
    }
    runs
}

fn pairs(entries: &[(u32, u32)]) -> Vec<u8> {
    entries.iter().flat_map(|(left, right)| [*left, *right]).flat_map(u32::to_le_bytes).collect()
}

fn descriptor(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// Descriptors on as few pages as hold them in this order.
fn fill_pages(descriptors: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut pages = vec![Vec::new()];
    for descriptor in descriptors {
        assert!(descriptor.len() <= ROOM, "a descriptor of {} bytes", descriptor.len());
        if pages.last().is_some_and(|page| page.len() + descriptor.len() > ROOM) {
            pages.push(Vec::new());
        }
        if let Some(page) = pages.last_mut() {
            page.extend(descriptor);
        }
    }
    pages
}

/// Section 2.1.
fn seal(page: &mut [u8]) {
    let sum = checksum(&page[..PAGE - 4]);
    page[PAGE - 4..PAGE].copy_from_slice(&sum.to_le_bytes());
}
