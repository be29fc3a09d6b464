//! A journal whose records go on from lvols of which the metadata is lost (D6): what was made of those has a history
//! of its own, which is replayed; what it inherits comes back with what was lost.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, options, pattern, writable_in};
use offshoot_block::BlockDevice as _;
use offshoot_device::MemDevice;
use offshoot_format::{ExtentOrdinal, MdPageIdx};
use offshoot_store::{Found, Store, Underlay, Verb, Work};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use uuid::Uuid;

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

/// What is seen of an lvol: size in clusters, own clusters, and each block that can be read.
#[derive(Clone, Debug, PartialEq)]
struct Lvol {
    size: (u64, u64),
    blocks: Vec<Option<Vec<u8>>>,
}

type Seen = BTreeMap<String, Lvol>;

fn seen(store: &mut Store<MemDevice>) -> Seen {
    let lvols: Vec<_> = store
        .state()
        .lvols()
        .map(|blob| (blob.id, blob.display_name(), (blob.len, blob.own_clusters)))
        .collect();
    let mut read = |id, at| store.read(id, at * BLOCK, 4096).ok().map(|read| read.as_slice().to_vec());
    lvols
        .into_iter()
        .map(|(id, name, size)| {
            let blocks = (0..size.0 * CLUSTER / BLOCK).map(|at| read(id, at)).collect();
            (name, Lvol { size, blocks })
        })
        .collect()
}

/// A page that is lost, and what that costs.
struct Case {
    lost: fn(&Store<MemDevice>) -> MdPageIdx,
    /// Lvols of which not every block can be read.
    damaged: &'static [&'static str],
    /// Lvols of which nothing is known.
    unknown: &'static [&'static str],
    /// Lvols of which changes are lost for good.
    outdated: &'static [&'static str],
}

impl Case {
    /// Dies, loses a page, is opened for writing and closed, and gets the page back.
    fn check(&self) {
        for power in [SESSION, AFTER_POWER_LOSS] {
            let mut store = base();
            live(&mut store);
            let expected = seen(&mut store);
            let at = store.state().layout.md_page_offset((self.lost)(&store));
            let mut device = store.device().clone();
            let good = page(&device, at);
            device.write_at(at, &[0xa5; 4096]);

            let mut device = self.live_on(device, power, &expected);
            assert_eq!(page(&device, at), [0xa5; 4096], "what cannot be read is not written, {power:?}");
            device.write_at(at, &good);
            let mut store = open(device, power);
            let what = format!("{power:?}: {:?}", store.findings());
            let found = seen(&mut store);
            for (name, lvol) in expected.iter().filter(|(name, _)| *name != "sound") {
                let is_outdated = self.outdated.contains(&name.as_str());
                assert_eq!(
                    store.state().blob(store.id(name)).unwrap().damage.is_some(),
                    is_outdated,
                    "{what}"
                );
                assert!(is_outdated || found.get(name) == Some(lvol), "{name}, {what}");
            }
        }
    }

    /// Opens the store without the page, uses what is sound, closes it and opens it again.
    fn live_on(&self, device: MemDevice, power: offshoot_store::Session, expected: &Seen) -> MemDevice {
        let mut store = open(device, power);
        let what = format!("{power:?}: {:?}", store.findings());
        assert_eq!(store.engine().read_only_cause(), None, "{what}");
        let first = seen(&mut store);
        for (name, lvol) in expected.iter().filter(|(name, _)| !self.unknown.contains(&name.as_str())) {
            let found = &first[name];
            let is_damaged = self.damaged.contains(&name.as_str());
            assert_eq!(found.size.0, lvol.size.0, "{name}, {what}");
            assert!(self.outdated.contains(&name.as_str()) || found.size.1 == lvol.size.1, "{name}, {what}");
            for (number, (found, block)) in found.blocks.iter().zip(&lvol.blocks).enumerate() {
                assert!(found == block || is_damaged && found.is_none(), "{name}, block {number}, {what}");
            }
            let id = store.id(name);
            let is_it = |found: &Found| matches!(found, Found::Damaged { blob, .. } if *blob == id);
            let is_told = store.findings().iter().any(|finding| is_it(&finding.what));
            assert_eq!((found.blocks.contains(&None), is_told), (is_damaged, is_damaged), "{name}, {what}");
        }
        assert_eq!(store.state().audit(), &[], "{what}");
        let sound = store.id("sound");
        store.write(sound, 100 * CLUSTER, pattern(CLUSTER, 11)).unwrap();
        store.create("later", CLUSTER, true).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();

        let mut store = open(device, power);
        let mut again = seen(&mut store);
        again.remove("later");
        again.insert("sound".into(), first["sound"].clone());
        // What the journal knew of one that is outdated is gone with it.
        let (mut first, mut again) = (first, again);
        for name in self.outdated {
            let (before, after) = (first.remove(*name).unwrap(), again.remove(*name).unwrap());
            let mut blocks = before.blocks.iter().zip(&after.blocks);
            assert!(
                before.size == after.size && blocks.all(|(old, new)| new.is_none() || new == old),
                "{what}"
            );
        }
        assert!(again == first, "closed and opened again, {what}");
        let (device, closed) = store.close();
        closed.unwrap();
        device
    }
}

