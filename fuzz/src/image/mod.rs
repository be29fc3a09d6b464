//! A whole store whose metadata is changed at will: it is opened, checked and read, changed and closed, and opened again.
//!
//! The first byte names the store to begin with. Then come changes: `u16` the 4096-byte block, within what lies before
//! the data; `u16` the position in it, with the top bit set when the block's checksum is to be made to fit; `u8` how many
//! bytes; the bytes.

pub mod bases;

use offshoot_block::Buffer;
use offshoot_device::MemDevice;
use offshoot_format::{BlobId, MD_STRUCT_BYTES, crc32c};
use offshoot_store::{CreateOptions, Error, Identity, LoadError, OpenOptions, Store, Verb};
use std::collections::BTreeMap;

/// Lvols beyond this are not read: a table may claim exbibytes.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Changes what the bytes say and sees that nothing worse comes of it than findings and errors.
pub fn run(bytes: &[u8]) {
    let Some((which, mut edits)) = bytes.split_first() else { return };
    let mut base = bases::of(*which);
    while let Some(rest) = edit(&mut base.device, base.metadata_bytes, edits) {
        edits = rest;
    }
    let mut device = base.device;
    let Ok(contents) = look(&mut device) else { return };
    let Some(device) = change(device, &contents) else { return };
    reopened(device, &contents);
}

/// Makes one change. `None` when there is none left.
fn edit<'a>(device: &mut MemDevice, metadata_bytes: u64, edits: &'a [u8]) -> Option<&'a [u8]> {
    let (head, rest) = edits.split_first_chunk::<5>()?;
    let block = u64::from(u16::from_le_bytes([head[0], head[1]])) % (metadata_bytes / MD_STRUCT_BYTES as u64);
    let place = u16::from_le_bytes([head[2], head[3]]);
    let (sealed, at) = (place & 0x8000 != 0, usize::from(place) % MD_STRUCT_BYTES);
    let (new, rest) = rest.split_at(usize::from(head[4]).min(rest.len()));
    let mut image = [0; MD_STRUCT_BYTES];
    device.read_at(block * MD_STRUCT_BYTES as u64, &mut image);
    let len = new.len().min(MD_STRUCT_BYTES - at);
    image[at..at + len].copy_from_slice(&new[..len]);
    if sealed {
        let sum = crc32c(&image[..MD_STRUCT_BYTES - 4]);
        image[MD_STRUCT_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    }
    device.write_at(block * MD_STRUCT_BYTES as u64, &image);
    Some(rest)
}

/// What an lvol reads as; `None` for a part that cannot be read.
type Contents = BTreeMap<BlobId, Vec<Option<Vec<u8>>>>;

/// Opens the store without a right to write, and reads it.
fn look(device: &mut MemDevice) -> Result<Contents, LoadError> {
    device.reset_stats();
    let mut store = Store::open(device.clone(), Vec::new(), &OpenOptions::read_only(Some(bases::SESSION)))?;
    store.findings().iter().for_each(|finding| drop((finding.what.to_string(), finding.what.repair())));
    drop(store.state().audit());
    let contents = contents(&mut store);
    assert_eq!(store.device().stats().writes.ops, 0, "looking writes nothing");
    Ok(contents)
}

fn contents(store: &mut Store<MemDevice>) -> Contents {
    let sizes: Vec<(BlobId, u64)> =
        store.state().lvols().map(|lvol| (lvol.id, store.state().bytes(lvol))).collect();
    let mut contents = Contents::new();
    for (lvol, size) in sizes {
        let step = bases::CLUSTER_BYTES;
        let parts = (0..size.min(READ_BYTES_MAX)).step_by(step).map(|offset| {
            let len = step.min(usize::try_from(size - offset).unwrap_or(step));
            store.read(lvol, offset, len).ok().map(|buffer| buffer.as_slice().to_vec())
        });
        contents.insert(lvol, parts.collect());
        let _ = store.extents(lvol, 0..size, 100);
    }
    contents
}

/// Opens the store for writing, changes a little and closes it. `None` when it cannot be opened.
fn change(device: MemDevice, contents: &Contents) -> Option<MemDevice> {
    let mut store =
        Store::open(device, Vec::new(), &OpenOptions::writable([7; 16], Some(bases::SESSION))).ok()?;
    let identity = |name: &str| Identity { name: name.into(), uuid: uuid_of(name), created: 0 };
    let parent = contents
        .keys()
        .copied()
        .find(|lvol| store.state().blob(*lvol).is_some_and(|lvol| lvol.is_read_only()));
    let made = parent.map(|parent| store.execute(Verb::Clone { parent, identity: identity("fuzz-clone") }));
    let new = store.execute(Verb::Create {
        identity: identity("fuzz-new"),
        size_bytes: 1 << 18,
        options: CreateOptions::provisioned(false),
    });
    for lvol in made.into_iter().chain([new]).flatten().flatten() {
        // New space must come from what nobody has.
        for at in 0..4 {
            match store.write(lvol, at * bases::CLUSTER_BYTES as u64 + 4096, Buffer::copy_of(&[0xf5; 5000])) {
                Ok(_)
                | Err(Error::NoClusters { .. } | Error::NoMdPages { .. } | Error::OutOfRange { .. }) => {}
                Err(_) => break,
            }
        }
    }
    let _ = store.flush();
    let (device, closed) = store.close();
    closed.ok().map(|()| device)
}

fn uuid_of(name: &str) -> offshoot_format::Uuid {
    offshoot_format::Uuid::from_u128(name.len() as u128)
}

/// Opens the store once more: what could be read before is what it was.
fn reopened(device: MemDevice, before: &Contents) {
    let options = OpenOptions::read_only(Some(bases::SESSION));
    let mut store =
        Store::open(device, Vec::new(), &options).expect("what was opened and closed opens again");
    let after = contents(&mut store);
    for (lvol, parts) in before {
        let Some(now) = after.get(lvol) else { panic!("lvol {lvol} is gone") };
        for (number, (before, now)) in parts.iter().zip(now).enumerate() {
            if let (Some(before), Some(now)) = (before, now) {
                assert!(before == now, "part {number} of lvol {lvol} has changed");
            }
            assert!(
                before.is_none() || now.is_some(),
                "part {number} of lvol {lvol} cannot be read any more"
            );
        }
    }
}
