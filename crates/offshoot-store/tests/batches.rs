//! Verbs that are started together: those that only make an lvol share frames and barriers, and every one of them
//! comes to what it would have come to alone.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, named, options, writable};
use offshoot_device::MemDevice;
use offshoot_format::BlobId;
use offshoot_store::{CreateOptions, Error, Reply, Store, Ticket, Verb};
use std::collections::BTreeMap;

const CLUSTER: u64 = 16_384;

fn store(size_bytes: u64) -> (Store<MemDevice>, BlobId) {
    let init = options(16_384, 512, true);
    let mut store = Store::init(MemDevice::new(size_bytes, 512), &init, &writable()).unwrap();
    store.create("disk", 4 * CLUSTER, false).unwrap();
    let golden = store.snapshot("disk", "golden").unwrap();
    (store, golden)
}

fn clone_of(parent: BlobId, name: &str) -> Verb {
    Verb::Clone { parent, identity: named(name) }
}

fn create(name: &str, thick: bool) -> Verb {
    Verb::Create { identity: named(name), size_bytes: CLUSTER, options: CreateOptions::provisioned(thick) }
}

/// Starts all of them at once, and says what each came to.
fn together(store: &mut Store<MemDevice>, verbs: Vec<Verb>) -> Vec<Result<(), Error>> {
    let tickets: Vec<Ticket> = verbs.into_iter().map(|verb| store.start(verb)).collect();
    let mut replies = Vec::new();
    let mut results = BTreeMap::new();
    while results.len() < tickets.len() {
        store.wait(&mut replies);
        results.extend(
            replies.drain(..).map(|(ticket, reply): (_, Result<Reply, _>)| (ticket, reply.map(drop))),
        );
    }
    tickets.iter().map(|ticket| results[ticket].clone()).collect()
}

#[test]
fn clones_share_frames_and_barriers() {
    const CLONES: usize = 1000;
    let (mut store, golden) = store(64 << 20);
    let before = store.device().stats();
    let verbs = (0..CLONES).map(|number| clone_of(golden, &format!("clone{number}"))).collect();
    let results = together(&mut store, verbs);
    assert!(results.iter().all(Result::is_ok));
    let after = store.device().stats();
    let (writes, syncs) = (after.writes.ops - before.writes.ops, after.syncs - before.syncs);
    // The first goes out alone, since nothing else waits then.
    assert!(writes <= 8 && syncs <= 4, "{writes} writes and {syncs} syncs");
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.state().blob(golden).unwrap().clones.len(), CLONES + 1);
}

#[test]
fn each_comes_to_what_it_would_alone() {
    let (mut store, golden) = store(8 << 20);
    let taken = |name: &str| Err(Error::NameExists(name.into()));
    let cases = vec![
        (create("a", false), Ok(())),
        (create("a", true), taken("a")),
        (clone_of(golden, "b"), Ok(())),
        (clone_of(golden, "a"), taken("a")),
        (create("c", true), Ok(())),
        (create("golden", false), taken("golden")),
        (clone_of(golden, "b"), taken("b")),
        (create("d", true), Ok(())),
    ];
    let (verbs, wanted): (Vec<Verb>, Vec<Result<(), Error>>) = cases.into_iter().unzip();
    assert_eq!(together(&mut store, verbs), wanted);
    let (removed, disk) = (store.id("c"), store.id("disk"));
    let verbs = vec![
        clone_of(golden, "e"),
        Verb::Remove { lvol: removed },
        create("c", false),
        Verb::Remove { lvol: golden },
        Verb::Rename { lvol: disk, name: "f".into() },
        create("disk", true),
        create("f", true),
    ];
    let results = together(&mut store, verbs);
    let has_clones = matches!(results[3], Err(Error::HasClones { count: 3, .. }));
    assert!(has_clones, "{results:?}");
    assert_eq!(results[6], taken("f"));
    assert!([0, 1, 2, 4, 5].into_iter().all(|index| results[index].is_ok()), "{results:?}");
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    let names: Vec<String> = store.state().lvols().map(offshoot_store::Blob::display_name).collect();
    assert_eq!(names.len(), 8, "{names:?}");
}

/// What one of them holds until it is done may be more than it takes in the end: no other fails for that.
#[test]
fn as_many_find_room_as_one_by_one() {
    let names: Vec<String> = (0..3000).map(|number| format!("lvol{number}")).collect();
    for thick in [true, false] {
        let (mut one_by_one, _) = store(8 << 20);
        let made = names.iter().filter(|name| one_by_one.create(name, CLUSTER, thick).is_ok()).count();
        assert!((10..names.len()).contains(&made), "{made} of them");
        let (mut batch, _) = store(8 << 20);
        let results = together(&mut batch, names.iter().map(|name| create(name, thick)).collect());
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), made);
        assert!(results[..made].iter().all(Result::is_ok), "in the order in which they were asked for");
    }
}
