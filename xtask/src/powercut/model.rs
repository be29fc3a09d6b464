//! What a store may hold after a power cut, worked out from the trace of its client and from nothing else.
//!
//! Every sector of every volume has the values that it was given, in their order; the client never has two requests
//! for one sector under way. One of them is the oldest that may be seen. It moves up when a write was acknowledged and
//! made durable since: by a FLUSH sent after the acknowledgement, by FUA, by an orderly end of the server, by an
//! opening of the store. What lies above it may be seen as well, since a write may reach the disk before anyone asks.
//!
//! The trace is followed from mark to mark, as the log is. Between two marks the log does not say how far the trace
//! had come: there, what the trace promises counts as of the first mark, and what it may have done as of the second.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};

use super::pattern::{Content, OpNumber, SECTOR_BYTES};
use super::trace::{Change, Event, VolumeNumber, name};

/// How many volumes and how many sectors of each there may be, so that a trace that is none takes no memory.
const SECTORS_MAX: u64 = 1 << 20;

/// How much is read and compared at once.
const COMPARED_SECTORS: usize = 512;

/// What a store that was opened after a cut shows.
pub(super) trait Shown {
    /// Names and sizes in bytes of what is in it.
    fn volumes(&self) -> Vec<(String, u64)>;

    /// Bytes of a volume, or why they cannot be had.
    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, String>;
}

/// What may be there, as far as the trace was followed.
#[derive(Clone, Debug)]
pub(super) struct Model<'t> {
    rest: std::slice::Iter<'t, Event>,
    volumes: BTreeMap<VolumeNumber, Volume>,
    /// Requests without an answer.
    pending: HashMap<OpNumber, Pending>,
    /// What the next mark makes certain.
    raises: Vec<Raise>,
    /// Whether a verb has started that has not succeeded.
    in_verb: bool,
    /// The mark up to which the trace was followed, which is the next in the log.
    next_mark: Option<u32>,
}

#[derive(Clone, Debug)]
struct Volume {
    presence: Presence,
    sectors: Vec<Values>,
    /// Acknowledged changes, in the order of the acknowledgements.
    acknowledged: Vec<Changed>,
    /// How many of those are durable for certain.
    settled: usize,
}

/// Whether a volume is there. The verb in between takes effect at some moment before the next mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Appearing,
    Present,
    Leaving,
}

/// The values that a sector may show, the oldest first. Never empty.
#[derive(Clone, Debug)]
struct Values(Vec<Value>);

/// What a request made of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    /// 0: nobody wrote here.
    op: OpNumber,
    zeros: bool,
}

#[derive(Clone, Debug)]
struct Changed {
    op: OpNumber,
    sectors: Range<usize>,
}

#[derive(Clone, Debug)]
enum Pending {
    Change {
        volume: VolumeNumber,
        changed: Changed,
        fua: bool,
    },
    /// A FLUSH, which covers so many of the acknowledged changes.
    Flush {
        volume: VolumeNumber,
        covers: usize,
    },
}

#[derive(Clone, Debug)]
enum Raise {
    One { volume: VolumeNumber, changed: Changed },
    UpTo { volume: VolumeNumber, count: usize },
}

impl<'t> Model<'t> {
    /// The model of an empty store, with what a trace does up to its first mark as a possibility.
    ///
    /// # Errors
    /// The trace contradicts itself.
    pub(super) fn new(trace: &'t [Event]) -> Result<Self> {
        let mut model = Self {
            rest: trace.iter(),
            volumes: BTreeMap::new(),
            pending: HashMap::new(),
            raises: Vec::new(),
            in_verb: false,
            next_mark: None,
        };
        model.follow()?;
        Ok(model)
    }

