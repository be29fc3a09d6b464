//! A backend in memory, a running server over it, and the bytes of a client.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test file compiles this for itself and uses its own part"
)]

pub mod driver;
pub mod memory;
pub mod running;
pub mod wire;
