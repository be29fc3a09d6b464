//! Rounds of verbs, load and kills on one store, each ending in a comparison of everything with the model.

use std::fmt;
use std::hint::spin_loop;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::client::{CMD_READ, Connection, Request};
use crate::ground::{Ground, Medium};
use crate::listing::Entry;
use crate::load::Load;
use crate::model::{Lvol, Model};
use crate::process::{self, Ending, Server};
use crate::random::{Part, Random};
use crate::stamp::SECTOR;
use crate::verbs::Verb;

/// Verbs between two servers, at most.
const VERBS_MAX: usize = 3;

/// A kill comes after up to 2^12 replies, and then up to 2^11 microseconds.
const REPLIES_BITS: u32 = 12;
const PAUSE_BITS: u32 = 11;

/// Sectors of one read when a whole lvol is read.
const READ_SECTORS: usize = 128;

/// What a campaign has done and seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Processes that were killed, servers and commands.
    kills: u64,
    /// Writes, zeroings and trims that were acknowledged.
    acknowledged: u64,
    /// Those of them that a flush covered.
    flushed: u64,
    /// Management verbs, whole or killed.
    verbs: u64,
    /// What was wrong.
    pub(crate) violations: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, acknowledged, flushed, verbs, violations } = self;
        let violations = violations.len();
        write!(
            f,
            "kills={kills} acknowledged={acknowledged} flushed={flushed} verbs={verbs} violations={violations}"
        )
    }
}

/// A store, and what it must hold.
#[derive(Debug)]
pub(crate) struct Campaign {
    pub(crate) ground: Ground,
    seed: u64,
    model: Model,
    /// Number of the last write.
    writes: u64,
    /// How long a verb and the start of a server take when nobody kills them. Kills are aimed by these.
    verb_time: Duration,
    start_time: Duration,
    summary: Summary,
}

impl Campaign {
    /// Makes a store with some lvols. `None`, after a skip, where the medium is not to be had.
    pub(crate) fn new(medium: Medium, seed: u64) -> Result<Option<Self>> {
        let mut random = Random::new(seed, Part::Store, medium as u64);
        let block_bytes = *random.pick(&[512, 4096]);
        let cluster_size = *random.pick(&["16K", "64K", "256K"]);
        let Some(ground) = Ground::new(medium, block_bytes)? else {
            return Ok(None);
        };
        let block_size = format!("--block-size={block_bytes}");
        process::succeed(&ground, "init", &["--name", "lvs", "--cluster-size", cluster_size, &block_size])?;
        let mut campaign = Self {
            ground,
            seed,
            model: Model::default(),
            writes: 0,
            verb_time: Duration::from_millis(20),
            start_time: Duration::from_millis(20),
            summary: Summary::default(),
        };
        for name in ["v0", "v1", "v2"] {
            let sectors = (1 << 20) / SECTOR;
            campaign.verb(&Verb::Create { name: name.to_owned(), sectors, thick: false }, None)?;
        }
        Ok(Some(campaign))
    }

    /// Goes through `count` rounds, or up to the first one after which there is no going on.
    pub(crate) fn run(mut self, count: u64) -> Summary {
        for number in 0..count {
            let before = self.summary.violations.len();
            let outcome = self.round(number);
            let is_over = outcome.is_err();
            if let Err(error) = outcome {
                self.summary.violations.push(format!("{error:#}"));
            }
            let violations = &mut self.summary.violations[before..];
            violations.iter_mut().for_each(|text| *text = format!("round {number}: {text}"));
            if let (true, Some(last)) = (is_over, violations.last_mut()) {
                *last += &format!("; the store is kept in {}", self.ground.keep().display());
                break;
            }
        }
        self.summary
    }

