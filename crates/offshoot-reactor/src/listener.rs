//! Unix sockets on which clients arrive.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Why a path cannot be listened on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another server answers on this path.
    #[error("{} is in use by another server", path.display())]
    InUse {
        /// The path asked for.
        path: PathBuf,
    },
    /// Something else is in the way.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot listen on {}: {source}", path.display())]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

/// A listening socket that only the owner of the process can connect to: by the mode 0600 of its file, which goes with it
/// if it is still the same one; without a file, by asking who connects.
#[derive(Debug)]
pub struct UnixListener {
    socket: OwnedFd,
    /// Dropped after the socket: a successor that finds the file in between finds it stale. `None`: the name is abstract.
    file: Option<SocketFile>,
}

impl UnixListener {
    /// Listens on a path. Only the owner of the process can connect.
    ///
    /// # Errors
    /// [`ListenError`], among others when another server listens there.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |source: io::Error| ListenError::Io { path: path.to_owned(), source };
        let address = SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)
            .map_err(|errno| failed(errno.into()))?;
        // Linux gives the file the mode of the socket, so there is no moment at which others could connect.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|errno| failed(errno.into()))?;
        match rustix::net::bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                remove_stale(path, &address)?;
                rustix::net::bind(&socket, &address).map_err(|errno| failed(errno.into()))?;
            }
            bound => bound.map_err(|errno| failed(errno.into()))?,
        }
        let file = SocketFile::at(path).map_err(failed)?;
        rustix::net::listen(&socket, BACKLOG).map_err(|errno| failed(errno.into()))?;
        Ok(Self { socket, file: Some(file) })
    }

    /// Listens under a name in the abstract namespace, where nothing is left behind whatever the end. Others are turned
    /// away: [`UnixListener::accept`].
    ///
    /// # Errors
    /// EADDRINUSE when the name is taken; otherwise that of the system call.
    pub fn bind_abstract(name: &[u8]) -> Result<Self, Errno> {
        let address = SocketAddrUnix::new_abstract_name(name)?;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self { socket, file: None })
    }

    /// The next client, if one has arrived. Its socket does not block.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] when none has, [`Errno::CONNABORTED`] when one was turned away; otherwise that of `accept`.
    pub fn accept(&self) -> Result<OwnedFd, Errno> {
        let socket = rustix::net::accept_with(&self.socket, FLAGS)?;
        if self.file.is_none() {
            let peer = rustix::net::sockopt::socket_peercred(&socket)?.uid;
            if peer != rustix::process::geteuid() && !peer.is_root() {
                return Err(Errno::CONNABORTED);
            }
        }
        Ok(socket)
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The file of a Unix socket. It is removed when this is dropped, if it is still the same one.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device_inode: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let device_inode = device_inode(path)?;
        Ok(Self { path: path.to_owned(), device_inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if device_inode(&self.path).is_ok_and(|found| found == self.device_inode) {
            // A file left behind does no harm: the next server finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn device_inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket file on which nobody listens.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let failed = |source: io::Error| ListenError::Io { path: path.to_owned(), source };
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)
        .map_err(|errno| failed(errno.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed),
        // AGAIN is a live server with a full backlog.
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(errno) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_owner_can_connect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists(), "removed on the way out");
    }

    #[test]
    fn replaces_a_stale_socket_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = UnixListener::bind(&path).unwrap();
        assert!(matches!(UnixListener::bind(&path), Err(ListenError::InUse { .. })));
        drop(live);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(UnixListener::bind(&path), Err(ListenError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn leaves_the_socket_of_a_successor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let first = UnixListener::bind(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn an_abstract_name_is_free_again_with_its_listener() {
        let name = format!("offshoot-test-{}", std::process::id());
        let listener = UnixListener::bind_abstract(name.as_bytes()).unwrap();
        assert_eq!(UnixListener::bind_abstract(name.as_bytes()).unwrap_err(), Errno::ADDRINUSE);
        assert_eq!(listener.accept().unwrap_err(), Errno::AGAIN);
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).unwrap();
        rustix::net::connect(&client, &address).unwrap();
        listener.accept().unwrap();
        drop(listener);
        UnixListener::bind_abstract(name.as_bytes()).unwrap();
    }

    #[test]
    fn a_path_too_long_is_an_error() {
        let path = PathBuf::from("/tmp").join("x".repeat(200));
        assert!(matches!(UnixListener::bind(&path), Err(ListenError::Io { .. })));
    }
}
