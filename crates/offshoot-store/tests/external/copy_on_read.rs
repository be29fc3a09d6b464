//! Copy on read: what was read of an external snapshot is the clone's own, and nothing else is.

use super::{BLOCK, CLUSTER, EXTERNAL, Failing, external, new_store, reopened};
use crate::lvols::{Lvols as _, assert_owned_once, named, pattern};
use offshoot_device::Fault;
use offshoot_store::{Error, IoRequest, Store, Verb, Work};
use std::ops::ControlFlow;

const SIZE: u64 = 8 * CLUSTER;

fn clone(
    store: &mut Store<Failing>,
    name: &str,
    below: &Failing,
    copy_on_read: bool,
) -> offshoot_format::BlobId {
    store.attach_external(&EXTERNAL.to_string(), below.clone());
    let identity = named(name);
    let verb = Verb::CloneExternal {
        identity,
        size_bytes: SIZE,
        external: EXTERNAL,
        external_bytes: SIZE,
        copy_on_read,
    };
    store.run(verb).unwrap()[0]
}

/// Lets what goes on behind replies come to its end.
fn settle(store: &mut Store<Failing>) {
    while store.engine().is_busy() {
        assert!(replies(store).is_empty(), "somebody is told what nobody asked");
    }
}

fn replies(
    store: &mut Store<Failing>,
) -> Vec<(offshoot_store::Ticket, Result<offshoot_store::Reply, Error>)> {
    let mut replies = Vec::new();
    store.poll(&mut replies);
    replies
}

#[test]
fn what_was_read_is_read_once() {
    for native in [true, false] {
        let below = external(SIZE, 512);
        let mut store = new_store(512, native);
        let (kept, other) =
            (clone(&mut store, "kept", &below, true), clone(&mut store, "other", &below, false));
        let content = pattern(SIZE, 5);
        for lvol in [kept, other] {
            let read = store.read(lvol, CLUSTER + BLOCK, usize::try_from(2 * BLOCK).unwrap()).unwrap();
            assert!(read.as_slice() == &content.as_slice()[20_480..28_672]);
            settle(&mut store);
        }
        assert_eq!((store.own_clusters("kept"), store.own_clusters("other")), (1, 0), "{native}");
        below.borrow().inject(Fault::new(5));
        let again = store.read(kept, CLUSTER + BLOCK, usize::try_from(2 * BLOCK).unwrap()).unwrap();
        assert!(again.as_slice() == &content.as_slice()[20_480..28_672]);
        assert!(store.read(other, CLUSTER + BLOCK, 4096).is_err());
        // Where a part of a cluster can be kept no more than what was read is.
        assert_eq!(store.read(kept, CLUSTER, 4096).is_err(), native);
        assert!(store.read(kept, 0, 4096).is_err());
        below.borrow().heal();
        assert_owned_once(&store);
        let before = store.own_clusters("kept");
        let mut store = reopened(store, vec![(EXTERNAL.to_string(), below.clone())]);
        // Some clusters at a time, also in another session.
        for _ in 0..8 {
            assert!(store.content("kept") == content.as_slice());
            settle(&mut store);
        }
        assert_eq!((before, store.own_clusters("kept")), (1, 8));
        store.run_job(Work::Inflate { lvol: kept }, |_| ControlFlow::Continue(())).unwrap();
        assert!(store.content("kept") == content.as_slice());
    }
}

/// Writes and reads at once, and a snapshot in between: what is kept is never newer or older than what was written.
#[test]
fn clients_write_meanwhile() {
    for native in [true, false] {
        let below = external(SIZE, 512);
        let mut store = new_store(512, native);
        let lvol = clone(&mut store, "e", &below, true);
        let mut expected = pattern(SIZE, 5).as_slice().to_vec();
        let mut tickets = Vec::new();
        for at in 0..8_u64 {
            let offset = at * CLUSTER;
            let buffer = offshoot_block::Buffer::zeroed(usize::try_from(CLUSTER).unwrap());
            tickets.push(store.submit(IoRequest::Read { lvol, offset, buffer }));
            let data = pattern(1000, u8::try_from(at).unwrap());
            let start = usize::try_from(offset + 700).unwrap();
            expected[start..start + 1000].copy_from_slice(data.as_slice());
            tickets.push(store.submit(IoRequest::Write { lvol, offset: offset + 700, data, fua: false }));
            if at == 4 {
                tickets.push(store.start(Verb::Snapshot { items: vec![(lvol, named("snap"))] }));
            }
        }
        let mut answers = Vec::new();
        while answers.len() < tickets.len() {
            store.wait(&mut answers);
        }
        assert!(answers.iter().all(|(_, result)| result.is_ok()), "{answers:?}");
        settle(&mut store);
        assert!(store.content("e") == expected);
        assert_owned_once(&store);
        let mut store = reopened(store, vec![(EXTERNAL.to_string(), below.clone())]);
        assert!(store.content("e") == expected);
    }
}

/// A full store, a read-only one, a snapshot: reads are served, and nothing is kept.
#[test]
fn what_cannot_be_kept_is_read_again() {
    let below = external(SIZE, 512);
    let mut store = new_store(512, true);
    let lvol = clone(&mut store, "e", &below, true);
    let free = store.free();
    store.create("full", free * CLUSTER, true).unwrap();
    let content = pattern(SIZE, 5);
    assert!(store.content("e") == content.as_slice());
    settle(&mut store);
    assert_eq!(store.own_clusters("e"), 0);
    store.remove("full").unwrap();
    settle(&mut store);
    store.run(Verb::SetReadOnly { lvol }).unwrap();
    assert!(store.content("e") == content.as_slice());
    settle(&mut store);
    assert_eq!(store.own_clusters("e"), 0);
}
