//! Who may write where (R8).
//!
//! Whatever reads and then writes a block, or makes a block an lvol's own, holds its range exclusively; plain
//! overwrites share. Ranges are granted in order of arrival wherever they overlap, so nobody starves, and a
//! verb that must see no write in flight (snapshot, shrink, rm) is simply a holder of everything.

use alloc::vec::Vec;
use core::ops::Range;

/// How a range is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Together with other overwrites.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Clone, Debug)]
struct Claim<T> {
    who: T,
    range: Range<u64>,
    mode: Mode,
}

impl<T> Claim<T> {
    fn conflicts(&self, range: &Range<u64>, mode: Mode) -> bool {
        (self.mode == Mode::Exclusive || mode == Mode::Exclusive)
            && self.range.start < range.end
            && range.start < self.range.end
    }
}

/// The ranges of one lvol that writers hold or wait for, in bytes. A writer is named by a `T`.
#[derive(Clone, Debug)]
pub(crate) struct RangeLocks<T> {
    held: Vec<Claim<T>>,
    waiting: Vec<Claim<T>>,
}

impl<T> Default for RangeLocks<T> {
    fn default() -> Self {
        Self { held: Vec::new(), waiting: Vec::new() }
    }
}

impl<T: Copy + PartialEq> RangeLocks<T> {
    /// Holds a range for `who`, or queues it. Says whether it is held now.
    pub(crate) fn acquire(&mut self, who: T, range: Range<u64>, mode: Mode) -> bool {
        let blocked = self.held.iter().chain(&self.waiting).any(|claim| claim.conflicts(&range, mode));
        let list = if blocked { &mut self.waiting } else { &mut self.held };
        list.push(Claim { who, range, mode });
        !blocked
    }

    /// Lets go of what `who` holds. Appends those who hold what they waited for from now on.
    pub(crate) fn release(&mut self, who: T, granted: &mut Vec<T>) {
        self.held.retain(|claim| claim.who != who);
        let mut index = 0;
        while index < self.waiting.len() {
            let (earlier, rest) = self.waiting.split_at(index);
            let claim = &rest[0];
            let mut before = self.held.iter().chain(earlier);
            if before.any(|other| other.conflicts(&claim.range, claim.mode)) {
                index += 1;
            } else {
                let claim = self.waiting.remove(index);
                granted.push(claim.who);
                self.held.push(claim);
            }
        }
    }

    /// Whether nobody holds or waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(locks: &mut RangeLocks<u32>, who: u32) -> Vec<u32> {
        let mut granted = Vec::new();
        locks.release(who, &mut granted);
        granted
    }

    #[test]
    fn overwrites_share_and_first_writes_do_not() {
        let mut locks = RangeLocks::default();
        assert!(locks.acquire(1, 0..10, Mode::Shared));
        assert!(locks.acquire(2, 5..15, Mode::Shared));
        assert!(!locks.acquire(3, 8..9, Mode::Exclusive));
        assert!(locks.acquire(4, 20..30, Mode::Exclusive), "other ranges do not wait");
        assert!(release(&mut locks, 1).is_empty());
        assert_eq!(release(&mut locks, 2), [3]);
    }

    #[test]
    fn grants_in_order_of_arrival() {
        let mut locks = RangeLocks::default();
        assert!(locks.acquire(1, 0..10, Mode::Shared));
        assert!(!locks.acquire(2, 0..u64::MAX, Mode::Exclusive));
        assert!(!locks.acquire(3, 0..1, Mode::Shared), "a later overwrite does not overtake the drain");
        assert!(!locks.acquire(4, 50..51, Mode::Shared));
        assert_eq!(release(&mut locks, 1), [2]);
        assert_eq!(release(&mut locks, 2), [3, 4]);
        release(&mut locks, 3);
        release(&mut locks, 4);
        assert!(locks.is_idle());
    }
}
