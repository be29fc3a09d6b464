//! Super blocks and masks as older versions and other writers leave them.

use crate::case::Case;
use crate::plain_maker::{Blob, Plan};
use crate::{populated, with};

const TYPE: std::ops::Range<usize> = 0x38..0x48;

/// What version 1 and 2 could say: runs, no flags, no mask of blob ids.
fn of_old(version: u32) -> Plan {
    let mut plan = Plan { version, has_blobid_mask: false, md_page_size: 0, io_unit: 0, ..Plan::new() };
    plan.blobs[0] = Blob { has_flags: false, ..Blob::store("lvs").in_runs() };
    for (number, name) in (1..).zip(["vm", "other"]) {
        plan.add(Blob { has_flags: false, ..Blob::thick(name, number, 3).in_runs() });
    }
    plan
}

#[test]
fn version_1() {
    Case::new("version 1", of_old(1)).renaming(2).run();
}

#[test]
fn version_1_that_knows_its_type() {
    let mut case = Case::new("version 1 with a type", of_old(1));
    case.made.edit_super_block(|bytes| bytes[TYPE].copy_from_slice(b"LVOLSTORE\0\0\0\0\0\0\0"));
    case.run();
}

#[test]
fn version_2() {
    Case::new("version 2", of_old(2)).renaming(2).run();
}

#[test]
fn no_mask_of_blob_ids() {
    let plan = populated(Plan { has_blobid_mask: false, ..Plan::new() });
    Case::new("no mask of blob ids", plan).renaming(4).run();
}

#[test]
fn md_pages_of_every_size() {
    for (name, md_page_size, cluster_size) in [
        ("md page size 0", 0, 16_384),
        ("md pages of 8 KiB", 8192, 16_384),
        ("md pages of 64 KiB", 65_536, 131_072),
    ] {
        let plan = Plan { md_page_size, cluster_size, ..Plan::new() };
        Case::new(name, populated(plan)).renaming(4).run();
    }
}

#[test]
fn io_units() {
    for (name, io_unit) in [("io unit 0", 0), ("io unit 512", 512), ("io unit 4096", 4096)] {
        Case::new(name, populated(Plan { io_unit, ..Plan::new() })).run();
    }
}

#[test]
fn masks_that_are_longer() {
    let surplus = Plan { surplus_bits: 20, ..Plan::new() };
    Case::new("a cluster mask beyond the clusters", populated(surplus)).run();
    Case::new("room for the cluster mask to grow", populated(Plan { headroom: 3, ..Plan::new() })).run();
}

/// A growth adds clusters and no md pages.
#[test]
fn grown_stores() {
    Case::new("more clusters than md pages", populated(Plan { md_len: 32, clusters: 200, ..Plan::new() }))
        .run();
    Case::new("more md pages than clusters", populated(Plan { md_len: 120, ..Plan::new() })).run();
}

/// As if the size had been written and the mask had not: no store of SPDK's is left so, but nothing is lost in it.
#[test]
fn a_mask_that_is_too_short() {
    let mut case = Case::new("a cluster mask that is too short", populated(Plan::new()));
    let at = case.made.regions.cluster_mask.0 as usize * case.made.md_page_bytes();
    case.made.bytes[at + 1..at + 5].copy_from_slice(&40_u32.to_le_bytes());
    case.finds(&["used cluster mask"]).run_repaired();
}

#[test]
fn sizes() {
    let unsized_store = Plan { stores_size: false, ..Plan::new() };
    Case::new("size 0", populated(unsized_store)).changing(0x50..0x58).run();
    let larger = Plan { bytes_behind: 5 * 16_384 + 512, ..Plan::new() };
    Case::new("a larger device", populated(larger)).run();
}

#[test]
fn clean_by_any_number() {
    Case::new("clean 7", populated(Plan { clean: 7, ..Plan::new() })).changing(0x10..0x14).run();
}

#[test]
fn reserved_bytes() {
    let mut case = Case::new("reserved bytes", with(Blob::thick("odd", 5, 1))).odd(&["reserved bytes"]);
    case.made.edit_super_block(|bytes| bytes[0x400..0x404].copy_from_slice(b"mine"));
    case.run();
}
