//! The conformance suite: what every driver that stores data must do.
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod loop_device;

use offshoot_block::{Buffer, Completion, DeviceError, DeviceOffset, DeviceOp, OpId};
use offshoot_device::{Direct, EngineChoice, FileDevice, HostDevice, OpenOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::event::{PollFd, PollFlags};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// Size of the devices that the suite runs on, in bytes.
pub(crate) const SIZE: u64 = 2 << 20;

/// A directory on the file system of the build, and one where temporary files live.
pub(crate) fn directories() -> [TempDir; 2] {
    [TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), TempDir::new().unwrap()]
}

/// Every engine through the page cache and past it.
pub(crate) fn variants() -> Vec<OpenOptions> {
    let mut variants = Vec::new();
    for engine in [EngineChoice::Uring, EngineChoice::Threads] {
        for direct in [Direct::Never, Direct::Auto] {
            variants.push(OpenOptions { engine, direct, ..OpenOptions::writable() });
        }
    }
    variants
}

/// Opens a file, `None` (and a word about it) where this machine has no io_uring.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Option<FileDevice> {
    match FileDevice::open(path, options) {
        Err(offshoot_device::OpenError::NoUring { source, .. }) => {
            eprintln!("SKIPPED: io_uring: {source}");
            None
        }
        opened => Some(opened.unwrap()),
    }
}

/// An empty file of zeros, opened as [`open`] does.
pub(crate) fn create(path: &Path, size_bytes: u64, options: &OpenOptions) -> Option<FileDevice> {
    std::fs::File::create(path).unwrap().set_len(size_bytes).unwrap();
    open(path, options)
}

/// Runs one operation to its end.
pub(crate) fn run(device: &mut dyn HostDevice, op: DeviceOp) -> Completion {
    assert_eq!(device.outstanding(), 0);
    device.submit(OpId(u64::MAX), op);
    let mut completions = Vec::new();
    device.wait(&mut completions);
    assert_eq!((completions.len(), device.outstanding()), (1, 0));
    let completion = completions.remove(0);
    assert_eq!(completion.id, OpId(u64::MAX));
    completion
}

pub(crate) fn write(device: &mut dyn HostDevice, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
    run(device, DeviceOp::Write { offset: DeviceOffset(offset), buffer: Buffer::copy_of(bytes) }).result
}

pub(crate) fn read(device: &mut dyn HostDevice, offset: u64, len: usize) -> Result<Vec<u8>, DeviceError> {
    let buffer = Buffer::zeroed(len);
    let completion = run(device, DeviceOp::Read { offset: DeviceOffset(offset), buffer });
    completion.result.map(|()| completion.buffer.unwrap().as_slice().to_vec())
}

/// The whole suite on an empty device of [`SIZE`].
pub(crate) fn conforms(device: &mut dyn HostDevice) {
    assert_eq!(device.geometry().size_bytes, SIZE);
    refuses_bad_ranges(device);
    empty_ranges_succeed(device);
    many_in_flight(device);
    sleeps_until_completion(device);
    agrees_with_a_model(device);
}

fn refuses_bad_ranges(device: &mut dyn HostDevice) {
    let block = u64::from(device.geometry().logical_block);
    let misaligned = |offset, len| DeviceError::Misaligned { offset: DeviceOffset(offset), len };
    let outside = |offset, len| DeviceError::OutOfRange { offset: DeviceOffset(offset), len };
    let table = [
        (SIZE, block, outside(SIZE, block)),
        (SIZE - block, 2 * block, outside(SIZE - block, 2 * block)),
        (u64::MAX - block + 1, block, outside(u64::MAX - block + 1, block)),
        (1, block, misaligned(1, block)),
        (0, block - 1, misaligned(0, block - 1)),
    ];
    for (start, len, expected) in table {
        let offset = DeviceOffset(start);
        let buffer = || Buffer::zeroed(usize::try_from(len).unwrap());
        for op in [
            DeviceOp::Read { offset, buffer: buffer() },
            DeviceOp::Write { offset, buffer: buffer() },
            DeviceOp::WriteZeroes { offset, len, may_unmap: true },
            DeviceOp::Unmap { offset, len },
        ] {
            let has_buffer = matches!(op, DeviceOp::Read { .. } | DeviceOp::Write { .. });
            let completion = run(device, op);
            assert_eq!(completion.result, Err(expected), "{start}+{len}");
            assert_eq!(completion.buffer.is_some(), has_buffer);
        }
    }
    let all = DeviceOp::Unmap { offset: DeviceOffset(0), len: u64::MAX - block + 1 };
    assert!(run(device, all).result.is_err());
}

