//! An lvol whose content is moved in or out: of a store that this process has open, or of one that a server holds.

use crate::lookup;
use crate::open::Store;
use offshoot_block::{Buffer, DeviceError};
use offshoot_format::BlobId;
use offshoot_store::{Blob, Error, Extent, IoRequest, Reply, State, Ticket, Verb};
use serde::{Deserialize, Serialize};
use std::ops::Range;

const EIO: i32 = 5;

/// What is moved to or from, many requests at a time.
pub(crate) trait Volume {
    /// Bytes of a cluster.
    fn cluster_bytes(&self) -> u64;

    /// Begins to read at `offset`, in bytes. The buffer comes back by [`Volume::wait`].
    ///
    /// # Errors
    /// The server is gone.
    fn read(&mut self, offset: u64, buffer: Buffer) -> Result<Ticket, VolumeError>;

    /// Begins to write at `offset`, in bytes. The buffer may come back by [`Volume::wait`], for its memory.
    ///
    /// # Errors
    /// The server is gone.
    fn write(&mut self, offset: u64, data: Buffer) -> Result<Ticket, VolumeError>;

    /// Waits until at least one request is done, of which there is one.
    ///
    /// # Errors
    /// None is going to be done any more.
    fn wait(&mut self, done: &mut Vec<Done>) -> Result<(), VolumeError>;

    /// What is stored for a range, from its start on: about `limit` extents at most.
    ///
    /// # Errors
    /// There is no such range.
    fn extents(&mut self, range: Range<u64>, limit: usize) -> Result<Vec<Extent>, VolumeError>;

    /// What is wrong with the lvol; empty if nothing is.
    fn damage(&self) -> String;

    /// Gives the lvol another size, in bytes. Nothing is under way.
    ///
    /// # Errors
    /// Those of the verb.
    fn resize(&mut self, size_bytes: u64) -> Result<(), VolumeError>;

    /// Makes durable what is done.
    ///
    /// # Errors
    /// A device failed.
    fn flush(&mut self) -> Result<(), VolumeError>;
}

/// A request that is done, with its buffer.
pub(crate) type Done = (Ticket, Result<Buffer, VolumeError>);

/// Why content could not be moved, as far as that decides what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// A device failed there, and need not elsewhere.
    #[error("{0}")]
    Device(String),
    /// Nobody can tell what is there, because metadata is damaged.
    #[error("{0}")]
    Unknown(String),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<Error> for VolumeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Device(_) => Self::Device(error.to_string()),
            Error::UnknownPart { .. } => Self::Unknown(error.to_string()),
            error => Self::Other(error.into()),
        }
    }
}

/// The same for a server to tell.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    Device(String),
    Unknown(String),
    Other(String),
}

impl From<Error> for Told {
    fn from(error: Error) -> Self {
        match VolumeError::from(error) {
            VolumeError::Device(text) => Self::Device(text),
            VolumeError::Unknown(text) => Self::Unknown(text),
            VolumeError::Other(error) => Self::Other(format!("{error:#}")),
        }
    }
}

impl From<Told> for VolumeError {
    fn from(told: Told) -> Self {
        match told {
            Told::Device(text) => Self::Device(text),
            Told::Unknown(text) => Self::Unknown(text),
            Told::Other(text) => Self::Other(anyhow::Error::msg(text)),
        }
    }
}

/// What there is to know of an lvol before it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// As it is shown.
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size_bytes: u64,
}

/// What an import has come to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Imported {
    /// Size of the lvol in bytes.
    pub(crate) size_bytes: u64,
    /// Bytes of the clusters that it holds.
    pub(crate) own_bytes: u64,
}

impl Imported {
    pub(crate) fn of(state: &State, lvol: BlobId) -> Option<Self> {
        let blob = state.blob(lvol)?;
        let own_bytes = blob.own_clusters * state.units.cluster;
        Some(Self { size_bytes: state.bytes(blob), own_bytes })
    }
}

/// The lvol of a name, if anything of it can be read.
///
/// # Errors
/// There is none, or nothing of it is known.
pub(crate) fn subject<'s>(state: &'s State, name: &str) -> Result<(&'s Blob, Subject), Error> {
    let blob = lookup::lvol(state, name)?;
    if blob.damage.is_some() && blob.len == 0 {
        return Err(Error::Damaged(blob.display_name()));
    }
    Ok((blob, Subject { name: blob.display_name(), size_bytes: state.bytes(blob) }))
}

/// An lvol of a store that is open here. Dropping it leaves the requests in flight to the store, which finishes them
/// before any verb on the lvol and before it closes.
pub(crate) struct StoreVolume<'s> {
    store: &'s mut Store,
    lvol: BlobId,
    replies: Vec<(Ticket, Result<Reply, Error>)>,
}

impl<'s> StoreVolume<'s> {
    pub(crate) fn new(store: &'s mut Store, lvol: BlobId) -> Self {
        Self { store, lvol, replies: Vec::new() }
    }
}

impl Volume for StoreVolume<'_> {
    fn cluster_bytes(&self) -> u64 {
        self.store.state().units.cluster
    }

    fn read(&mut self, offset: u64, buffer: Buffer) -> Result<Ticket, VolumeError> {
        Ok(self.store.submit(IoRequest::Read { lvol: self.lvol, offset, buffer }))
    }

    fn write(&mut self, offset: u64, data: Buffer) -> Result<Ticket, VolumeError> {
        Ok(self.store.submit(IoRequest::Write { lvol: self.lvol, offset, data, fua: false }))
    }

    fn wait(&mut self, done: &mut Vec<Done>) -> Result<(), VolumeError> {
        self.store.wait(&mut self.replies);
        // The engine answers every request. If it ever did not, an error is better than waiting for it without an end.
        if self.replies.is_empty() {
            return Err(Error::Device(DeviceError::Io { errno: EIO }).into());
        }
        done.extend(self.replies.drain(..).map(|(ticket, result)| {
            let buffer = |reply| match reply {
                Reply::Buffer(buffer) => buffer,
                Reply::Done | Reply::Made(_) => Buffer::default(),
            };
            (ticket, result.map(buffer).map_err(VolumeError::from))
        }));
        Ok(())
    }

    fn extents(&mut self, range: Range<u64>, limit: usize) -> Result<Vec<Extent>, VolumeError> {
        Ok(self.store.extents(self.lvol, range, limit)?)
    }

    fn damage(&self) -> String {
        self.store.state().blob(self.lvol).and_then(|blob| blob.damage.clone()).unwrap_or_default()
    }

    fn resize(&mut self, size_bytes: u64) -> Result<(), VolumeError> {
        self.store.execute(Verb::Resize { lvol: self.lvol, size_bytes })?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), VolumeError> {
        Ok(self.store.flush()?)
    }
}
