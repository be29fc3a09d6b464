//! An lvol as a device: what a store on an lvol lies on, what stores read through whose external snapshot is an lvol of
//! another one, and both ends of a shallow copy.
//!
//! The device is for whoever uses it, on whichever thread. What it is asked goes to its [`Port`] on the server's thread, which
//! hands it to the store of the lvol, and the answers back. So nobody may wait for such a device on the server's thread
//! itself ([`BlockDevice::wait`]): it is that thread that moves the store along.
//!
//! Limits and statistics of the lvol are those of its clients. They do not see what is done through a device.

use super::errno::errno;
use super::openings::Export;
use super::served::{Device, Served};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceError, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::{Bell, HostDevice, check, completion};
use offshoot_nbd::{Errno, ExportId};
use offshoot_store::{Error, IoRequest, Reply, Ticket};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the two ends have in common.
struct Link {
    mail: Mutex<Mail>,
    /// Readable when the port has something to look at.
    to_port: Bell,
    /// Readable when the device has.
    to_device: Bell,
}

#[derive(Default)]
struct Mail {
    asked: Vec<(OpId, DeviceOp)>,
    answers: Vec<Completion>,
    /// Of the lvol, in bytes.
    size_bytes: u64,
    /// Whether the device is gone: nobody waits for answers.
    no_device: bool,
    /// Whether the port is gone: nobody answers.
    no_port: bool,
}

