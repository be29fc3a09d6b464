//! Clones of external snapshots as a verb: their sizes, what is on disk for them, what is refused, what an error leaves.

use crate::jobs::{Contents, an_error_of_every_operation, contents};
use crate::lvols::{Lvols as _, SESSION, assert_owned_once, named, options, pattern, writable_in};
use crate::plain_checker::PlainStore;
use crate::{BLOCK, CLUSTER, EXTERNAL, Failing, external, index, new_store, reopened};
use offshoot_device::MemDevice;
use offshoot_store::{Error, ErrorKind, InitOptions, Store, Underlay, Verb, Work};
use std::ops::ControlFlow;
use uuid::Uuid;

fn verb(name: &str, size_bytes: u64, external_bytes: u64) -> Verb {
    Verb::CloneExternal {
        identity: named(name),
        size_bytes,
        external: EXTERNAL,
        external_bytes,
        copy_on_read: false,
    }
}

/// What the plain store on a device says.
fn plain(device: &Failing) -> PlainStore {
    let device = device.borrow();
    PlainStore::read(&|offset, bytes| device.inner().read_at(offset, bytes))
}

#[test]
fn of_any_size() {
    // What the external snapshot has, what the clone is to have, what it has then, and how much of that can show.
    let cases = [
        (4 * CLUSTER, 4 * CLUSTER, 4, 4),
        (3 * CLUSTER + 512, 3 * CLUSTER + 512, 4, 4),
        (4 * CLUSTER, 3 * CLUSTER - 1, 3, 3),
        (2 * CLUSTER, 7 * CLUSTER, 7, 2),
        (2 * CLUSTER + 512, 7 * CLUSTER, 7, 3),
        (0, 2 * CLUSTER, 2, 0),
        (2 * CLUSTER, 0, 0, 0),
    ];
    for (native, (external_bytes, size_bytes, len, shown)) in
        [true, false].into_iter().flat_map(|native| cases.map(|case| (native, case)))
    {
        let what = format!("{external_bytes} as {size_bytes}, native states: {native}");
        let below = external(external_bytes, 512);
        let mut store = new_store(512, native);
        store.attach_external(&EXTERNAL.to_string(), below.clone());
        let made = store.run(verb("e", size_bytes, external_bytes)).unwrap();
        let blob = store.state().blob(made[0]).unwrap();
        assert!(blob.is_thin() && blob.external_is_parent && blob.parent.is_none(), "{what}");
        assert_eq!((blob.len, blob.inherit_len), (len, shown), "{what}");
        assert_eq!(blob.own_clusters, if native { 0 } else { len - shown }, "{what}");
        let mut expected = pattern(external_bytes, 5).as_slice().to_vec();
        expected.resize(index(len * CLUSTER), 0);
        assert!(store.content("e") == expected, "{what}");

        // A device that has become longer shows no more clusters than it did.
        let longer = external(8 * CLUSTER, 512);
        let mut store = reopened(store, vec![(EXTERNAL.to_string(), longer)]);
        let end = index(shown * CLUSTER);
        assert!(store.content("e")[end..].iter().all(|byte| *byte == 0), "{what}: longer");

        let mut store = reopened(store, vec![(EXTERNAL.to_string(), below)]);
        store.run_job(Work::Seal, |_| ControlFlow::Continue(())).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();
        let sealed = plain(&device);
        let lvol = sealed.lvol("e");
        assert!(lvol.is_external_clone() && lvol.is_thin(), "{what}");
        assert_eq!(lvol.own_clusters(), len - shown, "{what}: what the external snapshot lacks is there");
    }
}

#[test]
fn what_is_refused() {
    let mut store = new_store(512, false);
    let lvol = store.create("l", 4 * CLUSTER, false).unwrap();
    store.create("thick", CLUSTER, true).unwrap();
    let free = store.free();
    assert_eq!(store.run(verb("l", CLUSTER, CLUSTER)), Err(Error::NameExists("l".into())));
    assert!(matches!(store.run(verb("a/b", CLUSTER, CLUSTER)), Err(Error::BadName { .. })));
    // What could not be hidden has to be backed.
    let needed = free + 1;
    let refused = store.run(verb("e", needed * CLUSTER, 0));
    assert_eq!(refused, Err(Error::NoClusters { needed, free }));
    assert_eq!(store.run(verb("e", u64::MAX, 0)).unwrap_err().kind(), ErrorKind::Invalid);
    let uuid = named("l").uuid;
    let own = Error::ExternalIsLvol { uuid, name: "l".into() };
    let clone = Verb::CloneExternal {
        identity: named("e"),
        size_bytes: 1,
        external: uuid,
        external_bytes: 1,
        copy_on_read: false,
    };
    assert_eq!((store.run(clone), own.kind()), (Err(own.clone()), ErrorKind::Invalid));
    let onto = |lvol, uuid| Verb::SetParent { lvol, underlay: Underlay::External(uuid) };
    assert_eq!(store.run(onto(lvol, uuid)), Err(own));
    assert_eq!(store.run(onto(store.id("thick"), EXTERNAL)), Err(Error::ThickLvol("thick".into())));
    assert_eq!(store.free(), free);

    store.run(onto(lvol, EXTERNAL)).unwrap();
    let already = Error::ParentAlready { name: "l".into(), parent: EXTERNAL.to_string() };
    assert_eq!(store.run(onto(lvol, EXTERNAL)), Err(already));
    store.run(onto(lvol, Uuid::from_u128(10))).unwrap();
    assert!(store.engine().is_degraded(lvol));
    assert_eq!(store.state().lvols().count(), 2);
}

