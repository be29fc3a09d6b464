//! SIGTERM and SIGINT as a readable descriptor.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

/// The signals that end the server. They interrupt nothing: each only leaves a byte in a pipe, so that the closing of
/// stores, once it has begun, is not disturbed by further ones.
#[derive(Debug)]
pub(super) struct StopSignals {
    receiver: UnixStream,
}

impl StopSignals {
    /// Takes the signals over from now on.
    pub(super) fn install() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Self { receiver })
    }

    /// Readable for good once a signal has arrived.
    pub(super) fn pending(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
