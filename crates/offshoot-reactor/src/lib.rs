//! What servers with one `epoll_wait` are made of: readiness of descriptors, listening Unix sockets, slots for clients.
//!
//! The crate promises:
//! - Only the owner of the process can connect to a [`UnixListener`]. A socket file that a dead server left is replaced;
//!   that of a live one, and anything that is no socket, is left alone.
//! - A [`Poller`] is level-triggered, and a descriptor itself: one server can sleep on its own poller, or another one's
//!   can watch it.
//!
//! It will never know a protocol, read or write a socket, or start a thread.
#![forbid(unsafe_code)]

mod listener;
mod poller;
mod slots;

pub use listener::{ListenError, UnixListener};
pub use poller::{Interest, Poller, Ready};
pub use slots::SlotTable;
