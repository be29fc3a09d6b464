use super::*;
use crate::blob::External;
use crate::checkpoint::{Capture, extent_page, layer_pages};
use crate::journal::codec::{decode_all, encode};
use crate::map::{Entry, Source};
use crate::pages::{OrdinalMd, Spread, Totals};
use crate::pool::Pool;
use crate::verb::{Blocks, Need};
use offshoot_format::{
    Bitmap, DataRoFlags, ExtentPage, InvalidFlags, LayerPage, Layout, LayoutParams, MaskRoom, MdPageIdx,
    PageImage, name_value, uuid_value,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, format, string::ToString, vec};
use uuid::Uuid;

const MD_LEN: u32 = 40;

fn id(root: u32) -> BlobId {
    BlobId::from_root(MdPageIdx(root))
}

fn named(name: &str) -> Vec<Xattr> {
    vec![Xattr::new(XATTR_NAME, name_value(name.as_bytes()))]
}

fn thin() -> Flags {
    Flags { invalid: InvalidFlags::THIN_PROV, ..Flags::default() }
}

/// 64 clusters of 4 blocks and 40 md pages, with a super blob (root 0) and a clone of an external snapshot (root
/// 1, 600 clusters of which 520 show through).
fn new_state(native_allowed: bool, md_len: u32) -> State {
    let params = LayoutParams {
        size_bytes: 1 << 20,
        cluster_size: 16_384,
        io_unit_size: 512,
        md_page_size: 4096,
        // More pages than that exist for the pool alone.
        md_len: md_len.min(MD_LEN),
        room: MaskRoom::default(),
    };
    let layout = Layout::plan(&params).unwrap();
    let mut clusters = Bitmap::new(layout.total_clusters as usize);
    (0..layout.metadata_clusters()).for_each(|cluster| clusters.set(cluster as usize, true));
    let mut state = State::new(layout, Pool::new(clusters), Pool::new(Bitmap::new(md_len as usize)));
    state.native_allowed = native_allowed;
    state.super_blob = Some(id(0));
    let mut xattrs = named("store");
    xattrs.push(Xattr::new(XATTR_UUID, uuid_value(Uuid::from_u128(1))));
    for (root, len, flags, xattrs) in [(0, 0, Flags::default(), xattrs), (1, 600, thin(), named("esnap"))] {
        let (runs, encoding) = (Vec::new(), Encoding::Table);
        state.apply(&Record::Create { id: id(root), flags, xattrs, len, runs, encoding });
    }
    let esnap = state.blobs.get_mut(&id(1)).unwrap();
    (esnap.external_is_parent, esnap.inherit_len) = (true, 600);
    esnap.external = Some(External { id: b"external\0".to_vec(), len: 520 });
    state
}

/// Numbers that a record is made of, wild or bent to what the State holds.
#[derive(Clone, Debug)]
struct Draw {
    kind: u8,
    wild: bool,
    blob: u32,
    other: u32,
    at: u64,
    len: u64,
    cluster: u32,
    block: u32,
    blocks: u32,
}

fn draw() -> impl Strategy<Value = Draw> {
    let at = prop_oneof![0_u64..4, 509_u64..514, 1020_u64..1027, 0_u64..600];
    let len = prop_oneof![0_u64..6, 500_u64..530, 600_u64..1030];
    let numbers = (0_u32..64, 0_u32..4, 1_u32..=4);
    (0_u8..52, prop::bool::weighted(0.15), 0_u32..MD_LEN, 0_u32..MD_LEN, at, len, numbers).prop_map(
        |(kind, wild, blob, other, at, len, (cluster, block, blocks))| Draw {
            kind,
            wild,
            blob,
            other,
            at,
            len,
            cluster,
            block,
            blocks,
        },
    )
}

/// The `n`th of those that pass, over and over.
fn pick<T>(all: impl Iterator<Item = T> + Clone, n: u32) -> Option<T> {
    let count = all.clone().count().max(1);
    all.into_iter().nth(n as usize % count)
}

impl Draw {
    fn blob(&self, state: &State, is: impl Fn(&Blob) -> bool) -> BlobId {
        let bent = || pick(state.blobs.values().filter(|blob| is(blob)).map(|blob| blob.id), self.blob);
        (!self.wild).then(bent).flatten().unwrap_or(id(self.blob))
    }

    fn new_id(&self, state: &State) -> BlobId {
        let free = || state.md.peek(1, 1).map(|pages| id(pages[0]));
        (!self.wild).then(free).flatten().unwrap_or(id(self.other))
    }

