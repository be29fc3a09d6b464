//! The fence: what keeps a store shut until the last write of a process that was killed has ended.
//!
//! A process that is killed loses its `flock` at once, but a write past the page cache that it gave to
//! io_uring is with the disk by then, and a disk that stalls may carry it out seconds later. Nobody may
//! read the store before that, let alone write over it. The kernel keeps an open file description for
//! as long as a request on it is under way, and a lock that belongs to the description with it. So the
//! descriptor that does the I/O carries such a lock (`F_OFD_SETLK`), on one byte, and whoever gets the
//! `flock` waits until nobody has that byte.
//!
//! - **F1** A fence is raised under an exclusive `flock` only, and nobody raises one for reading. So
//!   whoever holds a `flock`, shared or exclusive, and sees no fence, will see none but its own: looking
//!   is enough, and a reader leaves nothing behind that would stop the next writer.
//! - **F2** The byte lies where no file reaches, and counts only as exactly this one byte. Other
//!   programs lock other ranges (qemu some bytes near the start, NFS turns `flock` into a lock of the
//!   whole file), and nobody must wait for those.

use super::{LockError, PAUSE};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_int, c_short, off_t};
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

/// The byte that is locked (F2). One less than the last, whose locks look as if they had no end.
const BYTE: off_t = off_t::MAX - 1;

/// How long to wait for the writes of others: as long as the kernel gives a disk to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How `statfs(2)` names FUSE (`FUSE_SUPER_MAGIC`).
const FUSE: u64 = 0x6573_5546;

/// Waits until no write of a process that has died is under way. The caller holds the `flock` (F1);
/// `file` is any descriptor of the store.
///
/// # Errors
/// [`LockError::WritesUnderWay`] after `patience`, or what `fcntl(2)` says.
pub(super) fn outlast(file: &File, patience: Duration) -> Result<(), LockError> {
    let deadline = Instant::now() + patience;
    while is_raised(file)? {
        if Instant::now() >= deadline {
            return Err(LockError::WritesUnderWay { waited: patience });
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Raises the fence on the descriptor that writes, until its last use ends, be it that of a copy or of
/// a request. The caller holds the exclusive `flock` and has outlasted the fences of others. Returns
/// why there is no fence, if there can be none.
///
/// # Errors
/// Those of `fcntl(2)` that do not mean that there can be no fence.
pub(super) fn raise(file: &File) -> io::Result<Option<String>> {
    if rustix::fs::fstatfs(file).is_ok_and(|file_system| u64::try_from(file_system.f_type) == Ok(FUSE)) {
        // Where the server of the file system keeps the locks, the kernel does not tell it that one of
        // these has gone, and the store might never open again.
        return Ok(Some(note("FUSE may keep the lock for ever")));
    }
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK))) {
        Ok(_) => Ok(None),
        Err(errno) => refusal(errno).map(Some),
    }
}

/// Whether a description other than that of `file` has the fence up. Never where locks are not to be had.
fn is_raised(file: &File) -> io::Result<bool> {
    let mut found = range(libc::F_RDLCK);
    match fcntl(file, FcntlArg::F_OFD_GETLK(&mut found)) {
        Ok(_) => Ok(found.l_type == kind(libc::F_WRLCK) && (found.l_start, found.l_len) == (BYTE, 1)),
        Err(errno) => refusal(errno).map(|_| false),
    }
}

/// What it means that a lock was refused: that there can be none here, or an error.
fn refusal(errno: Errno) -> io::Result<String> {
    match errno {
        // By F1 it is not a fence that is in the way.
        Errno::EAGAIN | Errno::EACCES => Ok(note("another program has locked the whole file")),
        // Network file systems without a lock service, and kernels before 3.15.
        Errno::ENOLCK | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS => {
            Ok(note(&io::Error::from(errno).to_string()))
        }
        errno => Err(errno.into()),
    }
}

fn note(why: &str) -> String {
    format!("what a killed process has under way may outlast its lock here ({why})")
}

fn range(of_kind: c_int) -> libc::flock {
    libc::flock { l_type: kind(of_kind), l_whence: kind(libc::SEEK_SET), l_start: BYTE, l_len: 1, l_pid: 0 }
}