    /// The log has come to a mark: what the trace promises above it holds from here on.
    ///
    /// # Errors
    /// It is another mark than the next of the trace, or the trace contradicts itself.
    pub(super) fn pass(&mut self, mark: &str) -> Result<()> {
        let expected = self.next_mark.map(|number| number.to_string());
        ensure!(expected.as_deref() == Some(mark), "the log has mark {mark}, the trace {expected:?}");
        for raise in std::mem::take(&mut self.raises) {
            match raise {
                Raise::One { volume, changed } => self.volume(volume)?.settle(&changed),
                Raise::UpTo { volume, count } => self.volume(volume)?.settle_up_to(count),
            }
        }
        self.volumes.retain(|_, volume| volume.presence != Presence::Leaving);
        for volume in self.volumes.values_mut() {
            volume.presence = Presence::Present;
        }
        self.follow()
    }

    /// What of a store cannot be, a line each.
    pub(super) fn check(&self, shown: &mut impl Shown) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut found: BTreeMap<String, u64> = shown.volumes().into_iter().collect();
        for (number, volume) in &self.volumes {
            let name = name(*number);
            match found.remove(&name) {
                Some(bytes) if bytes == volume.bytes() => wrong.extend(volume.check(&name, shown)),
                Some(bytes) => wrong.push(format!("{name} has {bytes} bytes instead of {}", volume.bytes())),
                None if volume.presence == Presence::Present => wrong.push(format!("{name} is gone")),
                None => {}
            }
        }
        wrong.extend(found.into_keys().map(|name| format!("{name} must not be there")));
        wrong
    }

    /// Follows the trace to its next mark, or to its end.
    fn follow(&mut self) -> Result<()> {
        self.next_mark = None;
        while let Some(event) = self.rest.next() {
            if let Event::Mark { number } = event {
                ensure!(!self.in_verb, "mark {number} stands within a verb");
                self.next_mark = Some(*number);
                break;
            }
            self.take(*event).with_context(|| format!("the trace at {event:?}"))?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Create { volume, sectors } => {
                ensure!(sectors <= SECTORS_MAX, "a volume that large is not expected");
                let sectors = vec![Values(vec![Value { op: 0, zeros: true }]); usize::try_from(sectors)?];
                self.appear(volume, sectors)
            }
            Event::Snapshot { origin: parent, volume } | Event::Clone { snapshot: parent, volume } => {
                let sectors = self.volume(parent)?.sectors.clone();
                self.appear(volume, sectors)
            }
            Event::Remove { volume } => {
                self.begin_verb()?;
                self.volume(volume)?.presence = Presence::Leaving;
                Ok(())
            }
            Event::Done => {
                self.in_verb = false;
                Ok(())
            }
            Event::Submit { .. } | Event::Flush { .. } => self.submit(event),
            Event::Ack { op } => self.acknowledge(op),
            Event::Killed => {
                // What had no answer may have happened or not: its values stay possible.
                self.pending.clear();
                Ok(())
            }
            Event::Ready | Event::Rested | Event::Closed => {
                let all = self.volumes.iter();
                let all = all.map(|(&volume, it)| Raise::UpTo { volume, count: it.acknowledged.len() });
                self.raises.extend(all);
                Ok(())
            }
            Event::Mark { .. } => bail!("a mark is no event of its own"),
        }
    }

    fn submit(&mut self, event: Event) -> Result<()> {
        let (op, pending) = match event {
            Event::Submit { op, change, volume, first, count, fua } => {
                let target = self.volume(volume)?;
                let sectors = usize::try_from(first)?..usize::try_from(first + count)?;
                let values = target.sectors.get_mut(sectors.clone()).context("beyond the end")?;
                for value in values {
                    value.0.push(Value { op, zeros: change != Change::Write });
                }
                (op, Pending::Change { volume, changed: Changed { op, sectors }, fua })
            }
            Event::Flush { op, volume } => {
                (op, Pending::Flush { volume, covers: self.volume(volume)?.acknowledged.len() })
            }
            _ => bail!("no request"),
        };
        ensure!(op != 0 && self.pending.insert(op, pending).is_none(), "request {op} is under way already");
        Ok(())
    }

    fn acknowledge(&mut self, op: OpNumber) -> Result<()> {
        match self.pending.remove(&op).context("an answer to no request")? {
            Pending::Flush { volume, covers } => self.raises.push(Raise::UpTo { volume, count: covers }),
            Pending::Change { volume, changed, fua } => {
                self.volume(volume)?.acknowledged.push(changed.clone());
                if fua {
                    self.raises.push(Raise::One { volume, changed });
                }
            }
        }
        Ok(())
    }

    fn begin_verb(&mut self) -> Result<()> {
        ensure!(!self.in_verb, "a verb within a verb");
        ensure!(self.pending.is_empty() && self.raises.is_empty(), "a verb without a mark before it");
        self.in_verb = true;
        Ok(())
    }

    fn appear(&mut self, volume: VolumeNumber, sectors: Vec<Values>) -> Result<()> {
        self.begin_verb()?;
        let made = Volume { presence: Presence::Appearing, sectors, acknowledged: Vec::new(), settled: 0 };
        ensure!(self.volumes.insert(volume, made).is_none(), "there is such a volume already");
        Ok(())
    }

    fn volume(&mut self, number: VolumeNumber) -> Result<&mut Volume> {
        self.volumes.get_mut(&number).with_context(|| format!("there is no {}", name(number)))
    }
}

