//! Methods of shallow copies, and the copies that are under way.

use super::super::backend::StoreBackend;
use super::super::copying::Copying;
use super::super::openings::Export;
use super::super::served::Device;
use super::answers::{Answer, now};
use super::bases::{Bare, Holds};
use super::desk::Desk;
use super::errors::errno;
use super::resolve::{self, Found};
use crate::pipeline::request_bytes;
use offshoot_rpc::types::operation::{Operation, OperationKind, OperationState};
use offshoot_rpc::types::selector::{LvolSelector, alias};
use offshoot_rpc::types::shallow_copy::{
    CheckShallowCopy, ShallowCopyProgress, ShallowCopyStarted, StartShallowCopy,
};
use offshoot_rpc::{Errno, Method, RpcError};
use offshoot_store::{Change, Error, Session, State};
use uuid::Uuid;

/// Copies that have ended and were not asked for, which SPDK keeps without a bound.
const ENDED_MAX: usize = 64;

/// All copies that nobody has asked the end of.
#[derive(Default)]
pub(super) struct Copies {
    begun: u32,
    list: Vec<ShallowCopy>,
}

struct ShallowCopy {
    id: u32,
    name: String,
    uuid: Option<Uuid>,
    lvs_name: String,
    /// As SPDK counts them: what the lvol holds.
    clusters: u64,
    bytes_done: u64,
    bytes: u64,
    /// While it is under way.
    running: Option<Running>,
    error: Option<String>,
}

struct Running {
    copying: Copying,
    /// The bdev that it writes to, and under which power that runs.
    base: Option<(String, Option<Session>)>,
}

/// Where a copy may go to.
enum Target {
    Base(String),
    Lvol(Export),
}

impl Copies {
    /// The number of the next one.
    fn next(&mut self) -> u32 {
        self.begun += 1;
        self.begun
    }

    /// Whether only polling tells how far one is.
    pub(super) fn must_be_polled(&self) -> bool {
        let mut running = self.list.iter().filter_map(|copy| copy.running.as_ref());
        running.any(|running| running.copying.must_be_polled())
    }

