//! What each fuzz target does with its bytes, without the fuzzer: the tests of the workspace run the same functions over
//! the committed corpora.
//!
//! A target panics when something is wrong; bytes that mean nothing are an ordinary end.
#![forbid(unsafe_code)]

pub mod image;
pub mod md_page;
pub mod nbd;
pub mod rpc;
pub mod super_block;
