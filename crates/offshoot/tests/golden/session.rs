//! Sessions on a golden store: what we hand back is as plain as what SPDK gave us.

use std::collections::BTreeMap;

use offshoot_block::Buffer;
use offshoot_device::FileDevice;
use offshoot_format::BlobId;
use offshoot_store::{CreateOptions, Identity, Store, Verb};
use uuid::Uuid;

use crate::agreement::sha256_of;
use crate::image::Opened;

/// How much of the start of an lvol is compared byte for byte. All writes go there.
const WINDOW_BYTES: u64 = 32 << 20;

/// Golden lvols that were not touched and are read again afterwards, at most.
const UNTOUCHED: usize = 8;

pub(crate) fn opened_and_closed_without_a_change(opened: &Opened) {
    let mut store = opened.store(false);
    // Reading, and asking for what is so already, are no changes.
    let ids: Vec<(BlobId, u64)> =
        store.state().lvols().map(|lvol| (lvol.id, store.state().bytes(lvol))).take(UNTOUCHED).collect();
    for (lvol, size_bytes) in ids {
        store.read(lvol, 0, 4096).unwrap();
        if !store.state().blob(lvol).unwrap().is_read_only() {
            store.execute(Verb::Resize { lvol, size_bytes }).unwrap();
        }
    }
    store.flush().unwrap();
    store.close().1.unwrap();
}

pub(crate) fn a_session_of_verbs_and_writes(opened: &Opened) {
    let mut session = Session::new(opened);
    let origin = session.origin();
    session.change(&origin);
    let windows = session.close();

    let name = opened.name();
    let mut store = opened.store(true);
    assert!(!store.super_block().is_native(), "{name}: native states are not allowed here");
    assert_eq!(store.super_block().version, opened.golden.manifest.super_block.version, "{name}");
    for (lvol, window) in &windows.content {
        assert!(read_window(&mut store, lvol) == *window, "{name}: {lvol} by the engine");
    }
    let untouched = opened.state().lvols.iter().filter(|lvol| windows.untouched.contains(&lvol.name));
    for lvol in untouched.filter(|lvol| lvol.sha256.is_some()).take(UNTOUCHED) {
        assert_eq!(Some(sha256_of(&mut store, &lvol.name)), lvol.sha256, "{name}: {}", lvol.name);
    }

    opened.plain(|plain, read_at| {
        assert_eq!(plain.free_clusters, store.engine().free_clusters(), "{name}");
        for (lvol, window) in &windows.content {
            if windows.external.contains(lvol) {
                continue;
            }
            let cluster = usize::try_from(plain.cluster_size).unwrap();
            let mut content = vec![0; window.len()];
            plain.for_each_cluster(read_at, plain.lvol(lvol), |at, bytes| {
                if let Some(part) = content.get_mut(at * cluster..(at + 1) * cluster) {
                    part.copy_from_slice(bytes);
                }
            });
            assert!(content == *window, "{name}: {lvol} by the second reading");
        }
    });
}

/// What must be there afterwards.
struct Windows {
    /// The start of each lvol that the session changed or made.
    content: BTreeMap<String, Vec<u8>>,
    /// Those of them with an external snapshot below.
    external: Vec<String>,
    untouched: Vec<String>,
}

/// A store being changed, and the model of it.
struct Session {
    store: Store<FileDevice>,
    windows: Windows,
    made: u128,
}

impl Session {
    fn new(opened: &Opened) -> Self {
        Self {
            store: opened.store(false),
            windows: Windows {
                content: BTreeMap::new(),
                external: Vec::new(),
                untouched: opened.state().lvols.iter().map(|lvol| lvol.name.clone()).collect(),
            },
            made: 0,
        }
    }

    /// A writable lvol of SPDK's making, a clone if there is one; in an empty store one of ours.
    fn origin(&mut self) -> String {
        let lvols = self.store.state().lvols().filter(|lvol| !lvol.is_read_only());
        let best = lvols.max_by_key(|lvol| (lvol.parent.is_some(), lvol.own_clusters, lvol.id));
        match best.map(|lvol| lvol.display_name()) {
            Some(name) => {
                self.watch(&name);
                name
            }
            None => {
                self.create("origin", 6, false);
                "origin".into()
            }
        }
    }

    /// All verbs, and writes of all alignments around them.
    fn change(&mut self, origin: &str) {
        let cluster = self.cluster();
        self.write(origin, 0, 4096, 1);
        self.write(origin, cluster - 700, 1500, 2);
        self.create("thick", 3, true);
        self.write("thick", cluster + 1, 5000, 3);
        self.snapshot(origin, "snap");
        self.write(origin, 0, cluster, 4);
        self.write(origin, cluster + 4096, 4096, 5);
        self.clone_of("snap", "clone");
        self.write("clone", 2 * cluster - 1, 2, 6);
        self.zero("clone", 0..cluster + 512);
        self.create("thin", 5, false);
        self.write("thin", 3 * cluster + 12_345, 777, 7);
        // A snapshot that hands everything to its only clone.
        self.snapshot("thin", "passing");
        self.write("thin", 0, 4096, 8);
        self.remove("passing");
        self.write("thin", 3 * cluster, 512, 9);
        self.resize("thin", 2);
        self.resize("thin", 4);
        self.rename("thin", "renamed");
        self.create("gone", 2, true);
        self.remove("gone");
        self.trim("thick", 0..cluster);
        self.remove_one_of_spdks(origin);
    }

