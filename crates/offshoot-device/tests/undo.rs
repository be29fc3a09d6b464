//! The undo file: whatever was done to a device, and wherever it ended, everything can be put back.
#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use offshoot_block::{BlockDevice, Buffer, Completion, DeviceError, DeviceOffset, DeviceOp, OpId};
use offshoot_device::{ErrorDevice, Fault, MemDevice, OpKind, Undo, UndoDevice, UndoError, UndoLog, UndoOf};
use proptest::prelude::*;
use std::fs::File;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const DEVICE_BYTES: u64 = 64 << 10;
const OF: UndoOf = UndoOf { device_bytes: DEVICE_BYTES, store: [7; 16] };

/// A device with something in every second block.
fn device() -> MemDevice {
    let mut device = MemDevice::new(DEVICE_BYTES, 512);
    for block in (0..DEVICE_BYTES / 4096).step_by(2) {
        device.write_at(block * 4096, &[u8::try_from(block).unwrap() + 1; 4096]);
    }
    device
}

fn content(device: &MemDevice) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(DEVICE_BYTES).unwrap()];
    device.read_at(0, &mut content);
    content
}

fn write(offset: u64, len: usize, with: u8) -> DeviceOp {
    let mut buffer = Buffer::zeroed(len);
    buffer.as_mut_slice().fill(with);
    DeviceOp::Write { offset: DeviceOffset(offset), buffer }
}

fn run(device: &mut impl BlockDevice, op: DeviceOp) -> Result<(), DeviceError> {
    device.submit(OpId(9), op);
    let mut completions: Vec<Completion> = Vec::new();
    while device.outstanding() > 0 {
        device.wait(&mut completions);
    }
    assert_eq!(completions.len(), 1);
    completions.remove(0).result
}

/// A folder, and the path of an undo file in it.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix_in("undo-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("undo");
    (folder, path)
}

/// Puts back, in two halves as if it had been interrupted, and compares with what was there.
fn assert_restores(path: &Path, device: &MemDevice, old: &[u8]) {
    let undo = Undo::open(path).unwrap();
    let mut device = device.clone();
    assert_eq!(undo.compare(&mut device).unwrap().foreign, 0);
    let mut interrupted = ErrorDevice::new(device.clone());
    interrupted.inject(Fault::new(5).on(OpKind::Write).after(1));
    let _ = undo.restore(&mut interrupted);
    device = interrupted.inner().clone();
    let compared = undo.compare(&mut device).unwrap();
    assert_eq!(compared.foreign, 0, "{compared:?}");
    undo.restore(&mut device).unwrap();
    assert!(content(&device) == old);
    let compared = undo.compare(&mut device).unwrap();
    assert_eq!((compared.written, compared.foreign), (0, 0));
}

