//! Processes that are killed with SIGKILL at random moments, and what the store holds afterwards (D1 and D5): servers
//! under load from clients that remember every reply, and commands in the middle of a verb.
//!
//! A seed chooses the shape of the store, the verbs, the requests and the moments of the kills. The requests of a
//! round are the same in each run; how far a process had got when it was killed is a matter of timing, and so are the
//! verbs that follow on it.
//!
//! - `stamp`: what a write writes, so that a sector tells which write it is of;
//! - `model`: what each sector may hold; `listing`: what `ls` must show;
//! - `verbs`, `load`: what is done to the store, and what that makes of the model;
//! - `rounds`: the order of it all, and the comparisons;
//! - `ground`, `process`, `client`, `random`: files, processes, NBD and dice.
#![allow(clippy::unwrap_used, reason = "a campaign that cannot begin fails its test")]
#![allow(clippy::print_stdout, reason = "a campaign sums itself up")]

mod client;
mod ground;
mod listing;
mod load;
mod model;
mod process;
mod random;
mod rounds;
mod stamp;
mod verbs;

#[path = "../common/mod.rs"]
mod common;

use std::env;

use ground::Medium;
use rounds::Campaign;

/// How many rounds, each with at least one kill, on each medium: `cargo xtask kills --count`.
const COUNT_VARIABLE: &str = "OFFSHOOT_KILLS_COUNT";
const COUNT_DEFAULT: u64 = 10;

/// What all choices follow from: `cargo xtask kills --seed`.
const SEED_VARIABLE: &str = "OFFSHOOT_KILLS_SEED";
const SEED_DEFAULT: u64 = 1;

/// Violations that are shown; one mistake makes many.
const SHOWN: usize = 20;

#[test]
fn nothing_acknowledged_is_lost_on_a_file() {
    run(Medium::File);
}

#[test]
fn nothing_acknowledged_is_lost_on_a_loop_device() {
    run(Medium::LoopDevice);
}

fn run(medium: Medium) {
    let (count, seed) = (number(COUNT_VARIABLE, COUNT_DEFAULT), number(SEED_VARIABLE, SEED_DEFAULT));
    let Some(campaign) = Campaign::new(medium, seed).unwrap() else {
        return;
    };
    let summary = campaign.run(count);
    // Line for line what `cargo xtask kills` looks for.
    println!("{summary}");
    let violations = &summary.violations;
    let shown =
        violations.iter().take(SHOWN).fold(String::new(), |text, violation| text + "\n  " + violation);
    assert!(
        violations.is_empty(),
        "{medium:?}: {} violations; again with: cargo xtask kills --count {count} --seed {seed}{shown}",
        violations.len()
    );
}

/// A number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    let text = env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text} is no number")))
}
