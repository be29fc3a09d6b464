//! Parameters and results as types. Members stand in SPDK's order, and what SPDK leaves out is left out.
//!
//! Parameters are strict, as SPDK's decoders are. Results may have members that are not known here, since a later server may
//! tell more.

pub mod bdev;
pub mod config;
pub mod framework;
pub mod iostat;
pub mod log;
pub mod lvol;
pub mod lvstore;
pub mod nbd;
pub mod notify;
pub mod operation;
pub mod qos;
pub mod selector;
pub mod shallow_copy;
pub mod state;
pub mod vbdev;
