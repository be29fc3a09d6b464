//! The journal: a ring of frames that say what has changed since the last checkpoint.
//!
//! A *frame* is what one append writes: whole transactions of records, or images of a checkpoint. Frames are
//! numbered ([`Lsn`](crate::Lsn)) without gaps over the life of a store; each says what is durable as far as its
//! writer knew. This module knows where frames lie, what their records look like, and what a ring that was found
//! on a device means. When to append what is the engine's matter.

mod area;
mod codec;
mod fits;
mod replay;
mod ring;

pub(crate) use area::{
    Ground, Taken, choose_area, default_bytes, hold_area, holds_masks, live_masks, mask_page_at, mask_pages,
    most_live_clusters, taken_by,
};
pub(crate) use codec::{decode_all, encode};
pub use replay::JournalDamage;
pub(crate) use replay::{read_ring, written_images};
pub(crate) use ring::{Ring, Slot};
