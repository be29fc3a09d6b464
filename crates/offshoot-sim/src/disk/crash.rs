//! A disk at one moment, and what is left of it when the process dies or the power goes.

use super::Written;
use super::change::Change;
use crate::image::{Image, SECTOR, SECTOR_BYTES, index};
use crate::random::Random;
use offshoot_block::DeviceGeometry;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// How the world ends for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// The process dies. What had completed stays, in the volatile cache too; each operation in flight is done in full,
    /// in any of its sectors, or not at all.
    Kill,
    /// The process dies and the machine boots anew: the disk as after a kill, but nobody can tell that.
    Reboot,
    /// The power goes. What no sync covered is lost or kept, sector by sector, and so is what was in flight.
    PowerCut,
}

impl Cut {
    /// All of them, from the mildest on.
    pub const ALL: [Self; 3] = [Self::Kill, Self::Reboot, Self::PowerCut];

    /// One of them.
    pub fn draw(random: &mut Random) -> Self {
        Self::ALL[[0, 0, 1, 2, 2][random.index(5)]]
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Reboot => "reboot",
            Self::PowerCut => "power cut",
        })
    }
}

/// A completed change that no sync has made durable.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    /// How many operations had completed before it.
    pub(super) order: u64,
    pub(super) change: Change,
}

/// A disk at one moment. A clone shares its bytes.
#[derive(Clone, Debug)]
pub struct DiskState {
    pub(super) geometry: DeviceGeometry,
    /// What a power cut leaves for certain.
    pub(super) medium: Image,
    /// What reads see: the medium under everything that has completed.
    pub(super) view: Image,
    /// Completed and not durable, in the order of completion.
    pub(super) cached: Vec<Cached>,
    /// Submitted and not completed, in the order of submission.
    pub(super) in_flight: Vec<Change>,
    /// Sectors that cannot be read until they are written again, by their numbers.
    pub(super) unreadable: BTreeSet<u64>,
}

/// What became of the changes that could have gone either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Some change survived in some of its sectors.
    pub torn: bool,
    /// Some change survived and an earlier one did not.
    pub reordered: bool,
}

fn sectors(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks_exact(SECTOR)
}

impl DiskState {
    /// A disk whose content is durable and which nothing is under way on.
    #[must_use]
    pub fn at_rest(geometry: DeviceGeometry, content: Image) -> Self {
        Self {
            geometry,
            medium: content.clone(),
            view: content,
            cached: Vec::new(),
            in_flight: Vec::new(),
            unreadable: BTreeSet::new(),
        }
    }

    /// What the disk is like.
    #[must_use]
    pub fn geometry(&self) -> DeviceGeometry {
        self.geometry
    }

    /// What reads see.
    #[must_use]
    pub fn view(&self) -> &Image {
        &self.view
    }

    /// Changes bytes past everything, in the cache and on the medium: bit rot.
    pub fn rot(&mut self, offset: u64, bytes: &[u8]) {
        self.medium.write(offset, bytes);
        self.view.write(offset, bytes);
    }

    /// What was submitted and has not completed, oldest first.
    pub fn under_way(&self) -> impl Iterator<Item = &Change> {
        self.in_flight.iter()
    }

    /// Makes the sector at a byte unreadable until it is written again.
    pub fn spoil(&mut self, offset: u64) {
        self.unreadable.insert(offset / SECTOR_BYTES);
    }

    /// As if a write had been acknowledged and never done: its sectors hold what was there before, unless something
    /// else has been written there since. Hands out what is different now.
    pub fn lose(&mut self, write: &Written) -> Vec<Range<u64>> {
        let mut lost: Vec<Range<u64>> = Vec::new();
        for (number, (after, before)) in (0..).zip(sectors(&write.after).zip(sectors(&write.before))) {
            let offset = write.offset + number * SECTOR_BYTES;
            let mut now = [0; SECTOR];
            self.view.read(offset, &mut now);
            if now == after && before != after {
                self.rot(offset, before);
                match lost.last_mut().filter(|last| last.end == offset) {
                    Some(last) => last.end += SECTOR_BYTES,
                    None => lost.push(offset..offset + SECTOR_BYTES),
                }
            }
        }
        lost
    }

    /// The changes that a crash of this kind may lose, oldest first.
    #[must_use]
    pub fn uncertain(&self, cut: Cut) -> Vec<&Change> {
        let cached = self.cached.iter().map(|cached| &cached.change);
        match cut {
            Cut::Kill | Cut::Reboot => self.in_flight.iter().collect(),
            Cut::PowerCut => cached.chain(&self.in_flight).collect(),
        }
    }

    /// The disk as the next process finds it. `keep` says of each sector of each uncertain change whether it
    /// survived: the number of the change in [`DiskState::uncertain`], and the sector within it.
    #[must_use]
    pub fn crash(&self, cut: Cut, mut keep: impl FnMut(usize, u64) -> bool) -> (Self, Fate) {
        let mut fate = Fate::default();
        let mut lost_before = false;
        let base = match cut {
            Cut::Kill | Cut::Reboot => &self.view,
            Cut::PowerCut => &self.medium,
        };
        let mut view = base.clone();
        let mut cached = self.cached.clone();
        let order = self.cached.last().map_or(0, |cached| cached.order + 1);
        for (number, change) in self.uncertain(cut).into_iter().enumerate() {
            let kept: Vec<bool> = (0..change.sectors()).map(|sector| keep(number, sector)).collect();
            let (any, all) = (kept.contains(&true), !kept.contains(&false));
            fate.torn |= any && !all;
            fate.reordered |= any && lost_before;
            lost_before |= !all;
            if all {
                change.apply(&mut view);
            } else if any {
                change.apply_sectors(&mut view, |sector| kept[index(sector)]);
            }
            if any && cut != Cut::PowerCut {
                // What survived waits in the cache like anything that has completed.
                let parts = change.tear(|sector| kept[index(sector)]);
                cached.extend(parts.into_iter().map(|change| Cached { order, change }));
            }
        }
        let state = match cut {
            Cut::Kill | Cut::Reboot if self.geometry.volatile_cache => {
                let medium = self.medium.clone();
                let (geometry, unreadable) = (self.geometry, self.unreadable.clone());
                Self { geometry, medium, view, cached, in_flight: Vec::new(), unreadable }
            }
            Cut::Kill | Cut::Reboot | Cut::PowerCut => {
                Self { unreadable: self.unreadable.clone(), ..Self::at_rest(self.geometry, view) }
            }
        };
        (state, fate)
    }

    /// One of the many ways in which it can go: all kept, nothing kept, whole operations, single sectors.
    #[must_use]
    pub fn crash_at_random(&self, cut: Cut, random: &mut Random) -> (Self, Fate) {
        let mut whole = random.fork();
        let odds = [0, 1, 4, 7, 8][random.index(5)];
        let torn = random.chance(1, 2);
        let fates: Vec<bool> = (0..self.uncertain(cut).len()).map(|_| whole.chance(odds, 8)).collect();
        self.crash(cut, |change, _| if torn { random.chance(odds, 8) } else { fates[change] })
    }
}
