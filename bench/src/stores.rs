//! Stores, lvols and bytes for measuring.

use anyhow::{Context as _, Result};
use offshoot_block::{BlockDevice, Buffer};
use offshoot_device::FileDevice;
use offshoot_format::BlobId;
use offshoot_store::{CreateOptions, Identity, InitOptions, OpenOptions, Session, Store, Verb};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What is read and written, and the unit of copy-on-write.
pub(crate) const BLOCK: u64 = 4096;

/// As in service: the machine keeps its power while this runs.
pub(crate) fn opening() -> OpenOptions {
    let session = Session { boot_id: [1; 16], device_generation: 1 };
    OpenOptions::writable(*Uuid::new_v4().as_bytes(), Some(session))
}

pub(crate) fn options(cluster_size: u32, block_size: u32) -> InitOptions {
    InitOptions {
        journal_bytes: None,
        name: "bench".into(),
        uuid: Uuid::nil(),
        cluster_size,
        block_size,
        md_page_size: 4096,
        native: true,
        clear_method: offshoot_store::ClearMethod::Default,
    }
}

pub(crate) fn create<D: BlockDevice>(store: &mut Store<D>, name: &str, size_bytes: u64) -> Result<BlobId> {
    let made = store.execute(Verb::Create {
        identity: identity(name),
        size_bytes,
        options: CreateOptions::provisioned(false),
    })?;
    made.first().copied().context("create makes an lvol")
}

pub(crate) fn clone_of<D: BlockDevice>(store: &mut Store<D>, parent: BlobId, name: &str) -> Result<BlobId> {
    let made = store.execute(Verb::Clone { parent, identity: identity(name) })?;
    made.first().copied().context("clone makes an lvol")
}

pub(crate) fn snapshot<D: BlockDevice>(store: &mut Store<D>, lvol: BlobId, name: &str) -> Result<BlobId> {
    let made = store.execute(Verb::Snapshot { items: vec![(lvol, identity(name))] })?;
    made.first().copied().context("snapshot makes a snapshot")
}

/// A snapshot of an lvol of `size_bytes` that is written from end to end.
pub(crate) fn golden_image<D: BlockDevice>(store: &mut Store<D>, size_bytes: u64) -> Result<BlobId> {
    let lvol = create(store, "image", size_bytes)?;
    let step = size_bytes.min(8 << 20);
    for offset in (0..size_bytes).step_by(usize::try_from(step)?) {
        store.write(lvol, offset, pattern(step)?)?;
    }
    snapshot(store, lvol, "golden")
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity { name: name.into(), uuid: Uuid::nil(), created: 0 }
}

pub(crate) fn pattern(len: u64) -> Result<Buffer> {
    let mut buffer = Buffer::zeroed(usize::try_from(len)?);
    buffer.as_mut_slice().fill(0x5a);
    Ok(buffer)
}

/// A file that is there while it is measured.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Nothing yet, at `name` in the folder.
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let scratch = Self(dir.join(name));
        scratch.remove();
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A new file of zeros, sparse.
    pub(crate) fn device(&self, size_bytes: u64) -> Result<FileDevice> {
        Ok(FileDevice::create(&self.0, size_bytes, &offshoot_device::OpenOptions::writable())?)
    }

    /// The file again.
    pub(crate) fn again(&self) -> Result<FileDevice> {
        Ok(FileDevice::open(&self.0, &offshoot_device::OpenOptions::writable())?)
    }

    fn remove(&self) {
        // That it was not there is no matter.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}
