//! The main job on real input: a file system made from a source tree is imported, snapshotted and cloned, each clone is
//! changed by another client, and all of them stay sound.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::common::golden::sha256;
use crate::common::skip;
use crate::mount::{Mounted, obstacle};
use crate::program::{Program, find_all};
use crate::server::{Server, Store, text};

const IMAGE_SIZE: &str = "64M";

/// A file of the source tree, as the file systems have it. Whoever moves it moves it here as well.
const KNOWN: &str = "/crates/offshoot/Cargo.toml";

#[test]
fn a_real_file_system_is_snapshotted_cloned_and_changed() {
    let Some(tools) = Tools::find() else { return };
    let store = Store::init("lvs", "256M");
    let image = tools.file_system(&store);
    let original = sha256(File::open(&image).unwrap());
    store.run("import", &["base", text(&image)]);
    store.run("snapshot", &["base=golden"]);
    for clone in ["patterns", "copied", "mounted"] {
        store.run("clone", &["golden", clone]);
    }
    let server = store.serve();
    assert_eq!(tools.sha256_over_nbd(&store, &server, "golden"), original);
    let free = tools.write_patterns(&image, &server.uri("patterns"));
    tools.copy_back_changed(&store, &server.uri("copied"));
    let is_mounted = change_mounted(&store, &server.uri("mounted"));
    // While the server runs, and after it: the snapshot is what it was.
    assert_eq!(tools.sha256_over_nbd(&store, &server, "golden"), original);
    server.stop();
    store.run("check", &[]);
    for unchanged in ["golden", "base"] {
        assert_eq!(store.sha256(unchanged), original, "{unchanged}");
    }
    let exported = |clone| {
        let file = store.file(clone);
        store.run("export", &[clone, text(&file)]);
        // Reports what is wrong by its status.
        tools.e2fsck.run(&["-fn", text(&file)]);
        file
    };
    let known = fs::read_to_string(workspace().join(&KNOWN[1..])).unwrap();

    let file = exported("patterns");
    assert_eq!(tools.debugfs(&file, &format!("cat {KNOWN}")), known);
    let content = fs::read(&file).unwrap();
    for (block, pattern) in free {
        let block = &content[block * BLOCK..][..BLOCK];
        assert!(block.iter().all(|byte| *byte == pattern), "{pattern:#x}");
    }
    let file = exported("copied");
    assert_eq!(tools.debugfs(&file, "cat /added"), known);
    assert_eq!(tools.debugfs(&file, &format!("cat {KNOWN}")), "", "removed");
    let file = exported("mounted");
    if is_mounted {
        assert_eq!(tools.debugfs(&file, &format!("cat /again{KNOWN}")), known);
        assert_eq!(tools.debugfs(&file, &format!("cat {KNOWN}")), "", "removed");
    }
}

/// Bytes of a block of the file system.
const BLOCK: usize = 4096;

struct Tools {
    mke2fs: Program,
    debugfs: Program,
    e2fsck: Program,
    qemu_io: Program,
    nbdcopy: Program,
}

impl Tools {
    fn find() -> Option<Self> {
        let names = ["mke2fs", "debugfs", "e2fsck", "qemu-io", "nbdcopy"];
        let [mke2fs, debugfs, e2fsck, qemu_io, nbdcopy] = find_all(names)?;
        Some(Self { mke2fs, debugfs, e2fsck, qemu_io, nbdcopy })
    }

    /// An ext4 file system that holds this workspace and the kernel's header files.
    fn file_system(&self, store: &Store) -> PathBuf {
        let tree = store.file("tree");
        copy_tree(&workspace().join("crates"), &tree.join("crates"));
        let headers = Path::new("/usr/include/linux");
        if headers.exists() {
            copy_tree(headers, &tree.join("include"));
        }
        let image = store.file("image.ext4");
        let block = BLOCK.to_string();
        let options = ["-q", "-t", "ext4", "-b", &block, "-d", text(&tree)];
        self.mke2fs.run(&[&options[..], &[text(&image), IMAGE_SIZE]].concat());
        image
    }

    /// Runs one command of debugfs on an image and returns what it prints.
    fn debugfs(&self, image: &Path, command: &str) -> String {
        self.debugfs.run(&["-w", "-R", command, text(image)])
    }

    fn sha256_over_nbd(&self, store: &Store, server: &Server, lvol: &str) -> String {
        let copy = store.file("over-nbd");
        self.nbdcopy.run(&[&server.uri(lvol), text(&copy)]);
        let sum = sha256(File::open(&copy).unwrap());
        fs::remove_file(copy).unwrap();
        sum
    }

    /// Writes patterns with qemu-io to blocks that the file system does not use. Returns the blocks, each with the byte
    /// that fills it.
    fn write_patterns(&self, image: &Path, uri: &str) -> Vec<(usize, u8)> {
        let found = self.debugfs(image, "ffb 40 9000");
        let blocks = found.split_whitespace().filter_map(|word| word.parse().ok());
        let free: Vec<(usize, u8)> = blocks.zip(1..).collect();
        assert_eq!(free.len(), 40, "{found}");
        let mut args = vec!["-f".to_owned(), "raw".to_owned()];
        for (block, pattern) in &free {
            let offset = block * BLOCK;
            args.extend(["-c".to_owned(), format!("write -P {pattern} {offset} {BLOCK}")]);
        }
        args.extend(["-c".to_owned(), "flush".to_owned(), uri.to_owned()]);
        self.qemu_io.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        free
    }

    /// Copies a clone out, adds and removes files with debugfs, and copies it back.
    fn copy_back_changed(&self, store: &Store, uri: &str) {
        let copy = store.file("changed.ext4");
        self.nbdcopy.run(&[uri, text(&copy)]);
        self.debugfs(&copy, &format!("write {} /added", text(&workspace().join(&KNOWN[1..]))));
        self.debugfs(&copy, &format!("rm {KNOWN}"));
        self.e2fsck.run(&["-fn", text(&copy)]);
        self.nbdcopy.run(&["--connections=2", text(&copy), uri]);
    }
}

/// Changes a clone through a mount by the kernel, where the machine lets us. Says whether it did.
fn change_mounted(store: &Store, uri: &str) -> bool {
    if let Some(why) = obstacle() {
        skip("an export mounted by the kernel", why);
        return false;
    }
    let Some(mounted) = Mounted::new(uri, &store.file("mount")) else {
        return false;
    };
    let root = mounted.path();
    copy_tree(&root.join("crates"), &root.join("again/crates"));
    fs::remove_dir_all(root.join("crates")).unwrap();
    // The kernel's file system tells the server what has become free.
    mounted.trim();
    mounted.unmount();
    true
}

/// Copies a folder. Links are followed: a folder of a workspace may be one.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_tree(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
