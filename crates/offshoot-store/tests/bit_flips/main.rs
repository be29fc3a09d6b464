//! Bits of metadata that flip (D6): each flip is detected, repaired or harmless. No wrong byte is served as good, nothing
//! panics or runs for ever, lvols that the flipped structure does not describe read and are written as before, and
//! nothing that a damaged one may own is handed out.
//!
//! By default one bit of each byte flips, a different one from byte to byte, and a session follows where what is seen is
//! new, and on one byte in 64; `cargo xtask bitflips` flips all bits, with a session after each.
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
#[path = "../crash/tape.rs"]
mod tape;

use std::collections::BTreeMap;
use subject::Subject;
use trial::{Known, Verdict};

/// Set to anything, all bits are flipped: `cargo xtask bitflips`.
const ALL_VARIABLE: &str = "OFFSHOOT_FLIP_ALL_BITS";

/// Violations that are shown; one mistake makes many.
const SHOWN: usize = 20;

/// Bytes from one session to the next where all bits look the same. Every flip is looked at.
const STRIDE: usize = 64;

/// One test for each store, so that they run beside each other.
macro_rules! stores {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                run(&Subject::$name());
            }
        )*
    };
}

stores!(sealed, native_at_rest, killed, killed_in_a_checkpoint, clean_of_spdk, dirty_of_spdk);

fn run(subject: &Subject) {
    let all = std::env::var_os(ALL_VARIABLE).is_some();
    let mut counts: BTreeMap<(&str, Verdict), u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for region in &subject.regions {
        let mut known = Known::new(if all { 1 } else { STRIDE });
        for at in region.bytes.clone() {
            let bits = (0..8).filter(|bit| all || at % 8 == usize::from(*bit));
            for bit in bits {
                match trial::flip(subject, region, (at, bit), &mut known) {
                    Ok(verdict) => *counts.entry((region.name, verdict)).or_default() += 1,
                    Err(what) => violations.push(what),
                }
            }
        }
    }
    for ((region, verdict), count) in &counts {
        println!("{}, {region}: {count} {verdict:?}", subject.name);
    }
    let sum = |wanted| -> u64 {
        counts.iter().filter(|((_, verdict), _)| *verdict == wanted).map(|(_, count)| count).sum()
    };
    let [detected, repaired, harmless] = [Verdict::Detected, Verdict::Repaired, Verdict::Harmless].map(sum);
    let wrong = violations.len() as u64;
    let flips = detected + repaired + harmless + wrong;
    // Line for line what `cargo xtask bitflips` looks for.
    println!("flips={flips} detected={detected} repaired={repaired} harmless={harmless} violations={wrong}");
    let shown = violations.iter().take(SHOWN).fold(String::new(), |text, line| text + "\n  " + line);
    assert!(violations.is_empty(), "{}: {wrong} violations{shown}", subject.name);
}