    /// Forgets those that ended first, when there are many.
    fn tidy(&mut self) {
        let ended = self.list.iter().filter(|copy| copy.running.is_none()).count();
        let mut surplus = ended.saturating_sub(ENDED_MAX);
        self.list.retain(|copy| {
            let goes = copy.running.is_none() && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl Desk {
    pub(super) fn start_shallow_copy(
        &mut self,
        stores: &mut StoreBackend,
        method: &'static Method,
        params: &StartShallowCopy,
    ) -> Answer {
        let found = resolve::lvol(stores, params.lvol())?;
        // SPDK counts also what it refuses from here on.
        let id = self.copies.next();
        let target = self.target(stores, &params.dst_bdev_name).map_err(|errno| method.failed(errno))?;
        let state = stores.state(found.store).ok_or(RpcError::INTERNAL)?;
        let (source, size_bytes) = (found.export(), state.bytes(found.lvol));
        let ranges = ranges(state, found);
        let request_bytes = request_bytes(state.units.cluster) as u64;
        let mut copy = ShallowCopy {
            id,
            name: found.lvol.display_name(),
            uuid: found.lvol.uuid(),
            lvs_name: state.name(),
            clusters: found.lvol.own_clusters,
            bytes_done: 0,
            bytes: 0,
            running: None,
            error: None,
        };
        let ranges =
            ranges.and_then(|ranges| self.check_target(stores, &target, source, size_bytes).map(|()| ranges));
        match ranges {
            Ok(ranges) => {
                copy.bytes = ranges.iter().map(|range| range.len).sum();
                let begun = self.begin_copy(stores, source, target, ranges, request_bytes);
                copy.running = Some(begun.ok_or(method.failed(Errno::Busy))?);
            }
            Err(errno) => copy.error = Some(errno.text().to_owned()),
        }
        self.copies.list.push(copy);
        self.copies.tidy();
        now(&ShallowCopyStarted { operation_id: id })
    }

    /// The bdev of a name, if it can be written to at all.
    fn target(&self, stores: &StoreBackend, name: &str) -> Result<Target, Errno> {
        if let Some(base) = self.bases.find(name).filter(|base| base.is_there()) {
            return match base.holds {
                Holds::Nothing(_) => Ok(Target::Base(base.name.clone())),
                Holds::Store(_) | Holds::Snapshot(_) | Holds::Below => Err(Errno::Perm),
                Holds::Busy => Err(Errno::Busy),
            };
        }
        let found = resolve::find(stores, LvolSelector::new(name)).ok_or(Errno::NoDev)?;
        Ok(Target::Lvol(found.export()))
    }

    /// Whether a copy of so many bytes fits there.
    fn check_target(
        &self,
        stores: &StoreBackend,
        target: &Target,
        source: Export,
        size_bytes: u64,
    ) -> Result<(), Errno> {
        let there = match target {
            Target::Base(name) => self.bases.find(name).map_or(0, |base| base.size_bytes),
            Target::Lvol(to) if *to == source => return Err(Errno::Inval),
            Target::Lvol(to) => {
                let state = stores.state(to.store).ok_or(Errno::NoDev)?;
                let lvol = state.blob(to.lvol).ok_or(Errno::NoDev)?;
                if lvol.is_read_only() {
                    return Err(Errno::Perm);
                }
                state.bytes(lvol)
            }
        };
        if there < size_bytes { Err(Errno::Inval) } else { Ok(()) }
    }

    /// Takes the destination and begins.
    fn begin_copy(
        &mut self,
        stores: &mut StoreBackend,
        source: Export,
        target: Target,
        ranges: Vec<Change>,
        request_bytes: u64,
    ) -> Option<Running> {
        let source = lvol_device(stores, source)?;
        let (target, base) = match target {
            Target::Lvol(to) => (lvol_device(stores, to)?, None),
            Target::Base(name) => {
                let base = self.bases.find_mut(&name)?;
                let Holds::Nothing(bare) = std::mem::replace(&mut base.holds, Holds::Busy) else {
                    return None;
                };
                if stores.watch(&bare.device).is_err() {
                    base.holds = Holds::Nothing(bare);
                    return None;
                }
                (bare.device, Some((name, bare.session)))
            }
        };
        let copying = Copying::new(source, target, ranges, request_bytes);
        Some(Running { copying, base })
    }

    /// Moves all copies along.
    pub(super) fn step_copies(&mut self, stores: &mut StoreBackend) {
        for copy in &mut self.copies.list {
            let Some(running) = &mut copy.running else { continue };
            running.copying.step();
            copy.bytes_done = running.copying.bytes_done;
            let Some(outcome) = running.copying.outcome() else { continue };
            copy.error = outcome.err().map(|error| errno(&error).text().to_owned());
            if let Some(Running { copying, base: Some((name, session)) }) = copy.running.take() {
                let device = copying.into_target();
                stores.unwatch(&device);
                if let Some(base) = self.bases.find_mut(&name) {
                    base.holds = Holds::Nothing(Bare { device, session });
                }
            }
        }
    }

    pub(super) fn check_shallow_copy(&mut self, params: &CheckShallowCopy) -> Answer {
        let mut list = self.copies.list.iter();
        let index = list.position(|copy| copy.id == params.operation_id);
        let index = index.ok_or(RpcError::refused(Errno::NoDev))?;
        let progress = self.copies.list[index].progress();
        if progress.state != OperationState::InProgress {
            self.copies.list.remove(index);
        }
        now(&progress)
    }

    /// Ends a copy. Says whether there is one of that number under way.
    pub(super) fn cancel_copy(&mut self, id: u32) -> bool {
        let mut list = self.copies.list.iter_mut();
        let running = list.find(|copy| copy.id == id).and_then(|copy| copy.running.as_mut());
        running.map(|running| running.copying.cancel()).is_some()
    }

    /// All copies, for those who list operations.
    pub(super) fn list_copies(&self) -> impl Iterator<Item = Operation> + use<'_> {
        self.copies.list.iter().map(ShallowCopy::describe)
    }
}

impl ShallowCopy {
    fn state(&self) -> OperationState {
        match (&self.running, &self.error) {
            (Some(_), _) => OperationState::InProgress,
            (None, None) => OperationState::Complete,
            (None, Some(_)) => OperationState::Error,
        }
    }

    /// Clusters done, as far as that can be told of what is copied by blocks.
    fn clusters_done(&self) -> u64 {
        match self.state() {
            OperationState::Complete => self.clusters,
            _ => {
                let done =
                    u128::from(self.bytes_done) * u128::from(self.clusters) / u128::from(self.bytes.max(1));
                u64::try_from(done).unwrap_or(self.clusters)
            }
        }
    }

    fn progress(&self) -> ShallowCopyProgress {
        ShallowCopyProgress {
            copied_clusters: self.clusters_done(),
            total_clusters: self.clusters,
            state: self.state(),
            error: self.error.clone(),
        }
    }

    fn describe(&self) -> Operation {
        Operation {
            operation_id: self.id,
            kind: OperationKind::ShallowCopy,
            lvol_uuid: self.uuid,
            lvol_name: Some(alias(&self.lvs_name, &self.name)),
            lvs_name: self.lvs_name.clone(),
            state: self.state(),
            bytes_done: self.bytes_done,
            total_bytes: self.bytes,
            clusters_done: self.clusters_done(),
            total_clusters: self.clusters,
            error: self.error.clone(),
        }
    }
}

/// An lvol as one end of a copy.
fn lvol_device(stores: &mut StoreBackend, export: Export) -> Option<Device> {
    let device = Device::from(stores.lvol_device(export).ok()?);
    stores.watch(&device).ok()?;
    Some(device)
}

/// What is to be copied.
fn ranges(state: &State, found: Found<'_>) -> Result<Vec<Change>, Errno> {
    let ranges = state.shallow_copy(found.lvol.id).map_err(|error| match error {
        Error::CopyOfWritable(_) => Errno::Perm,
        error => errno(&error),
    });
    ranges.map(Iterator::collect)
}
