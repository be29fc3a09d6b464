//! Questions about lvols that their maps answer, without reading data and without changing anything.

mod copy;
mod diff;
mod space;

pub use diff::{Change, Diff};
pub use space::{LvolSpace, StoreSpace};
