//! From md pages to State: blobs are decoded, families built from their oldest member on, maps resolved.

use super::pages::MdPages;
use super::verify::{Disputes, Finding, Found, Owners};
use crate::apply::stacked;
use crate::blob::{Blob, External};
use crate::error::LoadError;
use crate::map::{BlockStates, Entry, Layer, SLOTS, Tag, Tree};
use crate::pages::{BlobPages, OrdinalMd};
use crate::pool::Pool;
use crate::record::Encoding;
use crate::state::{State, Units};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use offshoot_format::{
    Bitmap, BlobCluster, BlobId, BlobMd, BlockState, ClusterIdx, Damage, ExtentOrdinal, ExtentPage,
    LayerPage, LayerRecord, Layout, MapMd, MdPageIdx, StoreIdentity, SuperBlock, XATTR_EXTSNAP, XATTR_SNAP,
    page_crc_ok,
};

/// What a blob's own pages say, before its ancestors are known.
struct Parts {
    md: BlobMd,
    pages: BlobPages,
    /// Own full clusters, by blob cluster.
    full: Vec<(BlobCluster, ClusterIdx)>,
    /// Own layers, by blob cluster; newest first within one.
    layers: Vec<(BlobCluster, LayerRecord)>,
}

pub(super) fn assemble(
    layout: Layout,
    super_block: &SuperBlock,
    pages: &MdPages,
    roots: &[MdPageIdx],
    masks: &[Option<Bitmap>; 3],
) -> Result<(State, Vec<Finding>), LoadError> {
    let mut owners = Owners::new(&layout);
    let mut found = Vec::new();
    let mut all: BTreeMap<BlobId, Result<Parts, String>> = BTreeMap::new();
    let units = Units::of(layout.cluster_size);
    for root in roots {
        let id = BlobId::from_root(*root);
        let native = super_block.is_native();
        let parts = decode(&layout, pages, *root, &units, native).map_err(|damage| damage.to_string());
        owners.add_root(*root);
        if let Ok(parts) = &parts {
            owners.add_blob(parts.md_pages(), parts.clusters());
        }
        all.insert(id, parts);
    }
    owners.compare(masks, &mut found);
    let disputes = if owners.has_doubles() {
        let readable = all.iter().filter_map(|(id, parts)| Some((*id, parts.as_ref().ok()?)));
        let claims = readable.map(|(id, parts)| (id, parts.md_pages().collect(), parts.clusters().collect()));
        owners.doubles(claims, &mut found)
    } else {
        Disputes::default()
    };

    let unreadable = all.values().filter(|parts| parts.is_err()).count();
    let rotten = pages.iter().filter(|(at, bytes)| !page_crc_ok(bytes) && !owners.refers_to(*at));
    // Where a mask names the roots the rest is known to be free.
    let rotten = if masks[2].is_none() { rotten.count() } else { 0 };
    if rotten > 0 {
        found.push(Finding { lvol: None, what: Found::RottenPages { count: rotten } });
    }
    let (mut clusters, mut md) = owners.pools(masks, masks[2].is_some());
    if masks[1].is_none() && unreadable + rotten > 0 {
        // Nobody knows what the unreadable ones own, so nothing may be handed out.
        clusters = full(clusters.len());
        md = full(md.len());
    }
    let mut state = State::new(layout, Pool::new(clusters), Pool::new(md));
    state.super_blob = super_block.super_blob;
    check_super_blob(super_block, &all)?;
    let mut waiting: BTreeSet<BlobId> = all.keys().copied().collect();
    let ids: Vec<BlobId> = waiting.iter().copied().collect();
    for id in ids {
        build_with_ancestors(&mut state, id, &mut all, &mut waiting);
    }
    for (blob, text) in disputes.blobs {
        if let Some(blob) = state.blobs.get_mut(&blob) {
            blob.damage.get_or_insert(text);
        }
    }
    for blob in state.blobs.values_mut().filter(|blob| blob.dying && !blob.clones.is_empty()) {
        blob.damage.get_or_insert_with(|| "it is being removed, but a clone depends on it".into());
    }
    let has_relatives = |blob: &Blob| blob.parent.is_some() || !blob.clones.is_empty();
    state.mixed_encodings =
        state.blobs.values().any(|blob| has_relatives(blob) && blob.encoding == Encoding::Rle);
    spread_damage(&mut state);
    (state.disputed_clusters, state.disputed_md) = (disputes.clusters, disputes.md);
    // One that cannot be read cannot be released: what it owned stays marked until a repair.
    let dying = state.blobs.values().filter(|blob| blob.dying && blob.damage.is_none());
    state.dying = dying.map(|blob| blob.id).collect();
    for blob in state.blobs.values().filter(|blob| !blob.dying) {
        if let Some(what) = &blob.damage {
            found.push(Finding {
                lvol: Some(blob.display_name()),
                what: Found::Damaged { blob: blob.id, why: what.clone() },
            });
        }
    }
    index_names(&mut state, &mut found);
    state.native_allowed = state.allows_native();
    Ok((state, found))
}

