//! Files and block devices beyond what every device does: space, errors, the ends of a device's life.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of this is tests")]

mod common;

use common::loop_device::LoopDevice;
use common::{create, directories, open, read, run, variants, write};
use offshoot_block::{BlockDevice, Buffer, DeviceError, DeviceOffset, DeviceOp, OpId};
use offshoot_device::{Direct, EngineChoice, FileDevice, HostDevice, OpenError, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn allocated_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn unmapping_frees_space_and_zeroing_keeps_it() {
    let zeroes = |may_unmap| DeviceOp::WriteZeroes { offset: DeviceOffset(0), len: 4 * MIB, may_unmap };
    let unmap = DeviceOp::Unmap { offset: DeviceOffset(0), len: 4 * MIB };
    for (index, options) in variants().iter().enumerate() {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for (op, is_freed) in [(zeroes(false), false), (zeroes(true), true), (unmap.clone(), true)] {
            let path = directory.path().join(format!("{index}-{is_freed}"));
            let Some(mut device) = create(&path, 8 * MIB, options) else {
                continue;
            };
            write(&mut device, 0, &vec![7; 8 << 20]).unwrap();
            assert_eq!(run(&mut device, DeviceOp::Sync).result, Ok(()));
            assert!(allocated_bytes(&path) >= 8 * MIB);
            assert_eq!(run(&mut device, op.clone()).result, Ok(()));
            assert_eq!(read(&mut device, 0, 4 << 20).unwrap(), vec![0; 4 << 20]);
            assert_eq!(read(&mut device, 4 * MIB, 4 << 20).unwrap(), vec![7; 4 << 20]);
            let allocated = allocated_bytes(&path);
            assert_eq!(allocated < 5 * MIB, is_freed, "{op:?} left {allocated} bytes with {options:?}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn discarding_a_block_device_reaches_what_is_below() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let backing = directory.path().join("backing");
    std::fs::write(&backing, vec![7; 8 << 20]).unwrap();
    let Some(loop_device) = LoopDevice::attach(&backing, 512) else {
        return;
    };
    let mut device = FileDevice::open(loop_device.path(), &OpenOptions::writable()).unwrap();
    let op = DeviceOp::Unmap { offset: DeviceOffset(0), len: 4 * MIB };
    assert_eq!(run(&mut device, op).result, Ok(()));
    assert!(allocated_bytes(&backing) < 5 * MIB);
    assert_eq!(read(&mut device, 4 * MIB, 4 << 20).unwrap(), vec![7; 4 << 20]);
}

#[test]
fn a_truncated_file_is_an_io_error() {
    for directory in directories() {
        for (index, options) in variants().iter().enumerate() {
            let path = directory.path().join(index.to_string());
            let Some(mut device) = create(&path, MIB, options) else {
                continue;
            };
            for len in [0, 700] {
                std::fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
                assert_eq!(read(&mut device, 0, 8192), Err(DeviceError::Io { errno: 5 }), "{options:?}");
            }
        }
    }
}

#[test]
fn read_only_devices_refuse_to_change() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    std::fs::write(&path, vec![7; 8192]).unwrap();
    for options in variants() {
        let options =
            OpenOptions { engine: options.engine, direct: options.direct, ..OpenOptions::read_only() };
        let Some(mut device) = open(&path, &options) else {
            continue;
        };
        assert!(device.geometry().read_only);
        assert_eq!(write(&mut device, 0, &[1; 512]), Err(DeviceError::ReadOnly));
        assert_eq!(read(&mut device, 0, 8192), Ok(vec![7; 8192]));
        assert_eq!(run(&mut device, DeviceOp::Sync).result, Ok(()));
        assert!(device.grow(1 << 20).is_err());
    }
}

#[test]
fn a_full_file_system_is_no_space() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mount = directory.path().join("mount");
    std::fs::create_dir(&mount).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&mount)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no right to mount a tmpfs");
        return;
    }
    let outcomes: Vec<_> = variants()
        .iter()
        .enumerate()
        .filter_map(|(index, options)| {
            let path = mount.join(index.to_string());
            let mut device = create(&path, MIB, options)?;
            let written = write(&mut device, 0, &vec![7; 1 << 20]);
            drop(device);
            std::fs::remove_file(&path).unwrap();
            Some(written)
        })
        .collect();
    let unmounted = std::process::Command::new("umount").arg(&mount).status();
    assert!(unmounted.is_ok_and(|status| status.success()), "closed files keep the file system busy");
    assert!(outcomes.iter().all(|written| *written == Err(DeviceError::NoSpace)), "{outcomes:?}");
}

#[test]
fn dropping_a_busy_device_waits() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (index, options) in variants().iter().enumerate() {
        let path = directory.path().join(index.to_string());
        for polls in 0..3 {
            let _ = std::fs::remove_file(&path);
            let Some(mut device) = create(&path, 64 * MIB, options) else {
                continue;
            };
            for id in 0..600 {
                let (offset, buffer) = (DeviceOffset(id % 64 * MIB), Buffer::copy_of(&vec![7; 1 << 16]));
                let op = if id % 2 == 0 {
                    DeviceOp::Write { offset, buffer }
                } else {
                    DeviceOp::Read { offset, buffer }
                };
                device.submit(OpId(id), op);
            }
            let mut completions = Vec::new();
            (0..polls).for_each(|_| device.poll(&mut completions));
            assert_eq!(device.outstanding() + completions.len(), 600);
            drop(device);
            // Nothing is written any more, and the lock is free.
            let Some(device) = open(&path, options) else {
                continue;
            };
            let before = std::fs::read(&path).unwrap();
            drop(device);
            assert!(std::fs::read(&path).unwrap() == before);
        }
    }
}

