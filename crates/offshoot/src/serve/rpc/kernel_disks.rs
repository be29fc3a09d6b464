//! Lvols as devices of the kernel's: `/dev/nbdN`.
//!
//! A device is a connection like any other, but that the kernel is told about it instead of asking for it. The calls to the
//! kernel run on threads: to disconnect a device, it has what it holds back written first, by this very server.

use super::super::backend::StoreBackend;
use super::answers::{Answer, Asker, now};
use super::desk::Desk;
use super::disks::{Attaching, Disk, DiskDone};
use super::nbd::place;
use super::resolve;
use super::works::Outcome;
use offshoot_nbd::Adopted;
use offshoot_nbd::kernel::{self, KernelDisk, KernelDiskInfo, KernelError};
use offshoot_rpc::types::nbd::{GetDisks, StartDisk, StopDisk};
use offshoot_rpc::types::selector::LvolSelector;
use offshoot_rpc::{Errno, Reply, ResultText, RpcError};
use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::Path;
use tracing::{debug, info, warn};
use uuid::Uuid;

impl Desk {
    pub(super) fn start_disk(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        params: &StartDisk,
    ) -> Answer {
        let device = params.nbd_device.as_deref().map(|path| {
            KernelDisk::parse(path).ok_or_else(|| RpcError {
                code: -Errno::NoDev.number(),
                message: Cow::Owned(format!("illegal nbd device {path}")),
            })
        });
        let device = device.transpose()?;
        let found = resolve::lvol(stores, LvolSelector::new(&params.bdev_name))?;
        let lvol = found.lvol.uuid().ok_or(RpcError::refused(Errno::Inval))?;
        let (export, block) = (found.export(), stores.block_bytes(found.store));
        if params.nbd_device.as_deref().is_some_and(|path| self.disks.find(path).is_some()) {
            return Err(RpcError::refused(Errno::Busy));
        }
        let uri = place(&self.addresses, stores, found);
        let (export, info) = stores.open_disk(export).map_err(|reason| RpcError {
            code: -Errno::Busy.number(),
            message: Cow::Owned(format!("the lvol cannot be attached now: {reason}")),
        })?;
        let backend = format!("offshoot:{}:{lvol}", std::process::id());
        let wanted = KernelDiskInfo {
            size_bytes: info.size_bytes,
            block,
            read_only: info.read_only,
            backend: backend.clone(),
        };
        let attaching = Attaching { lvol, export, info, backend, uri };
        let attach = move || {
            let result = attach(device, &wanted);
            Outcome::Disk(DiskDone::Attached(attaching, result))
        };
        if let Err(cause) = self.works.start(Some(asker), attach) {
            warn!(%cause, "no thread for a device");
            stores.close_export(export);
            return Err(RpcError::refused(Errno::NoMem));
        }
        Ok(None)
    }

    pub(super) fn stop_disk(&mut self, asker: Asker, params: &StopDisk) -> Answer {
        let disk = self.disks.find(&params.nbd_device).ok_or(RpcError::refused(Errno::NoDev))?;
        if std::mem::replace(&mut disk.going, true) {
            return Err(RpcError::refused(Errno::Busy));
        }
        let (tag, device, backend) = (disk.tag, disk.device, disk.backend.clone());
        let detach = move || {
            let result = kernel::detach(device, &backend);
            Outcome::Disk(DiskDone::Detached(tag, result))
        };
        if let Err(cause) = self.works.start(Some(asker), detach) {
            warn!(%cause, "no thread for a device");
            self.detach_failed(tag);
            return Err(RpcError::refused(Errno::NoMem));
        }
        Ok(None)
    }

    pub(super) fn get_disks(&mut self, params: Option<&GetDisks>) -> Answer {
        let wanted = params.and_then(|params| params.nbd_device.as_deref());
        if wanted.is_some_and(|path| self.disks.find(path).is_none()) {
            return Err(RpcError::refused(Errno::NoDev));
        }
        let entries = self.disks.entries().filter(|disk| wanted.is_none_or(|path| disk.nbd_device == path));
        now(&entries.collect::<Vec<_>>())
    }

    /// Goes on where the kernel has answered.
    pub(super) fn disk_done(&mut self, stores: &mut StoreBackend, asker: Option<Asker>, done: DiskDone) {
        let reply = match done {
            DiskDone::Attached(attaching, Ok((device, socket))) => {
                Some(self.attached(stores, attaching, device, socket))
            }
            DiskDone::Attached(attaching, Err(cause)) => {
                stores.close_export(attaching.export);
                Some(Err(not_attached(&cause, attaching.uri.as_deref())))
            }
            DiskDone::Detached(tag, Ok(())) => {
                self.disks.attached.retain(|disk| disk.tag != tag);
                Some(ResultText::of(&true))
            }
            DiskDone::Detached(tag, Err(cause)) => {
                self.detach_failed(tag);
                Some(Err(refused(&cause)))
            }
            DiskDone::Disconnected(device, result) => {
                if let Err(cause) = result {
                    warn!(device = %device.path().display(), %cause, "a device is left behind");
                }
                None
            }
        };
        self.answered.extend(asker.zip(reply));
    }

