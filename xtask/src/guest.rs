//! A guest: a machine of its own with Debian's kernel, for what the kernel of this one does not have. What it is booted from, what
//! is built for it, and booting it.
//!
//! The programs in it are `offshoot` and this one, built statically. Nothing of it is shipped.

pub(crate) mod server;

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Puts the kernel and the tools of guests in place.
const PROVIDE: &str = include_str!("guest/provide.sh");

/// What the programs in guests are built for. Naming it keeps the flags from what runs at build time.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Longest that booting and stopping may take beyond the time that a guest works, in seconds. Most of it is for answers that a
/// loaded machine delays.
const SLACK_SECONDS: u64 = 300;

/// Folders for guests: one for what all have in common, which stays there once it was downloaded, and one for a purpose.
#[derive(Debug)]
pub(crate) struct Guest {
    root: PathBuf,
    target: PathBuf,
    common: PathBuf,
    folder: PathBuf,
}

/// How a boot ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What the guest showed.
    pub(crate) console: String,
}

impl Ended {
    /// Whether a line ends like this.
    pub(crate) fn says(&self, what: &str) -> bool {
        self.console.lines().any(|line| line.ends_with(what))
    }
}

impl Guest {
    /// For a purpose, of the workspace at `root`.
    pub(crate) fn new(root: &Path, purpose: &str) -> Self {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        // Programs are run in other folders.
        let target = std::path::absolute(&target).unwrap_or(target);
        let (common, folder) = (target.join("guest"), target.join(purpose));
        Self { root: root.to_owned(), target, common, folder }
    }

    /// A file of this purpose.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Gets what is missing, builds the programs, and packs them with the first program of the guest. Returns the folder of the
    /// programs.
    ///
    /// # Errors
    /// Something cannot be had, or built.
    pub(crate) fn prepare(&self, init: &str) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        self.provide()?;
        let programs = self.build()?;
        self.pack(&programs, init)?;
        Ok(programs)
    }

    /// Boots the guest with variables for its first program and with disks, `/dev/vda` and so on, and waits until it has switched
    /// itself off.
    ///
    /// # Errors
    /// It cannot be booted, or does not come to its end: then it says what it showed.
    pub(crate) fn boot(
        &self,
        variables: &[(&str, u64)],
        disks: &[(&str, PathBuf)],
        seconds: u64,
    ) -> Result<Ended> {
        let kernel = only_file(&self.common.join("kernel/boot"), "vmlinuz-")?;
        let limit = (seconds + SLACK_SECONDS).to_string();
        let mut qemu = Command::new("timeout");
        qemu.args([&limit, "qemu-system-x86_64"]);
        qemu.args(["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off", "-M", "q35"]);
        qemu.args(["-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-no-reboot"]);
        qemu.args(["-nographic", "-serial", "stdio", "-monitor", "none"]);
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(self.file("initrd.img"));
        // The kernel hands what it does not know on to the first program, as environment.
        let mut options =
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on rdinit=/init"
                .to_owned();
        for (name, value) in variables {
            options.push_str(&format!(" {name}={value}"));
        }
        qemu.args(["-append", &options]);
        for (name, path) in disks {
            // What the guest flushes need not survive a crash of this machine.
            let drive = format!("if=none,id={name},file={},format=raw,cache=unsafe", path.display());
            qemu.args(["-drive", &format!("{drive},discard=unmap")]);
            qemu.args(["-device", &format!("virtio-blk-pci,drive={name}")]);
        }
        let output = qemu.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("timeout")?;
        let console = String::from_utf8_lossy(&output.stdout).into_owned();
        fs::write(self.file("console.txt"), console.as_bytes())?;
        let ended = Ended { console };
        ensure!(output.status.success() && ended.says("guest: done"), "the guest failed:\n{}", ended.console);
        Ok(ended)
    }

    fn provide(&self) -> Result<()> {
        let mut shell = Command::new("sh");
        shell.arg("-s").arg(&self.common).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = shell.spawn().context("sh")?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(PROVIDE.as_bytes())?;
        }
        let status = child.wait()?;
        ensure!(status.success(), "what a guest is made of cannot be had: {status}");
        Ok(())
    }

    /// Builds `offshoot` and this program so that they need nothing of the system that they run on. Returns the
    /// folder that they are in.
    fn build(&self) -> Result<PathBuf> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(["build", "--package", "offshoot", "--package", "xtask"]);
        command.args(["--target", TARGET]).env("RUSTFLAGS", "-C target-feature=+crt-static");
        command.env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
        command.arg("--target-dir").arg(&self.target);
        succeed(&mut command)?;
        Ok(self.target.join(TARGET).join("debug"))
    }

    /// Packs the root file system of the guest.
    fn pack(&self, programs: &Path, init: &str) -> Result<()> {
        let root = self.common.join("root");
        for program in ["offshoot", "xtask"] {
            fs::copy(programs.join(program), root.join("bin").join(program))?;
        }
        fs::write(root.join("init"), init)?;
        succeed(Command::new("chmod").arg("755").arg(root.join("init")))?;
        let archive = File::create(self.file("initrd.img"))?;
        let mut find = Command::new("find").arg(".").current_dir(&root).stdout(Stdio::piped()).spawn()?;
        let files = find.stdout.take().context("find has no output")?;
        let mut cpio = Command::new(self.common.join("busybox"));
        cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(&root).stdin(files).stdout(archive);
        succeed(cpio.stderr(Stdio::null()))?;
        ensure!(find.wait()?.success(), "find failed");
        Ok(())
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

/// Runs a program that has to succeed.
///
/// # Errors
/// It does not.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
