//! Every bound of the protocol machine and the server, in one place: those that can be set ([`Limits`]), and those that cannot.

use std::time::Duration;

/// Bounds on what clients may take of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections. Above it, no more are accepted until one closes.
    pub connections: usize,
    /// Time that a client has from connecting to choosing an export.
    pub negotiation: Duration,
    /// Requests of one connection under way in the backend. Above it, the socket is not read.
    pub requests: usize,
    /// Bytes that the requests of one connection may hold, in the backend and in unsent replies, before no further request
    /// is taken from it. One more payload may be begun just below it.
    pub bytes: usize,
    /// Time that requests and replies get to finish after the server was told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            negotiation: Duration::from_secs(30),
            requests: 256,
            bytes: 32 << 20,
            drain: Duration::from_secs(5),
        }
    }
}

/// Largest payload of one READ or WRITE, in bytes: what clients may assume without asking. An export may take less.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// Longest export name, in bytes: the protocol's own limit on strings.
pub const EXPORT_NAME_BYTES_MAX: usize = 4096;

/// Longest data of one option that is looked at, in bytes. Holds the longest name and some hundred queries.
pub const OPTION_BYTES_MAX: usize = 16 << 10;

/// Options that one client may send before it must choose an export.
pub const OPTIONS_MAX: u32 = 1024;

/// Extents in one reply to BLOCK_STATUS. What lies beyond is left to the client's next request.
pub const STATUS_EXTENTS_MAX: usize = 4096;

/// Memory for bytes that were received and not yet looked at, in bytes.
pub const INPUT_BYTES: usize = 64 << 10;

/// A write whose outstanding payload is at least this long is received without reading ahead, so that a stream
/// of large writes goes straight into their buffers.
pub const DIRECT_PAYLOAD_BYTES_MIN: usize = 32 << 10;

/// Segments handed to one `sendmsg`.
pub const OUTPUT_SEGMENTS_MAX: usize = 128;

/// Pause before accepting again after the process ran out of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Bytes that a [`crate::BufferPool`] keeps at rest.
pub const POOL_BYTES_MAX: usize = 32 << 20;

/// Bytes of unsent option replies above which a client's next option waits.
pub const NEGOTIATION_OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Connections accepted in one turn of the loop, so that a flood of them does not hold up the requests of others.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;
