//! One store that is being served: commands of clients in, requests to its engine, replies out.

mod limited;
mod under_way;

use super::errno::errno;
use super::histogram::Histogram;
use super::jobs::Jobs;
use super::qos::Limiter;
use super::sealing::{SealPace, Sealing};
use super::slow::SlowLog;
use super::stats::{LvolStats, Op, Reset};
use crate::deed::{Growth, Job, View};
use crate::growth;
use crate::open;
use crate::volume::Told;
use anyhow::Context as _;
use limited::Limited;
use offshoot_block::BlockDevice as _;
use offshoot_device::{DeviceStats, FileDevice, HostDevice, OpenOptions, Presence};
use offshoot_format::BlobId;
use offshoot_nbd::{BufferPool, Command, Errno, Extent, Reply, RequestId, limits};
use offshoot_store::{
    Engine, Error, ExternalDevice, IoRequest, Reply as EngineReply, Store, Ticket, Verb, Work,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// What a store lies on.
pub(super) type Device = Box<dyn HostDevice>;

/// How often the engine is told that time passes: what is in the journal at one time gets its barrier at the second
/// next at the latest, within a second.
const TICK: Duration = Duration::from_millis(400);

/// Failures that are kept for each lvol.
const FAILURES_MAX: usize = 1024;

/// A store and the requests that are under way in it.
pub(super) struct Served {
    path: PathBuf,
    store: Store<Device>,
    pending: HashMap<Ticket, Pending>,
    stats: HashMap<BlobId, LvolStats>,
    /// Of lvols whose latencies somebody wants to know in detail.
    histograms: HashMap<BlobId, Histogram>,
    /// Of lvols that have limits, and the requests that wait for them.
    limiters: HashMap<BlobId, Limiter<Limited>>,
    /// Which requests took so long that the log says so.
    slow: Option<SlowLog>,
    /// Lvols whose content commands move, and what failed there, by first byte.
    failures: HashMap<BlobId, BTreeMap<u64, Told>>,
    /// Verbs and jobs under way that somebody waits for.
    verbs: HashSet<Ticket>,
    jobs: Jobs,
    /// Requests of the server's own under way, and those that are done.
    own: HashSet<Ticket>,
    own_done: Vec<(Ticket, Result<EngineReply, Error>)>,
    /// Verbs and jobs that have ended.
    ended: Vec<Finished>,
    /// Kept for its memory.
    finished: Vec<(Ticket, Result<EngineReply, Error>)>,
    /// When the engine is told next that time has passed.
    next_tick: Option<Instant>,
    /// Whether the log says already that the store takes no writes any more.
    failure_logged: bool,
    /// What is told of the job that seals the store, while it runs.
    sealing: Option<Sealing>,
}

/// A verb or a job, and what came of it: the lvols that it made.
pub(super) type Finished = (Ticket, Result<Vec<BlobId>, Error>);

/// A request whose reply is awaited.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: RequestId,
    /// Whether the client wants the bytes of the buffer that comes back.
    reads: bool,
    lvol: BlobId,
    op: Op,
    offset: u64,
    bytes: u64,
    since: Instant,
}

impl Served {
    /// Opens a store for writing, under its exclusive lock.
    ///
    /// # Errors
    /// The store or one of the external snapshots (id and file) cannot be opened.
    pub(super) fn open(path: &Path, externals: &[(String, PathBuf)]) -> anyhow::Result<Self> {
        Ok(Self::new(path.to_owned(), load(path, externals)?))
    }

    /// Serves a store that is open, after a word in the log about its condition.
    pub(super) fn new(path: PathBuf, store: Store<Device>) -> Self {
        for finding in store.findings() {
            let lvol = finding.lvol.as_deref().unwrap_or("-");
            warn!(store = %path.display(), lvol, damage = %finding.what);
        }
        if let Some(cause) = store.engine().read_only_cause() {
            warn!(store = %path.display(), "served read-only{cause}");
        }
        info!(store = %path.display(), name = store.state().name(), "open");
        Self {
            path,
            store,
            pending: HashMap::new(),
            stats: HashMap::new(),
            histograms: HashMap::new(),
            limiters: HashMap::new(),
            slow: None,
            failures: HashMap::new(),
            verbs: HashSet::new(),
            jobs: Jobs::default(),
            own: HashSet::new(),
            own_done: Vec::new(),
            ended: Vec::new(),
            finished: Vec::new(),
            next_tick: None,
            failure_logged: false,
            sealing: None,
        }
    }

