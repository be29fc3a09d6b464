//! What the server needs from whoever stores the bytes.

use offshoot_block::Buffer;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;
use thiserror::Error;

/// Names one request between [`Backend::submit`] and its reply. The server chooses it and uses the
/// same value again once the request has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The connection that it came over, for telling those that there are at one time apart.
    #[must_use]
    pub const fn connection(self) -> u64 {
        self.0 >> 32
    }
}

/// Names one opening of an export. The backend chooses it; two openings may share a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportId(pub u64);

/// What clients are told about an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// The canonical name, at most [`crate::limits::EXPORT_NAME_BYTES_MAX`] bytes. A longer one is not listed.
    pub name: String,
    /// A line for humans; empty for none.
    pub description: String,
    /// Size in bytes at the time of opening. Requests are checked against this value until the client reconnects.
    pub size_bytes: u64,
    /// Whether writes are refused (the server refuses them before the backend sees them).
    pub read_only: bool,
    /// Advertised smallest block in bytes, a power of two. Requests below it or off it are served all the same.
    pub min_block: u32,
    /// Advertised best block in bytes, a power of two and at least 512.
    pub preferred_block: u32,
    /// Advertised largest payload in bytes, a multiple of `min_block`. The server lowers it to
    /// [`crate::limits::PAYLOAD_BYTES_MAX`].
    pub max_block: u32,
}

/// Who is at the other end of a connection, as far as the server can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Of a Unix socket: the user that connected (`SO_PEERCRED`).
    pub uid: Option<u32>,
    /// Of TCP: where it is.
    pub address: Option<IpAddr>,
    /// The DNS names that its certificate is for, where it has shown one that was signed by a known authority.
    pub names: Vec<String>,
}

/// A connection on which everything is agreed already: simple replies, the flags that [`crate::kernel`] tells its client, and an
/// export that is open.
#[derive(Debug)]
pub struct Adopted {
    /// What [`Backend::parted`] calls it.
    pub tag: u64,
    /// The server's end, which must not block.
    pub socket: OwnedFd,
    /// The export. It is closed when the connection ends.
    pub export: ExportId,
    /// What the client was told about it.
    pub info: ExportInfo,
}

/// One request of a client, checked: the range lies within the export, its length is not zero, and
/// nothing that changes data comes to a read-only export.
#[derive(Debug)]
pub enum Command {
    /// Answer with [`Reply::Data`] of exactly `len` bytes, or [`Reply::Zeroes`].
    Read {
        /// First byte.
        offset: u64,
        /// Length in bytes, at most [`crate::limits::PAYLOAD_BYTES_MAX`].
        len: u32,
    },
    /// Answer with [`Reply::Done`]. The buffer came from [`Backend::buffer`] and is the backend's again.
    Write {
        /// First byte.
        offset: u64,
        /// What to write, at most [`crate::limits::PAYLOAD_BYTES_MAX`] bytes.
        data: Buffer,
        /// Whether the data must be durable before the reply.
        fua: bool,
    },
    /// Make every write that was answered before, on any connection, durable. Answer with [`Reply::Done`].
    Flush,
    /// The client no longer needs the range. Answer with [`Reply::Done`].
    Trim {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Whether the effect must be durable before the reply.
        fua: bool,
    },
    /// Make the range read as zeros. Answer with [`Reply::Done`].
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Whether the effect must be durable before the reply.
        fua: bool,
        /// Whether the range must stay allocated, so that a later write to it cannot run out of space.
        no_hole: bool,
        /// Whether to fail with [`Errno::NotSup`], at once and changing nothing, if this were no
        /// faster than writing zeros.
        fast: bool,
    },
    /// Answer with [`Reply::Status`].
    BlockStatus {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Whether one extent is enough.
        one: bool,
    },
    /// The client will soon read the range. Answer with [`Reply::Done`], also when nothing was done.
    Cache {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
}

/// The answer to a [`Command`]. One that does not fit its command reaches the client as [`Errno::Io`].
#[derive(Debug)]
pub enum Reply {
    /// The bytes read. The buffer goes out without a copy and comes back by [`Backend::recycle`].
    Data(Buffer),
    /// The whole range of a read is zeros.
    Zeroes,
    /// Success of a command that returns nothing.
    Done,
    /// The state of the range from its start on, in order. It may stop short of the end, but not before
    /// the first byte; what lies beyond the range is cut off.
    Status(Vec<Extent>),
    /// The command failed.
    Error(Errno),
}

