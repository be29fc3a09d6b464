//! `cargo xtask powercut`: power cuts for real.
//!
//! A guest boots Debian's kernel, puts a disk under dm-log-writes, serves a store on it and works on the store's volumes
//! (`guest`), all the while recording what it was promised (`trace`). From the log of the disk (`log`) come the
//! contents that it may have after a cut at any moment (`cut`, `image`); each is opened and compared (`check`) with what
//! the promises allow (`model`). `docs/testing.md` says more.
//!
//! The client in the guest is this program under another verb: it shares the trace and the pattern of the data with
//! the check, it is built statically, and nothing of it is shipped.

mod bed;
mod check;
mod cut;
mod guest;
mod image;
mod log;
mod model;
mod pattern;
mod rng;
mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use bed::Bed;
use check::Run;
use log::Log;

/// How long the client works in the guest.
const SECONDS: u64 = 60;

/// About how many disks are opened.
const STATES: usize = 10_000;

/// Runs `powercut`, or the part of it that is inside the guest.
///
/// # Errors
/// Something failed that is no broken promise of the store.
pub(crate) fn run(root: &Path, verb: &str, args: &[&str]) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    match verb {
        "powercut-inside" => {
            let guest = guest::Options {
                seed: options.seed,
                duration: Duration::from_secs(options.seconds),
                store: options.store.context("--store is missing")?,
                trace: options.trace.context("--trace is missing")?,
            };
            guest::go(&guest).map(|()| ExitCode::SUCCESS)
        }
        _ => outside(&Bed::new(root), &options),
    }
}

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    seconds: u64,
    seed: u64,
    states: usize,
    /// Only check again what the last run recorded.
    again: bool,
    /// For the part inside.
    store: Option<PathBuf>,
    trace: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[&str]) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = u64::from(now.subsec_nanos()) ^ now.as_secs();
        let mut options =
            Self { seconds: SECONDS, seed, states: STATES, again: false, store: None, trace: None };
        let mut args = args.iter();
        while let Some(&name) = args.next() {
            if name == "--again" {
                options.again = true;
                continue;
            }
            let value = args.next().with_context(|| format!("{name} needs a value"))?;
            let number = || value.parse().with_context(|| format!("{name} {value}"));
            match name {
                "--seconds" => options.seconds = number()?,
                "--seed" => options.seed = number()?,
                "--states" => options.states = usize::try_from(number()?)?,
                "--store" => options.store = Some(value.into()),
                "--trace" => options.trace = Some(value.into()),
                _ => bail!("unknown option {name}"),
            }
        }
        Ok(options)
    }
}

fn outside(bed: &Bed, options: &Options) -> Result<ExitCode> {
    let Options { seed, seconds, states, again, .. } = *options;
    let said = format!("powercut --seed {seed}");
    let mut failure = None;
    if !again {
        bed.prepare()?;
        println!("{said}: the guest works for {seconds} s");
        failure = bed.boot(seed, seconds)?;
    }
    let read = |path: PathBuf| fs::read(&path).with_context(|| path.display().to_string());
    let run = Run {
        base: read(bed.base())?,
        log: Log::open(&bed.log())?,
        trace: trace::parse(&read(bed.trace())?)?,
        seed,
        states,
    };
    run.compare_end(&read(bed.disk())?)?;
    println!(
        "{said}: {} entries in the log, {} lines in the trace",
        run.log.entries().len(),
        run.trace.len()
    );
    let counts = run.check()?;
    let mut kinds: Vec<_> = counts.kinds.values().collect();
    kinds.sort_by_key(|kind| kind.entry);
    for check::Kind { count, entry, wrong } in kinds {
        println!("violation, first of {count} like it: at entry {entry}, {wrong}");
    }
    if let Some(console) = &failure {
        println!("violation: something failed in the guest, which had cut nothing yet:\n{console}");
    }
    let check::Counts { marks, cuts, states, .. } = counts;
    let violations = counts.violations + usize::from(failure.is_some());
    println!("marks={marks} cuts={cuts} states={states} violations={violations}");
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