fn page(device: &MemDevice, at: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    device.read_at(at, &mut page);
    page
}

fn extent_page(store: &Store<MemDevice>, name: &str) -> MdPageIdx {
    let blob = store.state().blob(store.id(name)).unwrap();
    blob.pages.ordinals[&ExtentOrdinal(0)].extent.unwrap()
}

#[test]
fn the_map_of_a_snapshot_is_lost() {
    let case = Case {
        lost: |store| extent_page(store, "golden"),
        damaged: &["disk", "old", "old@2", "new", "new@1"],
        unknown: &["golden"],
        outdated: &[],
    };
    case.check();
}

#[test]
fn the_root_of_a_snapshot_is_lost() {
    let case = Case {
        lost: |store| store.id("golden").root(),
        damaged: &["disk", "old", "old@2", "new", "new@1"],
        unknown: &["golden"],
        outdated: &[],
    };
    case.check();
}

/// The snapshot is made of an lvol that cannot be read and was written to afterwards: what it held is known no more.
#[test]
fn the_map_of_an_origin_is_lost() {
    let names = &["lone", "lone@1", "of lone"];
    let case =
        Case { lost: |store| extent_page(store, "lone@1"), damaged: names, unknown: &[], outdated: names };
    case.check();
}

/// What happens to an lvol of 600 clusters, of which the second extent page is rotten, after the last checkpoint, and
/// then to `sound`, which may get what comes free.
fn with_rotten_tail(since: impl FnOnce(&mut Store<MemDevice>)) -> (Store<MemDevice>, Vec<u8>) {
    let mut store = base();
    let big = store.create("big", 600 * CLUSTER, false).unwrap();
    for at in [0, 1, 2, 560, 561] {
        store.write(big, at * CLUSTER, pattern(CLUSTER, 5)).unwrap();
    }
    let (device, closed) = store.close();
    closed.unwrap();
    let mut store = open(device, SESSION);
    let extent = store.state().blob(big).unwrap().pages.ordinals[&ExtentOrdinal(1)].extent.unwrap();
    let at = store.state().layout.md_page_offset(extent);
    since(&mut store);
    let sound = store.id("sound");
    // The first free clusters come first: those that were let go are among them once the barrier is passed.
    for cluster in 4..12 {
        store.flush().unwrap();
        store.write(sound, cluster * CLUSTER, pattern(CLUSTER, 6)).unwrap();
    }
    store.flush().unwrap();
    let expected = store.content("sound");
    let mut device = store.device().clone();
    device.write_at(at, &[0xa5; 4096]);
    (open(device, SESSION), expected)
}

