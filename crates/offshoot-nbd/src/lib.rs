//! NBD, the network block device: a protocol machine without I/O, and a server around it.
//!
//! The crate promises:
//! - Byte streams may be cut anywhere, and nothing that a client sends makes it panic, allocate without a bound
//!   ([`limits`]) or stall another client.
//! - Each request is answered once, after the [`Backend`] has answered it. A client that leaves with requests under way
//!   leaves nothing behind.
//! - A payload is not copied between the backend's buffer and the socket on its way out, and not on its way in
//!   either, but for what arrived in one piece with the request before it.
//!
//! - Whoever can reach it from another machine speaks TLS: Unix sockets can only be opened by their owner, and addresses
//!   other than loopback are refused unless every client on them must ask for TLS.
//!
//! It will never know what an export is made of, and the server never blocks anywhere but in one `epoll_wait`. Records of TLS
//! are made and read by rustls.
//!
//! [`Connection`] is the machine, fed with bytes and answers; [`Server`] drives it over sockets. [`kernel`] makes the kernel of
//! this machine a client, for which there is no negotiation.
//! The wire format is that of the NBD project's `doc/proto.md`: fixed newstyle negotiation, simple and
//! structured replies, `base:allocation`.
#![forbid(unsafe_code)]

mod backend;
mod connection;
pub mod kernel;
pub mod limits;
mod pool;
mod proto;
mod server;

pub use backend::{
    Adopted, Backend, Command, Errno, ExportId, ExportInfo, Extent, OpenError, Peer, Reply, RequestId,
};
pub use connection::{Connection, Event, InputBuffer, ProtocolError, TlsPolicy};
pub use limits::Limits;
pub use pool::BufferPool;
pub use server::{ListenError, Server, ServerError, Tls, TlsError};
