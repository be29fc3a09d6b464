//! The md region grows over the clusters behind it, which are moved out of its way.

use super::{CLUSTER, LARGE, SMALL, closed, clusters, opened, plain, small};
use crate::jobs::an_error_of_every_operation;
use crate::lvols::{Lvols as _, assert_owned_once, pattern, writable, writable_in};
use crate::plain_maker::{Blob, Plan};
use crate::shuffled::ShuffledDevice;
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_store::{Error, IoRequest, Store, Work};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Md pages that take so many clusters more.
pub(super) fn md_pages<D: BlockDevice>(store: &Store<D>, clusters: u32) -> u32 {
    let layout = &store.state().layout;
    let more = (1..).find(|more| layout.clusters_for_md(layout.md_len + more).len() == clusters as usize);
    layout.md_len + more.unwrap()
}

/// Lvols of every kind on the clusters behind the md region: full ones, parts, layers over each other, zeros.
pub(super) fn populate<D: BlockDevice>(store: &mut Store<D>) {
    let disk = store.id("disk");
    store.write(disk, CLUSTER / 2, pattern(4096, 5)).unwrap();
    let clone = store.clone_of("snap", "clone").unwrap();
    store.write(clone, 3 * 4096, pattern(4096, 6)).unwrap();
    store.write_zeroes(clone, CLUSTER..CLUSTER + 8192).unwrap();
    store.snapshot("clone", "mid").unwrap();
    store.write(clone, 2 * 4096, pattern(6000, 7)).unwrap();
    store.clone_of("mid", "other").unwrap();
    store.unmap(store.id("other"), 0..4096).unwrap();
    let own = store.create("own", 8 * CLUSTER, false).unwrap();
    for at in 0..8 {
        store.write(own, at * CLUSTER, pattern(CLUSTER, 8 + u8::try_from(at).unwrap())).unwrap();
    }
}

pub(super) fn contents<D: BlockDevice>(store: &mut Store<D>) -> BTreeMap<String, Vec<u8>> {
    let names: Vec<String> = store.state().lvols().map(|lvol| lvol.display_name()).collect();
    names.into_iter().map(|name| (name.clone(), store.content(&name))).collect()
}

/// Own clusters by name.
fn owned<D: BlockDevice>(store: &Store<D>) -> Vec<(String, u64)> {
    store.state().lvols().map(|lvol| (lvol.display_name(), lvol.own_clusters)).collect()
}

pub(super) fn in_use(native: bool) -> Store<MemDevice> {
    let mut store = small(native);
    populate(&mut store);
    store
}

#[test]
fn clusters_in_the_way_are_moved() {
    for native in [true, false] {
        for more in [0, 1, 7, 24] {
            let mut store = in_use(native);
            let (before, own) = (contents(&mut store), owned(&store));
            let (total, free) = clusters(&store);
            let pages = match more {
                0 => store.state().layout.md_len + 1,
                more => md_pages(&store, more),
            };
            let more = store.state().layout.clusters_for_md(pages).len() as u64;
            store.grow_to(pages).unwrap();
            assert_eq!(store.state().layout.md_len, pages);
            assert_eq!(clusters(&store), (total, free - more), "{native}");
            assert!(contents(&mut store) == before, "{native} {more}");
            assert_eq!(owned(&store), own, "nothing has come to own more");
            assert_eq!(store.state().audit(), &[]);
            assert_owned_once(&store);
            assert_eq!(store.state().md.used().len(), pages as usize);
            store.write(store.id("own"), CLUSTER, pattern(CLUSTER, 1)).unwrap();
            let before = contents(&mut store);
            let mut store = opened(closed(store));
            assert!(store.state().layout.md_len == pages && contents(&mut store) == before);
            store.run_job(Work::Seal, |_| ControlFlow::Continue(())).unwrap();
            plain(&closed(store));
        }
    }
}