impl Link {
    fn new(size_bytes: u64) -> io::Result<Self> {
        let mail = Mutex::new(Mail { size_bytes, ..Mail::default() });
        Ok(Self { mail, to_port: Bell::new()?, to_device: Bell::new()? })
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        // Nothing panics while it is locked, and what is in it would be whole even so.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end for whoever uses the lvol. Nobody can remove, shrink or revert the lvol as long as there is one.
pub(super) struct LvolDevice {
    link: Arc<Link>,
    geometry: DeviceGeometry,
    /// Operations that were refused here.
    refused: Vec<Completion>,
    outstanding: usize,
}

/// The end on the server's thread.
pub(super) struct Port {
    link: Arc<Link>,
    export: Export,
    /// What keeps the lvol from being removed.
    hold: ExportId,
    is_writable: bool,
    under_way: HashMap<Ticket, UnderWay>,
}

struct UnderWay {
    id: OpId,
    /// Length of the buffer that goes back, if one does.
    buffer: Option<usize>,
}

/// Both ends of a link to an lvol of so many bytes, whose store's blocks are `block` bytes large.
///
/// # Errors
/// There are no descriptors to be had.
pub(super) fn connect(
    export: Export,
    hold: ExportId,
    size_bytes: u64,
    block: u32,
    read_only: bool,
) -> io::Result<(LvolDevice, Port)> {
    let link = Arc::new(Link::new(size_bytes)?);
    let geometry = DeviceGeometry {
        size_bytes,
        logical_block: block,
        physical_block: block,
        volatile_cache: true,
        read_only,
    };
    let (port_link, is_writable) = (Arc::clone(&link), !read_only);
    let port = Port { link: port_link, export, hold, is_writable, under_way: HashMap::new() };
    Ok((LvolDevice { link, geometry, refused: Vec::new(), outstanding: 0 }, port))
}

impl LvolDevice {
    fn take_answers(&mut self, mail: &mut Mail, completions: &mut Vec<Completion>) {
        let before = completions.len();
        completions.append(&mut self.refused);
        completions.append(&mut mail.answers);
        if mail.no_port {
            let lost = mail.asked.drain(..);
            completions.extend(lost.map(|(id, op)| completion(id, op, Err(GONE))));
        }
        self.outstanding -= completions.len() - before;
    }
}

/// What becomes of operations on an lvol that is not served any more.
const GONE: DeviceError = DeviceError::Io { errno: rustix::io::Errno::NODEV.raw_os_error() };

impl BlockDevice for LvolDevice {
    fn geometry(&self) -> DeviceGeometry {
        self.geometry
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.outstanding += 1;
        if let Err(error) = check(&self.geometry, &op) {
            self.refused.push(completion(id, op, Err(error)));
            self.link.to_device.ring();
            return;
        }
        let mut mail = self.link.mail();
        let is_first = mail.asked.is_empty();
        mail.asked.push((id, op));
        if mail.no_port {
            self.link.to_device.ring();
        } else if is_first {
            self.link.to_port.ring();
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        let link = Arc::clone(&self.link);
        self.take_answers(&mut link.mail(), completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        let before = completions.len();
        loop {
            self.clear_wakeup();
            self.poll(completions);
            // Not to wait is refused for a descriptor that is none, which it is not.
            if completions.len() > before || self.outstanding == 0 || self.link.to_device.sleep().is_err() {
                return;
            }
        }
    }

    fn outstanding(&self) -> usize {
        self.outstanding
    }
}

impl HostDevice for LvolDevice {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.to_device.as_fd())
    }

    fn clear_wakeup(&self) {
        self.link.to_device.clear();
    }

    fn description(&self) -> String {
        "an lvol".to_owned()
    }

    /// Takes over what the lvol has by now; only its own store can make it longer.
    fn grow(&mut self, _size_bytes: u64) -> io::Result<()> {
        let size_bytes = self.link.mail().size_bytes;
        if size_bytes < self.geometry.size_bytes {
            return Err(io::Error::other("the lvol has become smaller"));
        }
        self.geometry.size_bytes = size_bytes;
        Ok(())
    }
}

impl Drop for LvolDevice {
    fn drop(&mut self) {
        self.link.mail().no_device = true;
        self.link.to_port.ring();
    }
}

impl Port {
    /// The lvol.
    pub(super) fn export(&self) -> Export {
        self.export
    }

    /// Whether the lvol can be written through it.
    pub(super) fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// What is to be let go when the port is done.
    pub(super) fn hold(&self) -> ExportId {
        self.hold
    }

    /// Readable when there is something to pass on.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.link.to_port.as_fd()
    }

    /// Whether nobody uses the lvol through it any more.
    pub(super) fn is_done(&self) -> bool {
        self.under_way.is_empty() && self.link.mail().no_device
    }

    /// Hands what the device was asked to the store of the lvol. `None`: there is no such store.
    pub(super) fn pass_on(&mut self, store: Option<&mut Served>) {
        // First, so that what is asked from here on rings again.
        self.link.to_port.clear();
        let mut mail = self.link.mail();
        let asked = std::mem::take(&mut mail.asked);
        let lvol = store.as_ref().and_then(|store| {
            let state = store.engine().state();
            Some(state.bytes(state.blob(self.export.lvol)?))
        });
        mail.size_bytes = lvol.unwrap_or(mail.size_bytes);
        drop(mail);
        let Some(store) = store else {
            asked.into_iter().for_each(|(id, op)| self.give(completion(id, op, Err(GONE))));
            return;
        };
        for (id, op) in asked {
            let buffer = match &op {
                DeviceOp::Read { buffer, .. } | DeviceOp::Write { buffer, .. } => Some(buffer.len()),
                DeviceOp::WriteZeroes { .. } | DeviceOp::Unmap { .. } | DeviceOp::Sync => None,
            };
            let ticket = store.submit_own(self.request(op));
            self.under_way.insert(ticket, UnderWay { id, buffer });
        }
    }

    fn request(&self, op: DeviceOp) -> IoRequest {
        let lvol = self.export.lvol;
        match op {
            DeviceOp::Read { offset, buffer } => IoRequest::Read { lvol, offset: offset.0, buffer },
            DeviceOp::Write { offset, buffer } => {
                IoRequest::Write { lvol, offset: offset.0, data: buffer, fua: false }
            }
            DeviceOp::WriteZeroes { offset, len, may_unmap } => IoRequest::WriteZeroes {
                lvol,
                range: offset.0..offset.0 + len,
                allocate: !may_unmap,
                fua: false,
            },
            DeviceOp::Unmap { offset, len } => {
                IoRequest::Unmap { lvol, range: offset.0..offset.0 + len, fua: false }
            }
            DeviceOp::Sync => IoRequest::Flush,
        }
    }

    /// Takes an answer of the store. Hands one that is not for it back.
    pub(super) fn answer(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Error>,
    ) -> Option<Result<Reply, Error>> {
        let Some(UnderWay { id, buffer }) = self.under_way.remove(&ticket) else { return Some(result) };
        let (buffer, result) = match result {
            Ok(Reply::Buffer(data)) => (Some(data), Ok(())),
            Ok(_) => (None, Ok(())),
            // The store keeps the buffer of what failed.
            Err(error) => (buffer.map(Buffer::zeroed), Err(device_error(&error))),
        };
        self.give(Completion { id, buffer, result });
        None
    }

    fn give(&self, completion: Completion) {
        let mut mail = self.link.mail();
        let is_first = mail.answers.is_empty();
        mail.answers.push(completion);
        if is_first {
            self.link.to_device.ring();
        }
    }
}

/// Whoever still waits for an answer gets an error.
impl Drop for Port {
    fn drop(&mut self) {
        for UnderWay { id, buffer } in std::mem::take(&mut self.under_way).into_values() {
            self.give(Completion { id, buffer: buffer.map(Buffer::zeroed), result: Err(GONE) });
        }
        self.link.mail().no_port = true;
        self.link.to_device.ring();
    }
}

/// What a failure of a store is to what lies on it.
fn device_error(error: &Error) -> DeviceError {
    match (error, errno(error.kind())) {
        (Error::Device(error), _) => *error,
        (_, Errno::NoSpc) => DeviceError::NoSpace,
        (_, Errno::Perm) => DeviceError::ReadOnly,
        (_, _) => DeviceError::Io { errno: rustix::io::Errno::IO.raw_os_error() },
    }
}

impl From<LvolDevice> for Device {
    fn from(device: LvolDevice) -> Self {
        Box::new(device)
    }
}
