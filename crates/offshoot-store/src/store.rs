//! A store on a device: the engine and what drives it.
//!
//! [`Store`] is the blocking facade: open, make lvols, read and write, close. It is also how an event loop drives
//! the engine: [`Store::submit`], then [`Store::poll`] whenever the device may have something new.

mod repair;

use crate::engine::{Engine, IoRequest, Progress, Reply, Target, Ticket, Work};
use crate::error::{Error, LoadError, ReadOnlyCause};
use crate::init::{InitError, InitOptions, init};
use crate::io::Extent;
use crate::load::{Finding, Loader, Repairs};
use crate::options::OpenOptions;
use crate::state::State;
use crate::verb::Verb;
use alloc::{string::String, vec::Vec};
use core::ops::{ControlFlow, Range};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceError, DeviceOp, OpId};
use offshoot_format::{BlobId, SuperBlock};

/// A device that an external snapshot lies on, and the id under which clones name it (a UUID as text).
pub type ExternalDevice<D> = (String, D);

/// An open store on a device.
#[derive(Debug)]
pub struct Store<D> {
    engine: Engine,
    device: D,
    /// By number. `None`: it was let go.
    externals: Vec<Option<D>>,
    findings: Vec<Finding>,
    repairs: Repairs,
    completions: Vec<Completion>,
}

/// Why [`Store::init`] failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Name or sizes are no good.
    #[error("{0}")]
    Init(#[from] InitError),
    /// The device failed.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// It was broken off.
    #[error("interrupted: there is no store")]
    Cancelled,
}

