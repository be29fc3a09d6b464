//! What the two ways of making system calls have in common.

use super::job::Job;
use offshoot_block::DeviceError;
use std::os::fd::BorrowedFd;

/// A job that has come to its end.
pub(super) type Finished = (Job, Result<(), DeviceError>);

/// Runs jobs. Dropping it waits for the calls under way and forgets the jobs that wait for one.
pub(super) trait Engine: Send {
    /// Takes a job that has a call to make.
    fn submit(&mut self, job: Job);

    /// Starts what can be started and appends what has finished, without blocking.
    fn poll(&mut self, finished: &mut Vec<Finished>);

    /// Like [`Engine::poll`], but blocks until a job has finished. At once when there is none.
    fn wait(&mut self, finished: &mut Vec<Finished>);

    /// Readable when jobs may have finished.
    fn completion_fd(&self) -> BorrowedFd<'_>;

    /// Makes the descriptor unreadable.
    fn clear_wakeup(&self);
}
