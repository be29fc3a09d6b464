//! A device that fails on demand.

use crate::check::{check, completion};
use crate::{DeviceStats, HostDevice, LoggedOp, OpKind};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceError, DeviceGeometry, DeviceOp, OpId};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Which operations an [`ErrorDevice`] fails, and how. By default: every one from now on.
///
/// ```
/// # use offshoot_device::{Fault, OpKind};
/// // The third write to the first MiB fails with EIO, and no other.
/// let fault = Fault::new(5).on(OpKind::Write).within(0..1 << 20).after(2).times(1);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    kind: Option<OpKind>,
    range: Option<Range<u64>>,
    /// Matching operations that still pass.
    skip: u64,
    /// Matching operations that still fail after those.
    count: u64,
    /// How many operations must be under way.
    depth: u64,
}

/// What becomes of an operation that a [`Fault`] strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Fail(DeviceError),
    /// It does not complete until the device is healed.
    Hang,
    /// It is submitted once more at the next poll.
    Retry,
    /// A byte of what is read or written is another one.
    Corrupt {
        /// Within the operation.
        at: u64,
        flip: u8,
    },
}

impl Fault {
    /// Fails with an errno: ENOSPC (28) as [`DeviceError::NoSpace`], others as [`DeviceError::Io`].
    #[must_use]
    pub fn new(errno: i32) -> Self {
        Self::with_error(if errno == Errno::NOSPC.raw_os_error() {
            DeviceError::NoSpace
        } else {
            DeviceError::Io { errno }
        })
    }

    /// Fails with any error.
    #[must_use]
    pub fn with_error(error: DeviceError) -> Self {
        Self::of(Effect::Fail(error))
    }

    /// Hangs: nothing is done or answered before [`Faults::heal`].
    #[must_use]
    pub fn hang() -> Self {
        Self::of(Effect::Hang)
    }

    /// Puts off: the operation is tried again at the next poll, which counts as another one.
    #[must_use]
    pub fn retry() -> Self {
        Self::of(Effect::Retry)
    }

    /// Flips the bits `flip` of the byte `at` of what is read or written. Operations that are shorter pass as they are.
    #[must_use]
    pub fn corrupt(at: u64, flip: u8) -> Self {
        Self::of(Effect::Corrupt { at, flip })
    }

    fn of(effect: Effect) -> Self {
        Self { effect, kind: None, range: None, skip: 0, count: u64::MAX, depth: 0 }
    }

    /// Lets pass what comes while fewer operations are under way below.
    #[must_use]
    pub fn at_depth(mut self, depth: u64) -> Self {
        self.depth = depth;
        self
    }

    /// Restricts it to operations of one kind.
    #[must_use]
    pub fn on(mut self, kind: OpKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Restricts it to operations that touch a range, in bytes. A sync touches none.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    /// Lets the first `skip` matching operations pass.
    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Ends after `count` failures.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    fn matches(&self, op: LoggedOp) -> bool {
        let touches = |range: &Range<u64>| {
            op.len > 0 && op.offset.0 < range.end && range.start < op.offset.0.saturating_add(op.len)
        };
        self.kind.is_none_or(|kind| kind == op.kind) && self.range.as_ref().is_none_or(touches)
    }

    /// Counts an operation and says what becomes of it.
    fn strike(&mut self, op: LoggedOp, under_way: u64) -> Option<Effect> {
        if !self.matches(op) || under_way < self.depth {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.count = self.count.checked_sub(1)?;
        Some(self.effect)
    }
}

/// The faults of an [`ErrorDevice`], for whoever changes them while the device is in use elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    faults: Vec<Fault>,
    /// How often the device was healed.
    healed: u64,
}

impl Faults {
    /// Adds a fault. Every fault counts every operation that it matches; the oldest one that strikes
    /// says what happens.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Puts a fault in the place of those that were restricted to its kind of operations.
    pub fn replace(&self, fault: Fault) {
        let mut shared = self.lock();
        shared.faults.retain(|other| other.kind != fault.kind);
        shared.faults.push(fault);
    }

    /// Removes all faults. What hangs goes on at the next poll.
    pub fn heal(&self) {
        let mut shared = self.lock();
        shared.faults.clear();
        shared.healed += 1;
    }

