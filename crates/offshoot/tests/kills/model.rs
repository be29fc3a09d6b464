//! What the store must hold: for each sector of each lvol the content that was acknowledged last, and beside it the
//! content of a request that is still to be answered. Every lvol has all of its sectors to itself: sharing is the
//! store's business.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::stamp::{Content, SECTOR};

/// All lvols, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) lvols: BTreeMap<String, Lvol>,
}

impl Model {
    /// Names of the lvols that `name` is the parent of.
    pub(crate) fn clones_of(&self, name: &str) -> Vec<&str> {
        let clones = self.lvols.iter().filter(|(_, lvol)| lvol.parent.as_deref() == Some(name));
        clones.map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn lvol(&mut self, name: &str) -> &mut Lvol {
        self.lvols.get_mut(name).expect("the lvol is one of the model")
    }

    /// Forgets which acknowledgements came before a flush: what a freshly opened store shows is durable.
    pub(crate) fn begin_session(&mut self) {
        for lvol in self.lvols.values_mut() {
            lvol.flushed = 0;
            lvol.sectors.iter_mut().for_each(|sector| sector.acknowledged_at = 0);
        }
    }
}

/// One lvol, snapshot or clone.
#[derive(Clone, Debug)]
pub(crate) struct Lvol {
    pub(crate) parent: Option<String>,
    /// A snapshot.
    pub(crate) read_only: bool,
    /// Whether trims give back space. Not known of snapshots.
    pub(crate) thin: bool,
    sectors: Vec<Sector>,
    /// Acknowledgements up to this one lie before a flush that has completed. Counted from 1 in each session.
    flushed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sector {
    acknowledged: Content,
    /// When that was, 0 before this session and for what came with FUA.
    acknowledged_at: u64,
    /// Content of the one request that is under way here. The client never has two.
    in_flight: Option<Content>,
}

impl Sector {
    const ZEROS: Self = Self { acknowledged: Content::Zeros, acknowledged_at: 0, in_flight: None };
}

impl Lvol {
    /// A writable lvol that reads zeros.
    pub(crate) fn new(sectors: usize, thin: bool) -> Self {
        Self { parent: None, read_only: false, thin, sectors: vec![Sector::ZEROS; sectors], flushed: 0 }
    }

    /// A snapshot called `name` is taken of it: that holds the same from then on, and is its parent.
    pub(crate) fn snapshot(&mut self, name: &str) -> Self {
        let snapshot = Self { read_only: true, ..self.clone() };
        self.parent = Some(name.to_owned());
        self.thin = true;
        snapshot
    }

    /// A clone of this snapshot, which is called `name`.
    pub(crate) fn clone_of(&self, name: &str) -> Self {
        Self { parent: Some(name.to_owned()), read_only: false, thin: true, ..self.clone() }
    }

    /// Size in sectors.
    pub(crate) fn len(&self) -> usize {
        self.sectors.len()
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.sectors.len() * SECTOR) as u64
    }

    /// What is cut off is lost, what is added reads zeros.
    pub(crate) fn resize(&mut self, sectors: usize) {
        self.sectors.resize(sectors, Sector::ZEROS);
    }

    /// A request is sent that will give these sectors this content.
    pub(crate) fn send(&mut self, range: Range<usize>, content: Content) {
        self.sectors[range].iter_mut().for_each(|sector| sector.in_flight = Some(content));
    }

    /// That request was answered with success, as number `at` of the session's acknowledgements, or 0 if it is durable
    /// with that.
    pub(crate) fn acknowledge(&mut self, range: Range<usize>, at: u64) {
        for sector in &mut self.sectors[range] {
            let content = sector.in_flight.take().expect("it was sent");
            *sector = Sector { acknowledged: content, acknowledged_at: at, in_flight: None };
        }
    }

    /// A flush completed that was sent after acknowledgement number `at`.
    pub(crate) fn flush(&mut self, at: u64) {
        self.flushed = self.flushed.max(at);
    }