    fn runs(&self, state: &State, from: u64, to: u64) -> Vec<MappedRun> {
        let length = u32::try_from(to.saturating_sub(from).min(40)).unwrap();
        let first = state.layout.first_data_cluster().0 + self.cluster % 4;
        let split = self.block.min(length);
        let mut runs = vec![
            MappedRun { at: BlobCluster(from), cluster: ClusterIdx(first + 44), length: split },
            MappedRun {
                at: BlobCluster(from + u64::from(split)),
                cluster: ClusterIdx(self.cluster.max(first)),
                length: length - split,
            },
        ];
        runs.retain(|run| run.length > 0);
        runs
    }

    fn record(&self, state: &State) -> Record {
        let writable = |blob: &Blob| !blob.dying && !blob.is_read_only() && blob.id != id(0);
        let blob = self.blob(state, writable);
        let len = state.blob(blob).map_or(self.at + 1, |blob| blob.len.max(1));
        let at = BlobCluster(if self.wild { self.at } else { self.at % len });
        let any = state.blob(blob).map(|blob| blob.tree.entry(at));
        let present = any.and_then(|entry| entry.layers().next().and_then(|(_, cluster, _)| cluster));
        let chosen = match (self.wild, present) {
            (false, Some(cluster)) if self.other.is_multiple_of(2) => cluster.0,
            (false, _) => state.clusters.peek(self.cluster, 1).map_or(self.cluster, |free| free[0]),
            _ => self.cluster,
        };
        let xattrs =
            if self.other % 8 == 7 { Vec::new() } else { named(&format!("lvol {}", self.other % 12)) };
        let blocks = self.block..(self.block + self.blocks).min(4);
        let blocks = if state.native_allowed || self.wild { blocks } else { 0..4 };
        let clusters = |id| state.blob(id).map_or(self.len, |blob| blob.len);
        match self.kind {
            0 => {
                let thick = self.other.is_multiple_of(2);
                let encoding = if self.block == 0 { Encoding::Rle } else { Encoding::Table };
                let runs = if thick { self.runs(state, 0, self.len) } else { Vec::new() };
                let mut flags = if thick { Flags::default() } else { thin() };
                flags.data_ro.set(DataRoFlags::READ_ONLY, self.blocks == 4 && self.block == 3);
                Record::Create { id: self.new_id(state), flags, xattrs, len: self.len, runs, encoding }
            }
            1..=4 => Record::Snapshot { origin: blob, id: self.new_id(state), len: clusters(blob), xattrs },
            5 | 6 => {
                let parent = self.blob(state, Blob::is_read_only);
                Record::Clone { parent, id: self.new_id(state), len: clusters(parent), xattrs }
            }
            7..=15 => Record::Map { blob, at, cluster: ClusterIdx(chosen), blocks },
            16 | 17 => Record::ZeroBlocks { blob, at, blocks },
            18 | 19 => Record::ZeroClusters { blob, range: at.0..at.0 + 1 + self.len % 40 },
            20 | 21 => {
                let from = state.blob(blob).map_or(0, |blob| blob.len);
                let len = if self.block == 0 { self.len } else { from + u64::from(self.blocks) };
                let backed = self.other.is_multiple_of(2) || !state.native_allowed;
                let runs = if backed { self.runs(state, from, len) } else { Vec::new() };
                Record::Resize { blob, len, runs }
            }
            22 => {
                let blob = self.blob(state, |_| true);
                let value = if self.block == 0 { Vec::new() } else { name_value(b"other") };
                Record::SetXattr { blob, xattr: Xattr::new(XATTR_NAME, value) }
            }
            23 => {
                let runs = self.blob(state, |blob| blob.encoding == Encoding::Rle);
                let blobs = if self.wild { vec![runs] } else { state.family(runs) };
                Record::UseExtentTable { blobs }
            }
            24 | 25 => Record::MarkDying {
                blob: self.blob(state, |blob| blob.clones.is_empty() && !blob.dying && blob.id != id(0)),
            },
            26 | 27 => {
                let blob = self.blob(state, |blob| blob.dying);
                let owned = state.blob(blob).into_iter().flat_map(|blob| blob.pages.ordinals.keys());
                let ordinals = owned.copied().take(self.blocks as usize).collect();
                let wild = vec![ExtentOrdinal(self.block), ExtentOrdinal(self.blocks)];
                Record::Release { blob, ordinals: if self.wild { wild } else { ordinals } }
            }
            28 => Record::Destroy { blob: self.blob(state, |blob| blob.dying) },
            33 | 34 => {
                let blob = self.blob(state, |blob| writable(blob) && blob.clones.is_empty());
                let below = match self.block {
                    0 => Below::Nothing,
                    1 => Below::External(b"another\0".to_vec()),
                    _ => {
                        let other = Self { blob: self.other, ..self.clone() };
                        Below::Blob(other.blob(state, Blob::is_read_only))
                    }
                };
                Record::SetParent { blob, below }
            }
            35 => Record::SetReadOnly { blob },
            36 => {
                let name = if self.wild { XATTR_NAME.to_vec() } else { b"label".to_vec() };
                Record::RemoveXattr { blob, name }
            }
            29..=32 => self.fill(state, ClusterIdx(chosen), blocks),
            40 => {
                let blob = self.blob(state, |blob| blob.inherit_len < blob.len);
                let len = state.blob(blob).map_or(0, |blob| blob.len);
                Record::Inherit { blob, len: if self.block == 0 { len } else { self.len } }
            }
            41..=45 => self.towards_inflating(state, ClusterIdx(chosen)),
            46..=51 => self.towards_decoupling(state, ClusterIdx(chosen)),
            _ => {
                let snapshot = self.blob(state, |blob| blob.clones.len() == 1);
                let clones = state.blob(snapshot).map(|blob| blob.clones.clone()).unwrap_or_default();
                let clone = clones.first().copied().filter(|_| !self.wild).unwrap_or(id(self.other));
                Record::Adopt { snapshot, clone }
            }
        }
    }
}

