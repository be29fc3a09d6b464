//! A golden store on disk: opening it, running the binary on it, and telling whether it has changed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use offshoot_device::{FileDevice, OpenError, OpenOptions};
use offshoot_store::Store;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::common::golden::contents::Contents;
use crate::common::golden::manifest::State;
use crate::common::golden::{GoldenStore, sha256};
use crate::plain_checker::PlainStore;

/// A golden store and, where it needs one, its external snapshot.
pub(crate) struct Opened {
    pub(crate) golden: GoldenStore,
    external: Option<(String, NamedTempFile)>,
}

impl Opened {
    pub(crate) fn new(golden: GoldenStore) -> Self {
        let external = golden.manifest.esnap_bdev.as_ref().map(|device| {
            let file = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let contents = Contents::of_external_device();
            let patch = &contents.writes()[0];
            contents.write_to(file.as_file(), patch.length).unwrap();
            (device.uuid.clone(), file)
        });
        Self { golden, external }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.golden.name
    }

    /// What SPDK said when it loaded the store again.
    pub(crate) fn state(&self) -> &State {
        let manifest = &self.golden.manifest;
        manifest.after_reload.as_ref().unwrap_or(&manifest.live_before_stop)
    }

    /// Opens the store through the library.
    pub(crate) fn store(&self, read_only: bool) -> Store<FileDevice> {
        let base = if read_only { OpenOptions::read_only() } else { OpenOptions::writable() };
        let options = OpenOptions { logical_block: Some(self.golden.manifest.base_block_size), ..base };
        let opening = match read_only {
            true => offshoot_store::OpenOptions::read_only(None),
            false => offshoot_store::OpenOptions::writable([1; 16], None),
        };
        let device = open_unlocked(&self.golden.image, &options);
        let externals = self.external.iter().map(|(id, file)| {
            let external = FileDevice::open(file.path(), &OpenOptions::read_only()).unwrap();
            (id.clone(), external)
        });
        let store = Store::open(device, externals.collect(), &opening).unwrap();
        assert_eq!(store.findings(), &[], "{}", self.name());
        store
    }

    /// Reads the store by the second reading of the format.
    pub(crate) fn plain<T>(&self, look: impl FnOnce(&PlainStore, &dyn Fn(u64, &mut [u8])) -> T) -> T {
        let file = File::open(&self.golden.image).unwrap();
        let read_at = |offset, bytes: &mut [u8]| file.read_exact_at(bytes, offset).unwrap();
        let plain = PlainStore::read(&read_at);
        assert_eq!(plain.problems, Vec::<String>::new(), "{}", self.name());
        look(&plain, &read_at)
    }

    /// `offshoot COMMAND STORE ARGS...`, with the external snapshot.
    pub(crate) fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_offshoot"));
        program.arg(command).arg(&self.golden.image).args(args);
        if let Some((id, file)) = &self.external {
            program.arg(format!("--external={id}={}", file.path().display()));
        }
        program.stdin(Stdio::null());
        program
    }

    /// What a command that succeeds prints.
    pub(crate) fn output(&self, command: &str, args: &[&str]) -> String {
        let output = self.command(command, args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {command} {args:?}: {errors}", self.name());
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, command: &str) -> serde_json::Value {
        serde_json::from_str(&self.output(command, &["--json"])).unwrap()
    }

    /// SHA-256 of what `export` writes to standard output.
    pub(crate) fn exported_sha256(&self, lvol: &str) -> String {
        let mut program = self.command("export", &[lvol, "-"]);
        let mut child = program.stdout(Stdio::piped()).spawn().unwrap();
        let sum = sha256(child.stdout.take().unwrap());
        assert!(child.wait().unwrap().success(), "{}: export of {lvol}", self.name());
        sum
    }

    /// `export` to a file.
    pub(crate) fn exported_file(&self, lvol: &str) -> NamedTempFile {
        let file = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path: PathBuf = file.path().into();
        self.output("export", &[lvol, path.to_str().unwrap(), "--force"]);
        // The export has put a file of its own in place of the empty one.
        let exported = File::open(&path).unwrap();
        NamedTempFile::from_parts(exported, file.into_temp_path())
    }

    /// Tells one content of the image from another, whatever of it is stored as holes.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(&File::open(&self.golden.image).unwrap())
    }
}

/// Opens a file that nobody has open any more. A child that another test has just forked holds copies of all our
/// descriptors, locks included, until it has become another program: that is waited out.
pub(crate) fn open_unlocked(path: &Path, options: &OpenOptions) -> FileDevice {
    for _ in 0..500 {
        match FileDevice::open(path, options) {
            Err(OpenError::Locked { .. }) => thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{}: still locked", path.display());
}

/// A hash of the blocks of a sparse file that are not zero, each with its position. The file may be much larger
/// than what could be read.
pub(crate) fn fingerprint(file: &File) -> String {
    let mut hash = Sha256::new();
    for_each_block(file, |offset, block| {
        hash.update(offset.to_le_bytes());
        hash.update(block);
    });
    hash.update(file.metadata().unwrap().len().to_le_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

const BLOCK: usize = 4096;

/// Calls `each` with the position and content of every 4 KiB block of a sparse file that is not zero.
pub(crate) fn for_each_block(file: &File, mut each: impl FnMut(u64, &[u8])) {
    let mut bytes = vec![0; 1 << 20];
    let mut pos = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(pos)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return,
            Err(error) => panic!("seeking data: {error}"),
        };
        pos = seek(file, SeekFrom::Hole(start)).unwrap();
        let mut at = start / BLOCK as u64 * BLOCK as u64;
        while at < pos {
            let len = usize::try_from(pos - at).unwrap_or(usize::MAX).min(bytes.len());
            file.read_exact_at(&mut bytes[..len], at).unwrap();
            let blocks = bytes[..len].chunks(BLOCK).zip((at..).step_by(BLOCK));
            for (block, offset) in blocks.filter(|(block, _)| block.iter().any(|byte| *byte != 0)) {
                each(offset, block);
            }
            at += len as u64;
        }
    }
}