fn full(units: usize) -> Bitmap {
    let mut all = Bitmap::new(units);
    (0..units).for_each(|unit| all.set(unit, true));
    all
}

/// Without its super blob a store has no name, and SPDK does not load it either.
fn check_super_blob(
    super_block: &SuperBlock,
    all: &BTreeMap<BlobId, Result<Parts, String>>,
) -> Result<(), LoadError> {
    let id = super_block.super_blob.ok_or_else(|| LoadError::NoSuperBlob("none is named".into()))?;
    match all.get(&id) {
        None => Err(LoadError::NoSuperBlob(format!("blob {id} does not exist"))),
        Some(Err(why)) => Err(LoadError::NoSuperBlob(why.clone())),
        Some(Ok(parts)) => {
            StoreIdentity::of(&parts.md)?;
            Ok(())
        }
    }
}

fn decode(
    layout: &Layout,
    pages: &MdPages,
    root: MdPageIdx,
    units: &Units,
    native: bool,
) -> Result<Parts, String> {
    let missing = |at: MdPageIdx| format!("md page {at} is outside the md region or not in use");
    let mut chain = Vec::new();
    let mut next = Some(root);
    while let Some(at) = next {
        if chain.iter().any(|(seen, _)| *seen == at) {
            return Err(format!("md page {at}: the chain runs in a circle"));
        }
        let bytes = pages.page(at).ok_or_else(|| missing(at))?;
        next = BlobMd::next_of(at, bytes).map_err(|damage| damage.to_string())?;
        chain.push((at, bytes));
    }
    let md = BlobMd::decode_chain(&chain).map_err(|damage| damage.to_string())?;
    if md.native.is_some() && !native {
        return Err(format!("md page {root}: native descriptors in a store of SPDK's version"));
    }
    let mut parts = Parts {
        pages: BlobPages {
            chain: chain.iter().map(|(at, _)| *at).collect(),
            ordinals: BTreeMap::new(),
            native: md.native.is_some(),
            ..BlobPages::default()
        },
        md,
        full: Vec::new(),
        layers: Vec::new(),
    };
    parts.read_map(layout, pages).map_err(|damage| damage.to_string())?;
    parts.read_layers(layout, pages, units)?;
    Ok(parts)
}

impl Parts {
    fn read_map(&mut self, layout: &Layout, pages: &MdPages) -> Result<(), String> {
        match &self.md.map {
            MapMd::Rle(runs) => {
                let mut at = 0_u64;
                self.pages.rle_runs = runs.len() as u64;
                for run in runs {
                    if let Some(first) = run.cluster {
                        // Checked as a whole before it is taken apart: a run may claim 2^32 clusters.
                        let last = ClusterIdx(first.0.saturating_add(run.length - 1));
                        if !layout.contains_data_cluster(first) || !layout.contains_data_cluster(last) {
                            return Err(format!(
                                "a run of {} clusters from {first} holds no data",
                                run.length
                            ));
                        }
                        let clusters = (first.0..=last.0).map(ClusterIdx);
                        self.full.extend((at..).map(BlobCluster).zip(clusters));
                    }
                    at += u64::from(run.length);
                }
            }
            MapMd::Table { num_clusters, pages: table } => {
                for (ordinal, page) in (0..).map(ExtentOrdinal).zip(table) {
                    let Some(page) = page else { continue };
                    let start = ordinal.first_cluster().0;
                    let len = usize::try_from(num_clusters - start).unwrap_or(SLOTS).min(SLOTS);
                    let bytes =
                        pages.page(*page).ok_or_else(|| format!("extent page {page} is not in use"))?;
                    let extent = ExtentPage::decode(*page, bytes, ordinal, len).map_err(text)?;
                    let clusters = extent.clusters.iter().enumerate();
                    self.full.extend(clusters.filter_map(|(slot, cluster)| {
                        cluster.map(|cluster| (BlobCluster(start + slot as u64), cluster))
                    }));
                    self.pages.ordinals.entry(ordinal).or_default().extent = Some(*page);
                }
            }
        }
        for (at, cluster) in &self.full {
            if !layout.contains_data_cluster(*cluster) {
                return Err(format!(
                    "cluster {} of the lvol is in cluster {cluster}, which holds no data",
                    at.0
                ));
            }
            self.pages.ordinals.entry(ExtentOrdinal::of(*at).0).or_default().own_full += 1;
        }
        Ok(())
    }

