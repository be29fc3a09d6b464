//! Moving the content of an lvol of a store that a server holds: what is said about it, and the commands' end of it.
//!
//! The private socket ([`super::remote`]) tells what there is; the bytes go over NBD, on a second socket like it, as an export
//! whose name is a secret that the first one gave away. The two belong together: when the first connection ends, by
//! whatever death, the server lets go of the lvol.

use super::remote::{self, SOCKET_NAMES, call, socket_name};
use crate::nbd::{Command, Connection};
use crate::open::{Held, StoreArgs};
use crate::volume::{Done, Imported, Subject, Told, Volume, VolumeError};
use anyhow::{Context as _, Result, anyhow, bail};
use offshoot_block::Buffer;
use offshoot_rpc::{Client, connect_abstract};
use offshoot_store::{Change, Extent, Ticket};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::ops::Range;

/// Opens an lvol for reading. Parameters: [`Open`]. Result: [`Opened`].
pub(crate) const OPEN: &str = "offshoot_open_lvol";

/// Begins an lvol that is to be filled. Parameters: [`Begin`]. Result: [`Opened`].
pub(crate) const BEGIN: &str = "offshoot_begin_lvol";

/// Gives an lvol that is being filled another size. Parameters: [`Resize`]. Result: `true`.
pub(crate) const RESIZE: &str = "offshoot_resize_lvol";

/// An lvol is filled, and becomes one like any other. Parameters: [`Transfer`]. Result: [`Imported`]. If it cannot, it is removed.
pub(crate) const FINISH: &str = "offshoot_finish_lvol";

/// An lvol is not going to be filled: it is removed. Parameters: [`Transfer`]. Result: `true`.
pub(crate) const GIVE_UP: &str = "offshoot_give_up_lvol";

/// What is stored of an open lvol. Parameters: [`Part`]. Result: a list of [`Stretch`], from the start on.
pub(crate) const EXTENTS: &str = "offshoot_extents";

/// The ranges that a shallow copy of an open lvol consists of. Parameters and result: as [`EXTENTS`]. An empty list: there are no
/// more.
pub(crate) const RANGES: &str = "offshoot_copy_ranges";

/// Why a request failed. Parameters: [`Failed`]. Result: [`Told`] or null.
pub(crate) const WHY: &str = "offshoot_why";

/// Ranges that are told at a time.
const RANGES_AT_ONCE: usize = 4096;

/// What an lvol is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purpose {
    Export,
    Copy,
}

/// Which lvol is to be opened.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) store: StoreArgs,
    /// As the user wrote it.
    pub(crate) lvol: String,
    pub(crate) purpose: Purpose,
}

/// An lvol that is to be filled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) store: StoreArgs,
    /// What it is going to be called.
    pub(crate) name: String,
    /// Its size in bytes, if that is known.
    pub(crate) size_bytes: Option<u64>,
}

/// An lvol that is being filled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resize {
    pub(crate) transfer: String,
    /// Its new size in bytes.
    pub(crate) size_bytes: u64,
}

/// An lvol that is open.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// What the export is called, which nobody else knows.
    pub(crate) transfer: String,
    pub(crate) subject: Subject,
    /// Bytes of a cluster.
    pub(crate) cluster_bytes: u64,
    /// What is wrong with it.
    pub(crate) damage: String,
}

/// An open lvol.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) transfer: String,
}

/// A request that failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) transfer: String,
    /// Its first byte.
    pub(crate) offset: u64,
}

/// A part of an open lvol.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) transfer: String,
    /// First byte.
    pub(crate) start: u64,
    /// First byte behind it.
    pub(crate) end: u64,
    /// How much is to be told, at most.
    pub(crate) limit: usize,
}

/// An [`Extent`], or a [`Change`], whose zeros are the hole.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stretch {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) hole: bool,
    pub(crate) unknown: bool,
}

impl From<Extent> for Stretch {
    fn from(Extent { start, len, hole, unknown }: Extent) -> Self {
        Self { start, len, hole, unknown }
    }
}

impl From<Change> for Stretch {
    fn from(Change { start, len, zero }: Change) -> Self {
        Self { start, len, hole: zero, unknown: false }
    }
}

/// The name of the socket of a process on which content is moved.
pub(crate) fn data_socket_name(pid: u32, attempt: u32) -> String {
    format!("{}-data", socket_name(pid, attempt))
}

/// The server that holds a store.
pub(crate) struct Holder {
    client: Client,
    pid: u32,
}

impl Holder {
    /// The server that holds a store, when that is why a command could not open it.
    pub(crate) fn of(store: &StoreArgs, error: &anyhow::Error) -> Option<Self> {
        let pid = error.downcast_ref::<Held>()?.by(&store.path)?;
        Some(Self { client: remote::connect(pid)?, pid })
    }

    /// Opens an lvol for reading.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn open(mut self, store: &StoreArgs, lvol: &str, purpose: Purpose) -> Result<ServedVolume> {
        let open = Open { store: store.absolute()?, lvol: lvol.to_owned(), purpose };
        let opened = call(&mut self.client, OPEN, &open)?;
        self.attach(opened)
    }

    /// Begins an lvol that is to be filled.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn begin(
        mut self,
        store: &StoreArgs,
        name: &str,
        size_bytes: Option<u64>,
    ) -> Result<ServedVolume> {
        let begin = Begin { store: store.absolute()?, name: name.to_owned(), size_bytes };
        let opened = call(&mut self.client, BEGIN, &begin)?;
        self.attach(opened)
    }

    fn attach(self, opened: Opened) -> Result<ServedVolume> {
        let Self { client, pid } = self;
        let connect = |attempt| connect_abstract(data_socket_name(pid, attempt).as_bytes(), pid).ok();
        let stream = (0..SOCKET_NAMES).find_map(connect).context("the server has no socket for content")?;
        let connection = Connection::open(stream, &opened.transfer).map_err(|error| anyhow!("{error:#}"))?;
        Ok(ServedVolume { client, connection, opened, asked: HashMap::new() })
    }
}

