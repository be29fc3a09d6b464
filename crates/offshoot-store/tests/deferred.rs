//! Removal that is put off: out of sight at once, gone with the last clone but one, whatever happens in between.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, options, pattern, writable};
use offshoot_device::MemDevice;
use offshoot_format::{BlobMd, Xattr};
use offshoot_store::{Error, OpenOptions, Store, Underlay, Verb, XATTR_DELETED};

const CLUSTER: u64 = 16_384;
const LEN: u64 = 8 * CLUSTER;

type Plain = Store<MemDevice>;

/// A store with a snapshot "s" of 8 clusters and its clones "a", "b" and "c", each with a block of its own.
fn store() -> Plain {
    let mut store =
        Store::init(MemDevice::new(16 << 20, 512), &options(16_384, 512, false), &writable()).unwrap();
    let id = store.create("a", LEN, false).unwrap();
    store.write(id, 0, pattern(LEN, 1)).unwrap();
    store.snapshot("a", "s").unwrap();
    for (name, seed) in [("a", 2), ("b", 3), ("c", 4)] {
        let id = if name == "a" { id } else { store.clone_of("s", name).unwrap() };
        store.write(id, u64::from(seed) * CLUSTER, pattern(512, seed)).unwrap();
    }
    store
}

fn defer(store: &mut Plain, name: &str) -> Result<(), Error> {
    let lvol = store.id(name);
    store.run(Verb::RemoveDeferred { lvol }).map(drop)
}

fn set_parent(store: &mut Plain, name: &str, underlay: Underlay) {
    let lvol = store.id(name);
    store.run(Verb::SetParent { lvol, underlay }).unwrap();
}

fn reopen(store: Plain) -> Plain {
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.state().audit(), &[]);
    store
}

fn names(store: &Plain) -> Vec<String> {
    let mut names: Vec<String> = store.state().lvols().map(|blob| blob.display_name()).collect();
    names.sort();
    names
}

fn deferred(store: &Plain) -> usize {
    store.state().deferred().count()
}

#[test]
fn it_is_out_of_sight_at_once_and_stays_so() {
    let mut store = store();
    let before: Vec<Vec<u8>> = ["a", "b", "c"].map(|name| store.content(name)).into();
    let id = store.id("s");
    defer(&mut store, "s").unwrap();
    for round in 0..3 {
        assert_eq!(
            (names(&store), deferred(&store)),
            (vec!["a".into(), "b".into(), "c".into()], 1),
            "{round}"
        );
        let hidden = store.state().blob(id).unwrap().display_name();
        assert!(hidden.starts_with(".deleted-") && store.state().lvol_by_name(hidden.as_bytes()).is_none());
        // Nobody can do anything with it, nor take its name.
        let refused = store.run(Verb::Clone { parent: id, identity: lvols::named("d") });
        assert_eq!(refused.unwrap_err(), Error::UnknownBlob(id));
        assert_eq!(store.create(&hidden, LEN, false).unwrap_err(), Error::NameExists(hidden));
        store = reopen(store);
        assert!(!store.super_block().is_native(), "SPDK can open it");
    }
    store.create("s", LEN, false).unwrap();
    for (name, before) in ["a", "b", "c"].into_iter().zip(before) {
        assert!(store.content(name) == before, "{name}");
    }
}

