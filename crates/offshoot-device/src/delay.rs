//! A device that takes its time.

use crate::{DeviceStats, HostDevice};
use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId, OpKind};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a [`DelayDevice`] holds a completion back.
#[derive(Clone, Debug)]
pub enum Delay {
    /// For this many further polls. The same in every run.
    Polls(u64),
    /// For this time.
    Time(Duration),
    /// Reads and writes for times of their own, everything else not at all.
    Each(Arc<Latencies>),
}

/// One of the times of [`Latencies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Of 99 in 100 reads.
    AverageRead,
    /// Of the others.
    P99Read,
    /// Of 99 in 100 writes.
    AverageWrite,
    /// Of the others.
    P99Write,
}

/// How long reads and writes are held back, and how long one in a hundred of them, which is drawn. In microseconds. Can be
/// changed while the device is in use elsewhere: what completes from then on takes that long.
#[derive(Debug, Default)]
pub struct Latencies {
    micros: [AtomicU64; 4],
    draws: AtomicU64,
}

impl Latencies {
    /// Sets one of the times, in microseconds.
    pub fn set(&self, which: Latency, micros: u64) {
        self.micros[which as usize].store(micros, Ordering::Relaxed);
    }

    /// One of the times, in microseconds.
    #[must_use]
    pub fn get(&self, which: Latency) -> u64 {
        self.micros[which as usize].load(Ordering::Relaxed)
    }

    fn of(&self, kind: OpKind) -> Duration {
        let (average, p99) = match kind {
            OpKind::Read => (Latency::AverageRead, Latency::P99Read),
            OpKind::Write => (Latency::AverageWrite, Latency::P99Write),
            OpKind::WriteZeroes | OpKind::Unmap | OpKind::Sync => return Duration::ZERO,
        };
        // A linear congruential generator (Knuth's MMIX): its high bits are random enough for one in a hundred.
        let step = |state: u64| {
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
        };
        let draw = step(self.draws.load(Ordering::Relaxed));
        self.draws.store(draw, Ordering::Relaxed);
        let which = if (draw >> 33).is_multiple_of(100) { p99 } else { average };
        Duration::from_micros(self.get(which))
    }
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
/// The operations themselves are not held back: a write that is late to be acknowledged may long be visible. What is due at
/// the same time comes in the order in which it completed.
pub struct DelayDevice<D> {
    inner: D,
    delay: Delay,
    clock: Box<dyn Clock>,
    polls: u64,
    /// What it is, of each that is under way. Only where that matters.
    kinds: HashMap<OpId, OpKind>,
    held: BTreeMap<(Due, u64), Completion>,
    /// How many there have been.
    arrivals: u64,
    /// Kept for its allocation.
    arrived: Vec<Completion>,
    alarm: Option<Alarm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Poll(u64),
    Time(Instant),
}

/// A descriptor that is readable when a time has come, or when the device behind has something.
#[derive(Debug)]
struct Alarm {
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl Alarm {
    fn new(behind: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        for descriptor in [Some(timer.as_fd()), behind].into_iter().flatten() {
            epoll::add(&epoll, descriptor, EventData::new_u64(0), EventFlags::IN)?;
        }
        Ok(Self { epoll, timer })
    }

    /// Rings after a time.
    fn set(&self, after: Duration) {
        // Zero would switch it off.
        let after = Timespec::try_from(after.max(Duration::from_nanos(1)));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok(it_value) = after else { return };
        // Refused only for times that are none, which a duration is not.
        let _ = timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: zero, it_value },
        );
    }

    fn clear(&self) {
        // Refused when it has not rung.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
    }
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
        Self {
            inner,
            delay,
            clock: Box::new(clock),
            polls: 0,
            kinds: HashMap::new(),
            held: BTreeMap::new(),
            arrivals: 0,
            arrived: Vec::new(),
            alarm: None,
        }
    }

    /// Changes the delay of what completes from now on.
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
        for completion in self.arrived.drain(..) {
            let due = match &self.delay {
                Delay::Polls(polls) => Due::Poll(self.polls.saturating_add(*polls)),
                Delay::Time(duration) => Due::Time(self.clock.now() + *duration),
                Delay::Each(latencies) => {
                    let kind = self.kinds.remove(&completion.id).unwrap_or(OpKind::Sync);
                    Due::Time(self.clock.now() + latencies.of(kind))
                }
            };
            self.arrivals += 1;
            self.held.insert((due, self.arrivals), completion);
        }
    }

    fn release(&mut self, completions: &mut Vec<Completion>) {
        let (polls, now) = (self.polls, self.clock.now());
        while let Some(first) = self.held.first_entry() {
            let is_due = match first.key().0 {
                Due::Poll(poll) => poll <= polls,
                Due::Time(time) => time <= now,
            };
            if !is_due {
                break;
            }
            completions.push(first.remove());
        }
        if let (Some(alarm), Some((Due::Time(time), _))) = (&self.alarm, self.next_due()) {
            alarm.set(time.saturating_duration_since(now));
        }
    }

    fn next_due(&self) -> Option<(Due, u64)> {
        self.held.first_key_value().map(|(due, _)| *due)
    }
}

