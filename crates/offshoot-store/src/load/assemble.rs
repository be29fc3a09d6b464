//! From md pages to State: blobs are decoded, what SPDK left half done is settled, families are built from their oldest
//! member on, maps resolved.
//!
//! A blob that is damaged keeps what is known of its map: the rest of it is [`Entry::Unknown`], or, where the whole map is
//! lost, unknown up to [`Blob::lost_len`]. Clones inherit that like all else, and are damaged where they do.

use super::decode::{Parts, Reading, Slots};
use super::lost::spread_damage;
use super::ownership::Strays;
use super::pages::MdPages;
use super::repair::Repair;
use super::resolve::{Resolution, resolve, unmark};
use super::verify::{Disputes, Finding, Found, Owners};
use crate::apply::stacked;
use crate::blob::{Blob, External};
use crate::error::LoadError;
use crate::map::{BlockStates, Entry, Layer, Leaf, Tag, Tree};
use crate::pages::OrdinalMd;
use crate::pool::Pool;
use crate::record::Encoding;
use crate::state::{State, Units};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use offshoot_format::{
    Bitmap, BlobCluster, BlobId, BlockState, ClusterIdx, ExtentOrdinal, LayerRecord, Layout, MdPageIdx,
    StoreIdentity, SuperBlock, XATTR_EXTSNAP, XATTR_SNAP, page_crc_ok,
};

/// What of a blob must be written because the loader has changed it.
struct Change {
    blob: BlobId,
    chain: bool,
    extents: BTreeSet<ExtentOrdinal>,
    /// Md pages that it has no more once that is done.
    cut_off: Vec<MdPageIdx>,
}

