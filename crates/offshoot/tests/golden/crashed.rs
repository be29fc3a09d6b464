//! Stores that SPDK did not close, whole and torn: each is found as it was before the operation that SPDK was in the
//! midst of, or as it was to become; nothing is leaked or owned twice; and it can be worked with and closed.
//!
//! Where SPDK itself does not get there (verdict `other`, or `?` where it crashes), what the medium still holds is what
//! counts. [`CUT`] says what that is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use offshoot_block::Buffer;
use offshoot_device::{FileDevice, OpenOptions};
use offshoot_store::{CreateOptions, Found, Identity, Store, Verb};
use serde_json::json;
use uuid::Uuid;

use crate::agreement::sha256_of;
use crate::common::golden::manifest::State;
use crate::common::golden::{CutStore, GoldenStore};
use crate::image::{fingerprint, open_unlocked};
use crate::plain_checker::PlainStore;

/// Which state a store is found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Before,
    After,
    /// The map is that of after, the content that of before: SPDK publishes a cluster before it writes the data.
    Published,
}

/// A cut store, what it is found as, and the lvols that are damaged, each with the name that it had (empty for one that
/// was about to come into being).
type Cut = (&'static str, Is, &'static [Damaged]);
type Damaged = (&'static str, &'static str);

const SOUND: &[Damaged] = &[];

const CUT: &[Cut] = &[
    ("clone_01", Is::Before, SOUND),
    ("clone_01_torn", Is::Before, SOUND),
    ("clone_02", Is::Before, SOUND),
    ("clone_02_torn", Is::Before, SOUND),
    ("create_thick_01", Is::Before, SOUND),
    ("create_thick_01_torn", Is::Before, SOUND),
    ("create_thick_02", Is::Before, SOUND),
    ("create_thick_02_torn", Is::Before, SOUND),
    ("create_thick_03", Is::Before, SOUND),
    ("create_thick_03_torn", Is::Before, SOUND),
    ("delete_leaf_01", Is::Before, SOUND),
    ("delete_leaf_01_torn", Is::Before, SOUND),
    ("delete_leaf_02", Is::Before, SOUND),
    // A root that is half erased is gone.
    ("delete_leaf_02_torn", Is::After, SOUND),
    ("delete_leaf_03", Is::After, SOUND),
    ("delete_leaf_03_torn", Is::After, SOUND),
    ("snapshot_01", Is::Before, SOUND),
    ("snapshot_01_torn", Is::Before, SOUND),
    ("snapshot_02", Is::Before, SOUND),
    ("snapshot_02_torn", Is::Before, SOUND),
    ("snapshot_03", Is::Before, SOUND),
    // The root of the snapshot that was being made is torn. Nobody depends on it.
    ("snapshot_03_torn", Is::Before, &[("blob-0x100000008", "")]),
    // SPDK ends with two owners of all clusters, and crashes.
    ("snapshot_04", Is::Before, SOUND),
    // The root of the origin is torn; the snapshot holds all that it held.
    ("snapshot_04_torn", Is::After, &[("blob-0x100000001", "a")]),
    ("snapshot_05", Is::After, SOUND),
    // The root of the snapshot is torn. What it was before follows from what it was to become.
    ("snapshot_05_torn", Is::After, SOUND),
    ("thin_write_new_ep_01", Is::Before, SOUND),
    ("thin_write_new_ep_01_torn", Is::Before, SOUND),
    ("thin_write_new_ep_02", Is::Before, SOUND),
    ("thin_write_new_ep_02_torn", Is::Before, SOUND),
    ("thin_write_new_ep_03", Is::Before, SOUND),
    // The root of the lvol that was written to is torn.
    ("thin_write_new_ep_03_torn", Is::Before, &[("blob-0x100000001", "a")]),
    ("thin_write_new_ep_04", Is::Published, SOUND),
];

#[test]
fn cut_stores_are_as_before_or_after() {
    let mut expected: BTreeMap<&str, (Is, &[Damaged])> =
        CUT.iter().map(|(name, is, damaged)| (*name, (*is, *damaged))).collect();
    for cut in CutStore::all() {
        let (is, damaged) = expected.remove(cut.name.as_str()).unwrap_or_else(|| panic!("{}", cut.name));
        let (before, after) = (&cut.manifest.state_before, &cut.manifest.state_if_completed);
        let (map, content) = match is {
            Is::Before => (before, before),
            Is::After => (after, after),
            Is::Published => (after, before),
        };
        let logical_block = cut.manifest.super_block.io_unit_size;
        let crashed = Crashed { name: &cut.name, image: &cut.image, logical_block, damaged };
        crashed.is_found_as(map, content);
        crashed.is_worked_with(content);
    }
    assert!(expected.is_empty(), "no such stores: {expected:?}");
}

