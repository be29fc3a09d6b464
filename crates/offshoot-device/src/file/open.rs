//! From a path to a device.

use super::FileDevice;
use super::engine::Engine;
use super::job::Medium;
use super::options::{EngineChoice, EngineKind, OpenOptions};
use super::probe::{Findings, probe};
use super::refused::Refused;
use super::threads::{THREADS, ThreadEngine};
use super::uring::UringEngine;
use crate::check::is_logical_block;
use crate::lock::{PATIENCE, PAUSE};
use crate::{DeviceStats, LockError, LockMode, StoreLock};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;

/// Why a file did not become a device.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is nothing at the path.
    #[error("{path}: no such file or device", path = .0.display())]
    NotFound(PathBuf),
    /// A file was to be created where one is.
    #[error("{path}: already exists", path = .0.display())]
    AlreadyExists(PathBuf),
    /// The path leads to a directory.
    #[error("{path}: is a directory", path = .0.display())]
    IsDirectory(PathBuf),
    /// The operating system does not let this user in.
    #[error("{path}: permission denied", path = .0.display())]
    PermissionDenied(PathBuf),
    /// The path leads to something without blocks: a pipe, a socket, a terminal.
    #[error("{path}: neither a regular file nor a block device", path = .0.display())]
    NotAFileOrBlockDevice(PathBuf),
    /// Not even one logical block fits.
    #[error("{path}: {size_bytes} bytes are less than one block of {logical_block}", path = path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size_bytes: u64,
        /// The logical block in bytes.
        logical_block: u32,
    },
    /// A logical block that no device has was asked for.
    #[error("{path}: a logical block has 512 or 4096 bytes, not {logical_block}", path = path.display())]
    LogicalBlock {
        /// The file.
        path: PathBuf,
        /// The logical block in bytes.
        logical_block: u32,
    },
    /// Somebody else has the store.
    #[error("{path}: {source}", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who, as far as is known.
        source: LockError,
    },
    /// The path was pointed at another file while it was opened.
    #[error("{path}: replaced while it was being opened", path = .0.display())]
    Replaced(PathBuf),
    /// io_uring was demanded and is not to be had.
    #[error("{path}: io_uring is not available: {source}", path = path.display())]
    NoUring {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another error of the operating system.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl OpenError {
    fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path),
            io::ErrorKind::AlreadyExists => Self::AlreadyExists(path),
            io::ErrorKind::IsADirectory => Self::IsDirectory(path),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(path),
            _ => Self::Io { path, source },
        }
    }

    fn locked(path: &Path, source: LockError) -> Self {
        match source {
            LockError::Io(source) => Self::new(path, source),
            source => Self::Locked { path: path.to_path_buf(), source },
        }
    }
}

impl FileDevice {
    /// Opens a regular file or a block device. Takes the lock first, then the file. With a lock, this
    /// waits up to half a minute for what a killed process has still under way.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let failed = |error| OpenError::new(path, error);
        if let Some(logical_block) = options.logical_block.filter(|block| !is_logical_block(*block)) {
            return Err(OpenError::LogicalBlock { path: path.into(), logical_block });
        }
        // Looked at before it is opened: opening a FIFO would block.
        check_type(path, &std::fs::metadata(path).map_err(failed)?)?;
        let lock = options.lock.map(|mode| StoreLock::acquire(path, mode)).transpose();
        let mut lock = lock.map_err(|error| OpenError::locked(path, error))?;
        let file = open_file(path, options)?;
        check_type(path, &file.metadata().map_err(failed)?)?;
        if let Some(lock) = &mut lock {
            if !lock.covers(&file).map_err(failed)? {
                return Err(OpenError::Replaced(path.into()));
            }
            if !options.read_only {
                lock.fence(&file).map_err(failed)?;
            }
        }

