//! Methods of shallow copies.

use super::super::backend::StoreBackend;
use super::super::copying::Copying;
use super::super::openings::Export;
use super::super::served::Device;
use super::answers::{Answer, now};
use super::bases::{Bare, Holds};
use super::copies::{Running, ShallowCopy};
use super::desk::Desk;
use super::errors::errno;
use super::resolve::{self, Found};
use crate::pipeline::request_bytes;
use offshoot_rpc::types::operation::{Operation, OperationState};
use offshoot_rpc::types::selector::LvolSelector;
use offshoot_rpc::types::shallow_copy::{CheckShallowCopy, ShallowCopyStarted, StartShallowCopy};
use offshoot_rpc::{Errno, Method, RpcError};
use offshoot_store::{Change, Error, State};

/// Where a copy may go to.
enum Target {
    Base(String),
    Lvol(Export),
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
