//! What the model keeps account of: whole sectors, and in every sixteenth of them four cells with odd borders.
//!
//! The borders are the bytes at which requests may begin and end, so that reads, writes and trims of any alignment
//! are compared as exactly as whole sectors, while most of a volume costs one history a sector. A cell is long
//! enough to name the write that it came from.

use crate::image::{SECTOR, SECTOR_BYTES, index};
use crate::random::mix;
use std::ops::Range;

/// Of so many sectors one is split.
pub(crate) const PERIOD: usize = 16;

/// Which one.
pub(crate) const SPLIT: usize = 3;

/// Cells of a split sector.
const PARTS: usize = 4;

/// Cells of a period.
const CELLS: usize = PERIOD + PARTS - 1;

/// The first cell of a sector.
pub(crate) fn first(sector: usize) -> usize {
    sector + (PARTS - 1) * ((sector + PERIOD - 1 - SPLIT) / PERIOD)
}

/// The cells of sectors.
pub(crate) fn cells(sectors: Range<usize>) -> Range<usize> {
    first(sectors.start)..first(sectors.end)
}

/// The bytes of a cell.
pub(crate) fn bytes_of(cell: usize) -> Range<u64> {
    let (period, within) = (cell / CELLS * PERIOD, cell % CELLS);
    let whole = |sector: usize| sector as u64 * SECTOR_BYTES..(sector as u64 + 1) * SECTOR_BYTES;
    match within.checked_sub(SPLIT) {
        None => whole(period + within),
        Some(part) if part < PARTS => {
            let sector = whole(period + SPLIT);
            let borders = borders(period as u64);
            sector.start + borders[part]..sector.start + borders[part + 1]
        }
        Some(part) => whole(period + SPLIT + 1 + part - PARTS),
    }
}

/// The bytes of a range of cells.
pub(crate) fn bytes(cells: &Range<usize>) -> Range<u64> {
    bytes_of(cells.start).start..bytes_of(cells.end).start
}

/// The cells that lie within a range of bytes as a whole.
pub(crate) fn within(bytes: Range<u64>) -> Range<usize> {
    let mut cells = cells(index(bytes.start / SECTOR_BYTES)..index(bytes.end.div_ceil(SECTOR_BYTES)));
    while cells.start < cells.end && bytes_of(cells.start).start < bytes.start {
        cells.start += 1;
    }
    while cells.start < cells.end && bytes_of(cells.end - 1).end > bytes.end {
        cells.end -= 1;
    }
    cells
}

/// Where the cells of the split sector of a period begin and end, in bytes from the start of the sector.
fn borders(period: u64) -> [u64; PARTS + 1] {
    let drawn = mix(period + 1);
    [0, 24 + drawn % 97, 150 + (drawn >> 8) % 151, 330 + (drawn >> 16) % 150, SECTOR as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_follow_each_other_without_a_gap() {
        let mut end = 0;
        for cell in 0..200 {
            let bytes = bytes_of(cell);
            assert_eq!(bytes.start, end, "cell {cell}");
            assert!(bytes.end - bytes.start >= 24, "cell {cell} is too short for its name: {bytes:?}");
            end = bytes.end;
        }
        for sector in 0..160 {
            assert_eq!(bytes_of(first(sector)).start, sector as u64 * SECTOR_BYTES, "sector {sector}");
        }
        assert_eq!(cells(0..PERIOD), 0..CELLS);
        assert_eq!(bytes(&cells(2..21)), 1024..21 * 512);
        assert_eq!(within(1024..21 * 512), cells(2..21));
        assert_eq!(within(1025..21 * 512 - 1), first(3)..first(20));
        assert_eq!(within(5..7), 1..1);
    }
}
