//! Sectors that say what they are: which write put them where. What turns up in the wrong place is recognised.

use crate::image::SECTOR;
use crate::random::mix;

const WORDS: usize = SECTOR / 8;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number of a write. Sectors that nobody wrote have 0: they read zeros.
pub(crate) type Version = u64;

/// What a sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sector {
    /// Only zeros.
    Zeros,
    /// What a write put there.
    Written {
        /// The write.
        version: Version,
        /// For which sector of the lvol.
        sector: u64,
    },
    /// Neither.
    Garbage,
}

/// Fills whole sectors, the first of which is sector `first` of its lvol.
pub(crate) fn fill(target: &mut [u8], version: Version, first: u64) {
    for (sector, bytes) in (first..).zip(target.chunks_exact_mut(SECTOR)) {
        for (word, number) in bytes.chunks_exact_mut(8).zip(words(version, sector)) {
            word.copy_from_slice(&number.to_le_bytes());
        }
    }
}

/// What a sector holds.
pub(crate) fn identify(bytes: &[u8]) -> Sector {
    let word = |number: usize| {
        let at = number * 8;
        bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let (version, sector) = (word(0), word(1));
    if version == 0 {
        return if bytes.iter().all(|byte| *byte == 0) { Sector::Zeros } else { Sector::Garbage };
    }
    let expected = words(version, sector);
    let same = (0..WORDS).fold(0, |differs, number| differs | (word(number) ^ expected[number])) == 0;
    if same { Sector::Written { version, sector } } else { Sector::Garbage }
}

fn words(version: Version, sector: u64) -> [u64; WORDS] {
    let base = mix(version.wrapping_mul(STEP) ^ sector) | 1;
    let mut words = [0; WORDS];
    let mut next = base;
    for word in &mut words {
        *word = next;
        next = next.wrapping_add(STEP);
    }
    words[0] = version;
    words[1] = sector;
    words
}

/// The sectors of a buffer.
pub(crate) fn sectors(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks_exact(SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_name_their_write() {
        let mut bytes = vec![0; 3 * SECTOR];
        assert_eq!(identify(&bytes[..SECTOR]), Sector::Zeros);
        fill(&mut bytes, 9, 4);
        let found: Vec<Sector> = sectors(&bytes).map(identify).collect();
        assert_eq!(found, [4, 5, 6].map(|sector| Sector::Written { version: 9, sector }));
        for at in [0, 8, 16, SECTOR - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert_eq!(identify(&damaged[..SECTOR]), Sector::Garbage);
        }
    }
}
