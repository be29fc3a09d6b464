//! A folder with stores and images in it, and the binary to run on them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// A folder for one test.
#[derive(Debug)]
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    /// Below the target folder and not in `/tmp`, which may be a file system in memory.
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix_in("cli-", env!("CARGO_TARGET_TMPDIR"));
        Self { folder: folder.expect("a temporary folder can be made") }
    }

    /// With a store named `s` of 24 MiB in clusters of 64 KiB, in the file `s`.
    pub(crate) fn with_store() -> Self {
        let bench = Self::new();
        bench.ok(&["init", "s", "--size", "24M", "--cluster-size", "64K"]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The binary, to be run in the folder.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offshoot"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn output<A: AsRef<OsStr>>(&self, args: &[A]) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    /// Runs a command that must succeed and be silent on standard error. Returns what it prints.
    #[track_caller]
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        let output = self.output(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{:?}: {errors}", output.status);
        String::from_utf8(output.stdout).expect("text is printed")
    }

    /// Runs a command with `--json` that must succeed. Returns the JSON.
    #[track_caller]
    pub(crate) fn json<A: AsRef<OsStr>>(&self, args: &[A]) -> Value {
        serde_json::from_str(&self.ok(args)).expect("JSON is printed")
    }

    /// Runs a command that must be refused: exit status 1, one line on standard error. Returns that line, without
    /// the name of the program.
    #[track_caller]
    pub(crate) fn refused<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        refusal(&self.output(args))
    }

    /// [`Bench::refused`], and no file in the folder has changed, come or gone.
    #[track_caller]
    pub(crate) fn refused_without_a_trace<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        let before = self.contents();
        let line = self.refused(args);
        assert!(self.contents() == before, "something has changed: {line}");
        line
    }

    /// Every file by name, with its content.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder can be read");
        let mut contents: Vec<_> = entries
            .map(|entry| entry.expect("the folder can be read").path())
            .map(|path| (path.clone(), fs::read(path).unwrap_or_default()))
            .collect();
        contents.sort();
        contents
    }

    /// Runs a command with bytes on standard input.
    pub(crate) fn piped<A: AsRef<OsStr>>(&self, args: &[A], input: &[u8]) -> Output {
        let mut process = self.holding(args);
        let mut stdin = process.stdin.take().expect("standard input is a pipe");
        // A command that refuses may not read it.
        let _ = stdin.write_all(input);
        drop(stdin);
        process.wait_with_output().expect("the binary ends")
    }

    /// Starts a command with a pipe as standard input that stays open.
    pub(crate) fn holding<A: AsRef<OsStr>>(&self, args: &[A]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary runs")
    }

    /// Writes a sparse file: bytes at offsets, zeros elsewhere.
    pub(crate) fn write(&self, name: &str, size_bytes: u64, parts: &[(u64, &[u8])]) -> PathBuf {
        let path = self.path(name);
        let file = File::create(&path).expect("a file can be made");
        file.set_len(size_bytes).expect("a file can be sized");
        for (offset, bytes) in parts {
            file.write_all_at(bytes, *offset).expect("a file can be written");
        }
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Bytes of disk that a file takes.
    pub(crate) fn stored_bytes(&self, name: &str) -> u64 {
        // Counted in units of 512 bytes, whatever the file system's block.
        fs::metadata(self.path(name)).expect("the file is there").blocks() * 512
    }

    /// The lvol of a name, as `ls --json` shows it.
    #[track_caller]
    pub(crate) fn lvol(&self, store: &str, name: &str) -> Value {
        let list = self.json(&["ls", store, "--json"]);
        let lvols = list.as_array().expect("a list is shown");
        lvols
            .iter()
            .find(|lvol| lvol["name"] == name)
            .unwrap_or_else(|| panic!("{name} is not in {list}"))
            .clone()
    }

    /// Names of all lvols, in the order of `ls`.
    #[track_caller]
    pub(crate) fn names(&self, store: &str) -> Vec<String> {
        let list = self.json(&["ls", store, "--json"]);
        let lvols = list.as_array().expect("a list is shown");
        lvols.iter().filter_map(|lvol| lvol["name"].as_str()).map(str::to_owned).collect()
    }
}

/// The line of a command that was refused, without the name of the program.
#[track_caller]
pub(crate) fn refusal(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let line = errors.strip_prefix("offshoot: ").and_then(|rest| rest.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("not one line of the program: {errors:?}"));
    assert!(!line.contains('\n') && !line.is_empty(), "{errors:?}");
    line.to_owned()
}

/// Bytes that look like data, the same for the same seed.
pub(crate) fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    let len = usize::try_from(len).expect("test data fits into memory");
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    bytes
}

/// Names of an object's members, sorted.
#[track_caller]
pub(crate) fn members(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    let mut members: Vec<&str> = object.keys().map(String::as_str).collect();
    members.sort_unstable();
    members
}

/// Whether a program of that name can be run here.
pub(crate) fn has_program(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut folders =
        std::env::split_paths(&folders).chain([Path::new("/sbin").to_owned(), "/usr/sbin".into()]);
    folders.any(|folder| folder.join(name).is_file())
}