fn op() -> impl Strategy<Value = DeviceOp> {
    let range = (0_u64..120, 1_u64..9).prop_map(|(at, len)| (at * 512, len.min(128 - at) * 512));
    (range, 0_u8..5, 0_u8..4).prop_map(|((offset, len), what, with)| match what {
        0 => DeviceOp::WriteZeroes { offset: DeviceOffset(offset), len, may_unmap: true },
        1 => DeviceOp::Unmap { offset: DeviceOffset(offset), len },
        2 => DeviceOp::Sync,
        _ => write(offset, usize::try_from(len).unwrap(), with),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn everything_can_be_put_back_at_any_time(ops in prop::collection::vec(op(), 1..24), batch in 1_usize..4) {
        let (_folder, path) = place();
        let mut mem = device();
        let old = content(&mem);
        let mut log = UndoDevice::new(mem.clone(), UndoLog::create(&path, OF).unwrap());
        for ops in ops.chunks(batch) {
            for (op, id) in ops.iter().zip(0..) {
                log.submit(OpId(id), op.clone());
            }
            let mut completions = Vec::new();
            while log.outstanding() > 0 {
                log.wait(&mut completions);
                assert_restores(&path, log.inner(), &old);
            }
            prop_assert_eq!(completions.len(), ops.len());
            // What a cut would have left in the middle: any of the operations, done or not.
            for op in ops.iter().step_by(2).filter(|op| !matches!(op, DeviceOp::Unmap { .. })) {
                run(&mut mem, op.clone()).unwrap();
                assert_restores(&path, &mem, &old);
            }
            mem = log.inner().clone();
        }
        let (mem, finished) = log.finish();
        finished.unwrap();
        prop_assert!(Undo::open(&path).unwrap().is_complete());
        assert_restores(&path, &mem, &old);
    }
}

/// An undo file about three writes, and the device after them.
fn written(path: &Path) -> MemDevice {
    let (mem, finished) = begun(path).finish();
    finished.unwrap();
    mem
}

/// The same, without an end.
fn begun(path: &Path) -> UndoDevice<MemDevice> {
    let mut log = UndoDevice::new(device(), UndoLog::create(path, OF).unwrap());
    for block in 0..3 {
        run(&mut log, write(block * 8192, 4096, 0xee)).unwrap();
    }
    log
}

#[test]
fn a_file_that_was_cut_short_says_so() {
    for complete in [true, false] {
        let (_folder, path) = place();
        let log = begun(&path);
        if complete {
            log.finish().1.unwrap();
        }
        let len = std::fs::metadata(&path).unwrap().len();
        assert_eq!(Undo::open(&path).unwrap().is_complete(), complete);
        for cut in [len - 1, len - 72, len / 2, 512] {
            File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
            let opened = Undo::open(&path);
            assert!(
                matches!(opened, Err(UndoError::Short { expected, .. }) if expected == len),
                "{opened:?}"
            );
        }
    }
}

#[test]
fn a_bad_byte_is_damage() {
    for complete in [true, false] {
        let (_folder, path) = place();
        let log = begun(&path);
        if complete {
            log.finish().1.unwrap();
        }
        let sound = std::fs::read(&path).unwrap();
        for at in (0..sound.len()).step_by(97).chain([sound.len() - 1]) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            match Undo::open(&path) {
                Err(UndoError::NotUndo(_)) => assert!(at < 8),
                Err(UndoError::Version { .. }) => assert!((8..12).contains(&at)),
                Err(UndoError::Damaged { .. }) => {}
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }
}

/// Records that were being written when the power went: any of their sectors may be there, and the device has seen
/// nothing of what they announce.
#[test]
fn what_was_being_appended_does_not_count() {
    let (_folder, path) = place();
    let mut log = begun(&path);
    let (before, mem) = (std::fs::read(&path).unwrap(), log.inner().clone());
    for block in 3..6 {
        log.submit(OpId(block), write(block * 8192, 4096, 0xee));
    }
    while log.outstanding() > 0 {
        log.wait(&mut Vec::new());
    }
    let after = std::fs::read(&path).unwrap();
    let kept: [fn(usize) -> bool; 5] =
        [|_| true, |_| false, |sector| sector > 0, |sector| sector % 2 == 1, |sector| sector % 3 < 2];
    for is_kept in kept {
        let mut bytes = before.clone();
        for (number, sector) in after[before.len()..].chunks(512).enumerate() {
            bytes.extend(sector.iter().map(|byte| if is_kept(number) { *byte } else { 0 }));
        }
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Undo::open(&path).unwrap().saved_bytes(), 3 * 4096);
        assert_restores(&path, &mem, &content(&device()));
    }
}

#[test]
fn what_somebody_else_wrote_is_noticed() {
    let (_folder, path) = place();
    let mut mem = written(&path);
    mem.write_at(8192 + 1024, b"mine");
    let undo = Undo::open(&path).unwrap();
    let compared = undo.compare(&mut mem).unwrap();
    assert_eq!((compared.foreign, compared.first_foreign), (1, Some(8192 + 1024)));
    assert_eq!((compared.old, compared.written), (0, 23));
    let mut other = MemDevice::new(DEVICE_BYTES * 2, 512);
    assert!(undo.compare(&mut other).is_err() && undo.restore(&mut other).is_err());
}

#[test]
fn what_cannot_be_read_is_left_as_it_is() {
    let (_folder, path) = place();
    let mut bad = ErrorDevice::new(device());
    bad.inject(Fault::new(5).on(OpKind::Read).within(1024..1536));
    let old = content(bad.inner());
    let mut log = UndoDevice::new(bad, UndoLog::create(&path, OF).unwrap());
    run(&mut log, write(0, 4096, 0xee)).unwrap();
    let (bad, finished) = log.finish();
    finished.unwrap();
    let mut mem = bad.inner().clone();
    let undo = Undo::open(&path).unwrap();
    assert_eq!(undo.compare(&mut mem).unwrap().foreign, 0);
    undo.restore(&mut mem).unwrap();
    let restored = content(&mem);
    assert!(restored[..1024] == old[..1024] && restored[1536..] == old[1536..]);
    assert!(restored[1024..1536].iter().all(|byte| *byte == 0xee));
}

#[test]
fn refusals_and_discards_change_nothing() {
    let (_folder, path) = place();
    let mut log = UndoDevice::new(device(), UndoLog::create(&path, OF).unwrap());
    let old = content(log.inner());
    assert!(run(&mut log, write(DEVICE_BYTES, 512, 1)).is_err());
    run(&mut log, DeviceOp::Unmap { offset: DeviceOffset(0), len: DEVICE_BYTES }).unwrap();
    assert!(run(&mut log, DeviceOp::Unmap { offset: DeviceOffset(1), len: 512 }).is_err());
    assert!(content(log.inner()) == old && log.log().is_empty());
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let (_folder, path) = place();
    written(&path);
    let sound = std::fs::read(&path).unwrap();
    assert!(matches!(UndoLog::create(&path, OF), Err(UndoError::Io { .. })));
    assert!(std::fs::read(&path).unwrap() == sound);
}