impl Draw {
    /// A blob, a snapshot too, comes to hold what it reads.
    fn fill(&self, state: &State, chosen: ClusterIdx, blocks: Range<u32>) -> Record {
        let blob = self.blob(state, |blob| !blob.dying && blob.id != id(0));
        let len = state.blob(blob).map_or(1, |blob| blob.len.max(1));
        let at = BlobCluster(if self.wild { self.at } else { self.at % len });
        let owned = |tag| state.owner(tag) == Some(blob);
        let entry = state.blob(blob).map(|blob| blob.tree.entry(at));
        let own = entry.and_then(|entry| entry.clusters_of(owned).last());
        let cluster = own.filter(|_| self.other.is_multiple_of(2)).unwrap_or(chosen);
        match self.kind {
            32 => Record::DropZeros { blob, at },
            _ => Record::Fill { blob, at, cluster, blocks },
        }
    }

    /// A small blob with a parent comes to hold what it does not hold itself, and is inflated then.
    fn towards_inflating(&self, state: &State, cluster: ClusterIdx) -> Record {
        let blob = self.blob(state, |blob| blob.parent.is_some() && !blob.dying && blob.len < 6);
        let needed = state.blob(blob).and_then(|blob| state.inflate_needs(blob, ExtentOrdinal(0)));
        match needed.and_then(|(_, needed)| needed.first().copied()).filter(|_| !self.wild) {
            None => Record::Inflate { blob },
            Some((at, Need::Fill { target, .. })) => {
                Record::Fill { blob, at, cluster: target.unwrap_or(cluster), blocks: 0..4 }
            }
            Some((at, Need::DropZeros)) => Record::DropZeros { blob, at },
            Some((at, Need::KeepZeros)) => Record::KeepZeros { blob, at },
        }
    }

    /// A blob comes to hold what its parent holds, and is put onto what lies below then.
    fn towards_decoupling(&self, state: &State, cluster: ClusterIdx) -> Record {
        let blob = self.blob(state, |blob| blob.parent.is_some() && !blob.dying);
        let known = state.blob(blob);
        let needed = known.and_then(|blob| state.decouple_needs(blob, ExtentOrdinal(0)));
        match needed.and_then(|(_, needed)| needed.first().copied()).filter(|_| !self.wild) {
            None => {
                let len = known.map_or(0, |blob| state.bypassed_len(blob));
                Record::Bypass { blob, inherit_len: if self.wild { self.len } else { len } }
            }
            Some((at, Need::Fill { target, blocks, .. })) => {
                let entry = known.map(|blob| blob.tree.entry(at));
                let is_parents = |block: &u32| {
                    let source = entry.as_ref().map(|entry| entry.source(*block, 4).0);
                    let of = |tag| blocks == Blocks::All || Blocks::Of(state.owner(tag).unwrap()) == blocks;
                    matches!(source, Some(Source::Cluster { tag, .. }) if of(tag)) || blocks == Blocks::All
                };
                let first = (0..4).find(is_parents).unwrap_or(0);
                let last = (first..4).take_while(is_parents).last().unwrap_or(first);
                Record::Fill { blob, at, cluster: target.unwrap_or(cluster), blocks: first..last + 1 }
            }
            Some((at, Need::DropZeros)) => Record::DropZeros { blob, at },
            Some((at, Need::KeepZeros)) => Record::KeepZeros { blob, at },
        }
    }
}

