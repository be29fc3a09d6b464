//! The golden stores: metadata regions of lvstores that a real SPDK made.

use offshoot_format::{Layout, MD_STRUCT_BYTES, MdPageIdx, SuperBlock};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The start of a golden store's device, up to the end of the md region, and what SPDK says about it.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) manifest: Value,
    pub(crate) device_bytes: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Golden {
    /// Reads the metadata of the store in `folder`. `bytes` is as much as the manifest's super block names, since that of
    /// the image may be torn.
    pub(crate) fn read(folder: &Path) -> Self {
        let manifest: Value =
            serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        let field = |name: &str| manifest["super_block"][name].as_u64().unwrap();
        let len = (field("md_start") + field("md_len")) * field("md_page_size");
        let device_bytes = field("size");
        let image = File::open(folder.join("image.raw.zst")).unwrap();
        let mut bytes = Vec::new();
        zstd::Decoder::new(image).unwrap().take(len).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, len);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, manifest, device_bytes, bytes }
    }

    pub(crate) fn layout(&self) -> Layout {
        SuperBlock::decode(&self.bytes).unwrap().layout(self.device_bytes).unwrap()
    }

    pub(crate) fn md_page<'a>(&'a self, layout: &Layout, page: MdPageIdx) -> &'a [u8] {
        assert!(layout.contains_md(page), "{}: md page {page}", self.name);
        let offset = usize::try_from(layout.md_page_offset(page)).unwrap();
        &self.bytes[offset..][..MD_STRUCT_BYTES]
    }
}

/// The folders in `shared/golden/<sub>` that hold a store, sorted. Empty, and said so, where there is none.
pub(crate) fn folders(sub: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden").join(sub);
    let Ok(entries) = fs::read_dir(&root) else {
        eprintln!("SKIPPED: no golden stores at {}", root.display());
        return Vec::new();
    };
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|folder| folder.join("image.raw.zst").exists()).collect();
    folders.sort();
    folders
}
