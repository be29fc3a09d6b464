//! Stores that a real SPDK made: everything decodes, encodes to the same bytes, and says what SPDK says.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says what it skips"
)]

mod common;

use common::{Golden, folders};
use offshoot_format::{
    Bitmap, BlobId, BlobMd, ClusterIdx, ExtentOrdinal, ExtentPage, Layout, LayoutParams, LvolIdentity,
    MD_STRUCT_BYTES, MapMd, MaskKind, MaskRoom, MdPageIdx, NATIVE_VERSION, NO_PAGE, NativeFlags,
    NativeHeader, Place, Probe, StoreIdentity, SuperBlock, XATTR_UUID, decode_mask, dump_blob,
    dump_extent_page, dump_super_block, encode_mask, page_crc_ok,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

/// A blob, the md pages of its chain, and its extent pages.
struct Loaded {
    blob: BlobMd,
    chain: Vec<MdPageIdx>,
    extent_pages: BTreeMap<MdPageIdx, ExtentPage>,
}

impl Loaded {
    fn clusters(&self) -> Vec<ClusterIdx> {
        match &self.blob.map {
            MapMd::Rle(runs) => runs
                .iter()
                .filter_map(|run| run.cluster.map(|first| first.0..first.0 + run.length))
                .flatten()
                .map(ClusterIdx)
                .collect(),
            MapMd::Table { .. } => {
                self.extent_pages.values().flat_map(|page| page.clusters.iter().flatten().copied()).collect()
            }
        }
    }
}

fn chain(golden: &Golden, layout: &Layout, root: MdPageIdx) -> Vec<MdPageIdx> {
    let mut chain = vec![root];
    while let Some(next) =
        BlobMd::next_of(chain[chain.len() - 1], golden.md_page(layout, chain[chain.len() - 1])).unwrap()
    {
        assert!(!chain.contains(&next), "{}: cycle at md page {next}", golden.name);
        chain.push(next);
    }
    chain
}

/// Loads a blob, and asserts that it encodes to the bytes it was loaded from.
fn load(golden: &Golden, layout: &Layout, root: MdPageIdx) -> Loaded {
    let chain = chain(golden, layout, root);
    let pages: Vec<_> = chain.iter().map(|page| (*page, golden.md_page(layout, *page))).collect();
    let blob = BlobMd::decode_chain(&pages).unwrap();
    assert_eq!(blob.chain_len(), chain.len());
    for (image, (at, bytes)) in blob.encode_chain(&chain).iter().zip(&pages) {
        assert!(image == bytes, "{}: md page {at} encodes differently", golden.name);
    }
    let mut extent_pages = BTreeMap::new();
    if let MapMd::Table { num_clusters, pages } = &blob.map {
        for (ordinal, page) in pages.iter().enumerate() {
            let Some(at) = *page else { continue };
            let ordinal = ExtentOrdinal(u32::try_from(ordinal).unwrap());
            let len = usize::try_from((num_clusters - ordinal.first_cluster().0).min(512)).unwrap();
            let bytes = golden.md_page(layout, at);
            let page = ExtentPage::decode(at, bytes, ordinal, len).unwrap();
            assert!(page.encode() == bytes, "{}: extent page {at} encodes differently", golden.name);
            extent_pages.insert(at, page);
        }
    }
    Loaded { blob, chain, extent_pages }
}

fn masks(golden: &Golden, layout: &Layout) -> [Bitmap; 3] {
    MaskKind::ALL.map(|kind| {
        let region =
            &golden.bytes[usize::try_from(layout.mask_offset(kind)).unwrap()..][..layout.mask_bytes(kind)];
        let mask = decode_mask(kind, region, layout.mask_bits(kind) as usize).unwrap();
        assert!(
            encode_mask(kind, &mask, region.len()) == region,
            "{}: {kind} encodes differently",
            golden.name
        );
        mask
    })
}

fn clean_stores() -> impl Iterator<Item = Golden> {
    folders("").into_iter().map(|folder| Golden::read(&folder)).filter(|golden| golden.name != "dirty")
}

fn load_all(golden: &Golden, layout: &Layout) -> Vec<Loaded> {
    let [_, _, blob_ids] = masks(golden, layout);
    blob_ids.iter_ones().map(|root| load(golden, layout, MdPageIdx(u32::try_from(root).unwrap()))).collect()
}

#[test]
fn super_blocks_say_what_the_manifest_says() {
    for golden in clean_stores() {
        let super_block = SuperBlock::decode(&golden.bytes).unwrap();
        assert!(super_block.encode() == golden.bytes[..MD_STRUCT_BYTES], "{}", golden.name);
        let manifest = &golden.manifest["super_block"];
        let fields = [
            ("version", super_block.version.into()),
            ("length", super_block.length.into()),
            ("clean", super_block.clean.into()),
            ("super_blob", super_block.super_blob.unwrap().0),
            ("cluster_size", super_block.cluster_size.into()),
            ("used_page_mask_start", super_block.used_page_mask.start.into()),
            ("used_page_mask_len", super_block.used_page_mask.len.into()),
            ("used_cluster_mask_start", super_block.used_cluster_mask.start.into()),
            ("used_cluster_mask_len", super_block.used_cluster_mask.len.into()),
            ("md_start", super_block.md_start.into()),
            ("md_len", super_block.md_len.into()),
            ("used_blobid_mask_start", super_block.used_blobid_mask.start.into()),
            ("used_blobid_mask_len", super_block.used_blobid_mask.len.into()),
            ("size", super_block.size_bytes),
            ("io_unit_size", super_block.io_unit_size.into()),
            ("md_page_size", super_block.md_page_size.into()),
        ];
        for (name, value) in fields {
            assert_eq!(manifest[name].as_u64(), Some(value), "{}: {name}", golden.name);
        }
        assert_eq!(SuperBlock::probe(&golden.bytes), Probe::Store { version: 3 });
    }
}

/// Opening a clean store of SPDK's and sealing it again touch its first 512 bytes only, and leave nothing behind.
#[test]
fn opening_changes_one_sector() {
    for golden in clean_stores() {
        let super_block = SuperBlock::decode(&golden.bytes).unwrap();
        let native = NativeHeader {
            base_version: super_block.version,
            flags: NativeFlags::empty(),
            epoch: [7; 16],
            start_lsn: 1,
            journal: None,
            sequence: 1,
            mask_crcs: [0; 3],
            session: None,
            previous: None,
        };
        let open = SuperBlock { version: NATIVE_VERSION, clean: 0, native: Some(native), ..super_block };
        assert!(open.encode()[512..] == golden.bytes[512..MD_STRUCT_BYTES], "{}", golden.name);
        let sealed = SuperBlock::decode(&open.encode()).unwrap().sealed();
        assert!(sealed.encode() == golden.bytes[..MD_STRUCT_BYTES], "{}", golden.name);
    }
}

#[test]
fn layouts_are_planned_as_spdk_plans_them() {
    for golden in clean_stores() {
        let layout = golden.layout();
        let params = LayoutParams {
            size_bytes: golden.device_bytes,
            cluster_size: layout.cluster_size,
            io_unit_size: layout.io_unit_size,
            md_page_size: layout.md_page_size,
            md_len: layout.md_len,
            room: MaskRoom::default(),
        };
        assert_eq!(Layout::plan(&params), Ok(layout.clone()));
        let spdk = &golden.manifest["live_before_stop"]["lvstores"][0];
        assert_eq!(spdk["total_data_clusters"], layout.total_data_clusters(), "{}", golden.name);
        assert_eq!(spdk["max_growable_size"], layout.max_growable_bytes(), "{}", golden.name);
    }
}

#[test]
fn masks_are_what_the_blobs_use() {
    for golden in clean_stores() {
        let layout = golden.layout();
        let [mut pages, mut clusters, blob_ids] =
            MaskKind::ALL.map(|kind| Bitmap::new(layout.mask_bits(kind) as usize));
        let mut blob_ids = blob_ids;
        (0..layout.metadata_clusters()).for_each(|cluster| clusters.set(cluster as usize, true));
        for loaded in load_all(&golden, &layout) {
            blob_ids.set(loaded.blob.id.root().0 as usize, true);
            for page in loaded.chain.iter().chain(loaded.extent_pages.keys()) {
                assert!(!pages.get(page.0 as usize), "{}: md page {page} used twice", golden.name);
                pages.set(page.0 as usize, true);
            }
            for cluster in loaded.clusters() {
                assert!(layout.contains_data_cluster(cluster));
                assert!(!clusters.get(cluster.0 as usize), "{}: cluster {cluster} used twice", golden.name);
                clusters.set(cluster.0 as usize, true);
            }
        }
        assert!(masks(&golden, &layout) == [pages, clusters.clone(), blob_ids], "{}", golden.name);
        let free = clusters.len() - clusters.count_ones();
        let spdk = &golden.manifest["live_before_stop"]["lvstores"][0];
        assert_eq!(spdk["free_clusters"], free, "{}", golden.name);
    }
}

#[test]
fn lvols_are_what_spdk_lists() {
    for golden in clean_stores() {
        let layout = golden.layout();
        let super_blob = SuperBlock::decode(&golden.bytes).unwrap().super_blob.unwrap();
        let store = StoreIdentity::of(&load(&golden, &layout, super_blob.root()).blob).unwrap();
        let spdk = &golden.manifest["live_before_stop"];
        assert_eq!(spdk["lvstores"][0]["uuid"], store.uuid.to_string());
        assert_eq!(spdk["lvstores"][0]["name"], String::from_utf8(store.name).unwrap());

        let all = load_all(&golden, &layout);
        let lvols = all.iter().filter(|loaded| loaded.blob.id != super_blob);
        let mut listed: Vec<Value> = lvols.map(|loaded| describe(loaded, &all, &layout)).collect();
        listed.sort_by_key(|lvol| lvol["name"].to_string());
        let mut expected: Vec<Value> = spdk["lvols"].as_array().unwrap().clone();
        expected.sort_by_key(|lvol| lvol["name"].to_string());
        assert_eq!(listed.len(), expected.len(), "{}", golden.name);
        for (lvol, expected) in listed.iter().zip(&expected) {
            for (key, value) in lvol.as_object().unwrap() {
                assert_eq!(
                    expected.get(key).unwrap_or(&Value::Null),
                    value,
                    "{}: {key} of {lvol}",
                    golden.name
                );
            }
        }
    }
}

/// The facts about an lvol that SPDK lists as well.
fn describe(loaded: &Loaded, all: &[Loaded], layout: &Layout) -> Value {
    let name_of = |id: BlobId| {
        let blob = all.iter().map(|loaded| &loaded.blob).find(|blob| blob.id == id).unwrap();
        String::from_utf8(LvolIdentity::of(blob).unwrap().name).unwrap()
    };
    let blob = &loaded.blob;
    let identity = LvolIdentity::of(blob).unwrap();
    serde_json::json!({
        "name": name_of(blob.id),
        "uuid": identity.uuid.unwrap().to_string(),
        "is_thin_provisioned": blob.flags.is_thin(),
        "is_snapshot": blob.flags.is_read_only(),
        "is_esnap_clone": blob.external_parent().is_some(),
        "base_snapshot": blob.parent().map(name_of),
        "num_allocated_clusters": loaded.clusters().len(),
        "size_bytes": blob.map.num_clusters() * u64::from(layout.cluster_size),
    })
}

/// Blobs of stores that died: each chain decodes or is refused where it stands, and none can end the test.
#[test]
fn interrupted_stores_are_refused_page_by_page() {
    for folder in
        folders("cut").into_iter().chain(folders("").into_iter().filter(|path| path.ends_with("dirty")))
    {
        let golden = Golden::read(&folder);
        let layout = match SuperBlock::decode(&golden.bytes) {
            Ok(super_block) => super_block.layout(golden.device_bytes).unwrap(),
            Err(damage) => {
                assert_eq!(damage.at, Place::SuperBlock);
                assert!(golden.name.ends_with("_torn"), "{}: {damage}", golden.name);
                continue;
            }
        };
        let mut good = 0;
        for root in (0..layout.md_len).map(MdPageIdx) {
            let bytes = golden.md_page(&layout, root);
            if !BlobMd::is_root(root, bytes) {
                continue;
            }
            let mut pages = vec![(root, bytes)];
            while let Ok(Some(next)) = BlobMd::next_of(pages[pages.len() - 1].0, pages[pages.len() - 1].1) {
                pages.push((next, golden.md_page(&layout, next)));
                assert!(pages.len() < layout.md_len as usize);
            }
            match BlobMd::decode_chain(&pages) {
                Ok(blob) => {
                    good += 1;
                    assert!(blob.xattr(XATTR_UUID).is_some());
                }
                Err(damage) => assert!(matches!(damage.at, Place::MdPage(page) if page.0 != NO_PAGE)),
            }
        }
        assert!(good > 1, "{}", golden.name);
    }
}

/// The text of small stores is kept beside this test. `UPDATE_EXPECT=1` writes it anew, to be read as a diff.
#[test]
fn dumps_are_stable() {
    for golden in clean_stores() {
        if !["chain", "esnap", "noet", "small_cluster"].contains(&golden.name.as_str()) {
            continue;
        }
        let layout = golden.layout();
        let mut text = String::new();
        dump_super_block(&SuperBlock::decode(&golden.bytes).unwrap(), &mut text).unwrap();
        for loaded in load_all(&golden, &layout) {
            text.push('\n');
            dump_blob(&loaded.blob, &mut text).unwrap();
            loaded.extent_pages.values().for_each(|page| dump_extent_page(page, &mut text).unwrap());
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/expect")
            .join(&golden.name)
            .with_extension("txt");
        if env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&file, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&file).unwrap(), "{}", file.display());
    }
}

/// Md pages that no blob uses are erased or left over; either way nothing here reads them as the root of a blob.
#[test]
fn free_pages_of_clean_stores_are_no_roots() {
    for golden in clean_stores() {
        let layout = golden.layout();
        let [used, ..] = masks(&golden, &layout);
        for page in used.zero_runs().flatten().map(|page| MdPageIdx(u32::try_from(page).unwrap())) {
            let bytes = golden.md_page(&layout, page);
            assert!(!page_crc_ok(bytes) || !BlobMd::is_root(page, bytes), "{}: md page {page}", golden.name);
        }
    }
}