    fn read_layers(&mut self, layout: &Layout, pages: &MdPages, units: &Units) -> Result<(), String> {
        let Some(native) = &self.md.native else {
            return Ok(());
        };
        let mut found: BTreeMap<ExtentOrdinal, Vec<(MdPageIdx, Vec<usize>)>> = BTreeMap::new();
        let states_bytes = u16::try_from(units.states_bytes).unwrap_or(u16::MAX);
        for (ordinal, page) in &native.layer_pages {
            let bytes = pages.page(*page).ok_or_else(|| format!("layer page {page} is not in use"))?;
            let layers = LayerPage::decode(*page, bytes, *ordinal, states_bytes).map_err(text)?;
            let slots = layers.records.iter().map(|record| usize::from(record.slot));
            found.entry(*ordinal).or_default().push((*page, slots.collect()));
            for record in layers.records {
                let at = BlobCluster(ordinal.first_cluster().0 + u64::from(record.slot));
                if at.0 >= self.md.map.num_clusters() {
                    return Err(format!("layer page {page}: cluster {} is beyond the end", at.0));
                }
                if let Some(cluster) =
                    record.cluster.filter(|cluster| !layout.contains_data_cluster(*cluster))
                {
                    return Err(format!("layer page {page}: cluster {cluster} holds no data"));
                }
                self.layers.push((at, record));
            }
        }
        for (ordinal, found) in found {
            self.pages.ordinals.entry(ordinal).or_default().load(units.spread, found);
        }
        Ok(())
    }

    fn md_pages(&self) -> impl Iterator<Item = MdPageIdx> {
        let ordinals = self.pages.ordinals.values();
        let mapped = ordinals.flat_map(OrdinalMd::pages);
        self.pages.chain.iter().copied().chain(mapped)
    }