/// A run of bytes in one state (`base:allocation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes. An extent of length zero is skipped.
    pub len: u64,
    /// Whether space is set aside for it (the inverse of `NBD_STATE_HOLE`).
    pub allocated: bool,
    /// Whether it surely reads as zeros (`NBD_STATE_ZERO`).
    pub zero: bool,
}

/// The errors that NBD knows. The discriminants are the values on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Errno {
    /// The operation is not permitted (a write to a read-only export).
    Perm = 1,
    /// The storage failed.
    Io = 5,
    /// Out of memory.
    NoMem = 12,
    /// The request makes no sense, or lies outside the export.
    Inval = 22,
    /// Out of space, or a write beyond the end.
    NoSpc = 28,
    /// The request cannot be answered in the form that it asks for.
    Overflow = 75,
    /// Not supported (a fast zeroing that would not be fast).
    NotSup = 95,
    /// The server or the export is going away.
    Shutdown = 108,
}

/// Why an export cannot be opened. The message reaches the client.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such export, or none was named and there is not exactly one.
    #[error("no such export")]
    NotFound,
    /// The export exists, but may not be used now.
    #[error("the export cannot be opened: {reason}")]
    Refused {
        /// Why, in words for the user of the client.
        reason: String,
    },
    /// The backend is going away.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Stores the bytes of exports.
///
/// The server calls it from one thread, and no method may block. Requests may be answered in any order,
/// including those of one connection; a client that needs an order waits for the reply. All connections
/// share one backend and [`Command::Flush`] covers the writes of all of them: on this rests the
/// `NBD_FLAG_CAN_MULTI_CONN` that the server advertises.
pub trait Backend {
    /// What a client can open, for `NBD_OPT_LIST`. Only the name and the description are used.
    fn exports(&self, peer: &Peer) -> Vec<ExportInfo>;

    /// Opens an export for one connection. The empty name means the only export, if there is exactly one.
    ///
    /// # Errors
    /// [`OpenError`], which the client is told.
    fn open(&mut self, name: &str, peer: &Peer) -> Result<(ExportId, ExportInfo), OpenError>;

    /// Ends one opening. Called once for each success of [`Backend::open`], after every request that was submitted
    /// through it has been answered.
    fn close(&mut self, export: ExportId);

    /// What [`Backend::open`] would tell, without opening for use (`NBD_OPT_INFO`, metadata contexts).
    ///
    /// # Errors
    /// Like [`Backend::open`].
    fn info(&mut self, name: &str, peer: &Peer) -> Result<ExportInfo, OpenError> {
        let (export, info) = self.open(name, peer)?;
        self.close(export);
        Ok(info)
    }

    /// Takes a request. It may be held back until the next [`Backend::poll`], and is answered exactly once, there.
    fn submit(&mut self, id: RequestId, export: ExportId, command: Command);

    /// A connection that the server is to take over, which counts for no limit. Asked for after each [`Backend::poll`] until
    /// there is none.
    fn adopted(&mut self) -> Option<Adopted> {
        None
    }

    /// Such a connection has ended, after [`Backend::close`].
    fn parted(&mut self, _tag: u64) {}

    /// A connection is gone, see [`RequestId::connection`]: nobody waits for its requests any more. Each is still answered
    /// once; those that were not begun need not be.
    fn abandon(&mut self, _connection: u64) {}

    /// Makes progress and appends what has been answered. Also clears the readiness of [`Backend::wakeup`].
    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>);

    /// A descriptor that is readable when [`Backend::poll`] may have something new; the same one for the
    /// backend's whole life. `None` when all work happens inside `poll`.
    fn wakeup(&self) -> Option<BorrowedFd<'_>>;

    /// The server was told to stop: nothing more is accepted or read from here on.
    fn stopping(&mut self) {}

    /// Whether `poll` should be called again at once instead of sleeping (a device without a wakeup descriptor
    /// has work under way).
    fn busy(&self) -> bool {
        false
    }

    /// When `poll` is to be called at the latest, even if nothing else happens. `None`: no need.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// A buffer of `len` bytes of any content for the payload of a write. A backend that keeps a pool
    /// ([`crate::BufferPool`]) serves it from there.
    fn buffer(&mut self, len: usize) -> Buffer {
        Buffer::zeroed(len)
    }

    /// Takes back a buffer that is no longer needed: that of a [`Reply::Data`] once it is sent or its client
    /// is gone, or one from [`Backend::buffer`] whose write never became complete.
    fn recycle(&mut self, buffer: Buffer) {
        drop(buffer);
    }
}
