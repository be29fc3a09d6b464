//! Stores that old versions of SPDK left, or that others wrote: each is read as SPDK reads it, stays as it is when nothing
//! is changed, and is still of its kind when something was. `docs/compat/odd-stores.md` has them in one table.
//!
//! - `case`: what is asked of each;
//! - `geometry`: versions, sizes, masks;
//! - `blobs`: maps, names, descriptors;
//! - `flags`: bits that nobody knows.
#![allow(clippy::unwrap_used, reason = "a step that fails fails its test")]

mod blobs;
mod case;
mod flags;
mod geometry;

#[path = "../common/lvols.rs"]
mod lvols;
#[path = "../common/plain_checker.rs"]
mod plain_checker;
#[path = "../common/plain_maker.rs"]
mod plain_maker;

use plain_maker::{Blob, Plan};

/// An lvol that is written to, a snapshot with a clone, a thick lvol: blobs 1 to 4.
fn populated(mut plan: Plan) -> Plan {
    plan.add(Blob::thin("vm", 1, "x.x"));
    let snap = plan.add(Blob::thin("snap", 2, "xx.").snapshot());
    plan.add(Blob::thin("clone", 3, ".x.").clone_of(snap));
    plan.add(Blob::thick("thick", 4, 2));
    plan
}

/// The same with one more lvol, blob 5.
fn with(blob: Blob) -> Plan {
    let mut plan = populated(Plan::new());
    plan.add(blob);
    plan
}
