//! The vocabulary of block devices, shared by the engine above and the drivers below.
//!
//! A [`BlockDevice`] takes [`DeviceOp`]s, each with a buffer that it owns until the operation
//! completes, and hands back [`Completion`]s in any order. The engine produces operations, the
//! drivers carry them out, and neither knows the other: both know only this crate.
//!
//! This crate never does I/O, knows nothing about lvstores, and needs no operating system.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod buffer;
mod device;

pub use buffer::{Buffer, PAGE_BYTES};
pub use device::{
    BlockDevice, Completion, DeviceError, DeviceGeometry, DeviceOffset, DeviceOp, OpId, OpKind,
};
