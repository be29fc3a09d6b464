//! One operation as a series of system calls, without making any.
//!
//! A [`Job`] says which call comes next and is told how it went. Both engines run the same jobs, so
//! that short transfers, retries and what to do about an unsupported call are decided here alone.

use super::refused::{Reclaim, Refused};
use crate::check::completion;
use offshoot_block::{Buffer, Completion, DeviceError, DeviceOffset, DeviceOp, OpId};
use rustix::io::Errno;

/// Most bytes of one call. Below the limit of Linux (2 GiB less a page), and short enough that
/// zeroing a large device is not one call that nothing can interrupt.
pub(super) const CALL_BYTES: u32 = 1 << 30;

/// Most bytes of one call that writes zeros out of memory.
pub(super) const ZEROS_BYTES: u32 = 1 << 20;

/// How often one call is repeated when the kernel asks for it, before that becomes the error.
const RETRIES: u32 = 1000;

/// What a job needs to know about the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Medium {
    pub(super) is_block_device: bool,
    /// Unit that a partial transfer may be continued at, in bytes: the logical block under
    /// `O_DIRECT`, otherwise 1.
    pub(super) granule: u32,
    /// Ways of reclaiming space that the file has refused so far.
    pub(super) refused: Refused,
}

/// The next system call of a job. Offsets and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Read at `offset` of the file into the buffer from `start`.
    Read { offset: u64, start: usize, len: u32 },
    /// Write at `offset` of the file from the buffer from `start`.
    Write { offset: u64, start: usize, len: u32 },
    /// Write zeros, at most [`ZEROS_BYTES`].
    WriteZeros { offset: u64, len: u32 },
    /// `fallocate(2)`.
    Fallocate { how: Reclaim, offset: u64, len: u32 },
    /// `fdatasync(2)`.
    Sync,
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Job {
    id: OpId,
    op: DeviceOp,
    medium: Medium,
    done_bytes: u64,
    retries: u32,
}

impl Job {
    pub(super) fn new(id: OpId, op: DeviceOp, medium: Medium) -> Self {
        Self { id, op, medium, done_bytes: 0, retries: 0 }
    }

    /// The call to make next, `None` when there is nothing (left) to do.
    pub(super) fn call(&self) -> Option<Call> {
        match &self.op {
            DeviceOp::Read { offset, buffer } => {
                let (offset, start, len) = self.rest(*offset, buffer)?;
                Some(Call::Read { offset, start, len })
            }
            DeviceOp::Write { offset, buffer } => {
                let (offset, start, len) = self.rest(*offset, buffer)?;
                Some(Call::Write { offset, start, len })
            }
            DeviceOp::WriteZeroes { offset, len, .. } | DeviceOp::Unmap { offset, len } => {
                self.reclaim(offset.0 + self.done_bytes, len - self.done_bytes)
            }
            DeviceOp::Sync => (self.done_bytes == 0).then_some(Call::Sync),
        }
    }

    /// Takes the result of [`Job::call`], the count of bytes for a transfer. `None`: the job goes on.
    pub(super) fn advance(&mut self, result: Result<u32, Errno>) -> Option<Result<(), DeviceError>> {
        let call = self.call()?;
        match result {
            Ok(count) => self.progress(call, count),
            Err(Errno::INTR | Errno::AGAIN) if self.retries < RETRIES => {
                self.retries += 1;
                None
            }
            Err(errno) => match call {
                Call::Fallocate { how, .. } if is_unsupported(errno) => {
                    self.medium.refused.insert(how);
                    self.call().is_none().then_some(Ok(()))
                }
                _ => Some(Err(device_error(errno))),
            },
        }
    }

    /// What the file has refused, with what this job found out.
    pub(super) fn refused(&self) -> Refused {
        self.medium.refused
    }

    /// The memory that a read fills and a write takes; empty for the other operations.
    pub(super) fn memory(&mut self) -> &mut [u8] {
        match &mut self.op {
            DeviceOp::Read { buffer, .. } | DeviceOp::Write { buffer, .. } => buffer.as_mut_slice(),
            _ => &mut [],
        }
    }

    /// Ends the job and gives the buffer back.
    pub(super) fn complete(self, result: Result<(), DeviceError>) -> Completion {
        completion(self.id, self.op, result)
    }

    /// Position in the file, position in the buffer and length of what is left of a transfer.
    fn rest(&self, offset: DeviceOffset, buffer: &Buffer) -> Option<(u64, usize, u32)> {
        let start = usize::try_from(self.done_bytes).ok()?;
        let len = at_most(CALL_BYTES, buffer.len() as u64 - self.done_bytes);
        (len > 0).then_some((offset.0 + self.done_bytes, start, len))
    }

    fn reclaim(&self, offset: u64, rest: u64) -> Option<Call> {
        if rest == 0 {
            return None;
        }
        let order: &[Reclaim] = match self.op {
            // Zeros without giving the space back: a later write must not meet a full file system.
            DeviceOp::WriteZeroes { may_unmap: false, .. } => &[Reclaim::ZeroRange],
            DeviceOp::WriteZeroes { .. } => &[Reclaim::PunchHole, Reclaim::ZeroRange],
            _ if self.medium.is_block_device => &[Reclaim::Discard, Reclaim::PunchHole],
            _ => &[Reclaim::PunchHole],
        };
        if let Some(&how) = order.iter().find(|how| !self.medium.refused.contains(**how)) {
            return Some(Call::Fallocate { how, offset, len: at_most(CALL_BYTES, rest) });
        }
        let zeroes = matches!(self.op, DeviceOp::WriteZeroes { .. });
        zeroes.then(|| Call::WriteZeros { offset, len: at_most(ZEROS_BYTES, rest) })
    }

