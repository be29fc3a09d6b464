//! Bits of metadata that flip (D6): each flip is detected, repaired or harmless. No wrong byte is served as good, nothing
//! panics or runs for ever, lvols that the flipped structure does not describe read and are written as before, and
//! nothing that a damaged one may own is handed out.
//!
//! By default one bit of each byte flips, a different one from byte to byte; `cargo xtask bitflips` flips all of them.
//!
//! - `subject`: the stores, and what each byte of their metadata is about;
//! - `trial`: a flip and what follows;
//! - `device`: memory that many stores share.
#![allow(clippy::unwrap_used, reason = "a store that cannot be made fails its test")]
#![allow(clippy::print_stdout, reason = "a campaign sums itself up")]

mod device;
mod subject;
mod trial;

#[path = "../common/lvols.rs"]
mod lvols;
#[path = "../common/plain_checker.rs"]
mod plain_checker;
#[path = "../common/plain_maker.rs"]
mod plain_maker;

use std::collections::BTreeMap;
use subject::Subject;
use trial::Verdict;

/// Set to anything, all bits are flipped: `cargo xtask bitflips`.
const ALL_VARIABLE: &str = "OFFSHOOT_FLIP_ALL_BITS";

/// Violations that are shown; one mistake makes many.
const SHOWN: usize = 20;

#[test]
fn a_sealed_store() {
    run(0);
}

#[test]
fn a_native_store_at_rest() {
    run(1);
}

#[test]
fn a_killed_store() {
    run(2);
}

#[test]
fn a_clean_store_of_spdk() {
    run(3);
}

#[test]
fn a_dirty_store_of_spdk() {
    run(4);
}

fn run(number: usize) {
    let (name, make) = Subject::ALL[number];
    let subject = make();
    let all = std::env::var_os(ALL_VARIABLE).is_some();
    let (mut counts, mut violations) = (BTreeMap::new(), Vec::new());
    let mut flips = 0_u64;
    for region in &subject.regions {
        for at in region.bytes.clone() {
            let bits = if all { 0..8 } else { (at % 8) as u8..(at % 8) as u8 + 1 };
            for bit in bits {
                flips += 1;
                match trial::flip(&subject, region, at, bit) {
                    Ok(verdict) => *counts.entry((region.name, verdict)).or_insert(0_u64) += 1,
                    Err(what) => violations.push(what),
                }
            }
        }
    }
    let sum = |verdict| -> u64 { counts.iter().filter(|((_, v), _)| *v == verdict).map(|(_, n)| n).sum() };
    let (detected, repaired) = (sum(Verdict::Detected), sum(Verdict::Repaired));
    let harmless = sum(Verdict::Harmless);
    for ((region, verdict), count) in &counts {
        println!("{name}: {region}: {verdict:?} {count}");
    }
    // Line for line what `cargo xtask bitflips` looks for.
    println!(
        "flips={flips} detected={detected} repaired={repaired} harmless={harmless} violations={}",
        violations.len()
    );
    let shown = violations.iter().take(SHOWN).fold(String::new(), |text, line| text + "\n  " + line);
    assert!(violations.is_empty(), "{} violations{shown}", violations.len());
}
