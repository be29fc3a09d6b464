//! Readiness of descriptors, by epoll.

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{self, Errno};
use std::mem::MaybeUninit;
use std::time::Duration;

/// Events taken in one turn. The others come in the next.
const EVENTS_MAX: usize = 256;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) input: bool,
    pub(super) output: bool,
}

impl Interest {
    pub(super) const INPUT: Self = Self { input: true, output: false };
    pub(super) const NONE: Self = Self { input: false, output: false };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.input);
        flags.set(EventFlags::OUT, self.output);
        flags
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) token: u64,
    pub(super) input: bool,
    /// The other end is gone, or the descriptor is in error.
    pub(super) hangup: bool,
}

/// An epoll instance. Level-triggered: what is not dealt with is reported again.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    ready: Vec<Ready>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, ready: Vec::with_capacity(EVENTS_MAX) })
    }

    pub(super) fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token), interest.flags())
    }

    pub(super) fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token), interest.flags())
    }

    pub(super) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        epoll::delete(&self.epoll, fd)
    }

    /// Waits until something is ready or the time is over; without a time, until something is ready.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
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
    pub(super) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// One of those.
    pub(super) fn ready(&self, index: usize) -> Ready {
        self.ready[index]
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