pub(super) fn assemble(
    layout: Layout,
    super_block: &SuperBlock,
    pages: &MdPages,
    roots: &[MdPageIdx],
    masks: &[Option<Bitmap>; 3],
    mut repair: Option<&mut Repair>,
) -> Result<(State, Vec<Finding>), LoadError> {
    let mut found = Vec::new();
    let is_dirty_spdk = !super_block.is_native() && !super_block.is_clean();
    let units = Units::of(layout.cluster_size);
    let reading = Reading {
        layout: &layout,
        units: &units,
        pages,
        native: super_block.is_native(),
        // Until the first checkpoint of ours the md pages are as SPDK left them.
        resizing: !super_block.is_clean(),
    };
    let decoded = roots.iter().map(|root| (BlobId::from_root(*root), Parts::decode(reading, *root)));
    let mut all: BTreeMap<BlobId, Parts> = decoded.collect();
    for root in pages.mended_snapshots() {
        all.entry(BlobId::from_root(root)).and_modify(|parts| parts.is_changed = true);
    }
    if super_block.is_native() {
        list_lost_parents(&mut all, pages);
        // What cannot be read may be native.
        all.values_mut().for_each(|parts| parts.pages.native |= parts.lost_map.is_some());
    }
    let before = claims(&layout, &all);
    before.compare(masks, &mut found);
    let resolution = resolve(&mut all);
    let mut owners = if resolution.is_any { claims(&layout, &all) } else { before.clone() };
    let mut disputes = disputes(&owners, &all, &mut found);
    let (mut clusters, mut md) = owners.pools(&before, masks, masks[2].is_some());
    resolution.withheld.iter().for_each(|cluster| clusters.set(cluster.0 as usize, true));
    let (mut leftovers, mut given_up) = (Vec::new(), Vec::new());
    if masks[2].is_none() && !super_block.is_native() {
        let mut strays = Strays::find(pages, &owners, &layout);
        for (root, has_table) in &strays.torn_roots {
            let why = format!("md page {root}: its root is torn or rotten");
            let encoding = has_table.then_some(Encoding::Table);
            all.insert(BlobId::from_root(*root), Parts::unreadable(*root, encoding, why));
            md.set(root.0 as usize, true);
        }
        given_up = report_rotten(&mut strays.unrecognised, &mut found, repair.as_deref_mut());
        // None of them is taken for a root any more. But what they named may be a lost table's.
        strays.torn_others += given_up.len();
        let is_held_back = strays.hold_back(&all, pages, &mut clusters, &mut md);
        if is_dirty_spdk && !is_held_back && strays.torn_roots.is_empty() {
            leftovers = strays.pages;
        }
    } else if masks[2].is_none() {
        let unreadable = all.values().any(|parts| !parts.is_known());
        let rotten = pages.iter().filter(|(at, bytes)| !page_crc_ok(bytes) && !owners.refers_to(*at));
        let mut rotten: Vec<MdPageIdx> = rotten.map(|(at, _)| at).collect();
        given_up = report_rotten(&mut rotten, &mut found, repair.as_deref_mut());
        if masks[1].is_none() && (unreadable || !rotten.is_empty()) {
            // Nobody knows what the unreadable ones own, so nothing may be handed out.
            clusters = full(clusters.len());
            md = full(md.len());
        }
    }
    given_up.iter().for_each(|page| md.set(page.0 as usize, false));
    // Only now is it known what the copies must not be written over.
    if let Some(repair) = repair.filter(|_| owners.has_doubles()) {
        let taken = [Some(&clusters), Some(before.clusters()), masks[1].as_ref()];
        let taken: Vec<&Bitmap> = taken.into_iter().flatten().collect();
        let free_pages = md.len() - md.count_ones();
        let copies = repair.part_owners(&mut all, &mut owners, &taken, free_pages);
        copies.iter().for_each(|copy| clusters.set(copy.to.0 as usize, true));
        disputes = self::disputes(&owners, &all, &mut Vec::new());
    }
    check_super_blob(super_block, &all)?;
    let withheld = owners.unclaimed(&clusters);
    let mut state = State::new(layout, Pool::new(clusters), Pool::new(md));
    state.withheld = withheld;
    state.hides_native = super_block.is_native() && has_unknown(pages, &owners, &given_up);
    state.super_blob = super_block.super_blob;
    let changes = build_all(&mut state, all);
    for (blob, text) in disputes.blobs {
        if let Some(blob) = state.blobs.get_mut(&blob) {
            blob.damage.get_or_insert(text);
        }
    }
    (state.disputed_clusters, state.disputed_md) = (disputes.clusters, disputes.md);
    for blob in state.blobs.values_mut().filter(|blob| blob.dying && !blob.clones.is_empty()) {
        blob.damage.get_or_insert_with(|| "it is being removed, but a clone depends on it".into());
    }
    let has_relatives = |blob: &Blob| blob.parent.is_some() || !blob.clones.is_empty();
    state.mixed_encodings =
        state.blobs.values().any(|blob| has_relatives(blob) && blob.encoding == Encoding::Rle);
    // One that inherits damage can be written all the same. It has to be: what SPDK left half done in it is not looked for
    // in a store that was closed.
    let (changes, left): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| is_sound(&state, change.blob));
    // What is left as it is keeps its pages.
    left.iter().flat_map(|change| &change.cut_off).for_each(|page| state.md.hold_if_available(page.0));
    spread_damage(&mut state);
    // One that cannot be read cannot be released: what it owned stays marked until a repair.
    let dying = state.blobs.values().filter(|blob| blob.dying && blob.damage.is_none());
    state.dying = dying.map(|blob| blob.id).collect();
    index_names(&mut state, &mut found);
    state.native_allowed = state.allows_native();
    let cut_off = apply_changes(&mut state, changes, &resolution);
    free_pages(&mut state, resolution.freed.into_iter().chain(cut_off).chain(leftovers).chain(given_up));
    if is_dirty_spdk && withheld > 0 {
        found.push(Finding { lvol: None, what: Found::Withheld { clusters: withheld } });
    }
    Ok((state, found))
}

