//! A device that takes its time.

use crate::{DeviceStats, HostDevice};
use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long a [`DelayDevice`] holds a completion back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// For this many further polls. The same in every run.
    Polls(u64),
    /// For this time.
    Time(Duration),
}

/// Where a [`DelayDevice`] gets its time.
pub trait Clock: Send {
    /// The time.
    fn now(&self) -> Instant;

    /// Returns when the time has advanced by `duration`.
    fn sleep(&self, duration: Duration);
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Hands out the completions of another device late, counted from the poll that brought them.
///
/// Their order stays. The operations themselves are not held back: a write that is late to be
/// acknowledged may long be visible.
pub struct DelayDevice<D> {
    inner: D,
    delay: Delay,
    clock: Box<dyn Clock>,
    polls: u64,
    held: VecDeque<(Due, Completion)>,
    /// Kept for its allocation.
    arrived: Vec<Completion>,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Poll(u64),
    Time(Instant),
}

impl<D: BlockDevice> DelayDevice<D> {
    /// Delays `inner` by the clock of the operating system.
    #[must_use]
    pub fn new(inner: D, delay: Delay) -> Self {
        Self::with_clock(inner, delay, SystemClock)
    }

    /// Delays `inner` by another clock.
    #[must_use]
    pub fn with_clock(inner: D, delay: Delay, clock: impl Clock + 'static) -> Self {
        Self { inner, delay, clock: Box::new(clock), polls: 0, held: VecDeque::new(), arrived: Vec::new() }
    }

    /// Changes the delay of what completes from now on. What is held may hold it up: the order stays.
    pub fn set_delay(&mut self, delay: Delay) {
        self.delay = delay;
    }

    /// The device behind.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The device behind, for a change of its settings.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    fn hold(&mut self) {
        let due = match self.delay {
            Delay::Polls(polls) => Due::Poll(self.polls.saturating_add(polls)),
            Delay::Time(duration) => Due::Time(self.clock.now() + duration),
        };
        self.held.extend(self.arrived.drain(..).map(|completion| (due, completion)));
    }

    fn release(&mut self, completions: &mut Vec<Completion>) {
        let (polls, now) = (self.polls, self.clock.now());
        let is_due = |entry: &mut (Due, Completion)| match entry.0 {
            Due::Poll(poll) => poll <= polls,
            Due::Time(time) => time <= now,
        };
        while let Some((_, completion)) = self.held.pop_front_if(is_due) {
            completions.push(completion);
        }
    }
}

impl<D: BlockDevice> BlockDevice for DelayDevice<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.inner.submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.polls = self.polls.saturating_add(1);
        self.inner.poll(&mut self.arrived);
        self.hold();
        self.release(completions);
    }

    /// Waiting counts as polling as often as it takes.
    fn wait(&mut self, completions: &mut Vec<Completion>) {
        let before = completions.len();
        self.poll(completions);
        while completions.len() == before && self.outstanding() > 0 {
            match self.held.front() {
                None => {
                    self.inner.wait(&mut self.arrived);
                    self.hold();
                }
                Some((Due::Poll(_), _)) => {}
                Some((Due::Time(time), _)) => {
                    self.clock.sleep(time.saturating_duration_since(self.clock.now()));
                }
            }
            self.poll(completions);
        }
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding() + self.held.len()
    }
}

impl<D: HostDevice> HostDevice for DelayDevice<D> {
    /// None: the descriptor of the inner device knows nothing of the delay.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn clear_wakeup(&self) {
        self.inner.clear_wakeup();
    }

    fn description(&self) -> String {
        format!("delayed {}", self.inner.description())
    }

    fn stats(&self) -> DeviceStats {
        self.inner.stats()
    }

    fn grow(&mut self, size_bytes: u64) -> io::Result<()> {
        self.inner.grow(size_bytes)
    }
}

impl<D: fmt::Debug> fmt::Debug for DelayDevice<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayDevice")
            .field("inner", &self.inner)
            .field("delay", &self.delay)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemDevice;
    use std::sync::{Arc, Mutex};

    /// Stands still but for sleepers.
    #[derive(Clone)]
    struct ManualClock(Arc<Mutex<Instant>>);

    impl Clock for ManualClock {
        fn now(&self) -> Instant {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    fn polled(device: &mut impl BlockDevice) -> usize {
        let mut completions = Vec::new();
        device.poll(&mut completions);
        completions.len()
    }

    #[test]
    fn holds_for_polls() {
        let mut device = DelayDevice::new(MemDevice::new(1 << 20, 512), Delay::Polls(2));
        device.submit(OpId(1), DeviceOp::Sync);
        assert_eq!([polled(&mut device), polled(&mut device)], [0, 0]);
        assert_eq!(device.outstanding(), 1);
        assert_eq!(polled(&mut device), 1);
        assert_eq!(device.outstanding(), 0);
    }

    #[test]
    fn holds_for_a_time() {
        let second = Duration::from_secs(1);
        let clock = ManualClock(Arc::new(Mutex::new(Instant::now())));
        let mem = MemDevice::new(1 << 20, 512);
        let mut device = DelayDevice::with_clock(mem, Delay::Time(second), clock.clone());
        device.submit(OpId(1), DeviceOp::Sync);
        assert_eq!(polled(&mut device), 0);
        clock.sleep(second / 2);
        assert_eq!(polled(&mut device), 0);
        clock.sleep(second / 2);
        assert_eq!(polled(&mut device), 1);
    }

    #[test]
    fn waiting_makes_the_time_pass() {
        let start = Instant::now();
        let clock = ManualClock(Arc::new(Mutex::new(start)));
        for delay in [Delay::Polls(100), Delay::Time(Duration::from_secs(1000))] {
            let mem = MemDevice::new(1 << 20, 512);
            let mut device = DelayDevice::with_clock(mem, delay, clock.clone());
            device.submit(OpId(1), DeviceOp::Sync);
            let mut completions = Vec::new();
            device.wait(&mut completions);
            assert_eq!(completions.len(), 1);
            device.wait(&mut completions);
            assert_eq!(completions.len(), 1, "nothing is outstanding");
        }
        assert_eq!(clock.now() - start, Duration::from_secs(1000));
    }
}