#[test]
fn moves_between_threads() {
    let directory = TempDir::new().unwrap();
    for (index, options) in variants().iter().enumerate() {
        let path = directory.path().join(index.to_string());
        let Some(mut device) = create(&path, MIB, options) else {
            continue;
        };
        let buffer = Buffer::copy_of(&[7; 4096]);
        device.submit(OpId(1), DeviceOp::Write { offset: DeviceOffset(0), buffer });
        device.poll(&mut Vec::new());
        let mut device: Box<dyn HostDevice> = Box::new(device);
        let bytes = std::thread::spawn(move || {
            common::drain(&mut device);
            read(&mut device, 0, 4096).unwrap()
        });
        assert_eq!(bytes.join().unwrap(), [7; 4096]);
    }
}

#[test]
fn sizes_are_whole_blocks() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("odd");
    std::fs::write(&path, vec![7; 4096 + 512 + 100]).unwrap();
    for (logical_block, expected) in [(None, 4096 + 512), (Some(512), 4096 + 512), (Some(4096), 4096)] {
        for options in variants() {
            let Some(device) = open(&path, &OpenOptions { logical_block, ..options }) else {
                continue;
            };
            let block = u64::from(device.geometry().logical_block);
            let expected = if logical_block.is_none() { 4708 / block * block } else { expected };
            assert_eq!(device.geometry().size_bytes, expected, "{options:?}");
        }
    }
}

#[test]
fn grows() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let mut device = FileDevice::create(&path, MIB, &OpenOptions::writable()).unwrap();
    for (asked, expected) in [(MIB / 2, MIB), (2 * MIB, 2 * MIB), (2 * MIB + 100, 2 * MIB)] {
        device.grow(asked).unwrap();
        assert_eq!(device.geometry().size_bytes, expected);
    }
    write(&mut device, MIB, &vec![7; 1 << 20]).unwrap();
}

#[test]
fn huge_files_are_sparse() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let size = 8 << 40;
    for (index, options) in variants().iter().enumerate() {
        let path = directory.path().join(index.to_string());
        let mut device = match FileDevice::create(&path, size, options) {
            Ok(device) => device,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                continue;
            }
        };
        write(&mut device, size - 4096, &[7; 4096]).unwrap();
        let op = DeviceOp::WriteZeroes { offset: DeviceOffset(0), len: size, may_unmap: true };
        assert_eq!(run(&mut device, op).result, Ok(()));
        assert_eq!(read(&mut device, size - 4096, 4096), Ok(vec![0; 4096]));
    }
}

#[test]
fn open_errors_name_the_path_and_the_reason() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("small"), vec![7; 511]).unwrap();
    std::fs::write(at("empty"), []).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(at("fifo")).status();
    let mut table = vec![
        (at("missing"), "no such file or device"),
        (at("dangling"), "no such file or device"),
        (at(""), "is a directory"),
        (at("small"), "511 bytes are less than one block of 512"),
        (at("empty"), "0 bytes are less than one block of 512"),
        (at("socket"), "neither a regular file nor a block device"),
        ("/dev/null".into(), "neither a regular file nor a block device"),
    ];
    if fifo.is_ok_and(|status| status.success()) {
        table.push((at("fifo"), "neither a regular file nor a block device"));
    }
    for (path, expected) in table {
        for options in [OpenOptions::writable(), OpenOptions::read_only()] {
            let options = OpenOptions { direct: Direct::Never, ..options };
            let error = FileDevice::open(&path, &options).unwrap_err();
            assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
        }
    }
}

#[test]
fn create_refuses_what_exists_and_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    std::fs::write(&path, b"precious").unwrap();
    let refused = FileDevice::create(&path, MIB, &OpenOptions::writable());
    assert!(matches!(refused, Err(OpenError::AlreadyExists(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");

    let path = directory.path().join("tiny");
    let refused = FileDevice::create(&path, 100, &OpenOptions::writable());
    assert!(matches!(refused, Err(OpenError::TooSmall { size_bytes: 100, .. })));
    assert!(!path.exists());

    let options = OpenOptions { logical_block: Some(1024), ..OpenOptions::writable() };
    let refused = FileDevice::create(directory.path().join("odd"), MIB, &options);
    assert!(matches!(refused, Err(OpenError::LogicalBlock { logical_block: 1024, .. })));
    assert!(!directory.path().join("odd").exists());
}

#[test]
fn direct_io_and_the_page_cache_agree() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("store");
    let options = OpenOptions { engine: EngineChoice::Auto, ..OpenOptions::writable() };
    let mut device = FileDevice::create(&path, MIB, &options).unwrap();
    write(&mut device, 4096, &[7; 4096]).unwrap();
    let mut bytes = [0; 4096];
    std::fs::File::open(&path).unwrap().read_exact_at(&mut bytes, 4096).unwrap();
    assert_eq!(bytes, [7; 4096]);
}
