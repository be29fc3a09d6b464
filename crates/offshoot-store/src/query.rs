//! Questions about lvols that their maps answer, without reading data and without changing anything.

mod copy;
mod diff;

pub use diff::{Change, Diff};
