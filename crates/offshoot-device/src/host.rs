//! What an event loop needs to know about a driver beyond [`BlockDevice`].

use crate::DeviceStats;
use offshoot_block::BlockDevice;
use std::os::fd::BorrowedFd;

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
}
