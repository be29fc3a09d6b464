//! The stores whose metadata rots: small ones of every kind, and what each byte of their metadata is about.

use crate::device::Overlay;
use crate::lvols::{Lvols as _, SESSION, options, pattern, writable};
use crate::plain_maker::{Blob, Plan};
use crate::tape::Taped;
use offshoot_device::MemDevice;
use offshoot_format::{BlobId, FRAME_HEADER_BYTES, FrameHeader, JournalArea, Layout, MaskKind};
use offshoot_store::{InitOptions, OpenOptions, State, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

const CLUSTER: u64 = 8192;
const BLOCK: u64 = 4096;
const PAGE: usize = 4096;

/// What every lvol of a store reads.
pub(crate) type Contents = BTreeMap<BlobId, Rc<[u8]>>;

/// A store, and all that is known of it.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) device: Overlay,
    /// What its lvols read after each change since the last checkpoint; the last one is what the store holds.
    pub(crate) versions: Vec<Contents>,
    /// The first version that a flush or verb has covered: older ones need an excuse.
    pub(crate) covered: usize,
    pub(crate) regions: Vec<Region>,
    /// Clusters that blobs own, with their owners.
    pub(crate) owned: BTreeMap<u64, BlobId>,
    pub(crate) cluster_size: u64,
}

/// Metadata of one kind.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) name: &'static str,
    pub(crate) bytes: Range<usize>,
    /// Lvols that may be damaged with it.
    pub(crate) describes: BTreeSet<BlobId>,
    /// Whether nothing of the store can be served without it.
    pub(crate) is_vital: bool,
}

impl Region {
    /// This one, if it were about every lvol that ever was.
    pub(crate) fn describing_all(&self, subject: &Subject) -> Self {
        let describes = subject.versions.iter().flat_map(|version| version.keys().copied()).collect();
        Self { bytes: self.bytes.clone(), describes, ..*self }
    }
}

impl Subject {
    /// A store of ours at rest, a plain one of SPDK's version.
    pub(crate) fn sealed() -> Self {
        let mut store = new_store(false);
        fill(&mut store);
        Self::at_rest("sealed", store)
    }

    /// A store of ours at rest with partial clusters.
    pub(crate) fn native_at_rest() -> Self {
        let mut store = new_store(true);
        fill(&mut store);
        Self::at_rest("native, closed", store)
    }

    fn at_rest(name: &'static str, store: Store<MemDevice>) -> Self {
        let (device, closed) = store.close();
        closed.unwrap();
        Self::of(name, device.content(), None)
    }

    /// A store that died with changes that only its journal knows, the last of them behind the last barrier.
    pub(crate) fn killed() -> Self {
        let (store, history) = changed();
        Self::of("killed", store.device().content(), Some(history))
    }

    /// One that died when the checkpoint of its close was sealed, and nothing of it was in place.
    pub(crate) fn killed_in_a_checkpoint() -> Self {
        let (store, (versions, _)) = changed();
        let taped = Taped::new(store.device().clone());
        let store = Store::open(taped.clone(), Vec::new(), &writable()).unwrap();
        let area = store.super_block().native.as_ref().and_then(|native| native.journal).unwrap();
        let layout = store.state().layout.clone();
        let (_, closed) = store.close();
        closed.unwrap();
        let tape = taped.tape();
        let is_sealed = |bytes: &Vec<u8>| {
            let newest = frames(&layout, area, bytes).into_iter().max_by_key(|(frame, _)| frame.lsn);
            newest.is_some_and(|(frame, _)| frame.image_frames > 0 && !frame.in_place)
        };
        let cuts = (0..=tape.len()).map(|cut| tape.device_after(cut).content());
        let bytes = cuts.into_iter().find(is_sealed).unwrap();
        // A close ends with a barrier.
        let covered = versions.len() - 1;
        Self::of("killed in a checkpoint", bytes, Some((versions, covered)))
    }

    pub(crate) fn clean_of_spdk() -> Self {
        Self::of("of SPDK, clean", spdk(1), None)
    }

    pub(crate) fn dirty_of_spdk() -> Self {
        Self::of("of SPDK, dirty", spdk(0), None)
    }

