//! Growing cut behind every operation, and its super block torn: the old size or the new one, and nothing else.

use super::md::{contents, in_use, md_pages, small_metadata};
use super::tape::{Tape, Taped};
use super::{CLUSTER, LARGE, SMALL, closed, opened, plain, small};
use crate::lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, assert_owned_once, pattern, writable_in};
use offshoot_block::BlockDevice as _;
use offshoot_device::MemDevice;
use offshoot_format::SUPER_BLOCK_COPY_OFFSET;
use offshoot_store::{Session, Store};
use std::collections::BTreeMap;

/// How many operations there are before growing begins, and when it has been replied to.
struct Run {
    tape: Tape,
    begun: usize,
    replied: usize,
    content: BTreeMap<String, Vec<u8>>,
    /// Bytes and md pages before and after.
    before: (u64, u32),
    after: (u64, u32),
}

/// Grows a store to the size of a device, and its md region by what takes so many clusters.
fn run(mut device: MemDevice, size_bytes: u64, clusters: u32, write_first: Option<&str>) -> Run {
    let was = device.geometry().size_bytes;
    device.resize(size_bytes);
    let device = Taped::new(device);
    let mut store = opened(device.clone());
    if let Some(name) = write_first {
        let id = store.id(name);
        store.write(id, CLUSTER / 2, pattern(4096, 5)).unwrap();
        store.flush().unwrap();
    }
    let begun = device.len();
    let present = store.state().layout.md_len;
    let pages = if clusters == 0 { present } else { md_pages(&store, clusters) };
    store.grow_to(pages).unwrap();
    let replied = device.len();
    // What comes behind it lies in the new epoch, and in clusters that are new.
    store.create("behind", store.free() / 2 * CLUSTER, true).unwrap();
    store.remove("behind").unwrap();
    let content = contents(&mut store);
    closed(store);
    Run { tape: device.tape(), begun, replied, content, before: (was, present), after: (size_bytes, pages) }
}

/// A device on which growing was cut is a store of the old or the new size, and can be used and closed.
fn check(device: MemDevice, power: Session, run: &Run, must_be_new: bool, what: &str) {
    let mut store = Store::open(device, Vec::new(), &writable_in(Some(power)))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(store.findings(), &[], "{what}");
    let layout = &store.state().layout;
    let found = (layout.size_bytes, layout.md_len);
    let may_be = [run.before, (run.after.0, run.before.1), run.after];
    let may_be = if must_be_new { &may_be[2..] } else { &may_be[..] };
    assert!(may_be.contains(&found), "{what}: {found:?}");
    assert_eq!(store.state().audit(), &[], "{what}");
    assert_owned_once(&store);
    let mut content = contents(&mut store);
    content.remove("behind");
    assert!(content == run.content, "{what}");
    store.grow_to(run.after.1).unwrap_or_else(|error| panic!("{what}: {error}"));
    let id = store.create("proof", LARGE, false).unwrap();
    store.write(id, 0, pattern(CLUSTER, 7)).unwrap();
    store.remove("proof").unwrap();
    let mut store = opened(closed(store));
    let layout = &store.state().layout;
    assert_eq!((layout.size_bytes, layout.md_len), run.after, "{what}");
    let mut content = contents(&mut store);
    content.remove("behind");
    assert!(content == run.content, "{what}");
    let device = closed(store);
    if device_is_sealed(&device) {
        plain(&device);
    }
}

fn device_is_sealed(device: &MemDevice) -> bool {
    super::super_block(device).version <= 3
}

fn every_cut(run: &Run) {
    for cut in run.begun..=run.tape.len() {
        for power in [SESSION, AFTER_POWER_LOSS] {
            let what = format!("cut after {cut} ({:?})", run.tape.last_before(cut));
            check(run.tape.device_after(cut), power, run, cut >= run.replied, &what);
        }
    }
}

#[test]
fn every_cut_leaves_the_old_size_or_the_new_one() {
    for native in [true, false] {
        for write_first in [Some("disk"), None] {
            every_cut(&run(closed(small(native)), LARGE, 0, write_first));
        }
    }
}

#[test]
fn every_cut_leaves_the_old_md_region_or_the_new_one() {
    for native in [true, false] {
        every_cut(&run(closed(in_use(native)), SMALL, 6, Some("clone")));
        every_cut(&run(closed(in_use(native)), LARGE, 24, None));
    }
}

#[test]
fn every_cut_leaves_a_journal_where_it_was_or_where_it_is() {
    for in_runs in [true, false] {
        let device = small_metadata(in_runs);
        let size_bytes = device.geometry().size_bytes;
        every_cut(&run(device, size_bytes, 30, Some("thin")));
    }
}

/// Writing it again brings one sector after another, in any order, and the other copy is whole meanwhile.
#[test]
fn a_torn_super_block_is_one_of_the_two() {
    let runs = [
        run(closed(small(true)), LARGE, 0, Some("disk")),
        run(closed(in_use(false)), SMALL, 6, Some("disk")),
    ];
    for run in runs {
        every_tear(&run);
    }
}

fn every_tear(run: &Run) {
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
                check(device, AFTER_POWER_LOSS, run, false, &what);
            }
        }
    }
    assert!(torn >= 4, "{torn}");
}
