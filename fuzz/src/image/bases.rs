//! The stores that are changed: small ones, of every state of life.

use offshoot_block::Buffer;
use offshoot_device::MemDevice;
use offshoot_format::{BlobId, Uuid};
use offshoot_store::{CreateOptions, Identity, InitOptions, OpenOptions, Session, Store, Verb};
use std::sync::OnceLock;

/// Bytes of a cluster.
pub const CLUSTER_BYTES: usize = 16 << 10;

/// The power that all of them run under.
pub const SESSION: Session = Session { boot_id: [3; 16], device_generation: 1 };

/// A store to begin with.
#[derive(Clone)]
pub struct Base {
    pub device: MemDevice,
    /// Bytes before the first data cluster.
    pub metadata_bytes: u64,
}

/// The store of this number, counted in a circle.
pub fn of(number: u8) -> Base {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    let bases = BASES.get_or_init(|| {
        let plain = [made(false, Life::Closed), made(false, Life::Killed)];
        let native = [made(true, Life::Closed), made(true, Life::Killed)];
        let dirty = unclean(plain[0].clone());
        plain.into_iter().chain(native).chain([dirty]).collect()
    });
    bases[usize::from(number) % bases.len()].clone()
}

enum Life {
    Closed,
    Killed,
}

fn made(native: bool, life: Life) -> Base {
    let options = InitOptions {
        name: "fuzz".into(),
        uuid: Uuid::from_u128(1),
        cluster_size: CLUSTER_BYTES as u32,
        block_size: 512,
        md_page_size: 4096,
        journal_bytes: Some(128 << 10),
        native,
        clear_method: offshoot_format::ClearMethod::Default,
    };
    let opening = OpenOptions::writable([5; 16], Some(SESSION));
    let device = MemDevice::new(4 << 20, 512);
    let mut store = Store::init(device, &options, &opening).expect("the options fit the device");
    let layout = store.state().layout.clone();
    fill(&mut store);
    let device = match life {
        Life::Closed => {
            let (device, closed) = store.close();
            closed.expect("memory does not fail");
            device
        }
        Life::Killed => store.device().clone(),
    };
    Base { device, metadata_bytes: layout.cluster_offset(layout.first_data_cluster()) }
}

/// Two families: a chain with clones, and a thick lvol; trims, a removal, a resize.
fn fill(store: &mut Store<MemDevice>) {
    let thin = create(store, "thin", false);
    write(store, thin, 0, 3 * CLUSTER_BYTES, 1);
    let first = snapshot(store, thin, "first");
    write(store, thin, CLUSTER_BYTES + 4096, 4096, 2);
    let second = snapshot(store, thin, "second");
    let clone = run(store, Verb::Clone { parent: first, identity: named("clone") });
    write(store, clone, 700, 9000, 3);
    store.write_zeroes(clone, 0..CLUSTER_BYTES as u64 * 2).expect("zeroes");
    store.flush().expect("flush");
    write(store, thin, 5000, 100, 4);
    store.execute(Verb::Remove { lvol: second }).expect("a snapshot with one clone goes");
    let thick = create(store, "thick", true);
    write(store, thick, 6 * CLUSTER_BYTES - 100, 200, 5);
    store.unmap(thin, 0..CLUSTER_BYTES as u64).expect("trim");
    store.flush().expect("flush");
    write(store, thin, 12_345, 10, 6);
}

/// The store as SPDK leaves it when it dies: the md pages as they are, the super block not clean.
fn unclean(base: Base) -> Base {
    let Base { mut device, metadata_bytes } = base;
    let mut block = [0; offshoot_format::MD_STRUCT_BYTES];
    device.read_at(0, &mut block);
    let mut super_block = offshoot_format::SuperBlock::decode(&block).expect("it was just made");
    super_block.clean = 0;
    device.write_at(0, &super_block.encode());
    Base { device, metadata_bytes }
}

fn named(name: &str) -> Identity {
    Identity { name: name.into(), uuid: Uuid::from_u128(name.bytes().map(u128::from).sum()), created: 0 }
}

fn create(store: &mut Store<MemDevice>, name: &str, thick: bool) -> BlobId {
    run(
        store,
        Verb::Create {
            identity: named(name),
            size_bytes: 8 * CLUSTER_BYTES as u64,
            options: CreateOptions::provisioned(thick),
        },
    )
}

fn snapshot(store: &mut Store<MemDevice>, lvol: BlobId, name: &str) -> BlobId {
    run(store, Verb::Snapshot { items: vec![(lvol, named(name))] })
}

fn run(store: &mut Store<MemDevice>, verb: Verb) -> BlobId {
    store.execute(verb).expect("a verb with room")[0]
}

fn write(store: &mut Store<MemDevice>, lvol: BlobId, offset: usize, len: usize, fill: u8) {
    store.write(lvol, offset as u64, Buffer::copy_of(&vec![fill; len])).expect("a write with room");
}
