//! An export as a file system of the kernel: nbdfuse makes it a file, losetup makes that a block device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use crate::program::{Program, find_all};
use crate::server::text;

/// `CAP_SYS_ADMIN`, without which nobody mounts.
const CAPABILITY: u32 = 21;

/// Why this process cannot mount, if so.
pub(crate) fn obstacle() -> Option<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    if effective >> CAPABILITY & 1 == 0 {
        return Some("mounting takes root");
    }
    for (device, why) in [
        ("/dev/fuse", "/dev/fuse cannot be opened"),
        ("/dev/loop-control", "/dev/loop-control cannot be opened"),
    ] {
        if File::options().read(true).write(true).open(device).is_err() {
            return Some(why);
        }
    }
    None
}

/// A mounted export. All of it is undone when this is dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    programs: Programs,
    fuse: Child,
    fuse_folder: PathBuf,
    loop_device: Option<String>,
    folder: Option<PathBuf>,
}

#[derive(Debug)]
struct Programs {
    losetup: Program,
    mount: Program,
    umount: Program,
    fstrim: Program,
}

impl Mounted {
    /// Mounts an export that holds an ext4 file system. `None`, after a skip, if a program is missing.
    pub(crate) fn new(uri: &str, folder: &Path) -> Option<Self> {
        let names = ["nbdfuse", "losetup", "mount", "umount", "fstrim"];
        let [nbdfuse, losetup, mount, umount, fstrim] = find_all(names)?;
        let fuse_folder = folder.with_extension("fuse");
        fs::create_dir(&fuse_folder).unwrap();
        fs::create_dir(folder).unwrap();
        let fuse = nbdfuse.command().args(["-C", "2", text(&fuse_folder), uri]).spawn().unwrap();
        let mut mounted = Self {
            programs: Programs { losetup, mount, umount, fstrim },
            fuse,
            fuse_folder,
            loop_device: None,
            folder: None,
        };
        let file = mounted.fuse_folder.join("nbd");
        while !file.exists() {
            assert!(mounted.fuse.try_wait().unwrap().is_none(), "nbdfuse has ended");
            sleep(Duration::from_millis(5));
        }
        let device = mounted.programs.losetup.run(&["--show", "-f", "--direct-io=on", text(&file)]);
        let device = mounted.loop_device.insert(device.trim().to_owned());
        mounted.programs.mount.run(&["-t", "ext4", device, text(folder)]);
        mounted.folder = Some(folder.to_owned());
        Some(mounted)
    }

    /// The root of the file system.
    pub(crate) fn path(&self) -> &Path {
        self.folder.as_deref().expect("it is mounted until it is unmounted")
    }

    /// Discards what the file system does not use.
    pub(crate) fn trim(&self) {
        self.programs.fstrim.run(&[text(self.path())]);
    }

    /// Undoes it all, in order, so that everything that was written has reached the server.
    pub(crate) fn unmount(mut self) {
        let folder = self.folder.take().expect("it is mounted until it is unmounted");
        self.programs.umount.run(&[text(&folder)]);
        let device = self.loop_device.take().expect("a mounted file system has a device");
        self.programs.losetup.run(&["-d", &device]);
        self.programs.umount.run(&[text(&self.fuse_folder)]);
        assert!(self.fuse.wait().unwrap().success());
    }
}

impl Drop for Mounted {
    /// What a failed test has left, as far as it goes.
    fn drop(&mut self) {
        let Programs { losetup, umount, .. } = &self.programs;
        if let Some(folder) = &self.folder {
            let _ = umount.command().arg(folder).status();
        }
        if let Some(device) = &self.loop_device {
            let _ = losetup.command().args(["-d", device]).status();
        }
        if matches!(self.fuse.try_wait(), Ok(None)) {
            let _ = umount.command().arg(&self.fuse_folder).status();
            let _ = self.fuse.kill();
            let _ = self.fuse.wait();
        }
    }
}
