//! Journals that are small for what is asked of them: what cannot fit is refused and harms nothing, and what can goes
//! through with no more checkpoints than it needs.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, Shared, named, options, pattern, writable};
use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::MemDevice;
use offshoot_format::{FrameHeader, FrameKind};
use offshoot_store::{CreateOptions, Error, InitOptions, IoRequest, Store, Verb};
use std::collections::{BTreeSet, VecDeque};

const CLUSTER: u64 = 16_384;

/// Carries out one operation at a time, when it is told to, and notes what checkpoints append.
#[derive(Debug)]
struct Gated {
    inner: MemDevice,
    waiting: VecDeque<(OpId, DeviceOp)>,
    open: bool,
    /// At which LSN each checkpoint was captured.
    captures: BTreeSet<u64>,
}

impl BlockDevice for Gated {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        if let DeviceOp::Write { buffer, .. } = &op {
            // Where it lies in the ring does not matter here.
            let position =
                buffer.as_slice().get(40..48).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
            let frame = position.and_then(|position| FrameHeader::decode(buffer.as_slice(), position));
            self.captures
                .extend(frame.filter(|frame| frame.kind == FrameKind::Images).map(|frame| frame.capture));
        }
        self.waiting.push_back((id, op));
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        if std::mem::take(&mut self.open) {
            self.wait(completions);
        }
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        if let Some((id, op)) = self.waiting.pop_front() {
            self.inner.submit(id, op);
            self.inner.poll(completions);
        }
    }

    fn outstanding(&self) -> usize {
        self.waiting.len()
    }
}

/// Closed once, so that what was made lies in md pages that a checkpoint writes over.
fn reopened(store: Store<MemDevice>) -> Store<MemDevice> {
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    store
}

/// Room for the journal was left on top of what lvols may need: those that are there do not take it away.
#[test]
fn the_ring_is_as_large_with_lvols_as_without() {
    let mut store =
        Store::init(MemDevice::new(64 << 20, 512), &options(16_384, 512, true), &writable()).unwrap();
    let ring = |store: &Store<MemDevice>| {
        store.super_block().native.as_ref().and_then(|native| native.journal).map(|area| area.len)
    };
    store.create("first", CLUSTER, false).unwrap();
    let empty = ring(&store);
    assert!(empty >= Some(1024), "{empty:?} pages");
    for number in 0..1000 {
        store.create(&format!("lvol{number}"), CLUSTER, false).unwrap();
    }
    let mut store = reopened(store);
    store.create("last", CLUSTER, false).unwrap();
    assert_eq!(ring(&store), empty);
}

/// The roots of its origins stay where they are, so their images must fit the ring, however many md pages are free.
#[test]
fn a_group_snapshot_of_more_lvols_than_the_ring_takes_is_refused() {
    let init = InitOptions { journal_bytes: Some(128 << 10), ..options(16_384, 512, true) };
    let mut store = Store::init(MemDevice::new(64 << 20, 512), &init, &writable()).unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("lvol{number}")).collect();
    for name in &names {
        store.create(name, CLUSTER, false).unwrap();
    }
    let mut store = reopened(store);
    let group = |store: &Store<MemDevice>, count: usize, round: usize| Verb::Snapshot {
        items: names[..count]
            .iter()
            .map(|name| (store.id(name), named(&format!("{name}@{round}"))))
            .collect(),
    };
    let verb = group(&store, names.len(), 0);
    let refused = store.execute(verb).unwrap_err();
    assert!(matches!(refused, Error::JournalRoom { .. }), "{refused:?}");
    // Nothing has changed, and what does fit goes through, as often as one likes.
    assert_eq!(store.state().lvols().count(), names.len());
    for round in 1..20 {
        let verb = group(&store, 2, round);
        store.execute(verb).unwrap();
        store.write(store.id("lvol0"), 0, pattern(4096, 1)).unwrap();
    }
    let store = reopened(store);
    assert_eq!(store.state().audit(), &[]);
    assert_eq!(store.state().lvols().count(), names.len() + 2 * 19);
}

/// A verb that has to wait for the room that a running checkpoint makes goes on behind it. A second checkpoint once
/// followed at once, because nobody looked again whether there was room now.
#[test]
fn what_waited_for_room_brings_about_one_checkpoint() {
    let init = InitOptions { journal_bytes: Some(256 << 10), ..options(16_384, 512, true) };
    let mut store = Store::init(MemDevice::new(64 << 20, 512), &init, &writable()).unwrap();
    let names: Vec<String> = (0..14).map(|number| format!("lvol{number}")).collect();
    for name in &names {
        store.create(name, 1024 * CLUSTER, false).unwrap();
    }
    let device = store.close().0;
    let gated = Gated { inner: device, waiting: VecDeque::new(), open: false, captures: BTreeSet::new() };
    let device = Shared::new(gated);
    let mut store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
    let written = store.id("lvol0");
    let mut replies = Vec::new();
    for block in 0.. {
        if !device.borrow().captures.is_empty() {
            break;
        }
        store.submit(IoRequest::Write {
            lvol: written,
            offset: block * 4096,
            data: pattern(4096, 1),
            fua: false,
        });
        while replies.pop().is_none() {
            device.borrow().open = true;
            store.poll(&mut replies);
        }
    }
    store.start(Verb::Rename { lvol: store.id("lvol1"), name: "renamed".into() });
    let items = names[2..].iter().map(|name| (store.id(name), named(&format!("{name}@")))).collect();
    store.start(Verb::Snapshot { items });
    while replies.len() < 2 {
        device.borrow().open = true;
        store.poll(&mut replies);
    }
    assert!(replies.iter().all(|(_, reply)| reply.is_ok()), "{replies:?}");
    assert_eq!(device.borrow().captures.len(), 1);
}

