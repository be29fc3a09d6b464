//! Real clients against the server.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "everything here is a test")]

mod common;

use common::memory::export;
use common::running::Running;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;

/// Whether a client is there. In CI it has to be.
fn installed(client: &str) -> bool {
    let found = Command::new(client).arg("--version").output().is_ok();
    if !found {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{client} is not installed");
        eprintln!("SKIPPED: {client} is not installed");
    }
    found
}

fn run(client: &str, args: &[&str]) -> Output {
    Command::new(client).args(args).output().unwrap()
}

/// Runs a client that has to succeed. Returns what it prints.
fn expect(client: &str, args: &[&str]) -> String {
    let output = run(client, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client} {args:?}: {text}{errors}");
    text
}

fn servers() -> Running {
    Running::start(vec![export("vol", 64 * MIB, false), export("sealed", 8 * MIB, true)])
}

#[test]
fn qemu_io_writes_and_reads_back() {
    if !installed("qemu-io") {
        return;
    }
    let running = servers();
    let uri = running.uri("vol");
    let commands = [
        "write -P 0x5a 1M 4k",
        "write -f -P 0xa5 513 1000",
        "write -P 0x11 8M 16M",
        "flush",
        "read -P 0x5a 1M 4k",
        "read -P 0xa5 513 1000",
        "read -P 0x11 8M 16M",
        "write -z 1M 4k",
        "read -P 0 1M 4k",
        "write -z -u 8M 1M",
        "discard 9M 1M",
        "read -P 0 8M 2M",
        "read -P 0x11 10M 14M",
    ];
    let mut args = vec!["-f", "raw"];
    commands.iter().for_each(|command| args.extend(["-c", command]));
    args.push(&uri);
    let text = expect("qemu-io", &args);
    assert!(!text.contains("failed"), "{text}");
    assert!(running.control.flushes.load(Ordering::SeqCst) > 0);
    assert!(running.control.durable_writes.load(Ordering::SeqCst) > 0);
}

#[test]
fn qemu_io_is_refused_writes_to_a_read_only_export() {
    if !installed("qemu-io") {
        return;
    }
    let running = servers();
    let uri = running.uri("sealed");
    let output = run("qemu-io", &["-f", "raw", "-c", "write 0 4k", &uri]);
    assert!(!output.status.success());
    expect("qemu-io", &["-r", "-f", "raw", "-c", "read -P 0 0 8M", &uri]);
}

#[test]
fn qemu_img_sees_the_allocation() {
    if !installed("qemu-img") || !installed("qemu-io") {
        return;
    }
    let running = servers();
    let uri = running.uri("vol");
    expect("qemu-io", &["-f", "raw", "-c", "write -P 1 4M 64k", "-c", "write -P 1 8M 4k", &uri]);
    let map = expect("qemu-img", &["map", "--output=json", "-f", "raw", &uri]);
    let data: Vec<&str> = map.lines().filter(|line| line.contains("\"data\": true")).collect();
    assert_eq!(data.len(), 2, "{map}");
    assert!(data[0].contains("\"start\": 4194304, \"length\": 65536"), "{map}");
    assert!(data[1].contains("\"start\": 8388608, \"length\": 4096"), "{map}");
}

#[test]
fn nbdinfo_tells_everything() {
    if !installed("nbdinfo") {
        return;
    }
    let running = servers();
    let text = expect("nbdinfo", &["--json", "--list", &running.uri("")]);
    for part in ["\"export-name\": \"vol\"", "\"export-name\": \"sealed\"", "\"base:allocation\""] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    let text = expect("nbdinfo", &["--json", &running.uri("vol")]);
    for part in [
        "\"protocol\": \"newstyle-fixed\"",
        "\"structured\": true",
        "\"description\": \"test export vol\"",
        "\"export-size\": 67108864",
        "\"is_read_only\": false",
        "\"can_multi_conn\": true",
        "\"can_df\": true",
        "\"can_fast_zero\": true",
        "\"can_fua\": true",
        "\"can_trim\": true",
        "\"can_cache\": true",
        "\"block_size_preferred\": 4096",
        "\"block_size_maximum\": 33554432",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(!run("nbdinfo", &[&running.uri("absent")]).status.success());
    assert!(run("nbdinfo", &["--is", "read-only", &running.uri("sealed")]).status.success());
}

#[test]
fn nbdcopy_copies_in_and_out() {
    if !installed("nbdcopy") {
        return;
    }
    let running = servers();
    let (source, target) = (running.file("source"), running.file("target"));
    let mut image: Vec<u8> = (0..16_u32 << 20).map(|i| u8::try_from(i * 7 % 253).unwrap()).collect();
    image[3 << 20..9 << 20].fill(0);
    image.resize(64 << 20, 0);
    std::fs::write(&source, &image).unwrap();
    let uri = running.uri("vol");
    expect("nbdcopy", &["--flush", source.to_str().unwrap(), &uri]);
    expect("nbdcopy", &[&uri, target.to_str().unwrap()]);
    assert!(std::fs::read(target).unwrap() == image);
}

#[test]
fn fio_verifies_what_it_wrote() {
    if !installed("fio") {
        return;
    }
    let running = servers();
    let uri = format!("--uri={}", running.uri("vol"));
    let common = ["--name=job", "--ioengine=nbd", &uri, "--size=64m", "--iodepth=32", "--minimal"];
    for mode in [
        // fio would leave its verify state in the working directory.
        &["--rw=randwrite", "--bsrange=512-128k", "--verify=crc32c", "--verify_state_save=0"][..],
        &["--rw=randrw", "--bs=4k", "--numjobs=4", "--io_size=16m", "--norandommap"],
        &["--rw=randtrim", "--bs=64k"],
    ] {
        expect("fio", &[&common[..], mode].concat());
    }
}
