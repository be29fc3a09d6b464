//! What the program says of a golden store is what SPDK said of it.

use std::collections::BTreeMap;

use offshoot_device::FileDevice;
use offshoot_store::Store;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::common::golden::contents::Contents;
use crate::common::golden::manifest::{Lvol, Operation};
use crate::image::{Opened, fingerprint};

/// Lvols of one store that are exported by the binary. The others go through the library alone: a store may have
/// hundreds, and a process for each takes long.
const EXPORTS: usize = 8;

/// Above this an lvol is compared as a sparse file.
const LARGE_BYTES: u64 = 1 << 30;

pub(crate) fn info_and_ls_say_what_spdk_said(opened: &Opened) {
    let (manifest, state) = (&opened.golden.manifest, opened.state());
    let lvstore = &state.lvstores[0];
    let super_block = &manifest.super_block;
    let mut info = opened.json("info");
    let space = ["metadata", "allocated", "pending_free", "free", "committed", "reserved"]
        .map(|what| taken(&mut info, &format!("{what}_bytes")));
    let [device, max] = ["device_size", "max_size"].map(|what| taken(&mut info, what));
    assert!(super_block.size <= device && super_block.size <= max, "{}: {device}, {max}", opened.name());
    let [used_md, md, max_md] =
        ["used_md_pages", "md_pages", "max_md_pages"].map(|what| taken(&mut info, what));
    assert!(used_md <= md && md <= max_md, "{}: {used_md} of {md}, {max_md}", opened.name());
    assert_eq!(
        info,
        json!({
            "name": lvstore.name,
            "uuid": lvstore.uuid,
            "path": opened.golden.image,
            "size": super_block.size,
            "cluster_size": lvstore.cluster_size,
            "block_size": lvstore.block_size,
            "total_clusters": super_block.size / u64::from(super_block.cluster_size),
            "free_clusters": lvstore.free_clusters,
            "sealed": true,
            "clean": true,
            "lvols": state.lvols.len(),
            "seal_clusters": 0,
        }),
        "{}",
        opened.name()
    );

    let mut listed = opened.json("ls");
    let listed = listed.as_array_mut().unwrap();
    let own: u64 = listed.iter().map(|lvol| lvol["own_bytes"].as_u64().unwrap()).sum();
    for lvol in &mut *listed {
        let (shared, freed) = (taken(lvol, "shared_bytes"), taken(lvol, "freed_bytes"));
        let is_leaf = lvol["clones"].as_array().is_some_and(Vec::is_empty);
        assert!(!is_leaf || freed == lvol["own_bytes"], "{}: {lvol}, {freed} come free", opened.name());
        assert!(lvol["parent"].is_string() || shared == 0, "{}: {lvol} shares {shared}", opened.name());
    }
    let [metadata, allocated, pending_free, free, committed, reserved] = space;
    let clusters = super_block.size / u64::from(super_block.cluster_size);
    assert_eq!(
        metadata + allocated + free,
        clusters * u64::from(super_block.cluster_size),
        "{}",
        opened.name()
    );
    assert_eq!(
        (allocated, free, pending_free, reserved),
        (own, lvstore.free_clusters * u64::from(lvstore.cluster_size), 0, 0),
        "{}",
        opened.name()
    );
    let thick = |lvol: &&Lvol| !lvol.is_thin_provisioned && !is_read_only(opened, lvol);
    let promised: u64 = state.lvols.iter().filter(thick).map(|lvol| lvol.size_bytes).sum();
    assert_eq!(committed, promised, "{}", opened.name());
    let listed: BTreeMap<&str, &Value> =
        listed.iter().map(|lvol| (lvol["name"].as_str().unwrap(), lvol)).collect();
    let expected: BTreeMap<&str, Value> = state
        .lvols
        .iter()
        .map(|lvol| (lvol.name.as_str(), as_listed(opened, lvol, lvstore.cluster_size)))
        .collect();
    assert_eq!(listed.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", opened.name());
    for (name, expected) in expected {
        assert_eq!(*listed[name], expected, "{}: {name}", opened.name());
    }
}

/// A number of an object, which is left without it.
fn taken(object: &mut Value, member: &str) -> u64 {
    object.as_object_mut().unwrap().remove(member).unwrap().as_u64().unwrap()
}

/// An lvol as `ls --json` shows it, from what SPDK says of it.
fn as_listed(opened: &Opened, lvol: &Lvol, cluster_size: u32) -> Value {
    let read_only = is_read_only(opened, lvol);
    let kind = match lvol {
        _ if read_only => "snapshot",
        Lvol { is_clone: true, .. } | Lvol { is_esnap_clone: true, .. } => "clone",
        _ => "lvol",
    };
    let mut clones = lvol.clones.clone();
    clones.sort();
    json!({
        "name": lvol.name,
        "uuid": lvol.uuid,
        "kind": kind,
        "size": lvol.size_bytes,
        "thin": lvol.is_thin_provisioned,
        "read_only": read_only,
        "parent": lvol.base_snapshot,
        "clones": clones,
        "own_bytes": lvol.num_allocated_clusters * u64::from(cluster_size),
        "created": null,
        "damaged": false,
        "degraded": false,
        "labels": {},
        "reserved": false,
        "copy_on_read": false,
    })
}

/// Whether an lvol was made as a snapshot. SPDK's `is_snapshot` says only whether it has clones at the moment.
fn is_read_only(opened: &Opened, lvol: &Lvol) -> bool {
    let mut operations = opened.golden.manifest.operations.iter();
    let made = operations.any(|operation| match operation {
        Operation::Rpc(rpc) => {
            rpc.method == "bdev_lvol_snapshot" && rpc.params["snapshot_name"] == json!(lvol.name)
        }
        Operation::Write { .. } => false,
    });
    assert!(made || !lvol.is_snapshot, "{}: {} has clones", opened.name(), lvol.name);
    made
}

pub(crate) fn exports_hold_what_spdk_read(opened: &Opened) {
    let contents = Contents::of_lvols(&opened.golden.manifest);
    let mut store = opened.store(true);
    for (number, lvol) in opened.state().lvols.iter().enumerate() {
        let what = format!("{}: {}", opened.name(), lvol.name);
        if lvol.size_bytes > LARGE_BYTES {
            assert!(lvol.sha256.is_none(), "{what}: SPDK's checksum should be compared");
            let exported = opened.exported_file(&lvol.name);
            let expected = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            contents[&lvol.name].write_to(&expected, lvol.size_bytes).unwrap();
            assert_eq!(fingerprint(exported.as_file()), fingerprint(&expected), "{what}");
            continue;
        }
        let expected = lvol.sha256.as_ref().unwrap_or_else(|| panic!("{what}: no checksum"));
        if number < EXPORTS {
            assert_eq!(opened.exported_sha256(&lvol.name), *expected, "{what}");
        } else {
            assert_eq!(sha256_of(&mut store, &lvol.name), *expected, "{what}");
        }
    }
}

/// SHA-256 of an lvol's content, read through the library.
pub(crate) fn sha256_of(store: &mut Store<FileDevice>, name: &str) -> String {
    let lvol = store.state().lvol_by_name(name.as_bytes()).unwrap();
    let (id, size) = (lvol.id, store.state().bytes(lvol));
    let mut hash = Sha256::new();
    let step = 4 << 20;
    for offset in (0..size).step_by(step) {
        let len = usize::try_from(size - offset).unwrap_or(usize::MAX).min(step);
        hash.update(store.read(id, offset, len).unwrap().as_slice());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The checker of these tests agrees with SPDK, so that it can be trusted where SPDK has not been.
pub(crate) fn a_second_reading_says_the_same(opened: &Opened) {
    let state = opened.state();
    opened.plain(|plain, _| {
        assert_eq!(plain.free_clusters, state.lvstores[0].free_clusters, "{}", opened.name());
        assert_eq!(plain.lvols().count(), state.lvols.len(), "{}", opened.name());
        for lvol in &state.lvols {
            let what = format!("{}: {}", opened.name(), lvol.name);
            let blob = plain.lvol(&lvol.name);
            assert_eq!(blob.clusters.len() as u64 * plain.cluster_size, lvol.size_bytes, "{what}");
            assert_eq!(blob.own_clusters(), lvol.num_allocated_clusters, "{what}");
            assert_eq!(blob.is_thin(), lvol.is_thin_provisioned, "{what}");
            assert_eq!(blob.is_read_only(), is_read_only(opened, lvol), "{what}");
            assert_eq!(blob.is_external_clone(), lvol.is_esnap_clone, "{what}");
            let parent = blob.parent.map(|parent| plain.blobs[&parent].name());
            assert_eq!(parent, lvol.base_snapshot, "{what}");
        }
    });
}

pub(crate) fn check_finds_nothing(opened: &Opened) {
    assert_eq!(opened.json("check"), json!({ "damage": [] }), "{}", opened.name());
}