/// A record about an lvol that cannot be read has let go of what it had, and a later one has given that to another. The
/// journal was given up there, and with it what was flushed since.
#[test]
fn what_damaged_lvols_let_go_of_may_be_anothers() {
    type Since = fn(&mut Store<MemDevice>);
    let table: [(&str, Since); 6] = [
        ("unmap", |store| store.unmap(store.id("big"), 0..CLUSTER).unwrap()),
        ("shrink", |store| store.resize("big", CLUSTER).unwrap()),
        ("removal", |store| store.remove("big").unwrap()),
        ("removal of its snapshot", |store| {
            store.snapshot("big", "big@1").unwrap();
            store.write(store.id("big"), 0, pattern(CLUSTER, 7)).unwrap();
            store.remove("big@1").unwrap();
        }),
        ("removal of both", |store| {
            store.snapshot("big", "big@1").unwrap();
            store.remove("big").unwrap();
            store.remove("big@1").unwrap();
        }),
        ("revert", |store| {
            store.snapshot("big", "big@1").unwrap();
            store.write(store.id("big"), 0, pattern(CLUSTER, 7)).unwrap();
            let snapshot = store.id("big@1");
            store.execute(Verb::Revert { lvol: store.id("big"), snapshot }).unwrap();
        }),
    ];
    for (what, since) in table {
        let (mut store, expected) = with_rotten_tail(since);
        for opening in 0..3 {
            let told = format!("{what}, opening {opening}: {:?}", store.findings());
            assert_eq!(store.engine().read_only_cause(), None, "{told}");
            assert!(store.content("sound") == expected, "{told}");
            assert_eq!(store.state().audit(), &[], "{told}");
            // Nobody gets what may be another's.
            let all = u64::from(store.state().layout.total_data_clusters());
            let more = store.create(&format!("more {opening}"), all * CLUSTER, false).unwrap();
            let written = (0..all).map(|at| store.write(more, at * CLUSTER, pattern(CLUSTER, 8)));
            assert!(written.take_while(Result::is_ok).count() > 0 || opening > 0, "{told}");
            assert!(store.content("sound") == expected, "{told}");
            let (device, closed) = store.close();
            closed.unwrap();
            store = open(device, SESSION);
        }
    }
}

/// A fill lets go of a cluster of a snapshot that its clones read as well. A clone of which not all can be read read on
/// from it.
#[test]
fn what_is_known_of_a_damaged_clone_follows_a_fill() {
    let mut store = base();
    let lvol = store.create("lvol", 600 * CLUSTER, false).unwrap();
    store.write(lvol, 0, pattern(CLUSTER, 1)).unwrap();
    store.snapshot("lvol", "hidden").unwrap();
    store.write(lvol, 0, pattern(BLOCK, 2)).unwrap();
    store.remove("hidden").unwrap();
    store.snapshot("lvol", "snapshot").unwrap();
    let clone = store.clone_of("snapshot", "clone").unwrap();
    store.write(clone, 560 * CLUSTER, pattern(CLUSTER, 3)).unwrap();
    let mut store = open(store.close().0, SESSION);
    let extent = store.state().blob(clone).unwrap().pages.ordinals[&ExtentOrdinal(1)].extent.unwrap();
    let at = store.state().layout.md_page_offset(extent);
    let expected = store.read(clone, 0, 16_384).unwrap();
    let before = store.state().clusters.free();
    store.run_job(Work::Seal, |_| ControlFlow::Continue(())).unwrap();
    store.flush().unwrap();
    let free = store.state().clusters.free();
    assert!(free > before, "nothing was let go: {free} clusters are free, {before} were");
    let more = store.create("more", free as u64 * CLUSTER, false).unwrap();
    let written = (0..free as u64).map(|at| store.write(more, at * CLUSTER, pattern(CLUSTER, 8)));
    assert!(written.take_while(Result::is_ok).count() > 0);
    store.flush().unwrap();

    let mut device = store.device().clone();
    device.write_at(at, &[0xa5; 4096]);
    let mut store = open(device, SESSION);
    assert!(store.state().blob(clone).unwrap().damage.is_some());
    assert!(store.read(clone, 0, 16_384).unwrap().as_slice() == expected.as_slice());
}