/// The record, and what comes with it: no blob comes to hold something that clones hide without a word about them.
fn in_life(state: &State, record: Record) -> Vec<Record> {
    let mut records = Vec::new();
    if let Record::Fill { blob, at, .. } = &record
        && let Some(blob) = state.blob(*blob)
        && matches!(blob.tree.entry(*at), Entry::Absent)
    {
        records = state.settle_clones(blob, *at);
    }
    records.push(record);
    records
}

/// Counts anew who owns what, from the trees and lists alone.
fn recount(state: &State) {
    let mut clusters: BTreeMap<u32, BlobId> = BTreeMap::new();
    let mut pages: BTreeMap<u32, BlobId> = BTreeMap::new();
    for blob in state.blobs() {
        let mut own = 0;
        let mut ordinals: BTreeMap<ExtentOrdinal, (u16, Vec<u32>)> = BTreeMap::new();
        let spread = state.units.spread;
        let ancestors = ancestors(state, blob);
        for ordinal in blob.tree.ordinals() {
            for (slot, entry) in blob.tree.leaf(ordinal).unwrap().entries() {
                let at = ordinal.first_cluster().0 + slot as u64;
                for (tag, cluster, states) in entry.layers() {
                    let owner = state.tags.owner(tag);
                    assert!(blob.dying || at < blob.len, "blob {} holds cluster {at}", blob.id);
                    assert!(blob.dying || owner.is_some_and(|owner| ancestors.contains(&owner)));
                    if owner != Some(blob.id) {
                        continue;
                    }
                    let none = || (0, vec![0; spread.ranges()]);
                    let (full, layers) = ordinals.entry(ordinal).or_insert_with(none);
                    match states {
                        None => *full += 1,
                        Some(_) => layers[spread.range_of(slot)] += 1,
                    }
                    if let Some(cluster) = cluster {
                        own += 1;
                        assert!(state.layout.contains_data_cluster(cluster));
                        assert_eq!(clusters.insert(cluster.0, blob.id), None, "cluster {cluster}");
                    }
                }
            }
        }
        assert_eq!(blob.own_clusters, own, "clusters of blob {}", blob.id);
        for (ordinal, md) in &blob.pages.ordinals {
            let (full, layers) = ordinals.remove(ordinal).unwrap_or_default();
            assert_eq!(md.own_full, full);
            assert!(md.counts(spread, &layers), "{md:?} has {layers:?}");
        }
        assert!(ordinals.is_empty(), "blob {} owns what it does not count", blob.id);
        let mut totals = Totals::default();
        let added = blob.pages.ordinals.values().map(|md| md.totals(blob.encoding, spread));
        added.for_each(|added| totals.replace(Totals::default(), added));
        assert_eq!(blob.pages.totals, totals, "pages of blob {}", blob.id);
        let mapped = blob.pages.ordinals.values().flat_map(OrdinalMd::pages);
        for page in blob.pages.chain.iter().copied().chain(mapped) {
            assert_eq!(pages.insert(page.0, blob.id), None, "md page {page}");
        }
        assert_eq!(blob.pages.chain.first(), Some(&blob.id.root()));
    }
    let metadata = 0..state.layout.metadata_clusters();
    assert!(state.clusters.used().iter_ones().eq(metadata.chain(clusters.into_keys()).map(|c| c as usize)));
    assert!(state.md.used().iter_ones().eq(pages.into_keys().map(|page| page as usize)));
    recount_relations(state);
}

fn recount_relations(state: &State) {
    for blob in state.blobs() {
        let clones = state.blobs().filter(|other| other.parent == Some(blob.id)).map(|other| other.id);
        assert!(blob.clones.iter().copied().eq(clones), "clones of blob {}", blob.id);
        assert!(blob.clones.is_empty() || blob.is_read_only());
        assert!(blob.is_thin() || blob.dying || (0..blob.len).all(|at| is_own_full(state, blob, at)));
    }
    for (name, holder) in &state.names {
        assert_eq!(state.blob(*holder).unwrap().name(), name);
    }
    let dying = state.blobs().filter(|blob| blob.dying).map(|blob| blob.id);
    assert!(state.dying.iter().copied().eq(dying));
    assert_eq!(state.md_debt, state.blobs().map(|blob| blob.pages.debt).sum::<usize>());
    assert_eq!(state.image_pages, state.blobs().map(|blob| blob.pages.images).sum::<usize>());
}

