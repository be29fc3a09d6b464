//! External snapshots that end before the lvol does, within a cluster or a block, on devices of any sector.

use crate::lvols::{Lvols as _, pattern};
use crate::{BLOCK, CLUSTER, EXTERNAL, Failing, external, index, over, reopened};
use offshoot_device::Fault;
use offshoot_store::{Error, ErrorKind, Store};

/// What an lvol of eight clusters reads over an external snapshot of so many bytes.
fn expected(size_bytes: u64) -> Vec<u8> {
    let mut bytes = pattern(size_bytes, 5).as_slice().to_vec();
    bytes.resize(index(8 * CLUSTER), 0);
    bytes
}

/// Runs a test for each end, sector of the external snapshot and of the store, and kind of store.
fn each(test: impl Fn(&mut Store<Failing>, &Failing, Vec<u8>, u64)) {
    let ends = [0, BLOCK, 3 * CLUSTER, 3 * CLUSTER - BLOCK, 8 * CLUSTER, 12 * CLUSTER];
    let ragged = [512, 3 * CLUSTER + 512, 3 * CLUSTER + BLOCK - 512];
    let cases = ends.iter().flat_map(|end| [(*end, 512), (*end, 4096)]);
    for (size_bytes, sector) in cases.chain(ragged.map(|end| (end, 512))) {
        for (own_sector, native) in [(512, true), (4096, true), (512, false)] {
            let below = external(size_bytes, sector);
            let mut store = over(&below, own_sector, native);
            test(&mut store, &below, expected(size_bytes.min(8 * CLUSTER)), size_bytes);
            let after = below.borrow().inner().clone();
            assert!(after.stats().writes.ops == 0, "the external snapshot was written to");
            let content = store.content("e");
            let mut store = reopened(store, vec![(EXTERNAL.to_string(), below)]);
            assert!(store.content("e") == content, "{size_bytes} in {sector}: differs once reopened");
        }
    }
}

#[test]
fn behind_the_end_are_zeros() {
    each(|store, _, expected, size_bytes| {
        assert!(store.content("e") == expected, "{size_bytes}");
        let lvol = store.id("e");
        let end = size_bytes.min(7 * CLUSTER);
        for (start, len) in
            [(end.saturating_sub(700), 1000), (end.saturating_sub(1), 2), (end, 1), (513, 20_000)]
        {
            let read = store.read(lvol, start, index(len)).unwrap();
            assert!(*read.as_slice() == expected[index(start)..index(start + len)], "{start}+{len}");
        }
    });
}

#[test]
fn first_writes_across_the_end() {
    each(|store, _, mut expected, size_bytes| {
        let lvol = store.id("e");
        let end = size_bytes.clamp(600, 7 * CLUSTER);
        for (start, len, seed) in [(end - 600, 900, 1), (2 * CLUSTER + 100, 50, 2), (5 * CLUSTER - 1, 2, 3)] {
            store.write(lvol, start, pattern(len, seed)).unwrap();
            expected[index(start)..index(start + len)].copy_from_slice(pattern(len, seed).as_slice());
            assert!(store.content("e") == expected, "{size_bytes}: {start}+{len}");
        }
    });
}

#[test]
fn trims_and_zeros_across_the_end() {
    each(|store, _, mut expected, size_bytes| {
        let lvol = store.id("e");
        let end = size_bytes.clamp(600, 7 * CLUSTER);
        store.write_zeroes(lvol, end - 600..end + 300).unwrap();
        expected[index(end - 600)..index(end + 300)].fill(0);
        assert!(store.content("e") == expected, "{size_bytes}");
        store.unmap(lvol, CLUSTER..4 * CLUSTER).unwrap();
        if store.state().native_allowed {
            expected[index(CLUSTER)..index(4 * CLUSTER)].fill(0);
        } else {
            // Where nothing could hide it, what the lvol does not hold itself is left alone, as SPDK does.
            let own = (end - 600) / CLUSTER..=(end + 299) / CLUSTER;
            for cluster in own.filter(|cluster| (1..4).contains(cluster)) {
                expected[index(cluster * CLUSTER)..][..index(CLUSTER)].fill(0);
            }
        }
        assert!(store.content("e") == expected, "{size_bytes}: trimmed");
    });
}

#[test]
fn shrunk_and_grown_it_shows_no_more() {
    each(|store, _, mut expected, size_bytes| {
        store.resize("e", 2 * CLUSTER).unwrap();
        store.resize("e", 8 * CLUSTER).unwrap();
        expected[index(2 * CLUSTER)..].fill(0);
        assert!(store.content("e") == expected, "{size_bytes}");
    });
}

/// A read that fails below is the reader's loss alone.
#[test]
fn errors_of_the_external_snapshot_stay_with_their_request() {
    for native in [true, false] {
        let below = external(3 * CLUSTER, 512);
        let mut store = over(&below, 512, native);
        let lvol = store.id("e");
        let free = store.free();
        below.borrow().inject(Fault::new(5));
        assert_eq!(store.read(lvol, 0, 512).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(store.read(lvol, 2 * CLUSTER, index(2 * CLUSTER)).unwrap_err().kind(), ErrorKind::Io);
        // The rest of the block is needed.
        assert!(matches!(store.write(lvol, 100, pattern(50, 1)), Err(Error::Device(_))));
        assert_eq!(store.free(), free, "a write that failed keeps a cluster");
        store.write(lvol, 4 * CLUSTER, pattern(BLOCK, 2)).unwrap();
        assert_eq!(store.read(lvol, 4 * CLUSTER, 4096).unwrap().as_slice(), pattern(BLOCK, 2).as_slice());
        assert_eq!(store.engine().failure(), None);
        below.borrow().heal();
        store.write(lvol, 100, pattern(50, 1)).unwrap();
        let mut all = expected(3 * CLUSTER);
        all[100..150].copy_from_slice(pattern(50, 1).as_slice());
        all[index(4 * CLUSTER)..index(4 * CLUSTER + BLOCK)].copy_from_slice(pattern(BLOCK, 2).as_slice());
        assert!(store.content("e") == all);
    }
}

/// One that comes late makes a degraded lvol whole.
#[test]
fn it_may_come_while_the_store_is_open() {
    let below = external(3 * CLUSTER, 512);
    let mut store = over(&below, 512, true);
    store.snapshot("e", "snap").unwrap();
    store.clone_of("snap", "clone").unwrap();
    let mut store = reopened(store, Vec::new());
    for name in ["e", "snap", "clone"] {
        let lvol = store.id(name);
        assert!(store.engine().is_degraded(lvol), "{name}");
        assert_eq!(store.read(lvol, 0, 512).unwrap_err(), Error::Degraded(name.into()));
    }
    let lvol = store.id("clone");
    store.write(lvol, 0, pattern(BLOCK, 1)).unwrap();
    assert!(matches!(store.write(lvol, BLOCK, pattern(512, 1)), Err(Error::Degraded(_))));
    store.attach_external(&EXTERNAL.to_string(), below);
    for name in ["e", "snap"] {
        assert!(store.content(name) == expected(3 * CLUSTER), "{name}");
    }
    store.write(lvol, BLOCK, pattern(512, 1)).unwrap();
    assert!(store.content("clone")[4608..] == expected(3 * CLUSTER)[4608..]);
}
