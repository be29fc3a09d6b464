//! The conformance suite on every driver that stores data.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of this is tests")]

mod common;

use common::loop_device::LoopDevice;
use common::{SIZE, conforms, create, directories, open, variants};
use offshoot_device::{
    Delay, DelayDevice, Direct, EngineChoice, EngineKind, ErrorDevice, FileDevice, HostDevice, MemDevice,
    OpenOptions,
};

#[test]
fn memory() {
    for logical_block in [512, 4096] {
        conforms(&mut MemDevice::new(SIZE, logical_block));
    }
}

#[test]
fn wrappers_and_boxes() {
    conforms(&mut DelayDevice::new(MemDevice::new(SIZE, 512), Delay::Polls(3)));
    conforms(&mut ErrorDevice::new(MemDevice::new(SIZE, 512)));
    let mut boxed: Box<dyn HostDevice> = Box::new(MemDevice::new(SIZE, 512));
    conforms(&mut boxed);
}

#[test]
fn files() {
    for directory in directories() {
        for (index, options) in variants().iter().enumerate() {
            for logical_block in [None, Some(4096)] {
                let options = OpenOptions { logical_block, ..*options };
                let path = directory.path().join(format!("store{index}-{logical_block:?}"));
                let Some(mut device) = create(&path, SIZE, &options) else {
                    continue;
                };
                assert_eq!(
                    device.is_direct(),
                    options.direct == Direct::Auto && device.direct_note().is_none()
                );
                conforms(&mut device);
            }
        }
    }
}

#[test]
fn a_file_system_without_direct_io_or_hole_punching_of_its_own() {
    let Ok(directory) = tempfile::TempDir::new_in("/dev/shm") else {
        eprintln!("SKIPPED: no /dev/shm");
        return;
    };
    for (index, options) in variants().iter().enumerate() {
        let path = directory.path().join(index.to_string());
        let Some(mut device) = create(&path, SIZE, options) else {
            continue;
        };
        conforms(&mut device);
    }
}

#[test]
fn block_devices() {
    let directory = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for sector_bytes in [512, 4096] {
        let backing = directory.path().join(format!("backing{sector_bytes}"));
        std::fs::File::create_new(&backing).unwrap().set_len(SIZE).unwrap();
        let Some(loop_device) = LoopDevice::attach(&backing, sector_bytes) else {
            continue;
        };
        for options in variants() {
            let Some(mut device) = open(loop_device.path(), &options) else {
                continue;
            };
            assert!(device.is_block_device());
            assert_eq!(offshoot_block::BlockDevice::geometry(&device).logical_block, sector_bytes);
            assert_eq!(device.is_direct(), options.direct == Direct::Auto);
            conforms(&mut device);
        }
    }
}

#[test]
fn finer_blocks_than_the_medium_go_through_the_page_cache() {
    let directory = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let backing = directory.path().join("backing");
    std::fs::File::create_new(&backing).unwrap().set_len(SIZE).unwrap();
    let Some(loop_device) = LoopDevice::attach(&backing, 4096) else {
        return;
    };
    for options in variants() {
        let options = OpenOptions { logical_block: Some(512), ..options };
        let Some(mut device) = open(loop_device.path(), &options) else {
            continue;
        };
        assert!(!device.is_direct());
        assert_eq!(device.direct_note().is_some(), options.direct == Direct::Auto);
        conforms(&mut device);
    }
}

#[test]
fn the_engine_is_what_was_asked_for() {
    let directory = tempfile::TempDir::new().unwrap();
    for (engine, expected) in
        [(EngineChoice::Threads, EngineKind::Threads), (EngineChoice::Uring, EngineKind::Uring)]
    {
        let options = OpenOptions { engine, ..OpenOptions::writable() };
        let path = directory.path().join(format!("{engine:?}"));
        let Some(device) = create(&path, SIZE, &options) else {
            continue;
        };
        assert_eq!((device.engine(), device.engine_note()), (expected, None));
    }
    let path = directory.path().join("auto");
    let device = FileDevice::create(&path, SIZE, &OpenOptions::writable()).unwrap();
    assert_eq!(device.engine_note().is_some(), device.engine() == EngineKind::Threads);
}