impl Volume {
    fn bytes(&self) -> u64 {
        self.sectors.len() as u64 * SECTOR_BYTES as u64
    }

    /// A change is durable: what lay below it cannot come back.
    fn settle(&mut self, changed: &Changed) {
        for values in &mut self.sectors[changed.sectors.clone()] {
            if let Some(at) = values.0.iter().position(|value| value.op == changed.op) {
                values.0.drain(..at);
            }
        }
    }

    fn settle_up_to(&mut self, count: usize) {
        for index in self.settled..count {
            let changed = self.acknowledged[index].clone();
            self.settle(&changed);
        }
        self.settled = self.settled.max(count);
    }

    fn check(&self, name: &str, shown: &mut impl Shown) -> Option<String> {
        let mut first_wrong = None;
        let mut count = 0_usize;
        for (piece, values) in self.sectors.chunks(COMPARED_SECTORS).enumerate() {
            let start = piece * COMPARED_SECTORS;
            let bytes = match shown.read(name, (start * SECTOR_BYTES) as u64, values.len() * SECTOR_BYTES) {
                Ok(bytes) => bytes,
                Err(error) => return Some(format!("{name}: sector {start} cannot be read: {error}")),
            };
            for ((sector, values), at) in bytes.chunks(SECTOR_BYTES).zip(values).zip(start..) {
                let content = Content::of(sector);
                if !values.allow(content, at as u64) {
                    count += 1;
                    first_wrong.get_or_insert_with(|| {
                        format!("{name}: sector {at} holds {content:?}, and may hold {values}")
                    });
                }
            }
        }
        first_wrong.map(|text| match count {
            1 => text,
            _ => format!("{text}; and {} more sectors of {name}", count - 1),
        })
    }
}

impl Values {
    fn allow(&self, content: Content, at: u64) -> bool {
        match content {
            Content::Zeros => self.0.iter().any(|value| value.zeros),
            Content::Written(stamp) => {
                stamp.sector == at && self.0.iter().any(|value| !value.zeros && value.op == stamp.op)
            }
            Content::Foreign => false,
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |value: &Value| match (value.op, value.zeros) {
            (0, _) => "zeros".to_owned(),
            (op, true) => format!("zeros of {op}"),
            (op, false) => format!("the data of {op}"),
        };
        let all: Vec<String> = self.0.iter().map(one).collect();
        f.write_str(&all.join(" or "))
    }
}

#[cfg(test)]
mod tests;
