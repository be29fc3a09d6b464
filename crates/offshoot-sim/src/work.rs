//! Runs on all cores.

use offshoot_sim::{Bounds, Counts, Family, Setup, Step, Violation, run, run_damaged, sequences};
use offshoot_store::Rules;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Seeds of the default run.
const SEEDS: Range<u64> = 1..601;

/// Those of its runs with damage.
const DAMAGE_SEEDS: Range<u64> = 1..401;

/// What random runs are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Runs {
    /// Crashes and failing operations.
    Crashes,
    /// Faults of the disk that come to light later.
    Damage,
}

impl Runs {
    fn run(self, seed: u64, rules: Rules, counts: &mut Counts) -> Result<(), Box<Violation>> {
        match self {
            Self::Crashes => run(seed, rules, counts),
            Self::Damage => run_damaged(seed, rules, counts),
        }
    }
}

/// A broken promise, and where to find it again.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) violation: Violation,
}

/// What reproduces a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Steps(String),
    Seed(Runs, u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(Runs::Crashes, seed) => write!(f, "seed {seed}"),
            Self::Seed(Runs::Damage, seed) => write!(f, "damage of seed {seed}"),
            Self::Steps(steps) => f.write_str(steps),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.alternate() {
            true => writeln!(f, "{:#}", self.violation)?,
            false => writeln!(f, "{}", self.violation)?,
        }
        match &self.place {
            Place::Seed(Runs::Crashes, seed) => write!(f, "reproduce with: cargo xtask sim --seed {seed}"),
            Place::Seed(Runs::Damage, seed) => {
                write!(f, "reproduce with: cargo xtask sim --damage --seed {seed}")
            }
            Place::Steps(steps) => write!(f, "reproduce with: cargo xtask sim, which finds it in {steps}"),
        }
    }
}

/// What many runs came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) runs: u64,
    /// In the order of their places.
    pub(crate) found: Vec<Found>,
}

/// Every run of a range of seeds, until `states` states were checked or a promise was broken `violations` times.
pub(crate) fn seeds(
    runs: Runs,
    seeds: Range<u64>,
    rules: Rules,
    violations: u64,
    states: Option<u64>,
) -> Outcome {
    on_all_cores(
        seeds,
        |outcome| {
            outcome.counts.violations >= violations
                || states.is_some_and(|most| outcome.counts.states >= most)
        },
        |seed, counts| {
            let result = with_rules(rules, counts, |rules, counts| runs.run(seed, rules, counts));
            result.map_err(|violation| (Place::Seed(runs, seed), violation))
        },
    )
}

/// Random runs from a seed on, until some states were checked.
pub(crate) fn states(runs: Runs, states: u64, first: u64) -> Outcome {
    seeds(runs, first..u64::MAX, Rules::ALL, 1, Some(states))
}

/// Random runs from a seed on, for some minutes.
pub(crate) fn minutes(runs: Runs, minutes: u64, first: u64) -> Outcome {
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    on_all_cores(
        first..u64::MAX,
        |outcome| outcome.counts.violations > 0 || Instant::now() >= end,
        |seed, counts| {
            let result = runs.run(seed, Rules::ALL, counts);
            result.map_err(|violation| (Place::Seed(runs, seed), violation))
        },
    )
}

/// The enumerations, then fixed sets of seeds.
pub(crate) fn everything(bounds: Bounds) -> Outcome {
    let mut outcome = enumerations(bounds, Rules::ALL);
    for random in [seeds(Runs::Crashes, SEEDS, Rules::ALL, u64::MAX, None), damage()] {
        outcome.counts += random.counts;
        outcome.runs += random.runs;
        outcome.found.extend(random.found);
    }
    outcome
}

/// A fixed set of runs with damage.
pub(crate) fn damage() -> Outcome {
    seeds(Runs::Damage, DAMAGE_SEEDS, Rules::ALL, u64::MAX, None)
}

/// Enumerations and then random runs, until one finds something.
pub(crate) fn until_found(seed_count: u64, rules: Rules) -> Outcome {
    let random = seeds(Runs::Crashes, 1..seed_count / 4, rules, 1, None);
    if !random.found.is_empty() {
        return random;
    }
    let enumerated = enumerations(Bounds::FEW, rules);
    if !enumerated.found.is_empty() {
        return enumerated;
    }
    seeds(Runs::Crashes, seed_count / 4..seed_count, rules, 1, None)
}

/// A seed that nobody has tried.
pub(crate) fn fresh_seed() -> u64 {
    // The standard library seeds its hasher from the operating system.
    RandomState::new().build_hasher().finish() >> 16
}