/// What takes a clone away.
type Taking = (&'static str, fn(&mut Plain, &str));

const TAKING: [Taking; 4] = [
    ("removed", |store, name| store.remove(name).unwrap()),
    ("removed, deferred", |store, name| defer(store, name).unwrap()),
    ("decoupled", |store, name| set_parent(store, name, Underlay::Nothing)),
    ("put onto another", |store, name| {
        if store.state().lvol_by_name(b"other").is_none() {
            store.create("other", LEN, false).unwrap();
            let lvol = store.id("other");
            store.run(Verb::SetReadOnly { lvol }).unwrap();
        }
        let other = store.id("other");
        set_parent(store, name, Underlay::Snapshot(other));
    }),
];

#[test]
fn it_goes_with_the_last_clone_but_one() {
    for (what, take) in TAKING {
        for reopens in [false, true] {
            let mut store = store();
            let (heir, own) = (store.content("c"), store.own_clusters("s"));
            defer(&mut store, "s").unwrap();
            take(&mut store, "a");
            assert_eq!(deferred(&store), 1, "{what}");
            if reopens {
                store = reopen(store);
            }
            take(&mut store, "b");
            assert_eq!(deferred(&store), 0, "{what}");
            assert_eq!(store.state().blob(store.id("c")).unwrap().parent, None, "{what}");
            // One of its clusters "c" had written itself.
            assert_eq!(store.own_clusters("c"), own, "{what}");
            assert!(store.content("c") == heir, "{what}");
            let id = store.id("c");
            store.write(id, 0, pattern(512, 9)).unwrap();
            reopen(store);
        }
    }
}

#[test]
fn a_revert_takes_a_clone_as_well() {
    let mut store = store();
    // s <- d <- a, s <- b; d's twin keeps what "a" goes back to.
    store.snapshot("a", "d").unwrap();
    store.remove("c").unwrap();
    let expected = store.content("b");
    defer(&mut store, "s").unwrap();
    let (lvol, snapshot) = (store.id("b"), store.id("d"));
    store.run(Verb::Revert { lvol, snapshot }).unwrap();
    assert_eq!(deferred(&store), 0);
    assert!(store.content("b") != expected && store.content("b") == store.content("d"));
    reopen(store);
}

#[test]
fn a_chain_of_them_goes_together() {
    let mut store = store();
    store.snapshot("a", "s2").unwrap();
    store.clone_of("s2", "d").unwrap();
    store.remove("c").unwrap();
    defer(&mut store, "s").unwrap();
    defer(&mut store, "s2").unwrap();
    assert_eq!((deferred(&store), names(&store)), (2, vec!["a".into(), "b".into(), "d".into()]));
    let expected = store.content("d");
    store.remove("b").unwrap();
    assert_eq!(deferred(&store), 1);
    store = reopen(store);
    store.remove("a").unwrap();
    assert_eq!((deferred(&store), names(&store)), (0, vec!["d".into()]));
    assert!(store.content("d") == expected);
    store = reopen(store);
    store.remove("d").unwrap();
    assert_eq!(reopen(store).state().clusters.used().count_ones() as u64, metadata_only());
}

fn metadata_only() -> u64 {
    let store =
        Store::init(MemDevice::new(16 << 20, 512), &options(16_384, 512, false), &writable()).unwrap();
    lvols::metadata_clusters(&store.state().layout)
}

#[test]
fn with_one_clone_or_none_it_is_a_removal() {
    let mut store = store();
    store.remove("a").unwrap();
    store.remove("b").unwrap();
    defer(&mut store, "s").unwrap();
    assert_eq!((names(&store), deferred(&store)), (vec!["c".to_string()], 0));
    defer(&mut store, "c").unwrap();
    assert!(names(&store).is_empty());
}

/// Another program has removed clones and kept the mark: SPDK does.
#[test]
fn what_is_due_when_a_store_is_opened_goes_then() {
    for clones in 0..2 {
        let mut store = store();
        for name in ["a", "b", "c"].into_iter().skip(clones) {
            store.remove(name).unwrap();
        }
        let (layout, root) = (store.state().layout.clone(), store.id("s").root());
        let (mut device, closed) = store.close();
        closed.unwrap();
        let mut page = vec![0; 4096];
        device.read_at(layout.md_page_offset(root), &mut page);
        let mut md = BlobMd::decode_chain(&[(root, &page[..])]).unwrap();
        md.xattrs.push(Xattr::new(XATTR_DELETED, "1"));
        device.write_at(layout.md_page_offset(root), &md.encode_chain(&[root])[0]);

        let looked = Store::open(device.clone(), Vec::new(), &OpenOptions::read_only(None)).unwrap();
        assert_eq!((deferred(&looked), names(&looked).len()), (1, clones));
        let store = Store::open(device, Vec::new(), &writable()).unwrap();
        assert_eq!((deferred(&store), names(&store).len()), (0, clones));
        reopen(store);
    }
}
