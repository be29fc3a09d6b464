//! What goes wrong with a disk at rest, and doing it.

use super::atlas::Atlas;
use crate::disk::{DiskState, Written};
use crate::harm::{DamageKind, Zone};
use crate::image::SECTOR_BYTES;
use crate::random::Random;
use std::fmt;
use std::iter;
use std::ops::Range;

/// What metadata is read in at least, in bytes.
const PAGE_BYTES: u64 = 4096;

/// Something that has gone wrong.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) zone: Zone,
    pub(super) kind: DamageKind,
    /// What it changed: first where it was meant for, then where it came to lie, where these differ.
    pub(super) bytes: Vec<Range<u64>>,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, kind, bytes } = self;
        write!(f, "{kind} in {zone}")?;
        bytes.iter().try_for_each(|bytes| write!(f, " {:#x}+{:#x}", bytes.start, bytes.end - bytes.start))
    }
}

/// Does one thing of a kind to a zone. `None` when there is nothing to do it to.
pub(super) fn strike(
    disk: &mut DiskState,
    atlas: &Atlas,
    written: &[Written],
    (zone, kind): (Zone, DamageKind),
    random: &mut Random,
) -> Option<Hit> {
    let units = atlas.units(zone);
    let unit = units.get(random.index(units.len().max(1)))?.clone();
    let bytes = match kind {
        DamageKind::Rot => rot(disk, unit, random),
        DamageKind::Unreadable => {
            let at = unit.start + random.below(unit.end - unit.start);
            disk.spoil(at);
            // A page is read as a whole: what cannot be read of it costs the rest.
            let page = at / PAGE_BYTES * PAGE_BYTES;
            iter::once(unit.start.min(page)..unit.end.max(page + PAGE_BYTES)).collect()
        }
        DamageKind::Lost => {
            let write = last_write(written, &unit)?;
            Some(disk.lose(write)).filter(|lost| !lost.is_empty())?
        }
        DamageKind::Misdirected => {
            let write = last_write(written, &unit)?;
            let meant = range(write);
            let len = meant.end - meant.start;
            let apart = |to: u64| to + len <= meant.start || to >= meant.end;
            let fits = |to: &&Range<u64>| {
                // A frame lies anywhere in the ring, as long as it ends there.
                let end = if zone.is_journal() { atlas.ring_end() } else { to.end };
                apart(to.start) && to.start + len <= end
            };
            let others: Vec<&Range<u64>> = units.iter().filter(fits).collect();
            let to = others.get(random.index(others.len().max(1)))?.start;
            if !to.is_multiple_of(SECTOR_BYTES) {
                return None;
            }
            let mut hit = Some(disk.lose(write)).filter(|lost| !lost.is_empty())?;
            disk.rot(to, &write.after);
            hit.push(to..to + len);
            hit
        }
    };
    Some(Hit { zone, kind, bytes })
}

/// A bit flips, or a sector turns to anything.
fn rot(disk: &mut DiskState, unit: Range<u64>, random: &mut Random) -> Vec<Range<u64>> {
    let at = unit.start + random.below(unit.end - unit.start);
    if random.chance(2, 3) {
        let mut byte = [0];
        disk.view().read(at, &mut byte);
        disk.rot(at, &[byte[0] ^ 1 << random.below(8)]);
    } else {
        let end = (at / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES).min(unit.end);
        let start = (at / SECTOR_BYTES * SECTOR_BYTES).max(unit.start);
        let garbage: Vec<u8> = (start..end).map(|_| random.bits().to_le_bytes()[0]).collect();
        disk.rot(start, &garbage);
    }
    vec![unit]
}

/// The last write to where a unit begins.
fn last_write<'w>(written: &'w [Written], unit: &Range<u64>) -> Option<&'w Written> {
    written.iter().rev().find(|write| range(write).contains(&unit.start))
}

fn range(write: &Written) -> Range<u64> {
    write.offset..write.offset + write.after.len() as u64
}
