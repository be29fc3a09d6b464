//! Does a store keep its contract through any crash?
//!
//! A [`SimDisk`] has a volatile cache, completes in any order, tears and fails, all drawn from a seed. A workload of
//! verbs and I/O runs over a store on it, one completion at a time; between any two of them the process may die or the
//! power may go. A plain model knows what each sector of each lvol may hold then, and the promises D1 to D7 of
//! `docs/durability.md` are checked against what recovers. [`run`] is one random run: its seed is all there is to it.
//!
//! Will never be shipped, and never asks a clock, a file or the operating system for anything.
#![forbid(unsafe_code)]

mod cell;
mod check;
mod counts;
mod damage;
mod disk;
mod enumerate;
mod explore;
mod external;
#[cfg(test)]
mod groups;
mod harm;
mod image;
mod model;
mod pattern;
mod power;
mod random;
mod run;
mod setup;
mod steps;
mod violation;
mod workload;
mod world;

pub use counts::{Counts, DamageCounts};
pub use damage::run_damaged;
pub use disk::{
    Asked, Bounds, Caching, Change, Content, Cut, DiskState, Effect, Event, Fate, Fault, OpKind, SimDisk,
    Subset, Withheld, Written,
};
pub use enumerate::{Family, sequences};
pub use harm::{DamageKind, Zone};
pub use image::{Image, SECTOR_BYTES};
pub use random::Random;
pub use run::{run, run_calmly};
pub use setup::Setup;
pub use steps::Step;
pub use violation::{Promise, Violation};
