//! `/dev/nbdN`: devices of the kernel's own NBD client, which is told over generic netlink which socket to use.
//!
//! Other than with the ioctls of old, nothing here waits while a device is in use, and the kernel itself chooses one that is
//! free. It takes `CAP_SYS_ADMIN`, the kernel module `nbd`, and Linux 5.14 or later. Calls wait for the kernel, and
//! [`detach`] for requests that the server has to answer: they belong on a thread of their own.
//!
//! Mirrors `linux/nbd-netlink.h`.

mod netlink;

use crate::proto::handshake;
use netlink::{Answer, Message};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::{self as protocol, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROL: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`.
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NAME: u16 = 2;
/// `NBD_GENL_FAMILY_NAME`.
const NBD: &str = "nbd";

/// Of both families.
const VERSION: u8 = 1;

/// `NBD_CMD_*`.
mod command {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const DISCONNECT: u8 = 2;
}

/// `NBD_ATTR_*`, and what is inside of `NBD_ATTR_SOCKETS`.
mod attribute {
    pub(super) const INDEX: u16 = 1;
    pub(super) const SIZE_BYTES: u16 = 2;
    pub(super) const BLOCK_SIZE_BYTES: u16 = 3;
    pub(super) const SERVER_FLAGS: u16 = 5;
    pub(super) const SOCKETS: u16 = 7;
    pub(super) const BACKEND_IDENTIFIER: u16 = 10;
    pub(super) const SOCK_ITEM: u16 = 1;
    pub(super) const SOCK_FD: u16 = 1;
}

/// Blocks that the kernel takes.
const BLOCKS: (u32, u32) = (512, 4096);

/// Why the kernel does not do something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// It has no NBD client.
    #[error("the kernel's NBD client is not there: modprobe nbd")]
    Absent,
    /// It says no.
    #[error("{doing}: {errno}")]
    Refused {
        /// What it was to do.
        doing: &'static str,
        /// Its error.
        errno: Errno,
    },
}

impl KernelError {
    /// The error number that comes closest.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Absent => Errno::NODEV,
            Self::Refused { errno, .. } => *errno,
        }
    }
}

fn refused(doing: &'static str) -> impl Fn(Errno) -> KernelError {
    move |errno| KernelError::Refused { doing, errno }
}

/// A device of the kernel's, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelDisk(pub u32);

impl KernelDisk {
    /// From `/dev/nbdN`.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let digits = path.strip_prefix("/dev/nbd")?;
        let number = digits.parse().ok().map(Self)?;
        // One disk has one name: no plus sign, no zeros in front.
        (number.path().to_str() == Some(path)).then_some(number)
    }

    /// `/dev/nbdN`.
    #[must_use]
    pub fn path(self) -> PathBuf {
        format!("/dev/nbd{}", self.0).into()
    }

    /// What [`attach`] was told to call who serves it; `None` when nobody does who has a name.
    #[must_use]
    pub fn backend(self) -> Option<String> {
        let text = fs::read_to_string(format!("/sys/block/nbd{}/backend", self.0)).ok()?;
        Some(text.trim_end().to_owned())
    }
}

/// What a device of the kernel's is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelDiskInfo {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Smallest block in bytes; the nearest that the kernel takes, from 512 to 4096, is used.
    pub block: u32,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// The name of who serves it, see [`KernelDisk::backend`].
    pub backend: String,
}

/// Has a device of the kernel's, or the first that is free, send requests to the socket that is returned with it:
/// [`crate::Adopted`] makes a connection of that.
///
/// # Errors
/// [`KernelError`], among others with `EBUSY` when the device is in use.
pub fn attach(disk: Option<KernelDisk>, info: &KernelDiskInfo) -> Result<(KernelDisk, OwnedFd), KernelError> {
    let doing = "cannot attach a device";
    let (server, kernel) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(refused(doing))?;
    // The other end stays as it is: the kernel waits on it.
    rustix::io::ioctl_fionbio(&server, true).map_err(refused(doing))?;
    let mut client = Client::open()?;
    let mut message = client.message(command::CONNECT);
    disk.into_iter().for_each(|disk| message.u32(attribute::INDEX, disk.0));
    message.u64(attribute::SIZE_BYTES, info.size_bytes);
    message.u64(attribute::BLOCK_SIZE_BYTES, info.block.clamp(BLOCKS.0, BLOCKS.1).into());
    message.u64(attribute::SERVER_FLAGS, handshake::transmission_flags(info.read_only, false).into());
    message.text(attribute::BACKEND_IDENTIFIER, &info.backend);
    message.nested(attribute::SOCKETS, |sockets| {
        sockets.nested(attribute::SOCK_ITEM, |item| {
            item.u32(attribute::SOCK_FD, kernel.as_raw_fd().cast_unsigned());
        });
    });
    let index = client.call(message, attribute::INDEX).map_err(refused(doing))?;
    let index = index.ok_or(KernelError::Refused { doing, errno: Errno::PROTO })?;
    Ok((KernelDisk(index), server))
}

/// Writes what the kernel holds back for a device, as far as nobody has it mounted, and disconnects it. One that somebody else
/// than `backend` serves by now, or nobody, is left alone.
///
/// # Errors
/// [`KernelError`]. Where it could not be written, nothing is disconnected; the kernel tells that only once.
pub fn detach(disk: KernelDisk, backend: &str) -> Result<(), KernelError> {
    if disk.backend().as_deref() != Some(backend) {
        return Ok(());
    }
    write_back(disk).map_err(|cause| KernelError::Refused {
        doing: "cannot write what was written to the device",
        errno: cause.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
    })?;
    disconnect(disk, backend)
}

/// Disconnects a device that has no server any more. One that somebody else than `backend` serves by now is left alone.
///
/// # Errors
/// [`KernelError`].
pub fn disconnect(disk: KernelDisk, backend: &str) -> Result<(), KernelError> {
    if disk.backend().as_deref() != Some(backend) {
        return Ok(());
    }
    let mut client = Client::open()?;
    let mut message = client.message(command::DISCONNECT);
    message.u32(attribute::INDEX, disk.0);
    client.call(message, attribute::INDEX).map_err(refused("cannot disconnect the device")).map(drop)
}

fn write_back(disk: KernelDisk) -> io::Result<()> {
    File::open(disk.path())?.sync_all()
}

/// A netlink socket.
struct Client {
    socket: OwnedFd,
    family: u16,
    sequence: u32,
}

impl Client {
    fn open() -> Result<Self, KernelError> {
        let doing = "cannot speak to the kernel's NBD client";
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(protocol::GENERIC),
        )
        .map_err(refused(doing))?;
        let mut client = Self { socket, family: CONTROL, sequence: 0 };
        let mut message = client.message(GET_FAMILY);
        message.text(FAMILY_NAME, NBD);
        let family = client.call(message, FAMILY_ID).map_err(|errno| match errno {
            Errno::NOENT => KernelError::Absent,
            errno => refused(doing)(errno),
        })?;
        client.family = family
            .and_then(|family| u16::try_from(family).ok())
            .ok_or_else(|| refused(doing)(Errno::PROTO))?;
        Ok(client)
    }

    fn message(&mut self, command: u8) -> Message {
        self.sequence += 1;
        Message::new(self.family, self.sequence, command, VERSION)
    }

    /// Makes a call. Returns the number in an attribute of its answer, if there is one.
    fn call(&self, message: Message, wanted: u16) -> Result<Option<u32>, Errno> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &message.finish(), SendFlags::empty(), &kernel)?;
        let mut found = None;
        let mut datagram = vec![0; 64 << 10];
        loop {
            let (_, len) = match rustix::net::recv(&self.socket, &mut datagram[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                received => received?,
            };
            for answer in netlink::answers(&datagram[..len.min(datagram.len())], self.sequence) {
                match answer {
                    Answer::Attributes(attributes) => {
                        let number = attributes.u32(wanted);
                        found = found.or(number.or_else(|| attributes.u16(wanted).map(u32::from)));
                    }
                    Answer::End(0) => return Ok(found),
                    Answer::End(errno) => return Err(Errno::from_raw_os_error(errno)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_one_name() {
        assert_eq!(KernelDisk::parse("/dev/nbd12"), Some(KernelDisk(12)));
        for path in [
            "/dev/nbd",
            "/dev/nbd+1",
            "/dev/nbd01",
            "/dev/nbd1p1",
            "nbd1",
            "/dev/nbd-1",
            "/dev/nbd4294967296",
        ] {
            assert_eq!(KernelDisk::parse(path), None, "{path}");
        }
        assert_eq!(KernelDisk(0).path().to_str(), Some("/dev/nbd0"));
    }

    #[test]
    fn a_kernel_without_nbd_says_so() {
        // Where it has one, nothing is attached here: a size of nothing is refused, as is a user without rights.
        let info = KernelDiskInfo { size_bytes: 0, block: 512, read_only: true, backend: "test".to_owned() };
        let has_family = fs::metadata("/sys/module/nbd").is_ok();
        if !has_family {
            assert_eq!(attach(None, &info).unwrap_err(), KernelError::Absent);
        }
    }
}
