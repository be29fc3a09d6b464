//! What one cell may hold: every write that is not certainly gone.
//!
//! A write supersedes another when it was submitted after the other had ended. Which of those that nothing supersedes
//! is seen depends on who asks: a reader is owed every write acknowledged before it asked (D1), and after a power cut
//! only those that were durable count (D2).

use crate::pattern::Version;

/// A moment. Every submission and every reply has its own.
pub(crate) type Time = u64;

/// The end of a write that has not ended.
const NEVER: Time = Time::MAX;

/// Who looks at a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observer {
    /// Someone who asked at this moment, in the life of the store or after the death of its process.
    Since(Time),
    /// Someone who asked at this moment, after a fault that may have cost what was cached.
    SinceLoss(Time),
    /// The first one after a death of the process, when a device operation had failed at this moment: what was not
    /// covered then may be lost, later replies waited until it was.
    AfterError(Time),
    /// The first one after a death of the process that the machine did not survive either: owed what was acknowledged
    /// more than a second before.
    AfterReboot,
    /// The first one after a power cut.
    AfterPowerCut,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was acknowledged.
    Done,
    /// It was acknowledged, and it is durable.
    Durable,
    /// It failed, or may keep what was there: from now on the cell is old or new, nobody knows.
    Unsure,
}

/// A write to a cell.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// The request.
    request: u64,
    /// What the cell reads if this write is seen.
    version: Version,
    submitted: Time,
    ended: Time,
    /// Whether it was acknowledged, so that it hides what ended before it began.
    sure: bool,
    durable: bool,
    /// Whether more than a second has passed since.
    aged: bool,
}

impl Write {
    fn under_way(request: u64, now: Time) -> Self {
        Self { request, version: 0, submitted: now, ended: NEVER, sure: false, durable: false, aged: false }
    }
}

/// When something could be seen: from `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visible {
    version: Version,
    first: Time,
    last: Time,
}

impl Visible {
    pub(crate) fn first(&self) -> Time {
        self.first
    }

    /// Whether this could be seen by someone who looked at that moment.
    pub(crate) fn shows(&self, version: Version, moment: Time) -> bool {
        self.version == version && (self.first..=self.last).contains(&moment)
    }
}

/// One cell of an lvol.
#[derive(Clone, Debug)]
pub(crate) struct History {
    newest: Write,
    /// Usually empty.
    older: Vec<Write>,
}

impl History {
    /// A cell that durably holds one of these: zeros when there are none.
    pub(crate) fn one_of(versions: impl IntoIterator<Item = Version>) -> Self {
        let write = |version| Write {
            request: 0,
            version,
            submitted: 0,
            ended: 0,
            sure: true,
            durable: true,
            aged: true,
        };
        let mut older: Vec<Write> = versions.into_iter().map(write).collect();
        let newest = older.pop().unwrap_or_else(|| write(0));
        Self { newest, older }
    }

    /// A request that will make the cell read `version`.
    pub(crate) fn submit(&mut self, request: u64, version: Version, now: Time) {
        let write = Write { version, ..Write::under_way(request, now) };
        self.older.push(std::mem::replace(&mut self.newest, write));
    }

    /// The end of a request, if it still has a part in this cell.
    pub(crate) fn end(&mut self, request: u64, how: Ended, now: Time) {
        let writes = self.older.iter_mut().chain([&mut self.newest]);
        for write in writes.filter(|write| write.request == request && write.ended == NEVER) {
            write.ended = now;
            write.sure = how != Ended::Unsure;
            write.durable = how == Ended::Durable;
        }
    }

    /// Everything acknowledged before `before` is durable.
    pub(crate) fn flush(&mut self, before: Time) {
        let writes = self.older.iter_mut().chain([&mut self.newest]);
        for write in writes.filter(|write| write.sure && write.ended < before) {
            write.durable = true;
        }
    }

    /// More than a second has passed since everything acknowledged before `before`.
    pub(crate) fn age(&mut self, before: Time) {
        let writes = self.older.iter_mut().chain([&mut self.newest]);
        for write in writes.filter(|write| write.sure && write.ended < before) {
            write.aged = true;
        }
    }

    /// Forgets what neither a reader since `reader` nor one after a power cut may see.
    pub(crate) fn prune(&mut self, reader: Time) {
        if self.older.is_empty() {
            return;
        }
        let all = self.clone();
        let gone = |write: &Write| {
            let observers = [Observer::Since(reader), Observer::SinceLoss(reader), Observer::AfterPowerCut];
            observers.into_iter().all(|observer| all.hidden(write, observer))
        };
        self.older.retain(|write| !gone(write));
        if gone(&self.newest)
            && let Some(newest) = self.older.pop()
        {
            self.newest = newest;
        }
    }

    /// Someone who asked at `since` saw this. When every write had ended before, it is known from now on what the
    /// cell holds. `reader` is the oldest reader under way.
    pub(crate) fn settle(
        &mut self,
        version: Version,
        since: Time,
        durable: bool,
        reader: Option<Time>,
        now: Time,
    ) {
        if self.older.is_empty() || self.writes().any(|write| write.ended >= since) {
            return;
        }
        let seen = Write { version, ended: now, sure: true, durable, ..Write::under_way(0, now) };
        self.older.push(std::mem::replace(&mut self.newest, seen));
        self.prune(reader.unwrap_or(now + 1));
    }

