//! The part that runs inside the guest: it makes volumes, serves them, writes to them, stops or kills the server and
//! starts again, and keeps a trace of all that.

mod client;
mod work;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::rng::Rng;
use super::trace::{Event, VolumeNumber, name};
use crate::guest::server::{Server, run};
use work::Work;

/// Name under which device mapper knows the store's disk.
const DISK: &str = "logged";

const VOLUME_BYTES: u64 = 4 << 20;
const VOLUMES_MAX: usize = 10;
const WRITABLE_MAX: usize = 4;

/// What to do, and with what.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Determines what is drawn. What happens depends on the machine as well.
    pub(super) seed: u64,
    /// For how long.
    pub(super) duration: Duration,
    /// The disk with the store, which is made already and empty.
    pub(super) store: PathBuf,
    /// Where to leave the trace.
    pub(super) trace: PathBuf,
}

/// Does it.
///
/// # Errors
/// A verb or a request failed. The trace tells how far it came.
pub(super) fn go(options: &Options) -> Result<()> {
    let mut session = Session {
        rng: Rng::new(options.seed),
        store: options.store.clone(),
        recorder: Recorder::default(),
        volumes: Vec::new(),
        made: 0,
        next_op: 1,
    };
    let outcome = session.run(options.duration);
    session.recorder.save(&options.trace)?;
    outcome
}

/// Writes down what happens.
#[derive(Debug, Default)]
struct Recorder {
    text: String,
    marks: u32,
}

impl Recorder {
    fn tell(&mut self, event: Event) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{event}");
    }

    /// Leaves a mark here and in the log of the disk.
    fn mark(&mut self) -> Result<()> {
        self.marks += 1;
        self.tell(Event::Mark { number: self.marks });
        run("dmsetup", &["message", DISK, "0", "mark", &self.marks.to_string()])
    }

    fn save(&self, path: &Path) -> Result<()> {
        let write = || {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.write_all(self.text.as_bytes())?;
            file.write_all(&[0])?;
            file.sync_all()
        };
        write().with_context(|| path.display().to_string())
    }
}

/// A volume of the store.
#[derive(Clone, Copy, Debug)]
struct Volume {
    number: VolumeNumber,
    is_snapshot: bool,
    parent: Option<VolumeNumber>,
}

struct Session {
    rng: Rng,
    store: PathBuf,
    recorder: Recorder,
    volumes: Vec<Volume>,
    /// How many volumes were ever made.
    made: VolumeNumber,
    next_op: u32,
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    InOrder,
    Killed,
}

impl Session {
    fn run(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        self.recorder.mark()?;
        self.create()?;
        self.create()?;
        let mut last = End::InOrder;
        while Instant::now() < end || last == End::Killed {
            if last == End::InOrder {
                for _ in 0..=self.rng.below(2) {
                    self.verb()?;
                }
            }
            last = if Instant::now() < end && self.rng.percent(35) { End::Killed } else { End::InOrder };
            self.serve(last)?;
        }
        Ok(())
    }

    /// A server's life, with clients.
    fn serve(&mut self, end: End) -> Result<()> {
        let server = Server::start(&[self.store.to_str().context("a path that is no text")?])?;
        self.recorder.tell(Event::Ready);
        self.recorder.mark()?;
        let writable: Vec<VolumeNumber> = self.writable().collect();
        let mut work = Work::begin(&mut self.rng, &mut self.recorder, &mut self.next_op, &writable)?;
        work.go_on(VOLUME_BYTES)?;
        match end {
            End::InOrder => {
                work.finish()?;
                server.stop()?;
                self.recorder.tell(Event::Closed);
            }
            End::Killed => {
                server.kill()?;
                work.abandon();
                self.recorder.tell(Event::Killed);
            }
        }
        self.recorder.mark()
    }

