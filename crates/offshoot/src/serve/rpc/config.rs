//! The configuration of a running server as calls that bring it about, in the shape of SPDK's `save_config`.

use super::super::backend::StoreBackend;
use super::super::qos::BURST_DEFAULT;
use super::answers::{Answer, Asker, Door, now};
use super::bases::{Base, FileBdev, Kind};
use super::bdevs::delay;
use super::desk::Desk;
use super::nbd::clients_of;
use super::qos::rate_limits;
use anyhow::{Result, anyhow};
use offshoot_rpc::types::bdev::{BdevName, CreateAio, CreateMalloc, CreateUring};
use offshoot_rpc::types::config::{Config, ConfigCall, GetConfig, Subsystem, SubsystemInfo};
use offshoot_rpc::types::nbd::{AllowClients, Disk as DiskEntry, ExportLvol, StartDisk};
use offshoot_rpc::types::qos::SetQosLimit;
use offshoot_rpc::types::vbdev::{CreateDelay, CreateError};
use offshoot_rpc::{Errno, Request, RequestId, ResultText, RpcError};
use serde::Serialize;

/// What is configured, and what has to be before.
const SUBSYSTEMS: [(&str, &[&str]); 2] = [("bdev", &[]), ("nbd", &["bdev"])];

impl Desk {
    pub(super) fn get_subsystems() -> Answer {
        let info = |(name, before): (&str, &[&str])| SubsystemInfo {
            subsystem: name.to_owned(),
            depends_on: before.iter().map(|name| (*name).to_owned()).collect(),
        };
        now(&SUBSYSTEMS.map(info))
    }

    pub(super) fn get_config(&self, stores: &StoreBackend, params: &GetConfig) -> Answer {
        let calls = self.calls_of(stores, &params.name).ok_or_else(|| RpcError {
            code: RpcError::INVALID_PARAMS,
            message: format!("Subsystem '{}' not found", params.name).into(),
        })?;
        now(&calls)
    }

    pub(super) fn save_config(&self, stores: &StoreBackend) -> Answer {
        let subsystems = SUBSYSTEMS
            .map(|(name, _)| Subsystem { subsystem: name.to_owned(), config: self.calls_of(stores, name) });
        now(&Config { subsystems: subsystems.into() })
    }

    /// Makes the calls of a configuration one after the other, and answers then.
    pub(super) fn load_config(&mut self, asker: Asker, config: Config) -> Answer {
        if !self.replay.is_idle() {
            return Err(RpcError::refused(Errno::Busy));
        }
        self.replay.load(config, Some(asker));
        Ok(None)
    }

    fn calls_of(&self, stores: &StoreBackend, subsystem: &str) -> Option<Vec<ConfigCall>> {
        match subsystem {
            "bdev" => {
                // A bdev that is to be over another one is looked at for stores in the place of that one.
                let (over, bases): (Vec<_>, Vec<_>) = self
                    .bases
                    .iter()
                    .filter(|base| base.is_there())
                    .partition(|base| base.kind.base().is_some());
                let bases = over.into_iter().chain(bases).map(call_of_base);
                let examined = ConfigCall { method: "bdev_wait_for_examine".to_owned(), params: None };
                // Lvols are there once their stores are, and those on lvols come after those that they are on.
                let lvols = self.bases.lvols().filter(|base| base.is_there()).map(call_of_base);
                Some(bases.chain([examined]).chain(lvols).chain(calls_of_limits(stores)).collect())
            }
            "nbd" => {
                let lvols = stores.lvols().filter_map(|(_, lvol)| lvol.uuid());
                let withdrawn = lvols.filter(|uuid| stores.is_withdrawn(*uuid));
                let call =
                    |uuid: uuid::Uuid| call("nbd_unexport", &ExportLvol { bdev_name: uuid.to_string() });
                let lvols = stores.lvols().filter_map(|(_, lvol)| lvol.uuid());
                let allowed = lvols.filter_map(|uuid| {
                    let clients = Some(clients_of(stores, uuid)?);
                    Some(self::call("nbd_allow", &AllowClients { bdev_name: uuid.to_string(), clients }))
                });
                let disks = self.disks.entries().map(|disk| {
                    let DiskEntry { nbd_device, bdev_name } = disk;
                    let params = StartDisk { bdev_name, nbd_device: Some(nbd_device) };
                    self::call("nbd_start_disk", &params)
                });
                Some(disks.chain(withdrawn.map(call)).chain(allowed).collect())
            }
            _ => None,
        }
    }
}