    fn attached(
        &mut self,
        stores: &mut StoreBackend,
        attaching: Attaching,
        device: KernelDisk,
        socket: OwnedFd,
    ) -> Reply {
        let Attaching { lvol, export, info, backend, .. } = attaching;
        let path = device.path();
        info!(device = %path.display(), %lvol, "attached");
        let tag = self.disks.counted;
        self.disks.counted += 1;
        self.disks.attached.push(Disk { tag, device, lvol, backend, going: false, parted: false });
        if self.disks.ending {
            stores.close_export(export);
            self.disk_parted(tag);
        } else {
            stores.adopt(Adopted { tag, socket, export, info });
        }
        ResultText::of(&path)
    }

    /// A device could not be disconnected. It stays, unless its connection has ended meanwhile.
    fn detach_failed(&mut self, tag: u64) {
        let ending = self.disks.ending;
        let Some(disk) = self.disks.attached.iter_mut().find(|disk| disk.tag == tag) else { return };
        disk.going = false;
        if disk.parted || ending {
            self.disk_parted(tag);
        }
    }

    /// The connection of a device has ended, whoever ended it.
    pub(super) fn disk_parted(&mut self, tag: u64) {
        let Some(at) = self.disks.attached.iter().position(|disk| disk.tag == tag) else { return };
        if self.disks.attached[at].going {
            self.disks.attached[at].parted = true;
            return;
        }
        let disk = self.disks.attached.remove(at);
        debug!(device = %disk.device.path().display(), "its connection has ended");
        self.disconnect(disk);
    }

    /// Lvols are gone: so are their devices.
    pub(super) fn drop_disks(&mut self, are_gone: impl Fn(Uuid) -> bool) {
        let gone: Vec<Disk> =
            self.disks.attached.extract_if(.., |disk| !disk.going && are_gone(disk.lvol)).collect();
        gone.into_iter().for_each(|disk| self.disconnect(disk));
    }

    /// The server ends: no device stays behind.
    pub(super) fn detach_disks(&mut self) {
        self.disks.ending = true;
        // Those that are going have a thread already.
        let staying: Vec<Disk> = self.disks.attached.extract_if(.., |disk| !disk.going).collect();
        staying.into_iter().for_each(|disk| self.disconnect(disk));
    }

    /// Has the kernel forget about a device that nobody serves any more.
    fn disconnect(&mut self, disk: Disk) {
        let Disk { device, backend, .. } = disk;
        let disconnect = move || {
            let result = kernel::disconnect(device, &backend);
            Outcome::Disk(DiskDone::Disconnected(device, result))
        };
        if let Err(cause) = self.works.start(None, disconnect) {
            warn!(device = %device.path().display(), %cause, "a device is left behind");
        }
    }
}

/// Attaches a device. One that was left behind by a server that is dead is taken.
fn attach(device: Option<KernelDisk>, wanted: &KernelDiskInfo) -> Result<(KernelDisk, OwnedFd), KernelError> {
    let result = kernel::attach(device, wanted);
    if let (Some(device), Err(error)) = (device, &result)
        && error.errno() == rustix::io::Errno::BUSY
        && let Some(backend) = device.backend().filter(|backend| is_dead(backend))
    {
        kernel::disconnect(device, &backend)?;
        return kernel::attach(Some(device), wanted);
    }
    result
}

/// Whether a device is served by one of these servers that is not there any more.
fn is_dead(backend: &str) -> bool {
    let mut parts = backend.split(':');
    let process = (parts.next() == Some("offshoot")).then(|| parts.next()?.parse::<u32>().ok()).flatten();
    process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
}

/// Why an lvol has no device, and where it can be reached instead.
fn not_attached(cause: &KernelError, uri: Option<&str>) -> RpcError {
    match cause {
        KernelError::Absent => RpcError {
            message: Cow::Owned(match uri {
                Some(uri) => format!("nbd device not found: {cause}; or connect a client to {uri}"),
                None => format!("nbd device not found: {cause}"),
            }),
            ..refused(cause)
        },
        cause if cause.errno() == rustix::io::Errno::BUSY => RpcError::refused(Errno::Busy),
        cause => refused(cause),
    }
}

fn refused(cause: &KernelError) -> RpcError {
    RpcError { code: -cause.errno().raw_os_error(), message: Cow::Owned(cause.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_servers_leave_devices_behind() {
        let own = std::process::id();
        for (backend, expected) in [
            (format!("offshoot:{own}:5"), false),
            // Above what a process can be called.
            (format!("offshoot:{}:5", u32::MAX), true),
            (format!("other:{}:5", u32::MAX), false),
            ("offshoot".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_dead(&backend), expected, "{backend}");
        }
    }

    #[test]
    fn a_kernel_without_devices_is_no_dead_end() {
        let error = not_attached(&KernelError::Absent, Some("nbd://host/vol"));
        assert_eq!(error.code, -19);
        assert!(error.message.starts_with("nbd device not found"), "{error}");
        assert!(error.message.ends_with("nbd://host/vol"), "{error}");
    }
}
