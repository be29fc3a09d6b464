//! A pool of clusters or md pages: which are in use, which may be handed out.

use alloc::{collections::BTreeSet, vec::Vec};
use core::ops::Range;
use offshoot_format::{Bitmap, LIVE_MASK_BITS};

/// Units of one page of a live mask.
const MASK_PAGE_UNITS: usize = LIVE_MASK_BITS as usize;

/// Units 0 .. `len`, each *used* (something in the State refers to it), *held* (reserved by a plan, or freed
/// but not yet reusable, R1) or *available*.
#[derive(Clone, Debug)]
pub struct Pool {
    used: Bitmap,
    available: Bitmap,
    available_count: usize,
    /// How many of these are kept for work that has been promised them, whichever they will be.
    set_aside: usize,
    /// How many are kept for lvols with a reservation, and how many of these have been taken by writes that are not
    /// committed yet.
    promised: usize,
    drawn: usize,
    /// No available unit lies below.
    lowest: usize,
    /// Pages of the live mask whose bits have changed since the last checkpoint.
    changed: BTreeSet<usize>,
    /// Units that nobody gets, because they are to become something else.
    fence: Option<Fence>,
}

#[derive(Clone, Debug)]
struct Fence {
    units: Range<u32>,
    /// Those of them that nobody has any more.
    empty: BTreeSet<u32>,
}

impl Pool {
    /// A pool in which exactly the units of `used` are in use.
    #[must_use]
    pub fn new(used: Bitmap) -> Self {
        let mut available = Bitmap::new(used.len());
        let mut available_count = 0;
        for unit in 0..used.len() {
            if !used.get(unit) {
                available.set(unit, true);
                available_count += 1;
            }
        }
        Self {
            used,
            available,
            available_count,
            set_aside: 0,
            promised: 0,
            drawn: 0,
            lowest: 0,
            changed: BTreeSet::new(),
            fence: None,
        }
    }

    /// There are more units from now on, and nobody has the new ones.
    pub fn grow(&mut self, len: usize) {
        let before = self.used.len();
        debug_assert!(len >= before, "{before} units become {len}");
        self.used.resize(len);
        self.available.resize(len);
        (before..len).for_each(|unit| self.available.set(unit, true));
        self.available_count += len - before;
    }

    /// Units that are in use, as the mask on disk shows them.
    #[must_use]
    pub fn used(&self) -> &Bitmap {
        &self.used
    }

    /// Whether a unit is in use.
    #[must_use]
    pub fn is_used(&self, unit: u32) -> bool {
        (unit as usize) < self.used.len() && self.used.get(unit as usize)
    }

    /// Whether a unit may be handed out.
    #[must_use]
    pub fn is_available(&self, unit: u32) -> bool {
        (unit as usize) < self.available.len() && self.available.get(unit as usize)
    }

    /// How many units may be handed out now, without those that are set aside or promised.
    #[must_use]
    pub fn available(&self) -> usize {
        self.available_count.saturating_sub(self.set_aside + self.promised())
    }

    /// How many units are promised to lvols that have not taken them yet. There may be fewer for a while: what an lvol lets
    /// go of itself is promised to it at once, and may be taken again later.
    #[must_use]
    pub fn promised(&self) -> usize {
        self.promised.saturating_sub(self.drawn)
    }

    /// Keeps so many units in place of so many as before.
    pub fn promise(&mut self, before: u64, now: u64) {
        let count = |units: u64| usize::try_from(units).unwrap_or(usize::MAX / 2);
        self.promised = self.promised + count(now) - count(before);
    }

    /// The next unit is taken by a write to an lvol that it is promised to.
    pub fn draw(&mut self) {
        self.drawn += 1;
    }

    /// It has become the lvol's own, so that it is promised no more; or is given back.
    pub fn end_draw(&mut self) {
        debug_assert!(self.drawn > 0, "nothing has been drawn");
        self.drawn -= 1;
    }

    /// Keeps `count` units for later, whichever they will be. Says whether there are so many.
    pub fn set_aside(&mut self, count: usize) -> bool {
        let there_are = count <= self.available();
        if there_are {
            self.set_aside += count;
        }
        there_are
    }

    /// Gives back what was kept for later: from now on anybody may have it.
    pub fn give_back(&mut self, count: usize) {
        debug_assert!(count <= self.set_aside, "{count} units are given back of {}", self.set_aside);
        self.set_aside -= count;
    }

    /// How many units nothing refers to, held ones included.
    #[must_use]
    pub fn free(&self) -> usize {
        self.used.len() - self.used.count_ones()
    }

