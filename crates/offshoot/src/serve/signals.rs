//! SIGTERM and SIGINT, and SIGHUP, as readable descriptors.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
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

/// SIGHUP, which asks for the configuration to be read again.
#[derive(Debug)]
pub(super) struct ReloadSignal {
    receiver: UnixStream,
}

impl ReloadSignal {
    /// Takes the signal over from now on.
    pub(super) fn install() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        pipe::register(SIGHUP, sender)?;
        Ok(Self { receiver })
    }

    /// Whether it has arrived since this was asked last.
    pub(super) fn take(&self) -> bool {
        let mut arrived = false;
        while matches!((&self.receiver).read(&mut [0; 64]), Ok(1..)) {
            arrived = true;
        }
        arrived
    }
}

/// Readable when the signal has arrived.
impl AsFd for ReloadSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