    fn clusters(&self) -> impl Iterator<Item = ClusterIdx> {
        let layers = self.layers.iter().filter_map(|(_, record)| record.cluster);
        self.full.iter().map(|(_, cluster)| *cluster).chain(layers)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
fn text(damage: Damage) -> String {
    damage.to_string()
}

/// Builds a blob once its ancestors are there. Walks up with a list, not by recursion: chains are long.
fn build_with_ancestors(
    state: &mut State,
    id: BlobId,
    all: &mut BTreeMap<BlobId, Result<Parts, String>>,
    waiting: &mut BTreeSet<BlobId>,
) {
    let mut line = Vec::new();
    let mut next = Some(id);
    while let Some(blob) = next.filter(|blob| waiting.remove(blob)) {
        line.push(blob);
        next = all.get(&blob).and_then(|parts| parts.as_ref().ok()).and_then(|parts| parts.md.parent());
    }
    // Ends at a blob that was built before, at one without parent, or, in a circle, at one in this line.
    for id in line.into_iter().rev() {
        let blob = match all.remove(&id) {
            Some(Ok(parts)) => build(state, id, parts),
            Some(Err(why)) => unreadable(state, id, why),
            None => continue,
        };
        let parent = blob.parent;
        state.blobs.insert(id, blob);
        if let Some(parent) = parent.and_then(|parent| state.blobs.get_mut(&parent)) {
            parent.clones.insert(id);
        }
        let sound = state.blobs.get(&id).is_some_and(|blob| blob.damage.is_none());
        if sound {
            count_pages(state, id);
        }
    }
}

fn build(state: &mut State, id: BlobId, parts: Parts) -> Blob {
    let Parts { md, pages, full, layers } = parts;
    let len = md.map.num_clusters();
    let parent_id = md.parent();
    let tag = state.tags.assign(id);
    let mut damage = None;
    let parent = parent_id.and_then(|parent| state.blob(parent));
    if let Some(parent) = parent_id.filter(|_| parent.is_none()) {
        damage = Some(format!("its parent, blob {parent}, does not exist"));
    }
    let inherit_len = md.native.as_ref().map_or(len, |native| native.inherit_len.min(len));
    let inherit_len = if parent_id.is_none() && md.external_parent().is_none() { 0 } else { inherit_len };
    let own_external = md.external_parent().map(|id| External { id: id.to_vec(), len: inherit_len });
    let external_is_parent = own_external.is_some();
    let external =
        own_external.or_else(|| parent.and_then(|parent| State::inherited_external(parent, inherit_len)));
    let mut tree = parent.map_or_else(Tree::default, |parent| parent.tree.clone());
    if parent.is_some_and(|parent| inherit_len < parent.len) {
        tree.truncate(BlobCluster(inherit_len));
    }
    let own_clusters = full.len() + layers.iter().filter(|(_, record)| record.cluster.is_some()).count();
    overlay(state, &mut tree, tag, &full, layers, &mut damage);
    let mut internal_xattrs = md.internal_xattrs;
    internal_xattrs.retain(|xattr| {
        !(xattr.name == XATTR_SNAP && parent_id.is_some()
            || xattr.name == XATTR_EXTSNAP && external_is_parent)
    });
    Blob {
        flags: md.flags,
        xattrs: md.xattrs,
        internal_xattrs,
        unknown: md.unknown,
        parent: parent_id.filter(|parent| state.blob(*parent).is_some()),
        external,
        external_is_parent,
        len,
        inherit_len,
        tree,
        own_clusters: own_clusters as u64,
        encoding: if matches!(md.map, MapMd::Rle(_)) { Encoding::Rle } else { Encoding::Table },
        dying: md.native.is_some_and(|native| native.dying),
        damage,
        pages,
        ..Blob::new(id, tag)
    }
}

/// Puts a blob's own clusters and layers over what it inherits.
fn overlay(
    state: &State,
    tree: &mut Tree,
    tag: Tag,
    full: &[(BlobCluster, ClusterIdx)],
    layers: Vec<(BlobCluster, LayerRecord)>,
    damage: &mut Option<String>,
) {
    for (at, cluster) in full {
        tree.replace(*at, Entry::Full { tag, cluster: *cluster });
    }
    // Records are newest first: the oldest goes on first.
    for (at, record) in layers.into_iter().rev() {
        let Some(states) = BlockStates::unpack(state.units.blocks, &record.states) else {
            *damage = Some(format!("cluster {}: a block is in no valid state", at.0));
            continue;
        };
        // As in life: what no block inherits is not kept below.
        let below = if states.any(BlockState::Inherit) { tree.entry(at) } else { Entry::Absent };
        tree.replace(at, stacked(Layer { tag, cluster: record.cluster, states }, below));
    }
}

/// A blob of which only the root's number is known.
fn unreadable(state: &mut State, id: BlobId, why: String) -> Blob {
    Blob { damage: Some(why), ..Blob::new(id, state.tags.assign(id)) }
}

/// Brings the counts of md pages up to date without making the blob dirty.
fn count_pages(state: &mut State, id: BlobId) {
    state.recount(id);
    state.dirty.remove(&id);
    if let Some(blob) = state.blobs.get_mut(&id) {
        blob.pages.chain_dirty = false;
        blob.pages.settle_images(false, &mut state.image_pages);
        debug_assert!(blob.pages.ordinals.values().all(|md| !md.is_vacant()));
    }
}

/// What inherits from a damaged blob is damaged too.
fn spread_damage(state: &mut State) {
    let mut queue: Vec<BlobId> =
        state.blobs.values().filter(|blob| blob.damage.is_some()).map(|blob| blob.id).collect();
    while let Some(id) = queue.pop() {
        let Some(blob) = state.blobs.get(&id) else {
            continue;
        };
        let (name, clones) = (blob.display_name(), blob.clones.clone());
        for clone in clones {
            if let Some(clone) = state.blobs.get_mut(&clone).filter(|clone| clone.damage.is_none()) {
                clone.damage = Some(format!("it inherits from \"{name}\", which is damaged"));
                queue.push(clone.id);
            }
        }
    }
}

fn index_names(state: &mut State, found: &mut Vec<Finding>) {
    let named: Vec<(BlobId, Vec<u8>)> = state.lvols().map(|blob| (blob.id, blob.name().to_vec())).collect();
    for (id, name) in named.into_iter().filter(|(_, name)| !name.is_empty()) {
        match state.names.get(&name) {
            None => {
                state.names.insert(name, id);
            }
            Some(first) => found.push(Finding {
                lvol: state.blob(id).map(Blob::display_name),
                what: Found::DuplicateName { first: *first, second: id },
            }),
        }
    }
}