    /// Nobody gets one of these units from now on, which others may still have. Says whether there are enough beside them
    /// for what is set aside and promised; otherwise nothing changes.
    pub fn put_up_fence(&mut self, units: Range<u32>) -> bool {
        self.take_down_fence();
        let empty: BTreeSet<u32> = units.clone().filter(|unit| self.is_available(*unit)).collect();
        // What is promised and on its way back may be behind the fence: it does not count.
        if empty.len() + self.set_aside + self.promised() > self.available_count {
            return false;
        }
        empty.iter().for_each(|unit| self.hold(*unit));
        self.fence = Some(Fence { units, empty });
        true
    }

    /// Everybody may have them again.
    pub fn take_down_fence(&mut self) {
        let fence = self.fence.take();
        fence.into_iter().flat_map(|fence| fence.empty).for_each(|unit| self.release(unit));
    }

    /// How many units behind the fence somebody still has.
    #[must_use]
    pub fn left_behind_fence(&self) -> usize {
        self.fence.as_ref().map_or(0, |fence| fence.units.len() - fence.empty.len())
    }

    /// The units behind the fence, all of which nobody has any more, come into use at once: for what they were kept for.
    pub fn take_behind_fence(&mut self) {
        debug_assert_eq!(self.left_behind_fence(), 0, "somebody has a unit behind the fence");
        let fence = self.fence.take();
        fence.into_iter().flat_map(|fence| fence.units).for_each(|unit| self.take(unit));
    }

    /// The lowest `count` available units from `start` on, without holding them. `None` when there are fewer.
    #[must_use]
    pub fn peek(&self, start: u32, count: usize) -> Option<Vec<u32>> {
        let mut found = Vec::new();
        let mut from = self.lowest.max(start as usize);
        while found.len() < count {
            let unit = self.available.first_one_from(from)?;
            found.push(u32::try_from(unit).ok()?);
            from = unit + 1;
        }
        Some(found)
    }

    /// Holds an available unit: nobody else gets it until it is used or released.
    pub fn hold(&mut self, unit: u32) {
        let unit = unit as usize;
        debug_assert!(self.available.get(unit), "unit {unit} is not available");
        self.available.set(unit, false);
        self.available_count -= 1;
        if unit == self.lowest {
            self.lowest += 1;
        }
    }

    /// Holds a unit if nobody has it.
    pub fn hold_if_available(&mut self, unit: u32) {
        if self.available.get(unit as usize) {
            self.hold(unit);
        }
    }

    /// The first run of `len` available units, or the longest one if there is none.
    #[must_use]
    pub fn run_of(&self, len: usize) -> core::ops::Range<usize> {
        let mut best = 0..0;
        let mut from = self.lowest;
        while let Some(start) = self.available.first_one_from(from) {
            let end = self.available.first_zero_from(start).unwrap_or(self.available.len());
            if end - start > best.len() {
                best = start..end;
            }
            if best.len() >= len {
                break;
            }
            from = end;
        }
        best
    }

    /// Holds the lowest available unit.
    pub fn reserve(&mut self) -> Option<u32> {
        if self.available() == 0 {
            return None;
        }
        let unit = self.available.first_one_from(self.lowest)?;
        self.lowest = unit;
        let unit = u32::try_from(unit).ok()?;
        self.hold(unit);
        Some(unit)
    }

    /// Gives a held unit back to those that may be handed out.
    pub fn release(&mut self, unit: u32) {
        if let Some(fence) = self.fence.as_mut().filter(|fence| fence.units.contains(&unit)) {
            fence.empty.insert(unit);
            return;
        }
        let unit = unit as usize;
        debug_assert!(!self.used.get(unit) && !self.available.get(unit), "unit {unit} is not held");
        self.available.set(unit, true);
        self.available_count += 1;
        self.lowest = self.lowest.min(unit);
    }

    /// Marks a unit used: held before in life, available before in recovery.
    pub fn take(&mut self, unit: u32) {
        let unit = unit as usize;
        debug_assert!(!self.used.get(unit), "unit {unit} is used twice");
        if self.available.get(unit) {
            self.available.set(unit, false);
            self.available_count -= 1;
        }
        self.used.set(unit, true);
        self.changed.insert(unit / MASK_PAGE_UNITS);
    }

    /// Marks a used unit held: nothing refers to it any more, but it may not be reused yet.
    pub fn drop_use(&mut self, unit: u32) {
        let unit = unit as usize;
        debug_assert!(self.used.get(unit), "unit {unit} is freed twice");
        self.used.set(unit, false);
        self.changed.insert(unit / MASK_PAGE_UNITS);
    }