/// A parent whose root page is rotten is there, and lost: what is wrong with its clones lies below them.
fn list_lost_parents(all: &mut BTreeMap<BlobId, Parts>, pages: &MdPages) {
    let parents: BTreeSet<BlobId> = all.values().filter_map(|parts| parts.md.parent()).collect();
    for id in parents.into_iter().filter(|id| BlobId::from_root(id.root()) == *id) {
        let is_rotten = pages.page(id.root()).is_some_and(|bytes| !page_crc_ok(bytes));
        if is_rotten && !all.contains_key(&id) {
            let why = format!("md page {}: its root is torn or rotten", id.root());
            all.insert(id, Parts::unreadable(id.root(), Some(Encoding::Table), why));
        }
    }
}

/// Who owns what.
fn claims(layout: &Layout, all: &BTreeMap<BlobId, Parts>) -> Owners {
    let mut owners = Owners::new(layout);
    for (id, parts) in all {
        owners.add_root(id.root());
        owners.add_blob(parts.md_pages(), parts.clusters());
    }
    owners
}

fn disputes(owners: &Owners, all: &BTreeMap<BlobId, Parts>, found: &mut Vec<Finding>) -> Disputes {
    if !owners.has_doubles() {
        return Disputes::default();
    }
    let claims = all.iter().map(|(id, parts)| (*id, parts.md_pages().collect(), parts.clusters().collect()));
    owners.doubles(claims, found)
}

/// Tells of pages that may be anything. A repair gives them up: they are returned then.
fn report_rotten(
    pages: &mut Vec<MdPageIdx>,
    found: &mut Vec<Finding>,
    repair: Option<&mut Repair>,
) -> Vec<MdPageIdx> {
    if pages.is_empty() {
        return Vec::new();
    }
    found.push(Finding { lvol: None, what: Found::RottenPages { count: pages.len() } });
    let Some(repair) = repair else { return Vec::new() };
    let given_up = core::mem::take(pages);
    repair.erase(given_up.clone());
    given_up
}

/// Whether there is a page of which nobody can tell what it is.
fn has_unknown(pages: &MdPages, owners: &Owners, given_up: &[MdPageIdx]) -> bool {
    pages.iter().any(|(at, bytes)| !page_crc_ok(bytes) && !owners.refers_to(at) && !given_up.contains(&at))
}

/// Builds every blob. Says which of them must be written.
fn build_all(state: &mut State, mut all: BTreeMap<BlobId, Parts>) -> Vec<Change> {
    let changes = all.iter_mut().filter(|(_, parts)| parts.is_changed || !parts.changed.is_empty()).map(
        |(id, parts)| Change {
            blob: *id,
            chain: parts.is_changed || parts.encoding() == Encoding::Rle,
            extents: core::mem::take(&mut parts.changed),
            cut_off: core::mem::take(&mut parts.cut_off),
        },
    );
    let changes = changes.collect();
    let mut waiting: BTreeSet<BlobId> = all.keys().copied().collect();
    let ids: Vec<BlobId> = waiting.iter().copied().collect();
    for id in ids {
        build_with_ancestors(state, id, &mut all, &mut waiting);
    }
    changes
}

/// Whether nothing is known to be wrong with a blob.
fn is_sound(state: &State, id: BlobId) -> bool {
    state.blob(id).is_some_and(|blob| blob.damage.is_none())
}

/// Marks for writing what was changed, and says which md pages go with that. What is damaged itself is left as it is on
/// the medium, as is the one that its state goes with.
fn apply_changes(state: &mut State, changes: Vec<Change>, resolution: &Resolution) -> Vec<MdPageIdx> {
    let mut bound = BTreeSet::new();
    for (snapshot, clone) in &resolution.undone {
        if is_sound(state, *snapshot) && is_sound(state, *clone) {
            if let Some(blob) = state.blobs.get_mut(snapshot) {
                unmark(&mut blob.internal_xattrs, &mut blob.flags);
            }
            state.touch_chain(*snapshot);
        } else {
            bound.extend([*snapshot, *clone]);
        }
    }
    let mut cut_off = Vec::new();
    for change in changes {
        if bound.contains(&change.blob) {
            continue;
        }
        for ordinal in change.extents {
            state.touch_ordinal(change.blob, ordinal, OrdinalMd::rewrite);
        }
        if change.chain {
            state.touch_chain(change.blob);
        }
        cut_off.extend(change.cut_off);
    }
    cut_off
}

