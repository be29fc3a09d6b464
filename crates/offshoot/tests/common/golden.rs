//! The golden stores: lvstores made by SPDK, with what SPDK said about them. `testdata/README.md` describes the
//! files. The stores that are too large for the repository are read from the folder `golden` of
//! `$OFFSHOOT_SHARED` (`../shared` unless set), and skipped when they are not there.
//!
//! Everything here panics when the test data is not as it should be.

pub(crate) mod contents;
pub(crate) mod manifest;
mod sparse;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::skip;
use manifest::{CutManifest, Manifest};

/// The stores that SPDK closed in order. The others are `dirty` and those of [`CutStore`].
pub(crate) const CLEAN: &[&str] =
    &["empty", "empty_512", "thick", "thin", "chain", "many", "small_cluster", "noet", "large", "esnap"];

/// A golden store, unpacked for one test, which may change it.
#[derive(Debug)]
pub(crate) struct GoldenStore {
    pub(crate) name: &'static str,
    /// A sparse file, writable, deleted with this value.
    pub(crate) image: PathBuf,
    pub(crate) manifest: Manifest,
    _folder: TempDir,
}

impl GoldenStore {
    /// Unpacks the store `name`. `None`, after a [`skip`], if it is not in the repository and the shared folder
    /// is not there.
    pub(crate) fn load(name: &'static str) -> Option<Self> {
        let (packed, manifest) = Self::packed(name)?;
        let (folder, image) = new_image();
        let input = decompressed(&packed);
        sparse::write(input, &create(&image)).unwrap_or_else(|error| panic!("{}: {error}", image.display()));
        Some(Self { name, image, manifest, _folder: folder })
    }

    /// Unpacks the stores of [`CLEAN`] that are available, one after the other.
    pub(crate) fn all_clean() -> impl Iterator<Item = Self> {
        CLEAN.iter().filter_map(|name| Self::load(name))
    }

    /// The compressed image of the store `name`, and its manifest.
    fn packed(name: &str) -> Option<(PathBuf, Manifest)> {
        let packed = packed_folder().join(name);
        if packed.exists() {
            let manifest = parse(decompressed(&packed.join("manifest.json.zst")));
            return Some((packed.join("image.raw.zst"), manifest));
        }
        let shared = shared_folder().join(name);
        if !shared.exists() {
            skip(&format!("golden store {name}"), &format!("{} is not there", shared.display()));
            return None;
        }
        Some((shared.join("image.raw.zst"), parse(open(&shared.join("manifest.json")))))
    }
}

/// A store whose SPDK was killed in the middle of an operation, unpacked for one test, which may change it.
#[derive(Debug)]
pub(crate) struct CutStore {
    /// `OP_k` or `OP_k_torn`: killed before the k-th write of operation OP, or in the middle of it.
    pub(crate) name: String,
    /// A sparse file, writable, deleted with this value.
    pub(crate) image: PathBuf,
    pub(crate) manifest: CutManifest,
    _folder: TempDir,
}

impl CutStore {
    /// Unpacks all cut stores, one after the other, in order of their names.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let folder = packed_folder().join("cut");
        let manifests: BTreeMap<String, CutManifest> =
            parse(decompressed(&folder.join("manifests.json.zst")));
        manifests.into_iter().map(move |(name, manifest)| Self::unpack(&folder, name, manifest))
    }

    fn unpack(packed: &Path, name: String, manifest: CutManifest) -> Self {
        let (folder, image) = new_image();
        let file = create(&image);
        let failed = |error| -> u64 { panic!("{}: {error}", image.display()) };
        sparse::write(decompressed(&packed.join("base.raw.zst")), &file).unwrap_or_else(failed);
        for (offset, bytes) in pages(decompressed(&packed.join(format!("{name}.pages.zst")))) {
            file.write_all_at(&bytes, offset).expect("a page of a cut store is written");
        }
        Self { name, image, manifest, _folder: folder }
    }
}

/// The SHA-256 of all of `input`, in hexadecimal, as manifests and SHA256SUMS give it.
pub(crate) fn sha256(mut input: impl Read) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = input.read(&mut buffer).expect("the input of a hash can be read");
        if length == 0 {
            return hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        }
        hash.update(&buffer[..length]);
    }
}

/// The recorded SHA-256 of every image in the repository, by its name in SHA256SUMS.
pub(crate) fn recorded_sums() -> BTreeMap<String, String> {
    let sums = fs::read_to_string(packed_folder().join("SHA256SUMS")).expect("SHA256SUMS can be read");
    let line = |line: &str| {
        let (sum, name) = line.split_once("  ").expect("a line of SHA256SUMS has two columns");
        (name.to_owned(), sum.to_owned())
    };
    sums.lines().map(line).collect()
}

/// The golden stores as they were made, if they are there.
pub(crate) fn shared_folder() -> PathBuf {
    let shared = env::var_os("OFFSHOOT_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    shared.join("golden")
}

/// What the zstd file at `path` holds.
pub(crate) fn decompressed(path: &Path) -> impl Read {
    zstd::Decoder::new(open(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn packed_folder() -> PathBuf {
    workspace().join("testdata/golden")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder of its own for an image, and the path of the image in it. Below the target folder and not in
/// `/tmp`, which may be a file system in memory, where an image would not meet the real thing.
fn new_image() -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix_in("golden-", env!("CARGO_TARGET_TMPDIR"));
    let folder = folder.expect("a temporary folder can be made");
    let image = folder.path().join("image.raw");
    (folder, image)
}

/// The list of pages in which a cut store differs from its base, as (offset, bytes).
fn pages(mut input: impl Read) -> Vec<(u64, Vec<u8>)> {
    let mut list = Vec::new();
    input.read_to_end(&mut list).expect("a list of pages can be read");
    let length = u64::try_from(list.len()).expect("a list of pages is small");
    let mut list = Cursor::new(list);
    let mut pages = Vec::new();
    while list.position() < length {
        let offset = u64::from_le_bytes(take(&mut list));
        let page_bytes = u32::from_le_bytes(take(&mut list));
        let mut page = vec![0; usize::try_from(page_bytes).expect("a page fits into memory")];
        list.read_exact(&mut page).expect("a list of pages is whole");
        pages.push((offset, page));
    }
    pages
}

fn take<const N: usize>(list: &mut impl Read) -> [u8; N] {
    let mut bytes = [0; N];
    list.read_exact(&mut bytes).expect("a list of pages is whole");
    bytes
}

fn parse<T: serde::de::DeserializeOwned>(input: impl Read) -> T {
    serde_json::from_reader(BufReader::new(input)).expect("a manifest has the form that is known")
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn create(path: &Path) -> File {
    File::create_new(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
