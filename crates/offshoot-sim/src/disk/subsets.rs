//! Which of the changes that a crash may lose are kept: all ways where there are few, a sample where there are many.

use super::change::Change;
use crate::image::index;
use crate::random::Random;
use std::ops::Range;

/// How many of the possible crashes of one moment are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Changes, or sectors of them, up to which every subset is tried.
    pub every_up_to: usize,
    /// How many subsets are drawn where there are more.
    pub samples: usize,
}

impl Bounds {
    /// What a test run can afford.
    pub const FEW: Self = Self { every_up_to: 4, samples: 8 };
    /// What a campaign tries.
    pub const MANY: Self = Self { every_up_to: 10, samples: 64 };
}

/// What survives of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Nothing,
    All,
    /// These sectors of it.
    Part(Range<u64>),
    /// Those of its first 64 sectors whose bit is set.
    Sectors(u64),
}

/// One way in which a crash can go: what survives of each uncertain change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset(Vec<Kept>);

impl Subset {
    /// Whether a sector of a change is kept.
    #[must_use]
    pub fn keeps(&self, change: usize, sector: u64) -> bool {
        match self.0.get(change) {
            None | Some(Kept::Nothing) => false,
            Some(Kept::All) => true,
            Some(Kept::Part(range)) => range.contains(&sector),
            Some(Kept::Sectors(mask)) => sector < 64 && mask >> sector & 1 == 1,
        }
    }

    fn whole(changes: &[&Change], mut keep: impl FnMut(usize) -> bool) -> Self {
        let kept = |number| if keep(number) { Kept::All } else { Kept::Nothing };
        Self((0..changes.len()).map(kept).collect())
    }

    /// The ways that are tried for these changes.
    #[must_use]
    pub fn of_changes(changes: &[&Change], bounds: Bounds, random: &mut Random) -> Vec<Self> {
        let sectors: u64 = changes.iter().map(|change| change.sectors()).sum();
        if index(sectors) <= bounds.every_up_to {
            return Self::every_sector(changes, index(sectors));
        }
        let mut subsets = match changes.len() <= bounds.every_up_to {
            true => Self::every_change(changes),
            false => Self::sample(changes, bounds.samples, random),
        };
        subsets.extend(Self::torn(changes, random));
        subsets
    }

    /// Every subset of the sectors.
    fn every_sector(changes: &[&Change], sectors: usize) -> Vec<Self> {
        let subset = |mask: u64| {
            let mut first = 0;
            let kept = changes.iter().map(|change| {
                let own = mask >> first & ((1 << change.sectors()) - 1);
                first += change.sectors();
                Kept::Sectors(own)
            });
            Self(kept.collect())
        };
        (0..1_u64 << sectors).map(subset).collect()
    }

    /// Every subset of the changes.
    fn every_change(changes: &[&Change]) -> Vec<Self> {
        let subset = |mask: u64| Self::whole(changes, |number| mask >> number & 1 == 1);
        (0..1_u64 << changes.len()).map(subset).collect()
    }

    /// All, none, and a few at random.
    fn sample(changes: &[&Change], samples: usize, random: &mut Random) -> Vec<Self> {
        let mut subsets = vec![Self::whole(changes, |_| true), Self::whole(changes, |_| false)];
        for _ in 0..samples {
            let odds = 1 + random.below(7);
            subsets.push(Self::whole(changes, |_| random.chance(odds, 8)));
        }
        subsets
    }

    /// Each change torn, with the others kept or lost: all but its first sector, only that one, or any.
    fn torn(changes: &[&Change], random: &mut Random) -> Vec<Self> {
        let mut subsets = Vec::new();
        // The newest ones: those before them were looked at when they were the newest.
        let newest = changes.len().saturating_sub(4)..changes.len();
        for number in newest.filter(|number| changes[*number].sectors() > 1) {
            let sectors = changes[number].sectors();
            let cut = 1 + random.below(sectors - 1);
            for torn in [0..1, 1..sectors, 0..cut, cut..sectors] {
                let others = random.chance(1, 2);
                let mut subset = Self::whole(changes, |_| others);
                subset.0[number] = Kept::Part(torn);
                subsets.push(subset);
            }
        }
        subsets
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::Content;
    use super::*;

    fn changes(sectors: &[u64]) -> Vec<Change> {
        let change = |sectors: &u64| Change { offset: 0, len: sectors * 512, content: Content::Zeros };
        sectors.iter().map(change).collect()
    }

    #[test]
    fn few_sectors_are_lost_in_every_way_and_many_in_some() {
        for (sectors, expected) in [
            (&[][..], 1),
            (&[1], 2),
            (&[1, 3], 16),
            (&[4, 1], 4 + 4),
            (&[8, 8, 8], 8 + 12),
            (&[1; 6], 10),
            (&[8; 6], 10 + 16),
        ] {
            let changes = changes(sectors);
            let changes: Vec<&Change> = changes.iter().collect();
            let subsets = Subset::of_changes(&changes, Bounds::FEW, &mut Random::new(1));
            assert_eq!(subsets.len(), expected, "{sectors:?}");
            let keeps = |kept: bool| {
                subsets.iter().any(|subset| {
                    (0..changes.len()).all(|change| {
                        (0..changes[change].sectors()).all(|sector| subset.keeps(change, sector) == kept)
                    })
                })
            };
            assert!(keeps(true) && keeps(false), "all and none are among them");
        }
    }
}
