//! Every verb and every kind of I/O, and every two verbs, cut at every device operation.

#![allow(clippy::print_stdout, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

use offshoot_sim::{Bounds, Counts, Family, Setup, Step, sequences};
use offshoot_store::Rules;

/// Subsets of unflushed writes that a test run can afford with two verbs.
const SOME: Bounds = Bounds { every_up_to: 1, samples: 2 };

fn cut(sequences: impl Iterator<Item = Vec<Step>>, bounds: Bounds) -> Counts {
    let family = Family::new(Setup::SMALLEST, Rules::ALL).unwrap();
    let mut counts = Counts::default();
    for steps in sequences {
        if let Err(violation) = family.every_cut(&steps, bounds, &mut counts) {
            panic!("{violation}");
        }
    }
    println!("{counts}");
    counts
}

#[test]
fn every_step_with_every_cut() {
    let steps = Step::all().map(|step| vec![step]);
    let counts = cut(steps, Bounds::FEW);
    assert!(counts.states > 3000 && counts.torn > 100, "{counts}");
}

#[test]
fn every_move_around_a_verb_with_every_cut() {
    let moves = || Step::MOVES.into_iter();
    let before = moves().flat_map(|its| Step::VERBS.into_iter().map(move |verb| vec![verb, its]));
    let behind = moves().flat_map(|its| Step::VERBS.into_iter().map(move |verb| vec![its, verb]));
    let written = moves().map(|its| vec![Step::FirstWrite, Step::Zero, its]);
    cut(before.chain(behind).chain(written), SOME);
}

#[test]
fn growing_around_every_step_with_every_cut() {
    let before = Step::all().map(|step| vec![step, Step::GrowStore]);
    let behind = Step::all().map(|step| vec![Step::GrowStore, step]);
    let written = Step::VERBS.into_iter().map(|verb| vec![Step::FirstWrite, Step::GrowStore, verb]);
    cut(before.chain(behind).chain(written), SOME);
}

#[test]
fn external_snapshots_around_every_step_with_every_cut() {
    let its = || Step::EXTERNAL.into_iter();
    let verbs = Step::VERBS.into_iter().chain(Step::MOVES);
    let before = verbs.flat_map(|step| its().map(move |its| vec![step, its]));
    let behind = Step::all().flat_map(|step| its().map(move |its| vec![its, step]));
    let written = Step::MOVES.into_iter().chain([Step::Snapshot, Step::RemoveNewest]);
    let written = written.map(|step| vec![Step::CloneExternal, Step::FirstWrite, step]);
    cut(before.chain(behind).chain(written), SOME);
}

#[test]
fn every_two_verbs_with_every_cut_one_half() {
    cut(sequences(&Step::VERBS, 2).step_by(2), SOME);
}

#[test]
fn every_two_verbs_with_every_cut_the_other_half() {
    cut(sequences(&Step::VERBS, 2).skip(1).step_by(2), SOME);
}
