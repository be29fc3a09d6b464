//! The descriptor that tells an event loop that there is something to look at.

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An eventfd: readable from [`Bell::ring`] until [`Bell::clear`].
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// One that has not been rung.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn new() -> Result<Self, Errno> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    /// Makes it readable.
    #[expect(clippy::host_endian_bytes, reason = "an integer for our own kernel")]
    pub fn ring(&self) {
        // The only error is a full counter, and then the descriptor is readable anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        // The only error is that there is nothing to clear.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Blocks until it is readable, or a signal arrives.
    ///
    /// # Errors
    /// The operating system does not wait.
    pub fn sleep(&self) -> Result<(), Errno> {
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