    /// Whether an observer may see this.
    pub(crate) fn allows(&self, version: Version, observer: Observer) -> bool {
        if self.older.is_empty() {
            return self.newest.version == version;
        }
        self.versions(observer).any(|allowed| allowed == version)
    }

    /// What an observer may see.
    pub(crate) fn versions(&self, observer: Observer) -> impl Iterator<Item = Version> {
        self.writes().filter(move |write| !self.hidden(write, observer)).map(|write| write.version)
    }

    /// Whether there is only one thing that it can hold.
    pub(crate) fn is_certain(&self) -> bool {
        self.older.is_empty()
    }

    /// When what an observer may see could be seen.
    pub(crate) fn visible(&self, observer: Observer) -> impl Iterator<Item = Visible> {
        let seen = self.writes().filter(move |write| !self.hidden(write, observer));
        seen.map(|write| {
            let hides = |later: &&Write| later.sure && later.submitted > write.ended;
            let last = self.writes().filter(hides).map(|later| later.ended).min().unwrap_or(NEVER);
            Visible { version: write.version, first: write.submitted + 1, last }
        })
    }

    fn writes(&self) -> impl Iterator<Item = &Write> {
        self.older.iter().chain([&self.newest])
    }

    /// Whether a later write hides this one from an observer.
    fn hidden(&self, write: &Write, observer: Observer) -> bool {
        self.writes().any(|later| {
            let counts = match observer {
                Observer::Since(since) => later.ended < since,
                Observer::SinceLoss(since) => later.durable && later.ended < since,
                Observer::AfterError(at) => later.durable || later.ended > at,
                Observer::AfterReboot => later.durable || later.aged,
                Observer::AfterPowerCut => later.durable,
            };
            later.sure && counts && later.submitted > write.ended
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(history: &History, observer: Observer) -> Vec<Version> {
        let mut versions: Vec<Version> = history.versions(observer).collect();
        versions.sort_unstable();
        versions
    }

    #[test]
    fn an_acknowledged_write_hides_what_ended_before_it() {
        let mut sector = History::one_of([]);
        sector.submit(1, 1, 10);
        assert_eq!(seen(&sector, Observer::Since(11)), [0, 1]);
        sector.end(1, Ended::Done, 12);
        assert_eq!(seen(&sector, Observer::Since(13)), [1]);
        assert_eq!(seen(&sector, Observer::Since(11)), [0, 1], "that reader asked before");
        assert_eq!(seen(&sector, Observer::AfterPowerCut), [0, 1]);
        sector.flush(12);
        assert_eq!(seen(&sector, Observer::AfterPowerCut), [0, 1], "the flush came too early for it");
        assert_eq!(seen(&sector, Observer::AfterReboot), [0, 1]);
        sector.age(13);
        assert_eq!(seen(&sector, Observer::AfterReboot), [1]);
        assert_eq!(seen(&sector, Observer::AfterPowerCut), [0, 1], "time alone makes nothing durable");
        sector.flush(13);
        assert_eq!(seen(&sector, Observer::AfterPowerCut), [1]);
        sector.prune(13);
        assert!(sector.older.is_empty() && sector.allows(1, Observer::AfterPowerCut));
    }

    #[test]
    fn whoever_asked_before_the_answer_may_see_either() {
        let mut sector = History::one_of([]);
        sector.submit(1, 1, 10);
        sector.end(1, Ended::Durable, 12);
        assert_eq!(seen(&sector, Observer::SinceLoss(11)), [0, 1]);
        assert_eq!(seen(&sector, Observer::SinceLoss(13)), [1]);
        assert_eq!(seen(&sector, Observer::AfterPowerCut), [1]);
        sector.prune(11);
        assert_eq!(seen(&sector, Observer::SinceLoss(11)), [0, 1]);
    }

    #[test]
    fn writes_at_the_same_time_may_come_in_any_order() {
        let mut sector = History::one_of([]);
        sector.submit(1, 1, 10);
        sector.submit(2, 2, 11);
        sector.end(2, Ended::Durable, 12);
        sector.end(1, Ended::Done, 13);
        assert_eq!(seen(&sector, Observer::Since(14)), [1, 2]);
        assert_eq!(seen(&sector, Observer::AfterPowerCut), [1, 2], "the second hides zero, not the first");
        sector.submit(3, 3, 14);
        sector.end(3, Ended::Unsure, 15);
        assert_eq!(seen(&sector, Observer::Since(16)), [1, 2, 3]);
        sector.settle(2, 15, false, None, 16);
        assert_eq!(seen(&sector, Observer::Since(16)), [1, 2, 3], "that reader asked too early");
        let mut watched = sector.clone();
        watched.settle(2, 16, false, Some(13), 16);
        assert_eq!(seen(&watched, Observer::Since(13)), [1, 2, 2, 3], "somebody else is reading still");
        sector.settle(2, 16, false, None, 16);
        assert_eq!(seen(&sector, Observer::Since(17)), [2]);
        assert_eq!(seen(&sector, Observer::AfterPowerCut), [1, 2, 2, 3]);
        sector.flush(17);
        sector.prune(17);
        assert_eq!(seen(&sector, Observer::AfterPowerCut), [2]);
    }
}