/// Has the next checkpoint erase pages. Until then nobody gets them, nor does the journal lie there.
fn free_pages(state: &mut State, pages: impl Iterator<Item = MdPageIdx>) {
    for page in pages {
        if state.md.is_available(page.0) {
            state.md.hold(page.0);
            state.freed_md.push(page);
        }
    }
}

fn full(units: usize) -> Bitmap {
    let mut all = Bitmap::new(units);
    (0..units).for_each(|unit| all.set(unit, true));
    all
}

/// Without its super blob a store has no name, and SPDK does not load it either.
fn check_super_blob(super_block: &SuperBlock, all: &BTreeMap<BlobId, Parts>) -> Result<(), LoadError> {
    let id = super_block.super_blob.ok_or_else(|| LoadError::NoSuperBlob("none is named".into()))?;
    match all.get(&id) {
        None => Err(LoadError::NoSuperBlob(format!("blob {id} does not exist"))),
        Some(Parts { damage: Some(why), .. }) => Err(LoadError::NoSuperBlob(why.clone())),
        Some(parts) => {
            StoreIdentity::of(&parts.md)?;
            Ok(())
        }
    }
}

/// Builds a blob once its ancestors are there. Walks up with a list, not by recursion: chains are long.
fn build_with_ancestors(
    state: &mut State,
    id: BlobId,
    all: &mut BTreeMap<BlobId, Parts>,
    waiting: &mut BTreeSet<BlobId>,
) {
    let mut line = Vec::new();
    let mut next = Some(id);
    while let Some(blob) = next.filter(|blob| waiting.remove(blob)) {
        line.push(blob);
        next = all.get(&blob).and_then(|parts| parts.md.parent());
    }
    // Ends at a blob that was built before, at one without parent, or, in a circle, at one in this line.
    for id in line.into_iter().rev() {
        let Some(parts) = all.remove(&id) else { continue };
        let blob = build(state, id, parts);
        let parent = blob.parent;
        state.blobs.insert(id, blob);
        if let Some(parent) = parent.and_then(|parent| state.blobs.get_mut(&parent)) {
            parent.clones.insert(id);
        }
        count_pages(state, id);
    }
}

