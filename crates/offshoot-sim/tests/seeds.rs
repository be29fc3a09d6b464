//! A fixed set of random runs. More of them: `cargo xtask sim`.

#![allow(clippy::print_stdout, reason = "a test")]

use offshoot_sim::{Counts, run, run_calmly};
use offshoot_store::Rules;
use std::ops::Range;

fn all(seeds: Range<u64>) {
    let mut counts = Counts::default();
    for seed in seeds {
        if let Err(violation) = run(seed, Rules::ALL, &mut counts) {
            panic!("{violation}\nreproduce with: cargo xtask sim --seed {seed}");
        }
    }
    assert!(counts.states > 1000 && counts.torn > 0 && counts.reordered > 0, "{counts}");
    println!("{counts}");
}

#[test]
fn one_half() {
    all(1..60);
}

#[test]
fn the_other_half() {
    all(60..120);
}

#[test]
fn without_crashes() {
    let mut counts = Counts::default();
    for seed in 1..200 {
        if let Err(violation) = run_calmly(seed, &mut counts) {
            panic!("{violation}\nof the calm run of seed {seed}");
        }
    }
}

#[test]
fn a_seed_is_a_run() {
    let counts = |seed| {
        let mut counts = Counts::default();
        let what = run(seed, Rules::ALL, &mut counts).map_err(|violation| violation.to_string());
        (counts, what)
    };
    for seed in 1..10 {
        assert_eq!(counts(seed), counts(seed));
    }
    assert_ne!(counts(1), counts(2));
}
