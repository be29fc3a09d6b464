//! A small store, and what can be done to it.
#![allow(dead_code, reason = "shared by several test programs")]

use crate::lvols::{Lvols as _, SESSION, options, pattern, writable_in};
use offshoot_block::BlockDevice as _;
use offshoot_device::MemDevice;
use offshoot_format::{
    Bitmap, BlobMd, ClusterIdx, ExtentPage, FRAME_HEADER_BYTES, FrameHeader, JournalArea, Layout, MapMd,
    MaskKind, MdPageIdx, decode_mask, encode_mask,
};
use offshoot_store::{InitOptions, OpenOptions, Store};

pub(crate) const CLUSTER: u64 = 16_384;

const PAGE: usize = 4096;

/// A store with the lvols `base`, its snapshot `snap`, `clone` of that, and `other`, in clusters of 16 KiB.
#[derive(Clone, Debug)]
pub(crate) struct Damaged {
    pub(crate) device: MemDevice,
    pub(crate) layout: Layout,
    /// Of a store that died.
    pub(crate) area: Option<JournalArea>,
}

impl Damaged {
    fn store(native: bool) -> Store<MemDevice> {
        let init = InitOptions { journal_bytes: Some(1 << 20), ..options(16_384, 512, native) };
        let device = MemDevice::new(4 << 20, 512);
        let mut store = Store::init(device, &init, &writable_in(Some(SESSION))).unwrap();
        let base = store.create("base", 4 * CLUSTER, false).unwrap();
        store.write(base, 0, pattern(2 * CLUSTER, 1)).unwrap();
        store.snapshot("base", "snap").unwrap();
        store.write(base, CLUSTER, pattern(CLUSTER, 2)).unwrap();
        let clone = store.clone_of("snap", "clone").unwrap();
        store.write(clone, 0, pattern(CLUSTER, 3)).unwrap();
        let other = store.create("other", 4 * CLUSTER, false).unwrap();
        store.write(other, 0, pattern(2 * CLUSTER, 4)).unwrap();
        if native {
            // A partial cluster that reads as zeros, so that the store cannot be sealed.
            store.write(other, 2 * CLUSTER, offshoot_block::Buffer::zeroed(4096)).unwrap();
        }
        store
    }