/// From a snapshot to an external snapshot, to another and back: what the lvol holds itself stays.
#[test]
fn from_parent_to_parent() {
    for native in [true, false] {
        let mut store = new_store(512, native);
        let other = Uuid::from_u128(10);
        let devices = [(EXTERNAL, 3 * CLUSTER, 5), (other, 8 * CLUSTER, 6)];
        for (uuid, size_bytes, seed) in devices {
            let content = MemDevice::with_content(pattern(size_bytes, seed).as_slice(), 4096);
            store.attach_external(&uuid.to_string(), crate::failing(content));
        }
        let base = store.create("base", 8 * CLUSTER, false).unwrap();
        store.write(base, 0, pattern(8 * CLUSTER, 1)).unwrap();
        store.snapshot("base", "snap").unwrap();
        let lvol = store.clone_of("snap", "l").unwrap();
        store.write(lvol, CLUSTER, pattern(CLUSTER, 2)).unwrap();
        let snap = store.id("snap");
        let steps = [
            (Underlay::External(EXTERNAL), 3 * CLUSTER, 5),
            (Underlay::External(other), 8 * CLUSTER, 6),
            (Underlay::Snapshot(snap), 8 * CLUSTER, 1),
            (Underlay::External(EXTERNAL), 3 * CLUSTER, 5),
            (Underlay::Nothing, 0, 0),
        ];
        for (underlay, size_bytes, seed) in steps {
            store.run(Verb::SetParent { lvol, underlay: underlay.clone() }).unwrap();
            let mut expected = pattern(size_bytes, seed).as_slice().to_vec();
            expected.resize(index(8 * CLUSTER), 0);
            expected[index(CLUSTER)..index(2 * CLUSTER)].copy_from_slice(pattern(CLUSTER, 2).as_slice());
            assert!(store.content("l") == expected, "{underlay:?}");
            let parent = store.state().blob(lvol).unwrap().parent;
            assert_eq!(parent.is_some(), matches!(underlay, Underlay::Snapshot(_)));
        }
        assert_owned_once(&store);
        assert_eq!(store.state().audit(), &[]);
    }
}

/// All or nothing, whichever operation fails.
#[test]
fn an_error_of_every_operation_leaves_all_or_nothing() {
    for native in [true, false] {
        let init = InitOptions { journal_bytes: Some(1 << 20), ..options(16_384, 512, native) };
        let mut store =
            Store::init(MemDevice::new(6 << 20, 512), &init, &writable_in(Some(SESSION))).unwrap();
        let lvol = store.create("l", 3 * CLUSTER, false).unwrap();
        store.write(lvol, BLOCK, pattern(BLOCK, 1)).unwrap();
        let (start, closed) = store.close();
        closed.unwrap();
        let verbs = [
            verb("e", 4 * CLUSTER, 2 * CLUSTER),
            Verb::SetParent { lvol, underlay: Underlay::External(EXTERNAL) },
        ];
        for verb in verbs {
            let content = |left: MemDevice, power| -> Contents {
                let external = MemDevice::with_content(pattern(2 * CLUSTER, 5).as_slice(), 512);
                let externals = vec![(EXTERNAL.to_string(), external)];
                let mut store = Store::open(left, externals, &writable_in(Some(power))).unwrap();
                assert_eq!((store.findings(), store.state().audit()), (&[][..], Vec::new()));
                assert_owned_once(&store);
                contents(&mut store)
            };
            let before = content(start.clone(), SESSION);
            let mut store = Store::open(start.clone(), Vec::new(), &writable_in(Some(SESSION))).unwrap();
            store.run(verb.clone()).unwrap();
            let (done, closed) = store.close();
            closed.unwrap();
            let after = content(done, SESSION);
            assert!(before != after);
            an_error_of_every_operation(
                &start,
                |store| store.run(verb.clone()).map(drop),
                |store, what| assert_eq!(store.state().lvols().count(), 1, "{what}"),
                |left, power, what| {
                    let found = content(left, power);
                    assert!(found == before || found == after, "{what}");
                },
            );
        }
    }
}
