//! qcow2 images, made and judged by QEMU where it is installed.

use std::process::Command;

use super::bench::{Bench, KIB, MIB, has_program, noise};
use crate::common::skip;

/// A store and the image `image`, unless QEMU is missing.
fn bench(test: &str) -> Option<Bench> {
    if !has_program("qemu-img") {
        skip(test, "qemu-img is not installed");
        return None;
    }
    let bench = Bench::with_store();
    let parts: &[(u64, &[u8])] =
        &[(0, &noise(1, 300 * KIB)), (2 * MIB + 4096, &noise(2, MIB)), (6 * MIB - 5, b"tail")];
    bench.write("image", 6 * MIB, parts);
    Some(bench)
}

#[track_caller]
fn qemu_img(bench: &Bench, args: &[&str]) {
    let output = Command::new("qemu-img").args(args).current_dir(bench.path("")).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn images_are_read_whatever_is_in_them() {
    let Some(bench) = bench("import of qcow2") else {
        return;
    };
    let table: &[(&str, &[&str])] = &[
        ("plain", &[]),
        ("compressed", &["-c"]),
        ("old", &["-o", "compat=0.10"]),
        ("small", &["-o", "cluster_size=512"]),
    ];
    for (name, options) in table {
        let args = [&["convert", "-O", "qcow2"], *options, &["image", name]].concat();
        qemu_img(&bench, &args);
        bench.ok(&["import", "s", name, name]);
        bench.ok(&["export", "s", name, "back", "--force"]);
        assert!(bench.read("back") == bench.read("image"), "{name}");
        bench.ok(&["rm", "s", name]);
    }
    // The first bytes tell the format; who knows better may say so.
    bench.ok(&["import", "s", "explicit", "plain", "--format", "qcow2"]);
    bench.ok(&["import", "s", "bytes", "plain", "--format", "raw"]);
    bench.ok(&["export", "s", "bytes", "back", "--force"]);
    assert!(bench.read("back").starts_with(b"QFI\xfb"));
}

#[test]
fn images_that_are_written_are_sound_and_sparse() {
    let Some(bench) = bench("export of qcow2") else {
        return;
    };
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["export", "s", "a", "out.qcow2", "--format", "qcow2"]);
    qemu_img(&bench, &["check", "-q", "out.qcow2"]);
    qemu_img(&bench, &["compare", "-q", "-f", "raw", "-F", "qcow2", "image", "out.qcow2"]);
    assert!(bench.read("out.qcow2").len() as u64 <= 3 * MIB);
    let line = bench.refused_without_a_trace(&["export", "s", "a", "out.qcow2", "--format", "qcow2"]);
    assert_eq!(line, "out.qcow2: exists already: give --force to replace it");
    bench.ok(&["import", "s", "b", "out.qcow2"]);
    bench.ok(&["export", "s", "b", "back"]);
    assert!(bench.read("back") == bench.read("image"));
}

#[test]
fn other_files_are_followed_only_with_leave() {
    let Some(bench) = bench("backing files") else {
        return;
    };
    qemu_img(&bench, &["create", "-q", "-f", "qcow2", "-b", "image", "-F", "raw", "top"]);
    let line = bench.refused_without_a_trace(&["import", "s", "a", "top"]);
    assert_eq!(line, "top: has the backing file \"image\": give --allow-backing if that may be read");
    bench.ok(&["import", "s", "a", "top", "--allow-backing"]);
    bench.ok(&["export", "s", "a", "back"]);
    assert!(bench.read("back") == bench.read("image"));

    qemu_img(
        &bench,
        &["create", "-q", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "split", "1M"],
    );
    let line = bench.refused_without_a_trace(&["import", "s", "b", "split"]);
    assert_eq!(line, "split: has the data file \"data\": give --allow-backing if that may be read");
}

#[test]
fn a_chain_without_an_end_is_refused() {
    let Some(bench) = bench("a circle of backing files") else {
        return;
    };
    qemu_img(&bench, &["create", "-q", "-f", "qcow2", "one", "1M"]);
    qemu_img(&bench, &["rebase", "-u", "-b", "one", "-F", "qcow2", "one"]);
    let line = bench.refused_without_a_trace(&["import", "s", "a", "one", "--allow-backing"]);
    assert!(line.contains("more than 64 backing files"), "{line}");
}

#[test]
fn encrypted_images_are_refused_in_every_layer() {
    let Some(bench) = bench("encrypted images") else {
        return;
    };
    let secret = ["create", "-q", "-f", "qcow2", "--object", "secret,id=s0,data=secret"];
    let options = ["-o", "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10", "locked", "1M"];
    qemu_img(&bench, &[&secret[..], &options].concat());
    let line = bench.refused_without_a_trace(&["import", "s", "a", "locked"]);
    assert_eq!(line, "locked: is encrypted, which is not supported");
    qemu_img(&bench, &["create", "-q", "-u", "-f", "qcow2", "-b", "locked", "-F", "qcow2", "top", "1M"]);
    let line = bench.refused_without_a_trace(&["import", "s", "a", "top", "--allow-backing"]);
    assert!(line.contains("is encrypted"), "{line}");
}

#[test]
fn what_only_looks_like_an_image_is_refused() {
    let bench = Bench::with_store();
    bench.write("short", 4, &[(0, b"QFI\xfb")]);
    bench.write("broken", MIB, &[(0, b"QFI\xfb\0\0\0\x03"), (8, &noise(1, 80))]);
    for name in ["short", "broken"] {
        let line = bench.refused_without_a_trace(&["import", "s", "a", name]);
        assert!(line.starts_with(&format!("{name}: ")), "{line}");
    }
    let output = bench.piped(&["import", "s", "a", "-"], b"QFI\xfb and more");
    assert_eq!(
        super::bench::refusal(&output),
        "standard input: qcow2 cannot be read from a stream: give a file, or --format raw"
    );
    assert_eq!(bench.names("s"), [""; 0]);
    let output = bench.piped(&["import", "s", "a", "-", "--format", "raw"], b"QFI\xfb and more");
    assert!(output.status.success());
}
