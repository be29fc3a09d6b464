//! Clients at work on the volumes that are served: writes, zeros and trims of all sizes, with FLUSH and FUA, several
//! requests under way, never two of them for the same sectors.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::super::pattern::{OpNumber, SECTOR_BYTES, Stamp};
use super::super::rng::Rng;
use super::super::trace::{Change, Event, VolumeNumber, name};
use super::Recorder;
use super::client::{Answer, Command, Connection};
use crate::guest::server::SOCKET;

/// Requests under way, over all volumes.
const DEPTH: usize = 12;

/// Sectors per block, the unit in which a store keeps what is written.
const BLOCK: u64 = 8;

/// A pause after which everything acknowledged before it has to be durable. The promise is one second; the guest is
/// emulated on a machine that may be busy.
const REST: Duration = Duration::from_secs(4);

/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The requests under way, and who is to answer them.
pub(super) struct Work<'a> {
    rng: &'a mut Rng,
    recorder: &'a mut Recorder,
    next_op: &'a mut u32,
    connections: BTreeMap<VolumeNumber, Connection>,
    answers: Receiver<Answer>,
    pending: HashMap<OpNumber, Pending>,
}

#[derive(Debug)]
enum Pending {
    Change { volume: VolumeNumber, sectors: Range<u64>, fua: bool },
    Flush,
}

impl<'a> Work<'a> {
    /// Connects to volumes.
    pub(super) fn begin(
        rng: &'a mut Rng,
        recorder: &'a mut Recorder,
        next_op: &'a mut u32,
        volumes: &[VolumeNumber],
    ) -> Result<Self> {
        let (sender, answers) = channel();
        let connect = |&volume: &VolumeNumber| {
            Ok((volume, Connection::open(Path::new(SOCKET), &name(volume), sender.clone())?))
        };
        let connections = volumes.iter().map(connect).collect::<Result<_>>()?;
        Ok(Self { rng, recorder, next_op, connections, answers, pending: HashMap::new() })
    }

    /// Works for a while.
    pub(super) fn go_on(&mut self, volume_bytes: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_millis(500 + self.rng.below(3500));
        if self.rng.percent(25) {
            self.go_on_until(Instant::now() + Duration::from_millis(500), volume_bytes)?;
            self.rest()?;
        }
        self.go_on_until(end, volume_bytes)
    }

    /// Waits for all answers and says goodbye.
    pub(super) fn finish(mut self) -> Result<()> {
        self.drain()?;
        self.connections.into_values().try_for_each(Connection::disconnect)
    }

    /// The server was killed: the answers that it gave before count, no others will come.
    pub(super) fn abandon(self) {
        drop(self.connections);
        for (op, error) in &self.answers {
            if error == 0 && self.pending.contains_key(&op) {
                self.recorder.tell(Event::Ack { op });
            }
        }
    }

    fn go_on_until(&mut self, end: Instant, volume_bytes: u64) -> Result<()> {
        while Instant::now() < end {
            if self.pending.len() >= DEPTH || self.rng.percent(10) {
                self.answer()?;
            } else if self.rng.percent(6) {
                self.flush()?;
            } else {
                self.change(volume_bytes / SECTOR_BYTES as u64)?;
            }
        }
        Ok(())
    }

    /// Leaves the server alone for a while.
    fn rest(&mut self) -> Result<()> {
        self.drain()?;
        thread::sleep(REST);
        self.recorder.tell(Event::Rested);
        self.recorder.mark()
    }

    fn drain(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.answer()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let volume = self.volume();
        let op = self.op();
        self.recorder.tell(Event::Flush { op, volume });
        self.pending.insert(op, Pending::Flush);
        self.connection(volume)?.send(op, Command::Flush, false, 0, 0, &[])
    }

    fn change(&mut self, volume_sectors: u64) -> Result<()> {
        let volume = self.volume();
        let change = match self.rng.below(10) {
            0 => Change::Zero,
            1 => Change::Trim,
            _ => Change::Write,
        };
        let sectors = self.sectors(change, volume_sectors);
        if self.is_busy(volume, &sectors) {
            return Ok(());
        }
        let op = self.op();
        let (first, count) = (sectors.start, sectors.end - sectors.start);
        let fua = self.rng.percent(8);
        self.recorder.tell(Event::Submit { op, change, volume, first, count, fua });
        self.pending.insert(op, Pending::Change { volume, sectors: sectors.clone(), fua });
        let len = usize::try_from(count)? * SECTOR_BYTES;
        let mut payload = vec![0; if change == Change::Write { len } else { 0 }];
        for (bytes, sector) in payload.chunks_mut(SECTOR_BYTES).zip(sectors) {
            Stamp { op, volume, sector }.fill(bytes);
        }
        let command = match change {
            Change::Write => Command::Write,
            Change::Zero => Command::WriteZeroes,
            Change::Trim => Command::Trim,
        };
        self.connection(volume)?.send(op, command, fua, first * SECTOR_BYTES as u64, len, &payload)
    }

    /// Where to change something. Half of it goes to a few places, so that blocks are written again and again.
    fn sectors(&mut self, change: Change, volume_sectors: u64) -> Range<u64> {
        let blocks = volume_sectors / BLOCK;
        let block =
            if self.rng.percent(50) { self.rng.below(32) * (blocks / 32) } else { self.rng.below(blocks) };
        let (first, count) = match self.rng.below(10) {
            // Trims are of whole blocks: what they do to parts of blocks is nobody's promise.
            0..=2 if change != Change::Trim => {
                (block * BLOCK + self.rng.below(BLOCK), 1 + self.rng.below(12))
            }
            3 | 4 => (block * BLOCK, BLOCK * (1 + self.rng.below(16))),
            5 if change != Change::Write => (block * BLOCK, BLOCK * 64),
            _ => (block * BLOCK, BLOCK),
        };
        first..(first + count).min(volume_sectors)
    }

    fn is_busy(&self, volume: VolumeNumber, sectors: &Range<u64>) -> bool {
        self.pending.values().any(|pending| match pending {
            Pending::Change { volume: other, sectors: taken, .. } => {
                *other == volume && taken.start < sectors.end && sectors.start < taken.end
            }
            Pending::Flush => false,
        })
    }

    /// Takes an answer, and now and then leaves a mark behind one that promised something.
    fn answer(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (op, error) = self.answers.recv_timeout(PATIENCE).context("the server does not answer")?;
        let Some(pending) = self.pending.remove(&op) else {
            bail!("the server answers request {op}, which was not made, with error {error}");
        };
        if error != 0 {
            bail!("the server answers request {op} with error {error}");
        }
        self.recorder.tell(Event::Ack { op });
        let chance = match pending {
            Pending::Flush => 60,
            Pending::Change { fua: true, .. } => 15,
            Pending::Change { .. } => 0,
        };
        if self.rng.percent(chance) { self.recorder.mark() } else { Ok(()) }
    }

    fn op(&mut self) -> OpNumber {
        let op = *self.next_op;
        *self.next_op += 1;
        op
    }

    fn volume(&mut self) -> VolumeNumber {
        let volumes: Vec<VolumeNumber> = self.connections.keys().copied().collect();
        self.rng.pick(&volumes)
    }

    fn connection(&mut self, volume: VolumeNumber) -> Result<&mut Connection> {
        self.connections.get_mut(&volume).context("a volume that is not connected")
    }
}
