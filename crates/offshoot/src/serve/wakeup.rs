//! One descriptor for the completions of many devices.

use offshoot_device::HostDevice;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// An epoll instance over the completion descriptors of devices. Being a descriptor that can be polled itself, it
/// stands for all of them in the loop of the server: readable while any of them is.
///
/// Nobody waits on it here and no event is ever taken out: [`HostDevice::clear_wakeup`] is what makes it unreadable.
#[derive(Debug)]
pub(super) struct Wakeup {
    epoll: OwnedFd,
}

impl Wakeup {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches a device, as long as it lives. One without a descriptor has to be polled instead.
    pub(super) fn watch(&self, device: &impl HostDevice) -> io::Result<()> {
        match device.completion_fd() {
            Some(fd) => self.watch_descriptor(fd),
            None => Ok(()),
        }
    }

    /// Watches a device no longer: from now on somebody else waits for it.
    pub(super) fn unwatch(&self, device: &impl HostDevice) -> io::Result<()> {
        device.completion_fd().map_or(Ok(()), |fd| epoll::delete(&self.epoll, fd))
    }

    /// Watches a descriptor until it is closed.
    pub(super) fn watch_descriptor(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        epoll::add(&self.epoll, descriptor, EventData::new_u64(0), EventFlags::IN)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_block::{BlockDevice as _, Buffer, DeviceOffset, DeviceOp, OpId};
    use offshoot_device::{FileDevice, OpenOptions};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_readable(wakeup: &Wakeup, timeout: Option<&Timespec>) -> bool {
        let mut watched = [PollFd::from_borrowed_fd(wakeup.descriptor(), PollFlags::IN)];
        poll(&mut watched, timeout).unwrap() > 0
    }

    #[test]
    fn is_readable_while_any_device_is() {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let folder = tempfile::tempdir().unwrap();
        let wakeup = Wakeup::new().unwrap();
        let mut devices: Vec<FileDevice> = (0..3)
            .map(|number| {
                let path = folder.path().join(number.to_string());
                std::fs::write(&path, vec![7; 8192]).unwrap();
                FileDevice::open(path, &OpenOptions::writable()).unwrap()
            })
            .collect();
        for device in &devices {
            wakeup.watch(device).unwrap();
        }
        assert!(!is_readable(&wakeup, Some(&NOW)));
        for device in &mut devices {
            let op = DeviceOp::Read { offset: DeviceOffset(4096), buffer: Buffer::zeroed(4096) };
            device.submit(OpId(1), op);
            let mut completions = Vec::new();
            device.poll(&mut completions);
            assert!(is_readable(&wakeup, None));
            // The completion may have been there at once, before its descriptor was rung: wait for both.
            while completions.is_empty() {
                device.poll(&mut completions);
            }
            device.clear_wakeup();
            assert!(!is_readable(&wakeup, Some(&NOW)));
        }
    }
}
