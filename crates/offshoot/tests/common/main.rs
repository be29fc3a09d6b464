//! Tests of the test support itself: that the golden stores in the repository unpack to what SPDK made, byte for
//! byte, and that what is said about them agrees with itself.

#[path = "mod.rs"]
mod common;

use std::fs::File;

use common::golden::contents::Contents;
use common::golden::manifest::State;
use common::golden::{CutStore, GoldenStore, decompressed, recorded_sums, sha256, shared_folder};
use common::skip;

/// Stores in the repository, and how many cut ones: fewer would mean that the packing lost some.
const WHOLE: &[&str] = &["empty", "empty_512", "many", "noet", "small_cluster"];
const CUT: usize = 33;

#[test]
fn every_unpacked_image_has_the_recorded_sum() {
    let mut recorded = recorded_sums();
    for name in WHOLE {
        let store = GoldenStore::load(name).expect("the store is in the repository");
        let file = File::open(&store.image).unwrap();
        assert_eq!(file.metadata().unwrap().len(), store.manifest.image_bytes, "{name}");
        assert_eq!(Some(sha256(file)), recorded.remove(&format!("{name}/image.raw")), "{name}");
    }
    let mut count = 0;
    for store in CutStore::all() {
        let sum = recorded.remove(&format!("cut/{}.raw", store.name));
        assert_eq!(Some(sha256(File::open(&store.image).unwrap())), sum, "{}", store.name);
        count += 1;
    }
    assert_eq!(count, CUT);
    assert!(recorded.is_empty(), "sums without an image: {recorded:?}");
}

#[test]
fn the_recorded_sums_are_those_of_the_originals() {
    let shared = shared_folder();
    if !shared.exists() {
        skip("originals of the golden stores", &format!("{} is not there", shared.display()));
        return;
    }
    for (name, sum) in recorded_sums() {
        let folder = name.strip_suffix("/image.raw").or(name.strip_suffix(".raw")).unwrap();
        assert_eq!(sha256(decompressed(&shared.join(folder).join("image.raw.zst"))), sum, "{name}");
    }
}

#[test]
fn unpacked_images_are_sparse() {
    use std::os::unix::fs::MetadataExt as _;
    let store = GoldenStore::load("empty").expect("the store is in the repository");
    let metadata = std::fs::metadata(&store.image).unwrap();
    // `blocks` counts units of 512 bytes, whatever the file system's block.
    assert!(metadata.blocks() * 512 < metadata.len() / 8, "{} blocks", metadata.blocks());
}

#[test]
fn replayed_operations_give_the_checksums_that_spdk_read() {
    for name in ["thin", "thick", "chain", "many", "small_cluster", "noet", "esnap"] {
        let Some(store) = GoldenStore::load(name) else {
            continue;
        };
        let contents = Contents::of_lvols(&store.manifest);
        let lvols = &store.manifest.live_before_stop.lvols;
        assert_eq!(contents.len(), lvols.len(), "{name}");
        let mut compared = 0;
        for lvol in lvols {
            let Some(expected) = &lvol.sha256 else { continue };
            let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            contents[&lvol.name].write_to(&file, lvol.size_bytes).unwrap();
            assert_eq!(sha256(file), *expected, "{name}: {}", lvol.name);
            compared += 1;
        }
        assert!(compared > 0, "{name} has no checksums");
    }
}

#[test]
fn cut_stores_ended_as_their_verdict_says() {
    for store in CutStore::all() {
        let manifest = &store.manifest;
        let known =
            |state: &State| manifest.after_reload.as_ref().is_some_and(|after| same_lvols(after, state));
        let agrees = match manifest.verdict.as_str() {
            "pre" => known(&manifest.state_before),
            "post" => known(&manifest.state_if_completed),
            "?" => manifest.after_reload.is_none(),
            "other" => manifest.after_reload.is_some(),
            _ => false,
        };
        assert!(agrees, "{}: verdict {}", store.name, manifest.verdict);
    }
}

/// Whether names and contents agree.
fn same_lvols(one: &State, other: &State) -> bool {
    let contents = |state: &State| {
        let mut lvols: Vec<_> =
            state.lvols.iter().map(|lvol| (lvol.name.clone(), lvol.sha256.clone())).collect();
        lvols.sort();
        lvols
    };
    contents(one) == contents(other)
}
