//! Sockets on which clients arrive.

use crate::backend::Peer;
use crate::connection::TlsPolicy;
use offshoot_reactor::UnixListener;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use thiserror::Error;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Why a socket cannot be listened on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address can be reached from other machines, and clients would not have to speak TLS.
    #[error("{addr} is not a loopback address: clients elsewhere need TLS, or a tunnel such as ssh -L")]
    NotLoopback {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The path of a Unix socket cannot be used.
    #[error(transparent)]
    Unix(#[from] offshoot_reactor::ListenError),
    /// The operating system refused.
    #[error("cannot listen on {addr}: {source}")]
    Io {
        /// The address asked for.
        addr: SocketAddr,
        /// Its error.
        source: io::Error,
    },
}

/// One listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener),
    /// In the abstract namespace.
    Abstract(UnixListener),
    Tcp(OwnedFd),
}

impl Listener {
    /// Listens on a path. Only the owner of the process can connect.
    pub(super) fn unix(path: &Path) -> Result<Self, ListenError> {
        Ok(Self::Unix(UnixListener::bind(path)?))
    }

    /// Listens under a name in the abstract namespace. Only the owner of the process and root can connect.
    pub(super) fn abstract_unix(name: &[u8]) -> Result<Self, Errno> {
        Ok(Self::Abstract(UnixListener::bind_abstract(name)?))
    }

    /// Listens on an address, which is a loopback address unless every client must speak TLS. Port 0 takes any free port;
    /// the address in use is returned.
    pub(super) fn tcp(addr: SocketAddr, has_tls: bool) -> Result<(Self, SocketAddr), ListenError> {
        if !has_tls && !addr.ip().to_canonical().is_loopback() {
            return Err(ListenError::NotLoopback { addr });
        }
        let failed = |errno: Errno| ListenError::Io { addr, source: errno.into() };
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None).map_err(failed)?;
        sockopt::set_socket_reuseaddr(&socket, true).map_err(failed)?;
        rustix::net::bind(&socket, &addr).map_err(failed)?;
        rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
        let bound = rustix::net::getsockname(&socket).map_err(failed)?;
        let bound = SocketAddr::try_from(bound).map_err(failed)?;
        Ok((Self::Tcp(socket), bound))
    }

    /// What its clients may do about TLS, where there is TLS.
    pub(super) fn tls_policy(&self) -> TlsPolicy {
        match self {
            // The file system says who may connect, and nobody listens in between.
            Self::Unix(_) | Self::Abstract(_) => TlsPolicy::Offered,
            Self::Tcp(_) => TlsPolicy::Required,
        }
    }

    /// Whether its clients wait when there are many already. Those of the owner's own programs do not.
    pub(super) fn is_limited(&self) -> bool {
        !matches!(self, Self::Abstract(_))
    }

    /// The next client, if one has arrived. The socket does not block.
    pub(super) fn accept(&self) -> Result<(OwnedFd, Peer), Errno> {
        let socket = match self {
            Self::Unix(listener) | Self::Abstract(listener) => {
                let client = listener.accept()?;
                let uid = sockopt::socket_peercred(&client).ok().map(|user| user.uid.as_raw());
                return Ok((client, Peer { uid, ..Peer::default() }));
            }
            Self::Tcp(socket) => socket,
        };
        let (client, address) = rustix::net::acceptfrom_with(socket, FLAGS)?;
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        let address = address.map(|address| address.ip().to_canonical());
        // Replies go out in as few pieces as they can already; waiting for more only adds latency. Where this
        // is refused (the client is gone again), nothing worse happens than that.
        let _ = sockopt::set_tcp_nodelay(&client, true);
        Ok((client, Peer { address, ..Peer::default() }))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) | Self::Abstract(listener) => listener.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_others_can_reach() {
        for addr in ["0.0.0.0:0", "192.0.2.1:10809", "[::]:0", "[::ffff:192.0.2.1]:0"] {
            let result = Listener::tcp(addr.parse().unwrap(), false);
            assert!(matches!(result, Err(ListenError::NotLoopback { .. })), "{addr}");
        }
        for (addr, has_tls) in [("127.0.0.1:0", false), ("0.0.0.0:0", true)] {
            let (_listener, bound) = Listener::tcp(addr.parse().unwrap(), has_tls).unwrap();
            assert_ne!(bound.port(), 0);
        }
    }
}
