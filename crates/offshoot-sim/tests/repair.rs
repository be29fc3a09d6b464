//! A repair that ends at any moment leaves a store that its undo file brings back, byte for byte, and that can be
//! repaired again.
//!
//! The repair runs on the simulated disk behind an undo file. Before each completion the disk and how much of the file
//! there is are kept. From each of these moments the process dies or the power goes, with whatever of the unflushed writes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../../offshoot-store/tests/repair/damaged.rs"]
mod damaged;
#[path = "../../offshoot-store/tests/common/lvols.rs"]
mod lvols;

use damaged::{CLUSTER, Damaged};
use lvols::{Lvols as _, SESSION, pattern, writable_in};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceGeometry, DeviceOffset, DeviceOp, OpId};
use offshoot_device::{MemDevice, Undo, UndoDevice, UndoLog, UndoOf};
use offshoot_format::{MaskKind, MdPageIdx};
use offshoot_sim::{Caching, Cut, DiskState, Random, SimDisk};
use offshoot_store::{Finding, OpenOptions, Store};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tempfile::TempDir;

/// How much of the undo file there was at some moment: what is behind its header is only ever appended to.
struct UndoPart {
    header: Vec<u8>,
    len: usize,
}

/// Keeps what a crash would find, before each completion.
#[derive(Clone)]
struct Watched {
    disk: SimDisk,
    undo: PathBuf,
    moments: Rc<RefCell<Vec<(DiskState, UndoPart)>>>,
}

impl Watched {
    fn keep(&self) {
        let mut header = std::fs::read(&self.undo).unwrap();
        let len = header.len();
        header.truncate(512);
        self.moments.borrow_mut().push((self.disk.state(), UndoPart { header, len }));
    }
}

impl BlockDevice for Watched {
    fn geometry(&self) -> DeviceGeometry {
        self.disk.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.disk.submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.keep();
        self.disk.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.keep();
        self.disk.wait(completions);
    }

    fn outstanding(&self) -> usize {
        self.disk.outstanding()
    }
}

fn content(disk: &mut SimDisk) -> Vec<u8> {
    let len = usize::try_from(disk.geometry().size_bytes).unwrap();
    disk.submit(OpId(0), DeviceOp::Read { offset: DeviceOffset(0), buffer: Buffer::zeroed(len) });
    let mut completions = Vec::new();
    disk.wait(&mut completions);
    completions.remove(0).buffer.unwrap().as_slice().to_vec()
}

fn look<D: BlockDevice>(device: D) -> Vec<Finding> {
    let store = Store::open(device, Vec::new(), &OpenOptions::read_only(Some(SESSION))).unwrap();
    store.findings().to_vec()
}

fn repair<D: BlockDevice>(device: D) {
    let options = OpenOptions { repair: true, ..writable_in(Some(SESSION)) };
    Store::open(device, Vec::new(), &options).unwrap().close().1.unwrap();
}

/// A disk that holds what a device in memory does.
fn disk_of(device: &MemDevice) -> SimDisk {
    let geometry = device.geometry();
    let mut state = SimDisk::new(geometry.size_bytes, 512, Caching::Volatile, 1).state();
    state.rot(0, &device.content());
    SimDisk::resume(state, 1)
}

/// The undo file as it was then.
fn undo_at(path: &Path, part: &UndoPart, target: &Path) -> Undo {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.truncate(part.len);
    bytes[..part.header.len()].copy_from_slice(&part.header);
    std::fs::write(target, bytes).unwrap();
    Undo::open(target).unwrap()
}