        let findings = probe(&file, options).map_err(failed)?;
        if findings.geometry.size_bytes == 0 {
            return Err(OpenError::TooSmall {
                path: path.into(),
                size_bytes: super::probe::size_bytes(&file, 1).map_err(failed)?,
                logical_block: findings.geometry.logical_block,
            });
        }
        Self::start(path, file, findings, options.engine, lock)
    }

    /// Creates a regular file of `size_bytes`, sparse, and opens it. The file is on disk when this
    /// returns. A file that cannot be opened afterwards is removed again.
    ///
    /// # Errors
    /// [`OpenError::AlreadyExists`] among others; an existing file is left as it is.
    pub fn create(path: impl AsRef<Path>, size_bytes: u64, options: &OpenOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let failed = |error| OpenError::new(path, error);
        let file = File::options().write(true).create_new(true).open(path).map_err(failed)?;
        let created = file
            .set_len(size_bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_parent(path))
            .map_err(failed)
            .and_then(|()| Self::open(path, options));
        // Locked means that somebody else has begun to use the file.
        if matches!(&created, Err(error) if !matches!(error, OpenError::Locked { .. })) {
            // The first error is the one worth reporting.
            let _ = std::fs::remove_file(path);
        }
        created
    }

    fn start(
        path: &Path,
        file: File,
        findings: Findings,
        choice: EngineChoice,
        lock: Option<StoreLock>,
    ) -> Result<Self, OpenError> {
        let file = Arc::new(file);
        let started = match choice {
            EngineChoice::Auto | EngineChoice::Uring => UringEngine::new(Arc::clone(&file))
                .map(|engine| (Box::new(engine) as Box<dyn Engine>, EngineKind::Uring, None)),
            EngineChoice::Threads => threads(&file, None),
        };
        let (engine, engine_kind, engine_note) = match started {
            Err(error) if choice == EngineChoice::Auto && is_refusal(&error) => {
                threads(&file, Some(&error)).map_err(|error| OpenError::new(path, error))?
            }
            Err(source) if choice != EngineChoice::Threads => {
                return Err(OpenError::NoUring { path: path.into(), source });
            }
            started => started.map_err(|error| OpenError::new(path, error))?,
        };
        let medium = Medium {
            is_block_device: findings.is_block_device,
            granule: if findings.is_direct { findings.geometry.logical_block } else { 1 },
            refused: Refused::default(),
        };
        Ok(Self {
            engine,
            engine_kind,
            engine_note,
            refusals: Vec::new(),
            finished: Vec::new(),
            outstanding: 0,
            stats: DeviceStats::default(),
            medium,
            findings,
            file,
            lock,
        })
    }
}

/// Opens for I/O, and claims a block device that is locked exclusively.
fn open_file(path: &Path, options: &OpenOptions) -> Result<File, OpenError> {
    let failed = |error| OpenError::new(path, error);
    let mut open = File::options();
    open.read(true).write(!options.read_only);
    let is_block_device = std::fs::metadata(path).map_err(failed)?.file_type().is_block_device();
    let claims = is_block_device && options.lock == Some(LockMode::Exclusive);
    if claims {
        open.custom_flags(OFlags::EXCL.bits().cast_signed());
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open.open(path) {
            Err(error) if claims && Errno::from_io_error(&error) == Some(Errno::BUSY) => {
                if Instant::now() >= deadline {
                    return Err(OpenError::locked(path, LockError::InUse));
                }
                std::thread::sleep(PAUSE);
            }
            opened => return opened.map_err(failed),
        }
    }
}

type Started = (Box<dyn Engine>, EngineKind, Option<String>);

fn threads(file: &Arc<File>, instead_of: Option<&io::Error>) -> io::Result<Started> {
    let note =
        instead_of.map(|error| format!("io_uring is refused ({error}): using up to {THREADS} threads"));
    Ok((Box::new(ThreadEngine::new(Arc::clone(file))?), EngineKind::Threads, note))
}

/// Whether io_uring is not to be had here, as opposed to a failure that threads would meet as well.
fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::NOMEM))
}

fn check_type(path: &Path, metadata: &Metadata) -> Result<(), OpenError> {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        Err(OpenError::IsDirectory(path.into()))
    } else if file_type.is_file() || file_type.is_block_device() {
        Ok(())
    } else {
        Err(OpenError::NotAFileOrBlockDevice(path.into()))
    }
}

/// Makes the name of a new file durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_stand_in_for_a_refused_ring_only() {
        let table = [
            (Errno::NOSYS, true),
            (Errno::PERM, true),
            (Errno::ACCESS, true),
            (Errno::NOMEM, true),
            (Errno::MFILE, false),
            (Errno::INVAL, false),
        ];
        for (errno, expected) in table {
            assert_eq!(is_refusal(&errno.into()), expected, "{errno}");
        }
        let file = Arc::new(tempfile::tempfile().unwrap());
        let (_, kind, note) = threads(&file, Some(&Errno::PERM.into())).unwrap();
        let expected = "io_uring is refused (Operation not permitted (os error 1)): using up to 16 threads";
        assert_eq!((kind, note.as_deref()), (EngineKind::Threads, Some(expected)));
    }
}
