//! The checker of these tests can fail: it finds every kind of damage that it looks for, each in a sound store of
//! SPDK's making with one thing changed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::common::golden::GoldenStore;
use crate::plain_checker::{PlainStore, checksum};

/// One change of an md page or mask of the store `small_cluster`, and a word of what is to be found.
struct Damage {
    what: &'static str,
    found: &'static str,
    harm: fn(&mut Metadata),
}

const DAMAGE: &[Damage] = &[
    Damage {
        what: "a cluster is marked that nothing refers to",
        found: "used clusters",
        harm: |metadata| metadata.flip_last_mask_bit(1),
    },
    Damage {
        what: "an md page is marked that nothing refers to",
        found: "used md pages",
        harm: |metadata| metadata.flip_last_mask_bit(0),
    },
    Damage {
        what: "a blob is marked that does not exist",
        found: "wrong checksum",
        harm: |metadata| metadata.flip_last_mask_bit(2),
    },
    Damage {
        what: "a bit of a mask beyond its end",
        found: "beyond its end",
        harm: |metadata| {
            let (start, len) = metadata.mask(1);
            metadata.bytes[start + len - 1] = 0x80;
        },
    },
    Damage { what: "a page rots", found: "wrong checksum", harm: |metadata| metadata.page(1)[100] ^= 1 },
    Damage {
        what: "the store is not clean",
        found: "not clean",
        harm: |metadata| metadata.super_block(|block| block[0x10] = 0),
    },
    Damage {
        what: "our header is left in the super block",
        found: "reserved bytes",
        harm: |metadata| metadata.super_block(|block| block[0x60] = 1),
    },
    Damage {
        what: "a version that SPDK refuses",
        found: "version",
        harm: |metadata| metadata.super_block(|block| block[0x0b] = 0x80),
    },
    Damage {
        what: "a cluster is mapped twice",
        found: "another owner",
        harm: |metadata| {
            metadata.extent_page(|page| {
                let first: [u8; 4] = page[0x19..0x1d].try_into().unwrap();
                page[0x1d..0x21].copy_from_slice(&first);
            });
        },
    },
    Damage {
        what: "a cluster of the metadata is mapped",
        found: "another owner",
        harm: |metadata| metadata.extent_page(|page| page[0x19..0x1d].copy_from_slice(&1_u32.to_le_bytes())),
    },
    Damage {
        what: "an extent page of another place",
        found: "is not its extent page",
        harm: |metadata| metadata.extent_page(|page| page[0x15] ^= 0xff),
    },
    Damage {
        what: "a page of the chain has another id",
        found: "has id",
        harm: |metadata| metadata.root(|page| page[4] = 9),
    },
    Damage {
        what: "the chain runs in a circle",
        found: "referenced twice",
        harm: |metadata| {
            let root = metadata.root_of_a_clone();
            metadata.root(|page| page[0xff8..0xffc].copy_from_slice(&root.to_le_bytes()));
        },
    },
    Damage {
        what: "holes in what says that it is thick",
        found: "holes in a thick blob",
        harm: |metadata| metadata.root(|page| page[0x15] &= !1),
    },
    Damage {
        what: "the parent does not exist",
        found: "is no snapshot",
        harm: |metadata| {
            metadata.root(|page| {
                let at = page.windows(4).position(|name| name == b"SNAP").unwrap() + 4;
                page[at..at + 4].copy_from_slice(&77_u32.to_le_bytes());
            });
        },
    },
    Damage {
        what: "the root of a deleted blob is left",
        found: "stale root",
        harm: |metadata| {
            let root = metadata.root_of_a_clone();
            let mut stale = metadata.page(root).to_vec();
            let free = metadata.md_len - 1;
            stale[..4].copy_from_slice(&free.to_le_bytes());
            metadata.page(free).copy_from_slice(&stale);
            metadata.seal_page(free);
        },
    },
];

#[test]
fn the_checker_sees_damage() {
    let store = GoldenStore::load("small_cluster").expect("the store is in the repository");
    let file = File::open(&store.image).unwrap();
    let sound = Metadata::read(&file);
    assert_eq!(sound.check(&file).problems, Vec::<String>::new());
    for Damage { what, found, harm } in DAMAGE {
        let mut metadata = sound.clone();
        harm(&mut metadata);
        let problems = metadata.check(&file).problems;
        assert!(problems.iter().any(|problem| problem.contains(found)), "{what}: {problems:?}");
    }
}

/// The metadata of the store in memory, in front of the file.
#[derive(Clone)]
struct Metadata {
    bytes: Vec<u8>,
    md_start: u32,
    md_len: u32,
}

const PAGE: usize = 4096;

impl Metadata {
    fn read(file: &File) -> Self {
        let mut block = [0; PAGE];
        file.read_exact_at(&mut block, 0).unwrap();
        let (md_start, md_len) = (le32(&block, 0x30), le32(&block, 0x34));
        let mut bytes = vec![0; (md_start + md_len) as usize * PAGE];
        file.read_exact_at(&mut bytes, 0).unwrap();
        Self { bytes, md_start, md_len }
    }

    fn check(&self, file: &File) -> PlainStore {
        PlainStore::read(&|offset, target| {
            let start = usize::try_from(offset).unwrap();
            match self.bytes.get(start..start + target.len()) {
                Some(bytes) => target.copy_from_slice(bytes),
                None => file.read_exact_at(target, offset).unwrap(),
            }
        })
    }

    /// Start and length of a mask in bytes.
    fn mask(&self, kind: usize) -> (usize, usize) {
        let at = [0x20, 0x28, 0x48][kind];
        (le32(&self.bytes, at) as usize * PAGE, le32(&self.bytes, at + 4) as usize * PAGE)
    }

    fn flip_last_mask_bit(&mut self, kind: usize) {
        let (start, _) = self.mask(kind);
        let last = le32(&self.bytes, start + 1) as usize - 1;
        self.bytes[start + 5 + last / 8] ^= 1 << (last % 8);
    }

    fn page(&mut self, number: u32) -> &mut [u8] {
        let start = (self.md_start + number) as usize * PAGE;
        &mut self.bytes[start..start + PAGE]
    }

    fn seal_page(&mut self, number: u32) {
        seal(self.page(number));
    }

    fn super_block(&mut self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.bytes[..PAGE]);
        seal(&mut self.bytes[..PAGE]);
    }

    /// Changes the root of a clone.
    fn root(&mut self, change: impl FnOnce(&mut [u8])) {
        let root = self.root_of_a_clone();
        change(self.page(root));
        self.seal_page(root);
    }

    /// Changes an extent page whose first clusters are mapped.
    fn extent_page(&mut self, change: impl FnOnce(&mut [u8])) {
        let number = self.find(|page| page[0x10] == 6 && le32(page, 0x19) != 0);
        change(self.page(number));
        self.seal_page(number);
    }

    fn root_of_a_clone(&mut self) -> u32 {
        self.find(|page| page[0x10] == 3 && page.windows(4).any(|name| name == b"SNAP"))
    }

    fn find(&mut self, is_it: impl Fn(&[u8]) -> bool) -> u32 {
        (0..self.md_len).find(|number| is_it(self.page(*number))).unwrap()
    }
}

fn seal(page: &mut [u8]) {
    let sum = checksum(&page[..PAGE - 4]);
    page[PAGE - 4..].copy_from_slice(&sum.to_le_bytes());
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