/// An lvol has taken up a snapshot whose root is lost. What is written to a cluster of that and zeroed again is not all
/// that the cluster holds: nobody gets it.
#[test]
fn what_a_lost_snapshot_left_to_its_clone_is_kept() {
    type Since = fn(&mut Store<MemDevice>);
    let table: [(&str, Since); 2] = [
        ("merge", |store| {
            let (oldest, into) = (store.id("snapshot"), store.id("lvol"));
            store.write(into, 3 * BLOCK, pattern(BLOCK, 2)).unwrap();
            store.run_job(Work::Merge { oldest, into }, |_| ControlFlow::Continue(())).unwrap();
        }),
        ("removal", |store| {
            store.remove("snapshot").unwrap();
            store.write(store.id("lvol"), 3 * BLOCK, pattern(BLOCK, 2)).unwrap();
        }),
    ];
    for (what, since) in table {
        let mut store = base();
        let lvol = store.create("lvol", 4 * CLUSTER, false).unwrap();
        store.write(lvol, 0, pattern(BLOCK, 11)).unwrap();
        let snapshot = store.snapshot("lvol", "snapshot").unwrap();
        let mut store = open(store.close().0, SESSION);
        since(&mut store);
        store.write_zeroes(lvol, 3 * BLOCK..4 * BLOCK).unwrap();
        store.flush().unwrap();
        let mut device = store.device().clone();
        let held = pattern(BLOCK, 11);
        let is_held = |at: &u64| page(&device, *at) == held.as_slice();
        let at = (0..device.geometry().size_bytes).step_by(4096).find(is_held).unwrap();
        device.write_at(store.state().layout.md_page_offset(snapshot.root()), &[0xa5; 4096]);

        let mut store = open(device, SESSION);
        for opening in 0..3 {
            let all = u64::from(store.state().layout.total_data_clusters());
            let more = store.create(&format!("more {opening}"), all * CLUSTER, false).unwrap();
            let written = (0..all).map(|at| store.write(more, at * CLUSTER, pattern(CLUSTER, 8)));
            assert!(written.take_while(Result::is_ok).count() > 0 || opening > 0, "{what}");
            let (device, closed) = store.close();
            closed.unwrap();
            assert!(page(&device, at) == held.as_slice(), "{what}, opening {opening}");
            store = open(device, SESSION);
        }
    }
}

/// A snapshot that inherits from one that is lost is filled, and its clone takes it over: what the fill has brought is
/// known, and nobody else's.
#[test]
fn what_a_fill_has_brought_goes_to_a_clone() {
    let mut store = base();
    let lvol = store.create("lvol", 2 * CLUSTER, false).unwrap();
    store.write(lvol, 0, pattern(2 * CLUSTER, 1)).unwrap();
    store.snapshot("lvol", "lost").unwrap();
    store.snapshot("lvol", "filled").unwrap();
    let mut store = open(store.close().0, SESSION);
    let lost = extent_page(&store, "lost");
    store.run_job(Work::Inflate { lvol: store.id("filled") }, |_| ControlFlow::Continue(())).unwrap();
    store.remove("lost").unwrap();
    store.remove("filled").unwrap();
    store.flush().unwrap();

    let mut device = store.device().clone();
    device.write_at(store.state().layout.md_page_offset(lost), &[0xa5; 4096]);
    let mut store = open(device, SESSION);
    assert_eq!(store.own_clusters("lvol"), 2);
    assert!(store.content("lvol") == pattern(2 * CLUSTER, 1).as_slice());
}

/// Zeros over what is lost: in life nothing lay below them, so that the lvol did not say them, and what it was put onto
/// shows. Nobody can tell any more, and nobody is told zeros.
#[test]
fn zeros_that_hid_nothing_hide_nothing_new() {
    let mut store = base();
    let lvol = store.create("lvol", 2 * CLUSTER, false).unwrap();
    store.write(lvol, CLUSTER, pattern(CLUSTER, 1)).unwrap();
    store.snapshot("lvol", "lost").unwrap();
    let mut store = open(store.close().0, SESSION);
    let lost = store.id("lost").root();
    store.write(lvol, 0, pattern(CLUSTER, 3)).unwrap();
    store.unmap(lvol, 0..CLUSTER).unwrap();
    store.write(lvol, 0, pattern(BLOCK, 3)).unwrap();
    let external = Uuid::from_u128(9);
    let below = MemDevice::with_content(pattern(2 * CLUSTER, 2).as_slice(), 512);
    store.attach_external(&external.to_string(), below.clone());
    store.run(Verb::SetParent { lvol, underlay: Underlay::External(external) }).unwrap();
    store.flush().unwrap();
    let shown = store.read(lvol, BLOCK, 4096).unwrap();
    assert!(shown.as_slice() == &pattern(2 * CLUSTER, 2).as_slice()[4096..8192]);
    let mut device = store.device().clone();
    device.write_at(store.state().layout.md_page_offset(lost), &[0xa5; 4096]);
    let mut store = open(device, SESSION);
    store.attach_external(&external.to_string(), below);
    let after = store.read(lvol, BLOCK, 4096);
    assert!(after.is_err() || after.is_ok_and(|after| after.as_slice() == shown.as_slice()));
}
