//! The engine on io_uring.
//!
//! One ring per device. At most [`DEPTH`] calls are with the kernel, the rest waits in a backlog;
//! the completion queue is twice as long as that, so that it cannot overflow.
//!
//! # Why the `unsafe` here is sound
//!
//! The kernel reads and writes memory through the addresses in a submission entry until it has
//! posted the completion of that entry. So:
//!
//! - **U1** the memory belongs to a [`Job`] in `slots` or is `zeros`; both are heap allocations that
//!   do not move when their owner does;
//! - **U2** a job is neither looked at nor taken out of its slot between the push of its entry and
//!   the arrival of its completion, with the exception of U3;
//! - **U3** an entry that the kernel has not consumed may be dropped with its job only when the ring
//!   is never entered again, because nothing else makes the kernel read the submission queue;
//! - **U4** the engine outlives its entries: dropping it waits for what the kernel has, and if even
//!   waiting fails the memory is leaked.
//!
//! `tests/conformance.rs` exercises U1 and U2, `dropping_a_busy_device_waits` in `tests/files.rs` U3 and U4.
#![expect(unsafe_code, reason = "submission entries hold raw addresses, which io_uring cannot check")]

use super::engine::{Engine, Finished};
use super::job::{Call, Job, ZEROS_BYTES, device_error};
use crate::bell::Bell;
use io_uring::{IoUring, Probe, opcode, squeue, types};
use offshoot_block::Buffer;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

/// Calls that may be with the kernel at once.
const DEPTH: u32 = 256;

/// See the top of the file for the invariants U1 to U4.
pub(super) struct UringEngine {
    ring: IoUring,
    wakeup: Bell,
    file: Arc<File>,
    /// Jobs whose entry is in the submission queue or with the kernel. The index is the user data.
    slots: Vec<Option<Job>>,
    /// Indexes of empty slots.
    free: Vec<u32>,
    /// Slots whose entries the kernel has not consumed yet, in the order of the submission queue.
    unconsumed: VecDeque<u32>,
    /// Jobs without a slot.
    backlog: VecDeque<Job>,
    /// What zeroing by hand writes.
    zeros: Buffer,
    /// Set when the kernel refused to be entered: then it never is again (U3).
    broken: Option<Errno>,
}

