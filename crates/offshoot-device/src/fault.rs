//! A device that fails on demand.

use crate::check::{check, completion};
use crate::{DeviceStats, HostDevice, LoggedOp, OpKind};
use offshoot_block::{BlockDevice, Completion, DeviceError, DeviceGeometry, DeviceOp, OpId};
use rustix::io::Errno;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// Which operations an [`ErrorDevice`] fails, and how. By default: every one from now on.
///
/// ```
/// # use offshoot_device::{Fault, OpKind};
/// // The third write to the first MiB fails with EIO, and no other.
/// let fault = Fault::new(5).on(OpKind::Write).within(0..1 << 20).after(2).times(1);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    error: DeviceError,
    kind: Option<OpKind>,
    range: Option<Range<u64>>,
    /// Matching operations that still pass.
    skip: u64,
    /// Matching operations that still fail after those.
    count: u64,
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
        Self { error, kind: None, range: None, skip: 0, count: u64::MAX }
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

    /// Counts an operation and says whether it fails.
    fn strike(&mut self, op: LoggedOp) -> Option<DeviceError> {
        if !self.matches(op) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.count = self.count.checked_sub(1)?;
        Some(self.error)
    }
}

/// Fails chosen operations of another device. What fails never reaches it.
#[derive(Debug)]
pub struct ErrorDevice<D> {
    inner: D,
    faults: Vec<Fault>,
    failed: Vec<Completion>,
    failures: u64,
}

impl<D: BlockDevice> ErrorDevice<D> {
    /// Fails nothing yet.
    #[must_use]
    pub fn new(inner: D) -> Self {
        Self { inner, faults: Vec::new(), failed: Vec::new(), failures: 0 }
    }

    /// Adds a fault. Every fault counts every operation that it matches; the oldest one that strikes
    /// gives the error.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Removes all faults.
    pub fn heal(&mut self) {
        self.faults.clear();
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

    fn strike(&mut self, op: LoggedOp) -> Option<DeviceError> {
        let mut error = None;
        for fault in &mut self.faults {
            error = error.or(fault.strike(op));
        }
        error
    }
}

impl<D: BlockDevice> BlockDevice for ErrorDevice<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        // What the device would refuse anyway is not counted.
        let struck = match check(&self.inner.geometry(), &op) {
            Ok(()) => self.strike(LoggedOp::of(&op)),
            Err(_) => None,
        };
        match struck {
            Some(error) => {
                self.failures += 1;
                self.failed.push(completion(id, op, Err(error)));
            }
            None => self.inner.submit(id, op),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.failed);
        self.inner.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        if self.failed.is_empty() {
            self.inner.wait(completions);
        } else {
            self.poll(completions);
        }
    }

    fn outstanding(&self) -> usize {
        self.failed.len() + self.inner.outstanding()
    }
}

impl<D: HostDevice> HostDevice for ErrorDevice<D> {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.completion_fd()
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

    #[test]
    fn names_the_error() {
        for (errno, expected) in [(28, DeviceError::NoSpace), (6, DeviceError::Io { errno: 6 })] {
            assert_eq!(Fault::new(errno).error, expected);
        }
    }
}
