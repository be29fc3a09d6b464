//! Sockets on which clients arrive.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Why a socket cannot be listened on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address can be reached from other machines, and NBD here neither encrypts nor authenticates.
    #[error("{addr} is not a loopback address; clients elsewhere need a tunnel, such as ssh -L")]
    NotLoopback {
        /// The address asked for.
        addr: SocketAddr,
    },
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
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address or path asked for.
        address: String,
        /// Its error.
        source: io::Error,
    },
}

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    /// Of a Unix socket; TCP has none.
    file: Option<SocketFile>,
}

impl Listener {
    /// Listens on a path. Only the owner of the process can connect.
    pub(super) fn unix(path: &Path) -> Result<Self, ListenError> {
        let failed = |source: io::Error| ListenError::Io { address: path.display().to_string(), source };
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

    /// Listens on a loopback address. Port 0 takes any free port; the address in use is returned.
    pub(super) fn tcp(addr: SocketAddr) -> Result<(Self, SocketAddr), ListenError> {
        if !addr.ip().to_canonical().is_loopback() {
            return Err(ListenError::NotLoopback { addr });
        }
        let failed = |errno: Errno| ListenError::Io { address: addr.to_string(), source: errno.into() };
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None).map_err(failed)?;
        sockopt::set_socket_reuseaddr(&socket, true).map_err(failed)?;
        rustix::net::bind(&socket, &addr).map_err(failed)?;
        rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
        let bound = rustix::net::getsockname(&socket).map_err(failed)?;
        let bound = SocketAddr::try_from(bound).map_err(failed)?;
        Ok((Self { socket, file: None }, bound))
    }

    /// The next client, if one has arrived. The socket does not block.
    pub(super) fn accept(&self) -> Result<OwnedFd, Errno> {
        let client = rustix::net::accept_with(&self.socket, FLAGS)?;
        if self.file.is_none() {
            // Replies go out in as few pieces as they can already; waiting for more only adds latency. Where this
            // is refused (the client is gone again), nothing worse happens than that.
            let _ = sockopt::set_tcp_nodelay(&client, true);
        }
        Ok(client)
    }
}

impl AsFd for Listener {
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
    let failed = |source: io::Error| ListenError::Io { address: path.display().to_string(), source };
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
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_the_owner_can_connect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = Listener::unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists(), "removed on the way out");
    }

    #[test]
    fn replaces_a_stale_socket_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        drop(UnixListener::bind(&path).unwrap());
        let live = Listener::unix(&path).unwrap();
        assert!(matches!(Listener::unix(&path), Err(ListenError::InUse { .. })));
        drop(live);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::unix(&path), Err(ListenError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn leaves_the_socket_of_a_successor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let first = Listener::unix(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let _second = Listener::unix(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn refuses_what_others_can_reach() {
        for addr in ["0.0.0.0:0", "192.0.2.1:10809", "[::]:0", "[::ffff:192.0.2.1]:0"] {
            let result = Listener::tcp(addr.parse().unwrap());
            assert!(matches!(result, Err(ListenError::NotLoopback { .. })), "{addr}");
        }
        let (_listener, bound) = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(bound.port(), 0);
    }

    #[test]
    fn a_path_too_long_is_an_error() {
        let path = PathBuf::from("/tmp").join("x".repeat(200));
        assert!(matches!(Listener::unix(&path), Err(ListenError::Io { .. })));
    }
}