    fn progress(&mut self, call: Call, count: u32) -> Option<Result<(), DeviceError>> {
        let moved = match call {
            Call::Read { .. } | Call::Write { .. } | Call::WriteZeros { .. } => {
                // A remainder below the granule cannot be continued from: it is moved again.
                count - count % self.medium.granule
            }
            Call::Fallocate { len, .. } => len,
            Call::Sync => 1,
        };
        if moved == 0 {
            // A read meets the end of a file that was truncated below us; a write of nothing has no
            // reason that Linux would tell.
            return Some(Err(device_error(Errno::IO)));
        }
        self.retries = 0;
        self.done_bytes += u64::from(moved);
        self.call().is_none().then_some(Ok(()))
    }
}

/// The smaller one.
fn at_most(limit: u32, bytes: u64) -> u32 {
    u32::try_from(bytes).map_or(limit, |bytes| bytes.min(limit))
}

/// Whether `fallocate` said that the file does not have this mode. The range itself is known to be good.
fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV)
}

/// What an errno of a call means to a submitter.
pub(super) fn device_error(errno: Errno) -> DeviceError {
    match errno {
        Errno::NOSPC | Errno::DQUOT => DeviceError::NoSpace,
        errno => DeviceError::Io { errno: errno.raw_os_error() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn job(op: DeviceOp, is_block_device: bool, granule: u32) -> Job {
        let medium = Medium { is_block_device, granule, refused: Refused::default() };
        Job::new(OpId(1), op, medium)
    }

    fn read(len: usize) -> DeviceOp {
        DeviceOp::Read { offset: DeviceOffset(8192), buffer: Buffer::zeroed(len) }
    }

    fn zeroes(len: u64, may_unmap: bool) -> DeviceOp {
        DeviceOp::WriteZeroes { offset: DeviceOffset(0), len, may_unmap }
    }

    /// The ways a job tries, when each is refused, and how it ends.
    fn descent(op: DeviceOp, is_block_device: bool) -> (Vec<Reclaim>, Option<Call>) {
        let mut job = job(op, is_block_device, 1);
        let mut tried = Vec::new();
        while let Some(Call::Fallocate { how, .. }) = job.call() {
            tried.push(how);
            let _ = job.advance(Err(Errno::OPNOTSUPP));
        }
        (tried, job.call())
    }

    #[test]
    fn a_short_transfer_goes_on_where_it_stopped() {
        let mut job = job(read(8192), false, 512);
        assert_eq!(job.call(), Some(Call::Read { offset: 8192, start: 0, len: 8192 }));
        assert_eq!(job.advance(Ok(4097)), None);
        assert_eq!(job.call(), Some(Call::Read { offset: 8192 + 4096, start: 4096, len: 4096 }));
        assert_eq!(job.advance(Ok(4096)), Some(Ok(())));
        assert_eq!(job.call(), None);
    }

    #[test]
    fn the_end_of_the_file_is_an_error() {
        for count in [0, 511] {
            let verdict = job(read(8192), false, 512).advance(Ok(count));
            assert_eq!(verdict, Some(Err(DeviceError::Io { errno: 5 })), "{count}");
        }
    }

    #[test]
    fn interruptions_are_repeated_but_not_for_ever() {
        let mut job = job(read(512), false, 1);
        let calls = (0..2 * RETRIES).take_while(|_| job.advance(Err(Errno::INTR)).is_none()).count();
        assert_eq!(calls, RETRIES as usize);
    }

    #[test]
    fn unsupported_modes_fall_back() {
        use Reclaim::{Discard, PunchHole, ZeroRange};
        let unmap = || DeviceOp::Unmap { offset: DeviceOffset(0), len: 4096 };
        let write = Some(Call::WriteZeros { offset: 0, len: 4096 });
        assert_eq!(descent(zeroes(4096, true), false), (vec![PunchHole, ZeroRange], write));
        assert_eq!(descent(zeroes(4096, false), false), (vec![ZeroRange], write));
        assert_eq!(descent(unmap(), false), (vec![PunchHole], None));
        assert_eq!(descent(unmap(), true), (vec![Discard, PunchHole], None));
    }

    #[test]
    fn long_ranges_are_cut() {
        let mut job = job(zeroes(3 << 30, true), false, 1);
        assert_eq!(job.advance(Ok(0)), None);
        assert_eq!(job.advance(Err(Errno::OPNOTSUPP)), None);
        assert_eq!(job.advance(Err(Errno::OPNOTSUPP)), None);
        let mut calls = 0;
        while let Some(call) = job.call() {
            assert_eq!(call, Call::WriteZeros { offset: (1 << 30) + calls * MIB, len: 1 << 20 });
            let verdict = job.advance(Ok(1 << 20));
            calls += 1;
            assert_eq!(verdict.is_some(), calls == 2048);
        }
    }

    #[test]
    fn errors_keep_their_errno() {
        let table = [
            (Errno::NOSPC, DeviceError::NoSpace),
            (Errno::DQUOT, DeviceError::NoSpace),
            (Errno::IO, DeviceError::Io { errno: 5 }),
            (Errno::NXIO, DeviceError::Io { errno: 6 }),
        ];
        for (errno, expected) in table {
            assert_eq!(job(read(512), false, 1).advance(Err(errno)), Some(Err(expected)));
        }
    }
}