fn empty_ranges_succeed(device: &mut dyn HostDevice) {
    for start in [0, SIZE] {
        let offset = DeviceOffset(start);
        for op in [
            DeviceOp::Read { offset, buffer: Buffer::zeroed(0) },
            DeviceOp::Write { offset, buffer: Buffer::zeroed(0) },
            DeviceOp::WriteZeroes { offset, len: 0, may_unmap: true },
            DeviceOp::Unmap { offset, len: 0 },
        ] {
            assert_eq!(run(device, op).result, Ok(()));
        }
    }
}

/// Far more than any queue is deep, written and read back, in whatever order they complete.
fn many_in_flight(device: &mut dyn HostDevice) {
    const BLOCK: usize = 4096;
    let count = SIZE / BLOCK as u64;
    let pattern = |index: u64| vec![u8::try_from(index % 251).unwrap() + 1; BLOCK];
    for index in 0..count {
        let (offset, buffer) = (DeviceOffset(index * BLOCK as u64), Buffer::copy_of(&pattern(index)));
        device.submit(OpId(index), DeviceOp::Write { offset, buffer });
    }
    let written = drain(device);
    assert_eq!(written.len() as u64, count);
    assert!(written.values().all(|completion| completion.result.is_ok()));

    assert_eq!(run(device, DeviceOp::Sync).result, Ok(()));
    for index in 0..count {
        let (offset, buffer) = (DeviceOffset(index * BLOCK as u64), Buffer::zeroed(BLOCK));
        device.submit(OpId(index), DeviceOp::Read { offset, buffer });
    }
    for (id, completion) in drain(device) {
        assert_eq!(completion.result, Ok(()));
        assert!(completion.buffer.unwrap().as_slice() == pattern(id.0), "block {}", id.0);
    }
}

/// An event loop that sleeps on the descriptor sees every completion.
fn sleeps_until_completion(device: &mut dyn HostDevice) {
    let mut completions = Vec::new();
    for id in 0..1000 {
        let offset = DeviceOffset(id % (SIZE / 4096) * 4096);
        device.submit(OpId(id), DeviceOp::Read { offset, buffer: Buffer::zeroed(4096) });
    }
    device.poll(&mut completions);
    while device.outstanding() > 0 {
        if let Some(fd) = device.completion_fd() {
            rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], None).unwrap();
        }
        device.clear_wakeup();
        device.poll(&mut completions);
    }
    assert_eq!(completions.len(), 1000);
}

/// Waits for everything outstanding.
pub(crate) fn drain(device: &mut dyn HostDevice) -> BTreeMap<OpId, Completion> {
    let mut completions = Vec::new();
    while device.outstanding() > 0 {
        let before = completions.len();
        device.wait(&mut completions);
        assert!(completions.len() > before, "wait returned without a completion");
    }
    let count = completions.len();
    let by_id: BTreeMap<_, _> = completions.into_iter().map(|done| (done.id, done)).collect();
    assert_eq!(by_id.len(), count, "an operation completed twice");
    by_id
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read,
    Write(u8),
    WriteZeroes { may_unmap: bool },
    Unmap,
    Sync,
    Drain,
}

/// A step with the start and length of its range, in thousandths of the device.
fn steps() -> impl Strategy<Value = Vec<(Step, u64, u64)>> {
    let step = prop_oneof![
        4 => Just(Step::Read),
        4 => any::<u8>().prop_map(Step::Write),
        2 => any::<bool>().prop_map(|may_unmap| Step::WriteZeroes { may_unmap }),
        1 => Just(Step::Unmap),
        1 => Just(Step::Sync),
        1 => Just(Step::Drain),
    ];
    prop::collection::vec((step, 0..1000_u64, 0..100_u64), 1..200)
}

