//! A fixed set of runs in which the disk is damaged. More of them: `cargo xtask sim --damage`.

#![allow(clippy::print_stdout, reason = "a test")]

use offshoot_sim::{Counts, run_damaged};
use offshoot_store::Rules;
use std::ops::Range;

fn all(seeds: Range<u64>) {
    let mut counts = Counts::default();
    for seed in seeds {
        if let Err(violation) = run_damaged(seed, Rules::ALL, &mut counts) {
            panic!("{violation}\nreproduce with: cargo xtask sim --damage --seed {seed}");
        }
    }
    println!("{counts}\n{}", counts.damage);
    assert!(counts.damage.total() > 500 && counts.damage.lost > 50 && counts.damage.frozen > 20, "{counts}");
}

#[test]
fn one_half() {
    all(1..45);
}

#[test]
fn the_other_half() {
    all(45..90);
}

#[test]
fn a_seed_is_a_run() {
    let counts = |seed| {
        let mut counts = Counts::default();
        let what = run_damaged(seed, Rules::ALL, &mut counts).map_err(|violation| violation.to_string());
        (counts, what)
    };
    for seed in 1..6 {
        assert_eq!(counts(seed), counts(seed));
    }
    assert_ne!(counts(1), counts(2));
}
