//! What the sectors of a write hold, so that a sector tells which write it is of.

use std::fmt;

/// The unit that is never torn, in bytes.
pub(crate) const SECTOR: usize = 512;

/// What a sector of an lvol holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing was written, or it was zeroed or trimmed.
    Zeros,
    /// The whole sector as the write of this number (1 and up) has it at this place.
    Write(u64),
    /// What no write has at this place: torn within the sector, of another place, or anybody else's. With a hash, so
    /// that it is seen to change.
    Foreign(u64),
}

impl Content {
    /// Reads sector `sector` (counted from the start of its lvol).
    pub(crate) fn of(sector: usize, bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), SECTOR);
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Zeros;
        }
        let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        if number != 0 && stamp(number, sector) == bytes {
            return Self::Write(number);
        }
        Self::Foreign(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeros => f.write_str("zeros"),
            Self::Write(number) => write!(f, "write {number}"),
            Self::Foreign(hash) => write!(f, "bytes of no write ({hash:016x})"),
        }
    }
}

/// The bytes of one sector of a write: its number, and then words that follow from the number and the place. To
/// compare all of them checks more than any checksum in their place would.
pub(crate) fn stamp(number: u64, sector: usize) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    let mut word = number;
    for eight in bytes.chunks_exact_mut(8) {
        eight.copy_from_slice(&word.to_le_bytes());
        // The multiplier of Knuth's MMIX generator; the place is mixed in with every step.
        word = word.wrapping_add(sector as u64 + 1).wrapping_mul(6_364_136_223_846_793_005).rotate_left(23);
    }
    bytes
}

/// The payload of a write of `len` sectors from `first` on.
pub(crate) fn payload(number: u64, first: usize, len: usize) -> Vec<u8> {
    (first..first + len).flat_map(|sector| stamp(number, sector)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_its_write() {
        for (number, sector) in [(1, 0), (1, 9), (77, 0), (u64::MAX, 4095)] {
            assert_eq!(Content::of(sector, &stamp(number, sector)), Content::Write(number));
        }
        assert_eq!(Content::of(3, &[0; SECTOR]), Content::Zeros);
        assert_eq!(payload(5, 7, 2), [stamp(5, 7), stamp(5, 8)].concat());
    }

    #[test]
    fn a_sector_in_the_wrong_place_or_with_one_wrong_byte_is_foreign() {
        let foreign = |sector, bytes: &[u8]| matches!(Content::of(sector, bytes), Content::Foreign(_));
        assert!(foreign(8, &stamp(1, 7)));
        let good = stamp(1, 7);
        for at in 0..SECTOR {
            let mut bad = good;
            bad[at] ^= 1;
            assert!(foreign(7, &bad), "byte {at}");
        }
        // Torn: the start of one write and the end of another.
        for at in [8, 256, 504] {
            assert!(foreign(7, &[&stamp(2, 7)[..at], &good[at..]].concat()), "torn at {at}");
        }
    }
}