    fn verb(&mut self) -> Result<()> {
        let room = self.volumes.len() < VOLUMES_MAX;
        let writable = self.writable().count();
        match self.rng.below(8) {
            0 | 1 if room && writable < WRITABLE_MAX => self.create(),
            2 | 3 if room => self.snapshot(),
            4 | 5 if room && writable < WRITABLE_MAX => self.clone_snapshot(),
            6 | 7 if self.volumes.len() > 2 => self.remove(),
            _ => Ok(()),
        }
    }

    fn create(&mut self) -> Result<()> {
        let volume = self.new_volume(false, None);
        let thick = self.rng.percent(30);
        let (name, size) = (name(volume.number), VOLUME_BYTES.to_string());
        let event = Event::Create { volume: volume.number, sectors: VOLUME_BYTES / 512 };
        let args: &[&str] = if thick { &[&name, &size, "--thick"] } else { &[&name, &size] };
        self.volumes.push(volume);
        self.verb_is(event, "create", args)
    }

    fn snapshot(&mut self) -> Result<()> {
        let writable: Vec<VolumeNumber> = self.writable().collect();
        let origin = self.rng.pick(&writable);
        let Some(index) = self.volumes.iter().position(|volume| volume.number == origin) else {
            return Ok(());
        };
        // The snapshot comes between its origin and the parent that this had.
        let volume = self.new_volume(true, self.volumes[index].parent);
        self.volumes[index].parent = Some(volume.number);
        self.volumes.push(volume);
        let argument = format!("{}={}", name(origin), name(volume.number));
        self.verb_is(Event::Snapshot { origin, volume: volume.number }, "snapshot", &[&argument])
    }

    fn clone_snapshot(&mut self) -> Result<()> {
        let snapshots = self.volumes.iter().filter(|volume| volume.is_snapshot);
        let snapshots: Vec<VolumeNumber> = snapshots.map(|volume| volume.number).collect();
        if snapshots.is_empty() {
            return Ok(());
        }
        let snapshot = self.rng.pick(&snapshots);
        let volume = self.new_volume(false, Some(snapshot));
        self.volumes.push(volume);
        let event = Event::Clone { snapshot, volume: volume.number };
        self.verb_is(event, "clone", &[&name(snapshot), &name(volume.number)])
    }

    /// Removes a volume that nothing or, if it is a snapshot, one volume depends on. Something to write to remains.
    fn remove(&mut self) -> Result<()> {
        let keeps_one = |volume: &Volume| volume.is_snapshot || self.writable().count() > 1;
        let children = |of: &Volume| self.volumes.iter().filter(|it| it.parent == Some(of.number)).count();
        let removable: Vec<Volume> = self
            .volumes
            .iter()
            .filter(|volume| children(volume) <= usize::from(volume.is_snapshot) && keeps_one(volume))
            .copied()
            .collect();
        if removable.is_empty() {
            return Ok(());
        }
        let gone = self.rng.pick(&removable);
        self.volumes.retain(|volume| volume.number != gone.number);
        for volume in &mut self.volumes {
            if volume.parent == Some(gone.number) {
                volume.parent = gone.parent;
            }
        }
        self.verb_is(Event::Remove { volume: gone.number }, "rm", &[&name(gone.number)])
    }

    /// Runs a verb with marks before and behind it.
    fn verb_is(&mut self, event: Event, verb: &str, args: &[&str]) -> Result<()> {
        self.recorder.tell(event);
        let store = self.store.to_str().context("a path that is no text")?;
        run("offshoot", &[&[verb, store], args].concat())?;
        self.recorder.tell(Event::Done);
        self.recorder.mark()
    }

    fn new_volume(&mut self, is_snapshot: bool, parent: Option<VolumeNumber>) -> Volume {
        let number = self.made;
        self.made += 1;
        Volume { number, is_snapshot, parent }
    }

    fn writable(&self) -> impl Iterator<Item = VolumeNumber> {
        self.volumes.iter().filter(|volume| !volume.is_snapshot).map(|volume| volume.number)
    }
}