    fn strike(&self, op: LoggedOp, under_way: usize) -> Option<Effect> {
        let mut effect = None;
        for fault in &mut self.lock().faults {
            effect = effect.or(fault.strike(op, under_way as u64));
        }
        effect
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Counters are whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does chosen operations of another device badly. What fails never reaches it.
#[derive(Debug)]
pub struct ErrorDevice<D> {
    inner: D,
    faults: Faults,
    failed: Vec<Completion>,
    failures: u64,
    hanging: Vec<(OpId, DeviceOp)>,
    /// How often it had been healed when what hangs was looked at.
    healed: u64,
    /// To be tried again at the next poll.
    again: Vec<(OpId, DeviceOp)>,
    /// Under way, with a byte that is another one.
    corrupted: HashMap<OpId, (usize, u8)>,
}

/// How long to wait for faults to be removed until one looks again.
const PAUSE: Duration = Duration::from_millis(1);

impl<D: BlockDevice> ErrorDevice<D> {
    /// Fails nothing yet.
    #[must_use]
    pub fn new(inner: D) -> Self {
        Self::with_faults(inner, Faults::default())
    }

    /// With faults that somebody has already.
    #[must_use]
    pub fn with_faults(inner: D, faults: Faults) -> Self {
        Self {
            inner,
            faults,
            failed: Vec::new(),
            failures: 0,
            hanging: Vec::new(),
            healed: 0,
            again: Vec::new(),
            corrupted: HashMap::new(),
        }
    }

    /// Its faults, which can be changed from elsewhere.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// See [`Faults::inject`].
    pub fn inject(&mut self, fault: Fault) {
        self.faults.inject(fault);
    }

    /// See [`Faults::heal`].
    pub fn heal(&mut self) {
        self.faults.heal();
    }

    /// How many operations have been failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The device behind.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The device behind, for a change of its settings.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Takes what the device behind has done; waits for it if `may_block`.
    fn receive(&mut self, completions: &mut Vec<Completion>, may_block: bool) {
        self.resume();
        completions.append(&mut self.failed);
        let before = completions.len();
        if may_block {
            self.inner.wait(completions);
        } else {
            self.inner.poll(completions);
        }
        for done in &mut completions[before..] {
            // Of a read this is the fault; of a write it gives the submitter back what it had.
            if let Some((at, flip)) = self.corrupted.remove(&done.id)
                && let Some(buffer) = &mut done.buffer
            {
                flip_byte(buffer, at, flip);
            }
        }
    }

    /// Hands down what was put off, and what hung before the device was healed.
    fn resume(&mut self) {
        let healed = self.faults.lock().healed;
        let mut resumed = std::mem::take(&mut self.again);
        if healed != self.healed {
            self.healed = healed;
            resumed.append(&mut self.hanging);
        }
        resumed.into_iter().for_each(|(id, op)| self.submit(id, op));
    }

    /// Hands a write with another byte down, and remembers which byte of a read is to be another one.
    fn submit_corrupted(&mut self, id: OpId, mut op: DeviceOp, at: u64, flip: u8) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let hit = match &mut op {
            DeviceOp::Read { buffer, .. } => at < buffer.len(),
            DeviceOp::Write { buffer, .. } => flip_byte(buffer, at, flip),
            DeviceOp::WriteZeroes { .. } | DeviceOp::Unmap { .. } | DeviceOp::Sync => false,
        };
        if hit {
            self.corrupted.insert(id, (at, flip));
        }
        self.inner.submit(id, op);
    }
}

/// Flips bits of a byte, if there is one at that place.
fn flip_byte(buffer: &mut Buffer, at: usize, flip: u8) -> bool {
    buffer.as_mut_slice().get_mut(at).map(|byte| *byte ^= flip).is_some()
}

impl<D: BlockDevice> BlockDevice for ErrorDevice<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        // What the device would refuse anyway is not counted.
        let struck = match check(&self.inner.geometry(), &op) {
            Ok(()) => self.faults.strike(LoggedOp::of(&op), self.inner.outstanding()),
            Err(_) => None,
        };
        match struck {
            Some(Effect::Fail(error)) => {
                self.failures += 1;
                self.failed.push(completion(id, op, Err(error)));
            }
            Some(Effect::Hang) => self.hanging.push((id, op)),
            Some(Effect::Retry) => self.again.push((id, op)),
            Some(Effect::Corrupt { at, flip }) => self.submit_corrupted(id, op, at, flip),
            None => self.inner.submit(id, op),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.receive(completions, false);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        let before = completions.len();
        loop {
            // What hangs is only resumed by looking.
            let may_block = self.failed.is_empty() && self.hanging.is_empty() && self.again.is_empty();
            self.receive(completions, may_block);
            if completions.len() > before || self.outstanding() == 0 {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn outstanding(&self) -> usize {
        self.failed.len() + self.hanging.len() + self.again.len() + self.inner.outstanding()
    }
}

impl<D: HostDevice + 'static> HostDevice for ErrorDevice<D> {
    /// None while something is to be tried again, which is at the next poll.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.completion_fd().filter(|_| self.again.is_empty())
    }

    fn clear_wakeup(&self) {
        self.inner.clear_wakeup();
    }

    fn description(&self) -> String {
        format!("failing {}", self.inner.description())
    }

    fn stats(&self) -> DeviceStats {
        self.inner.stats()
    }

    fn into_below(self: Box<Self>) -> Option<Box<dyn HostDevice>> {
        Some(Box::new(self.inner))
    }

    fn grow(&mut self, size_bytes: u64) -> io::Result<()> {
        self.inner.grow(size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemDevice;
    use offshoot_block::{Buffer, DeviceOffset};

    /// Which of these fail: four writes at 0, 4096, 8192 and 12288, and a sync.
    fn failing(fault: Fault) -> Vec<u64> {
        let mut device = ErrorDevice::new(MemDevice::new(1 << 20, 512));
        device.inject(fault);
        for index in 0..4 {
            let (offset, buffer) = (DeviceOffset(index * 4096), Buffer::copy_of(&[7; 4096]));
            device.submit(OpId(index), DeviceOp::Write { offset, buffer });
        }
        device.submit(OpId(4), DeviceOp::Sync);
        let mut completions = Vec::new();
        while device.outstanding() > 0 {
            device.wait(&mut completions);
        }
        let failed: Vec<_> = completions.iter().filter(|done| done.result.is_err()).collect();
        assert_eq!(device.failures(), failed.len() as u64);
        for done in &failed {
            let at = usize::try_from(done.id.0).unwrap() * 4096;
            assert_eq!(device.inner().content()[at], 0, "a failed write reaches nothing");
        }
        failed.iter().map(|done| done.id.0).collect()
    }

    #[test]
    fn strikes_what_it_is_told_to() {
        let table = [
            (Fault::new(5), vec![0, 1, 2, 3, 4]),
            (Fault::new(5).on(OpKind::Sync), vec![4]),
            (Fault::new(5).on(OpKind::Write).after(1).times(2), vec![1, 2]),
            (Fault::new(5).within(5000..5001), vec![1]),
            (Fault::new(5).within(4096..8193), vec![1, 2]),
            (Fault::new(5).within(0..1 << 20), vec![0, 1, 2, 3]),
            (Fault::new(5).times(0), vec![]),
        ];
        for (fault, expected) in table {
            assert_eq!(failing(fault.clone()), expected, "{fault:?}");
        }
    }

    fn polled(device: &mut impl BlockDevice) -> Vec<Completion> {
        let mut completions = Vec::new();
        device.poll(&mut completions);
        completions
    }

    fn write(byte: u8) -> DeviceOp {
        DeviceOp::Write { offset: DeviceOffset(0), buffer: Buffer::copy_of(&[byte; 512]) }
    }

    #[test]
    fn what_hangs_goes_on_when_healed() {
        let mut device = ErrorDevice::new(MemDevice::new(1 << 20, 512));
        let faults = device.faults();
        faults.replace(Fault::hang().on(OpKind::Write).times(1));
        device.submit(OpId(1), write(1));
        device.submit(OpId(2), DeviceOp::Sync);
        assert_eq!(polled(&mut device).len(), 1);
        assert_eq!((polled(&mut device).len(), device.outstanding()), (0, 1));
        faults.heal();
        let done = polled(&mut device);
        assert_eq!((done[0].id, done[0].result, device.outstanding()), (OpId(1), Ok(()), 0));
        assert_eq!(device.inner().content()[0], 1);
    }

    #[test]
    fn what_is_put_off_is_done_at_a_later_poll() {
        let mut device = ErrorDevice::new(MemDevice::new(1 << 20, 512));
        device.inject(Fault::retry().times(2));
        device.submit(OpId(1), write(1));
        assert!(device.completion_fd().is_none());
        assert_eq!([polled(&mut device).len(), polled(&mut device).len()], [0, 1]);
    }

    #[test]
    fn one_byte_is_another_one() {
        let mut device = ErrorDevice::new(MemDevice::new(1 << 20, 512));
        device.faults().replace(Fault::corrupt(3, 0x81).on(OpKind::Write).times(1));
        device.submit(OpId(1), write(1));
        let done = polled(&mut device);
        assert_eq!(done[0].buffer.as_ref().unwrap().as_slice(), [1; 512], "the submitter has what it had");
        assert_eq!(device.inner().content()[..5], [1, 1, 1, 0x80, 1]);
        device.faults().replace(Fault::corrupt(512, 1).on(OpKind::Read));
        let read = || DeviceOp::Read { offset: DeviceOffset(0), buffer: Buffer::zeroed(512) };
        device.submit(OpId(2), read());
        assert_eq!(polled(&mut device)[0].buffer.as_ref().unwrap().as_slice()[..5], [1, 1, 1, 0x80, 1]);
        device.faults().replace(Fault::corrupt(0, 2).on(OpKind::Read));
        device.submit(OpId(3), read());
        assert_eq!(polled(&mut device)[0].buffer.as_ref().unwrap().as_slice()[..5], [3, 1, 1, 0x80, 1]);
    }

    #[test]
    fn strikes_from_a_depth_on() {
        let mut device = ErrorDevice::new(MemDevice::new(1 << 20, 512));
        device.inject(Fault::new(5).at_depth(2));
        (0..4).for_each(|id| device.submit(OpId(id), DeviceOp::Sync));
        let done = polled(&mut device);
        let failed: Vec<u64> =
            done.iter().filter(|done| done.result.is_err()).map(|done| done.id.0).collect();
        assert_eq!(failed, [2, 3]);
    }

    #[test]
    fn names_the_error() {
        for (errno, expected) in [(28, DeviceError::NoSpace), (6, DeviceError::Io { errno: 6 })] {
            assert_eq!(Fault::new(errno).effect, Effect::Fail(expected));
        }
    }
}
