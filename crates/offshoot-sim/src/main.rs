//! `sim`: explores what crashes do to a store, from seeds or by going through everything. Run as `cargo xtask sim`,
//! which builds it optimised.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a command talks to its terminal")]

mod options;
mod work;

use offshoot_store::{Clause, Rules};
use options::{Extent, Options, USAGE};
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use work::{Found, Outcome, Runs};

/// Seeds that are tried with a clause switched off before it counts as not found.
const BREAK_SEEDS: u64 = 4000;

/// Reports of broken promises that are printed in full.
const REPORTS_MAX: usize = 3;

/// No violation although a clause was switched off.
const NOTHING_FOUND: u8 = 4;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = Options::parse(&args) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    if !options.broken.is_empty() {
        return break_clauses(&options);
    }
    let outcome = match options.extent {
        Extent::Seed(seed) => work::seeds(options.runs, seed..seed + 1, Rules::ALL, 1, None),
        Extent::Minutes(minutes) => work::minutes(options.runs, minutes, work::fresh_seed()),
        Extent::States(states) => work::states(options.runs, states, work::fresh_seed()),
        Extent::Default if options.runs == Runs::Damage => work::damage(),
        Extent::Default => work::everything(options.bounds),
    };
    for found in outcome.found.iter().take(REPORTS_MAX) {
        match options.full {
            true => say(format_args!("{found:#}")),
            false => say(found),
        }
    }
    report_counts(&outcome);
    say(outcome.counts);
    if outcome.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report_counts(outcome: &Outcome) {
    let counts = &outcome.counts;
    say(format_args!(
        "{} kills, {} reboots, {} power cuts, {} of them while recovering; {} faults; {} runs",
        counts.kills, counts.reboots, counts.cuts, counts.nested, counts.faults, outcome.runs
    ));
    if counts.damage.total() > 0 {
        say(counts.damage);
    }
}

/// Switches clauses off, one after the other. Each must be found out.
fn break_clauses(options: &Options) -> ExitCode {
    let mut missed = Vec::new();
    for clause in &options.broken {
        let rules = Rules::ALL.without(*clause);
        let outcome = work::until_found(BREAK_SEEDS, rules);
        match outcome.found.first() {
            Some(found) => report_found(*clause, found, &outcome),
            None => {
                eprintln!("{clause}: nothing found: {}", outcome.counts);
                missed.push(*clause);
            }
        }
    }
    if missed.is_empty() { ExitCode::FAILURE } else { ExitCode::from(NOTHING_FOUND) }
}

fn report_found(clause: Clause, found: &Found, outcome: &Outcome) {
    let violation = &found.violation;
    let (place, promise, what) = (&found.place, violation.promise, &violation.what);
    say(format_args!("{clause}: {place}: {promise} broken: {what}"));
    say(outcome.counts);
}

/// A line for whoever still listens.
fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
