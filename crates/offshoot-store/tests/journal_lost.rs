//! A journal whose records go on from lvols of which the metadata is lost (D6): what was made of those has a history
//! of its own, which is replayed; what it inherits comes back with what was lost.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, options, pattern, writable_in};
use offshoot_device::MemDevice;
use offshoot_format::{ExtentOrdinal, MdPageIdx};
use offshoot_store::{Finding, Found, Store};
use std::collections::BTreeMap;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;

fn open(device: MemDevice, power: offshoot_store::Session) -> Store<MemDevice> {
    Store::open(device, Vec::new(), &writable_in(Some(power))).unwrap()
}

/// A closed store: `golden`, a snapshot of `disk`, with `old`, a clone that has clusters of its own; `lone`.
fn base() -> Store<MemDevice> {
    let init = options(16_384, 512, true);
    let mut store = Store::init(MemDevice::new(16 << 20, 512), &init, &writable_in(Some(SESSION))).unwrap();
    for name in ["disk", "lone", "sound"] {
        let id = store.create(name, 600 * CLUSTER, false).unwrap();
        store.write(id, 0, pattern(4 * CLUSTER, 1)).unwrap();
    }
    store.snapshot("disk", "golden").unwrap();
    let old = store.clone_of("golden", "old").unwrap();
    store.write(old, CLUSTER, pattern(BLOCK, 2)).unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    open(device, SESSION)
}

/// What only the journal knows when the store dies.
fn live(store: &mut Store<MemDevice>) {
    let (old, disk, lone) = (store.id("old"), store.id("disk"), store.id("lone"));
    store.write(old, 2 * CLUSTER, pattern(BLOCK, 3)).unwrap();
    store.unmap(old, 3 * CLUSTER..4 * CLUSTER).unwrap();
    store.write(disk, 0, pattern(CLUSTER, 4)).unwrap();
    let new = store.clone_of("golden", "new").unwrap();
    store.write(new, BLOCK, pattern(2 * CLUSTER, 5)).unwrap();
    store.resize("new", 2 * CLUSTER).unwrap();
    store.resize("new", 5 * CLUSTER).unwrap();
    store.snapshot("new", "new@1").unwrap();
    store.write(new, 4 * CLUSTER, pattern(BLOCK, 6)).unwrap();
    store.clone_of("new@1", "gone").unwrap();
    store.remove("gone").unwrap();
    store.snapshot("old", "old@1").unwrap();
    store.snapshot("old", "old@2").unwrap();
    store.write(old, 0, pattern(BLOCK, 7)).unwrap();
    store.remove("old@1").unwrap();
    store.snapshot("lone", "lone@1").unwrap();
    let of_lone = store.clone_of("lone@1", "of lone").unwrap();
    store.write(of_lone, CLUSTER, pattern(BLOCK, 8)).unwrap();
    store.write(lone, 0, pattern(BLOCK, 9)).unwrap();
    let sound = store.id("sound");
    store.write(sound, 0, pattern(BLOCK, 10)).unwrap();
    store.flush().unwrap();
}

type Seen = BTreeMap<String, (u64, u64, Option<Vec<u8>>)>;

/// Size in clusters, own clusters and, where it can be read, content of each lvol.
fn seen(store: &mut Store<MemDevice>) -> Seen {
    let of = |blob: &offshoot_store::Blob| {
        (blob.display_name(), blob.len, blob.own_clusters, blob.damage.is_none())
    };
    let blobs: Vec<_> = store.state().lvols().map(of).collect();
    let content = |name: &str, store: &mut Store<MemDevice>| store.content(name);
    blobs
        .into_iter()
        .map(|(name, len, own, sound)| {
            let content = sound.then(|| content(&name, store));
            (name, (len, own, content))
        })
        .collect()
}