fn ancestors(state: &State, blob: &Blob) -> BTreeSet<BlobId> {
    let mut found = BTreeSet::from([blob.id]);
    let mut next = blob.parent;
    while let Some(parent) = next {
        assert!(found.insert(parent), "a circle of parents at blob {parent}");
        next = state.blob(parent).unwrap().parent;
    }
    found
}

/// SPDK and the loader refuse a thick blob with a hole in its extent pages.
fn is_own_full(state: &State, blob: &Blob, at: u64) -> bool {
    let entry = blob.tree.entry(BlobCluster(at));
    entry.layers().any(|(tag, _, states)| states.is_none() && state.tags.owner(tag) == Some(blob.id))
}

/// What a checkpoint does, to the end, and what comes free after it.
fn checkpoint(state: &mut State, disk: &mut BTreeMap<MdPageIdx, PageImage>) {
    let (clusters, md) = state.take_freed();
    // What was let go of may have been taken again, and let go of once more.
    let clusters: BTreeSet<u32> = clusters.iter().map(|cluster| cluster.0).collect();
    let md: BTreeSet<u32> = md.iter().map(|page| page.0).collect();
    for (pool, freed) in [(&mut state.clusters, clusters), (&mut state.md, md)] {
        freed
            .into_iter()
            .filter(|unit| !pool.is_used(*unit))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|unit| pool.release(unit));
    }
    state.pack_if_short();
    if !state.has_checkpoint_pages() {
        return;
    }
    let capture = Capture::take(state, &mut Vec::new(), None, usize::MAX);
    assert!(capture.fresh.keys().chain(capture.images.keys()).all(|page| state.md.is_used(page.0)));
    disk.extend(capture.fresh);
    disk.extend(capture.images);
    is_on_disk(state, disk);
    recount(state);
    let layers = state.blobs().flat_map(|blob| blob.pages.ordinals.values()).map(OrdinalMd::own_layers);
    assert!(state.native_allowed || layers.sum::<u32>() == 0);
}

/// Checks that md pages say what a State is, those that the last checkpoint did not write included.
fn is_on_disk(state: &State, disk: &BTreeMap<MdPageIdx, PageImage>) {
    let states_bytes = u16::try_from(state.units.states_bytes).unwrap();
    for blob in state.blobs() {
        for (ordinal, md) in &blob.pages.ordinals {
            if let Some(page) = md.extent {
                let expected = extent_page(state, blob, *ordinal);
                let len = expected.clusters.len();
                let found = ExtentPage::decode(page, &disk[&page], *ordinal, len).unwrap();
                assert_eq!(found.clusters, expected.clusters, "extent page {page} of blob {}", blob.id);
            }
            let expected = layer_pages(state, blob, *ordinal);
            assert_eq!(md.layer_pages().count(), expected.len());
            for (page, expected) in md.layer_pages().zip(expected) {
                let found = LayerPage::decode(page, &disk[&page], *ordinal, states_bytes).unwrap();
                assert_eq!(found.records, expected.records, "layer page {page} of blob {}", blob.id);
            }
        }
    }
}

/// The record as it comes back from the journal, where it may be there at all.
fn journaled(record: &Record, layout: &Layout) -> Option<Record> {
    let mut bytes = Vec::new();
    encode(record, &mut bytes);
    decode_all(&bytes, layout).ok()?.pop()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_fits_keeps_every_count(
        native_allowed: bool,
        md_len in prop_oneof![Just(MD_LEN), Just(10 * MD_LEN), 8..MD_LEN],
        records_per_page in prop_oneof![Just(450), 1_usize..40],
        draws in proptest::collection::vec((draw(), prop::bool::weighted(0.05)), 1..150),
    ) {
        let mut state = new_state(native_allowed, md_len);
        // As with larger clusters, of which a page holds fewer records.
        state.units.spread = Spread::of(records_per_page);
        let mut disk = BTreeMap::new();
        recount(&state);
        for (draw, then_checkpoint) in draws {
            let record = draw.record(&state);
            if let Some(record) = journaled(&record, &state.layout)
                && state.fits(&record).is_ok()
            {
                let images = state.image_pages + state.images_of(&record);
                state.apply(&record);
                assert!(state.image_pages <= images, "{record:?}: {} of {images}", state.image_pages);
                recount(&state);
            }
            if then_checkpoint {
                checkpoint(&mut state, &mut disk);
            }
        }
        checkpoint(&mut state, &mut disk);
    }
}

