//! Bdevs over bdevs: one that fails when it is told to, one that takes its time. They have the device of the bdev that they are
//! over, which is claimed meanwhile.
//!
//! As with SPDK one can be made before the bdev that it is to be over: it comes once that is there, which is not looked at
//! for a store then. So a configuration brings back stores on such bdevs.

use super::super::backend::StoreBackend;
use super::super::served::Device;
use super::answers::{Answer, Asker, now};
use super::bases::{Bare, Base, Deferred, Holds, Kind};
use super::desk::Desk;
use super::site::{Place, Taken};
use offshoot_block::OpKind;
use offshoot_device::{Delay, DelayDevice, ErrorDevice, Fault, Faults, Latencies, Latency};
use offshoot_rpc::types::vbdev::{CreateDelay, CreateError, FaultType, FaultyIo, InjectError, UpdateLatency};
use offshoot_rpc::{Errno, Reply, ResultText, RpcError};
use rustix::io::Errno as OsError;
use std::io;
use std::sync::Arc;
use tracing::warn;
use uuid::Uuid;

impl Desk {
    pub(super) fn create_error(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        params: CreateError,
    ) -> Answer {
        let name = format!("EE_{}", params.base_name);
        let kind = Kind::Error(params.base_name, Faults::default());
        let new = Deferred { name, uuid: params.uuid, kind };
        self.create_over(stores, asker, new, ResultText::of(&true))
    }

    pub(super) fn create_delay(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        params: CreateDelay,
    ) -> Answer {
        if params.p99_read_latency < params.avg_read_latency
            || params.p99_write_latency < params.avg_write_latency
        {
            return Err(RpcError::refused(Errno::Inval));
        }
        let latencies = Latencies::default();
        latencies.set(Latency::AverageRead, params.avg_read_latency);
        latencies.set(Latency::P99Read, params.p99_read_latency);
        latencies.set(Latency::AverageWrite, params.avg_write_latency);
        latencies.set(Latency::P99Write, params.p99_write_latency);
        let reply = ResultText::of(&params.name);
        let kind = Kind::Delay(params.base_bdev_name, Arc::new(latencies));
        self.create_over(stores, asker, Deferred { name: params.name, uuid: params.uuid, kind }, reply)
    }

    pub(super) fn inject_error(&self, params: &InjectError) -> Answer {
        let is_nvme = params.error_type == FaultType::NvmeFailure;
        let has_status = params.nvme_sct.unwrap_or(0) != 0 || params.nvme_sc.unwrap_or(0) != 0;
        if is_nvme != has_status {
            return Err(RpcError::NVME_STATUS);
        }
        let fault = match params.error_type {
            FaultType::Failure | FaultType::NvmeFailure => Fault::new(OsError::IO.raw_os_error()),
            FaultType::Pending => Fault::hang(),
            FaultType::Nomem => Fault::retry(),
            FaultType::CorruptData => match params.corrupt_value.unwrap_or(0) {
                // Which would be the same byte.
                0 => return Err(RpcError::refused(Errno::Inval)),
                flip => Fault::corrupt(params.corrupt_offset.unwrap_or(0), flip),
            },
        };
        let base = self.bases.find(&params.name).map(|base| &base.kind);
        let Some(Kind::Error(_, faults)) = base else {
            return Err(RpcError::refused(Errno::NoDev));
        };
        let kinds: &[OpKind] = match params.io_type {
            FaultyIo::Clear => {
                faults.heal();
                return now(&true);
            }
            FaultyIo::Read => &[OpKind::Read],
            FaultyIo::Write => &[OpKind::Write],
            FaultyIo::Unmap => &[OpKind::Unmap],
            FaultyIo::Flush => &[OpKind::Sync],
            FaultyIo::All => &[OpKind::Read, OpKind::Write, OpKind::WriteZeroes, OpKind::Unmap, OpKind::Sync],
        };
        let fault = fault.times(params.num.unwrap_or(1).into()).at_depth(params.queue_depth.unwrap_or(0));
        kinds.iter().for_each(|kind| faults.replace(fault.clone().on(*kind)));
        now(&true)
    }

    pub(super) fn update_latency(&self, params: &UpdateLatency) -> Answer {
        let which = match params.latency_type.as_str() {
            "avg_read" => Latency::AverageRead,
            "p99_read" => Latency::P99Read,
            "avg_write" => Latency::AverageWrite,
            "p99_write" => Latency::P99Write,
            _ => return Err(RpcError::LATENCY_TYPE),
        };
        let base = self.bases.find(&params.delay_bdev_name).ok_or(RpcError::DELAY_BDEV)?;
        let Kind::Delay(_, latencies) = &base.kind else {
            return Err(RpcError::NOT_DELAY_BDEV);
        };
        latencies.set(which, params.latency_us);
        now(&true)
    }

