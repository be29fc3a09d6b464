//! Goes through a log from FLUSH to FLUSH, cuts the power in between in several ways, opens what is left each time
//! and compares it with the model.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use offshoot_store::{OpenOptions, Store};

use super::cut::{Kept, Replayer};
use super::image::Overlay;
use super::log::{Entry, Log};
use super::model::{Model, Shown};
use super::rng::Rng;
use super::trace::Event;

/// How many kinds of violations are told apart.
const KINDS_MAX: usize = 100;

/// What was recorded of one run, and how thoroughly it is to be checked.
#[derive(Debug)]
pub(super) struct Run {
    /// The disk before the first entry of the log.
    pub(super) base: Vec<u8>,
    /// What was written to it.
    pub(super) log: Log,
    /// What the client did.
    pub(super) trace: Vec<Event>,
    /// Determines the cuts.
    pub(super) seed: u64,
    /// About how many states to look at.
    pub(super) states: usize,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Marks up to which the log was replayed.
    pub(super) marks: usize,
    /// Places in the log at which the power was cut.
    pub(super) cuts: usize,
    /// Disks that were opened.
    pub(super) states: usize,
    /// Those of them that broke a promise.
    pub(super) violations: usize,
    /// What they are, by what they have in common.
    pub(super) kinds: BTreeMap<String, Kind>,
}

/// Violations that differ in numbers only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// How many.
    pub(super) count: usize,
    /// Entry of the log at which the first one was found.
    pub(super) entry: usize,
    /// What was wrong there.
    pub(super) wrong: String,
}

impl Run {
    /// Checks everything, on all processors.
    ///
    /// # Errors
    /// What was recorded contradicts itself. A broken promise is none.
    pub(super) fn check(&self) -> Result<Counts> {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let parts: Vec<Result<Counts>> = thread::scope(|scope| {
            let start = |number| scope.spawn(move || Walk::new(self, number, workers)?.go());
            let threads: Vec<_> = (0..workers).map(start).collect();
            let end = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the check panicked")))
            };
            threads.into_iter().map(end).collect()
        });
        let mut sum = Counts::default();
        for part in parts {
            sum.add(part?);
        }
        Ok(sum)
    }

    /// How many states are looked at per cut, so that all together come to about what is wanted: none if that is 0.
    fn states_per_cut(&self) -> usize {
        let flushes = self.log.entries().iter().filter(|entry| **entry == Entry::Flush).count();
        self.states.div_ceil(flushes + 1)
    }

    /// Compares the whole log, applied to the disk as it was, with the disk as the guest left it. They agree unless
    /// the log lacks something or is misunderstood.
    ///
    /// # Errors
    /// They differ.
    pub(super) fn compare_end(&self, end: &[u8]) -> Result<()> {
        let mut image = self.base.clone();
        // Nobody knows what is in a sector that was discarded and not written since.
        let mut known = vec![true; image.len() / 512];
        let replayer = Replayer::new(&self.log, self.seed);
        for (entry, index) in self.log.entries().iter().zip(0..) {
            let (offset, len, is_known) = match entry {
                Entry::Write(write) => (write.offset, write.len, true),
                Entry::Discard { offset, len } => (*offset, *len, false),
                Entry::Flush | Entry::Mark(_) => continue,
            };
            replayer.apply(index, &mut image)?;
            let sectors = usize::try_from(offset / 512)?..usize::try_from((offset + len) / 512)?;
            known.get_mut(sectors).context("a discard beyond the end of the disk")?.fill(is_known);
        }
        ensure!(end.len() == image.len(), "the disk changed its size");
        let sectors = image.chunks(512).zip(end.chunks(512)).zip(&known);
        let differs = sectors.enumerate().find(|(_, ((ours, theirs), known))| **known && ours != theirs);
        match differs {
            Some((sector, _)) => {
                Err(anyhow!("the log does not lead to the disk of the guest: sector {sector}"))
            }
            None => Ok(()),
        }
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        // Every worker passes every mark.
        self.marks = self.marks.max(other.marks);
        self.cuts += other.cuts;
        self.states += other.states;
        self.violations += other.violations;
        for (common, kind) in other.kinds {
            self.tell(common, kind);
        }
    }

    fn tell(&mut self, common: String, kind: Kind) {
        if let Some(known) = self.kinds.get_mut(&common) {
            let count = known.count + kind.count;
            if kind.entry < known.entry {
                *known = kind;
            }
            known.count = count;
        } else if self.kinds.len() < KINDS_MAX {
            self.kinds.insert(common, kind);
        }
    }
}

/// One of several workers that go through the same log, each with a share of the cuts.
struct Walk<'r> {
    run: &'r Run,
    replayer: Replayer<'r>,
    model: Model<'r>,
    /// The disk up to the last FLUSH.
    image: Vec<u8>,
    /// The entries since, which no FLUSH covers.
    unflushed: Vec<usize>,
    /// Number of the next cut, counted over all workers.
    cut: usize,
    number: usize,
    workers: usize,
    /// Where in the trace the log is.
    mark: String,
    counts: Counts,
}

impl<'r> Walk<'r> {
    fn new(run: &'r Run, number: usize, workers: usize) -> Result<Self> {
        Ok(Self {
            run,
            replayer: Replayer::new(&run.log, run.seed),
            model: Model::new(&run.trace)?,
            image: run.base.clone(),
            unflushed: Vec::new(),
            cut: 0,
            number,
            workers,
            mark: "none".to_owned(),
            counts: Counts::default(),
        })
    }

