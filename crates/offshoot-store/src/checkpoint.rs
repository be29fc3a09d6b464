//! Checkpoints: State written as md pages.
//!
//! First every dirty blob gets its md pages assigned, by a record that is applied like any other (its durable form
//! are the pages themselves); then the pages are encoded from the State of that moment, while State moves on. What a
//! checkpoint writes depends on nothing that happens after its capture.

mod assign;
mod capture;
mod encode;
mod estimate;
mod packed;
mod super_block;

use assign::{assign, assign_chains};
pub(crate) use capture::{Capture, SET_BYTES, images_per_set, runs, write_pages, zero_pages};
pub use encode::{blob_md, extent_page, layer_pages};
use packed::spread_or_pack;
pub(crate) use super_block::{
    Opening, grown, masks, opened, replacing, sealed, write_masks, write_super_block,
};
