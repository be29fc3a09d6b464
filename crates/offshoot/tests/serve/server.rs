//! A store in a folder of its own, the commands that change it, and a server on it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use tempfile::TempDir;

use crate::common::golden::sha256;
use crate::wire::Connection;

pub(crate) const OFFSHOOT: &str = env!("CARGO_BIN_EXE_offshoot");

/// A store file, deleted with this value.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    folder: TempDir,
}

impl Store {
    /// Makes a store called `name` with clusters of 256 KiB.
    pub(crate) fn init(name: &str, size: &str) -> Self {
        // Below the target folder and not in /tmp, which may be a file system in memory.
        let folder = TempDir::with_prefix_in("serve-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("store.img");
        let store = Self { path, folder };
        store.run("init", &["--size", size, "--name", name, "--cluster-size", "256K"]);
        store
    }

    /// A store of its own with the same bytes.
    pub(crate) fn copy(&self) -> Self {
        let folder = TempDir::with_prefix_in("serve-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("store.img");
        fs::copy(&self.path, &path).unwrap();
        Self { path, folder }
    }

    /// Runs `offshoot COMMAND STORE ARGS`, which must succeed, and returns its standard output.
    pub(crate) fn run(&self, command: &str, args: &[&str]) -> String {
        let output = offshoot(command, &self.path, args);
        assert!(output.status.success(), "{command} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A member of `info --json`.
    pub(crate) fn info(&self, member: &str) -> serde_json::Value {
        let info: serde_json::Value = serde_json::from_str(&self.run("info", &["--json"])).unwrap();
        info[member].clone()
    }

    /// Makes a file next to the store.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// SHA-256 of an lvol, as `export` gives it. The store must not be served.
    pub(crate) fn sha256(&self, lvol: &str) -> String {
        let file = self.file("exported");
        self.run("export", &[lvol, text(&file)]);
        let sum = sha256(File::open(&file).unwrap());
        fs::remove_file(file).unwrap();
        sum
    }

    /// Serves the store on a Unix socket.
    pub(crate) fn serve(&self) -> Server {
        Server::start(&[&self.path], &[])
    }
}

/// Runs `offshoot COMMAND STORE ARGS`.
pub(crate) fn offshoot(command: &str, store: &Path, args: &[&str]) -> Output {
    Command::new(OFFSHOOT).arg(command).arg(store).args(args).output().unwrap()
}

/// Runs `offshoot serve STORE ARGS`, which must be refused with status 1 and one line, and returns that line.
pub(crate) fn refused(store: &Path, args: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["60", OFFSHOOT, "serve"])
        .arg(store)
        .args(args)
        // Otherwise the log says more.
        .env("OFFSHOOT_LOG", "error")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    text
}

/// A running server, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    /// What it printed before it was ready.
    pub(crate) lines: Vec<String>,
    /// What it prints from then on.
    output: Lines<BufReader<ChildStdout>>,
    pub(crate) socket: PathBuf,
    _folder: Option<TempDir>,
}

impl Server {
    /// Serves stores on a Unix socket of its own, and returns once the server says that it is ready.
    pub(crate) fn start(stores: &[&Path], args: &[&str]) -> Self {
        // Not next to the store, whose path may be too long for a socket.
        let folder = TempDir::with_prefix("offshoot-").unwrap();
        let socket = folder.path().join("nbd.sock");
        let place = format!("unix:{}", text(&socket));
        let server = Self::start_on(stores, &[&["--nbd", &place], args].concat(), socket);
        Self { _folder: Some(folder), ..server }
    }

    /// Serves stores with `args`, which make it listen on `socket`.
    pub(crate) fn start_on(stores: &[&Path], args: &[&str], socket: PathBuf) -> Self {
        let mut command = Command::new(OFFSHOOT);
        command.arg("serve").args(stores).args(args).stdout(Stdio::piped());
        // Some tests serve damage, which is not worth a word in the output of the tests.
        let mut child = command.env("OFFSHOOT_LOG", "error").spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Process(child);
        let mut lines = Vec::new();
        while let Some(line) = output.next().map(Result::unwrap) {
            if line == "ready" {
                return Self { process, lines, output, socket, _folder: None };
            }
            lines.push(line);
        }
        panic!("the server ended before it was ready: {:?}", process.0.wait());
    }

    /// Serves stores on a Unix socket of its own, and answers JSON-RPC on another.
    pub(crate) fn start_with_rpc(stores: &[&Path]) -> Self {
        Self::start_with(stores, &[])
    }

    /// The same with `args`.
    pub(crate) fn start_with(stores: &[&Path], args: &[&str]) -> Self {
        let folder = TempDir::with_prefix("offshoot-").unwrap();
        let socket = folder.path().join("nbd.sock");
        let (place, rpc) = (format!("unix:{}", text(&socket)), folder.path().join("rpc.sock"));
        let server =
            Self::start_on(stores, &[&["--nbd", &place, "--rpc", text(&rpc)], args].concat(), socket);
        Self { _folder: Some(folder), ..server }
    }

    /// Where [`Server::start_with_rpc`] answers JSON-RPC.
    pub(crate) fn rpc_socket(&self) -> PathBuf {
        self.socket.with_file_name("rpc.sock")
    }

    /// The URI of an export. Names in these tests need no escapes.
    pub(crate) fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", text(&self.socket))
    }

    /// Connects to an export.
    pub(crate) fn connect(&self, export: &str) -> Connection {
        Connection::open(&self.socket, export).unwrap()
    }

    /// Waits for the next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        self.output.next().expect("the server has ended").unwrap()
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.0.wait().unwrap()
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0));
        assert!(!self.socket.exists(), "the socket is left behind");
    }

    /// Kills it.
    pub(crate) fn kill(mut self) {
        self.signal("KILL");
        assert_eq!(self.wait().signal(), Some(9));
    }
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A path of these tests, which is always text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
