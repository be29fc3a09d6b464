//! The bytes of a disk, shared between all the disks that came from one.

use std::sync::Arc;

/// Unit of failure of every disk: what is written or lost as a whole, in bytes.
pub const SECTOR_BYTES: u64 = SECTOR as u64;

/// The same for lengths of slices.
pub(crate) const SECTOR: usize = 512;

const BLOCK_BYTES: usize = 4096;
const BLOCKS: usize = 64;
const GROUP_BYTES: usize = BLOCK_BYTES * BLOCKS;

type Block = [u8; BLOCK_BYTES];

/// Blocks of one group; a missing one is zeros.
#[derive(Clone, Debug)]
struct Group([Option<Arc<Block>>; BLOCKS]);

/// Sparse bytes. A clone costs one pointer per 256 KiB, and each copy pays for the 4 KiB blocks that it changes.
#[derive(Clone, Debug)]
pub struct Image {
    groups: Vec<Option<Arc<Group>>>,
    size_bytes: u64,
}

impl Image {
    /// Zeros.
    #[must_use]
    pub fn zeros(size_bytes: u64) -> Self {
        let groups = index(size_bytes.div_ceil(GROUP_BYTES as u64));
        Self { groups: vec![None; groups], size_bytes }
    }

    /// Size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills `target` from `offset` on.
    ///
    /// # Panics
    /// When the range does not lie within the image.
    pub fn read(&self, offset: u64, target: &mut [u8]) {
        let mut at = index(offset);
        let mut rest = target;
        while !rest.is_empty() {
            let (group, block, within) = place(at);
            let (part, behind) = rest.split_at_mut(rest.len().min(BLOCK_BYTES - within));
            match self.groups[group].as_ref().and_then(|group| group.0[block].as_ref()) {
                Some(bytes) => part.copy_from_slice(&bytes[within..within + part.len()]),
                None => part.fill(0),
            }
            at += part.len();
            rest = behind;
        }
    }

    /// Puts `source` at `offset`.
    ///
    /// # Panics
    /// When the range does not lie within the image.
    pub fn write(&mut self, offset: u64, source: &[u8]) {
        let mut at = index(offset);
        let mut rest = source;
        while !rest.is_empty() {
            let (group, block, within) = place(at);
            let (part, behind) = rest.split_at(rest.len().min(BLOCK_BYTES - within));
            let slot = self.slot(group, block);
            let bytes = slot.get_or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            Arc::make_mut(bytes)[within..within + part.len()].copy_from_slice(part);
            at += part.len();
            rest = behind;
        }
    }

    /// Zeroes a range.
    ///
    /// # Panics
    /// When the range does not lie within the image.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let (mut at, end) = (index(offset), index(offset + len));
        while at < end {
            let (group, block, within) = place(at);
            let part = (end - at).min(BLOCK_BYTES - within);
            let occupied = self.groups[group].as_ref().is_some_and(|group| group.0[block].is_some());
            if occupied && part == BLOCK_BYTES {
                *self.slot(group, block) = None;
            } else if occupied && let Some(bytes) = self.slot(group, block) {
                Arc::make_mut(bytes)[within..within + part].fill(0);
            }
            at += part;
        }
    }

    /// The first byte in which two images of the same size differ.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<u64> {
        let sector = |image: &Self, offset: u64| {
            let mut bytes = [0; SECTOR];
            image.read(offset, &mut bytes);
            bytes
        };
        let pairs = self.groups.iter().zip(&other.groups);
        for (number, (left, right)) in (0_u64..).zip(pairs) {
            let same = match (left, right) {
                (Some(left), Some(right)) => Arc::ptr_eq(left, right),
                (None, None) => true,
                _ => false,
            };
            if same {
                continue;
            }
            let start = number * GROUP_BYTES as u64;
            let end = (start + GROUP_BYTES as u64).min(self.size_bytes);
            for offset in (start..end).step_by(SECTOR) {
                let (left, right) = (sector(self, offset), sector(other, offset));
                if let Some(byte) = left.iter().zip(&right).position(|(left, right)| left != right) {
                    return Some(offset + byte as u64);
                }
            }
        }
        None
    }

    fn slot(&mut self, group: usize, block: usize) -> &mut Option<Arc<Block>> {
        let group = self.groups[group].get_or_insert_with(|| Arc::new(Group([const { None }; BLOCKS])));
        &mut Arc::make_mut(group).0[block]
    }
}

fn place(at: usize) -> (usize, usize, usize) {
    (at / GROUP_BYTES, at % GROUP_BYTES / BLOCK_BYTES, at % BLOCK_BYTES)
}

/// A position of a simulated disk, which is always small, as an index.
pub(crate) fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_written_across_blocks_and_groups() {
        let mut image = Image::zeros(1 << 20);
        let bytes: Vec<u8> = (0..600_000_u32).map(|number| number.to_le_bytes()[0] | 1).collect();
        image.write(1000, &bytes);
        let copy = image.clone();
        image.zero(5000, 300_000);
        let mut read = vec![7; 600_100];
        image.read(950, &mut read);
        let mut expected = [vec![0; 50], bytes, vec![0; 50]].concat();
        let mut before = vec![0; 600_100];
        copy.read(950, &mut before);
        assert!(before == expected, "a copy keeps what it had");
        expected[4050..304_050].fill(0);
        assert!(read == expected);
        assert_eq!(image.first_difference(&image.clone()), None);
        assert_eq!(image.first_difference(&copy), Some(5000));
    }
}
