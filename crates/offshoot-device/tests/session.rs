//! Which openings run under the same power.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of this is tests")]

mod common;

use common::loop_device::LoopDevice;
use offshoot_device::{FileDevice, OpenOptions, PowerSession};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

fn session(path: &Path, options: &OpenOptions) -> PowerSession {
    FileDevice::open(path, options).unwrap().session().expect("this machine has /proc")
}

/// A program that one test starts holds a copy of every descriptor for a moment, locks included.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_file_keeps_its_session_and_a_copy_gets_its_own() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [store, copy] = ["store", "copy"].map(|name| directory.path().join(name));
    std::fs::write(&store, vec![0; MIB]).unwrap();
    let first = session(&store, &OpenOptions::writable());
    assert_eq!(session(&store, &OpenOptions::writable()), first);
    assert_eq!(session(&store, &OpenOptions::read_only()), first);
    // By another name, and with other content.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&store, &link).unwrap();
    std::fs::write(&store, vec![1; 2 * MIB]).unwrap();
    assert_eq!(session(&link, &OpenOptions::writable()), first);

    std::fs::copy(&store, &copy).unwrap();
    let other = session(&copy, &OpenOptions::writable());
    assert_eq!(other.boot_id, first.boot_id);
    assert_ne!(other.device_generation, first.device_generation);

    // The copy in the place of the original, as a backup is restored: it may get the inode of the original.
    std::fs::remove_file(&store).unwrap();
    std::fs::copy(&copy, &store).unwrap();
    assert_ne!(session(&store, &OpenOptions::writable()), first);
}

#[test]
fn a_device_that_is_attached_anew_has_another_session() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let backing = directory.path().join("backing");
    std::fs::write(&backing, vec![0; MIB]).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let Some(loop_device) = LoopDevice::attach(&backing, 512) else {
            return;
        };
        let first = session(loop_device.path(), &OpenOptions::writable());
        assert_eq!(session(loop_device.path(), &OpenOptions::writable()), first);
        sessions.push(first);
    }
    assert_eq!(sessions[0].boot_id, sessions[1].boot_id);
    assert_ne!(sessions[0], sessions[1]);
}
