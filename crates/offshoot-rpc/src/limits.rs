//! Every bound of the connection machine, the server and the client, in one place.

use std::time::Duration;

/// Longest JSON text of one request or batch, in bytes (SPDK: the receive buffer of a connection).
pub const REQUEST_BYTES_MAX: usize = 256 << 10;

/// JSON values in one request or batch. As SPDK counts them: each name, and both ends of an object or array, is one.
pub const REQUEST_VALUES_MAX: usize = 8192;

/// Objects and arrays within one another (SPDK: `SPDK_JSON_MAX_NESTING_DEPTH`).
pub const NESTING_MAX: usize = 64;

/// Requests of one connection under way in the backend. Above it, the connection is not read.
pub const IN_FLIGHT_REQUESTS_MAX: usize = 64;

/// Bytes of unsent responses above which a connection is not read.
pub const OUTPUT_BYTES_HIGH: usize = 256 << 10;

/// Bytes of the unsent responses of one connection, batches that wait for their last response included. SPDK's bound for
/// one response. A result that does not fit becomes an error, unless it is short ([`RESULT_BYTES_SHORT`]).
pub const OUTPUT_BYTES_MAX: usize = 32 << 20;

/// Results up to this many bytes are always sent: a verb that was done must not be reported as failed only because
/// its client does not read. [`IN_FLIGHT_REQUESTS_MAX`] bounds how many there can be.
pub const RESULT_BYTES_SHORT: usize = 4 << 10;

/// Bytes read from a socket at once.
pub const INPUT_BYTES: usize = 64 << 10;

/// Connections of one server, unless it is told otherwise. Above it, no more are accepted until one closes.
pub const CONNECTIONS_DEFAULT: usize = 128;

/// Connections accepted in one turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;

/// Pause before accepting again after the process ran out of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Time that requests and responses get to finish after the server was told to stop.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest response that a client takes, in bytes: SPDK's bound for one response and a newline.
pub const RESPONSE_BYTES_MAX: usize = (32 << 20) + 1;
