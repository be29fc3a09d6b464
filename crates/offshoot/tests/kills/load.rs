//! Clients at work: requests chosen by a seed, several under way, every reply entered into the model.
//!
//! The order of the requests depends on the seed alone: one that overlaps another under way waits, and the ones behind
//! it wait with it. How far the order gets before the kill is a matter of timing.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{
    CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, Connection,
    PATIENCE, Reply, Request,
};
use crate::ground::Ground;
use crate::model::Model;
use crate::random::Random;
use crate::stamp::{Content, SECTOR, payload};

/// Sectors of a block, the unit in which trims are promised to read zeros.
const BLOCK: usize = 8;

/// Reads under way at a time: a client that does not take its replies must not be able to stop itself.
const READS_MAX: usize = 4;

/// What goes on in one session, from connecting to the end of the server.
#[derive(Debug)]
pub(crate) struct Load<'s> {
    model: &'s mut Model,
    /// The writable lvols.
    exports: Vec<(String, Connection)>,
    random: Random,
    /// Requests under way at a time.
    depth: usize,
    /// Number of the last write of the campaign.
    writes: &'s mut u64,
    cookies: u64,
    in_flight: BTreeMap<u64, Job>,
    replies: usize,
    /// How many changes were acknowledged in this session: its clock.
    acknowledged: u64,
    /// Acknowledged changes that no flush covers yet: export and time.
    unflushed: Vec<(usize, u64)>,
    flushed: u64,
    wrong: Vec<String>,
}

/// What a session has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Changes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Those of them that a completed flush covers, or that were sent with FUA.
    pub(crate) flushed: u64,
    /// What was wrong.
    pub(crate) wrong: Vec<String>,
}

/// A request to one of the exports.
#[derive(Clone, Debug)]
struct Job {
    export: usize,
    action: Action,
    sectors: Range<usize>,
    flags: u16,
    /// The clock when it was sent.
    sent_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Write(u64),
    Zero,
    Trim,
    Read,
    Flush,
}

impl Action {
    /// What the sectors hold afterwards, if it changes them.
    fn content(self) -> Option<Content> {
        match self {
            Self::Write(number) => Some(Content::Write(number)),
            Self::Zero | Self::Trim => Some(Content::Zeros),
            Self::Read | Self::Flush => None,
        }
    }
}

impl<'s> Load<'s> {
    /// Connects to all writable lvols.
    pub(crate) fn connect(
        ground: &Ground,
        model: &'s mut Model,
        mut random: Random,
        writes: &'s mut u64,
    ) -> Result<Self> {
        model.begin_session();
        let writable = model.lvols.iter().filter(|(_, lvol)| !lvol.read_only);
        let exports = writable.map(|(name, _)| {
            let connection =
                Connection::open(&ground.socket, name).with_context(|| format!("export {name}"))?;
            Ok((name.clone(), connection))
        });
        let exports = exports.collect::<Result<_>>()?;
        let depth = random.magnitude(6);
        Ok(Self {
            model,
            exports,
            random,
            depth,
            writes,
            cookies: 0,
            in_flight: BTreeMap::new(),
            replies: 0,
            acknowledged: 0,
            unflushed: Vec::new(),
            flushed: 0,
            wrong: Vec::new(),
        })
    }

    /// Sends requests until so many replies have come.
    pub(crate) fn run(&mut self, replies: usize) -> Result<()> {
        loop {
            let job = self.choose();
            while !self.admits(&job) {
                self.receive()?;
            }
            if self.replies >= replies {
                return Ok(());
            }
            self.send(job)?;
        }
    }

    /// Takes the replies that a server had sent before it died. What is under way then stays so in the model.
    pub(crate) fn finish(mut self) -> Result<Seen> {
        for export in 0..self.exports.len() {
            while self.exports[export].1.fill()? {}
            self.take_replies(export)?;
        }
        Ok(Seen { acknowledged: self.acknowledged, flushed: self.flushed, wrong: self.wrong })
    }

    fn choose(&mut self) -> Job {
        let random = &mut self.random;
        let export = random.below(self.exports.len());
        let lvol = &self.model.lvols[&self.exports[export].0];
        // Half of it all goes to an eighth of the lvol, so that much is overwritten.
        let reach = if random.percent(50) { lvol.len() / 8 } else { lvol.len() };
        let first = random.below(reach);
        let run = |first: usize, len: usize| first..(first + len).min(lvol.len());
        let block = first - first % BLOCK;
        let (action, sectors) = match random.below(100) {
            0..50 => (CMD_WRITE, run(block, BLOCK)),
            50..62 => (CMD_WRITE, run(first, 1)),
            62..70 => (CMD_WRITE, run(first, random.magnitude(7))),
            70..78 => (CMD_WRITE_ZEROES, run(first, random.magnitude(9))),
            78..86 if lvol.thin => (CMD_TRIM, run(block, random.magnitude(6) * BLOCK)),
            78..96 => (CMD_READ, run(first, random.magnitude(6))),
            _ => (CMD_FLUSH, 0..0),
        };
        let action = match action {
            CMD_WRITE => {
                *self.writes += 1;
                Action::Write(*self.writes)
            }
            CMD_WRITE_ZEROES => Action::Zero,
            CMD_TRIM => Action::Trim,
            CMD_READ => Action::Read,
            _ => Action::Flush,
        };
        let mut flags = 0;
        if action.content().is_some() && random.percent(5) {
            flags |= CMD_FLAG_FUA;
        }
        if action == Action::Zero && random.percent(30) {
            flags |= CMD_FLAG_NO_HOLE;
        }
        Job { export, action, sectors, flags, sent_at: 0 }
    }