/// What a State is when it is read back from the md pages of a checkpoint: that a clone did not inherit from some
/// cluster on is not there where it hides nothing.
fn read_back(state: &State) -> State {
    let mut read = state.clone();
    let mut line: Vec<BlobId> =
        state.blobs().filter(|blob| blob.parent.is_none()).map(|blob| blob.id).collect();
    while let Some(next) = line.pop() {
        let is_native = state.is_native(&read.blobs[&next]);
        let inherited = read.blobs[&next].parent.map(|parent| read.blobs[&parent].clone());
        let blob = read.blobs.get_mut(&next).unwrap();
        if !is_native && (inherited.is_some() || blob.external_is_parent) {
            if let Some(own) = blob.external.as_mut().filter(|own| own.len == blob.inherit_len) {
                own.len = blob.len;
            }
            blob.inherit_len = blob.len;
        }
        if let Some(parent) = inherited {
            blob.external = State::inherited_external(&parent, blob.inherit_len);
        }
        line.extend(blob.clones.iter().copied());
    }
    read
}

/// That both States say the same of every cluster, in the same layers, and need the same md pages for it.
fn are_the_same(life: &State, replayed: &State) {
    assert_eq!(life.blobs.keys().collect::<Vec<_>>(), replayed.blobs.keys().collect::<Vec<_>>());
    for (blob, other) in life.blobs().zip(replayed.blobs()) {
        let layers = |blob: &Blob, at| format!("{:?}", blob.tree.entry(at).layers().collect::<Vec<_>>());
        for at in (0..blob.len).map(BlobCluster) {
            assert_eq!(layers(blob, at), layers(other, at), "cluster {} of blob {}", at.0, blob.id);
        }
        assert_eq!(blob.own_clusters, other.own_clusters, "blob {}", blob.id);
        let counts = |blob: &Blob| {
            let ordinals = blob.pages.ordinals.iter();
            ordinals.map(|(at, md)| (*at, md.own_full, md.layers.clone())).collect::<Vec<_>>()
        };
        assert_eq!(counts(blob), counts(other), "blob {}", blob.id);
        assert_eq!(life.is_native(blob), replayed.is_native(other), "blob {}", blob.id);
    }
    assert_eq!(life.md_debt, replayed.md_debt);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Not even in what no reader can tell, such as which layer hides what: md pages are counted by it.
    #[test]
    fn a_replay_ends_as_life_did(
        before in proptest::collection::vec(draw(), 1..80),
        after in proptest::collection::vec(draw(), 1..80),
    ) {
        let mut life = new_state(true, 10 * MD_LEN);
        for draw in before {
            let record = draw.record(&life);
            if journaled(&record, &life.layout).is_some() && life.fits(&record).is_ok() {
                life.apply(&record);
            }
        }
        let mut replayed = read_back(&life);
        are_the_same(&life, &replayed);
        for draw in after {
            let record = draw.record(&life);
            if journaled(&record, &life.layout).is_some() && life.fits(&record).is_ok() {
                for record in in_life(&life, record) {
                    prop_assert_eq!(replayed.fits(&record), Ok(()));
                    life.apply(&record);
                    replayed.apply(&record);
                }
            }
        }
        are_the_same(&life, &replayed);
    }
}

/// A clone that was shrunk and grown again, then filled where it does not inherit any more: nothing is hidden, so
/// nothing says so on disk. What zeroes it again must not count on that.
#[test]
fn what_hides_nothing_is_forgotten_without_a_trace() {
    let mut life = new_state(true, MD_LEN);
    let records = [
        Record::Create {
            id: id(2),
            flags: thin(),
            xattrs: Vec::new(),
            len: 10,
            runs: Vec::new(),
            encoding: Encoding::Table,
        },
        map(2, 7, 40, 0..4),
        Record::Snapshot { origin: id(2), id: id(3), len: 10, xattrs: Vec::new() },
        resize(2, 5, &[]),
        resize(2, 10, &[]),
        map(2, 7, 41, 0..4),
    ];
    for record in &records {
        assert_eq!(life.fits(record), Ok(()));
        life.apply(record);
    }
    let mut replayed = read_back(&life);
    assert_eq!((life.blobs[&id(2)].inherit_len, replayed.blobs[&id(2)].inherit_len), (5, 10));
    for record in [
        Record::ZeroBlocks { blob: id(2), at: BlobCluster(7), blocks: 0..2 },
        Record::ZeroBlocks { blob: id(2), at: BlobCluster(7), blocks: 2..4 },
        Record::ZeroClusters { blob: id(2), range: 0..10 },
    ] {
        life.apply(&record);
        replayed.apply(&record);
        are_the_same(&life, &replayed);
    }
}

