//! Stores on a device that runs operations in any order, and a plain model of a store.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shared by several test programs")]

pub mod lvols;
mod shuffled;
mod space;

pub use shuffled::ShuffledDevice;
pub use space::verify_space;

use lvols::{options, writable};
use offshoot_block::Buffer;
use offshoot_device::MemDevice;
use offshoot_format::{BlobId, ClearMethod};
use offshoot_store::{Change, CreateOptions, Error, Identity, State, Store, Verb};
use std::collections::BTreeMap;
use uuid::Uuid;

pub const DEVICE_BYTES: u64 = 16 << 20;

pub fn new_store(cluster_size: u32, block_size: u32, native: bool, seed: u64) -> Store<ShuffledDevice> {
    new_store_of(DEVICE_BYTES, cluster_size, block_size, native, seed)
}

pub fn new_store_of(
    device_bytes: u64,
    cluster_size: u32,
    block_size: u32,
    native: bool,
    seed: u64,
) -> Store<ShuffledDevice> {
    new_store_on(MemDevice::new(device_bytes, block_size), cluster_size, block_size, native, seed)
}

pub fn new_store_on(
    device: MemDevice,
    cluster_size: u32,
    block_size: u32,
    native: bool,
    seed: u64,
) -> Store<ShuffledDevice> {
    let device = ShuffledDevice::new(device, seed);
    let store = Store::init(device, &options(cluster_size, block_size, native), &writable()).unwrap();
    reopen(store)
}

/// Closes the store, checks what lies on the device, and opens it again.
pub fn reopen(store: Store<ShuffledDevice>) -> Store<ShuffledDevice> {
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[], "a closed store agrees with itself");
    assert_eq!(store.state().audit(), &[], "and so does what was loaded");
    store
}

pub fn identity(name: &str, number: u128) -> Identity {
    Identity { name: name.into(), uuid: Uuid::from_u128(number), created: 1_700_000_000 }
}

pub fn create(store: &mut Store<ShuffledDevice>, name: &str, size_bytes: u64, thick: bool) {
    let identity = identity(name, u128::from(size_bytes) + 1000);
    store.execute(Verb::Create { identity, size_bytes, options: CreateOptions::provisioned(thick) }).unwrap();
}

/// Cases of a property test: as many as usual, unless the environment asks for more, as a campaign does.
pub fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// One of all clear methods, the same for the same number.
pub fn clear_method(number: u64) -> ClearMethod {
    use ClearMethod::{Default, None, Unmap, WriteZeroes};
    [Default, None, WriteZeroes, Unmap][usize::try_from(number % 4).unwrap()]
}

/// What an external snapshot holds: no zeros, and no whole number of clusters.
pub fn external_content() -> Vec<u8> {
    pattern(5 * 16_384 + 3 * 512, 77).as_slice().to_vec()
}

pub fn external_device() -> ShuffledDevice {
    ShuffledDevice::new(MemDevice::with_content(&external_content(), 512), 1)
}

/// What each lvol reads, by name.
pub type Model = BTreeMap<String, Vec<u8>>;

pub fn id_of(store: &Store<ShuffledDevice>, name: &str) -> offshoot_format::BlobId {
    store.state().lvol_by_name(name.as_bytes()).unwrap().id
}

/// What State keeps count of equals what its maps say.
pub fn verify_counts(state: &State) {
    for blob in state.blobs() {
        let (mut clusters, mut counted) = (0, BTreeMap::new());
        for ordinal in blob.tree.ordinals() {
            let (mut full, mut layers) = (0, 0);
            for (_, entry) in blob.tree.leaf(ordinal).unwrap().entries() {
                for (_, cluster, states) in
                    entry.layers().filter(|(tag, ..)| state.owner(*tag) == Some(blob.id))
                {
                    full += u16::from(states.is_none());
                    layers += u32::from(states.is_some());
                    clusters += u64::from(cluster.is_some());
                }
            }
            if full > 0 || layers > 0 {
                counted.insert(ordinal, (full, layers));
            }
        }
        let kept = blob.pages.ordinals.iter().filter(|(_, md)| md.owns_any());
        let kept: BTreeMap<_, _> =
            kept.map(|(ordinal, md)| (*ordinal, (md.own_full, md.own_layers()))).collect();
        assert_eq!(kept, counted, "{}", blob.display_name());
        assert_eq!(blob.own_clusters, clusters, "{}", blob.display_name());
    }
}

