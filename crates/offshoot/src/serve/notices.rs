//! What has happened, in a ring that clients read whenever they like (SPDK: `lib/notify`).

use std::collections::{BTreeSet, VecDeque};

/// How many are kept (SPDK: `SPDK_NOTIFY_MAX_EVENTS`).
const KEPT_MAX: usize = 1024;

/// What happens. The first two are SPDK's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A bdev is there: an lvol, under its UUID, or what a store is on.
    BdevRegister,
    /// It is there no longer.
    BdevUnregister,
    /// Less than a tenth of a store is free.
    SpaceLow,
    /// That is over.
    SpaceOk,
    /// A store takes no writes any more.
    StoreFailed,
    /// An lvol is damaged.
    LvolDamaged,
}

impl Event {
    pub(super) const ALL: [Self; 6] = [
        Self::BdevRegister,
        Self::BdevUnregister,
        Self::SpaceLow,
        Self::SpaceOk,
        Self::StoreFailed,
        Self::LvolDamaged,
    ];

    /// The word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BdevRegister => "bdev_register",
            Self::BdevUnregister => "bdev_unregister",
            Self::SpaceLow => "lvstore_space_low",
            Self::SpaceOk => "lvstore_space_ok",
            Self::StoreFailed => "lvstore_failed",
            Self::LvolDamaged => "lvol_damaged",
        }
    }
}

/// One that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) id: u64,
    pub(super) event: Event,
    /// To what: the name of a bdev or a store.
    pub(super) subject: String,
}

/// The last of them, and the bdevs that there are by them.
#[derive(Debug, Default)]
pub(super) struct Notices {
    kept: VecDeque<Notice>,
    /// The number of the next one.
    next: u64,
    bdevs: BTreeSet<String>,
    /// Stores that are low on space.
    low: BTreeSet<String>,
    /// Stores and lvols that something is wrong with.
    wrong: BTreeSet<String>,
}

impl Notices {
    /// Bdevs are these now.
    pub(super) fn bdevs_are(&mut self, bdevs: BTreeSet<String>) {
        let before = std::mem::replace(&mut self.bdevs, bdevs);
        let gone: Vec<String> = before.difference(&self.bdevs).cloned().collect();
        let come: Vec<String> = self.bdevs.difference(&before).cloned().collect();
        gone.into_iter().for_each(|bdev| self.keep(Event::BdevUnregister, bdev));
        come.into_iter().for_each(|bdev| self.keep(Event::BdevRegister, bdev));
    }

    /// So much of a store is free. Low is below a tenth, and above an eighth it is not low any more.
    pub(super) fn space_is(&mut self, store: &str, free: u64, total: u64) {
        let (free, total) = (u128::from(free), u128::from(total));
        if !self.low.contains(store) && free * 10 < total {
            self.low.insert(store.to_owned());
            self.keep(Event::SpaceLow, store.to_owned());
        } else if free * 8 > total && self.low.remove(store) {
            self.keep(Event::SpaceOk, store.to_owned());
        }
    }

    /// A store takes no writes any more. Told once.
    pub(super) fn store_failed(&mut self, store: &str) {
        if self.wrong.insert(store.to_owned()) {
            self.keep(Event::StoreFailed, store.to_owned());
        }
    }

    /// An lvol is damaged. Told once.
    pub(super) fn lvol_damaged(&mut self, bdev: &str) {
        if self.wrong.insert(bdev.to_owned()) {
            self.keep(Event::LvolDamaged, bdev.to_owned());
        }
    }

    /// Those from a number on, and the oldest there are if that one is forgotten.
    pub(super) fn since(&self, id: u64) -> impl Iterator<Item = &Notice> {
        self.kept.iter().skip_while(move |notice| notice.id < id)
    }

    fn keep(&mut self, event: Event, subject: String) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Notice { id: self.next, event, subject });
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bdevs(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn events(notices: &Notices) -> Vec<(u64, Event, &str)> {
        notices.since(0).map(|notice| (notice.id, notice.event, &*notice.subject)).collect()
    }

    #[test]
    fn bdevs_come_and_go() {
        let mut notices = Notices::default();
        notices.bdevs_are(bdevs(&["a", "b"]));
        notices.bdevs_are(bdevs(&["a", "b"]));
        notices.bdevs_are(bdevs(&["b", "c"]));
        let come = Event::BdevRegister;
        assert_eq!(
            events(&notices),
            [(0, come, "a"), (1, come, "b"), (2, Event::BdevUnregister, "a"), (3, come, "c")]
        );
        assert_eq!(notices.since(3).count(), 1);
        assert_eq!(notices.since(4).count(), 0);
    }

    #[test]
    fn space_is_told_when_it_changes_sides() {
        let mut notices = Notices::default();
        for free in [100, 10, 9, 3, 11, 12, 9, 13, 9] {
            notices.space_is("lvs", free, 100);
        }
        let told: Vec<Event> = notices.since(0).map(|notice| notice.event).collect();
        assert_eq!(told, [Event::SpaceLow, Event::SpaceOk, Event::SpaceLow]);
    }

    #[test]
    fn what_is_wrong_is_told_once() {
        let mut notices = Notices::default();
        for _ in 0..3 {
            notices.store_failed("lvs");
            notices.lvol_damaged("lvol");
        }
        assert_eq!(events(&notices), [(0, Event::StoreFailed, "lvs"), (1, Event::LvolDamaged, "lvol")]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut notices = Notices::default();
        let names: Vec<String> = (0..2000).map(|number| format!("{number:04}")).collect();
        notices.bdevs_are(names.into_iter().collect());
        let kept: Vec<u64> = notices.since(0).map(|notice| notice.id).collect();
        assert_eq!(kept, (2000 - KEPT_MAX as u64..2000).collect::<Vec<_>>());
    }
}
