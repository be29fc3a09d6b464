//! The engine on blocking calls in a pool of threads, for places where io_uring is forbidden.

use super::engine::{Engine, Finished};
use super::job::{Call, Job, ZEROS_BYTES};
use crate::bell::Bell;
use offshoot_block::{Buffer, DeviceError};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Most threads of one device. They are started when work finds none idle.
pub(super) const THREADS: usize = 16;

pub(super) struct ThreadEngine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    file: Arc<File>,
    wakeup: Bell,
    zeros: Buffer,
    state: Mutex<State>,
    /// Work has come, or the end.
    work: Condvar,
    /// A job has finished.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    finished: Vec<Finished>,
    /// Threads that wait for work.
    idle: usize,
    /// Jobs that a thread has taken and not finished.
    running: usize,
    closing: bool,
}

impl ThreadEngine {
    /// Starts the first thread.
    ///
    /// # Errors
    /// When there is no thread or no descriptor to be had.
    pub(super) fn new(file: Arc<File>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            file,
            wakeup: Bell::new()?,
            zeros: Buffer::zeroed(ZEROS_BYTES as usize),
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
        });
        let mut engine = Self { shared, threads: Vec::new() };
        engine.start_thread()?;
        Ok(engine)
    }

    fn start_thread(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let name = format!("offshoot-io-{}", self.threads.len());
        let thread = std::thread::Builder::new().name(name).spawn(move || shared.work())?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Engine for ThreadEngine {
    fn submit(&mut self, job: Job) {
        let mut state = self.shared.lock();
        state.queue.push_back(job);
        let short_of_threads = state.queue.len() > state.idle;
        drop(state);
        self.shared.work.notify_one();
        if short_of_threads && self.threads.len() < THREADS {
            // Without a further thread the others do the work, later.
            let _ = self.start_thread();
        }
    }

    fn poll(&mut self, finished: &mut Vec<Finished>) {
        finished.append(&mut self.shared.lock().finished);
    }

    fn wait(&mut self, finished: &mut Vec<Finished>) {
        let state = self.shared.lock();
        let mut state = self
            .shared
            .progress
            .wait_while(state, |state| {
                state.finished.is_empty() && (state.running > 0 || !state.queue.is_empty())
            })
            .unwrap_or_else(PoisonError::into_inner);
        finished.append(&mut state.finished);
    }

    fn completion_fd(&self) -> BorrowedFd<'_> {
        self.shared.wakeup.as_fd()
    }

    fn clear_wakeup(&self) {
        self.shared.wakeup.clear();
    }
}

impl Drop for ThreadEngine {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        state.queue.clear();
        drop(state);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on stderr; there is nobody to tell here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(mut job) = state.queue.pop_front() {
                state.running += 1;
                drop(state);
                let verdict = self.run(&mut job);
                state = self.lock();
                state.running -= 1;
                // An unread completion has rung already, and its reader takes this one as well.
                let must_ring = state.finished.is_empty();
                state.finished.push((job, verdict));
                self.progress.notify_one();
                if must_ring {
                    drop(state);
                    self.wakeup.ring();
                    state = self.lock();
                }
            } else if state.closing {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    fn run(&self, job: &mut Job) -> Result<(), DeviceError> {
        while let Some(call) = job.call() {
            let result = self.make(call, job.memory());
            if let Some(verdict) = job.advance(result) {
                return verdict;
            }
        }
        Ok(())
    }

    fn make(&self, call: Call, memory: &mut [u8]) -> Result<u32, Errno> {
        let moved = match call {
            Call::Read { offset, start, len } => {
                rustix::io::pread(&self.file, &mut memory[start..][..len as usize], offset)?
            }
            Call::Write { offset, start, len } => {
                rustix::io::pwrite(&self.file, &memory[start..][..len as usize], offset)?
            }
            Call::WriteZeros { offset, len } => {
                rustix::io::pwrite(&self.file, &self.zeros.as_slice()[..len as usize], offset)?
            }
            Call::Fallocate { how, offset, len } => {
                rustix::fs::fallocate(&self.file, how.flags(), offset, u64::from(len))?;
                0
            }
            Call::Sync => {
                rustix::fs::fdatasync(&self.file)?;
                0
            }
        };
        // At most the length of the call.
        u32::try_from(moved).map_err(|_| Errno::IO)
    }
}