    fn round(&mut self, number: u64) -> Result<()> {
        let mut course = Random::new(self.seed, Part::Course, number);
        self.churn(number)?;
        if course.percent(25) {
            self.kill_starting(&mut course)?;
        }
        self.serve_and_kill(number, &mut course)?;
        // What comes first after a kill, a server or commands that only look, must make no difference.
        if course.percent(50) {
            let server = Server::start(&self.ground)?;
            self.compare_served()?;
            if course.percent(50) {
                server.stop()?;
            } else {
                server.kill()?;
                self.summary.kills += 1;
            }
        }
        self.compare_at_rest()
    }

    /// Runs some verbs, and kills most of them on their way.
    fn churn(&mut self, number: u64) -> Result<()> {
        let mut random = Random::new(self.seed, Part::Verbs, number);
        for _ in 0..random.between(0, VERBS_MAX) {
            let kill_after = random.percent(60).then(|| aim(&mut random, self.verb_time));
            let verb = Verb::choose(&mut random, &self.model);
            self.verb(&verb, kill_after).with_context(|| format!("{verb:?}"))?;
        }
        Ok(())
    }

    /// Runs a verb. All of it must have happened; if it was killed, all or nothing.
    fn verb(&mut self, verb: &Verb, kill_after: Option<Duration>) -> Result<()> {
        let mut model = self.model.clone();
        verb.apply(&mut model);
        let (command, args) = verb.words();
        self.summary.verbs += 1;
        let ending = match kill_after {
            Some(after) => process::run_and_kill(&self.ground, command, &args, after)?,
            None => {
                let begin = Instant::now();
                let output = process::run(&self.ground, command, &args)?;
                self.verb_time = (self.verb_time + begin.elapsed()) / 2;
                Ending::Finished(output)
            }
        };
        let listed = self.listing()?;
        let (is_done, is_undone) =
            (listed == Entry::of_model(&model), listed == Entry::of_model(&self.model));
        match ending {
            Ending::Finished(output) => {
                ensure!(output.status.success(), "refused: {}", process::ending(&output));
                ensure!(is_done, "returned success, and is not done (D5): {listed:?}");
            }
            Ending::Killed => {
                self.summary.kills += 1;
                ensure!(is_done || is_undone, "killed, and neither done nor undone (D5): {listed:?}");
            }
        }
        if is_done {
            self.model = model;
        }
        Ok(())
    }

    /// Kills a server before or shortly after it is ready.
    fn kill_starting(&mut self, course: &mut Random) -> Result<()> {
        let after = aim(course, self.start_time);
        let server = Server::spawn(&self.ground)?;
        std::thread::sleep(after);
        self.summary.kills += 1;
        server.kill()
    }

    /// Serves the store, compares all of it, puts it under load, and kills the server in the middle of that.
    fn serve_and_kill(&mut self, number: u64, course: &mut Random) -> Result<()> {
        let begin = Instant::now();
        let server = Server::start(&self.ground)?;
        self.start_time = (self.start_time + begin.elapsed()) / 2;
        self.compare_served()?;
        let random = Random::new(self.seed, Part::Load, number);
        let mut load = Load::connect(&self.ground, &mut self.model, random, &mut self.writes)?;
        let (replies, pause) = (course.magnitude(REPLIES_BITS), course.magnitude(PAUSE_BITS));
        load.run(replies).with_context(|| format!("under load; the log says \"{}\"", server.complaint()))?;
        wait(Duration::from_micros(pause as u64));
        server.kill()?;
        self.summary.kills += 1;
        let seen = load.finish()?;
        self.summary.acknowledged += seen.acknowledged;
        self.summary.flushed += seen.flushed;
        self.summary.violations.extend(seen.wrong);
        Ok(())
    }