    /// Whether there is a bdev of that name, or is to be one.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.bases.find(name).is_some() || self.deferred.iter().any(|new| new.name == name)
    }

    /// Whether a bdev of that name gets another one over it at once.
    pub(super) fn is_waited_for(&self, name: &str) -> bool {
        self.deferred.iter().any(|new| new.kind.base() == Some(name))
    }

    /// Gives up a bdev that is to be over one that never came.
    pub(super) fn delete_deferred(&mut self, name: &str) -> Answer {
        let index = self.deferred.iter().position(|new| new.name == name);
        self.deferred.remove(index.ok_or(RpcError::refused(Errno::NoDev))?);
        now(&true)
    }

    /// Makes the bdevs that can be made now.
    pub(super) fn create_deferred(&mut self, stores: &mut StoreBackend) {
        let mut index = 0;
        while let Some(new) = self.deferred.get(index) {
            let site = new.kind.base().and_then(|base| self.site(stores, base));
            let Some(site) = site.filter(|site| site.is_free) else {
                index += 1;
                continue;
            };
            let new = self.deferred.remove(index);
            let name = new.name.clone();
            if let Err(cause) = self.put_over(stores, None, new, site.place, ResultText::of(&true)) {
                warn!(bdev = name, %cause, "not made");
            }
        }
    }

    fn create_over(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        new: Deferred,
        reply: Reply,
    ) -> Answer {
        if self.is_taken(&new.name) {
            return Err(RpcError::refused(Errno::Exist));
        }
        let base = new.kind.base().unwrap_or_default();
        match self.site(stores, base) {
            Some(site) if site.is_free => self.put_over(stores, Some(asker), new, site.place, reply),
            Some(site) if site.size_bytes > 0 => Err(RpcError::refused(Errno::Perm)),
            // None, or one that is being opened.
            _ => {
                self.deferred.push(new);
                reply.map(Some)
            }
        }
    }

    fn put_over(
        &mut self,
        stores: &mut StoreBackend,
        asker: Option<Asker>,
        new: Deferred,
        place: Place,
        reply: Reply,
    ) -> Answer {
        let Deferred { name, uuid, mut kind } = new;
        let taken = self.take(stores, place).ok_or(RpcError::refused(Errno::Perm))?;
        let Taken { name: base_name, bare: Bare { device, session }, .. } = taken;
        if let Kind::Error(base, _) | Kind::Delay(base, _) = &mut kind {
            base.clone_from(&base_name);
        }
        let size_bytes = device.geometry().size_bytes;
        let Ok(device) = over(&kind, device) else {
            self.lose(&base_name);
            return Err(RpcError::refused(Errno::NoMem));
        };
        let mut block = 0;
        if let Some(base) = self.bases.find_mut(&base_name) {
            (base.holds, block) = (Holds::Below, base.block);
        }
        self.bases.add(Base {
            name: name.clone(),
            uuid: uuid.unwrap_or_else(Uuid::new_v4),
            kind,
            block,
            size_bytes,
            holds: Holds::Nothing(Bare { device, session }),
        });
        self.bdevs_changed = true;
        if self.is_waited_for(&name) {
            self.create_deferred(stores);
            return reply.map(Some);
        }
        self.examine(stores, asker, Place::Base(name), reply)
    }

    /// Deletes a bdev that nothing is on. The one that it is over has its device again.
    pub(super) fn delete_over(&mut self, name: &str) {
        let Some(base) = self.bases.remove(name) else { return };
        if let (Some(below), Holds::Nothing(bare)) = (base.kind.base(), base.holds) {
            self.give_back(below, bare);
        }
    }

    /// A bdev that was over this one is gone, and here is its device.
    pub(super) fn give_back(&mut self, base: &str, over: Bare) {
        let Bare { device, session } = over;
        let below = device.into_below();
        let Some(found) = self.bases.find_mut(base) else { return };
        match (below, &found.kind) {
            // It is an lvol like any other again.
            (_, Kind::Lvol(_)) => drop(self.bases.remove(base)),
            (Some(device), _) => found.holds = Holds::Nothing(Bare { device, session }),
            (None, _) => self.lose(base),
        }
    }

    /// The device of a bdev is lost. One that is over another one takes that one with it, down to a file, which can be opened
    /// anew.
    pub(super) fn lose(&mut self, name: &str) {
        let Some(base) = self.bases.remove(name) else { return };
        let Some(below) = base.kind.base() else { return };
        let file = self.bases.find(below).and_then(|base| match &base.kind {
            Kind::File(file) => Bare::open(file, base.block).ok(),
            _ => None,
        });
        match (file, self.bases.find_mut(below)) {
            (Some(bare), Some(base)) => base.holds = Holds::Nothing(bare),
            _ => self.lose(below),
        }
    }
}

/// The device of a bdev over another one.
fn over(kind: &Kind, device: Device) -> io::Result<Device> {
    Ok(match kind {
        Kind::Error(_, faults) => Box::new(ErrorDevice::with_faults(device, faults.clone())),
        Kind::Delay(_, latencies) => {
            Box::new(DelayDevice::new(device, Delay::Each(Arc::clone(latencies))).with_alarm()?)
        }
        Kind::File(_) | Kind::Malloc | Kind::Null(_) | Kind::Lvol(_) => device,
    })
}