    fn go(mut self) -> Result<Counts> {
        for (entry, index) in self.run.log.entries().iter().zip(0..) {
            match entry {
                Entry::Write(write) if write.fua => self.replayer.apply(index, &mut self.image)?,
                Entry::Write(_) | Entry::Discard { .. } => self.unflushed.push(index),
                Entry::Flush => {
                    self.cut()?;
                    for index in std::mem::take(&mut self.unflushed) {
                        self.replayer.apply(index, &mut self.image)?;
                    }
                }
                Entry::Mark(name) => {
                    self.model.pass(name)?;
                    self.mark.clone_from(name);
                    self.counts.marks += 1;
                    // Exactly what was durable at the mark, and nothing else.
                    if self.counts.marks % self.workers == self.number {
                        self.state(index, Kept::None, &mut Rng::new(0))?;
                    }
                }
            }
        }
        self.cut()?;
        Ok(self.counts)
    }

    /// Cuts the power between the last FLUSH and the next in several ways.
    fn cut(&mut self) -> Result<()> {
        let cut = self.cut;
        self.cut += 1;
        let states = self.run.states_per_cut();
        if cut % self.workers != self.number || self.unflushed.is_empty() || states == 0 {
            return Ok(());
        }
        self.counts.cuts += 1;
        let mut rng = Rng::of_part(self.run.seed, cut as u64);
        for _ in 0..states {
            let kept = Kept::draw(&mut rng, self.unflushed.len());
            self.state(self.unflushed[0], kept, &mut rng)?;
        }
        Ok(())
    }

    fn state(&mut self, entry: usize, kept: Kept, rng: &mut Rng) -> Result<()> {
        let mut disk = Overlay::over(&self.image);
        self.replayer.apply_kept(&self.unflushed, kept, rng, &mut disk, self.image.len())?;
        self.counts.states += 1;
        let epoch = [rng.next(), rng.next()].map(u64::to_le_bytes).concat();
        let epoch = <[u8; 16]>::try_from(epoch).unwrap_or_default();
        let thorough = rng.percent(15);
        let wrong = panic::catch_unwind(AssertUnwindSafe(|| examine(disk, &self.model, epoch, thorough)));
        let wrong = wrong.unwrap_or_else(|_| vec!["the store panicked".to_owned()]);
        if wrong.is_empty() {
            return Ok(());
        }
        self.counts.violations += 1;
        let (mark, unflushed, wrong) = (&self.mark, self.unflushed.len(), wrong.join("; "));
        let common = wrong.replace(|c: char| c.is_ascii_hexdigit(), "");
        let wrong = format!("behind mark {mark}, kept {kept:?} of {unflushed}: {wrong}");
        self.counts.tell(common, Kind { count: 1, entry, wrong });
        Ok(())
    }
}

/// Opens the store on a disk after a power cut and says what is wrong with it.
fn examine(disk: Overlay<'_>, model: &Model<'_>, epoch: [u8; 16], thorough: bool) -> Vec<String> {
    let mut disk = disk;
    if thorough {
        match Opened::open(disk, &OpenOptions::read_only(None)) {
            Ok(mut opened) => {
                let wrong = opened.check(model);
                disk = opened.0.close().0;
                let wrong = wrong.into_iter().map(|wrong| format!("read-only: {wrong}"));
                let changed = disk.was_changed().then(|| "looking at it changed the disk".to_owned());
                let wrong: Vec<String> = wrong.chain(changed).collect();
                if !wrong.is_empty() {
                    return wrong;
                }
            }
            Err(error) => return vec![format!("read-only: {error}")],
        }
    }
    let mut opened = match Opened::open(disk, &OpenOptions::writable(epoch, None)) {
        Ok(opened) => opened,
        Err(error) => return vec![error],
    };
    let wrong = opened.check(model);
    if !wrong.is_empty() || !thorough {
        return wrong;
    }
    let (disk, closed) = opened.0.close();
    if let Err(error) = closed {
        return vec![format!("it cannot be closed: {error}")];
    }
    match Opened::open(disk, &OpenOptions::read_only(None)) {
        Ok(mut again) => again.check(model),
        Err(error) => vec![format!("after it was closed: {error}")],
    }
}

/// A store that was opened after a cut.
struct Opened<'a>(Store<Overlay<'a>>);

impl<'a> Opened<'a> {
    fn open(disk: Overlay<'a>, options: &OpenOptions) -> Result<Self, String> {
        let store =
            Store::open(disk, Vec::new(), options).map_err(|error| format!("it does not open: {error}"))?;
        Ok(Self(store))
    }

    fn check(&mut self, model: &Model<'_>) -> Vec<String> {
        let damage = self.0.findings().iter().map(|finding| {
            let lvol = finding.lvol.as_deref().unwrap_or("the store");
            format!("damage of {lvol}: {}", finding.what)
        });
        let mut wrong: Vec<String> = damage.collect();
        wrong.extend(self.0.engine().failure().map(|cause| format!("it takes no writes: {cause}")));
        wrong.extend(model.check(self));
        wrong
    }
}

impl Shown for Opened<'_> {
    fn volumes(&self) -> Vec<(String, u64)> {
        let state = self.0.state();
        state.lvols().map(|blob| (blob.display_name(), state.bytes(blob))).collect()
    }

    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        let lvol = self.0.state().lvol_by_name(name.as_bytes()).map(|blob| blob.id);
        let lvol = lvol.ok_or("there is no such lvol")?;
        let buffer = self.0.read(lvol, offset, len).map_err(|error| error.to_string())?;
        Ok(buffer.as_slice().to_vec())
    }
}

#[cfg(test)]
mod tests;
