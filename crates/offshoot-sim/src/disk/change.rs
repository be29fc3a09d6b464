//! What an operation changes on a disk, sector by sector.

use crate::image::{Image, SECTOR, SECTOR_BYTES, index};
use crate::random::mix;
use std::ops::Range;
use std::sync::Arc;

/// What a range holds afterwards.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// Zeros.
    Zeros,
    /// After a discard: each sector keeps what it held, reads zeros, or reads garbage, as the seed says.
    Undefined(u64),
}

/// A range of sectors and what it shall hold.
#[derive(Clone, Debug)]
pub struct Change {
    /// First byte, a multiple of a sector.
    pub offset: u64,
    /// Length in bytes, a multiple of a sector.
    pub len: u64,
    /// What it shall hold.
    pub content: Content,
}

/// What a discarded sector may hold: nothing that anyone ever wrote.
const GARBAGE: [u8; SECTOR] = [0xa5; SECTOR];

impl Change {
    /// How many sectors it covers.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.len / SECTOR_BYTES
    }

    /// The bytes that it writes, if they are given.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes),
            Content::Zeros | Content::Undefined(_) => None,
        }
    }

    /// Makes all of it true.
    pub fn apply(&self, image: &mut Image) {
        match &self.content {
            Content::Bytes(bytes) => image.write(self.offset, bytes),
            Content::Zeros => image.zero(self.offset, self.len),
            Content::Undefined(_) => self.apply_sectors(image, |_| true),
        }
    }

    /// Makes the sectors true that are kept, counted from the start of the change.
    pub fn apply_sectors(&self, image: &mut Image, mut keep: impl FnMut(u64) -> bool) {
        for sector in (0..self.sectors()).filter(|sector| keep(*sector)) {
            let offset = self.offset + sector * SECTOR_BYTES;
            match &self.content {
                Content::Bytes(bytes) => {
                    let from = index(sector * SECTOR_BYTES);
                    image.write(offset, &bytes[from..from + SECTOR]);
                }
                Content::Zeros => image.zero(offset, SECTOR_BYTES),
                Content::Undefined(seed) => match mix(seed ^ offset) % 3 {
                    0 => {}
                    1 => image.zero(offset, SECTOR_BYTES),
                    _ => image.write(offset, &GARBAGE),
                },
            }
        }
    }

    /// The parts that are kept, as changes: runs of sectors, counted from the start of the change.
    #[must_use]
    pub fn tear(&self, keep: impl FnMut(u64) -> bool) -> Vec<Self> {
        let kept: Vec<bool> = (0..self.sectors()).map(keep).collect();
        let mut parts = Vec::new();
        let mut start = 0;
        for run in kept.chunk_by(|left, right| left == right) {
            let sectors = start..start + run.len();
            start = sectors.end;
            if run[0] {
                parts.push(self.part(sectors));
            }
        }
        parts
    }

    fn part(&self, sectors: Range<usize>) -> Self {
        let bytes = sectors.start * SECTOR..sectors.end * SECTOR;
        let (offset, len) = (self.offset + bytes.start as u64, bytes.len() as u64);
        let content = match &self.content {
            Content::Bytes(all) => Content::Bytes(all[bytes].into()),
            other => other.clone(),
        };
        Self { offset, len, content }
    }
}
