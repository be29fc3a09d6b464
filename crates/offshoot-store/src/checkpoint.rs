//! Checkpoints: State written as md pages.
//!
//! First every dirty blob gets its md pages assigned, by records like any other change; then the pages are
//! encoded from the State of that moment and written, while State moves on. What a checkpoint writes depends on
//! nothing that happens after its capture.

mod assign;
mod encode;
mod steps;

pub(crate) use assign::{assign, assign_chains};
pub use encode::{blob_md, extent_page, layer_pages};
pub(crate) use steps::{Step, steps};
