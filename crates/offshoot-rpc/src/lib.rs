//! SPDK's JSON-RPC without the methods' meaning: a connection machine without I/O, types, a server and a client.
//!
//! The crate promises:
//! - Byte streams may be cut anywhere, and nothing that a client sends makes it panic, allocate without a bound
//!   ([`limits`]) or stall another client.
//! - Each request is answered once, after the [`Backend`] has answered it, with the id that it had, byte by byte. A
//!   client that does not read its responses is not read from either.
//! - What SPDK's decoders refuse is refused, with SPDK's codes and texts; `docs/compat/spdk-rpc.md` lists the differences.
//!
//! It will never know what an lvstore is, change one, or listen where others than the owner of the process can connect.
//!
//! [`Connection`] is the machine, fed with bytes and replies; [`Server`] drives it over a Unix socket; [`Dispatch`] turns
//! requests into [`Call`]s; [`Client`] is the other end.
#![forbid(unsafe_code)]

mod client;
mod connection;
mod error;
mod json;
pub mod limits;
mod methods;
mod request;
mod server;
pub mod types;

pub use client::{Client, ClientError, Response, connect_abstract};
pub use connection::Connection;
pub use error::{Errno, RpcError};
pub use json::{DecodeError, Document, SyntaxError, Value};
pub use methods::{Call, Dispatch, METHODS, Method, State, When};
pub use offshoot_reactor::ListenError;
pub use request::{Params, Reply, Request, ResultText};
pub use server::{Backend, BindError, RequestId, Server, ServerError};

/// Where SPDK listens unless it is told otherwise, and where its clients look.
pub const DEFAULT_SOCKET: &str = "/var/tmp/spdk.sock";