    /// What an lvol holds.
    pub(crate) fn content_of(name: &str) -> Vec<u8> {
        let parts: &[Option<u8>] = match name {
            "base" => &[Some(1), Some(2), None, None],
            "snap" => &[Some(1), Some(1), None, None],
            "clone" => &[Some(3), Some(1), None, None],
            _ => &[Some(4), Some(4), None, None],
        };
        let len = usize::try_from(CLUSTER).unwrap();
        let of = |seed: u8, half: usize| {
            // What was written in one piece goes on in its second cluster.
            let whole = pattern(2 * CLUSTER, seed);
            whole.as_slice()[half * len..(half + 1) * len].to_vec()
        };
        let mut content = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            content.extend(match part {
                None => vec![0; len],
                Some(seed) => of(*seed, if matches!(seed, 1 | 4) { index } else { 0 }),
            });
        }
        content
    }

    /// One that was closed: sealed, or with a native header.
    pub(crate) fn closed(native: bool) -> Self {
        let (device, closed) = Self::store(native).close();
        closed.unwrap();
        Self::of(device)
    }

    /// One that died, with flushed records of all lvols but `snap` in its journal.
    pub(crate) fn dead() -> Self {
        let device = Self::closed(true).device;
        let mut store = Store::open(device, Vec::new(), &writable_in(Some(SESSION))).unwrap();
        for name in ["base", "clone", "other"] {
            let (lvol, zeros) = (store.id(name), offshoot_block::Buffer::zeroed(4096));
            store.write(lvol, 3 * CLUSTER, zeros).unwrap();
            store.flush().unwrap();
        }
        Self::of(store.device().clone())
    }

    /// One that died after a checkpoint of its own, the images of which are still in the ring.
    pub(crate) fn dead_after_checkpoint() -> Self {
        let dead = Self::dead();
        // Recovery ends with a checkpoint.
        let mut store = Store::open(dead.device, Vec::new(), &writable_in(Some(SESSION))).unwrap();
        store.flush().unwrap();
        Self::of(store.device().clone())
    }

    fn of(device: MemDevice) -> Self {
        let store = Store::open(device, Vec::new(), &OpenOptions::read_only(Some(SESSION))).unwrap();
        let area = store.super_block().native.as_ref().and_then(|native| native.journal);
        let layout = store.state().layout.clone();
        Self { device: store.close().0, layout, area }
    }

    pub(crate) fn page(&self, at: MdPageIdx) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        self.device.read_at(self.layout.md_page_offset(at), &mut page);
        page
    }

    fn write_page(&mut self, at: MdPageIdx, page: &[u8; PAGE]) {
        self.device.write_at(self.layout.md_page_offset(at), page);
    }

    /// The metadata of an lvol, whose chain is one page.
    pub(crate) fn md(&self, name: &str) -> BlobMd {
        let store = Store::open(self.device.clone(), Vec::new(), &OpenOptions::read_only(None)).unwrap();
        let root = store.id(name).root();
        BlobMd::decode_chain(&[(root, &self.page(root))]).unwrap()
    }

    /// Changes the metadata of an lvol.
    pub(crate) fn edit(&mut self, name: &str, change: impl FnOnce(&mut BlobMd)) {
        let mut md = self.md(name);
        change(&mut md);
        let root = md.id.root();
        self.write_page(root, &md.encode_chain(&[root])[0]);
    }

    /// A cluster that an lvol owns.
    pub(crate) fn cluster_of(&self, name: &str) -> ClusterIdx {
        match self.md(name).map {
            MapMd::Rle(runs) => runs.iter().find_map(|run| run.cluster).unwrap(),
            MapMd::Table { pages, .. } => {
                let page = self.extent_page(pages[0].unwrap());
                page.clusters.into_iter().flatten().next().unwrap()
            }
        }
    }

    fn extent_page(&self, at: MdPageIdx) -> ExtentPage {
        ExtentPage::decode_as_found(at, &self.page(at)).unwrap()
    }

    /// Has an lvol say that its cluster `at` is in `cluster`.
    pub(crate) fn claim(&mut self, name: &str, at: usize, cluster: ClusterIdx) {
        match self.md(name).map {
            MapMd::Rle(runs) => {
                let count = |run: &offshoot_format::Run| run.length;
                let clusters = runs.iter().flat_map(|run| {
                    (0..count(run)).map(|index| run.cluster.map(|first| ClusterIdx(first.0 + index)))
                });
                let mut clusters: Vec<Option<ClusterIdx>> = clusters.collect();
                clusters[at] = Some(cluster);
                self.edit(name, |md| md.map = MapMd::rle(clusters));
            }
            MapMd::Table { pages, .. } => {
                let extent_page = pages[0].unwrap();
                let mut extents = self.extent_page(extent_page);
                extents.clusters[at] = Some(cluster);
                self.write_page(extent_page, &extents.encode());
            }
        }
    }

    /// Takes all free clusters.
    pub(crate) fn fill(&mut self) {
        let mut store = Store::open(self.device.clone(), Vec::new(), &writable_in(Some(SESSION))).unwrap();
        let free = store.free();
        store.create("full", free * CLUSTER, true).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();
        self.device = device;
    }

    /// Changes a mask.
    pub(crate) fn mask(&mut self, kind: MaskKind, change: impl FnOnce(&mut Bitmap)) {
        let mut region = vec![0; self.layout.mask_bytes(kind)];
        self.device.read_at(self.layout.mask_offset(kind), &mut region);
        let mut mask = decode_mask(kind, &region, self.layout.mask_bits(kind) as usize).unwrap();
        change(&mut mask);
        let region = encode_mask(kind, &mask, region.len());
        self.device.write_at(self.layout.mask_offset(kind), &region);
    }

    /// Changes bits of a byte of an md page, without its checksum.
    pub(crate) fn flip(&mut self, at: MdPageIdx, byte: u64, bits: u8) {
        self.flip_at(self.layout.md_page_offset(at) + byte, bits);
    }

    /// Changes bits of a byte.
    pub(crate) fn flip_at(&mut self, at: u64, bits: u8) {
        let mut byte = [0];
        self.device.read_at(at, &mut byte);
        self.device.write_at(at, &[byte[0] ^ bits]);
    }

    /// Makes an md page noise.
    pub(crate) fn garble(&mut self, at: MdPageIdx) {
        let noise = pattern(4096, 11);
        self.device.write_at(self.layout.md_page_offset(at), noise.as_slice());
    }

    /// The frames in the ring, in order, and where each starts on the device.
    pub(crate) fn frames(&self) -> Vec<(FrameHeader, u64)> {
        let area = self.area.unwrap();
        let start = self.layout.md_page_offset(area.start);
        let mut frames = Vec::new();
        for at in (0..u64::from(area.len) * u64::from(self.layout.md_page_size)).step_by(512) {
            let mut head = [0; FRAME_HEADER_BYTES];
            self.device.read_at(start + at, &mut head);
            frames.extend(FrameHeader::decode(&head, at).map(|frame| (frame, start + at)));
        }
        frames.sort_unstable_by_key(|(frame, _)| frame.lsn);
        let epoch = frames.last().unwrap().0.epoch;
        frames.retain(|(frame, _)| frame.epoch == epoch);
        assert_eq!(self.device.outstanding(), 0);
        frames
    }
}
