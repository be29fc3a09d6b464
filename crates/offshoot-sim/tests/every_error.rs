//! Every verb and every kind of I/O, with each device operation failing in its turn.

#![allow(clippy::unwrap_used, reason = "a test")]

use offshoot_sim::{Counts, Family, Setup, Step};
use offshoot_store::Rules;

fn every_error(setup: Setup) {
    let family = Family::new(setup, Rules::ALL).unwrap();
    let mut counts = Counts::default();
    let over_external = Step::all().map(|step| vec![Step::CloneExternal, step]);
    for steps in Step::all().map(|step| vec![step]).chain(over_external) {
        if let Err(violation) = family.every_error(&steps, &mut counts) {
            panic!("{violation}");
        }
    }
    assert!(counts.faults > 200, "{counts:?}");
}

#[test]
fn of_a_native_store() {
    every_error(Setup::SMALLEST);
}

#[test]
fn of_a_plain_store() {
    every_error(Setup { native: false, ..Setup::SMALLEST });
}
