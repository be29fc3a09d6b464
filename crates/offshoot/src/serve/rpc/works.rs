//! What cannot be done without waiting, on threads: making, opening and closing stores, and calls to the kernel's NBD client.

use super::super::openings::StoreId;
use super::answers::Asker;
use super::bases::Ground;
use super::disks::DiskDone;
use offshoot_rpc::Reply;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

/// What a work came to.
pub(super) struct Done {
    /// Who waits for it.
    pub(super) asker: Option<Asker>,
    pub(super) outcome: Outcome,
}

/// What there is to do about it.
pub(super) enum Outcome {
    /// A bdev holds something else now, and that is what to answer.
    Base(String, Ground, Reply),
    /// Whether the device of a store is lost.
    Probed(StoreId, bool),
    /// Something has become of a device of the kernel's.
    Disk(DiskDone),
}

/// Works under way, a thread each.
pub(super) struct Works {
    sender: Sender<Done>,
    receiver: Receiver<Done>,
    bell: UnixStream,
    /// Readable when a work is done.
    rung: UnixStream,
    running: usize,
}

impl Works {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let (bell, rung) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        Ok(Self { sender, receiver, bell, rung, running: 0 })
    }

    /// Starts a work.
    ///
    /// # Errors
    /// There is no thread to be had; the work, and what it held, is gone.
    pub(super) fn start(
        &mut self,
        asker: Option<Asker>,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) -> io::Result<()> {
        let (sender, mut bell) = (self.sender.clone(), self.bell.try_clone()?);
        thread::Builder::new().name("rpc".to_owned()).spawn(move || {
            let outcome = work();
            // Fails when nobody is there any more who would want to know.
            let _ = sender.send(Done { asker, outcome });
            // A full socket is readable already.
            let _ = bell.write(&[1]);
        })?;
        self.running += 1;
        Ok(())
    }

    /// Works under way.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// The next work that is done.
    pub(super) fn poll(&mut self) -> Option<Done> {
        if self.running == 0 {
            return None;
        }
        // Before looking: what is done from here on rings again.
        let mut bytes = [0; 64];
        while matches!(self.rung.read(&mut bytes), Ok(count) if count > 0) {}
        let done = self.receiver.try_recv().ok()?;
        self.running -= 1;
        Some(done)
    }
}

impl AsFd for Works {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rung.as_fd()
    }
}
