//! The library in ten lines: open a store, make an lvol, read and write, take a snapshot, clone it.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{named, options, writable};
use offshoot_block::{BlockDevice, Buffer};
use offshoot_device::{FileDevice, MemDevice, OpenOptions};
use offshoot_store::{CreateOptions, Error, Store, Verb};
use std::error::Error as StdError;

/// What an embedder writes. Any device will do: memory here, a file or a block device below.
fn snapshot_and_clone<D: BlockDevice>(device: D) -> Result<D, Box<dyn StdError>> {
    let mut store = Store::open(device, Vec::new(), &writable())?;
    let disk = store.execute(Verb::Create {
        identity: named("disk"),
        size_bytes: 1 << 20,
        options: CreateOptions::provisioned(false),
    })?[0];
    store.write(disk, 4096, Buffer::copy_of(b"written before the snapshot"))?;
    let snap = store.execute(Verb::Snapshot { items: vec![(disk, named("snap"))] })?[0];
    let clone = store.execute(Verb::Clone { parent: snap, identity: named("clone") })?[0];
    store.write(clone, 4104, Buffer::copy_of(b"inside"))?;
    assert_eq!(store.read(snap, 4096, 27)?.as_slice(), b"written before the snapshot");
    assert_eq!(store.read(clone, 4096, 27)?.as_slice(), b"written inside the snapshot");
    let (device, closed) = store.close();
    closed?;
    Ok(device)
}

#[test]
fn ten_lines_on_memory() {
    let store = Store::init(MemDevice::new(32 << 20, 512), &options(65_536, 512, true), &writable()).unwrap();
    let device = snapshot_and_clone(store.close().0).unwrap();

    // All of it is still there, and a store opened for looking only can be read and nothing else.
    let mut store = Store::open(device, Vec::new(), &offshoot_store::OpenOptions::read_only(None)).unwrap();
    assert_eq!(store.findings(), &[]);
    let id = |name: &[u8]| store.state().lvol_by_name(name).map(|lvol| lvol.id);
    let (disk, snap, clone) = (id(b"disk").unwrap(), id(b"snap").unwrap(), id(b"clone").unwrap());
    assert_eq!(store.state().blob(clone).unwrap().parent, Some(snap));
    assert_eq!(store.state().blob(disk).unwrap().parent, Some(snap));
    assert_eq!(store.read(clone, 4096, 14).unwrap().as_slice(), b"written inside");
    let refused = store.write(clone, 0, Buffer::zeroed(512)).unwrap_err();
    assert_eq!(refused, Error::ReadOnlyStore(offshoot_store::ReadOnlyCause::Asked));
}

#[test]
fn the_same_on_a_file() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("facade-{}.store", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(32 << 20).unwrap();
    let device = FileDevice::open(&path, &OpenOptions::writable()).unwrap();
    let block = device.geometry().logical_block;
    let store = Store::init(device, &options(65_536, block, true), &writable()).unwrap();
    drop(snapshot_and_clone(store.close().0).unwrap());
    std::fs::remove_file(&path).unwrap();
}
