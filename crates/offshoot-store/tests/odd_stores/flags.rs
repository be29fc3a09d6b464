//! Flag bits that nobody knows.

use crate::case::Case;
use crate::lvols::{Lvols as _, named, pattern, writable};
use crate::plain_maker::{Blob, Plan, id_of};
use crate::{populated, with};
use offshoot_format::BlobId;
use offshoot_store::{ErrorKind, OpenOptions, Underlay, Verb};

const ODD: usize = 5;
const UNKNOWN: u64 = 1 << 40;

/// An lvol with an unknown bit in one of its words.
fn odd(word: usize) -> Blob {
    let mut blob = Blob::thin("odd", ODD, "x.x");
    blob.flags[word] |= UNKNOWN;
    blob
}

/// What SPDK refuses for a blob with read-only metadata.
fn assert_metadata_is_read_only(case: &Case) {
    let mut store = case.open();
    let (lvol, size_bytes) = (BlobId(id_of(ODD)), u64::from(case.made.plan.cluster_size));
    let verbs = [
        Verb::Rename { lvol, name: "renamed".into() },
        Verb::Resize { lvol, size_bytes },
        Verb::Snapshot { items: vec![(lvol, named("later"))] },
        Verb::SetReadOnly { lvol },
        Verb::Label { lvol, labels: vec![("key".into(), Some("value".into()))] },
        Verb::SetParent { lvol, underlay: Underlay::Nothing },
        Verb::Revert { lvol, snapshot: lvol },
    ];
    for verb in verbs {
        let refused = store.run(verb.clone()).expect_err("refused");
        assert!(refused.to_string().contains("read-only"), "{verb:?}: {refused}");
    }
}

/// Whether it is written to, and that it can be removed.
fn write_and_remove(case: &Case) -> Result<(), ErrorKind> {
    let mut store = case.open();
    let lvol = BlobId(id_of(ODD));
    let written = [0, u64::from(case.made.plan.cluster_size)]
        .into_iter()
        .try_for_each(|at| store.write(lvol, at, pattern(4096, 3)).map(drop).map_err(|error| error.kind()));
    store.remove("odd").unwrap();
    store.close().1.unwrap();
    written
}

#[test]
fn data_is_read_only() {
    let case = Case::new("data_ro", with(odd(1)));
    assert_metadata_is_read_only(&case);
    assert_eq!(write_and_remove(&case), Err(ErrorKind::ReadOnly));
    case.run();
}

#[test]
fn metadata_is_read_only() {
    let case = Case::new("md_ro", with(odd(2)));
    assert_metadata_is_read_only(&case);
    assert_eq!(write_and_remove(&case), Ok(()));
    Case::new("md_ro, written to", with(odd(2))).writing(ODD).run();
    case.run();
}

#[test]
fn an_lvol_that_cannot_be_read() {
    Case::new("invalid", with(odd(0))).damaged(ODD, "unknown flags 0x10000000000").run();
    let mut plan = with(odd(0).snapshot());
    plan.add(Blob::thin("heir", 6, ".x.").clone_of(ODD));
    let case = Case::new("invalid, on a snapshot", plan);
    case.damaged(ODD, "unknown flags 0x10000000000").damaged(6, "it inherits from").run();
}

#[test]
fn an_lvol_that_cannot_be_read_can_be_removed() {
    for (blob, clean) in [(odd(0), 1), (odd(0), 0), (odd(0).in_runs(), 1), (odd(0).in_runs(), 0)] {
        let plan = Plan { clean, ..with(blob) };
        let case = Case::new("invalid, removed", plan);
        let mut store = case.open();
        let free = store.engine().free_clusters();
        store.remove("odd").unwrap();
        assert_eq!(store.engine().free_clusters(), free, "what it held may be anything");
        let (device, closed) = store.close();
        closed.unwrap();
        let left = device.content();
        let store = case.reopened(&left, &writable());
        assert!(store.state().lvol_by_name(b"odd").is_none());
        assert_eq!(store.engine().free_clusters(), free);
        let repaired = case.reopened(&left, &OpenOptions { repair: true, ..writable() });
        assert_eq!(repaired.engine().free_clusters(), free + 2);
    }
}

/// Nothing that it holds is given to another, whoever makes the masks.
#[test]
fn what_it_holds_stays_its_own() {
    for clean in [1, 0] {
        let mut plan = with(odd(0));
        plan.clean = clean;
        let case = Case::new("invalid, the store is filled up", plan);
        let mut store = case.open();
        let size = store.engine().free_clusters() * u64::from(case.made.plan.cluster_size);
        store.create("rest", size, true).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();
        let bytes = device.content();
        for cluster in case.made.clusters[ODD].iter().filter(|cluster| **cluster != 0) {
            let start = *cluster as usize * case.made.cluster_bytes();
            let range = start..start + case.made.cluster_bytes();
            assert!(bytes[range.clone()] == case.made.bytes[range], "clean {clean}: cluster {cluster}");
        }
    }
}

#[test]
fn a_store_that_cannot_be_read() {
    let mut plan = populated(Plan::new());
    plan.blobs[0].flags[0] |= UNKNOWN;
    let refused = Case::new("invalid, on the super blob", plan).refused();
    assert!(refused.to_string().contains("unknown flags"), "{refused}");
}
