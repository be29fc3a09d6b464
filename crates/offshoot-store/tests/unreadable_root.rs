//! A store with an lvol of which the root page cannot be read: what a session and a close make of it, wherever a crash
//! cuts them off. Once the page is back, the lvol must be, too.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;
#[path = "crash/tape.rs"]
mod tape;

use lvols::{Lvols as _, SESSION, options, pattern, writable, writable_in};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_format::{MdPageIdx, SuperBlock};
use offshoot_store::{Finding, Found, InitOptions, Store, Verb};
use std::collections::BTreeMap;
use tape::Taped;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;

/// What each lvol reads, by name.
type Content = BTreeMap<String, Vec<u8>>;

/// A store at rest, or as SPDK leaves it when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Native,
    Plain,
    Dirty,
}

/// A store that lacks a page.
struct Bench {
    device: MemDevice,
    content: Content,
    /// Where the page lies, and what was there.
    lost: (u64, Vec<u8>),
}

impl Bench {
    fn new(kind: Kind, lost: impl FnOnce(&Store<MemDevice>) -> MdPageIdx) -> Self {
        let init =
            InitOptions { journal_bytes: Some(256 << 10), ..options(16_384, 512, kind == Kind::Native) };
        let mut store = Store::init(MemDevice::new(2 << 20, 512), &init, &writable()).unwrap();
        let torn = store.create("torn", 8 * CLUSTER, false).unwrap();
        // In part, where that can be said.
        store.write(torn, 0, pattern(3 * BLOCK, 1)).unwrap();
        store.write(torn, 3 * CLUSTER, pattern(CLUSTER, 2)).unwrap();
        let disk = store.create("disk", 8 * CLUSTER, false).unwrap();
        store.write(disk, 0, pattern(4 * CLUSTER, 3)).unwrap();
        store.snapshot("disk", "snapshot").unwrap();
        store.write(disk, CLUSTER, pattern(CLUSTER, 4)).unwrap();
        let content = content(&mut store);
        let at = store.state().layout.md_page_offset(lost(&store));
        let (mut device, closed) = store.close();
        closed.unwrap();
        if kind == Kind::Dirty {
            let super_block = super_block(&device);
            device.write_at(0, &SuperBlock { clean: 0, ..super_block }.encode());
        }
        assert_eq!(super_block(&device).is_native(), kind == Kind::Native);
        let mut page = vec![0; 4096];
        device.read_at(at, &mut page);
        let mut bench = Self { device, content, lost: (at, page) };
        // Torn: its first sector is an older one.
        bench.device.write_at(at + 100, &[0x5a; 412]);
        bench
    }

    /// Puts the page back. Then everything is there.
    fn restore(&self, mut device: MemDevice, what: &str) {
        let (at, page) = &self.lost;
        device.write_at(*at, page);
        let mut store = open(device, what);
        // What was held back for it may stay held back.
        let is_surplus = |finding: &Finding| matches!(finding.what, Found::Mask { missing: 0, .. });
        assert!(store.state().audit().iter().all(is_surplus), "{what}: {:?}", store.state().audit());
        let found = content(&mut store);
        for (name, expected) in &self.content {
            assert!(found.get(name) == Some(expected), "{name}, {what}: {:?}", store.findings());
        }
    }
}

fn super_block(device: &MemDevice) -> SuperBlock {
    let mut block = vec![0; 4096];
    device.read_at(0, &mut block);
    SuperBlock::decode(&block).unwrap()
}

fn open<D: BlockDevice>(device: D, what: &str) -> Store<D> {
    let store = Store::open(device, Vec::new(), &writable_in(Some(SESSION))).unwrap();
    assert_eq!(store.engine().read_only_cause(), None, "{what}: {:?}", store.findings());
    store
}

/// Of those that can be read.
fn content<D: BlockDevice>(store: &mut Store<D>) -> Content {
    let sound = store.state().lvols().filter(|lvol| lvol.damage.is_none());
    let names: Vec<String> = sound.map(|lvol| lvol.display_name()).collect();
    names.into_iter().map(|name| (name.clone(), store.content(&name))).collect()
}

