//! Drivers for [`offshoot_block::BlockDevice`]: memory that tests run on, files and block devices
//! that stores live on, and devices that wrap others to slow them down or make them fail.
//!
//! A driver checks every operation against its geometry before it touches anything, owns the buffers
//! of what is in flight, and never blocks in `submit` or `poll`. It knows nothing about lvstores, it
//! keeps no order between operations, and it never retries what the medium refused.
#![deny(unsafe_code)]

mod bell;
mod check;
mod delay;
mod fault;
mod file;
mod host;
mod lock;
mod mem;
mod overlay;
mod session;
mod stats;
mod undo;
mod zeroes;

pub use bell::Bell;
pub use check::{check, completion};
pub use delay::{Clock, Delay, DelayDevice, Latencies, Latency, SystemClock};
pub use fault::{ErrorDevice, Fault, Faults};
pub use file::{Direct, EngineChoice, EngineKind, FileDevice, OpenError, OpenOptions};
pub use host::{HostDevice, Presence};
pub use lock::{LockError, LockMode, StoreLock};
pub use mem::MemDevice;
pub use offshoot_block::OpKind;
pub use overlay::OverlayDevice;
pub use session::PowerSession;
pub use stats::{DeviceStats, LoggedOp, OpCount};
pub use undo::{Compared, RestoreError, Undo, UndoDevice, UndoError, UndoLog, UndoOf};
pub use zeroes::{NullDevice, ZeroesDevice};