/// All but those that have changed are as they were; where nobody can tell what they hold, in size and own clusters.
fn same(expected: &Seen, found: &Seen, changed: &[&str], what: &str) {
    for (name, (len, own, content)) in expected.iter().filter(|(name, _)| !changed.contains(&name.as_str())) {
        let found = found.get(name).unwrap_or_else(|| panic!("{name}, {what}"));
        assert_eq!((found.0, found.1), (*len, *own), "{name}, {what}");
        assert!(found.2.is_none() || found.2 == *content, "{name}, {what}");
    }
}

fn page(device: &MemDevice, at: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    device.read_at(at, &mut page);
    page
}

/// Dies, loses a page, is opened for writing and closed, and gets the page back.
fn check(lost: fn(&Store<MemDevice>) -> MdPageIdx, damaged: &[&str], changed: &[&str]) {
    for power in [SESSION, AFTER_POWER_LOSS] {
        let mut store = base();
        live(&mut store);
        let expected = seen(&mut store);
        let at = store.state().layout.md_page_offset(lost(&store));
        let mut device = store.device().clone();
        let good = page(&device, at);
        device.write_at(at, &[0xa5; 4096]);

        let mut store = open(device, power);
        assert_eq!(store.engine().read_only_cause(), None, "{:?}", store.findings());
        let what = format!("{power:?}: {:?}", store.findings());
        let listed = |store: &Store<MemDevice>| -> BTreeMap<String, bool> {
            store.state().lvols().map(|blob| (blob.display_name(), blob.damage.is_some())).collect()
        };
        let first = listed(&store);
        for name in damaged {
            assert_eq!(first.get(*name), Some(&true), "{name}, {what}");
            let is_it = |found: &Found| match found {
                Found::Damaged { blob, .. } => *blob == store.id(name),
                _ => false,
            };
            assert!(store.findings().iter().any(|finding| is_it(&finding.what)), "{name}, {what}");
        }
        same(&expected, &seen(&mut store), changed, &what);
        assert_eq!(store.state().audit(), &[], "{what}");
        // Life goes on beside it.
        let sound = store.id("sound");
        store.write(sound, 100 * CLUSTER, pattern(CLUSTER, 11)).unwrap();
        store.create("later", CLUSTER, true).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();
        let store = open(device, power);
        let mut again = listed(&store);
        again.remove("later");
        assert_eq!(again, first, "closed and opened again, {what}");

        let (mut device, closed) = store.close();
        closed.unwrap();
        assert_eq!(page(&device, at), [0xa5; 4096], "what cannot be read is not written, {what}");
        device.write_at(at, &good);
        let mut store = open(device, power);
        let found = seen(&mut store);
        let is_damage = |finding: &&Finding| matches!(finding.what, Found::Damaged { .. });
        assert_eq!(store.findings().iter().find(is_damage), None, "{what}");
        assert!(found.values().all(|(.., content)| content.is_some()), "{what}");
        same(&expected, &found, &[changed, &["sound"]].concat(), &what);
    }
}

fn extent_page(store: &Store<MemDevice>, name: &str) -> MdPageIdx {
    let blob = store.state().blob(store.id(name)).unwrap();
    blob.pages.ordinals[&ExtentOrdinal(0)].extent.unwrap()
}

#[test]
fn the_map_of_a_snapshot_is_lost() {
    check(|store| extent_page(store, "golden"), &["disk", "old", "old@2", "new", "new@1"], &["golden"]);
}

#[test]
fn the_root_of_a_snapshot_is_lost() {
    // Nothing on disk names it but what was made of it before the checkpoint, which does not know its parent then.
    let changed = ["golden", "disk", "old", "old@2"];
    check(|store| store.id("golden").root(), &["new", "new@1"], &changed);
}

/// The snapshot is made of an lvol that cannot be read: both show what that one held when the checkpoint was made.
#[test]
fn the_map_of_an_origin_is_lost() {
    check(|store| extent_page(store, "lone@1"), &["lone@1", "of lone"], &["lone", "lone@1"]);
}