/// Every lvol reads what the model says, and holes are where nothing but zeros is.
pub fn compare(store: &mut Store<ShuffledDevice>, model: &Model) {
    let names: Vec<String> = store.state().lvols().map(|blob| blob.display_name()).collect();
    assert_eq!(names.len(), model.len());
    assert!(
        store.state().deferred().all(|blob| blob.clones.len() > 1),
        "what was removed is kept for nobody"
    );
    for (name, bytes) in model {
        let id = id_of(store, name);
        let read = store.read(id, 0, bytes.len()).unwrap();
        if let Some(at) = (0..bytes.len()).find(|at| read.as_slice()[*at] != bytes[*at]) {
            panic!("{name} differs at {at:#x}: read {}, expected {}", read.as_slice()[at], bytes[at]);
        }
        let size = bytes.len() as u64;
        let mut end = 0;
        for extent in store.extents(id, 0..size, usize::MAX).unwrap() {
            assert_eq!(extent.start, end);
            end += extent.len;
            let part = usize::try_from(extent.start).unwrap()..usize::try_from(end).unwrap();
            assert!(!extent.hole || bytes[part].iter().all(|byte| *byte == 0), "{name}: a hole has data");
        }
        assert_eq!(end, size);
    }
    compare_diffs(store, model);
    compare_copies(store, model);
    verify_counts(store.state());
    verify_space(store.state());
    let own: u64 = store.state().blobs().map(|blob| blob.own_clusters).sum();
    let layout = &store.state().layout;
    let used = store.state().clusters.used().count_ones() as u64;
    assert_eq!(used, own + u64::from(layout.metadata_clusters()), "every used cluster has one owner");
}

/// The changes between each lvol and one of its relatives lead from the content of the one to that of the other, and no
/// range of them could be longer.
pub fn compare_diffs(store: &Store<ShuffledDevice>, model: &Model) {
    let state = store.state();
    for (number, (name, bytes)) in model.iter().enumerate() {
        let id = id_of(store, name);
        let family = state.family(id);
        let relatives = family.iter().cycle().skip(number).take(family.len());
        let relative =
            relatives.filter_map(|id| state.blob(*id)).find(|blob| blob.id != id && state.is_lvol(blob));
        let Some(relative) = relative else { continue };
        let mut copy = model[&relative.display_name()].clone();
        copy.resize(bytes.len(), 0);
        let mut last: Option<Change> = None;
        for change in state.diff(relative.id, id).unwrap() {
            let range =
                usize::try_from(change.start).unwrap()..usize::try_from(change.start + change.len).unwrap();
            assert!(change.len > 0 && change.start % state.units.block == 0);
            if let Some(last) = last.replace(change) {
                let end = last.start + last.len;
                assert!(
                    end < change.start || (end == change.start && last.zero != change.zero),
                    "{last:?}, {change:?}"
                );
            }
            copy[range.clone()].copy_from_slice(&bytes[range.clone()]);
            assert!(
                !change.zero || bytes[range].iter().all(|byte| *byte == 0),
                "{name}: {change:?} has data"
            );
        }
        assert!(copy == *bytes, "{name} is not {} with its changes", relative.display_name());
    }
}

/// Shallow copies of a chain of snapshots, the oldest first, add up to what the last one reads.
pub fn compare_copies(store: &mut Store<ShuffledDevice>, model: &Model) {
    let removed: Vec<BlobId> = store.state().deferred().map(|blob| blob.id).collect();
    let mut hidden = BTreeMap::new();
    for id in removed {
        let len = usize::try_from(store.state().bytes(store.state().blob(id).unwrap())).unwrap();
        hidden.insert(id, store.read(id, 0, len).unwrap());
    }
    let state = store.state();
    for (name, bytes) in model {
        let id = id_of(store, name);
        if !state.blob(id).unwrap().is_read_only() {
            assert_eq!(state.shallow_copy(id).unwrap_err(), Error::CopyOfWritable(name.clone()));
            continue;
        }
        let mut chain = vec![id];
        while let Some(parent) = state.blob(chain[chain.len() - 1]).unwrap().parent {
            chain.push(parent);
        }
        let longest = chain.iter().map(|id| state.bytes(state.blob(*id).unwrap())).max();
        let root = chain.last().and_then(|root| state.blob(*root)).filter(|root| root.external_is_parent);
        let mut copy = if root.is_some() { external_content() } else { Vec::new() };
        // Beyond its end nothing of the external snapshot shows, for those that are larger either.
        copy.truncate(root.map_or(0, |root| usize::try_from(state.bytes(root)).unwrap()));
        copy.resize(usize::try_from(longest.unwrap()).unwrap(), 0);
        for id in chain.into_iter().rev() {
            if let Some(bytes) = hidden.get(&id) {
                // What removed snapshots hold themselves cannot be asked for.
                copy[..bytes.len()].copy_from_slice(bytes.as_slice());
                continue;
            }
            let bytes = &model[&state.blob(id).unwrap().display_name()];
            for change in state.shallow_copy(id).unwrap() {
                let end = usize::try_from(change.start + change.len).unwrap();
                let range = usize::try_from(change.start).unwrap()..end;
                copy[range.clone()].copy_from_slice(&bytes[range]);
            }
        }
        assert!(copy[..bytes.len()] == *bytes, "copies do not add up to {name}");
    }
}

pub fn pattern(len: usize, seed: u8) -> Buffer {
    let mut buffer = Buffer::zeroed(len);
    for (index, byte) in buffer.as_mut_slice().iter_mut().enumerate() {
        *byte = u8::try_from(index % 251).unwrap().wrapping_mul(3).wrapping_add(seed) | 1;
    }
    buffer
}
