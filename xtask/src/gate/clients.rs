//! The programs that the end-to-end tests drive, and the Debian packages that hold them.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Program and Debian package.
const CLIENTS: &[(&str, &str)] = &[
    ("fio", "fio"),
    ("nbdinfo", "libnbd-bin"),
    ("nbdcopy", "libnbd-bin"),
    ("nbdfuse", "libnbd-bin"),
    ("nbdkit", "nbdkit"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-nbd", "qemu-utils"),
    ("mke2fs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("zstd", "zstd"),
    ("mount", "mount"),
    ("losetup", "mount"),
    ("umount", "mount"),
    ("fstrim", "util-linux"),
    ("promtool", "prometheus"),
];

/// Where a user's `PATH` often does not lead, though the programs there run for anyone.
const SYSTEM_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Installs the packages of missing clients where that is allowed (root, on a system with apt) and says which
/// ones stay missing. Never a failure: the tests that need a missing client skip and say so.
pub(crate) fn provide() {
    let packages = missing_packages(is_installed);
    if packages.is_empty() {
        return;
    }
    let packages: Vec<&str> = packages.into_iter().collect();
    if is_root() && is_installed("apt-get") {
        println!("==> installing {}", packages.join(" "));
        install(&packages);
    }
    let missing = missing_packages(is_installed);
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.into_iter().collect();
        println!("missing clients; to run the tests that need them: apt-get install {}", missing.join(" "));
    }
}

fn missing_packages(is_installed: impl Fn(&str) -> bool) -> BTreeSet<&'static str> {
    CLIENTS.iter().filter(|(program, _)| !is_installed(program)).map(|&(_, package)| package).collect()
}

fn install(packages: &[&str]) {
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        if !command.status().is_ok_and(|status| status.success()) {
            println!("apt-get {} failed", args.join(" "));
        }
    };
    apt(&["update", "-q"]);
    apt(&[&["install", "-y", "-q", "--no-install-recommends"], packages].concat());
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| effective_uid(&status) == Some(0))
}

/// The second number of the line `Uid: real effective saved filesystem`.
fn effective_uid(status: &str) -> Option<u32> {
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_is_named_once() {
        let missing = missing_packages(|program| !program.starts_with("nbd") && program != "fio");
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), ["fio", "libnbd-bin", "nbdkit"]);
        assert!(missing_packages(|_| true).is_empty());
    }

    #[test]
    fn root_is_told_by_the_effective_user() {
        for (status, uid) in [
            ("Name:\txtask\nUid:\t1000\t0\t0\t0\nGid:\t1000\n", Some(0)),
            ("Uid:\t0\t1000\t1000\t1000\n", Some(1000)),
            ("Name:\txtask\n", None),
        ] {
            assert_eq!(effective_uid(status), uid, "{status:?}");
        }
    }

    #[test]
    fn a_shell_is_installed_and_nonsense_is_not() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program-anywhere"));
    }
}
