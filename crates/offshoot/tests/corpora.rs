//! What the fuzzer has found worth keeping, once more in every test run: the same functions, without the fuzzer.
#![allow(
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "shared with the fuzz targets; a failing test says which input it was"
)]

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/src/image/mod.rs"]
mod image;
#[path = "../../../fuzz/src/md_page.rs"]
mod md_page;
#[path = "../../../fuzz/src/nbd.rs"]
mod nbd;
#[path = "../../../fuzz/src/rpc.rs"]
mod rpc;
#[path = "../../../fuzz/src/super_block.rs"]
mod super_block;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let inputs = fs::read_dir(&folder).expect("the corpus is in the repository");
    let mut count = 0;
    for input in inputs {
        let path = input.expect("the folder can be read").path();
        let bytes = fs::read(&path).expect("an input can be read");
        // Which one it was is the first thing that a failure has to say.
        println!("{}", path.display());
        run(&bytes);
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn super_blocks() {
    replay("super_block", super_block::run);
}

#[test]
fn md_pages() {
    replay("md_page", md_page::run);
}

#[test]
fn images() {
    replay("image", image::run);
}

#[test]
fn nbd_streams() {
    replay("nbd", nbd::run);
}

#[test]
fn rpc_streams() {
    replay("rpc", rpc::run);
}