/// Blobs 2 (thick, 2 clusters), 3 (thin, 600 clusters, a clone of the snapshot 4), 5 (another clone of 4), 6
/// (dying, owns 1 cluster), 7 (thin, encoded in runs), 8 (read-only).
fn sample(native_allowed: bool) -> State {
    let mut state = new_state(native_allowed, MD_LEN);
    let create = |root: u32, flags, len, cluster: Option<u32>, encoding| {
        let run = |cluster| MappedRun { at: BlobCluster(0), cluster: ClusterIdx(cluster), length: 2 };
        let (id, xattrs, runs) = (id(root), Vec::new(), cluster.map(run).into_iter().collect());
        Record::Create { id, flags, xattrs, len, runs, encoding }
    };
    let map = |root, cluster| map(root, 0, cluster, 0..4);
    let records = [
        create(2, Flags::default(), 2, Some(40), Encoding::Table),
        create(3, thin(), 600, None, Encoding::Table),
        map(3, 42),
        Record::Snapshot { origin: id(3), id: id(4), len: 600, xattrs: Vec::new() },
        Record::Clone { parent: id(4), id: id(5), len: 600, xattrs: Vec::new() },
        create(6, thin(), 5, None, Encoding::Table),
        map(6, 43),
        Record::MarkDying { blob: id(6) },
        create(7, thin(), 3, None, Encoding::Rle),
        create(8, Flags { data_ro: DataRoFlags::READ_ONLY, ..thin() }, 3, None, Encoding::Table),
    ];
    for record in records {
        assert_eq!(state.fits(&record), Ok(()));
        state.apply(&record);
    }
    recount(&state);
    state
}

fn map(root: u32, at: u64, cluster: u32, blocks: Range<u32>) -> Record {
    Record::Map { blob: id(root), at: BlobCluster(at), cluster: ClusterIdx(cluster), blocks }
}

fn resize(root: u32, len: u64, runs: &[(u64, u32, u32)]) -> Record {
    let run = |(at, cluster, length): &(u64, u32, u32)| MappedRun {
        at: BlobCluster(*at),
        cluster: ClusterIdx(*cluster),
        length: *length,
    };
    Record::Resize { blob: id(root), len, runs: runs.iter().map(run).collect() }
}

