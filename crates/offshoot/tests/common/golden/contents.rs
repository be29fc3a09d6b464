//! What the lvols of a golden store must hold, worked out from the operations that made it. This is the only
//! oracle for stores without checksums, and it shares nothing with the code under test.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde_json::Value;
use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};

use super::manifest::{Manifest, Operation, Rpc};

/// Length in bytes of the device that serves as external snapshot; its content is `SHAKE128('esnap')`.
const EXTERNAL_BYTES: u64 = 16 << 20;

/// The content of one lvol: zeros, and over them what was written, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    writes: Vec<Patch>,
}

/// Bytes of a SHAKE-128 stream at a place in an lvol.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) length: u64,
    seed: String,
}

impl Contents {
    /// The contents of all lvols that exist at the end of the operations of `manifest`, by name.
    pub(crate) fn of_lvols(manifest: &Manifest) -> BTreeMap<String, Self> {
        let mut lvols = BTreeMap::new();
        for operation in &manifest.operations {
            match operation {
                Operation::Rpc(rpc) => apply(&mut lvols, rpc),
                Operation::Write { nvme_write: write } => {
                    let patch = Patch::new(write.offset, write.length, seed_of(&write.data));
                    lvols.entry(write.lvol.clone()).or_default().writes.push(patch);
                }
            }
        }
        lvols
    }

    /// The content of the device that external-snapshot clones have as their parent.
    pub(crate) fn of_external_device() -> Self {
        Self { writes: vec![Patch::new(0, EXTERNAL_BYTES, "esnap")] }
    }

    /// What was written, oldest first; it may overlap. Everything else is zeros.
    pub(crate) fn writes(&self) -> &[Patch] {
        &self.writes
    }

    /// Writes the content to the empty `file`, sparse, and makes it `size_bytes` long.
    pub(crate) fn write_to(&self, file: &File, size_bytes: u64) -> io::Result<()> {
        for patch in &self.writes {
            file.write_all_at(&patch.bytes(), patch.offset)?;
        }
        file.set_len(size_bytes)
    }
}

impl Patch {
    fn new(offset: u64, length: u64, seed: &str) -> Self {
        Self { offset, length, seed: seed.to_owned() }
    }

    /// The bytes written.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).expect("a write fits into memory")];
        let mut shake = sha3::Shake128::default();
        shake.update(self.seed.as_bytes());
        shake.finalize_xof().read(&mut bytes);
        bytes
    }
}

fn apply(lvols: &mut BTreeMap<String, Contents>, rpc: &Rpc) {
    let name = |key: &str| {
        let name = rpc.params.get(key).and_then(Value::as_str);
        let name = name.unwrap_or_else(|| panic!("{} has no {key}", rpc.method));
        // Lvols are named with or without their lvstore.
        name.rsplit('/').next().unwrap_or(name).to_owned()
    };
    match rpc.method.as_str() {
        "bdev_lvol_create" => {
            lvols.insert(name("lvol_name"), Contents::default());
        }
        "bdev_lvol_clone_bdev" => {
            lvols.insert(name("clone_name"), Contents::of_external_device());
        }
        "bdev_lvol_snapshot" => {
            let contents = lvols[&name("lvol_name")].clone();
            lvols.insert(name("snapshot_name"), contents);
        }
        "bdev_lvol_clone" => {
            let contents = lvols[&name("snapshot_name")].clone();
            lvols.insert(name("clone_name"), contents);
        }
        "bdev_lvol_delete" => {
            lvols.remove(&name("name"));
        }
        "bdev_aio_create" | "bdev_lvol_create_lvstore" => {}
        other => assert!(other.contains("_get_"), "no meaning is known for {other}"),
    }
}

/// The seed in `SHAKE128('SEED')`.
fn seed_of(data: &str) -> &str {
    let seed = data.strip_prefix("SHAKE128('").and_then(|rest| rest.strip_suffix("')"));
    seed.unwrap_or_else(|| panic!("no meaning is known for {data}"))
}