impl UringEngine {
    /// Sets a ring up for `file`.
    ///
    /// # Errors
    /// ENOSYS, EPERM, EACCES, ENOMEM: io_uring is not to be had here. ENOSYS also stands for a
    /// kernel whose io_uring lacks one of the calls (before 5.6).
    pub(super) fn new(file: Arc<File>) -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().build(DEPTH)?;
        let mut probe = Probe::new();
        let codes = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE, opcode::Fallocate::CODE];
        let probed = ring.submitter().register_probe(&mut probe);
        if probed.is_err() || !codes.iter().all(|code| probe.is_supported(*code)) {
            return Err(Errno::NOSYS.into());
        }
        let wakeup = Bell::new()?;
        ring.submitter().register_eventfd(wakeup.as_fd().as_raw_fd())?;
        Ok(Self {
            ring,
            wakeup,
            file,
            slots: (0..DEPTH).map(|_| None).collect(),
            free: (0..DEPTH).rev().collect(),
            unconsumed: VecDeque::with_capacity(DEPTH as usize),
            backlog: VecDeque::new(),
            zeros: Buffer::zeroed(ZEROS_BYTES as usize),
            broken: None,
        })
    }

    /// Jobs whose entries the kernel has or will be given.
    fn in_slots(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Moves jobs from the backlog to the submission queue.
    fn fill(&mut self, finished: &mut Vec<Finished>) {
        if let Some(errno) = self.broken {
            finished.extend(self.backlog.drain(..).map(|job| (job, Err(device_error(errno)))));
            return;
        }
        while let Some(slot) = self.free.pop() {
            let Some(job) = self.backlog.pop_front() else {
                self.free.push(slot);
                return;
            };
            let Some(call) = job.call() else {
                self.free.push(slot);
                finished.push((job, Ok(())));
                continue;
            };
            if !self.push(slot, job, call) {
                return;
            }
        }
    }

    /// Puts a job into a slot and queues its call. Whether the submission queue had room; as long as
    /// it has as many entries as there are slots, it does.
    fn push(&mut self, slot: u32, job: Job, call: Call) -> bool {
        let job = self.slots[slot as usize].insert(job);
        let entry = entry(self.file.as_raw_fd(), call, job.memory(), &self.zeros);
        // SAFETY: the entry holds the file's descriptor, which is open while `self` lives, and an
        // address within the buffer of the job in `slot` or within `zeros`, with a length that
        // `entry` has checked against that memory (U1). Nobody else has access to the buffer: the
        // job owns it. From here on the job stays in its slot, untouched, until its completion (U2,
        // U3), and `drop` sees to it that the memory outlives the call (U4). When the push fails, the
        // kernel has learnt nothing and the job may go.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(u64::from(slot))) }.is_ok();
        if pushed {
            self.unconsumed.push_back(slot);
        } else if let Some(job) = self.slots[slot as usize].take() {
            self.backlog.push_front(job);
            self.free.push(slot);
        }
        pushed
    }

    /// Tells the kernel of new entries and waits until `want` completions are there.
    fn enter(&mut self, want: usize, finished: &mut Vec<Finished>) {
        if self.broken.is_some() || (want == 0 && self.unconsumed.is_empty()) {
            return;
        }
        match self.ring.submit_and_wait(want).map_err(|error| Errno::from_io_error(&error)) {
            Ok(consumed) => {
                self.unconsumed.drain(..consumed.min(self.unconsumed.len()));
            }
            // For the moment. An event loop would sleep if nothing else is under way, so call it back.
            Err(Some(Errno::INTR | Errno::AGAIN | Errno::BUSY)) => self.wakeup.ring(),
            Err(errno) => self.give_up(errno.unwrap_or(Errno::IO), finished),
        }
    }

    /// The kernel will not be entered again. What it has not consumed, it never will (U3).
    fn give_up(&mut self, errno: Errno, finished: &mut Vec<Finished>) {
        self.broken = Some(errno);
        let left = self.ring.submission().len();
        let consumed = self.unconsumed.len().saturating_sub(left);
        for slot in self.unconsumed.drain(..).skip(consumed) {
            finished.extend(self.slots[slot as usize].take().map(|job| (job, Err(device_error(errno)))));
            self.free.push(slot);
        }
        self.wakeup.ring();
    }

    /// Takes completions; jobs that are not done go to the front of the backlog.
    fn reap(&mut self, finished: &mut Vec<Finished>) {
        for completion in self.ring.completion() {
            let Ok(slot) = u32::try_from(completion.user_data()) else {
                continue;
            };
            let Some(mut job) = self.slots.get_mut(slot as usize).and_then(Option::take) else {
                continue;
            };
            self.free.push(slot);
            let result = u32::try_from(completion.result())
                .map_err(|_| Errno::from_raw_os_error(completion.result().wrapping_neg()));
            match job.advance(result) {
                Some(verdict) => finished.push((job, verdict)),
                None => self.backlog.push_front(job),
            }
        }
    }

    /// Waits for the kernel without giving it anything new.
    fn sleep(&mut self) -> Result<(), Errno> {
        self.wakeup.clear();
        if self.ring.completion().is_empty() { self.wakeup.sleep() } else { Ok(()) }
    }
}

impl Engine for UringEngine {
    fn submit(&mut self, job: Job) {
        self.backlog.push_back(job);
    }

    fn poll(&mut self, finished: &mut Vec<Finished>) {
        self.fill(finished);
        self.enter(0, finished);
        self.reap(finished);
        // Slots have become free and jobs have come back. What this completes rings the eventfd.
        self.fill(finished);
        self.enter(0, finished);
    }

    fn wait(&mut self, finished: &mut Vec<Finished>) {
        let before = finished.len();
        self.reap(finished);
        loop {
            self.fill(finished);
            let must_wait = finished.len() == before && self.in_slots() > 0;
            if self.broken.is_none() {
                // One system call both starts and waits.
                self.enter(usize::from(must_wait), finished);
            } else if must_wait && self.sleep().is_err() {
                return;
            }
            self.reap(finished);
            if finished.len() > before || self.in_slots() + self.backlog.len() == 0 {
                return;
            }
        }
    }