/// Takes every cluster and many md pages that are to be had.
fn use_all<D: BlockDevice>(store: &mut Store<D>) {
    for number in 0..20 {
        if store.create(&format!("small {number}"), CLUSTER, false).is_err() {
            break;
        }
    }
    let all = store.create("all", 128 * CLUSTER, false);
    for at in 0..all.iter().len() as u64 * 128 {
        if store.write(*all.as_ref().unwrap(), at * CLUSTER, pattern(CLUSTER, 9)).is_err() {
            break;
        }
    }
}

/// The lvol of which the root is lost, and those that it hits.
const LOST: [(&str, &[&str]); 2] = [("torn", &["torn"]), ("snapshot", &["snapshot", "disk"])];

/// Opened, changed and closed without the page, and cut off at every operation of that: the next opening takes what it
/// can get, and gives nothing away.
fn cut_everywhere(kind: Kind, change: fn(&mut Store<Taped>)) {
    for (lost, hit) in LOST {
        let bench = Bench::new(kind, |store| store.id(lost).root());
        let is_sound = |(name, _): &(&String, &Vec<u8>)| !hit.contains(&name.as_str());
        let sound: Vec<_> = bench.content.iter().filter(is_sound).collect();
        let taped = Taped::new(bench.device.clone());
        let mut store = open(taped.clone(), "at first");
        change(&mut store);
        let (_, closed) = store.close();
        closed.unwrap();
        let tape = taped.tape();
        for cut in 0..=tape.len() {
            let what = format!("{kind:?} without {lost}, cut {cut}, behind {:?}", tape.last_before(cut));
            let mut store = open(tape.device_after(cut), &what);
            let found = content(&mut store);
            assert!(sound.iter().all(|(name, read)| found.get(*name) == Some(*read)), "{what}");
            use_all(&mut store);
            let (device, closed) = store.close();
            closed.unwrap();
            bench.restore(device, &what);
        }
    }
}

#[test]
fn nothing_is_lost_with_an_opening_of_a_native_store() {
    cut_everywhere(Kind::Native, |_| {});
}

#[test]
fn nothing_is_lost_with_an_opening_of_a_plain_store() {
    cut_everywhere(Kind::Plain, |_| {});
}

#[test]
fn nothing_is_lost_with_an_opening_of_a_dirty_store() {
    cut_everywhere(Kind::Dirty, |_| {});
}

#[test]
fn nothing_is_lost_with_a_session() {
    for kind in [Kind::Native, Kind::Plain, Kind::Dirty] {
        cut_everywhere(kind, |store| {
            store.create("made", 4 * CLUSTER, false).unwrap();
        });
    }
}

/// What cannot be read may be something that SPDK does not know. A plain store holds nothing of that kind.
#[test]
fn a_close_seals_only_what_was_plain() {
    for (kind, is_native) in [(Kind::Native, true), (Kind::Plain, false), (Kind::Dirty, false)] {
        for lost in ["torn", "snapshot"] {
            let bench = Bench::new(kind, |store| store.id(lost).root());
            let mut store = open(bench.device.clone(), lost);
            store.create("made", CLUSTER, false).unwrap();
            let (device, closed) = store.close();
            closed.unwrap();
            assert_eq!(super_block(&device).is_native(), is_native, "{kind:?} without {lost}");
        }
    }
}

/// Once the lvol that cannot be read is removed, nothing keeps the store from being sealed.
#[test]
fn a_store_is_sealed_once_what_is_unreadable_has_gone() {
    let bench = Bench::new(Kind::Native, |store| store.id("torn").root());
    let mut store = open(bench.device.clone(), "at first");
    let torn = store.state().lvols().find(|lvol| lvol.damage.is_some()).map(|lvol| lvol.id);
    store.execute(Verb::Remove { lvol: torn.unwrap() }).unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    assert!(!super_block(&device).is_native());
}