    /// The file or block device.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The engine.
    pub(super) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    /// Begins to seal the store. What comes of it is told when it is known; clients are served either way.
    ///
    /// # Errors
    /// It holds what cannot be read, or takes no writes.
    pub(super) fn seal(&mut self, pace: SealPace) -> anyhow::Result<()> {
        let cost = self.engine().seal_cost();
        let cost = cost.with_context(|| format!("{}: cannot be sealed", self.path.display()))?;
        let job = self.jobs.start(&mut self.store, Work::Seal, pace.bytes_per_second, Instant::now());
        self.sealing = Some(Sealing::new(job, cost.bytes));
        Ok(())
    }

    /// The job that seals the store from the start, while it runs.
    pub(super) fn sealing(&self) -> Option<Ticket> {
        self.sealing.as_ref().map(Sealing::job)
    }

    /// Has the log tell of requests that take long from now on.
    pub(super) fn set_slow_log(&mut self, slow: Option<SlowLog>) {
        self.slow = slow;
    }

    /// An open store, for looking at.
    pub(super) fn view(&self) -> View<'_> {
        let (engine, findings) = (self.store.engine(), self.store.findings());
        View { path: &self.path, engine, findings, device: self.store.device(), is_served: true }
    }

    /// Every device that completions come from.
    pub(super) fn devices(&self) -> impl Iterator<Item = &Device> {
        std::iter::once(self.store.device()).chain(self.store.externals())
    }

    /// Starts a verb, which ends in [`Served::finished`].
    pub(super) fn start(&mut self, verb: Verb) -> Ticket {
        let ticket = self.store.start(verb);
        self.verbs.insert(ticket);
        ticket
    }

    /// Says which device the external snapshot of this id lies on. Somebody waits for its completions.
    pub(super) fn attach_external(&mut self, id: &str, device: Device) {
        self.store.attach_external(id, device);
    }

    /// Lets go of an external snapshot that no lvol reads from.
    pub(super) fn detach_external(&mut self, id: &str) {
        self.store.detach_external(id);
    }

    /// Starts a job that may copy so many bytes in a second. It ends in [`Served::finished`] too.
    pub(super) fn start_job(&mut self, work: Work, bytes_per_second: Option<u64>) -> Ticket {
        let ticket = self.jobs.start(&mut self.store, work, bytes_per_second, Instant::now());
        self.verbs.insert(ticket);
        ticket
    }

    /// Makes what the store is on as large as it is to be, and says what is left to do.
    ///
    /// # Errors
    /// Why it cannot grow.
    pub(super) fn prepare_growth(&mut self, growth: &Growth) -> anyhow::Result<Job> {
        growth::prepare(growth, &mut self.store, |device, size| device.grow(size))
    }

    /// What the store is on.
    pub(super) fn device_mut(&mut self) -> &mut Device {
        self.store.device_mut()
    }

    /// What clients have asked of an lvol, if they have.
    pub(super) fn stats(&self, lvol: BlobId) -> Option<&LvolStats> {
        self.stats.get(&lvol)
    }

    /// An lvol is gone. Its id may come to stand for another one. Returns the requests that still wait for its limits.
    pub(super) fn forget(&mut self, lvol: BlobId) -> Vec<RequestId> {
        self.stats.remove(&lvol);
        self.histograms.remove(&lvol);
        let limiter = self.limiters.remove(&lvol);
        limiter.iter().flat_map(Limiter::waiting).map(|limited| limited.id).collect()
    }

    /// Begins to count anew what clients ask of an lvol, or of all.
    pub(super) fn reset_stats(&mut self, lvol: Option<BlobId>, what: Reset) {
        let stats = self.stats.iter_mut().filter(|(id, _)| lvol.is_none_or(|lvol| lvol == **id));
        stats.for_each(|(_, stats)| stats.reset(what));
    }

    /// Counts latencies of an lvol from now on, or does not any more.
    pub(super) fn set_histogram(&mut self, lvol: BlobId, histogram: Option<Histogram>) {
        match histogram {
            Some(histogram) => self.histograms.insert(lvol, histogram),
            None => self.histograms.remove(&lvol),
        };
    }

    /// Keeps in mind why requests to an lvol fail.
    pub(super) fn watch_failures(&mut self, lvol: BlobId) {
        self.failures.entry(lvol).or_default();
    }

    /// Does so no more.
    pub(super) fn ignore_failures(&mut self, lvol: BlobId) {
        self.failures.remove(&lvol);
    }

    /// Why the last one from that byte on failed. Several commands may ask.
    pub(super) fn failure(&self, lvol: BlobId, offset: u64) -> Option<&Told> {
        self.failures.get(&lvol)?.get(&offset)
    }

    /// Latencies of an lvol, if they are counted.
    pub(super) fn histogram(&self, lvol: BlobId) -> Option<&Histogram> {
        self.histograms.get(&lvol)
    }

    /// What the device was asked to do.
    pub(super) fn device_stats(&self) -> DeviceStats {
        self.store.device().stats()
    }

    /// How many requests of each connection are not answered yet, where there are any.
    pub(super) fn in_flight(&self) -> BTreeMap<u64, u64> {
        let mut counts = BTreeMap::new();
        let limited = self.limiters.values().flat_map(Limiter::waiting).map(|limited| limited.id);
        for id in self.pending.values().map(|pending| pending.id).chain(limited) {
            *counts.entry(id.connection()).or_default() += 1;
        }
        counts
    }

    /// Takes a request of the server's own, which ends in [`Served::own_done`].
    pub(super) fn submit_own(&mut self, request: IoRequest) -> Ticket {
        let ticket = self.store.submit(request);
        self.own.insert(ticket);
        ticket
    }

    /// Takes the server's own requests that are done.
    pub(super) fn own_done(&mut self) -> Vec<(Ticket, Result<EngineReply, Error>)> {
        std::mem::take(&mut self.own_done)
    }

    /// Ends a job. What it has done stays done.
    pub(super) fn cancel(&mut self, job: Ticket) {
        self.store.cancel(job);
    }

    /// Whether nobody but clients waits for something.
    pub(super) fn can_be_abandoned(&self) -> bool {
        self.verbs.is_empty() && self.own.is_empty() && self.ended.is_empty()
    }

    /// What has become of its file or block device.
    pub(super) fn presence(&self) -> Presence {
        self.store.device().presence()
    }

    /// Lets go of the store, and of requests under way: those of clients.
    pub(super) fn abandon(self) -> (Store<Device>, Vec<RequestId>) {
        let limited = self.limiters.values().flat_map(Limiter::waiting).map(|limited| limited.id);
        let waiting = self.pending.values().map(|pending| pending.id).chain(limited).collect();
        (self.store, waiting)
    }

    /// Whether a verb or a job has ended.
    pub(super) fn has_finished(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Takes the verbs and jobs that have ended.
    pub(super) fn finished(&mut self) -> impl Iterator<Item = Finished> + use<'_> {
        self.ended.drain(..)
    }

    /// Whether a client waits for something.
    pub(super) fn is_in_use(&self) -> bool {
        let limited = self.limiters.values().any(|limiter| limiter.waiting().next().is_some());
        limited || !(self.pending.is_empty() && self.verbs.is_empty() && self.own.is_empty())
    }

    /// Takes a command for an lvol. Returns the reply to one that can be answered at once; the others are answered by
    /// [`Served::poll`].
    pub(super) fn submit(
        &mut self,
        id: RequestId,
        lvol: BlobId,
        command: Command,
        pool: &mut BufferPool,
    ) -> Option<Reply> {
        let since = Instant::now();
        let limited = self.limit(lvol, Limited { id, command, since })?;
        self.pass_on(lvol, limited, pool)
    }

    /// Takes a command that no limit holds up any more.
    fn pass_on(&mut self, lvol: BlobId, limited: Limited, pool: &mut BufferPool) -> Option<Reply> {
        let Limited { id, command, since } = limited;
        let reads = matches!(command, Command::Read { .. });
        let (op, bytes_asked) = asked(&command);
        let offset = offset_of(&command);
        let request = match command {
            Command::Read { offset, len } => {
                if self.is_hole(lvol, bytes(offset, len.into())) {
                    self.stats.entry(lvol).or_default().done(op, bytes_asked, since.elapsed());
                    return Some(Reply::Zeroes);
                }
                let buffer = pool.take(len as usize);
                IoRequest::Read { lvol, offset, buffer }
            }
            Command::Write { offset, data, fua } => IoRequest::Write { lvol, offset, data, fua },
            Command::Flush => IoRequest::Flush,
            Command::Trim { offset, len, fua } => IoRequest::Unmap { lvol, range: bytes(offset, len), fua },
            Command::WriteZeroes { no_hole, fast, .. } if fast && !self.zeroes_fast(lvol, no_hole) => {
                return Some(Reply::Error(Errno::NotSup));
            }
            Command::WriteZeroes { offset, len, fua, no_hole, .. } => {
                IoRequest::WriteZeroes { lvol, range: bytes(offset, len), allocate: no_hole, fua }
            }
            Command::BlockStatus { offset, len, one } => {
                return Some(self.block_status(lvol, bytes(offset, len), one));
            }
            // The page cache is passed by, and the map is in memory already.
            Command::Cache { .. } => return Some(Reply::Done),
        };
        let ticket = self.store.submit(request);
        self.pending.insert(ticket, Pending { id, reads, lvol, op, offset, bytes: bytes_asked, since });
        None
    }

    /// Makes progress without waiting, and appends the replies that are there.
    pub(super) fn poll(&mut self, pool: &mut BufferPool, replies: &mut Vec<(RequestId, Reply)>) {
        // First, so that a completion that arrives from here on wakes the loop again.
        for device in self.devices() {
            device.clear_wakeup();
        }
        self.tick();
        self.release_limited(pool, replies);
        self.store.poll(&mut self.finished);
        // One look at the clock for all of them.
        let now = Instant::now();
        for (ticket, result) in self.finished.drain(..) {
            if let Some(sealing) = self.sealing.take_if(|sealing| sealing.job() == ticket) {
                sealing.end(&self.path, result.as_ref().map(drop));
            }
            if self.jobs.end(ticket) | self.verbs.remove(&ticket) {
                self.ended.push((ticket, result.map(made)));
                continue;
            }
            if self.own.remove(&ticket) {
                self.own_done.push((ticket, result));
                continue;
            }
            let Some(Pending { id, reads, lvol, op, offset, bytes, since }) = self.pending.remove(&ticket)
            else {
                debug_assert!(false, "{ticket:?} was never submitted or is answered twice");
                continue;
            };
            let stats = self.stats.entry(lvol).or_default();
            let took = now.saturating_duration_since(since);
            if let Some(histogram) = self.histograms.get_mut(&lvol) {
                histogram.count(op, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
            match &result {
                Ok(_) => stats.done(op, bytes, took),
                Err(_) => stats.failed(op),
            }
            if let Some(left_out) = self.slow.as_mut().and_then(|slow| slow.tell(took, now)) {
                let name = self.store.state().blob(lvol).map(offshoot_store::Blob::display_name);
                let (store, lvol) = (self.path.display(), name.as_deref().unwrap_or("-"));
                let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                warn!(%store, lvol, op = op.name(), offset, bytes, millis, left_out, "slow request");
            }
            let reply = match result {
                Ok(EngineReply::Buffer(buffer)) if reads => Reply::Data(buffer),
                Ok(EngineReply::Buffer(buffer)) => {
                    pool.give(buffer);
                    Reply::Done
                }
                Ok(_) => Reply::Done,
                Err(cause) => {
                    debug!(store = %self.path.display(), %cause, "request failed");
                    let reply = Reply::Error(errno(cause.kind()));
                    if let Some(failures) = self.failures.get_mut(&lvol) {
                        failures.insert(offset, cause.into());
                        if failures.len() > FAILURES_MAX {
                            // They are asked about right after they happen, mostly from the first byte to the last.
                            failures.pop_first();
                        }
                    }
                    reply
                }
            };
            replies.push((id, reply));
        }
        self.log_failure();
    }

    /// When to poll again at the latest, so that what was acknowledged becomes durable within a second and jobs go on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let tick = self.next_tick.filter(|_| self.engine().needs_tick() || self.jobs.any());
        [tick, self.limits_deadline()].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.next_tick.is_none_or(|due| now >= due) {
            self.store.tick();
            self.jobs.tick(&mut self.store, now);
            if let Some(sealing) = &mut self.sealing {
                sealing.tick(self.store.engine());
            }
            self.next_tick = Some(now + TICK);
        }
    }

    /// Whether to poll again instead of sleeping: a device has work under way and no descriptor to tell of its end, or
    /// the engine has work of its own that waits for no device.
    pub(super) fn must_be_polled(&self) -> bool {
        let mut working = self.devices().filter(|device| device.outstanding() > 0).peekable();
        let waits_for_none = working.peek().is_none();
        (waits_for_none && self.engine().is_busy()) || working.any(|device| device.completion_fd().is_none())
    }

    /// Finishes what is under way, makes it durable, seals the store where nothing speaks against it, and lets go of
    /// the lock.
    ///
    /// # Errors
    /// A device failed. The store is then as after a crash.
    pub(super) fn close(self) -> Result<(), Error> {
        let (device, result) = self.store.close();
        drop(device);
        result
    }

    /// The store by itself.
    pub(super) fn into_store(self) -> Store<Device> {
        self.store
    }

    /// Whether nothing is stored for a range, so that it reads zeros without I/O.
    fn is_hole(&self, lvol: BlobId, range: Range<u64>) -> bool {
        let len = range.end - range.start;
        let extents = self.store.extents(lvol, range, 1);
        extents.is_ok_and(|extents| matches!(extents[..], [only] if only.hole && only.len == len))
    }

    /// Whether zeros cost less than writing them. They do where they become a record of the map, which takes a thin
    /// lvol that need not keep its space, in a store where blocks may be hidden. Elsewhere the device zeroes, and what
    /// that costs it does not say.
    fn zeroes_fast(&self, lvol: BlobId, no_hole: bool) -> bool {
        let state = self.store.state();
        let is_thin = state.blob(lvol).is_some_and(offshoot_store::Blob::is_thin);
        is_thin && !no_hole && state.native_allowed
    }

    fn block_status(&self, lvol: BlobId, range: Range<u64>, one: bool) -> Reply {
        let limit = if one { 1 } else { limits::STATUS_EXTENTS_MAX };
        match self.store.extents(lvol, range, limit) {
            Ok(extents) => {
                let extents = extents.into_iter().map(|extent| Extent {
                    len: extent.len,
                    allocated: !extent.hole,
                    zero: extent.hole,
                });
                Reply::Status(extents.collect())
            }
            Err(cause) => Reply::Error(errno(cause.kind())),
        }
    }

    /// Says once that the store takes no writes any more.
    fn log_failure(&mut self) {
        if !self.failure_logged
            && let Some(cause) = self.store.engine().failure()
        {
            self.failure_logged = true;
            error!(store = %self.path.display(), "read-only: {cause}");
        }
    }
}

