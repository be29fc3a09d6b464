//! The I/O paths: resolving, locking, reading, writing, zeroing.

mod epochs;
mod exclusion;
mod resolve;

pub(crate) use epochs::{Epoch, Epochs};
pub(crate) use exclusion::{Mode, RangeLocks};
pub use resolve::Extent;
pub(crate) use resolve::{Origin, Segment, cut_externals};