#[test]
fn a_store_killed_while_idle_is_whole() {
    let Some(store) = GoldenStore::load("dirty") else { return };
    let state = &store.manifest.live_before_stop;
    let logical_block = store.manifest.base_block_size;
    let crashed = Crashed { name: "dirty", image: &store.image, logical_block, damaged: SOUND };
    crashed.is_found_as(state, state);
    crashed.is_worked_with(state);
}

/// A store as a crash of SPDK has left it.
struct Crashed<'a> {
    name: &'a str,
    image: &'a Path,
    logical_block: u32,
    damaged: &'a [Damaged],
}

impl Crashed<'_> {
    fn open(&self, read_only: bool) -> Store<FileDevice> {
        let base = if read_only { OpenOptions::read_only() } else { OpenOptions::writable() };
        let device =
            open_unlocked(self.image, &OpenOptions { logical_block: Some(self.logical_block), ..base });
        let opening = match read_only {
            true => offshoot_store::OpenOptions::read_only(None),
            false => offshoot_store::OpenOptions::writable([1; 16], None),
        };
        Store::open(device, Vec::new(), &opening).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The names that damage has not cost.
    fn is_spared(&self, name: &str) -> bool {
        self.damaged.iter().all(|(_, old)| *old != name)
    }

    fn is_found_as(&self, map: &State, content: &State) {
        let untouched = fingerprint(&File::open(self.image).unwrap());
        let mut store = self.open(true);
        let damaged: BTreeSet<String> = store
            .state()
            .lvols()
            .filter(|lvol| lvol.damage.is_some())
            .map(|lvol| lvol.display_name())
            .collect();
        let expected: BTreeSet<String> = self.damaged.iter().map(|(name, _)| (*name).into()).collect();
        assert_eq!(damaged, expected, "{}", self.name);
        self.findings_are_about_what_was_torn(&store);
        self.lvols_are(&mut store, map, content);
        assert_eq!(store.state().audit(), &[], "{}", self.name);
        if self.damaged.is_empty() {
            let free = store.engine().free_clusters();
            assert_eq!(free, map.lvstores[0].free_clusters, "{}: free clusters", self.name);
        }
        drop(store);
        if !self.name.ends_with("_torn") {
            let mut check = Command::new(env!("CARGO_BIN_EXE_offshoot"));
            let output = check.arg("check").arg(self.image).arg("--json").output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", self.name);
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report, json!({ "damage": [] }), "{}", self.name);
        }
        assert_eq!(fingerprint(&File::open(self.image).unwrap()), untouched, "{}: looking writes", self.name);
    }

    fn findings_are_about_what_was_torn(&self, store: &Store<FileDevice>) {
        let is_torn = self.name.ends_with("_torn");
        for finding in store.findings() {
            let known = match &finding.what {
                Found::SuperBlockTorn { fields } => {
                    is_torn && fields == &["clean"] && self.damaged.is_empty()
                }
                Found::Damaged { .. } => {
                    self.damaged.iter().any(|(name, _)| finding.lvol.as_deref() == Some(*name))
                }
                Found::Withheld { .. } => !self.damaged.is_empty(),
                _ => false,
            };
            assert!(known, "{}: {finding:?}", self.name);
        }
        let torn_super = is_torn && self.name.contains("_01");
        assert_eq!(torn_super, !store.findings().is_empty() && self.damaged.is_empty(), "{}", self.name);
    }

    /// Names, sizes, relations, own clusters and contents.
    fn lvols_are(&self, store: &mut Store<FileDevice>, map: &State, content: &State) {
        let sound = store.state().lvols().filter(|lvol| lvol.damage.is_none());
        let names: BTreeSet<String> = sound.map(|lvol| lvol.display_name()).collect();
        let spared = |name: &&String| self.is_spared(name);
        let expected: BTreeSet<String> =
            map.lvols.iter().map(|lvol| &lvol.name).filter(spared).cloned().collect();
        assert_eq!(names, expected, "{}", self.name);
        for lvol in map.lvols.iter().filter(|lvol| self.is_spared(&lvol.name)) {
            let what = format!("{}: {}", self.name, lvol.name);
            let state = store.state();
            let blob = state.lvol_by_name(lvol.name.as_bytes()).unwrap();
            let name_of = |id| state.blob(id).unwrap().display_name();
            assert_eq!(state.bytes(blob), lvol.size_bytes, "{what}");
            assert_eq!(blob.own_clusters, lvol.num_allocated_clusters, "{what}");
            assert_eq!(blob.parent.map(name_of), lvol.base_snapshot, "{what}");
            assert_eq!(blob.is_thin(), lvol.is_thin_provisioned, "{what}");
            let clones: BTreeSet<String> = blob.clones.iter().map(|clone| name_of(*clone)).collect();
            let expected: BTreeSet<String> =
                lvol.clones.iter().filter(|clone| self.is_spared(clone)).cloned().collect();
            if self.damaged.is_empty() {
                assert_eq!(clones, expected, "{what}");
            }
        }
        for lvol in content.lvols.iter().filter(|lvol| names.contains(&lvol.name)) {
            let what = format!("{}: {}", self.name, lvol.name);
            assert_eq!(Some(sha256_of(store, &lvol.name)), lvol.sha256, "{what}");
        }
    }

    /// Opened for writing it takes writes and verbs, and is then a plain store without a trace of the crash.
    fn is_worked_with(&self, content: &State) {
        let mut store = self.open(false);
        // Clones before what they depend on.
        for (name, _) in self.damaged {
            let lvol = store.state().lvols().find(|lvol| lvol.display_name() == *name).unwrap().id;
            store.execute(Verb::Remove { lvol }).unwrap();
        }
        let cluster = store.state().units.cluster;
        let lvol = make(&mut store, "new", 3 * cluster);
        let data = |seed: u8| Buffer::copy_of(&[seed; 5000]);
        store.write(lvol, cluster - 2000, data(1)).unwrap();
        let items = vec![(lvol, identity("new-snap"))];
        store.execute(Verb::Snapshot { items }).unwrap();
        store.write(lvol, cluster - 1000, data(2)).unwrap();
        let gone = make(&mut store, "gone", 2 * cluster);
        store.execute(Verb::Remove { lvol: gone }).unwrap();
        let writable = store.state().lvols().find(|lvol| {
            let is_old = lvol.id != gone && !lvol.display_name().starts_with("new");
            is_old && !lvol.is_read_only() && lvol.clones.is_empty()
        });
        let writable = writable.map(|lvol| (lvol.id, lvol.display_name()));
        if let Some((id, _)) = &writable {
            store.write(*id, 0, data(3)).unwrap();
        }
        store.close().1.unwrap();

        let mut store = self.open(true);
        assert!(store.super_block().is_clean() && !store.super_block().is_native(), "{}", self.name);
        if self.damaged.is_empty() {
            assert_eq!((store.findings(), store.state().audit()), (&[][..], vec![]), "{}", self.name);
        }
        let mut expected = vec![0; 3 * usize::try_from(cluster).unwrap()];
        let from = usize::try_from(cluster).unwrap();
        expected[from - 2000..from + 3000].fill(1);
        let read = |store: &mut Store<FileDevice>, name: &str| {
            let id = store.state().lvol_by_name(name.as_bytes()).unwrap().id;
            store.read(id, 0, 3 * usize::try_from(cluster).unwrap()).unwrap().as_slice().to_vec()
        };
        assert!(read(&mut store, "new-snap") == expected, "{}", self.name);
        expected[from - 1000..from + 4000].fill(2);
        assert!(read(&mut store, "new") == expected, "{}", self.name);
        let changed = writable.map(|(_, name)| name);
        let names: BTreeSet<String> = store.state().lvols().map(|lvol| lvol.display_name()).collect();
        let untouched = content.lvols.iter().filter(|lvol| names.contains(&lvol.name));
        for lvol in untouched.filter(|lvol| Some(&lvol.name) != changed.as_ref()) {
            assert_eq!(Some(sha256_of(&mut store, &lvol.name)), lvol.sha256, "{}: {}", self.name, lvol.name);
        }
        drop(store);

        let file = File::open(self.image).unwrap();
        let plain = PlainStore::read(&|offset, bytes| file.read_exact_at(bytes, offset).unwrap());
        // What a removed lvol owned that could not be read is not handed out before a repair.
        let is_kept =
            |problem: &&String| problem.contains("used clusters") || problem.contains("used md pages");
        let problems = plain.problems.iter().filter(|problem| self.damaged.is_empty() || !is_kept(problem));
        assert_eq!(problems.count(), 0, "{}: {:?}", self.name, plain.problems);
    }
}

fn identity(name: &str) -> Identity {
    let uuid = Uuid::from_u128(0xbbbb_0000 + name.bytes().map(u128::from).sum::<u128>());
    Identity { name: name.into(), uuid, created: 1_700_000_000 }
}

fn make(store: &mut Store<FileDevice>, name: &str, size_bytes: u64) -> offshoot_format::BlobId {
    let create =
        Verb::Create { identity: identity(name), size_bytes, options: CreateOptions::provisioned(false) };
    store.execute(create).unwrap()[0]
}