    /// Compares what a server gives with the model.
    fn compare_served(&mut self) -> Result<()> {
        for (name, lvol) in &mut self.model.lvols {
            let mut connection =
                Connection::open(&self.ground.socket, name).with_context(|| format!("export {name}"))?;
            ensure!(
                connection.read_only == lvol.read_only,
                "export {name}: read-only is {}",
                connection.read_only
            );
            ensure!(connection.size_bytes == lvol.bytes(), "export {name}: {} bytes", connection.size_bytes);
            let violations = &mut self.summary.violations;
            for first in (0..lvol.len()).step_by(READ_SECTORS) {
                let data = read(&mut connection, first, READ_SECTORS.min(lvol.len() - first))
                    .with_context(|| format!("export {name}, sector {first}"))?;
                compare(violations, name, lvol, first, &data, "served");
            }
        }
        Ok(())
    }

    /// Compares what the commands say with the model. They find the store as it is, and write nothing.
    pub(crate) fn compare_at_rest(&mut self) -> Result<()> {
        let report: Value = serde_json::from_slice(&process::succeed(&self.ground, "check", &["--json"])?)?;
        ensure!(report["damage"].as_array().is_some_and(Vec::is_empty), "check: {report}");
        let listed = self.listing()?;
        ensure!(listed == Entry::of_model(&self.model), "the listing is another one: {listed:?}");
        for (name, lvol) in &mut self.model.lvols {
            let data = process::succeed(&self.ground, "export", &[name, "-"])?;
            ensure!(data.len() as u64 == lvol.bytes(), "export of {name}: {} bytes", data.len());
            compare(&mut self.summary.violations, name, lvol, 0, &data, "exported");
        }
        Ok(())
    }

    fn listing(&self) -> Result<Vec<Entry>> {
        let json = process::succeed(&self.ground, "ls", &["--json"])?;
        Entry::parse(&String::from_utf8(json)?)
    }
}

/// A moment of something that takes this long, or a little later.
fn aim(random: &mut Random, takes: Duration) -> Duration {
    takes * u32::try_from(random.below(120)).unwrap_or(0) / 100
}

/// Waits more exactly than `sleep` does.
fn wait(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        spin_loop();
    }
}

fn compare(violations: &mut Vec<String>, name: &str, lvol: &mut Lvol, first: usize, data: &[u8], how: &str) {
    let mismatches = lvol.compare(first, data);
    violations.extend(mismatches.iter().map(|mismatch| format!("{name}, {how}: {mismatch}")));
}

/// Reads some sectors with nothing else under way.
fn read(connection: &mut Connection, first: usize, sectors: usize) -> Result<Vec<u8>> {
    let bytes = sectors * SECTOR;
    let offset = (first * SECTOR) as u64;
    let len = u32::try_from(bytes)?;
    connection.send(&Request { cookie: offset, command: CMD_READ, flags: 0, offset, len, payload: &[] })?;
    loop {
        match connection.reply(|_| bytes)? {
            Some(reply) if reply.error == 0 && reply.cookie == offset => return Ok(reply.data),
            Some(reply) => bail!("error {} for request {}", reply.error, reply.cookie),
            None => ensure!(connection.fill()?, "the server hung up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A check that cannot fail is no check: this store loses everything since its copy was made.
    #[test]
    fn a_store_that_forgets_is_noticed() {
        let mut campaign = Campaign::new(Medium::File, 1).unwrap().expect("files can be had");
        let store = campaign.ground.store.clone();
        let old = store.with_extension("old");
        fs::copy(&store, &old).unwrap();
        campaign.serve_and_kill(0, &mut Random::new(1, Part::Course, 0)).unwrap();
        assert!(campaign.summary.acknowledged > 0);
        fs::rename(&old, &store).unwrap();
        campaign.compare_at_rest().unwrap();
        let violations = &campaign.summary.violations;
        assert!(violations.iter().any(|text| text.contains("lost, zeros found")), "{violations:?}");

        // And a verb that is forgotten.
        fs::copy(&store, &old).unwrap();
        campaign.verb(&Verb::Remove("v0".to_owned()), None).unwrap();
        fs::rename(&old, &store).unwrap();
        let error = campaign.compare_at_rest().unwrap_err();
        assert!(error.to_string().contains("the listing is another one"), "{error}");
    }
}