    /// Whether a request may be sent now. Two that overlap have no order, so they are never under way together.
    fn admits(&self, job: &Job) -> bool {
        let overlaps = |other: &Job| {
            other.export == job.export
                && other.sectors.start < job.sectors.end
                && job.sectors.start < other.sectors.end
        };
        let is_read = |other: &&Job| other.action == Action::Read;
        self.in_flight.len() < self.depth
            && !self.in_flight.values().any(overlaps)
            && (job.action != Action::Read || self.in_flight.values().filter(is_read).count() < READS_MAX)
    }

    fn send(&mut self, mut job: Job) -> Result<()> {
        job.sent_at = self.acknowledged;
        self.cookies += 1;
        let (first, len) = (job.sectors.start, job.sectors.len());
        let (name, connection) = &mut self.exports[job.export];
        if let Some(content) = job.action.content() {
            self.model.lvol(name).send(job.sectors.clone(), content);
        }
        let (command, payload) = match job.action {
            Action::Write(number) => (CMD_WRITE, payload(number, first, len)),
            Action::Zero => (CMD_WRITE_ZEROES, Vec::new()),
            Action::Trim => (CMD_TRIM, Vec::new()),
            Action::Read => (CMD_READ, Vec::new()),
            Action::Flush => (CMD_FLUSH, Vec::new()),
        };
        let request = Request {
            cookie: self.cookies,
            command,
            flags: job.flags,
            offset: (first * SECTOR) as u64,
            len: u32::try_from(len * SECTOR)?,
            payload: &payload,
        };
        connection.send(&request).context("the server took no request")?;
        self.in_flight.insert(self.cookies, job);
        Ok(())
    }

    /// Waits for replies.
    fn receive(&mut self) -> Result<()> {
        let connections = self.exports.iter().map(|(_, connection)| connection);
        let mut fds: Vec<PollFd<'_>> =
            connections.map(|connection| PollFd::new(connection, PollFlags::IN)).collect();
        ensure!(poll(&mut fds, Some(&Timespec::try_from(PATIENCE)?))? > 0, "no reply after {PATIENCE:?}");
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (export, _) in ready.into_iter().enumerate().filter(|(_, is_ready)| *is_ready) {
            if !self.exports[export].1.fill()? {
                bail!("the server hung up");
            }
            self.take_replies(export)?;
        }
        Ok(())
    }

    /// Enters the replies that have arrived from an export.
    fn take_replies(&mut self, export: usize) -> Result<()> {
        let data_len = |jobs: &BTreeMap<u64, Job>, cookie| {
            let job = jobs.get(&cookie).filter(|job| job.action == Action::Read);
            job.map_or(0, |job| job.sectors.len() * SECTOR)
        };
        while let Some(reply) = {
            let in_flight = &self.in_flight;
            self.exports[export].1.reply(|cookie| data_len(in_flight, cookie))?
        } {
            let job = self.in_flight.remove(&reply.cookie).context("a reply to no request")?;
            ensure!(job.export == export, "a reply on the wrong connection: {job:?}");
            self.complete(&job, &reply);
        }
        Ok(())
    }

    fn complete(&mut self, job: &Job, reply: &Reply) {
        self.replies += 1;
        let name = &self.exports[job.export].0;
        if reply.error != 0 {
            self.wrong.push(format!("{name}: error {} for {job:?}", reply.error));
            return;
        }
        let lvol = self.model.lvol(name);
        match job.action {
            Action::Read => {
                let mismatches = lvol.compare(job.sectors.start, &reply.data);
                self.wrong
                    .extend(mismatches.iter().map(|mismatch| format!("{name}: {mismatch} while serving")));
            }
            Action::Flush => {
                lvol.flush(job.sent_at);
                let before = self.unflushed.len();
                self.unflushed.retain(|(export, at)| *export != job.export || *at > job.sent_at);
                self.flushed += (before - self.unflushed.len()) as u64;
            }
            Action::Write(_) | Action::Zero | Action::Trim => {
                self.acknowledged += 1;
                if job.flags & CMD_FLAG_FUA == 0 {
                    lvol.acknowledge(job.sectors.clone(), self.acknowledged);
                    self.unflushed.push((job.export, self.acknowledged));
                } else {
                    lvol.acknowledge(job.sectors.clone(), 0);
                    self.flushed += 1;
                }
            }
        }
    }
}
