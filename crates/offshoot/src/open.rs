//! Opening a store, for looking or for changing it.

use crate::deed::{Look, Shown, View};
use crate::external::External;
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use offshoot_block::BlockDevice as _;
use offshoot_device::{FileDevice, LockError, OpenError, OpenOptions, PowerSession};
use offshoot_store::{ExternalDevice, Session};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Whatever is read is whole sectors.
const SECTOR_BYTES: u32 = 512;

/// What stores lie on: a file or block device.
pub(crate) type Device = FileDevice;

/// An open store.
pub(crate) type Store = offshoot_store::Store<Device>;

/// Which store, and what lies below it. Part of every command that opens one.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct StoreArgs {
    /// File or block device that holds the store
    #[arg(value_name = "STORE")]
    pub(crate) path: PathBuf,
    /// File that is the external snapshot of this UUID; may be given several times
    #[arg(long = "external", value_name = "UUID=FILE")]
    pub(crate) externals: Vec<External>,
}

impl StoreArgs {
    /// The same for a process that runs elsewhere.
    ///
    /// # Errors
    /// There is no such file, or its path is not UTF-8.
    pub(crate) fn absolute(&self) -> Result<Self> {
        let externals = self.externals.iter();
        let externals = externals
            .map(|external| Ok(External { id: external.id.clone(), file: absolute(&external.file)? }))
            .collect::<Result<_>>()?;
        Ok(Self { path: absolute(&self.path)?, externals })
    }

    /// Opens the store for looking: under a lock that readers share, without ever writing to it.
    ///
    /// # Errors
    /// It cannot be opened, a writer holds it, or nothing of it can be read.
    pub(crate) fn look(&self) -> Result<Store> {
        self.open(OpenOptions::read_only())
    }

    /// Opens the store for looking, and looks.
    ///
    /// # Errors
    /// As [`StoreArgs::look`], or what was to be seen cannot be told.
    pub(crate) fn show(&self, what: &dyn Look) -> Result<Shown> {
        let store = self.look()?;
        let (engine, findings) = (store.engine(), store.findings());
        what.show(&View { path: &self.path, engine, findings, device: store.device(), is_served: false })
    }

    /// Opens the store under its exclusive lock, changes it, and closes it again, also when the change failed.
    ///
    /// # Errors
    /// It cannot be opened, somebody holds it, or it cannot be closed; else those of the change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Store) -> Result<T>) -> Result<T> {
        let mut store = self.open(OpenOptions::writable())?;
        let changed = change(&mut store);
        let (_, closed) = store.close();
        // Why the change failed is the reason to tell, whatever happened to the store afterwards.
        let changed = changed?;
        closed.with_context(|| format!("{}: cannot be closed in order", self.path.display()))?;
        Ok(changed)
    }

    fn open(&self, options: OpenOptions) -> Result<Store> {
        let below = device(&self.path, &options)?;
        let externals =
            self.externals.iter().map(|external| Ok((external.id.clone(), external_device(&external.file)?)));
        let externals: Vec<ExternalDevice<Device>> = externals.collect::<Result<_>>()?;
        let opening = opening(&below, options.read_only);
        Store::open(below, externals, &opening).with_context(|| self.path.display().to_string())
    }
}

/// The path of a file for a process that runs elsewhere.
///
/// # Errors
/// There is no such file, or its path is not UTF-8.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    let whole = fs::canonicalize(path).with_context(|| path.display().to_string())?;
    match whole.to_str() {
        Some(_) => Ok(whole),
        None => bail!("{}: the path of a file is not UTF-8", path.display()),
    }
}

/// Opens a file or block device.
///
/// # Errors
/// Why not, in one line that names it.
pub(crate) fn device(path: &Path, options: &OpenOptions) -> Result<FileDevice> {
    FileDevice::open(path, options).map_err(described)
}

/// Opens a file or block device that an external snapshot lies on: all of it, for reading.
///
/// # Errors
/// It cannot be opened, or its end cannot be read because it is no whole number of sectors.
pub(crate) fn external_device(path: &Path) -> Result<FileDevice> {
    let options = OpenOptions::read_only();
    let found = device(path, &options)?;
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    let size_bytes = found.geometry().size_bytes;
    if !metadata.is_file() || metadata.len() == size_bytes {
        return Ok(found);
    }
    if !metadata.len().is_multiple_of(SECTOR_BYTES.into()) {
        let len = metadata.len();
        bail!("{}: an external snapshot of {len} bytes is no multiple of {SECTOR_BYTES}", path.display());
    }
    drop(found);
    // Blocks that direct I/O takes would leave the end out.
    device(path, &OpenOptions { logical_block: Some(SECTOR_BYTES), ..options })
}

/// How the store on a device is opened: under a fresh epoch, and under the power that the device runs on.
pub(crate) fn opening(device: &FileDevice, read_only: bool) -> offshoot_store::OpenOptions {
    let session = device
        .session()
        .map(|PowerSession { boot_id, device_generation }| Session { boot_id, device_generation });
    match read_only {
        true => offshoot_store::OpenOptions::read_only(session),
        false => offshoot_store::OpenOptions::writable(Uuid::new_v4().into_bytes(), session),
    }
}

/// How the store on a device is opened for its repair.
pub(crate) fn repairing(device: &FileDevice) -> offshoot_store::OpenOptions {
    offshoot_store::OpenOptions { repair: true, ..opening(device, false) }
}

/// Somebody has what was to be opened.
#[derive(Debug, thiserror::Error)]
#[error("{} is {source}", path.display())]
pub(crate) struct Held {
    path: PathBuf,
    source: LockError,
}

impl Held {
    /// The process that has the file at `path` for itself, where that is known.
    pub(crate) fn by(&self, path: &Path) -> Option<u32> {
        match self.source {
            LockError::Held { pid, .. } if self.path == path => pid,
            _ => None,
        }
    }
}

/// Says why something that changes a whole store, `what`, is not done by a server that holds it.
pub(crate) fn wants_it_alone(error: anyhow::Error, what: &str) -> anyhow::Error {
    match error.downcast_ref::<Held>() {
        Some(held) => anyhow!("{held}: {what} needs a store that nobody uses: stop that process first"),
        None => error,
    }
}

/// An error of opening a device in the words of the command line.
pub(crate) fn described(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Locked { path, source: source @ LockError::Held { .. } } => Held { path, source }.into(),
        error => error.into(),
    }
}
