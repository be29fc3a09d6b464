//! The descriptor that tells an event loop of completions.

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An eventfd: readable from [`Wakeup::ring`] until [`Wakeup::clear`].
#[derive(Debug)]
pub(super) struct Wakeup(OwnedFd);

impl Wakeup {
    pub(super) fn new() -> Result<Self, Errno> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    #[expect(clippy::host_endian_bytes, reason = "an integer for our own kernel")]
    pub(super) fn ring(&self) {
        // The only error is a full counter, and then the descriptor is readable anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(super) fn clear(&self) {
        // The only error is that there is nothing to clear.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Blocks until the descriptor is readable.
    pub(super) fn sleep(&self) -> Result<(), Errno> {
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
