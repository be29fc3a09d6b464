//! Loop devices, for tests on a real block device.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device over a file, detached on drop.
#[derive(Debug)]
pub(crate) struct LoopDevice(PathBuf);

impl LoopDevice {
    /// `None`, and a word about it, where there are none to be had.
    pub(crate) fn attach(file: &Path, sector_bytes: u32) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", &sector_bytes.to_string()])
            .arg(file)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let path = String::from_utf8(output.stdout).unwrap();
                Some(Self(PathBuf::from(path.trim())))
            }
            Ok(output) => {
                eprintln!("SKIPPED: loop device: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: loop device: losetup: {error}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("--detach").arg(&self.0).status();
        if !std::thread::panicking() {
            assert!(status.is_ok_and(|status| status.success()), "{} stays attached", self.0.display());
        }
    }
}