fn build(state: &mut State, id: BlobId, parts: Parts) -> Blob {
    let encoding = parts.encoding();
    let Parts { md, mut pages, len, full, layers, lost, untold, lost_map, is_refused, mut damage, .. } =
        parts;
    pages.unread = lost_map.is_some();
    let outdated = md.native.as_ref().is_some_and(|native| native.outdated);
    let parent_id = md.parent();
    let tag = state.tags.assign(id);
    let parent = parent_id.and_then(|parent| state.blob(parent));
    let inherit_len = md.native.as_ref().map_or(len, |native| native.inherit_len.min(len));
    let inherit_len = if parent_id.is_none() && md.external_parent().is_none() { 0 } else { inherit_len };
    let own_external = md.external_parent().map(|id| External { id: id.to_vec(), len: inherit_len });
    let external_is_parent = own_external.is_some();
    let external =
        own_external.or_else(|| parent.and_then(|parent| State::inherited_external(parent, inherit_len)));
    let mut lost_len = parent.map_or(0, |parent| parent.lost_len.min(inherit_len));
    if let Some(parent) = parent_id.filter(|_| parent.is_none()) {
        damage = Some(format!("its parent, blob {parent}, does not exist"));
        lost_len = inherit_len;
    }
    let mut tree = Tree::default();
    // What a blob that is being removed had may have been released, and be another's by now.
    let is_orphan = parent.is_some_and(|parent| parent.dying);
    if is_orphan {
        lost_len = inherit_len;
    }
    if lost_map.is_some() || is_refused {
        // Where not even its size is known, everything that clones inherit is unknown.
        lost_len = if len == 0 { u64::MAX } else { len };
    } else if !is_orphan {
        tree = parent.map_or_else(Tree::default, |parent| parent.tree.clone());
        if parent.is_some_and(|parent| inherit_len < parent.len) {
            tree.truncate(BlobCluster(inherit_len));
        }
    }
    let (full, layers) = if is_refused { (BTreeMap::new(), Vec::new()) } else { (full, layers) };
    let is_lost = |at: BlobCluster| {
        lost.contains(&ExtentOrdinal::of(at).0) || untold.iter().any(|untold| untold.contains(&at.0))
    };
    let layers: Vec<(BlobCluster, LayerRecord)> =
        layers.into_iter().filter(|(at, _)| !is_lost(*at)).collect();
    let mut own_clusters = layers.iter().filter(|(_, record)| record.cluster.is_some()).count() as u64;
    own_clusters += pages.ordinals.values().map(|md| u64::from(md.own_full)).sum::<u64>();
    for (ordinal, slots) in full {
        add_full(&mut tree, tag, ordinal, slots);
    }
    own_clusters -= overlay(state, &mut tree, tag, layers, &mut damage);
    for ordinal in lost {
        tree.insert_leaf(ordinal, Leaf::unknown());
    }
    untold.into_iter().flatten().for_each(|at| drop(tree.replace(BlobCluster(at), Entry::Unknown)));
    // Behind its end nothing is unknown, or clones that grow would inherit that.
    tree.truncate(BlobCluster(len));
    if outdated {
        // Its size is that of an earlier time as well.
        (tree, own_clusters, lost_len) = (Tree::default(), 0, u64::MAX);
    }
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
        lost_len,
        tree,
        own_clusters,
        encoding,
        dying: md.native.is_some_and(|native| native.dying),
        damage,
        outdated,
        pages,
        ..Blob::new(id, tag)
    }
}

/// Puts a blob's own clusters of an ordinal over what it inherits: as a whole where it inherits nothing.
fn add_full(tree: &mut Tree, tag: Tag, ordinal: ExtentOrdinal, slots: Slots) {
    if tree.leaf(ordinal).is_none() {
        return tree.insert_leaf(ordinal, Leaf::of_full(tag, slots));
    }
    let start = ordinal.first_cluster().0;
    for (at, cluster) in (start..).zip(slots.iter()).filter(|(_, cluster)| **cluster != 0) {
        tree.replace(BlobCluster(at), Entry::Full { tag, cluster: ClusterIdx(*cluster) });
    }
}

/// Puts a blob's own layers over its full clusters and what it inherits. Says how many of its clusters are in the tree no
/// more: pages of different times may disagree on what lies below what.
fn overlay(
    state: &State,
    tree: &mut Tree,
    tag: Tag,
    layers: Vec<(BlobCluster, LayerRecord)>,
    damage: &mut Option<String>,
) -> u64 {
    let count = |entry: &Entry| entry.clusters_of(|owner| owner == tag).count() as u64;
    let mut dropped = 0;
    // Records are newest first: the oldest goes on first.
    for (at, record) in layers.into_iter().rev() {
        let Some(states) = BlockStates::unpack(state.units.blocks, &record.states) else {
            *damage = Some(format!("cluster {}: a block is in no valid state", at.0));
            let old = tree.replace(at, Entry::Unknown);
            dropped += count(&old) + u64::from(record.cluster.is_some());
            continue;
        };
        // As in life: what no block inherits is not kept below.
        let old = tree.entry(at);
        let below = if states.any(BlockState::Inherit) {
            old
        } else {
            dropped += count(&old);
            Entry::Absent
        };
        tree.replace(at, stacked(Layer { tag, cluster: record.cluster, states }, below));
    }
    dropped
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

fn index_names(state: &mut State, found: &mut Vec<Finding>) {
    let named = state.lvols().chain(state.deferred());
    let named: Vec<(BlobId, Vec<u8>)> = named.map(|blob| (blob.id, blob.name().to_vec())).collect();
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
