//! All sequences of up to four verbs, against the model.

#![allow(clippy::unwrap_used, reason = "a test")]

use offshoot_sim::{Counts, Family, Setup, Step, sequences};
use offshoot_store::Rules;

fn every(part: usize) {
    let family = Family::new(Setup::SMALLEST, Rules::ALL).unwrap();
    let mut counts = Counts::default();
    let all = (1..=4).flat_map(|len| sequences(&Step::VERBS, len));
    for steps in all.skip(part).step_by(2) {
        if let Err(violation) = family.every_step(&steps, &mut counts) {
            panic!("{violation}");
        }
    }
    assert!(counts.states > 5000, "{counts}");
}

#[test]
fn one_half() {
    every(0);
}

#[test]
fn the_other_half() {
    every(1);
}