/// A snapshot and its clone that both own something in very many extent pages, in a store with hardly a free md page:
/// the joined pages can neither move nor be imaged all at once. The removal is refused, nothing is harmed, and it goes
/// through once md pages are free.
#[test]
fn a_removal_that_joins_more_than_the_ring_takes_is_refused_until_there_are_md_pages() {
    const EXTENT: u64 = 512 * CLUSTER;
    const JOINED: u64 = 1200;
    let mut store =
        Store::init(MemDevice::new(64 << 20, 512), &options(16_384, 512, true), &writable()).unwrap();
    let disk = store.create("disk", JOINED * EXTENT, false).unwrap();
    let fill = |store: &mut Store<MemDevice>, seed| {
        for ordinal in 0..JOINED {
            store.write(disk, ordinal * EXTENT, pattern(CLUSTER, seed)).unwrap();
        }
    };
    fill(&mut store, 1);
    store.snapshot("disk", "snapshot").unwrap();
    fill(&mut store, 2);
    let mut store = reopened(store);
    let fillers =
        (0..).take_while(|number| store.create(&format!("filler{number}"), 0, false).is_ok()).count();
    assert!(fillers > 1000, "{fillers}");
    let refused = store.remove("snapshot").unwrap_err();
    assert!(matches!(refused, Error::JournalRoom { .. }), "{refused:?}");

    let mut store = reopened(store);
    assert_eq!(store.own_clusters("snapshot"), JOINED);
    for number in 0..fillers {
        store.remove(&format!("filler{number}")).unwrap();
    }
    let mut store = reopened(store);
    store.remove("snapshot").unwrap();
    let mut store = reopened(store);
    assert_eq!(store.state().audit(), &[]);
    assert_eq!(store.own_clusters("disk"), JOINED);
    let read = store.read(disk, 5 * EXTENT, 16_384).unwrap();
    assert!(read.as_slice() == pattern(CLUSTER, 2).as_slice());
}

/// What is promised to an lvol with a reservation holds for writes of any size, in the smallest ring that there is, also
/// when not one md page is left for images to move to. Large writes were refused once, because all their records were
/// one transaction.
#[test]
fn a_promised_write_of_any_size_fits_the_smallest_ring() {
    const CLUSTERS: u64 = 1100;
    for native in [true, false] {
        let init = InitOptions { journal_bytes: Some(60 << 10), ..options(16_384, 512, native) };
        let mut store = Store::init(MemDevice::new(64 << 20, 512), &init, &writable()).unwrap();
        let options = CreateOptions { reserve: true, ..CreateOptions::default() };
        let identity = named("kept");
        store.execute(Verb::Create { identity, size_bytes: CLUSTERS * CLUSTER, options }).unwrap();
        store.execute(Verb::Create { identity: named("other"), size_bytes: CLUSTER, options }).unwrap();
        let mut store = reopened(store);
        let mut filler = 0;
        while store.create(&format!("f{filler}"), 0, false).is_ok() {
            filler += 1;
        }
        for round in 0..3 {
            let mut rest = reopened(store);
            let id = rest.id("kept");
            let data = pattern(CLUSTERS * CLUSTER, round);
            rest.write(id, 0, data.clone()).unwrap_or_else(|error| panic!("{native}, {round}: {error}"));
            let area = rest.super_block().native.as_ref().and_then(|native| native.journal);
            assert!(area.is_none_or(|area| area.len == 16), "{area:?} is not the smallest ring there is");
            let read = rest.read(id, 0, data.len()).unwrap();
            assert!(read.as_slice() == data.as_slice(), "{native}, {round}");
            // One byte in each cluster, and zeros over all of it.
            rest.write_zeroes(id, 1..CLUSTERS * CLUSTER - 1)
                .unwrap_or_else(|error| panic!("{native}, {round}: {error}"));
            rest.write(id, 0, data).unwrap();
            if round == 0 {
                (0..12).for_each(|number| rest.remove(&format!("f{number}")).unwrap());
                rest.snapshot("kept", "snap").unwrap_or_else(|error| panic!("{native}: {error}"));
            }
            store = rest;
        }
    }
}