    fn of(name: &'static str, bytes: Vec<u8>, history: Option<(Vec<Contents>, usize)>) -> Self {
        let device = Overlay::new(bytes.clone().into());
        let mut store =
            Store::open(device.clone(), Vec::new(), &OpenOptions::read_only(Some(SESSION))).unwrap();
        assert_eq!(store.findings(), &[], "{name}");
        let now = contents(&mut store);
        let (versions, covered) = history.unwrap_or_else(|| (vec![now.clone()], 0));
        assert_eq!(versions.last(), Some(&now), "{name}: what is replayed");
        let regions = regions(&store, &bytes);
        Self {
            name,
            device,
            versions,
            covered,
            regions,
            owned: owned(store.state()),
            cluster_size: store.state().units.cluster,
        }
    }
}

/// A store that is open, with changes that only its journal knows, what it read after each of them, and the number of
/// the last one that a barrier covers.
fn changed() -> (Store<MemDevice>, (Vec<Contents>, usize)) {
    let mut store = new_store(true);
    fill(&mut store);
    let (device, closed) = store.close();
    closed.unwrap();
    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    let mut versions = vec![contents(&mut store)];
    let plain = store.id("plain");
    for step in 0..6 {
        match step {
            0 => drop(store.create("new", CLUSTER, true).unwrap()),
            1 => drop(store.write(plain, 2 * CLUSTER, pattern(BLOCK, 5)).unwrap()),
            2 => store.write_zeroes(plain, 0..BLOCK).unwrap(),
            3 => drop(store.snapshot("plain", "later").unwrap()),
            4 => drop(store.write(plain, CLUSTER, pattern(BLOCK, 6)).unwrap()),
            _ => store.flush().unwrap(),
        }
        versions.push(contents(&mut store));
    }
    let covered = versions.len() - 1;
    store.write(plain, 2 * CLUSTER, pattern(BLOCK, 7)).unwrap();
    versions.push(contents(&mut store));
    (store, (versions, covered))
}

fn new_store(native: bool) -> Store<MemDevice> {
    let block = 512;
    // The journal takes all of the changes without a checkpoint.
    let init = InitOptions { journal_bytes: Some(128 << 10), ..options(8192, block, native) };
    Store::init(MemDevice::new(640 << 10, block), &init, &writable()).unwrap()
}

/// A snapshot with a clone, and an lvol without relatives.
fn fill(store: &mut Store<MemDevice>) {
    let plain = store.create("plain", 3 * CLUSTER, false).unwrap();
    store.write(plain, 0, pattern(CLUSTER, 1)).unwrap();
    let base = store.create("base", 3 * CLUSTER, false).unwrap();
    store.write(base, 0, pattern(2 * CLUSTER, 2)).unwrap();
    store.snapshot("base", "snap").unwrap();
    // Less than a cluster: a partial one where that is allowed.
    store.write(base, CLUSTER, pattern(BLOCK, 3)).unwrap();
    store.write(base, 2 * CLUSTER, pattern(BLOCK, 4)).unwrap();
}

/// What SPDK makes, or leaves when it dies: tables and runs, a snapshot with a clone.
fn spdk(clean: u32) -> Vec<u8> {
    let mut plan = Plan { clean, clusters: 48, cluster_size: 8192, md_len: 24, ..Plan::new() };
    plan.add(Blob::thin("plain", 1, "x.x"));
    let snap = plan.add(Blob::thin("snap", 2, "xx.").snapshot());
    plan.add(Blob::thin("base", 3, ".x.").clone_of(snap));
    // On a chain page of its own.
    let mut runs = Blob::thin("runs", 4, "x.x").in_runs();
    runs.set_xattr("filler", &[1; 4000]);
    plan.add(runs);
    plan.make().bytes
}

fn contents(store: &mut Store<impl offshoot_block::BlockDevice>) -> Contents {
    let lvols: Vec<(BlobId, u64)> =
        store.state().lvols().map(|lvol| (lvol.id, store.state().bytes(lvol))).collect();
    let read = |(id, len): (BlobId, u64)| {
        let bytes = store.read(id, 0, usize::try_from(len).unwrap()).unwrap();
        (id, bytes.as_slice().into())
    };
    lvols.into_iter().map(read).collect()
}