impl<D: BlockDevice> Store<D> {
    /// Makes a store on a device, whatever the device holds, and opens it. The store is durable and at rest when this
    /// returns.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn init(device: D, options: &InitOptions, opening: &OpenOptions) -> Result<Self, CreateError> {
        Self::init_watched(device, options, opening, |_, _| ControlFlow::Continue(()))
    }

    /// The same. `watch` sees how many bytes of how many are zeroed or written, and may break it off: then the device
    /// holds no store.
    ///
    /// # Errors
    /// As [`Store::init`]; [`CreateError::Cancelled`].
    pub fn init_watched(
        mut device: D,
        options: &InitOptions,
        opening: &OpenOptions,
        mut watch: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Self, CreateError> {
        let geometry = device.geometry();
        let (state, super_block, ops) = init(geometry.size_bytes, options)?;
        let bytes = |op: &DeviceOp| match op {
            DeviceOp::Write { buffer, .. } => buffer.len() as u64,
            DeviceOp::WriteZeroes { len, .. } => *len,
            _ => 0,
        };
        let (mut done, total) = (0, ops.iter().map(bytes).sum());
        for op in ops {
            if watch(done, total).is_break() {
                return Err(CreateError::Cancelled);
            }
            done += bytes(&op);
            run_op(&mut device, op)?;
        }
        let engine = Engine::new(state, super_block, geometry.logical_block, opening);
        Ok(Self {
            engine,
            device,
            externals: Vec::new(),
            findings: Vec::new(),
            repairs: Repairs::default(),
            completions: Vec::new(),
        })
    }

    /// Opens the store on a device. Opened read-only, nothing is ever written, whatever is asked.
    ///
    /// # Errors
    /// [`LoadError`] when nothing of it can be served. Damage that costs only some lvols is in
    /// [`Store::findings`].
    pub fn open(
        mut device: D,
        externals: Vec<ExternalDevice<D>>,
        options: &OpenOptions,
    ) -> Result<Self, LoadError> {
        let geometry = device.geometry();
        let mut loader = Loader::new(geometry, options);
        let mut completions = Vec::new();
        let loaded = loop {
            if let Some(outcome) = loader.finish() {
                break outcome?;
            }
            while let Some((id, op)) = loader.poll_device() {
                device.submit(id, op);
            }
            device.wait(&mut completions);
            for Completion { id, buffer, result } in completions.drain(..) {
                loader.handle_completion(id, buffer, result);
            }
        };
        let mut engine = Engine::new(loaded.state, loaded.super_block, geometry.logical_block, options);
        let mut devices = Vec::new();
        for (id, external) in externals {
            attach(&mut engine, &mut devices, &id, external);
        }
        if loaded.journal_damage {
            engine.refuse_writes(ReadOnlyCause::JournalDamage);
        } else if !engine.is_read_only() && !engine.state().has_checkpoint_pages() {
            engine.refuse_writes(ReadOnlyCause::NoRoomForCheckpoint);
        }
        let mut store = Self {
            engine,
            device,
            externals: devices,
            findings: loaded.findings,
            repairs: Repairs::default(),
            completions,
        };
        if store.engine.is_read_only() {
            return Ok(store);
        }
        let repairs = loaded.repairs.unwrap_or_default();
        store.copy_clusters(&repairs.copies).map_err(LoadError::Recovery)?;
        // What an earlier process wrote and did not live to sync is not seen now and gone after a power cut.
        let durable = match loaded.recovery {
            Some(recovery) => store.engine.recover(recovery),
            None if store.engine.needs_settling() => store.engine.settle_load(),
            None => store.engine.submit(IoRequest::Flush),
        };
        store.wait_for(durable).map_err(LoadError::Recovery)?;
        if options.repair {
            store.begin_repair(repairs).map_err(LoadError::Recovery)?;
        } else {
            store.remove_needless();
        }
        Ok(store)
    }

    /// The store's State: lvols, relations, pools.
    #[must_use]
    pub fn state(&self) -> &State {
        self.engine.state()
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The super block as it is on disk.
    #[must_use]
    pub fn super_block(&self) -> &SuperBlock {
        self.engine.super_block()
    }

    /// What loading found wrong.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What a repair has done about it, or does with the close: with [`OpenOptions::repair`].
    #[must_use]
    pub fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Says which device the external snapshot of this id (a UUID as text) lies on. One that was there before under the
    /// same id is not read any more.
    pub fn attach_external(&mut self, id: &str, device: D) {
        attach(&mut self.engine, &mut self.externals, id, device);
    }

    /// Lets go of the device of an external snapshot that no lvol reads from any more. `None`: there is none of this id, or
    /// it is in use.
    pub fn detach_external(&mut self, id: &str) -> Option<D> {
        let readers = self.engine.state().blobs().filter(|blob| !blob.dying);
        if readers.filter_map(|blob| blob.external.as_ref()).any(|external| external.name() == id) {
            return None;
        }
        let number = self.engine.external(id)? as usize;
        let slot = self.externals.get_mut(number)?;
        if slot.as_ref()?.outstanding() > 0 {
            return None;
        }
        self.engine.detach_external(id);
        slot.take()
    }

    /// The devices of the external snapshots.
    pub fn externals(&self) -> impl Iterator<Item = &D> {
        self.externals.iter().flatten()
    }

    /// Takes a request without waiting. See [`Engine::submit`].
    pub fn submit(&mut self, request: IoRequest) -> Ticket {
        self.engine.submit(request)
    }

    /// Starts a verb without waiting. See [`Engine::execute`].
    pub fn start(&mut self, verb: Verb) -> Ticket {
        self.engine.execute(verb)
    }

    /// Starts a job without waiting. See [`Engine::start_job`].
    pub fn start_job(&mut self, work: Work, allowed: Option<u64>) -> Ticket {
        self.engine.start_job(work, allowed)
    }

    /// Lets a job go on. See [`Engine::allow`].
    pub fn allow(&mut self, job: Ticket, bytes: Option<u64>) {
        self.engine.allow(job, bytes);
    }

    /// Ends a job, or a verb. See [`Engine::cancel`].
    pub fn cancel(&mut self, ticket: Ticket) {
        self.engine.cancel(ticket);
    }

    /// Runs a job to its durable end. `watch` sees how far it has come, and may break it off.
    ///
    /// # Errors
    /// Why it was refused, failed or was ended; what it has done until then stays done.
    pub fn run_job(
        &mut self,
        work: Work,
        mut watch: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.run_paced_job(work, None, |progress| watch(progress).map_continue(|()| None))
    }

    /// Runs a job to its durable end, at a pace: it may copy `allowed` bytes, and then those that `watch` allows it as
    /// it goes on ([`Engine::allow`]). `watch` has the clock: it waits itself where the job can but wait.
    ///
    /// # Errors
    /// As [`Store::run_job`].
    pub fn run_paced_job(
        &mut self,
        work: Work,
        allowed: Option<u64>,
        mut watch: impl FnMut(Progress) -> ControlFlow<(), Option<u64>>,
    ) -> Result<(), Error> {
        let job = self.engine.start_job(work, allowed);
        loop {
            while let Some((done, result)) = self.engine.poll_reply() {
                if done == job {
                    return result.map(drop);
                }
            }
            match self.engine.progress(job).map(&mut watch) {
                Some(ControlFlow::Break(())) => self.engine.cancel(job),
                Some(ControlFlow::Continue(Some(bytes))) => self.engine.allow(job, Some(bytes)),
                Some(ControlFlow::Continue(None)) | None => {}
            }
            self.step();
        }
    }

    /// The device, for making it larger before the store grows.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Growing to the size that the device has by now: a job.
    #[must_use]
    pub fn growth(&self) -> Work {
        Work::Grow {
            size_bytes: self.device.geometry().size_bytes,
            md_pages: self.engine.state().layout.md_len,
        }
    }

    /// To be called about twice a second. See [`Engine::tick`].
    pub fn tick(&mut self) {
        self.engine.tick();
        self.push_ops();
    }

    /// Makes progress without waiting, and appends the replies that are there.
    pub fn poll(&mut self, replies: &mut Vec<(Ticket, Result<Reply, Error>)>) {
        // One step of background work: removing a large lvol must not keep the caller from its other clients.
        self.engine.advance();
        loop {
            self.push_ops();
            self.device.poll(&mut self.completions);
            let mut moved = self.take_completions();
            for number in 0..self.externals.len() {
                if let Some(external) = &mut self.externals[number] {
                    external.poll(&mut self.completions);
                    moved |= self.take_completions();
                }
            }
            self.engine.settle();
            while let Some(reply) = self.engine.poll_reply() {
                replies.push(reply);
            }
            // A device may hold back what it was given until it is polled: never leave right after giving it something.
            if !self.push_ops() && !moved {
                return;
            }
        }
    }

    /// Like [`Store::poll`], but waits until at least one reply is there. Returns at once when nothing is under way.
    pub fn wait(&mut self, replies: &mut Vec<(Ticket, Result<Reply, Error>)>) {
        let before = replies.len();
        loop {
            while let Some(reply) = self.engine.poll_reply() {
                replies.push(reply);
            }
            if replies.len() > before || !self.engine.is_busy() {
                return;
            }
            self.step();
        }
    }

    /// Runs a verb to its durable end.
    ///
    /// # Errors
    /// Why it was refused or failed; nothing has changed then.
    pub fn execute(&mut self, verb: Verb) -> Result<Vec<BlobId>, Error> {
        self.execute_watched(verb, |_| ControlFlow::Continue(()))
    }

    /// Runs a verb to its durable end. `watch` sees how far its zeroing has come, and may break it off.
    ///
    /// # Errors
    /// Why it was refused, failed or was ended; nothing has changed then.
    pub fn execute_watched(
        &mut self,
        verb: Verb,
        mut watch: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<BlobId>, Error> {
        let ticket = self.engine.execute(verb);
        loop {
            while let Some((done, result)) = self.engine.poll_reply() {
                if done == ticket {
                    return result.map(|reply| if let Reply::Made(made) = reply { made } else { Vec::new() });
                }
            }
            if self.engine.progress(ticket).map(&mut watch) == Some(ControlFlow::Break(())) {
                self.engine.cancel(ticket);
            }
            self.step();
        }
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// An unknown lvol, a range outside it, damage, a device error.
    pub fn read(&mut self, lvol: BlobId, offset: u64, len: usize) -> Result<Buffer, Error> {
        let ticket = self.engine.submit(IoRequest::Read { lvol, offset, buffer: Buffer::zeroed(len) });
        match self.wait_for(ticket)? {
            Reply::Buffer(buffer) => Ok(buffer),
            _ => Ok(Buffer::default()),
        }
    }

    /// Writes bytes. Durable after the next [`Store::flush`].
    ///
    /// # Errors
    /// An unknown or read-only lvol, a range outside it, no space, a device error.
    pub fn write(&mut self, lvol: BlobId, offset: u64, data: Buffer) -> Result<Buffer, Error> {
        let ticket = self.engine.submit(IoRequest::Write { lvol, offset, data, fua: false });
        match self.wait_for(ticket)? {
            Reply::Buffer(buffer) => Ok(buffer),
            _ => Ok(Buffer::default()),
        }
    }

    /// Makes a range read as zeros; gives space back where it can.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_zeroes(&mut self, lvol: BlobId, range: Range<u64>) -> Result<(), Error> {
        let ticket = self.engine.submit(IoRequest::WriteZeroes { lvol, range, allocate: false, fua: false });
        self.wait_for(ticket).map(drop)
    }

    /// Says that a range is not needed any more.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn unmap(&mut self, lvol: BlobId, range: Range<u64>) -> Result<(), Error> {
        let ticket = self.engine.submit(IoRequest::Unmap { lvol, range, fua: false });
        self.wait_for(ticket).map(drop)
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// A device error; the store takes no writes after one.
    pub fn flush(&mut self) -> Result<(), Error> {
        let ticket = self.engine.submit(IoRequest::Flush);
        self.wait_for(ticket).map(drop)
    }

    /// What of a range is data, what is a hole, and, in a damaged lvol, what is unknown.
    ///
    /// # Errors
    /// An unknown lvol or a range outside it.
    pub fn extents(&self, lvol: BlobId, range: Range<u64>, limit: usize) -> Result<Vec<Extent>, Error> {
        self.engine.extents(lvol, range, limit)
    }

    /// Removes snapshots whose removal was put off and is due. Those that resist stay: nobody waits for it.
    fn remove_needless(&mut self) {
        while let Some(lvol) = self.state().needless_deferred() {
            if self.execute(Verb::Remove { lvol }).is_err() {
                return;
            }
        }
    }

    /// Finishes what is under way, writes a last checkpoint, seals the store when nothing native is left in it, and
    /// gives the device back.
    ///
    /// # Errors
    /// A device error, with the device: the store is then as after a crash.
    pub fn close(mut self) -> (D, Result<(), Error>) {
        let result = self.checkpoint_and_close();
        (self.device, result)
    }

    /// Waits until a request is done.
    ///
    /// # Errors
    /// Why it failed.
    pub fn wait_for(&mut self, ticket: Ticket) -> Result<Reply, Error> {
        loop {
            while let Some((done, result)) = self.engine.poll_reply() {
                if done == ticket {
                    return result;
                }
            }
            self.step();
        }
    }

    fn checkpoint_and_close(&mut self) -> Result<(), Error> {
        self.engine.cancel_jobs();
        while self.engine.is_busy() || self.engine.advance() {
            self.step();
        }
        if self.engine.is_read_only() {
            return Ok(());
        }
        let ticket = self.engine.close();
        let closed = self.wait_for(ticket).map(drop);
        while self.engine.is_busy() && closed.is_ok() {
            self.step();
        }
        closed
    }

    /// Hands operations down and waits for one to complete.
    fn step(&mut self) {
        self.push_ops();
        if self.device.outstanding() > 0 {
            self.device.wait(&mut self.completions);
        }
        self.take_completions();
        for number in 0..self.externals.len() {
            if let Some(external) = self.externals[number].as_mut().filter(|device| device.outstanding() > 0)
            {
                external.wait(&mut self.completions);
            }
            self.take_completions();
        }
        self.engine.advance();
    }

    /// Hands operations down. Says whether there were any.
    fn push_ops(&mut self) -> bool {
        let mut pushed = false;
        while let Some((target, id, op)) = self.engine.poll_device() {
            pushed = true;
            match target {
                Target::Store => self.device.submit(id, op),
                Target::External(number) => {
                    match self.externals.get_mut(number as usize).and_then(Option::as_mut) {
                        Some(external) => external.submit(id, op),
                        None => self.completions.push(Completion { id, buffer: None, result: Err(DETACHED) }),
                    }
                }
            }
        }
        pushed
    }

    fn take_completions(&mut self) -> bool {
        let moved = !self.completions.is_empty();
        let mut completions = core::mem::take(&mut self.completions);
        for Completion { id, buffer, result } in completions.drain(..) {
            self.engine.handle_completion(id, buffer, result);
        }
        self.completions = completions;
        moved
    }
}

/// What becomes of operations on a device that was let go.
const DETACHED: DeviceError = DeviceError::Io { errno: 19 };

/// Runs one operation on a device that nothing else uses. Returns its buffer.
fn run_op(device: &mut impl BlockDevice, op: DeviceOp) -> Result<Buffer, DeviceError> {
    device.submit(OpId(0), op);
    let mut completions = Vec::new();
    while completions.is_empty() {
        device.wait(&mut completions);
    }
    match completions.pop() {
        Some(Completion { buffer, result, .. }) => result.map(|()| buffer.unwrap_or_default()),
        None => Ok(Buffer::default()),
    }
}

fn attach<D: BlockDevice>(engine: &mut Engine, devices: &mut Vec<Option<D>>, id: &str, device: D) {
    // Places are never taken away, so the numbers of those that are there stay.
    let number = u32::try_from(devices.len()).unwrap_or(u32::MAX);
    engine.attach_external(id, number, device.geometry());
    devices.push(Some(device));
}
