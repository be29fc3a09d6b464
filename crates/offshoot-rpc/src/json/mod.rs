//! JSON as SPDK reads it.
//!
//! serde_json alone does not do: requests follow one another without separators and come in pieces, what is wrong has to be
//! found at the byte that is wrong, members may be doubled (which is an error with SPDK and no error with JSON), and ids
//! are echoed byte by byte. So texts are scanned here; what is in them is then taken out through serde.

mod decode;
mod document;
mod number;
mod scanner;
mod string;

pub use decode::DecodeError;
pub use document::{Document, Value};
pub use scanner::SyntaxError;
pub(crate) use scanner::{Limits, Scanner};
