//! Readiness of descriptors, by epoll.

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{self, Errno};
use std::mem::MaybeUninit;
use std::time::Duration;

/// Events taken in one turn. The others come in the next.
const EVENTS_MAX: usize = 256;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to read, or a client to accept.
    pub input: bool,
    /// Room to write.
    pub output: bool,
}

impl Interest {
    /// Only input.
    pub const INPUT: Self = Self { input: true, output: false };
    /// Nothing; an end or an error is told all the same.
    pub const NONE: Self = Self { input: false, output: false };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.input);
        flags.set(EventFlags::OUT, self.output);
        flags
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What the descriptor was added with.
    pub token: u64,
    /// There is something to read or to accept.
    pub input: bool,
    /// The other end is gone, or the descriptor is in error.
    pub hangup: bool,
}

/// An epoll instance. Level-triggered: what is not dealt with is reported again.
///
/// It can be watched itself, and is readable while any of its descriptors is ready.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    ready: Vec<Ready>,
}

impl Poller {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, ready: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Watches a descriptor until it is removed or closed.
    ///
    /// # Errors
    /// Those of the operating system: it is watched already, or there is no memory.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token), interest.flags())
    }

    /// Watches a descriptor for something else.
    ///
    /// # Errors
    /// It is not watched.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token), interest.flags())
    }

    /// Watches a descriptor no more.
    ///
    /// # Errors
    /// It is not watched.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        epoll::delete(&self.epoll, fd)
    }

    /// Waits until something is ready or the time is over; without a time, until something is ready.
    ///
    /// # Errors
    /// None in the ordinary course of things; an interruption is none.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ready.clear();
        let timeout = timeout.map(timespec);
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS_MAX];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => self.ready.extend(events.iter().map(Ready::from)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// How many descriptors the last wait found ready.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// One of those.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn ready(&self, index: usize) -> Ready {
        self.ready[index]
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl From<&Event> for Ready {
    fn from(event: &Event) -> Self {
        let Event { flags, data, .. } = *event;
        Self {
            token: data.u64(),
            input: flags.contains(EventFlags::IN),
            hangup: flags.intersects(EventFlags::HUP | EventFlags::ERR),
        }
    }
}

/// Rounds up to the millisecond, which is all that older kernels offer: waking up a little early would only spin.
fn timespec(duration: Duration) -> Timespec {
    let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Timespec {
        tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    }
}