/// The constants of C are wider than the fields that they are for.
#[expect(clippy::cast_possible_truncation, reason = "0, 1 or 2")]
const fn kind(constant: c_int) -> c_short {
    constant as c_short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineChoice, FileDevice, LockMode, OpenError, OpenOptions, StoreLock};
    use rustix::fs::FlockOperation;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tempfile::NamedTempFile;

    fn store() -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        file
    }

    fn open(path: &Path) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }

    #[test]
    fn a_fence_lives_as_long_as_its_description() {
        let store = store();
        let (writer, other) = (open(store.path()), File::open(store.path()).unwrap());
        assert!(!is_raised(&other).unwrap());
        assert_eq!(raise(&writer).unwrap(), None);
        assert!(is_raised(&other).unwrap());
        assert!(!is_raised(&writer).unwrap(), "nobody waits for himself");
        let copy = writer.try_clone().unwrap();
        drop(writer);
        drop(open(store.path()));
        assert!(is_raised(&other).unwrap(), "a copy may still write");
        drop(copy);
        assert!(!is_raised(&other).unwrap());
    }

    #[test]
    fn patience_ends_in_an_error() {
        let store = store();
        let writer = open(store.path());
        raise(&writer).unwrap();
        let patience = Duration::from_millis(20);
        let error = StoreLock::acquire_within(store.path(), LockMode::Exclusive, patience).unwrap_err();
        assert!(matches!(error, LockError::WritesUnderWay { waited } if waited == patience), "{error}");
        let error = LockError::WritesUnderWay { waited: PATIENCE };
        let expected = "writes of a process that died are still under way after 30 s";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn all_who_open_wait() {
        for engine in [EngineChoice::Auto, EngineChoice::Threads] {
            for options in [OpenOptions::writable(), OpenOptions::read_only()] {
                let store = store();
                // What a killed process leaves: a fence without a lock.
                let writer = open(store.path());
                raise(&writer).unwrap();
                let ended = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        std::thread::sleep(3 * PAUSE);
                        ended.store(true, Ordering::SeqCst);
                        drop(writer);
                    });
                    FileDevice::open(store.path(), &OpenOptions { engine, ..options }).unwrap();
                    assert!(ended.load(Ordering::SeqCst), "opened before the last write had ended");
                });
            }
        }
    }

    #[test]
    fn who_waits_has_the_lock() {
        let store = store();
        let writer = open(store.path());
        raise(&writer).unwrap();
        std::thread::scope(|scope| {
            let opener = scope.spawn(|| {
                loop {
                    match FileDevice::open(store.path(), &OpenOptions::writable()) {
                        // By the look at the lock below.
                        Err(OpenError::Locked { source: LockError::Held { .. }, .. }) => {}
                        opened => return opened.map(drop),
                    }
                }
            });
            while open(store.path()).try_lock().is_ok() {
                std::thread::yield_now();
            }
            // Refused at once, and by the one that waits.
            let error = FileDevice::open(store.path(), &OpenOptions::read_only()).unwrap_err();
            let held = matches!(error, OpenError::Locked { source: LockError::Held { .. }, .. });
            assert!(held, "{error}");
            drop(writer);
            opener.join().unwrap().unwrap();
        });
    }

    #[test]
    fn only_who_writes_alone_has_a_fence() {
        let writable = OpenOptions::writable();
        let table = [
            (writable, true),
            (OpenOptions { engine: EngineChoice::Threads, ..writable }, true),
            (OpenOptions { lock: Some(LockMode::Shared), ..writable }, false),
            (OpenOptions { lock: None, ..writable }, false),
            (OpenOptions { read_only: true, ..writable }, false),
            (OpenOptions::read_only(), false),
        ];
        for (options, expected) in table {
            let store = store();
            let other = File::open(store.path()).unwrap();
            let device = FileDevice::open(store.path(), &options).unwrap();
            assert_eq!(is_raised(&other).unwrap(), expected, "{options:?}");
            assert_eq!(device.fence_note(), None);
            drop(device);
            outlast(&other, PATIENCE).unwrap();
        }
    }

    #[test]
    fn other_locks_keep_nobody_waiting() {
        // As NFS does with the `flock` of the store itself.
        let whole = libc::flock { l_start: 0, l_len: 0, ..range(libc::F_WRLCK) };
        let (store, patience) = (store(), Duration::ZERO);
        let foreign = open(store.path());
        fcntl(&foreign, FcntlArg::F_OFD_SETLK(&whole)).unwrap();
        StoreLock::acquire_within(store.path(), LockMode::Exclusive, patience).unwrap();
        let device = FileDevice::open(store.path(), &OpenOptions::writable()).unwrap();
        let expected = "what a killed process has under way may outlast its lock here (another program has \
                        locked the whole file)";
        assert_eq!(device.fence_note(), Some(expected));
        drop((foreign, device));

        // A classic lock, and one of part of the file.
        let foreign = open(store.path());
        rustix::fs::fcntl_lock(&foreign, FlockOperation::NonBlockingLockExclusive).unwrap();
        outlast(&File::open(store.path()).unwrap(), patience).unwrap();
        drop(foreign);
        let part = libc::flock { l_start: 100, l_len: 100, ..whole };
        let foreign = open(store.path());
        fcntl(&foreign, FcntlArg::F_OFD_SETLK(&part)).unwrap();
        let device = FileDevice::open(store.path(), &OpenOptions::writable()).unwrap();
        assert_eq!(device.fence_note(), None);
    }

    #[test]
    fn where_there_are_no_locks_a_note_must_do() {
        let table = [
            (Errno::EAGAIN, true),
            (Errno::EACCES, true),
            (Errno::ENOLCK, true),
            (Errno::EINVAL, true),
            (Errno::EOPNOTSUPP, true),
            (Errno::ENOSYS, true),
            (Errno::EIO, false),
            (Errno::EBADF, false),
        ];
        for (errno, expected) in table {
            assert_eq!(refusal(errno).is_ok(), expected, "{errno}");
        }
    }
}
