//! What the client did, in its order, one line each. The client writes it, the check reads it.
//!
//! Requests to volumes that are served are numbered. A mark in the trace stands in the log of the disk too: whatever
//! the trace tells above it had happened when the log had come that far.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, bail};

use super::pattern::OpNumber;

/// Number of a volume in the order of their making. Its name in the store is [`name`].
pub(super) type VolumeNumber = u32;

/// The name of a volume.
pub(super) fn name(volume: VolumeNumber) -> String {
    format!("v{volume}")
}

/// What a request does to its sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Writes the pattern.
    Write,
    /// Writes zeros.
    Zero,
    /// Says that the sectors are not needed, after which they read as zeros: whole blocks only.
    Trim,
}

/// A line of the trace. Positions and lengths are in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A verb starts: a new volume.
    Create { volume: VolumeNumber, sectors: u64 },
    /// A verb starts: a snapshot of a volume.
    Snapshot { origin: VolumeNumber, volume: VolumeNumber },
    /// A verb starts: a clone of a snapshot.
    Clone { snapshot: VolumeNumber, volume: VolumeNumber },
    /// A verb starts: a volume goes.
    Remove { volume: VolumeNumber },
    /// The verb that was started last has succeeded.
    Done,
    /// A request is about to be sent that changes sectors.
    Submit { op: OpNumber, change: Change, volume: VolumeNumber, first: u64, count: u64, fua: bool },
    /// A FLUSH is about to be sent.
    Flush { op: OpNumber, volume: VolumeNumber },
    /// A request has succeeded.
    Ack { op: OpNumber },
    /// The server has opened the store.
    Ready,
    /// For longer than a second nothing was asked, and before that everything had been answered.
    Rested,
    /// The server has ended in order.
    Closed,
    /// The server was killed. What is not acknowledged by now never will be.
    Killed,
    /// Here stands a mark of this number in the log.
    Mark { number: u32 },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { volume, sectors } => write!(f, "create {volume} {sectors}"),
            Self::Snapshot { origin, volume } => write!(f, "snapshot {origin} {volume}"),
            Self::Clone { snapshot, volume } => write!(f, "clone {snapshot} {volume}"),
            Self::Remove { volume } => write!(f, "remove {volume}"),
            Self::Done => f.write_str("done"),
            Self::Submit { op, change, volume, first, count, fua } => {
                let verb = match change {
                    Change::Write => "write",
                    Change::Zero => "zero",
                    Change::Trim => "trim",
                };
                write!(f, "{verb} {op} {volume} {first} {count} {}", u8::from(*fua))
            }
            Self::Flush { op, volume } => write!(f, "flush {op} {volume}"),
            Self::Ack { op } => write!(f, "ack {op}"),
            Self::Ready => f.write_str("ready"),
            Self::Rested => f.write_str("rested"),
            Self::Closed => f.write_str("closed"),
            Self::Killed => f.write_str("killed"),
            Self::Mark { number } => write!(f, "mark {number}"),
        }
    }
}

impl FromStr for Event {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default();
        let numbers: Result<Vec<u64>, _> = words.map(str::parse).collect();
        let numbers = numbers.with_context(|| format!("line of the trace: {line:?}"))?;
        let small = |at: usize| u32::try_from(numbers[at]);
        let submit = |change| -> Result<Self, Error> {
            let (first, count) = (numbers[2], numbers[3]);
            Ok(Self::Submit { op: small(0)?, change, volume: small(1)?, first, count, fua: numbers[4] != 0 })
        };
        Ok(match (verb, numbers.len()) {
            ("create", 2) => Self::Create { volume: small(0)?, sectors: numbers[1] },
            ("snapshot", 2) => Self::Snapshot { origin: small(0)?, volume: small(1)? },
            ("clone", 2) => Self::Clone { snapshot: small(0)?, volume: small(1)? },
            ("remove", 1) => Self::Remove { volume: small(0)? },
            ("done", 0) => Self::Done,
            ("write", 5) => submit(Change::Write)?,
            ("zero", 5) => submit(Change::Zero)?,
            ("trim", 5) => submit(Change::Trim)?,
            ("flush", 2) => Self::Flush { op: small(0)?, volume: small(1)? },
            ("ack", 1) => Self::Ack { op: small(0)? },
            ("ready", 0) => Self::Ready,
            ("rested", 0) => Self::Rested,
            ("closed", 0) => Self::Closed,
            ("killed", 0) => Self::Killed,
            ("mark", 1) => Self::Mark { number: small(0)? },
            _ => bail!("line of the trace: {line:?}"),
        })
    }
}

/// Reads a trace. Its text ends at the first byte that is zero.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Event>, Error> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).context("the trace is no text")?;
    text.lines().map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let submit = |change, fua| Event::Submit { op: 9, change, volume: 2, first: 8, count: 16, fua };
        let events = [
            Event::Create { volume: 0, sectors: 8192 },
            Event::Snapshot { origin: 0, volume: 1 },
            Event::Clone { snapshot: 1, volume: 2 },
            Event::Done,
            Event::Ready,
            submit(Change::Write, false),
            submit(Change::Zero, true),
            submit(Change::Trim, false),
            Event::Flush { op: 10, volume: 2 },
            Event::Ack { op: 9 },
            Event::Rested,
            Event::Closed,
            Event::Killed,
            Event::Mark { number: 3 },
            Event::Remove { volume: 2 },
        ];
        let text: String = events.iter().map(|event| format!("{event}\n")).collect();
        assert_eq!(parse((text + "\0\0rest").as_bytes()).unwrap(), events);
    }

    #[test]
    fn what_is_no_trace_is_an_error() {
        for bad in ["write 1 2 3", "ack", "ack x", "ack 4294967296", "fly 1", "\u{1}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(&[0xff]).is_err());
        assert_eq!(parse(&[]).unwrap(), []);
    }
}