/// An open lvol of a store that a server holds.
pub(crate) struct ServedVolume {
    client: Client,
    connection: Connection,
    opened: Opened,
    /// What is under way, by cookie.
    asked: HashMap<u64, Asked>,
}

struct Asked {
    offset: u64,
    buffer: Buffer,
    reads: bool,
}

impl ServedVolume {
    /// What there is to know of it.
    pub(crate) fn subject(&self) -> &Subject {
        &self.opened.subject
    }

    /// The ranges that a shallow copy consists of.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn copy_ranges(&mut self) -> Result<Vec<Change>> {
        let mut ranges: Vec<Change> = Vec::new();
        loop {
            let start = ranges.last().map_or(0, |last| last.start + last.len);
            let part = self.part(start..self.opened.subject.size_bytes, RANGES_AT_ONCE);
            let more: Vec<Stretch> = call(&mut self.client, RANGES, &part)?;
            if more.is_empty() {
                return Ok(ranges);
            }
            if more.iter().any(|range| range.start < start || range.len == 0) {
                bail!("the server answered something else than was asked");
            }
            ranges.extend(more.iter().map(|Stretch { start, len, hole, .. }| Change {
                start: *start,
                len: *len,
                zero: *hole,
            }));
        }
    }

    /// It is filled.
    ///
    /// # Errors
    /// It cannot become an lvol like any other, and is gone.
    pub(crate) fn finish(mut self) -> Result<Imported> {
        let transfer = self.transfer();
        call(&mut self.client, FINISH, &transfer)
    }

    /// It is not going to be filled: when this returns it is gone.
    pub(crate) fn give_up(mut self) {
        let transfer = self.transfer();
        // Where this fails the server is gone, or is about to remove it itself, as it does when the connection ends.
        let _ = call::<bool>(&mut self.client, GIVE_UP, &transfer);
    }

    fn transfer(&self) -> Transfer {
        Transfer { transfer: self.opened.transfer.clone() }
    }

    fn part(&self, Range { start, end }: Range<u64>, limit: usize) -> Part {
        Part { transfer: self.opened.transfer.clone(), start, end, limit }
    }

    fn send(&mut self, command: Command, offset: u64, buffer: Buffer) -> Result<Ticket, VolumeError> {
        let reads = matches!(command, Command::Read);
        let data = if reads { &[] } else { buffer.as_slice() };
        let cookie =
            self.connection.send(command, offset, buffer.len(), data).map_err(|error| gone(&error))?;
        self.asked.insert(cookie, Asked { offset, buffer, reads });
        Ok(Ticket(cookie))
    }

    /// What the server says about a request that failed.
    fn why(&mut self, offset: u64, errno: u32) -> Result<VolumeError> {
        let failed = Failed { transfer: self.opened.transfer.clone(), offset };
        let told: Option<Told> = call(&mut self.client, WHY, &failed)?;
        let unknown = || VolumeError::Other(anyhow!("the server answers with error {errno}"));
        Ok(told.map_or_else(unknown, VolumeError::from))
    }
}

/// What is left of an error of a connection. Not the error itself: a broken pipe means another one where errors are told.
fn gone(error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("the server has ended: {error}")
}

impl Volume for ServedVolume {
    fn cluster_bytes(&self) -> u64 {
        self.opened.cluster_bytes
    }

    fn read(&mut self, offset: u64, buffer: Buffer) -> Result<Ticket, VolumeError> {
        self.send(Command::Read, offset, buffer)
    }

    fn write(&mut self, offset: u64, data: Buffer) -> Result<Ticket, VolumeError> {
        self.send(Command::Write, offset, data)
    }

    fn wait(&mut self, done: &mut Vec<Done>) -> Result<(), VolumeError> {
        let (cookie, errno) = self.connection.receive().map_err(|error| gone(&error))?;
        let asked = self.asked.remove(&cookie);
        let Asked { offset, mut buffer, reads } = asked.context("the server answers what was not asked")?;
        let result = match errno {
            0 if reads => {
                let received: io::Result<()> = self.connection.receive_data(buffer.as_mut_slice());
                received.map_err(|error| gone(&error))?;
                Ok(buffer)
            }
            0 => Ok(buffer),
            errno => Err(self.why(offset, errno)?),
        };
        done.push((Ticket(cookie), result));
        Ok(())
    }

    fn extents(&mut self, range: Range<u64>, limit: usize) -> Result<Vec<Extent>, VolumeError> {
        let part = self.part(range, limit);
        let found: Vec<Stretch> = call(&mut self.client, EXTENTS, &part)?;
        let extent = |Stretch { start, len, hole, unknown }| Extent { start, len, hole, unknown };
        Ok(found.into_iter().map(extent).collect())
    }

    fn damage(&self) -> String {
        self.opened.damage.clone()
    }

    fn resize(&mut self, size_bytes: u64) -> Result<(), VolumeError> {
        let resize = Resize { transfer: self.opened.transfer.clone(), size_bytes };
        call::<bool>(&mut self.client, RESIZE, &resize)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), VolumeError> {
        let cookie = self.connection.send(Command::Flush, 0, 0, &[]).map_err(|error| gone(&error))?;
        let (answered, errno) = self.connection.receive().map_err(|error| gone(&error))?;
        match errno {
            0 if answered == cookie => Ok(()),
            0 => Err(anyhow!("the server answers what was not asked").into()),
            errno => Err(self.why(0, errno)?),
        }
    }
}
