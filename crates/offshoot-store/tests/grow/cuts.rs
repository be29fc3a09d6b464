//! Growing cut behind every operation, and its super block torn: the old size or the new one, and nothing else.

use super::tape::{Tape, Taped};
use super::{CLUSTER, LARGE, SMALL, closed, opened, plain, small};
use crate::lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, assert_owned_once, pattern, writable_in};
use offshoot_device::MemDevice;
use offshoot_format::SUPER_BLOCK_COPY_OFFSET;
use offshoot_store::{Session, Store};

const NAMES: [&str; 3] = ["disk", "thick", "snap"];

/// How many operations there are before growing begins, and when it has been replied to.
struct Run {
    tape: Tape,
    begun: usize,
    replied: usize,
    content: [Vec<u8>; 3],
}

fn run(native: bool, write_first: bool) -> Run {
    let mut device = closed(small(native));
    device.resize(LARGE);
    let device = Taped::new(device);
    let mut store = opened(device.clone());
    if write_first {
        let id = store.id("disk");
        store.write(id, CLUSTER / 2, pattern(4096, 5)).unwrap();
        store.flush().unwrap();
    }
    let begun = device.len();
    store.grow().unwrap();
    let replied = device.len();
    // What comes behind it lies in the new epoch, and in clusters that are new.
    store.create("behind", (LARGE - SMALL) / 2, true).unwrap();
    store.remove("behind").unwrap();
    let content = NAMES.map(|name| store.content(name));
    closed(store);
    Run { tape: device.tape(), begun, replied, content }
}

/// A device on which growing was cut is a store of the old or the new size, and can be used and closed.
fn check(device: MemDevice, power: Session, run: &Run, must_be_new: Option<bool>, what: &str) {
    let mut store = Store::open(device, Vec::new(), &writable_in(Some(power)))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let size = store.super_block().size_bytes;
    match must_be_new {
        Some(true) => assert_eq!(size, LARGE, "{what}"),
        Some(false) => assert_eq!(size, SMALL, "{what}"),
        None => assert!(size == SMALL || size == LARGE, "{what}: {size}"),
    }
    assert_eq!(store.state().audit(), &[], "{what}");
    assert_owned_once(&store);
    assert!(NAMES.map(|name| store.content(name)) == run.content, "{what}");
    store.grow().unwrap();
    let id = store.create("proof", LARGE, false).unwrap();
    store.write(id, 0, pattern(CLUSTER, 7)).unwrap();
    store.remove("proof").unwrap();
    let mut store = opened(closed(store));
    assert_eq!(store.state().layout.size_bytes, LARGE, "{what}");
    assert!(NAMES.map(|name| store.content(name)) == run.content, "{what}");
    let device = closed(store);
    if device_is_sealed(&device) {
        plain(&device);
    }
}

fn device_is_sealed(device: &MemDevice) -> bool {
    super::super_block(device).version <= 3
}

#[test]
fn every_cut_leaves_the_old_size_or_the_new_one() {
    for (native, write_first) in [(true, true), (true, false), (false, true), (false, false)] {
        let run = run(native, write_first);
        for cut in run.begun..=run.tape.len() {
            for power in [SESSION, AFTER_POWER_LOSS] {
                let what = format!("cut after {cut} ({:?})", run.tape.last_before(cut));
                let is_new = (cut >= run.replied).then_some(true);
                check(run.tape.device_after(cut), power, &run, is_new, &what);
            }
        }
    }
}

/// Writing it again brings one sector after another, in any order, and the other copy is whole meanwhile.
#[test]
fn a_torn_super_block_is_one_of_the_two() {
    let run = run(true, true);
    let block = |device: &MemDevice, at| {
        let mut bytes = [0; 4096];
        device.read_at(at, &mut bytes);
        bytes
    };
    let mut torn = 0;
    for cut in run.begun + 1..=run.replied {
        for at in [0, SUPER_BLOCK_COPY_OFFSET] {
            let (before, after) = (run.tape.device_after(cut - 1), run.tape.device_after(cut));
            let (old, new) = (block(&before, at), block(&after, at));
            // Opening the journal, which may come before, changes one sector of the first.
            let changed: Vec<usize> =
                (0..8).filter(|sector| old[sector * 512..][..512] != new[sector * 512..][..512]).collect();
            for subset in 1..(1_u32 << changed.len()).saturating_sub(1) {
                let mut device = before.clone();
                for (_, sector) in changed.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1) {
                    device.write_at(at + *sector as u64 * 512, &new[sector * 512..][..512]);
                }
                torn += 1;
                let what = format!("super block at {at}: {subset:#b} of {changed:?}");
                check(device, AFTER_POWER_LOSS, &run, None, &what);
            }
        }
    }
    assert!(torn >= 4, "{torn}");
}
