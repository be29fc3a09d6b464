//! Stores on any device: short names for the verbs, and a device that the test keeps a hand on.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shared by several test programs")]

use offshoot_block::{BlockDevice, Buffer, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_format::{BlobId, Layout};
use offshoot_store::{CreateOptions, Error, Identity, InitOptions, OpenOptions, Session, Store, Verb, Work};
use std::cell::{RefCell, RefMut};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// A device that a store owns and its test shares, to watch it and to make it fail.
#[derive(Debug)]
pub struct Shared<D>(Rc<RefCell<D>>);

impl<D> Shared<D> {
    pub fn new(device: D) -> Self {
        Self(Rc::new(RefCell::new(device)))
    }

    pub fn borrow(&self) -> RefMut<'_, D> {
        self.0.borrow_mut()
    }
}

// Not derived: that would ask for `D: Clone`.
impl<D> Clone for Shared<D> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<D: BlockDevice> BlockDevice for Shared<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.borrow().geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.borrow().submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.borrow().poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.borrow().wait(completions);
    }

    fn outstanding(&self) -> usize {
        self.borrow().outstanding()
    }
}

/// A device whose discards do nothing: what was discarded may hold anything, and here it holds what it held.
#[derive(Debug)]
pub struct Stale<D>(pub D);

impl<D: BlockDevice> BlockDevice for Stale<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.0.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let op = match op {
            DeviceOp::Unmap { .. } => DeviceOp::Sync,
            op => op,
        };
        self.0.submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.0.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.0.wait(completions);
    }

    fn outstanding(&self) -> usize {
        self.0.outstanding()
    }
}

pub fn options(cluster_size: u32, block_size: u32, native: bool) -> InitOptions {
    InitOptions {
        journal_bytes: None,
        name: "lvs".into(),
        uuid: Uuid::from_u128(7),
        cluster_size,
        block_size,
        md_page_size: 4096,
        native,
        clear_method: offshoot_format::ClearMethod::Default,
    }
}

/// An identity whose UUID follows from the name, so that no two lvols of a store share one.
pub fn named(name: &str) -> Identity {
    let number = name.bytes().fold(1, |number: u128, byte| (number << 8) | u128::from(byte));
    Identity { name: name.into(), uuid: Uuid::from_u128(number), created: 1_700_000_000 }
}

/// The verbs by name, and what they made.
pub trait Lvols {
    fn id(&self, name: &str) -> BlobId;
    fn run(&mut self, verb: Verb) -> Result<Vec<BlobId>, Error>;
    fn own_clusters(&self, name: &str) -> u64;
    /// Clusters that nothing refers to, those not yet reusable included.
    fn free(&self) -> u64;
    fn content(&mut self, name: &str) -> Vec<u8>;

    fn create(&mut self, name: &str, size_bytes: u64, thick: bool) -> Result<BlobId, Error> {
        let identity = named(name);
        let made =
            self.run(Verb::Create { identity, size_bytes, options: CreateOptions::provisioned(thick) })?;
        Ok(made[0])
    }

    fn snapshot(&mut self, origin: &str, name: &str) -> Result<BlobId, Error> {
        let items = vec![(self.id(origin), named(name))];
        Ok(self.run(Verb::Snapshot { items })?[0])
    }

    fn clone_of(&mut self, parent: &str, name: &str) -> Result<BlobId, Error> {
        let (parent, identity) = (self.id(parent), named(name));
        Ok(self.run(Verb::Clone { parent, identity })?[0])
    }

    /// Grows the store to the size that its device has, with as many md pages.
    fn grow_to(&mut self, md_pages: u32) -> Result<(), Error>;

    /// Grows the store to the size that its device has.
    fn grow(&mut self) -> Result<(), Error>;

    fn remove(&mut self, name: &str) -> Result<(), Error> {
        let lvol = self.id(name);
        self.run(Verb::Remove { lvol }).map(drop)
    }

