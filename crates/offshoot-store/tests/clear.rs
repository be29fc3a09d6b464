//! Clear methods: what becomes of clusters that an lvol lets go of, and that nobody reads what they held in any case (D4).

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, Shared, named, options, pattern, writable};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::MemDevice;
use offshoot_format::{BlobCluster, ClusterIdx};
use offshoot_store::{ClearMethod, CreateOptions, InitOptions, Store, Verb};

const CLUSTER: u64 = 16_384;
const LEN: u64 = 4 * CLUSTER;

/// What a discarded range holds: anything is allowed.
const DISCARDED: u8 = 0xee;

/// A device whose discards leave a mark.
#[derive(Debug)]
struct Marking(MemDevice);

impl BlockDevice for Marking {
    fn geometry(&self) -> DeviceGeometry {
        self.0.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let op = match op {
            DeviceOp::Unmap { offset, len } => {
                let mut buffer = Buffer::zeroed(usize::try_from(len).unwrap());
                buffer.as_mut_slice().fill(DISCARDED);
                DeviceOp::Write { offset, buffer }
            }
            op => op,
        };
        self.0.submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.0.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        self.0.outstanding()
    }
}

type Device = Shared<Marking>;

fn new_store(options: &InitOptions) -> (Store<Device>, Device) {
    let device = Shared::new(Marking(MemDevice::new(16 << 20, 512)));
    (Store::init(device.clone(), options, &writable()).unwrap(), device)
}

fn create(store: &mut Store<Device>, name: &str, clear_method: ClearMethod) {
    let options = CreateOptions { clear_method, ..CreateOptions::provisioned(false) };
    store.run(Verb::Create { identity: named(name), size_bytes: LEN, options }).unwrap();
    let id = store.id(name);
    store.write(id, 0, pattern(LEN, 3)).unwrap();
}

/// Where the last cluster of an lvol is.
fn last_cluster(store: &Store<Device>, name: &str) -> ClusterIdx {
    let state = store.state();
    let entry = state.blob(store.id(name)).unwrap().tree.entry(BlobCluster(3));
    entry.clusters_of(|_| true).next().unwrap()
}

fn method_of(store: &Store<Device>, name: &str) -> ClearMethod {
    store.state().blob(store.id(name)).unwrap().flags.clear_method()
}

/// What lets go of the last cluster of "a".
type Release = (&'static str, fn(&mut Store<Device>));

const RELEASES: [Release; 4] = [
    ("removal", |store| store.remove("a").unwrap()),
    ("a smaller size", |store| store.resize("a", LEN - CLUSTER).unwrap()),
    ("removal of a snapshot", |store| {
        store.snapshot("a", "s").unwrap();
        let id = store.id("a");
        store.write(id, 0, pattern(LEN, 4)).unwrap();
        store.remove("s").unwrap();
    }),
    ("revert", |store| {
        let (lvol, snapshot) = (store.id("a"), store.snapshot("a", "s").unwrap());
        store.resize("a", 0).unwrap();
        store.run(Verb::Revert { lvol, snapshot }).unwrap();
        store.remove("a").unwrap();
        store.remove("s").unwrap();
    }),
];

const METHODS: [(ClearMethod, Option<u8>); 4] = [
    (ClearMethod::Default, Some(DISCARDED)),
    (ClearMethod::Unmap, Some(DISCARDED)),
    (ClearMethod::WriteZeroes, Some(0)),
    (ClearMethod::None, None),
];

#[test]
fn each_is_honoured_and_none_shows_anything() {
    for native in [true, false] {
        for (method, expected) in METHODS {
            for (what, release) in RELEASES {
                let (mut store, device) = new_store(&options(16_384, 512, native));
                create(&mut store, "a", method);
                let at = store.state().layout.cluster_offset(last_cluster(&store, "a"));
                let mut before = vec![0; 16_384];
                device.borrow().0.read_at(at, &mut before);
                release(&mut store);
                store.close().1.unwrap();
                let mut after = vec![0; 16_384];
                device.borrow().0.read_at(at, &mut after);
                let expected = expected.map_or(before, |byte| vec![byte; 16_384]);
                assert!(after == expected, "{method:?}, {what}, native: {native}: {:?}", &after[..4]);
                nobody_reads_it(Store::open(device, Vec::new(), &writable()).unwrap());
            }
        }
    }
}

/// New lvols over all free clusters read zeros, but for what is written.
fn nobody_reads_it(mut store: Store<Device>) {
    assert_eq!(store.findings(), &[]);
    let thin = store.create("thin", 8 * CLUSTER, false).unwrap();
    for cluster in 0..8 {
        store.write(thin, cluster * CLUSTER + 5000, pattern(100, 9)).unwrap();
    }
    let free = store.free();
    store.create("thick", free * CLUSTER, true).unwrap();
    let content = store.content("thin");
    let is_written = |at: usize| (5000..5100).contains(&(at % 16_384));
    assert!((0..content.len()).all(|at| is_written(at) || content[at] == 0));
    assert!(store.content("thick").iter().all(|byte| *byte == 0));
}

#[test]
fn it_is_stored_as_spdk_does() {
    for (method, _) in METHODS {
        let (mut store, device) = new_store(&options(16_384, 512, true));
        create(&mut store, "a", method);
        store.snapshot("a", "s").unwrap();
        store.clone_of("s", "c").unwrap();
        store.close().1.unwrap();
        let store = Store::open(device, Vec::new(), &writable()).unwrap();
        let found = ["a", "s", "c"].map(|name| method_of(&store, name));
        assert_eq!(found, [method, method, ClearMethod::Default]);
        assert_eq!(store.state().blob(store.id("a")).unwrap().flags.md_ro, method as u64);
    }
}

#[test]
fn what_a_client_trims_is_unmapped() {
    for (method, _) in METHODS {
        let (mut store, device) = new_store(&options(16_384, 512, true));
        create(&mut store, "a", method);
        let at = store.state().layout.cluster_offset(last_cluster(&store, "a"));
        let id = store.id("a");
        store.unmap(id, 3 * CLUSTER..4 * CLUSTER).unwrap();
        store.close().1.unwrap();
        let mut after = vec![0; 16_384];
        device.borrow().0.read_at(at, &mut after);
        assert!(after.iter().all(|byte| *byte == DISCARDED), "{method:?}");
    }
}

#[test]
fn a_new_store_clears_its_space() {
    for (clear_method, expected) in METHODS {
        let device = Shared::new(Marking(MemDevice::with_content(&vec![7; 16 << 20], 512)));
        let options = InitOptions { clear_method, ..options(16_384, 512, true) };
        let store = Store::init(device.clone(), &options, &writable()).unwrap();
        let mut last = [0];
        device.borrow().0.read_at((16 << 20) - 1, &mut last);
        assert_eq!(last[0], expected.unwrap_or(7), "{clear_method:?}");
        nobody_reads_it(store);
    }
}