fn load(path: &Path, externals: &[(String, PathBuf)]) -> anyhow::Result<Store<Device>> {
    let device = open::device(path, &OpenOptions::writable())?;
    load_from(device, path, externals)
}

/// Opens the store on a device that is open already.
///
/// # Errors
/// It, or one of the external snapshots, cannot be opened.
pub(super) fn load_from(
    device: FileDevice,
    path: &Path,
    externals: &[(String, PathBuf)],
) -> anyhow::Result<Store<Device>> {
    for note in [device.engine_note(), device.direct_note(), device.fence_note()].into_iter().flatten() {
        warn!(store = %path.display(), "{note}");
    }
    let externals = open_external_files(externals)?;
    let opening = open::opening(&device, false);
    Store::open(Box::new(device) as Device, externals, &opening).with_context(|| path.display().to_string())
}

/// Opens external snapshots, by id and file. Each store reads them through devices of its own.
///
/// # Errors
/// The first that cannot be opened.
pub(super) fn open_external_files(
    externals: &[(String, PathBuf)],
) -> anyhow::Result<Vec<ExternalDevice<Device>>> {
    let externals = externals.iter().map(|(id, file)| {
        let device = open::external_device(file)?;
        anyhow::Ok((id.clone(), Box::new(device) as Device))
    });
    externals.collect()
}

