//! Measures the engine against the raw disk, side by side in one run, as ratios of medians.
//!
//! `cargo run --release -p bench -- [CASE] DIR` works in DIR, which must be on the disk to be measured. What takes
//! time runs three times in alternation with its peer. Each figure is printed beside its target.

#![allow(clippy::print_stdout, reason = "a measuring program")]

mod amplification;
mod counted;
mod figures;
mod load;
mod lookups;
mod mapped;
mod open;
mod raw;
mod stalls;
mod stores;
mod verbs;
mod writes;

use anyhow::{Result, bail};
use std::path::Path;

/// One subject of measuring.
struct Case {
    name: &'static str,
    run: fn(&Path) -> Result<()>,
}

const CASES: [Case; 6] = [
    Case { name: "lookups", run: lookups::run },
    Case { name: "amplification", run: amplification::run },
    Case { name: "writes", run: writes::run },
    Case { name: "verbs", run: verbs::run },
    Case { name: "stalls", run: stalls::run },
    Case { name: "open", run: open::run },
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [open::ONE_OPENING, store] => open::one_opening(Path::new(store)),
        [dir] => CASES.iter().try_for_each(|case| case.run_in(dir)),
        [name, dir] => match CASES.iter().find(|case| case.name == name) {
            Some(case) => case.run_in(dir),
            None => bail!("no case {name}: {}", usage()),
        },
        _ => bail!(usage()),
    }
}

fn usage() -> String {
    let names = CASES.map(|case| case.name);
    format!("usage: bench [CASE] DIR, where CASE is one of {}; all of them without it", names.join(", "))
}

impl Case {
    fn run_in(&self, dir: &str) -> Result<()> {
        println!("{}", self.name);
        (self.run)(Path::new(dir))
    }
}