/// Repairs, and ends the repair at every moment.
fn every_end(what: &str, damaged: &Damaged) {
    let sick = damaged.device.content();
    let folder = TempDir::with_prefix_in("repair-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (path, cut_path) = (folder.path().join("undo"), folder.path().join("cut"));
    let disk = disk_of(&damaged.device);
    assert!(!look(disk.clone()).is_empty(), "{what}");
    let of = UndoOf { device_bytes: disk.geometry().size_bytes, store: [0; 16] };
    let log = UndoLog::create(&path, of).unwrap();
    let watched = Watched { disk: disk.clone(), undo: path.clone(), moments: Rc::default() };
    let mut device = UndoDevice::new(watched.clone(), log);
    repair(&mut device);
    device.finish().1.unwrap();
    assert_eq!(look(disk), [], "{what}");

    let mut random = Random::new(7);
    let moments = watched.moments.take();
    let (mut opened, mut ends) = (0, 0);
    for (number, (state, part)) in moments.iter().enumerate() {
        let undo = undo_at(&path, part, &cut_path);
        for cut in [Cut::Kill, Cut::PowerCut, Cut::PowerCut] {
            let (crashed, _) = state.crash_at_random(cut, &mut random);
            let mut disk = SimDisk::resume(crashed.clone(), 1);
            let compared = undo.compare(&mut disk).unwrap();
            assert_eq!(compared.foreign, 0, "{what}: moment {number}, {cut:?}: {compared:?}");
            undo.restore(&mut disk).unwrap();
            assert!(content(&mut disk) == sick, "{what}: moment {number}, {cut:?}");
            ends += 1;
            // Or it is done once more.
            let mut disk = SimDisk::resume(crashed, 1);
            let options = OpenOptions { repair: true, ..writable_in(Some(SESSION)) };
            if let Ok(store) = Store::open(&mut disk, Vec::new(), &options) {
                store.close().1.unwrap();
                assert_eq!(look(&mut disk), [], "{what}: moment {number}, {cut:?}");
                opened += 1;
            }
        }
    }
    println!("{what}: {} moments, {opened} of {ends} repaired again", moments.len());
    assert_eq!(opened, ends, "{what}");
}

#[test]
fn masks() {
    let mut damaged = Damaged::closed(false);
    damaged.mask(MaskKind::Clusters, |mask| mask.set(mask.len() - 7, true));
    every_end("surplus", &damaged);
}

#[test]
fn two_owners() {
    let mut damaged = Damaged::closed(false);
    let at = damaged.cluster_of("base");
    damaged.claim("other", 3, at);
    every_end("two owners", &damaged);
}

#[test]
fn pages() {
    let mut damaged = Damaged::closed(true);
    damaged.garble(MdPageIdx(40));
    damaged.mask(MaskKind::Clusters, |mask| mask.set(mask.len() - 7, true));
    let root = damaged.md("other").id.root();
    damaged.flip(root, 700, 0x20);
    every_end("rotten pages", &damaged);
}

#[test]
fn the_super_block() {
    let mut damaged = Damaged::dead();
    damaged.device.write_at(0, &[0xa5; 4096]);
    every_end("super block", &damaged);
}

#[test]
fn the_journal() {
    let frames = Damaged::dead().frames();
    let (last, _) = frames.last().unwrap().clone();
    let mut covered = frames.iter().filter(|(frame, _)| (last.tail..=last.covered).contains(&frame.lsn));
    let (_, at) = covered.next_back().unwrap();
    let mut damaged = Damaged::dead();
    damaged.flip_at(at + 33, 0x10);
    every_end("journal", &damaged);
}

/// What somebody does with the store after its repair is not undone by accident.
#[test]
fn a_change_since_is_noticed() {
    let mut damaged = Damaged::closed(false);
    damaged.mask(MaskKind::Clusters, |mask| mask.set(mask.len() - 7, true));
    let folder = TempDir::with_prefix_in("repair-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("undo");
    let of = UndoOf { device_bytes: damaged.device.geometry().size_bytes, store: [0; 16] };
    let mut device = UndoDevice::new(damaged.device.clone(), UndoLog::create(&path, of).unwrap());
    repair(&mut device);
    let (mut device, finished) = device.finish();
    finished.unwrap();
    let undo = Undo::open(&path).unwrap();
    assert_eq!(undo.compare(&mut device).unwrap().foreign, 0);
    let mut store = Store::open(&mut device, Vec::new(), &writable_in(Some(SESSION))).unwrap();
    store.create("new", 2 * CLUSTER, true).unwrap();
    store.write(store.id("new"), 0, pattern(CLUSTER, 5)).unwrap();
    store.close().1.unwrap();
    assert!(undo.compare(&mut device).unwrap().foreign > 0);
}