    fn completion_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    fn clear_wakeup(&self) {
        self.wakeup.clear();
    }
}

impl Drop for UringEngine {
    /// Waits for what the kernel has, forgets what it has not (U4).
    fn drop(&mut self) {
        let mut finished = Vec::new();
        // Not entering the ring again is what makes dropping the unconsumed entries sound (U3).
        self.give_up(Errno::CANCELED, &mut finished);
        loop {
            self.reap(&mut finished);
            if self.in_slots() == 0 {
                return;
            }
            if self.sleep().is_err() {
                std::mem::forget(std::mem::take(&mut self.slots));
                std::mem::forget(std::mem::take(&mut self.zeros));
                return;
            }
        }
    }
}

/// The submission entry of a call, on the memory of its job.
///
/// # Panics
/// When the call goes beyond the memory, which would be an error in [`Job`].
fn entry(file: RawFd, call: Call, memory: &mut [u8], zeros: &Buffer) -> squeue::Entry {
    let file = types::Fd(file);
    match call {
        Call::Read { offset, start, len } => {
            let target = &mut memory[start..][..len as usize];
            opcode::Read::new(file, target.as_mut_ptr(), len).offset(offset).build()
        }
        Call::Write { offset, start, len } => {
            let source = &memory[start..][..len as usize];
            opcode::Write::new(file, source.as_ptr(), len).offset(offset).build()
        }
        Call::WriteZeros { offset, len } => {
            let source = &zeros.as_slice()[..len as usize];
            opcode::Write::new(file, source.as_ptr(), len).offset(offset).build()
        }
        Call::Fallocate { how, offset, len } => opcode::Fallocate::new(file, u64::from(len))
            .offset(offset)
            .mode(how.flags().bits().cast_signed())
            .build(),
        Call::Sync => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Medium;
    use super::super::refused::Refused;
    use super::*;
    use offshoot_block::{DeviceError, DeviceOffset, DeviceOp, OpId};

    fn engine() -> Option<UringEngine> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        match UringEngine::new(Arc::new(file)) {
            Ok(engine) => Some(engine),
            Err(error) => {
                eprintln!("SKIPPED: io_uring: {error}");
                None
            }
        }
    }

    fn submit_reads(engine: &mut UringEngine, count: u64) {
        let medium = Medium { is_block_device: false, granule: 1, refused: Refused::default() };
        for index in 0..count {
            let (offset, buffer) = (DeviceOffset((index % 64) << 20), Buffer::zeroed(1 << 16));
            engine.submit(Job::new(OpId(index), DeviceOp::Read { offset, buffer }, medium));
        }
    }

    #[test]
    fn a_kernel_that_turns_away_gets_nothing_new_and_loses_nothing() {
        let Some(mut engine) = engine() else { return };
        let mut finished = Vec::new();
        submit_reads(&mut engine, 100);
        engine.fill(&mut finished);
        engine.enter(0, &mut finished);
        submit_reads(&mut engine, 1000);
        engine.fill(&mut finished);
        engine.give_up(Errno::PERM, &mut finished);
        while engine.in_slots() + engine.backlog.len() > 0 {
            engine.wait(&mut finished);
        }
        assert_eq!(finished.len(), 1100);
        let turned_away =
            finished.iter().filter(|(_, verdict)| *verdict == Err(DeviceError::Io { errno: 1 })).count();
        let done = finished.iter().filter(|(_, verdict)| verdict.is_ok()).count();
        assert_eq!((done, turned_away), (100, 1000));

        submit_reads(&mut engine, 1);
        engine.wait(&mut finished);
        assert_eq!(finished.len(), 1101);
    }

    #[test]
    fn dropping_forgets_what_the_kernel_never_saw() {
        let Some(mut engine) = engine() else { return };
        submit_reads(&mut engine, 1000);
        engine.fill(&mut Vec::new());
        assert_eq!(engine.unconsumed.len(), DEPTH as usize);
        drop(engine);
    }
}
