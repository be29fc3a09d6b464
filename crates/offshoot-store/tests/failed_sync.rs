//! A sync that fails and takes with it what was written before (D4): a device need not have that any more, and shows
//! what was there earlier.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, SESSION, options, pattern, writable_in};
use offshoot_block::{BlockDevice, Completion, DeviceError, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::MemDevice;
use offshoot_store::{Error, ErrorKind, Store};
use std::cell::RefCell;
use std::rc::Rc;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;

/// A device with a cache, which the next sync may lose.
#[derive(Clone)]
struct Forgetful(Rc<RefCell<Inner>>);

struct Inner {
    /// What it shows.
    view: MemDevice,
    /// What the last sync made durable.
    durable: MemDevice,
    loses: bool,
    lost: Vec<OpId>,
}

impl BlockDevice for Forgetful {
    fn geometry(&self) -> DeviceGeometry {
        self.0.borrow().view.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let inner = &mut *self.0.borrow_mut();
        match (&op, inner.loses) {
            (DeviceOp::Sync, true) => {
                inner.view = inner.durable.clone();
                inner.lost.push(id);
            }
            (DeviceOp::Sync, false) => {
                inner.durable = inner.view.clone();
                inner.view.submit(id, op);
            }
            _ => inner.view.submit(id, op),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        let inner = &mut *self.0.borrow_mut();
        inner.view.poll(completions);
        let failed = |id| Completion { id, buffer: None, result: Err(DeviceError::Io { errno: 5 }) };
        completions.extend(inner.lost.drain(..).map(failed));
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        let inner = self.0.borrow();
        inner.view.outstanding() + inner.lost.len()
    }
}

/// A cluster that was another's a moment ago, and that the device forgets to have been written since.
#[test]
fn what_a_failed_sync_has_lost_is_not_read_from_what_was_there_before() {
    for native in [true, false] {
        let init = options(16_384, 512, native);
        let mut store =
            Store::init(MemDevice::new(16 << 20, 512), &init, &writable_in(Some(SESSION))).unwrap();
        for name in ["secret", "other"] {
            let lvol = store.create(name, 4 * CLUSTER, false).unwrap();
            store.write(lvol, 0, pattern(4 * CLUSTER, 1)).unwrap();
        }
        let (device, closed) = store.close();
        closed.unwrap();
        let inner = Inner { view: device.clone(), durable: device, loses: false, lost: Vec::new() };
        let device = Forgetful(Rc::new(RefCell::new(inner)));
        let mut store = Store::open(device.clone(), Vec::new(), &writable_in(Some(SESSION))).unwrap();
        let other = store.id("other");
        let lvol = store.create("lvol", 4 * CLUSTER, false).unwrap();
        store.remove("secret").unwrap();
        store.flush().unwrap();
        store.write(lvol, 0, pattern(BLOCK, 3)).unwrap();
        store.write(lvol, 2 * CLUSTER, pattern(CLUSTER, 3)).unwrap();
        let at = {
            let blob = store.state().blob(lvol).unwrap();
            let cluster =
                blob.tree.entry(offshoot_format::BlobCluster(2)).layers().next().unwrap().1.unwrap();
            store.state().layout.cluster_offset(cluster)
        };
        device.0.borrow_mut().loses = true;
        store.flush().unwrap_err();

        let mut there = vec![0; 16_384];
        device.0.borrow_mut().view.read_at(at, &mut there);
        assert!((0..4).any(|own| there == pattern(4 * CLUSTER, 1).as_slice()[own * 16_384..][..16_384]));
        for offset in [0, 2 * CLUSTER, 2 * CLUSTER + BLOCK] {
            let error = store.read(lvol, offset, 4096).unwrap_err();
            assert!(matches!(error, Error::MayBeLost { .. }), "{error}");
            assert_eq!(error.kind(), ErrorKind::Io);
        }
        // What was in place before is there as it was.
        let read = store.read(lvol, CLUSTER, 4096).unwrap();
        assert!(read.as_slice().iter().all(|byte| *byte == 0));
        assert!(store.read(other, 0, 16_384).is_ok());
    }
}