/// Random operations against plain memory. Ranges under way never overlap, except reads of reads,
/// since the order of operations is free.
fn agrees_with_a_model(device: &mut dyn HostDevice) {
    let device = RefCell::new(device);
    let config = Config { cases: 16, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        let device = &mut **device.borrow_mut();
        // What a failed case left behind must not mislead the search for a smaller one.
        drain(device);
        let mut content = read(device, 0, usize::try_from(SIZE).unwrap()).unwrap();
        follow(device, &mut content, &steps);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

fn follow(device: &mut dyn HostDevice, content: &mut [u8], steps: &[(Step, u64, u64)]) {
    let block = u64::from(device.geometry().logical_block);
    let blocks = SIZE / block;
    let mut under_way = Vec::new();
    let mut expected = BTreeMap::new();
    for (id, &(step, start, len)) in (0..).zip(steps) {
        let start = start * blocks / 1000 * block;
        let len = (len * blocks / 1000 * block + block).min(SIZE - start);
        let range = usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap();
        let overlaps = |other: &std::ops::Range<usize>| other.start < range.end && range.start < other.end;
        if matches!(step, Step::Drain) || under_way.iter().any(overlaps) {
            verify(device, &mut expected);
            under_way.clear();
        }
        let offset = DeviceOffset(start);
        let op = match step {
            Step::Drain => continue,
            Step::Sync => DeviceOp::Sync,
            Step::Read => {
                expected.insert(OpId(id), content[range.clone()].to_vec());
                DeviceOp::Read { offset, buffer: Buffer::copy_of(&vec![0xee; range.len()]) }
            }
            Step::Write(fill) => {
                let bytes: Vec<u8> = range.clone().zip(fill..=u8::MAX).map(|(_, byte)| byte).collect();
                content[range.clone()].fill(fill);
                content[range.start..][..bytes.len()].copy_from_slice(&bytes);
                DeviceOp::Write { offset, buffer: Buffer::copy_of(&content[range.clone()]) }
            }
            Step::WriteZeroes { may_unmap } => {
                content[range.clone()].fill(0);
                DeviceOp::WriteZeroes { offset, len, may_unmap }
            }
            Step::Unmap => {
                // What is in there now is undefined: give it a content again.
                assert_eq!(run_among(device, id, DeviceOp::Unmap { offset, len }, &mut expected), Ok(()));
                content[range.clone()].fill(0x55);
                DeviceOp::Write { offset, buffer: Buffer::copy_of(&content[range.clone()]) }
            }
        };
        if !matches!(step, Step::Sync) {
            under_way.push(range);
        }
        device.submit(OpId(id), op);
        // Some start right away, others together.
        if id % 3 == 0 {
            let mut completions = Vec::new();
            device.poll(&mut completions);
            verify_each(completions, &mut expected);
        }
    }
    verify(device, &mut expected);
    assert!(expected.is_empty(), "reads that never completed");
    let whole = read(device, 0, content.len()).unwrap();
    assert!(whole == content, "the content differs from the model's");
}

/// Runs one operation to its end while others are under way.
fn run_among(
    device: &mut dyn HostDevice,
    id: u64,
    op: DeviceOp,
    expected: &mut BTreeMap<OpId, Vec<u8>>,
) -> Result<(), DeviceError> {
    verify(device, expected);
    device.submit(OpId(id), op);
    drain(device).remove(&OpId(id)).unwrap().result
}

fn verify(device: &mut dyn HostDevice, expected: &mut BTreeMap<OpId, Vec<u8>>) {
    verify_each(drain(device).into_values().collect(), expected);
}

fn verify_each(completions: Vec<Completion>, expected: &mut BTreeMap<OpId, Vec<u8>>) {
    for completion in completions {
        assert_eq!(completion.result, Ok(()));
        if let Some(bytes) = expected.remove(&completion.id) {
            assert!(completion.buffer.unwrap().as_slice() == bytes, "read {:?} differs", completion.id);
        }
    }
}