    /// How many pages of the live mask have changed since they were last taken.
    #[must_use]
    pub fn changed(&self) -> usize {
        self.changed.len()
    }

    /// The pages of the live mask that have changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<usize> {
        core::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_nobody_elses() {
        let mut pool = Pool::new(Bitmap::new(3));
        assert!(pool.set_aside(2) && !pool.set_aside(2));
        assert_eq!((pool.available(), pool.reserve(), pool.reserve()), (1, Some(0), None));
        pool.give_back(1);
        assert_eq!((pool.reserve(), pool.reserve()), (Some(1), None));
        pool.release(0);
        assert_eq!((pool.available(), pool.reserve()), (1, Some(0)));
        pool.give_back(1);
        assert_eq!((pool.available(), pool.reserve()), (1, Some(2)));
    }

    #[test]
    fn what_is_promised_is_taken_by_whom_it_is_promised_to() {
        let mut pool = Pool::new(Bitmap::new(3));
        pool.promise(0, 2);
        assert_eq!((pool.available(), pool.reserve(), pool.reserve()), (1, Some(0), None));
        pool.draw();
        assert_eq!((pool.reserve(), pool.promised(), pool.reserve()), (Some(1), 1, None));
        // It is its own now, and so promised no more.
        pool.take(1);
        pool.end_draw();
        pool.promise(2, 1);
        assert_eq!((pool.available(), pool.promised()), (0, 1));
        // It lets go of it again: promised at once, there later.
        pool.drop_use(1);
        pool.promise(1, 2);
        assert_eq!((pool.available(), pool.promised()), (0, 2));
        pool.release(1);
        assert_eq!((pool.available(), pool.reserve()), (0, None));
    }

    #[test]
    fn nobody_gets_what_is_behind_a_fence() {
        let mut used = Bitmap::new(6);
        used.set(1, true);
        let mut pool = Pool::new(used);
        assert_eq!(pool.reserve(), Some(0));
        assert!(pool.set_aside(3) && !pool.put_up_fence(0..4), "2 of the 3 that are left are behind it");
        pool.give_back(3);
        assert!(pool.put_up_fence(0..4));
        assert_eq!((pool.available(), pool.left_behind_fence()), (2, 2));
        assert_eq!((pool.reserve(), pool.reserve(), pool.reserve()), (Some(4), Some(5), None));
        pool.release(0);
        pool.drop_use(1);
        pool.release(1);
        assert_eq!((pool.left_behind_fence(), pool.available(), pool.reserve()), (0, 0, None));
        let mut kept = pool.clone();
        kept.take_behind_fence();
        assert_eq!((kept.used().count_ones(), kept.available()), (4, 0));
        pool.take_down_fence();
        assert_eq!((pool.available(), pool.reserve(), pool.left_behind_fence()), (4, Some(0), 0));
    }

    #[test]
    fn what_is_new_is_to_be_had() {
        let mut pool = Pool::new(Bitmap::new(2));
        assert_eq!((pool.reserve(), pool.reserve(), pool.reserve()), (Some(0), Some(1), None));
        pool.grow(4);
        assert_eq!((pool.available(), pool.free(), pool.reserve()), (2, 4, Some(2)));
        pool.release(0);
        assert_eq!((pool.reserve(), pool.reserve(), pool.reserve()), (Some(0), Some(3), None));
    }

    #[test]
    fn hands_out_lowest_first_and_never_what_is_held() {
        let mut used = Bitmap::new(10);
        used.set(0, true);
        used.set(3, true);
        let mut pool = Pool::new(used);
        assert_eq!((pool.available(), pool.free()), (8, 8));
        assert_eq!(pool.reserve(), Some(1));
        assert_eq!(pool.peek(0, 3), Some(alloc::vec![2, 4, 5]));
        assert_eq!(pool.peek(5, 2), Some(alloc::vec![5, 6]));
        pool.hold(5);
        assert_eq!((pool.reserve(), pool.reserve()), (Some(2), Some(4)));
        pool.take(1);
        assert!(pool.is_used(1));
        pool.drop_use(1);
        assert_eq!(pool.reserve(), Some(6), "a freed unit is held until it is released");
        pool.release(1);
        assert_eq!(pool.reserve(), Some(1));
        assert_eq!(pool.peek(0, 4), None);
        assert_eq!((pool.reserve(), pool.reserve(), pool.reserve()), (Some(7), Some(8), Some(9)));
        assert_eq!(pool.reserve(), None);
    }
}
