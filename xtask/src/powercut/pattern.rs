//! What the client writes: every sector says which write it belongs to and where it was written, and the rest of its
//! bytes follow from that. A sector of something else, of another place or of two writes at once is recognised.

use super::rng::Rng;

/// Bytes that a disk writes as a whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"powercut";

/// Number of a request of the client. 0 is none.
pub(super) type OpNumber = u32;

/// Where the content of a sector comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The write.
    pub(super) op: OpNumber,
    /// Number of the volume that was written to. Clones and snapshots of it show the same bytes.
    pub(super) volume: u32,
    /// Position in that volume, in sectors.
    pub(super) sector: u64,
}

/// What a sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing but zeros.
    Zeros,
    /// What this write put there.
    Written(Stamp),
    /// Bytes that no client wrote like this.
    Foreign,
}

impl Stamp {
    /// Fills a sector.
    pub(super) fn fill(self, sector: &mut [u8]) {
        let numbers = u64::from(self.volume) << 32 | u64::from(self.op);
        let header = [MAGIC, numbers.to_le_bytes(), self.sector.to_le_bytes()].concat();
        let (start, rest) = sector.split_at_mut(header.len());
        start.copy_from_slice(&header);
        let mut rng = Rng::of_part(numbers, self.sector);
        for word in rest.chunks_exact_mut(8) {
            word.copy_from_slice(&rng.next().to_le_bytes());
        }
    }
}

impl Content {
    /// Recognises what a sector holds.
    pub(super) fn of(sector: &[u8]) -> Self {
        if sector.iter().all(|byte| *byte == 0) {
            return Self::Zeros;
        }
        let Some((MAGIC, rest)) = sector.split_first_chunk::<8>().map(|(magic, rest)| (*magic, rest)) else {
            return Self::Foreign;
        };
        let numbers = rest.first_chunk::<4>().zip(rest.get(4..).and_then(|rest| rest.first_chunk::<4>()));
        let position = rest.get(8..).and_then(|rest| rest.first_chunk::<8>());
        let (Some((op, volume)), Some(position)) = (numbers, position) else {
            return Self::Foreign;
        };
        let stamp = Stamp {
            op: u32::from_le_bytes(*op),
            volume: u32::from_le_bytes(*volume),
            sector: u64::from_le_bytes(*position),
        };
        let mut expected = [0; SECTOR_BYTES];
        stamp.fill(&mut expected);
        if sector == expected { Self::Written(stamp) } else { Self::Foreign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_says_where_it_comes_from() {
        let stamp = Stamp { op: 0x0102_0304, volume: 7, sector: 1 << 40 };
        let mut sector = [0; SECTOR_BYTES];
        assert_eq!(Content::of(&sector), Content::Zeros);
        stamp.fill(&mut sector);
        assert_eq!(Content::of(&sector), Content::Written(stamp));
    }

    #[test]
    fn a_sector_that_was_changed_anywhere_is_foreign() {
        let mut sector = [0; SECTOR_BYTES];
        Stamp { op: 1, volume: 0, sector: 8 }.fill(&mut sector);
        for at in 0..SECTOR_BYTES {
            let mut changed = sector;
            changed[at] ^= 1;
            assert_eq!(Content::of(&changed), Content::Foreign, "byte {at}");
        }
    }
}
