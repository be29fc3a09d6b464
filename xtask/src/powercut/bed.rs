//! The guest: what it is booted from, what is built for it, and booting it.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Puts the kernel and the tools of the guest in place.
const PROVIDE: &str = include_str!("guest/provide.sh");

/// The first program of the guest.
const INIT: &str = include_str!("guest/init.sh");

const MUSL: &str = "x86_64-unknown-linux-musl";
const GNU: &str = "x86_64-unknown-linux-gnu";

/// Longest that booting and stopping the guest may take beyond the time that its client works, in seconds. Most of it
/// is for answers that a loaded machine delays.
const SLACK_SECONDS: u64 = 300;

const DISK_BYTES: u64 = 64 << 20;
const LOG_BYTES: u64 = 16 << 30;
const TRACE_BYTES: u64 = 64 << 20;

/// A folder with everything that belongs to the guest. What was downloaded for it stays there.
#[derive(Debug)]
pub(super) struct Bed {
    root: PathBuf,
    target: PathBuf,
    folder: PathBuf,
}

impl Bed {
    /// Of the workspace at `root`.
    pub(super) fn new(root: &Path) -> Self {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        // Programs are run in other folders.
        let target = std::path::absolute(&target).unwrap_or(target);
        let folder = target.join("powercut");
        Self { root: root.to_owned(), target, folder }
    }

    /// The disk of the store before the guest ran.
    pub(super) fn base(&self) -> PathBuf {
        self.folder.join("base.img")
    }

    /// The disk of the store after it.
    pub(super) fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    /// What dm-log-writes recorded.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log.img")
    }

    /// What the client recorded.
    pub(super) fn trace(&self) -> PathBuf {
        self.folder.join("trace.img")
    }

    /// Gets what is missing, builds the programs, and makes an empty store.
    ///
    /// # Errors
    /// Something cannot be had, or built.
    pub(super) fn prepare(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        self.provide()?;
        let programs = self.build()?;
        self.pack(&programs)?;
        for (path, size) in [(self.log(), LOG_BYTES), (self.trace(), TRACE_BYTES)] {
            // Anew, so that nothing of an earlier run can be taken for part of this one.
            File::create(path)?.set_len(size)?;
        }
        let base = self.base();
        let size = DISK_BYTES.to_string();
        let mut init = Command::new(programs.join("offshoot"));
        init.arg("init").arg(&base).args(["--force", "--name", "powercut", "--cluster-size", "64K"]);
        let _ = fs::remove_file(&base);
        succeed(init.args(["--size", &size]))?;
        fs::copy(base, self.disk())?;
        Ok(())
    }

    /// Boots the guest and waits until it has switched itself off. Returns what it showed if its client did not come
    /// to its end: then a verb or request has failed, and what was recorded until then is as good as any.
    ///
    /// # Errors
    /// It cannot be booted, or never ends.
    pub(super) fn boot(&self, seed: u64, seconds: u64) -> Result<Option<String>> {
        let kernel = only_file(&self.folder.join("kernel/boot"), "vmlinuz-")?;
        let limit = (seconds + SLACK_SECONDS).to_string();
        let mut qemu = Command::new("timeout");
        qemu.args([&limit, "qemu-system-x86_64"]);
        qemu.args(["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off", "-M", "q35"]);
        qemu.args(["-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-no-reboot"]);
        qemu.args(["-nographic", "-serial", "stdio", "-monitor", "none"]);
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(self.folder.join("initrd.img"));
        // The kernel hands what it does not know on to the first program, as environment.
        let options = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on";
        let own = format!("rdinit=/init POWERCUT_SEED={seed} POWERCUT_SECONDS={seconds}");
        qemu.args(["-append", &format!("{options} {own}")]);
        for (name, path) in [("disk", self.disk()), ("log", self.log()), ("trace", self.trace())] {
            // What the guest flushes need not survive a crash of this machine.
            let drive = format!("if=none,id={name},file={},format=raw,cache=unsafe", path.display());
            qemu.args(["-drive", &format!("{drive},discard=unmap")]);
            qemu.args(["-device", &format!("virtio-blk-pci,drive={name}")]);
        }
        let output = qemu.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("timeout")?;
        let console = String::from_utf8_lossy(&output.stdout);
        fs::write(self.folder.join("console.txt"), console.as_bytes())?;
        let says = |what: &str| console.lines().any(|line| line.ends_with(what));
        ensure!(output.status.success() && says("guest: done"), "the guest failed:\n{console}");
        Ok((!says("guest: the client ended with 0")).then(|| console.into_owned()))
    }

    fn provide(&self) -> Result<()> {
        let mut shell = Command::new("sh");
        shell.arg("-s").arg(&self.folder).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = shell.spawn().context("sh")?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(PROVIDE.as_bytes())?;
        }
        let status = child.wait()?;
        ensure!(status.success(), "what the guest is made of cannot be had: {status}");
        Ok(())
    }

    /// Builds `offshoot` and this program so that they need nothing of the system that they run on. Returns the
    /// folder that they are in.
    fn build(&self) -> Result<PathBuf> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(["build", "--package", "offshoot", "--package", "xtask"]);
        let target = if has_musl() {
            MUSL
        } else {
            command.env("RUSTFLAGS", "-C target-feature=+crt-static");
            GNU
        };
        command.args(["--target", target]).env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
        command.arg("--target-dir").arg(&self.target);
        succeed(&mut command)?;
        Ok(self.target.join(target).join("debug"))
    }

    /// Packs the root file system of the guest.
    fn pack(&self, programs: &Path) -> Result<()> {
        let root = self.folder.join("root");
        for program in ["offshoot", "xtask"] {
            fs::copy(programs.join(program), root.join("bin").join(program))?;
        }
        fs::write(root.join("init"), INIT)?;
        succeed(Command::new("chmod").arg("755").arg(root.join("init")))?;
        let archive = File::create(self.folder.join("initrd.img"))?;
        let mut find = Command::new("find").arg(".").current_dir(&root).stdout(Stdio::piped()).spawn()?;
        let files = find.stdout.take().context("find has no output")?;
        let mut cpio = Command::new(self.folder.join("busybox"));
        cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(&root).stdin(files).stdout(archive);
        succeed(cpio.stderr(Stdio::null()))?;
        ensure!(find.wait()?.success(), "find failed");
        Ok(())
    }
}

/// Whether programs can be built against musl, after getting what that takes where it is missing.
fn has_musl() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", MUSL]);
    let is_there = |rustc: &mut Command| {
        let output = rustc.output().ok()?;
        Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir().then_some(())
    };
    is_there(&mut rustc).is_some() || {
        // Fails where rust did not come by rustup. Then there is another way.
        let _ = Command::new("rustup").args(["target", "add", MUSL]).status();
        is_there(&mut rustc).is_some()
    }
}

/// The one file of a folder whose name starts like this.
fn only_file(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let named =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    match paths.iter().filter(named).collect::<Vec<_>>()[..] {
        [path] => Ok(path.clone()),
        _ => bail!("{} has not exactly one {prefix}*", folder.display()),
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