impl<D: HostDevice> DelayDevice<D> {
    /// With a descriptor to wait on, so that nobody has to poll.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn with_alarm(mut self) -> io::Result<Self> {
        self.alarm = Some(Alarm::new(self.inner.completion_fd())?);
        Ok(self)
    }
}

impl<D: BlockDevice> BlockDevice for DelayDevice<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        if let Delay::Each(_) = self.delay {
            self.kinds.insert(id, OpKind::of(&op));
        }
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
            match self.next_due() {
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

impl<D: HostDevice + 'static> HostDevice for DelayDevice<D> {
    /// None without [`DelayDevice::with_alarm`]: the descriptor of the device behind knows nothing of the delay.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        let must_be_polled = self.inner.outstanding() > 0 && self.inner.completion_fd().is_none();
        self.alarm.as_ref().filter(|_| !must_be_polled).map(|alarm| alarm.epoll.as_fd())
    }

    fn clear_wakeup(&self) {
        self.inner.clear_wakeup();
        if let Some(alarm) = &self.alarm {
            alarm.clear();
        }
    }

    fn description(&self) -> String {
        format!("delayed {}", self.inner.description())
    }

    fn stats(&self) -> DeviceStats {
        self.inner.stats()
    }

    fn into_below(self: Box<Self>) -> Option<Box<dyn HostDevice>> {
        Some(Box::new(self.inner))
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
    use offshoot_block::{Buffer, DeviceOffset};
    use rustix::event::{PollFd, PollFlags, poll};
    use std::sync::Mutex;

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
    fn reads_and_writes_take_times_of_their_own() {
        let clock = ManualClock(Arc::new(Mutex::new(Instant::now())));
        let latencies = Arc::new(Latencies::default());
        let set = [(Latency::AverageRead, 10), (Latency::P99Read, 1000), (Latency::AverageWrite, 20)];
        set.into_iter().for_each(|(which, micros)| latencies.set(which, micros));
        let mem = MemDevice::new(1 << 20, 512);
        let delay = Delay::Each(Arc::clone(&latencies));
        let mut device = DelayDevice::with_clock(mem, delay, clock.clone());
        let mut late = 0;
        for id in 0..10_000 {
            let buffer = Buffer::zeroed(512);
            device.submit(OpId(id), DeviceOp::Read { offset: DeviceOffset(0), buffer });
            assert_eq!(polled(&mut device), 0);
            clock.sleep(Duration::from_micros(10));
            if polled(&mut device) == 0 {
                late += 1;
                clock.sleep(Duration::from_micros(990));
                assert_eq!(polled(&mut device), 1);
            }
        }
        assert!((50..200).contains(&late), "{late} of 10000");
        // Writes hold up neither syncs nor later reads.
        device.submit(OpId(0), DeviceOp::Write { offset: DeviceOffset(0), buffer: Buffer::zeroed(512) });
        device.submit(OpId(1), DeviceOp::Sync);
        assert_eq!(polled(&mut device), 1);
        clock.sleep(Duration::from_micros(20));
        assert_eq!(polled(&mut device), 1);
    }

    #[test]
    fn its_descriptor_rings_when_the_time_has_come() {
        let latencies = Arc::new(Latencies::default());
        latencies.set(Latency::AverageRead, 2000);
        latencies.set(Latency::P99Read, 2000);
        let device = DelayDevice::new(MemDevice::new(1 << 20, 512), Delay::Each(latencies));
        let mut device = device.with_alarm().unwrap();
        for id in 0..3 {
            let buffer = Buffer::zeroed(512);
            device.submit(OpId(id), DeviceOp::Read { offset: DeviceOffset(0), buffer });
            assert!(device.completion_fd().is_none(), "memory has to be polled");
            assert_eq!(polled(&mut device), 0);
            let mut done = 0;
            while done == 0 {
                let mut watched = [PollFd::from_borrowed_fd(device.completion_fd().unwrap(), PollFlags::IN)];
                assert_eq!(poll(&mut watched, None), Ok(1));
                device.clear_wakeup();
                done = polled(&mut device);
            }
            assert_eq!(done, 1);
        }
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