/// One enumerated run.
enum Task {
    Cuts(Vec<Step>),
    Errors(Vec<Step>),
    Steps(Vec<Step>),
}

/// Every step and every two verbs cut everywhere, every step failing everywhere, every four verbs compared.
fn enumerations(bounds: Bounds, rules: Rules) -> Outcome {
    let single = || Step::all().map(|step| vec![step]);
    let mut tasks: Vec<Task> = single().map(Task::Cuts).collect();
    tasks.extend(single().map(Task::Errors));
    tasks.extend(sequences(&Step::VERBS, 2).map(Task::Cuts));
    let pairs = Step::MOVES.into_iter().flat_map(|its| Step::all().map(move |other| (its, other)));
    tasks.extend(pairs.flat_map(|(its, other)| [vec![its, other], vec![other, its]]).map(Task::Cuts));
    tasks.extend((1..=4).flat_map(|len| sequences(&Step::VERBS, len)).map(Task::Steps));
    let family = match Family::new(Setup::SMALLEST, rules) {
        Ok(family) => family,
        Err(violation) => return broken_family(*violation),
    };
    drop(family);
    on_all_cores(
        0..tasks.len() as u64,
        |outcome| outcome.counts.violations > 0,
        |number, counts| {
            let Some(task) = usize::try_from(number).ok().and_then(|number| tasks.get(number)) else {
                return Ok(());
            };
            let result = with_rules(rules, counts, |rules, counts| task.run(bounds, rules, counts));
            result.map_err(|violation| (Place::Steps(task.to_string()), violation))
        },
    )
}

fn broken_family(violation: Violation) -> Outcome {
    let counts = Counts { violations: 1, ..Counts::default() };
    let place = Place::Steps("the store that enumerations begin with".into());
    Outcome { counts, runs: 1, found: vec![Found { place, violation }] }
}

thread_local! {
    /// Stores share their bytes within a thread only.
    static FAMILY: std::cell::RefCell<Option<(Rules, Family)>> = const { std::cell::RefCell::new(None) };
}

impl Task {
    fn run(&self, bounds: Bounds, rules: Rules, counts: &mut Counts) -> Result<(), Box<Violation>> {
        FAMILY.with_borrow_mut(|known| {
            let family = match known.take().filter(|(of, _)| *of == rules) {
                Some((_, family)) => family,
                None => Family::new(Setup::SMALLEST, rules)?,
            };
            let done = match self {
                Self::Cuts(steps) => family.every_cut(steps, bounds, counts),
                Self::Errors(steps) => family.every_error(steps, counts),
                Self::Steps(steps) => family.every_step(steps, counts),
            };
            *known = Some((rules, family));
            done
        })
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuts(steps) => write!(f, "{steps:?} with every cut"),
            Self::Errors(steps) => write!(f, "{steps:?} with every error"),
            Self::Steps(steps) => write!(f, "{steps:?}"),
        }
    }
}

/// A run without some clause proves something only when it finds what the same run finds not with all of them.
fn with_rules(
    rules: Rules,
    counts: &mut Counts,
    run: impl Fn(Rules, &mut Counts) -> Result<(), Box<Violation>>,
) -> Result<(), Box<Violation>> {
    let result = run(rules, counts);
    if result.is_err() && rules != Rules::ALL && run(Rules::ALL, &mut Counts::default()).is_err() {
        counts.violations = 0;
        return Ok(());
    }
    result
}

/// Hands out numbers to a thread per core until one says that it is enough. What was begun is finished, so that the
/// lowest number that found something does not depend on the threads.
fn on_all_cores(
    numbers: Range<u64>,
    enough: impl Fn(&Outcome) -> bool + Sync,
    work: impl Fn(u64, &mut Counts) -> Result<(), (Place, Box<Violation>)> + Sync,
) -> Outcome {
    let next = AtomicU64::new(numbers.start);
    let total = Mutex::new(Outcome::default());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    let mut counts = Counts::default();
                    let result = work(number, &mut counts);
                    let Ok(mut outcome) = total.lock() else { return };
                    outcome.counts += counts;
                    outcome.runs += 1;
                    if let Err((place, violation)) = result {
                        outcome.found.push(Found { place, violation: *violation });
                    }
                    if enough(&outcome) {
                        next.store(numbers.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut outcome = total.into_inner().unwrap_or_default();
    outcome.found.sort_by(|left, right| left.place.cmp(&right.place));
    outcome
}
