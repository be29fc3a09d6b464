//! The disk itself, past any store.

use crate::stores::pattern;
use anyhow::Result;
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceOffset, DeviceOp, OpId};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes of one read of [`read`], and how many are under way: those of the loader.
const READ_BYTES: u64 = offshoot_store::limits::BULK_BYTES;
const READS_IN_FLIGHT: usize = offshoot_store::limits::LOAD_READS_IN_FLIGHT;

/// Runs operations at a queue depth; `next` makes each from a buffer and says `None` at the end. The buffers that
/// come back are handed to it again.
pub(crate) fn run(
    device: &mut impl BlockDevice,
    buffers: Vec<Buffer>,
    mut next: impl FnMut(Buffer) -> Option<DeviceOp>,
) -> Result<Duration> {
    let mut completions: Vec<Completion> = Vec::new();
    let mut buffers = buffers;
    let mut ended = false;
    let start = Instant::now();
    loop {
        while !ended && let Some(buffer) = buffers.pop() {
            match next(buffer) {
                Some(op) => device.submit(OpId(0), op),
                None => ended = true,
            }
        }
        if device.outstanding() == 0 {
            return Ok(start.elapsed());
        }
        device.wait(&mut completions);
        for completion in completions.drain(..) {
            completion.result?;
            buffers.extend(completion.buffer);
        }
    }
}

/// Reads ranges from end to end as the loader would.
pub(crate) fn read(device: &mut impl BlockDevice, ranges: &[Range<u64>]) -> Result<Duration> {
    let starts = |range: &Range<u64>| {
        let end = range.end;
        let step = usize::try_from(READ_BYTES).unwrap_or(usize::MAX);
        range.clone().step_by(step).map(move |start| (start, (end - start).min(READ_BYTES)))
    };
    let mut pieces = ranges.iter().flat_map(starts);
    let buffer = || Buffer::zeroed(usize::try_from(READ_BYTES).unwrap_or(usize::MAX));
    let buffers = (0..READS_IN_FLIGHT).map(|_| buffer()).collect();
    run(device, buffers, |mut buffer| {
        let (start, len) = pieces.next()?;
        buffer.set_len(usize::try_from(len).unwrap_or(usize::MAX));
        Some(DeviceOp::Read { offset: DeviceOffset(start), buffer })
    })
}

/// Fills a range, so that no later write has to allocate.
pub(crate) fn fill(device: &mut impl BlockDevice, range: Range<u64>, zeros: bool) -> Result<()> {
    const STEP: u64 = 8 << 20;
    let mut at = range.start;
    let buffer = || if zeros { Ok(Buffer::zeroed(8 << 20)) } else { pattern(STEP) };
    let buffers = (0..4).map(|_| buffer()).collect::<Result<_>>()?;
    run(device, buffers, |mut buffer| {
        let len = STEP.min(range.end - at);
        if len == 0 {
            return None;
        }
        buffer.set_len(usize::try_from(len).unwrap_or(usize::MAX));
        let offset = DeviceOffset(at);
        at += len;
        Some(DeviceOp::Write { offset, buffer })
    })
    .map(drop)
}

/// Runs one operation and returns how long it took.
pub(crate) fn timed(device: &mut impl BlockDevice, op: DeviceOp) -> Result<Duration> {
    let mut completions = Vec::new();
    let start = Instant::now();
    device.submit(OpId(0), op);
    device.wait(&mut completions);
    let took = start.elapsed();
    for completion in completions {
        completion.result?;
    }
    Ok(took)
}