/// A configuration that is being loaded.
impl Desk {
    /// Makes the calls that can be made.
    pub(super) fn turn_replay(&mut self, stores: &mut StoreBackend) {
        if self.replay.is_idle() {
            return;
        }
        let asker = Asker { door: Door::Config, id: RequestId(0) };
        let mut replies = Vec::new();
        loop {
            self.poll(stores, Door::Config, &mut replies);
            replies.drain(..).for_each(|(_, reply)| self.replay.settle(reply));
            match self.replay.next() {
                Some(request) if self.holds_file(&request) => {
                    self.replay.settle(ResultText::of(&true));
                }
                Some(request) => self.submit(stores, asker, &request),
                None => break,
            }
        }
        if let Some((asker, reply)) = self.replay.ended() {
            self.answer(asker, reply);
        }
    }

    /// Whether a request would make a bdev of a file that is one of that name already, as those of the command line are.
    fn holds_file(&self, request: &Request) -> bool {
        let params = request.params.as_ref().filter(|_| request.method == "bdev_aio_create");
        let params = params.and_then(|params| params.decode::<CreateAio>().ok());
        params.is_some_and(|params| {
            let base = self.bases.find(&params.name);
            base.is_some_and(
                |base| matches!(&base.kind, Kind::File(file) if file.aio.filename == params.filename),
            )
        })
    }

    /// Leaves the rest of a configuration. Who waits for it is told.
    pub(super) fn abandon_replay(&mut self) {
        self.replay.waiting.clear();
        if let Some(asker) = self.replay.asker.take() {
            self.answer(asker, Err(RpcError::refused(Errno::Canceled)));
        }
    }

    /// What went wrong with the configuration that was loaded last.
    ///
    /// # Errors
    /// That.
    pub(super) fn configured(&self) -> Result<()> {
        self.replay.failed.first().map_or(Ok(()), |error| Err(anyhow!("{}", error.message)))
    }
}

fn call_of_base(base: &Base) -> ConfigCall {
    let (name, uuid) = (base.name.clone(), Some(base.uuid));
    match &base.kind {
        Kind::File(FileBdev { aio, is_uring: true }) => call(
            "bdev_uring_create",
            &CreateUring {
                name,
                filename: aio.filename.clone(),
                block_size: aio.block_size_override.then_some(base.block),
                uuid,
            },
        ),
        Kind::Null(null) => call("bdev_null_create", &**null),
        Kind::Error(below, _) => call("bdev_error_create", &CreateError { base_name: below.clone(), uuid }),
        Kind::Delay(below, latencies) => {
            call("bdev_delay_create", &CreateDelay { uuid, ..delay(base, below, latencies) })
        }
        Kind::File(FileBdev { aio, .. }) => call(
            "bdev_aio_create",
            &CreateAio {
                name,
                filename: aio.filename.clone(),
                block_size: aio.block_size_override.then_some(base.block),
                readonly: Some(aio.readonly),
                fallocate: Some(aio.fallocate),
                uuid,
                nowait: Some(aio.nowait),
            },
        ),
        Kind::Lvol(_) => call("bdev_examine", &BdevName { name }),
        Kind::Malloc => call(
            "bdev_malloc_create",
            &CreateMalloc {
                name: Some(name),
                block_size: base.block,
                num_blocks: base.size_bytes / u64::from(base.block.max(1)),
                uuid,
                optimal_io_boundary: None,
                physical_block_size: None,
            },
        ),
    }
}

fn calls_of_limits(stores: &StoreBackend) -> impl Iterator<Item = ConfigCall> {
    stores.lvols().filter_map(|(store, lvol)| {
        let limits = stores.store(store)?.limits(lvol.id);
        let rates = rate_limits(limits);
        let burst = u64::try_from(limits.burst.as_millis()).ok();
        let params = SetQosLimit {
            name: lvol.uuid()?.to_string(),
            rw_ios_per_sec: Some(rates.rw_ios_per_sec),
            rw_mbytes_per_sec: Some(rates.rw_mbytes_per_sec),
            r_mbytes_per_sec: Some(rates.r_mbytes_per_sec),
            w_mbytes_per_sec: Some(rates.w_mbytes_per_sec),
            // SPDK knows no such member.
            burst_ms: burst.filter(|_| limits.burst != BURST_DEFAULT),
        };
        limits.any().then(|| call("bdev_set_qos_limit", &params))
    })
}

fn call(method: &str, params: &impl Serialize) -> ConfigCall {
    ConfigCall { method: method.to_owned(), params: serde_json::to_value(params).ok() }
}