fn made(reply: EngineReply) -> Vec<BlobId> {
    match reply {
        EngineReply::Made(lvols) => lvols,
        EngineReply::Buffer(_) | EngineReply::Done => Vec::new(),
    }
}

/// What a command is to those who count, and how many bytes it is about.
fn asked(command: &Command) -> (Op, u64) {
    match command {
        Command::Read { len, .. } => (Op::Read, (*len).into()),
        Command::Write { data, .. } => (Op::Write, data.len() as u64),
        Command::Trim { len, .. } => (Op::Unmap, *len),
        Command::WriteZeroes { len, .. } => (Op::Zeroes, *len),
        // The others never come to be waited for.
        Command::Flush | Command::BlockStatus { .. } | Command::Cache { .. } => (Op::Flush, 0),
    }
}

/// Where in the lvol a command begins, in bytes.
fn offset_of(command: &Command) -> u64 {
    match command {
        Command::Read { offset, .. }
        | Command::Write { offset, .. }
        | Command::Trim { offset, .. }
        | Command::WriteZeroes { offset, .. }
        | Command::BlockStatus { offset, .. }
        | Command::Cache { offset, .. } => *offset,
        Command::Flush => 0,
    }
}

/// A range that the server has checked against the size of the export.
fn bytes(offset: u64, len: u64) -> Range<u64> {
    offset..offset.saturating_add(len)
}

#[cfg(test)]
mod tests;
