//! What an event loop needs to know about a driver beyond [`BlockDevice`].

use crate::DeviceStats;
use offshoot_block::BlockDevice;
use std::io;
use std::os::fd::BorrowedFd;

/// What has become of a file or block device that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    There,
    /// The file has no name any more. What it holds goes when it is closed.
    Unlinked,
    /// The block device is gone, and nothing that is asked of it succeeds. One that comes back is another one.
    Gone,
}

/// A device that an event loop can sleep on.
///
/// The loop submits, polls once to start what it submitted, and sleeps. Woken by
/// [`HostDevice::completion_fd`] it calls [`HostDevice::clear_wakeup`] **before** it polls: a
/// completion that arrives in between then wakes it again instead of being missed.
pub trait HostDevice: BlockDevice + Send {
    /// Becomes readable when completions may be ready. May be readable without any.
    ///
    /// `None`: the device has no descriptor of its own. Poll it again, without sleeping, as long as
    /// [`BlockDevice::outstanding`] is above zero.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Makes [`HostDevice::completion_fd`] unreadable until the next completion.
    fn clear_wakeup(&self);

    /// What it is and how it is driven, in words for people.
    fn description(&self) -> String;

    /// What it was asked to do since it was made; nothing where nobody counts.
    fn stats(&self) -> DeviceStats {
        DeviceStats::default()
    }

    /// Whether what it was opened from is there. Asks the operating system, so not with every operation.
    fn presence(&self) -> Presence {
        Presence::There
    }

    /// Another device that holds what this one holds now, where there can be one at no cost worth mentioning.
    fn duplicate(&self) -> Option<Box<dyn HostDevice>> {
        None
    }

    /// The device that this one lies on, where it is one on another. What is under way is lost.
    fn into_below(self: Box<Self>) -> Option<Box<dyn HostDevice>> {
        None
    }

    /// Makes the device at least `size_bytes` long, where that is in its power, and takes over the size that it has by
    /// then. Blocks; operations may be in flight. What is new of a file or of memory reads as zeros.
    ///
    /// # Errors
    /// The size cannot be changed or found out, or the device has become smaller, which is not taken over.
    fn grow(&mut self, size_bytes: u64) -> io::Result<()>;
}

impl<D: HostDevice + ?Sized> HostDevice for Box<D> {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        (**self).completion_fd()
    }

    fn clear_wakeup(&self) {
        (**self).clear_wakeup();
    }

    fn description(&self) -> String {
        (**self).description()
    }

    fn stats(&self) -> DeviceStats {
        (**self).stats()
    }

    fn presence(&self) -> Presence {
        (**self).presence()
    }

    fn duplicate(&self) -> Option<Box<dyn HostDevice>> {
        (**self).duplicate()
    }

    fn into_below(self: Box<Self>) -> Option<Box<dyn HostDevice>> {
        (*self).into_below()
    }

    fn grow(&mut self, size_bytes: u64) -> io::Result<()> {
        (**self).grow(size_bytes)
    }
}