/// Who owns which cluster.
fn owned(state: &State) -> BTreeMap<u64, BlobId> {
    let mut owned = BTreeMap::new();
    for blob in state.blobs() {
        for leaf in blob.tree.ordinals().into_iter().filter_map(|ordinal| blob.tree.leaf(ordinal)) {
            for (_, entry) in leaf.entries() {
                for (tag, cluster, _) in entry.layers() {
                    if let (Some(cluster), Some(owner)) = (cluster, state.owner(tag)) {
                        owned.insert(u64::from(cluster.0), owner);
                    }
                }
            }
        }
    }
    owned
}

/// All metadata in use.
fn regions(store: &Store<Overlay>, bytes: &[u8]) -> Vec<Region> {
    let (state, super_block) = (store.state(), store.super_block());
    let layout = &state.layout;
    let journal = super_block.native.as_ref().and_then(|native| native.journal);
    let nobody = BTreeSet::new;
    let region = |name, bytes, describes, is_vital| Region { name, bytes, describes, is_vital };
    // An open store has a copy of it.
    let mut regions = vec![region("super block", 0..PAGE, nobody(), journal.is_none())];
    if journal.is_some() {
        regions.push(region("copy of the super block", PAGE..2 * PAGE, nobody(), false));
    }
    for kind in MaskKind::ALL {
        let start = usize::try_from(layout.mask_offset(kind)).unwrap();
        let end = start + layout.mask_bytes(kind);
        if journal.is_some() && kind == MaskKind::MdPages {
            continue;
        }
        // Without its type and length a mask says nothing, and there is no second one.
        regions.push(region("header of a mask", start..start + 5, nobody(), true));
        regions.push(region("mask", start + 5..end, nobody(), false));
    }
    if let Some(area) = journal {
        let frames = frames(layout, area, bytes);
        regions.extend(frames.into_iter().map(|(_, bytes)| region("frame", bytes, nobody(), false)));
        let masks = md_page(layout, area.start.0 + area.len).start;
        let masks = masks..masks + area.masks as usize * PAGE;
        regions.push(region("live masks", masks, nobody(), false));
    }
    for blob in state.blobs() {
        let is_vital = Some(blob.id) == state.super_blob;
        let mut describes = nobody();
        add_descendants(state, blob.id, &mut describes);
        // What the journal made a snapshot of is described where the origin is.
        let parent = |id: BlobId| state.blob(state.blob(id)?.parent?).filter(|blob| blob.pages.unwritten);
        let made = std::iter::successors(parent(blob.id), |blob| parent(blob.id));
        describes.extend(made.map(|blob| blob.id));
        let pages = blob.pages.ordinals.values().flat_map(|md| md.pages());
        for page in blob.pages.chain.iter().copied().chain(pages) {
            let bytes = md_page(layout, page.0);
            regions.push(region("md page", bytes, describes.clone(), is_vital));
        }
    }
    regions
}

fn md_page(layout: &Layout, page: u32) -> Range<usize> {
    let start = usize::try_from(layout.md_page_offset(offshoot_format::MdPageIdx(page))).unwrap();
    start..start + PAGE
}

fn add_descendants(state: &State, id: BlobId, found: &mut BTreeSet<BlobId>) {
    found.insert(id);
    state.blob(id).unwrap().clones.iter().for_each(|clone| add_descendants(state, *clone, found));
}

/// The frames in the ring, of this epoch or another, and where each is.
fn frames(layout: &Layout, area: JournalArea, bytes: &[u8]) -> Vec<(FrameHeader, Range<usize>)> {
    let start = md_page(layout, area.start.0).start;
    let len = area.len as usize * PAGE;
    let mut found = Vec::new();
    for at in (0..len).step_by(512) {
        let head = &bytes[start + at..start + at + FRAME_HEADER_BYTES];
        if let Some(frame) = FrameHeader::decode(head, at as u64) {
            let end = start + at + usize::try_from(frame.frame_len(512)).unwrap();
            found.push((frame, start + at..end));
        }
    }
    found
}