    fn close(self) -> Windows {
        self.store.close().1.unwrap();
        self.windows
    }

    /// An lvol of SPDK's making that nothing depends on goes, if there is one.
    fn remove_one_of_spdks(&mut self, origin: &str) {
        let state = self.store.state();
        let leaf = state.lvols().find(|lvol| {
            let name = lvol.display_name();
            lvol.clones.is_empty() && name != origin && self.windows.untouched.contains(&name)
        });
        if let Some(name) = leaf.map(|lvol| lvol.display_name()) {
            self.windows.untouched.retain(|other| *other != name);
            self.remove(&name);
        }
    }

    fn cluster(&self) -> u64 {
        self.store.state().units.cluster
    }

    fn id(&self, name: &str) -> BlobId {
        self.store.state().lvol_by_name(name.as_bytes()).unwrap().id
    }

    fn identity(&mut self, name: &str) -> Identity {
        self.made += 1;
        Identity { name: name.into(), uuid: Uuid::from_u128(0xaaaa_0000 + self.made), created: 1_700_000_000 }
    }

    /// Begins to model an lvol.
    fn watch(&mut self, name: &str) {
        self.windows.untouched.retain(|other| other != name);
        let window = read_window(&mut self.store, name);
        self.windows.content.insert(name.into(), window);
        if self.store.state().blob(self.id(name)).unwrap().external.is_some() {
            self.windows.external.push(name.into());
        }
    }

    fn create(&mut self, name: &str, clusters: u64, thick: bool) {
        let (identity, size_bytes) = (self.identity(name), clusters * self.cluster());
        let create = Verb::Create { identity, size_bytes, options: CreateOptions::provisioned(thick) };
        self.store.execute(create).unwrap();
        self.watch(name);
        assert!(self.windows.content[name].iter().all(|byte| *byte == 0), "old bytes in {name} (D4)");
    }

    fn snapshot(&mut self, origin: &str, name: &str) {
        let items = vec![(self.id(origin), self.identity(name))];
        self.store.execute(Verb::Snapshot { items }).unwrap();
        self.inherit(origin, name);
    }

    fn clone_of(&mut self, parent: &str, name: &str) {
        let (parent_id, identity) = (self.id(parent), self.identity(name));
        let clone = Verb::Clone { parent: parent_id, identity };
        self.store.execute(clone).unwrap();
        self.inherit(parent, name);
    }

    fn inherit(&mut self, parent: &str, name: &str) {
        let window = self.windows.content[parent].clone();
        self.windows.content.insert(name.into(), window);
        if self.windows.external.iter().any(|external| external == parent) {
            self.windows.external.push(name.into());
        }
    }

    fn remove(&mut self, name: &str) {
        let lvol = self.id(name);
        self.store.execute(Verb::Remove { lvol }).unwrap();
        self.windows.content.remove(name);
    }

    fn resize(&mut self, name: &str, clusters: u64) {
        let (lvol, size_bytes) = (self.id(name), clusters * self.cluster());
        self.store.execute(Verb::Resize { lvol, size_bytes }).unwrap();
        let window = self.windows.content.get_mut(name).unwrap();
        window.resize(usize::try_from(size_bytes.min(WINDOW_BYTES)).unwrap(), 0);
    }

    fn rename(&mut self, old: &str, new: &str) {
        let (lvol, name) = (self.id(old), new.into());
        self.store.execute(Verb::Rename { lvol, name }).unwrap();
        let window = self.windows.content.remove(old).unwrap();
        self.windows.content.insert(new.into(), window);
    }

    fn write(&mut self, name: &str, offset: u64, len: u64, seed: u8) {
        let lvol = self.id(name);
        let range = usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap();
        let data: Vec<u8> = (seed..=u8::MAX).cycle().take(range.len()).collect();
        self.store.write(lvol, offset, Buffer::copy_of(&data)).unwrap();
        self.windows.content.get_mut(name).unwrap()[range].copy_from_slice(&data);
    }

    fn zero(&mut self, name: &str, range: std::ops::Range<u64>) {
        let lvol = self.id(name);
        let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        self.store.write_zeroes(lvol, range).unwrap();
        self.windows.content.get_mut(name).unwrap()[part].fill(0);
    }

    /// Trims whole clusters of a thick lvol, which read zeros then.
    fn trim(&mut self, name: &str, range: std::ops::Range<u64>) {
        let lvol = self.id(name);
        let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        self.store.unmap(lvol, range).unwrap();
        self.windows.content.get_mut(name).unwrap()[part].fill(0);
    }
}

/// The start of an lvol.
fn read_window(store: &mut Store<FileDevice>, name: &str) -> Vec<u8> {
    let lvol = store.state().lvol_by_name(name.as_bytes()).unwrap();
    let (id, size) = (lvol.id, store.state().bytes(lvol));
    let len = usize::try_from(size.min(WINDOW_BYTES)).unwrap();
    store.read(id, 0, len).unwrap().as_slice().to_vec()
}