#[test]
fn says_which_record_and_why() {
    let state = sample(true);
    let len = |root| state.blob(id(root)).unwrap().len;
    let clone_of =
        |parent, root, len| Record::Clone { parent: id(parent), id: id(root), len, xattrs: Vec::new() };
    let clone = |parent, root| clone_of(parent, root, len(parent));
    let snapshot_of =
        |origin, root, len| Record::Snapshot { origin: id(origin), id: id(root), len, xattrs: Vec::new() };
    let snapshot = |origin, root| snapshot_of(origin, root, len(origin));
    let adopt = |snapshot, clone| Record::Adopt { snapshot: id(snapshot), clone: id(clone) };
    let xattr =
        |root, name: &[u8], value: &[u8]| Record::SetXattr { blob: id(root), xattr: Xattr::new(name, value) };
    let release = |root, ordinals: &[u32]| {
        let ordinals = ordinals.iter().copied().map(ExtentOrdinal).collect();
        Record::Release { blob: id(root), ordinals }
    };
    let zero = |root, range| Record::ZeroClusters { blob: id(root), range };
    let fill = |root, at, cluster| Record::Fill {
        blob: id(root),
        at: BlobCluster(at),
        cluster: ClusterIdx(cluster),
        blocks: 0..4,
    };
    let cases = [
        (map(9, 0, 50, 0..4), "map of blob 0x100000009: it does not exist"),
        (map(0, 0, 50, 0..4), "map of blob 0x100000000: it is the super blob"),
        (map(6, 0, 50, 0..4), "map of blob 0x100000006: it is dying"),
        (map(4, 0, 50, 0..4), "map of blob 0x100000004: it has 2 clones"),
        (fill(9, 0, 50), "fill of blob 0x100000009: it does not exist"),
        (fill(3, 600, 50), "fill of blob 0x100000003: cluster 600 is beyond its end at 600"),
        (fill(3, 1, 42), "fill of blob 0x100000003: cluster 42 is in use"),
        (
            Record::DropZeros { blob: id(3), at: BlobCluster(0) },
            "drop zeros of blob 0x100000003: cluster 0 does not read zeros by itself",
        ),
        (map(8, 0, 50, 0..4), "map of blob 0x100000008: it is read-only"),
        (map(3, 600, 50, 0..4), "map of blob 0x100000003: cluster 600 is beyond its end at 600"),
        (map(3, 0, 42, 0..4), "map of blob 0x100000003: cluster 42 is in use"),
        (zero(2, 0..1), "zero clusters of blob 0x100000002: it is thick, and cluster 0 would not be backed"),
        (resize(2, 3, &[]), "resize of blob 0x100000002: it is thick, and cluster 2 would not be backed"),
        (
            resize(2, 3, &[(1, 50, 1)]),
            "resize of blob 0x100000002: the run at cluster 1 overlaps another, or backs what is not new",
        ),
        (
            resize(2, 4, &[(2, 50, 1), (3, 50, 1)]),
            "resize of blob 0x100000002: the run at cluster 3 overlaps another, or backs what is not new",
        ),
        (resize(7, 510, &[]), "resize of blob 0x100000007: a map of 510 clusters is not encoded in runs"),
        (clone(3, 9), "clone of blob 0x100000003: it is writable"),
        (clone_of(4, 9, 5), "clone of blob 0x100000004: 5 clusters are named, it has 600"),
        (snapshot_of(3, 9, 5), "snapshot of blob 0x100000003: 5 clusters are named, it has 600"),
        (clone(4, 6), "clone of blob 0x100000004: blob 0x100000006 exists already"),
        (
            snapshot(7, 9),
            "snapshot of blob 0x100000007: the map of blob 0x100000007 in its family is encoded in runs",
        ),
        (adopt(4, 5), "adopt of blob 0x100000004: blob 0x100000005 is not its only clone"),
        (xattr(3, XATTR_NAME, b"\0"), "set xattr of blob 0x100000003: the value of name is no good"),
        (xattr(6, XATTR_NAME, b"x\0"), "set xattr of blob 0x100000006: it is dying"),
        (xattr(0, XATTR_UUID, b"1"), "set xattr of blob 0x100000000: the value of uuid is no good"),
        (
            release(6, &[0, 0]),
            "release of blob 0x100000006: it owns nothing at extent page 0, or that is named twice",
        ),
        (release(3, &[0]), "release of blob 0x100000003: it is not dying"),
        (Record::Destroy { blob: id(6) }, "destroy of blob 0x100000006: it owns 1 clusters"),
    ];
    for (record, text) in cases {
        let misfit = state.fits(&record).expect_err(text);
        assert_eq!(misfit.to_string(), text);
    }
}

#[test]
fn a_root_page_must_be_free() {
    let mut state = sample(true);
    let clone = Record::Clone { parent: id(4), id: id(9), len: 600, xattrs: Vec::new() };
    state.md.hold(9);
    let why = state.fits(&clone).map_err(|misfit| misfit.why);
    assert_eq!(why, Err(Why::RootInUse(9)), "held, as the pages of the journal are");
    state.md.release(9);
    assert_eq!(state.fits(&clone), Ok(()));
}

#[test]
fn without_native_states_what_the_parent_shows_stays_covered() {
    let mut state = sample(false);
    let native = |at| Err(Why::NativeState(at));
    let why = |state: &State, record: &Record| state.fits(record).map_err(|misfit| misfit.why);
    let zero = |range| Record::ZeroClusters { blob: id(3), range };
    assert_eq!(why(&state, &map(3, 0, 50, 0..3)), native(0));
    assert_eq!(why(&state, &zero(0..2)), native(0));
    assert_eq!(why(&state, &zero(1..600)), Ok(()));
    assert_eq!(why(&state, &resize(3, 0, &[])), Ok(()));
    state.apply(&resize(3, 0, &[]));
    assert_eq!(why(&state, &resize(3, 600, &[])), native(0));
    assert_eq!(why(&state, &resize(3, 600, &[(0, 50, 1)])), Ok(()));
    assert_eq!(why(&state, &resize(3, 600, &[(1, 50, 1)])), native(0));
}

#[test]
fn zeroing_takes_no_more_layers_than_md_pages() {
    // 144 records fit one layer page: 520 clusters of the external snapshot take more pages than are free.
    let state = new_state(true, 4);
    let zero = |end| Record::ZeroClusters { blob: id(1), range: 0..end };
    assert!(matches!(state.fits(&zero(600)).map_err(|misfit| misfit.why), Err(Why::MdPages { .. })));
    assert_eq!(state.fits(&zero(100)), Ok(()));
}
