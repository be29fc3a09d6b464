//! What was written where, and what was there before: for faults that come to light long after the write.

use super::change::Change;
use crate::image::{Image, index};

/// A write that was done.
#[derive(Clone, Debug)]
pub struct Written {
    /// First byte.
    pub offset: u64,
    /// What was there before.
    pub before: Vec<u8>,
    /// What was there afterwards.
    pub after: Vec<u8>,
}

/// The writes to the start of a disk.
#[derive(Debug)]
pub(super) struct Listing {
    below: u64,
    writes: Vec<Written>,
}

impl Listing {
    pub(super) fn new(below: u64) -> Self {
        Self { below, writes: Vec::new() }
    }

    /// What a change is about to replace, if that is of interest.
    pub(super) fn what_is_at(&self, change: &Change, view: &Image) -> Option<Vec<u8>> {
        (change.offset < self.below).then(|| bytes(change, view))
    }

    pub(super) fn add(&mut self, change: &Change, before: Vec<u8>, view: &Image) {
        self.writes.push(Written { offset: change.offset, before, after: bytes(change, view) });
    }

    pub(super) fn take(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.writes)
    }
}

fn bytes(change: &Change, view: &Image) -> Vec<u8> {
    let mut bytes = vec![0; index(change.len)];
    view.read(change.offset, &mut bytes);
    bytes
}
