//! Which freed clusters no I/O in flight can still refer to (R1).
//!
//! An I/O holds every cluster that it resolved to, without naming them: it is enough to know that it began
//! before the cluster was freed.

use alloc::collections::BTreeMap;

/// Counts I/O in flight by how many releases had happened when it began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epochs {
    now: u64,
    in_flight: BTreeMap<u64, usize>,
}

/// When something began or was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

impl Epochs {
    /// An I/O begins. Give the epoch back with [`Epochs::end`].
    pub(crate) fn begin(&mut self) -> Epoch {
        *self.in_flight.entry(self.now).or_default() += 1;
        Epoch(self.now)
    }

    /// An I/O has ended.
    pub(crate) fn end(&mut self, epoch: Epoch) {
        if let Some(count) = self.in_flight.get_mut(&epoch.0) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&epoch.0);
            }
        }
    }

    /// Something is freed: I/O that begins from now on cannot refer to it.
    pub(crate) fn advance(&mut self) -> Epoch {
        self.now += 1;
        Epoch(self.now)
    }

    /// Whether all I/O that began before `freed` has ended.
    pub(crate) fn is_clear(&self, freed: Epoch) -> bool {
        self.in_flight.first_key_value().is_none_or(|(began, _)| *began >= freed.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_earlier_io_only() {
        let mut epochs = Epochs::default();
        let early = epochs.begin();
        let freed = epochs.advance();
        let late = epochs.begin();
        assert!(!epochs.is_clear(freed));
        epochs.end(early);
        assert!(epochs.is_clear(freed));
        epochs.end(late);
    }
}