/// What md pages were needed for can be done afterwards; that there is not a single one left does not matter.
#[test]
fn a_store_without_md_pages_gets_some() {
    for native in [true, false] {
        let mut store = in_use(native);
        let mut made = 0;
        let refused = loop {
            match store.create(&format!("l{made}"), CLUSTER, false) {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::NoMdPages { .. }), "{refused}");
        let before = contents(&mut store);
        let pages = md_pages(&store, 20);
        store.grow_to(pages).unwrap();
        for more in 0..40 {
            store.create(&format!("m{more}"), CLUSTER, false).unwrap();
        }
        let mut store = opened(closed(store));
        let mut after = contents(&mut store);
        after.retain(|name, _| !name.starts_with('m') || name == "mid");
        assert!(after == before);
        plain_if_sealed(store);
    }
}

fn plain_if_sealed(store: Store<MemDevice>) {
    let device = closed(store);
    if super::super_block(&device).version <= 3 {
        plain(&device);
    }
}

#[test]
fn what_cannot_be_changes_nothing() {
    let mut store = in_use(true);
    let layout = store.state().layout.clone();
    let (present, max) = (layout.md_len, layout.growable_md_pages());
    assert_eq!(store.grow_to(present - 1), Err(Error::MdShrinks { pages: present - 1, present }));
    assert_eq!(store.grow_to(max + 1), Err(Error::TooManyMdPages { pages: max + 1, max }));
    let beyond = store.grow_to(max);
    assert!(matches!(beyond, Err(Error::NoClusters { .. })), "{beyond:?}");
    let id = store.create("full", SMALL, false).unwrap();
    for at in 0..store.free() - 3 {
        store.write(id, at * CLUSTER, pattern(CLUSTER, 3)).unwrap();
    }
    let pages = md_pages(&store, 12);
    let before = (contents(&mut store), clusters(&store));
    assert!(matches!(store.grow_to(pages), Err(Error::NoClusters { .. })));
    assert_eq!(clusters(&store), before.1);
    assert!(contents(&mut store) == before.0);
    assert_eq!((&store.state().layout, store.state().clusters.available()), (&layout, 3));
    // With more of the device there is room for what moves.
    store.device_mut().resize(LARGE);
    store.grow_to(pages).unwrap();
    assert!(contents(&mut store) == before.0);
    plain_if_sealed(opened(closed(store)));
}

/// Clients read and write what is being moved.
#[test]
fn lvols_are_in_use_meanwhile() {
    for native in [true, false] {
        let mut store = in_use(native);
        let mut expected = contents(&mut store);
        let id = store.id("own");
        let pages = md_pages(&store, 24);
        let size_bytes = store.device_mut().geometry().size_bytes;
        let job = store.start_job(Work::Grow { size_bytes, md_pages: pages }, None);
        let mut tickets = Vec::new();
        let content = expected.get_mut("own").unwrap();
        for at in 0..8 {
            let offset = at * CLUSTER + 4096;
            let data = pattern(4096, u8::try_from(at).unwrap());
            content[usize::try_from(offset).unwrap()..][..4096].copy_from_slice(data.as_slice());
            tickets.push(store.submit(IoRequest::Write { lvol: id, offset, data, fua: at % 2 == 0 }));
        }
        tickets.push(job);
        let mut replies = Vec::new();
        while replies.len() < tickets.len() {
            store.wait(&mut replies);
        }
        assert!(replies.iter().all(|(_, result)| result.is_ok()), "{replies:?}");
        assert_eq!(store.state().layout.md_len, pages);
        assert!(contents(&mut store) == expected);
        let mut store = opened(closed(store));
        assert!(contents(&mut store) == expected);
    }
}