    /// Compares what was read from sector `first` on. A sector may hold what was acknowledged, or, once the server is
    /// dead, what was in flight. From then on it must stay with what it was seen to hold. Returns what is wrong.
    pub(crate) fn compare(&mut self, first: usize, bytes: &[u8]) -> Vec<Mismatch> {
        let mut mismatches: Vec<Mismatch> = Vec::new();
        for (at, bytes) in (first..).zip(bytes.chunks(SECTOR)) {
            let found = Content::of(at, bytes);
            let sector = &mut self.sectors[at];
            let in_flight = sector.in_flight.take();
            if found == sector.acknowledged {
                continue;
            }
            if in_flight != Some(found) {
                let (expected, flushed) = (sector.acknowledged, sector.acknowledged_at <= self.flushed);
                match mismatches.last_mut() {
                    Some(last)
                        if last.sectors.end == at
                            && (last.expected, last.found, last.flushed) == (expected, found, flushed) =>
                    {
                        last.sectors.end += 1;
                    }
                    _ => mismatches.push(Mismatch { sectors: at..at + 1, expected, found, flushed }),
                }
            }
            *sector = Sector { acknowledged: found, acknowledged_at: 0, in_flight: None };
        }
        mismatches
    }
}

/// Sectors that do not hold what they must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    sectors: Range<usize>,
    expected: Content,
    found: Content,
    /// Whether what is lost was not only acknowledged, but also flushed.
    flushed: bool,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sectors, expected, found, flushed } = self;
        let promise = if *flushed { "flushed" } else { "acknowledged" };
        write!(f, "sectors {}..{}: {promise} {expected} lost, {found} found", sectors.start, sectors.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::payload;

    /// An lvol of four sectors after: write 1 to all, flushed; write 2 to 1..3, acknowledged; write 3 to 2..4 in flight.
    fn lvol() -> Lvol {
        let mut lvol = Lvol::new(4, true);
        lvol.send(0..4, Content::Write(1));
        lvol.acknowledge(0..4, 1);
        lvol.flush(1);
        lvol.send(1..3, Content::Write(2));
        lvol.acknowledge(1..3, 2);
        lvol.send(2..4, Content::Write(3));
        lvol
    }

    /// Four sectors, each as the write of that number has it, or zeros for 0.
    fn sectors(numbers: [u64; 4]) -> Vec<u8> {
        let one = |(at, number): (usize, u64)| match number {
            0 => vec![0; SECTOR],
            number => payload(number, at, 1),
        };
        numbers.into_iter().enumerate().flat_map(one).collect()
    }

    #[track_caller]
    fn check(found: [u64; 4], expected: &[&str]) {
        let mut lvol = lvol();
        let texts: Vec<String> = lvol.compare(0, &sectors(found)).iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected, "{found:?}");
        // What was read once is read again.
        assert_eq!(lvol.compare(0, &sectors(found)), []);
    }

    #[test]
    fn what_is_in_flight_is_old_or_new_in_each_sector() {
        for found in [[1, 2, 2, 1], [1, 2, 3, 1], [1, 2, 2, 3], [1, 2, 3, 3]] {
            check(found, &[]);
        }
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        check([1, 1, 2, 1], &["sectors 1..2: acknowledged write 2 lost, write 1 found"]);
        check([1, 0, 0, 1], &["sectors 1..3: acknowledged write 2 lost, zeros found"]);
        check([0, 2, 2, 1], &["sectors 0..1: flushed write 1 lost, zeros found"]);
        check([1, 2, 3, 0], &["sectors 3..4: flushed write 1 lost, zeros found"]);
        check([3, 2, 2, 1], &["sectors 0..1: flushed write 1 lost, write 3 found"]);
    }

    #[test]
    fn torn_sectors_are_noticed() {
        let mut bytes = sectors([1, 2, 2, 3]);
        bytes[3 * SECTOR + 256..].copy_from_slice(&sectors([1, 2, 2, 1])[3 * SECTOR + 256..]);
        let found = lvol().compare(0, &bytes);
        assert!(matches!(found[..], [Mismatch { found: Content::Foreign(_), .. }]), "{found:?}");
    }

    #[test]
    fn what_was_seen_once_stays() {
        let mut lvol = lvol();
        assert_eq!(lvol.compare(0, &sectors([1, 2, 2, 3])), []);
        // Sector 3 was new and is old again, sector 2 was old and becomes new after all.
        assert_eq!(lvol.compare(0, &sectors([1, 2, 3, 1])).len(), 2);
    }

    #[test]
    fn growing_after_shrinking_reads_zeros() {
        let mut lvol = lvol();
        lvol.resize(1);
        lvol.resize(4);
        assert_eq!(lvol.compare(0, &sectors([1, 0, 0, 0])), []);
        assert_eq!(lvol.compare(0, &sectors([1, 2, 0, 0])).len(), 1);
    }

    #[test]
    fn a_new_session_begins_durable() {
        let mut model = Model::default();
        model.lvols.insert("vol".into(), lvol());
        model.begin_session();
        let found = model.lvol("vol").compare(0, &sectors([1, 1, 2, 1]));
        assert_eq!(found[0].to_string(), "sectors 1..2: flushed write 2 lost, write 1 found");
    }
}
