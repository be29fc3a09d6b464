//! Clones of external snapshots: what shows of a device of any size and sector, and what never does.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "external/chains.rs"]
mod chains;
#[path = "external/clones.rs"]
mod clones;
#[path = "external/copy_on_read.rs"]
mod copy_on_read;
#[path = "external/ends.rs"]
mod ends;
#[path = "common/jobs.rs"]
mod jobs;
#[path = "common/lvols.rs"]
mod lvols;
#[path = "common/plain_checker.rs"]
mod plain_checker;

use lvols::{Lvols as _, Shared, options, pattern, writable};
use offshoot_block::BlockDevice;
use offshoot_device::{ErrorDevice, MemDevice};
use offshoot_store::{Store, Underlay, Verb};
use uuid::Uuid;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;
const EXTERNAL: Uuid = Uuid::from_u128(9);

/// A device that can be made to fail.
type Failing = Shared<ErrorDevice<MemDevice>>;

fn failing(device: MemDevice) -> Failing {
    Shared::new(ErrorDevice::new(device))
}

/// An external snapshot that has no zeros in it.
fn external(size_bytes: u64, sector: u32) -> Failing {
    failing(MemDevice::with_content(pattern(size_bytes, 5).as_slice(), sector))
}

fn new_store(sector: u32, native: bool) -> Store<Failing> {
    let device = failing(MemDevice::new(32 << 20, sector));
    Store::init(device, &options(16_384, sector, native), &writable()).unwrap()
}

/// A store with an lvol "e" of eight clusters over an external snapshot.
fn over(below: &Failing, sector: u32, native: bool) -> Store<Failing> {
    let mut store = new_store(sector, native);
    let lvol = store.create("e", 8 * CLUSTER, false).unwrap();
    store.attach_external(&EXTERNAL.to_string(), below.clone());
    store.run(Verb::SetParent { lvol, underlay: Underlay::External(EXTERNAL) }).unwrap();
    store
}

fn reopened<D: BlockDevice>(store: Store<D>, externals: Vec<(String, D)>) -> Store<D> {
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, externals, &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.state().audit(), &[]);
    store
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}
