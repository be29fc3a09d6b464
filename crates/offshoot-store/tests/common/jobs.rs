//! What tests of jobs share: what lvols read, and a job at which every operation of the device fails once.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shared by several test programs")]

use crate::lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, Shared, assert_owned_once, pattern, writable};
use offshoot_block::BlockDevice;
use offshoot_device::{ErrorDevice, Fault, MemDevice};
use offshoot_store::{Error, Session, Store};
use std::collections::BTreeMap;

pub const CLUSTER: u64 = 16_384;
pub const BLOCK: u64 = 4096;

/// What each lvol reads, by name.
pub type Contents = BTreeMap<String, Vec<u8>>;

pub fn contents<D: BlockDevice>(store: &mut Store<D>) -> Contents {
    let names: Vec<String> = store.state().lvols().map(|lvol| lvol.display_name()).collect();
    names.into_iter().map(|name| (name.clone(), store.content(&name))).collect()
}

pub fn reopened(device: MemDevice) -> Store<MemDevice> {
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.state().audit(), &[]);
    store
}

pub fn write<D: BlockDevice>(store: &mut Store<D>, name: &str, offset: u64, len: u64, seed: u8) {
    let lvol = store.id(name);
    store.write(lvol, offset, pattern(len, seed)).unwrap();
}

pub fn zero<D: BlockDevice>(store: &mut Store<D>, name: &str, offset: u64, len: u64) {
    let lvol = store.id(name);
    store.write_zeroes(lvol, offset..offset + len).unwrap();
}

/// A store whose device fails when it is told to.
pub type Failing = Store<Shared<ErrorDevice<MemDevice>>>;

/// Runs a job once for each operation that it asks of the device, and lets that one fail. Where the store lives on, it is
/// sound, `lives_on` holds and no space is kept; `goes_on` judges what is left on the device, whether or not the power is
/// lost as well. Says how often the job alone was refused.
pub fn an_error_of_every_operation(
    start: &MemDevice,
    job: impl Fn(&mut Failing) -> Result<(), Error>,
    lives_on: impl Fn(&mut Failing, &str),
    goes_on: impl Fn(MemDevice, Session, &str),
) -> usize {
    let run = |fault: Option<(u64, &str)>| {
        let device = Shared::new(ErrorDevice::new(start.clone()));
        let mut store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
        device.borrow().inner_mut().start_log();
        if let Some((number, _)) = fault {
            device.borrow().inject(Fault::new(5).after(number).times(1));
        }
        let result = job(&mut store);
        if let Some((_, what)) = fault.filter(|_| result.is_err() && store.engine().failure().is_none()) {
            assert_owned_once(&store);
            let free = store.free();
            store.create("all", free * CLUSTER, true).unwrap();
            store.remove("all").unwrap();
            lives_on(&mut store, what);
        }
        drop(store);
        let ops = device.borrow().inner_mut().take_log();
        (result, ops, device.borrow().inner().clone())
    };
    let (healthy, ops, _) = run(None);
    healthy.unwrap();
    let mut refused = 0;
    for (op, number) in ops.iter().zip(0..) {
        let what = format!("operation {number} ({op:?}) failed");
        let (result, _, left) = run(Some((number, &what)));
        refused += usize::from(matches!(result, Err(Error::Device(_))));
        for power in [SESSION, AFTER_POWER_LOSS] {
            goes_on(left.clone(), power, &what);
        }
    }
    refused
}