    fn resize(&mut self, name: &str, size_bytes: u64) -> Result<(), Error> {
        let lvol = self.id(name);
        self.run(Verb::Resize { lvol, size_bytes }).map(drop)
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<(), Error> {
        let (lvol, name) = (self.id(old), new.into());
        self.run(Verb::Rename { lvol, name }).map(drop)
    }
}

impl<D: BlockDevice> Lvols for Store<D> {
    fn id(&self, name: &str) -> BlobId {
        let lvol = self.state().lvol_by_name(name.as_bytes());
        lvol.unwrap_or_else(|| panic!("no lvol named {name}")).id
    }

    fn run(&mut self, verb: Verb) -> Result<Vec<BlobId>, Error> {
        self.execute(verb)
    }

    fn grow_to(&mut self, md_pages: u32) -> Result<(), Error> {
        let size_bytes = self.device_mut().geometry().size_bytes;
        self.run_job(Work::Grow { size_bytes, md_pages }, |_| ControlFlow::Continue(()))
    }

    fn grow(&mut self) -> Result<(), Error> {
        self.run_job(self.growth(), |_| ControlFlow::Continue(()))
    }

    fn own_clusters(&self, name: &str) -> u64 {
        self.state().blob(self.id(name)).unwrap().own_clusters
    }

    fn free(&self) -> u64 {
        self.engine().free_clusters()
    }

    fn content(&mut self, name: &str) -> Vec<u8> {
        let id = self.id(name);
        let len = self.state().bytes(self.state().blob(id).unwrap());
        let read = self.read(id, 0, usize::try_from(len).unwrap()).unwrap();
        read.as_slice().to_vec()
    }
}

/// Nobody holds a cluster twice, and nobody holds one that the pool does not know: the used clusters are those of
/// the metadata and those that blobs own.
pub fn assert_owned_once<D: BlockDevice>(store: &Store<D>) {
    let state = store.state();
    let own: u64 = state.blobs().map(|blob| blob.own_clusters).sum();
    let used = state.clusters.used().count_ones() as u64;
    assert_eq!(used, own + metadata_clusters(&state.layout));
}

pub fn metadata_clusters(layout: &Layout) -> u64 {
    u64::from(layout.metadata_clusters())
}

/// How large a device must be for a new store with exactly so many data clusters.
///
/// The metadata grows with the device, so this is found by trying, downwards from an upper bound.
pub fn device_bytes(options: &InitOptions, data_clusters: u64) -> u64 {
    let cluster = u64::from(options.cluster_size);
    let data_of = |clusters: u64| {
        let planned = offshoot_store::init(clusters * cluster, options);
        planned
            .ok()
            .map(|(state, ..)| u64::from(state.layout.total_clusters) - metadata_clusters(&state.layout))
    };
    let fits = (1..).find(|clusters| data_of(*clusters) == Some(data_clusters));
    fits.unwrap() * cluster
}

/// `len` bytes, none of them zero, that differ between seeds in every byte.
pub fn pattern(len: u64, seed: u8) -> Buffer {
    let mut buffer = Buffer::zeroed(usize::try_from(len).unwrap());
    for (byte, index) in buffer.as_mut_slice().iter_mut().zip(0_u64..) {
        let step = u8::try_from(index / 512 % 16).unwrap();
        *byte = 1 + (seed % 15) * 17 + step;
    }
    buffer
}

/// The power under which every opening of a test runs that says nothing else.
pub const SESSION: Session = Session { boot_id: [7; 16], device_generation: 1 };

/// What [`SESSION`] becomes when the machine or the device has lost power meanwhile.
pub const AFTER_POWER_LOSS: Session = Session { boot_id: [8; 16], device_generation: 1 };

/// For writing, under the same power as every other opening of this test.
pub fn writable() -> OpenOptions {
    writable_in(Some(SESSION))
}

/// For writing, in a session and a fresh epoch.
pub fn writable_in(session: Option<Session>) -> OpenOptions {
    static OPENINGS: AtomicU64 = AtomicU64::new(1);
    let epoch = u128::from(OPENINGS.fetch_add(1, Ordering::Relaxed)).to_le_bytes();
    OpenOptions::writable(epoch, session)
}