/// Whichever operation of the device it comes after.
#[test]
fn what_is_cancelled_is_as_it_was() {
    let device = closed(in_use(true));
    for native in [true, false] {
        let device = if native { device.clone() } else { small_metadata(false) };
        let mut cancelled = 0;
        for grant in 0.. {
            let mut store =
                Store::open(ShuffledDevice::new(device.clone(), grant + 1), Vec::new(), &writable()).unwrap();
            let before = (contents(&mut store), store.state().layout.clone());
            let available = store.state().clusters.available();
            let size_bytes = before.1.size_bytes;
            let md_pages = md_pages(&store, 24);
            store.device_mut().grant = grant;
            let job = store.start_job(Work::Grow { size_bytes, md_pages }, None);
            let mut replies = Vec::new();
            while store.device_mut().grant > 0 && replies.is_empty() {
                store.poll(&mut replies);
            }
            store.cancel(job);
            store.device_mut().grant = u64::MAX;
            while replies.is_empty() {
                store.poll(&mut replies);
            }
            let (_, result) = replies.remove(0);
            while store.engine().is_busy() {
                store.poll(&mut replies);
            }
            assert!(contents(&mut store) == before.0, "{grant}");
            if result.is_ok() {
                assert_eq!(store.state().layout.md_len, md_pages);
                break;
            }
            assert_eq!(result.map(drop), Err(Error::Cancelled));
            assert_eq!(store.state().layout, before.1, "{grant}");
            store.flush().unwrap();
            while store.engine().is_busy() {
                store.poll(&mut replies);
            }
            // A journal that has moved does not move back.
            let now = store.state().clusters.available();
            assert!(now == available || !native, "{grant}: {now} of {available}");
            cancelled += 1;
        }
        assert!(cancelled > 50, "{cancelled}");
    }
}

/// A store whose metadata has no room for a journal: it lies behind, in clusters.
pub(super) fn small_metadata(in_runs: bool) -> MemDevice {
    let mut plan = Plan { clusters: 256, md_len: 16, headroom: 1, ..Plan::new() };
    let as_runs = |blob: Blob| if in_runs { blob.in_runs() } else { blob };
    plan.add(as_runs(Blob::thick("thick", 1, 5)));
    let snap = plan.add(as_runs(Blob::thin("snap", 2, "xx.x").snapshot()));
    plan.add(as_runs(Blob::thin("thin", 3, ".x..").clone_of(snap)));
    let made = plan.make();
    let device = MemDevice::new(made.bytes.len() as u64, 512);
    let mut device = device;
    device.write_at(0, &made.bytes);
    device
}

#[test]
fn a_journal_in_the_way_moves() {
    for in_runs in [true, false] {
        let mut store = opened(small_metadata(in_runs));
        let id = store.id("thin");
        store.write(id, 0, pattern(4096, 1)).unwrap();
        let before = contents(&mut store);
        let area = |store: &Store<MemDevice>| store.super_block().native.as_ref().unwrap().journal.unwrap();
        let first = area(&store);
        let layout = store.state().layout.clone();
        assert!(!layout.contains_md(first.start), "it lies in clusters");
        let pages = md_pages(&store, 30);
        store.grow_to(pages).unwrap();
        let (moved, layout) = (area(&store), store.state().layout.clone());
        let (from, to) = (layout.md_page_offset(moved.start), layout.md_page_offset(first.start));
        assert_ne!(from, to);
        assert!(contents(&mut store) == before);
        store.write(id, CLUSTER, pattern(4096, 2)).unwrap();
        let before = contents(&mut store);
        let mut store = opened(closed(store));
        assert!(contents(&mut store) == before);
        plain_if_sealed(store);
    }
}

/// Whichever operation of the device fails: the store lives on and holds what it held, or what is left on the device does.
#[test]
fn a_device_that_fails_costs_nothing() {
    for start in [closed(in_use(true)), closed(in_use(false))] {
        let expected = contents(&mut opened(start.clone()));
        let pages = md_pages(&opened(start.clone()), 24);
        let refused = an_error_of_every_operation(
            &start,
            |store| store.grow_to(pages),
            |store, what| assert!(contents(store) == expected, "{what}"),
            |device, power, what| {
                let mut store = Store::open(device, Vec::new(), &writable_in(Some(power))).unwrap();
                assert_eq!(store.findings(), &[], "{what}");
                assert!(contents(&mut store) == expected, "{what}");
                store.grow_to(pages).unwrap();
                assert!(contents(&mut opened(closed(store))) == expected, "{what}");
            },
        );
        assert!(refused > 0);
    }
}
