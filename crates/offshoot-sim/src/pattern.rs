//! Cells that say what they are: which write put them where. What turns up in the wrong place is recognised.

use crate::cell;
use crate::image::SECTOR;
use crate::random::mix;
use std::ops::Range;

const WORDS: usize = SECTOR / 8;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number of a write. Cells that nobody wrote have 0: they read zeros.
pub(crate) type Version = u64;

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Only zeros.
    Zeros,
    /// What a write put there.
    Written {
        /// The write.
        version: Version,
        /// For which cell of the lvol.
        cell: usize,
    },
    /// Neither.
    Garbage,
}

/// What a write puts into a range of cells.
pub(crate) fn fill(target: &mut [u8], version: Version, cells: &Range<usize>) {
    for (cell, bytes) in split_mut(target, cells) {
        for (word, number) in bytes.chunks_mut(8).zip(words(version, cell)) {
            word.copy_from_slice(&number.to_le_bytes()[..word.len()]);
        }
    }
}

/// What a cell holds.
pub(crate) fn identify(bytes: &[u8]) -> Found {
    let word = |number: usize| {
        let at = number * 8;
        bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let (version, cell) = (word(0), word(1));
    if version == 0 {
        return if bytes.iter().all(|byte| *byte == 0) { Found::Zeros } else { Found::Garbage };
    }
    let Ok(cell) = usize::try_from(cell) else { return Found::Garbage };
    let expected = words(version, cell);
    let differ = |words: Range<usize>| words.fold(0, |differ, at| differ | (word(at) ^ expected[at]));
    let whole = bytes.len() / 8;
    // Of a length that is known beforehand, comparing is several times as fast.
    let differs = if whole == WORDS { differ(0..WORDS) } else { differ(0..whole) };
    let rest = &bytes[whole * 8..];
    let same = differs == 0 && expected.get(whole).is_none_or(|last| last.to_le_bytes().starts_with(rest));
    if same { Found::Written { version, cell } } else { Found::Garbage }
}

fn words(version: Version, cell: usize) -> [u64; WORDS] {
    let base = mix(version.wrapping_mul(STEP) ^ cell as u64) | 1;
    let mut words = [0; WORDS];
    let mut next = base;
    for word in &mut words {
        *word = next;
        next = next.wrapping_add(STEP);
    }
    words[0] = version;
    words[1] = cell as u64;
    words
}

/// The cells of a buffer that begins with cell `first`: as many as it holds.
pub(crate) fn split(bytes: &[u8], first: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = bytes;
    (first..).map_while(move |cell| {
        let (bytes, behind) = rest.split_at_checked(len(cell)).filter(|(bytes, _)| !bytes.is_empty())?;
        rest = behind;
        Some((cell, bytes))
    })
}

fn split_mut<'b>(
    bytes: &'b mut [u8],
    cells: &Range<usize>,
) -> impl Iterator<Item = (usize, &'b mut [u8])> + use<'b> {
    let mut rest = bytes;
    cells.clone().map_while(move |cell| {
        let (bytes, behind) = std::mem::take(&mut rest).split_at_mut_checked(len(cell))?;
        rest = behind;
        Some((cell, bytes))
    })
}

fn len(cell: usize) -> usize {
    let bytes = cell::bytes_of(cell);
    crate::image::index(bytes.end - bytes.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_name_their_write() {
        let cells = 2..8;
        let bytes = cell::bytes(&cells);
        let mut bytes = vec![0; crate::image::index(bytes.end - bytes.start)];
        assert!(split(&bytes, 2).all(|(_, bytes)| identify(bytes) == Found::Zeros));
        fill(&mut bytes, 9, &cells);
        let found: Vec<Found> = split(&bytes, 2).map(|(_, bytes)| identify(bytes)).collect();
        let expected: Vec<Found> = cells.map(|cell| Found::Written { version: 9, cell }).collect();
        assert_eq!(found, expected);
        for (_, cell) in split(&bytes, 2) {
            for at in [0, 8, 16, cell.len() - 1] {
                let mut damaged = cell.to_vec();
                damaged[at] ^= 0x40;
                assert_eq!(identify(&damaged), Found::Garbage, "byte {at} of {}", cell.len());
            }
        }
    }
}
