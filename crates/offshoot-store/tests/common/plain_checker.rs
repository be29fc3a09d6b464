//! A second reading of SPDK's format: does a store at rest agree with itself, and what does each lvol hold?
//!
//! An oracle for the first one, so it shares no line with it: no crate of the workspace, plain byte slices, one walk
//! from the masks down. It knows the plain format only (versions 1 to 3, `clean = 1`); anything else is a problem.
//! It collects what is wrong instead of stopping, and whatever a link says, every page is visited at most once.
//!
//! The section numbers are those of the specification that both readings follow.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shared by several test programs")]

use std::collections::{BTreeMap, BTreeSet};

/// Fills a buffer from a byte offset of the device.
pub type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]);

/// Length of every checksummed structure, whatever the md page size.
const PAGE: usize = 4096;
const NONE: u32 = u32::MAX;
/// Clusters of one extent page.
const PER_EXTENT_PAGE: usize = 512;

/// What the store is made of, as far as it can be read.
#[derive(Debug, Default)]
pub struct PlainStore {
    /// Everything that is wrong, one line each. Empty for a sound store.
    pub problems: Vec<String>,
    pub version: u32,
    pub cluster_size: u64,
    pub total_clusters: u32,
    pub free_clusters: u64,
    /// By blob id, the super blob among them.
    pub blobs: BTreeMap<u64, PlainBlob>,
    pub super_blob: u64,
    pub md_page_size: u64,
    pub md_start: u32,
    md_len: u32,
}

/// A blob as its md pages say.
#[derive(Clone, Debug, Default)]
pub struct PlainBlob {
    pub id: u64,
    pub flags: [u64; 3],
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub internal_xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The physical cluster of each cluster; 0 where it holds none.
    pub clusters: Vec<u32>,
    pub parent: Option<u64>,
    /// The pages of the table, 0 where there is none; `None` for a blob with runs.
    table: Option<Vec<u32>>,
    /// What every EXTENT_TABLE descriptor gives as size.
    table_clusters: Option<u64>,
    has_runs: bool,
}

impl PlainBlob {
    pub fn is_thin(&self) -> bool {
        self.flags[0] & 0x1 != 0
    }

    pub fn has_extent_table(&self) -> bool {
        self.table.is_some()
    }

    pub fn is_external_clone(&self) -> bool {
        self.flags[0] & 0x8 != 0
    }

    pub fn is_read_only(&self) -> bool {
        self.flags[1] & 0x1 != 0
    }

    pub fn own_clusters(&self) -> u64 {
        self.clusters.iter().filter(|cluster| **cluster != 0).count() as u64
    }

    /// The name up to its NUL.
    pub fn name(&self) -> String {
        let name = self.xattrs.get(b"name".as_slice()).map_or(&[][..], Vec::as_slice);
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    }
}

impl PlainStore {
    /// Reads and checks the store that `read_at` shows.
    pub fn read(read_at: ReadAt<'_>) -> Self {
        let mut store = Self::default();
        let mut block = vec![0; PAGE];
        read_at(0, &mut block);
        let masks = store.super_block(read_at, &block);
        if !store.problems.is_empty() {
            return store;
        }
        store.expect(block[0x60..0xffc].iter().all(|byte| *byte == 0), || {
            "super block: reserved bytes".into()
        });
        let [used_md, used_clusters, roots] = store.masks(read_at, masks);
        let mut claims = Claims { clusters: (0..store.metadata_clusters()).collect(), ..Claims::default() };
        for root in &roots {
            store.blob(read_at, *root, &mut claims);
        }
        store.compare("used clusters", &used_clusters, &claims.clusters);
        store.compare("used md pages", &used_md, &claims.md);
        store.free_clusters = u64::from(store.total_clusters) - used_clusters.len() as u64;
        store.stale_roots(read_at, &claims.md);
        store.relations();
        store.names();
        store
    }

    pub fn lvol(&self, name: &str) -> &PlainBlob {
        let mut lvols = self.lvols().filter(|blob| blob.name() == name);
        lvols.next().unwrap_or_else(|| panic!("no lvol named {name}"))
    }

    pub fn lvols(&self) -> impl Iterator<Item = &PlainBlob> {
        self.blobs.values().filter(|blob| blob.id != self.super_blob)
    }

    /// Calls `each` with the content of every cluster of an lvol that some blob of its chain holds. All others
    /// read zeros, or the external snapshot's bytes.
    pub fn for_each_cluster(
        &self,
        read_at: ReadAt<'_>,
        lvol: &PlainBlob,
        mut each: impl FnMut(usize, &[u8]),
    ) {
        let mut bytes = vec![0; usize::try_from(self.cluster_size).unwrap()];
        for at in 0..lvol.clusters.len() {
            let mut next = Some(lvol);
            while let Some(blob) = next {
                match blob.clusters.get(at) {
                    Some(0) => next = blob.parent.and_then(|parent| self.blobs.get(&parent)),
                    Some(cluster) => {
                        read_at(u64::from(*cluster) * self.cluster_size, &mut bytes);
                        each(at, &bytes);
                        break;
                    }
                    // Beyond the end of a shorter ancestor.
                    None => break,
                }
            }
        }
    }

    /// The whole content of an lvol without an external snapshot.
    pub fn content(&self, read_at: ReadAt<'_>, lvol: &PlainBlob) -> Vec<u8> {
        let cluster = usize::try_from(self.cluster_size).unwrap();
        let mut content = vec![0; lvol.clusters.len() * cluster];
        self.for_each_cluster(read_at, lvol, |at, bytes| {
            content[at * cluster..(at + 1) * cluster].copy_from_slice(bytes);
        });
        content
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    fn expect(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(text());
        }
    }

    /// Section 2. Hands back the mask regions as (start, length) in pages, by type.
    fn super_block(&mut self, read_at: ReadAt<'_>, block: &[u8]) -> [(u32, u32); 3] {
        self.version = le32(block, 8);
        self.super_blob = le64(block, 0x14);
        self.cluster_size = le32(block, 0x1c).into();
        (self.md_start, self.md_len) = (le32(block, 0x30), le32(block, 0x34));
        self.md_page_size = match le32(block, 0x5c) {
            0 => 4096,
            bytes => bytes.into(),
        };
        self.expect(&block[..8] == b"SPDKBLOB", || "no signature".into());
        let version = self.version;
        self.expect((1..=3).contains(&version), || format!("version {version:#x}"));
        self.expect(le32(block, 8 + 8) == 1, || "not clean".into());
        self.expect(checksum_holds(block), || "super block: checksum".into());
        let has_type = &block[0x38..0x48] == b"LVOLSTORE\0\0\0\0\0\0\0";
        // Section 2.4: version 1 has no type.
        let has_no_type = version == 1 && block[0x38..0x48] == [0; 16];
        self.expect(has_type || has_no_type, || "not an lvolstore".into());
        let size = le64(block, 0x50);
        let cluster_size = self.cluster_size;
        let divides = cluster_size > 0 && cluster_size.is_multiple_of(self.md_page_size);
        self.expect(divides, || format!("cluster size {cluster_size}"));
        if divides {
            self.total_clusters = match size {
                // Section 2.3: as large as the device, which the mask tells here.
                0 => mask_bits(read_at, u64::from(le32(block, 0x28)) * self.md_page_size),
                _ => u32::try_from(size / cluster_size).unwrap_or(0),
            };
            let metadata = self.metadata_clusters();
            let total = self.total_clusters;
            self.expect(metadata <= total, || format!("{metadata} metadata clusters of {total}"));
        }
        [(0x20, 0x24), (0x28, 0x2c), (0x48, 0x4c)].map(|(start, len)| (le32(block, start), le32(block, len)))
    }

    fn metadata_clusters(&self) -> u32 {
        let end = u64::from(self.md_start) + u64::from(self.md_len);
        u32::try_from((end * self.md_page_size).div_ceil(self.cluster_size)).unwrap_or(u32::MAX)
    }

    /// Section 3: each mask as the set of its bits.
    fn masks(&mut self, read_at: ReadAt<'_>, regions: [(u32, u32); 3]) -> [BTreeSet<u32>; 3] {
        let lengths = [self.md_len, self.total_clusters, self.md_len];
        let mut kind = 0;
        regions.map(|(start, pages)| {
            let (number, bits) = (kind, lengths[usize::from(kind)]);
            kind += 1;
            if number == 2 && pages == 0 {
                return self.roots(read_at);
            }
            let mut bytes = vec![0; usize::try_from(u64::from(pages) * self.md_page_size).unwrap()];
            let room = bytes.len();
            self.expect(room >= 5 + bits.div_ceil(8) as usize, || format!("mask {number}: {room} bytes"));
            if room < 5 + bits.div_ceil(8) as usize {
                return BTreeSet::new();
            }
            read_at(u64::from(start) * self.md_page_size, &mut bytes);
            self.expect(bytes[0] == number, || format!("mask {number}: type {}", bytes[0]));
            self.expect(le32(&bytes, 1) == bits, || format!("mask {number}: {} bits", le32(&bytes, 1)));
            let set = (0_u32..).zip(&bytes[5..]).flat_map(|(index, byte)| {
                let of_byte = (0..8).filter(move |bit| byte >> bit & 1 == 1);
                of_byte.map(move |bit| index * 8 + bit)
            });
            let set: BTreeSet<u32> = set.collect();
            let beyond = set.range(bits..).count();
            self.expect(beyond == 0, || format!("mask {number}: {beyond} bits beyond its end"));
            set
        })
    }

    /// Section 2.4: without a mask the roots are those that say so.
    fn roots(&self, read_at: ReadAt<'_>) -> BTreeSet<u32> {
        (0..self.md_len).filter(|at| is_root(*at, &self.md_page(read_at, *at))).collect()
    }

    /// Sections 4 and 5: one blob, from its root on.
    fn blob(&mut self, read_at: ReadAt<'_>, root: u32, claims: &mut Claims) {
        let id = 0x1_0000_0000 | u64::from(root);
        let mut blob = PlainBlob { id, ..PlainBlob::default() };
        let (mut at, mut sequence) = (root, 0);
        while at != NONE {
            let Some(page) = self.claim_page(read_at, at, id, claims) else {
                break;
            };
            self.expect(le64(&page, 0) == id, || {
                format!("blob {id:#x}: page {at} has id {:#x}", le64(&page, 0))
            });
            self.expect(le32(&page, 8) == sequence, || format!("blob {id:#x}: page {at} out of sequence"));
            self.descriptors(&page[0x10..0xff8], at == root, &mut blob);
            at = le32(&page, 0xff8);
            sequence += 1;
        }
        self.extent_pages(read_at, &mut blob, claims);
        for cluster in blob.clusters.iter().filter(|cluster| **cluster != 0) {
            let total = self.total_clusters;
            self.expect(*cluster < total, || format!("blob {id:#x}: cluster {cluster} of {total}"));
            let new = claims.clusters.insert(*cluster);
            self.expect(new, || format!("blob {id:#x}: cluster {cluster} has another owner"));
        }
        let holes = blob.clusters.contains(&0);
        self.expect(!holes || blob.is_thin(), || format!("blob {id:#x}: holes in a thick blob"));
        self.expect(blob.has_extent_table() == (blob.flags[0] & 0x4 != 0), || {
            format!("blob {id:#x}: the flag EXTENT_TABLE is wrong")
        });
        self.blobs.insert(id, blob);
    }

    /// An md page that nobody else refers to, if it can be read.
    fn claim_page(&mut self, read_at: ReadAt<'_>, at: u32, id: u64, claims: &mut Claims) -> Option<Vec<u8>> {
        if at >= self.md_len || !claims.md.insert(at) {
            self.problem(format!("blob {id:#x}: md page {at} does not exist or is referenced twice"));
            return None;
        }
        let page = self.md_page(read_at, at);
        if !checksum_holds(&page) {
            self.problem(format!("blob {id:#x}: md page {at} has a wrong checksum"));
            return None;
        }
        Some(page)
    }

    fn md_page(&self, read_at: ReadAt<'_>, at: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        read_at((u64::from(self.md_start) + u64::from(at)) * self.md_page_size, &mut page);
        page
    }

    fn descriptors(&mut self, mut rest: &[u8], is_root: bool, blob: &mut PlainBlob) {
        let mut first = true;
        while rest.len() >= 5 {
            let (kind, len) = (rest[0], le32(rest, 1) as usize);
            if kind == 0 && len == 0 {
                break;
            }
            let Some(payload) = rest.get(5..5 + len) else {
                return self.problem(format!("blob {:#x}: a descriptor straddles its page", blob.id));
            };
            let starts_root = is_root && std::mem::take(&mut first);
            let is_old = self.version < 3 && kind != 3;
            self.expect((kind == 3) == starts_root || is_old, || {
                format!("blob {:#x}: FLAGS not first or twice", blob.id)
            });
            self.descriptor(kind, payload, blob);
            rest = &rest[5 + len..];
        }
    }

    fn descriptor(&mut self, kind: u8, payload: &[u8], blob: &mut PlainBlob) {
        let id = blob.id;
        match (kind, payload.len()) {
            (0, _) => {}
            (1, 8..) => {
                blob.has_runs = true;
                for run in payload.chunks(8) {
                    let (cluster, length) = (le32(run, 0), le32(run, 4));
                    let step = u32::from(cluster != 0);
                    blob.clusters.extend((0..length).map(|index| cluster + index * step));
                }
            }
            (2 | 4, 4..) => {
                let (name, value) = (le16(payload, 0), le16(payload, 2));
                self.expect(payload.len() == 4 + name + value, || format!("blob {id:#x}: an xattr's length"));
                let (name, value) = payload[4..].split_at(name.min(payload.len() - 4));
                let list = if kind == 2 { &mut blob.xattrs } else { &mut blob.internal_xattrs };
                let twice = list.insert(name.to_vec(), value.to_vec()).is_some();
                self.expect(!twice, || format!("blob {id:#x}: an xattr twice"));
            }
            (3, 24) => blob.flags = [0, 8, 16].map(|at| le64(payload, at)),
            (5, 8..) => {
                let clusters = le64(payload, 0);
                let stored = *blob.table_clusters.get_or_insert(clusters);
                self.expect(stored == clusters, || format!("blob {id:#x}: sizes {stored} and {clusters}"));
                let table = blob.table.get_or_insert_default();
                for entry in payload[8..].chunks_exact(8) {
                    match (le32(entry, 0), le32(entry, 4)) {
                        (0, count) => table.extend((0..count).map(|_| 0)),
                        (page, count) => {
                            self.expect(count == 1, || format!("blob {id:#x}: {count} extent pages in one"));
                            table.push(page);
                        }
                    }
                }
            }
            _ => self.problem(format!("blob {id:#x}: descriptor {kind} of {} bytes", payload.len())),
        }
    }

    /// Sections 5.4 and 5.5.
    fn extent_pages(&mut self, read_at: ReadAt<'_>, blob: &mut PlainBlob, claims: &mut Claims) {
        let id = blob.id;
        let (Some(table), Some(size)) = (blob.table.clone(), blob.table_clusters) else {
            return;
        };
        self.expect(!blob.has_runs, || format!("blob {id:#x}: both runs and a table"));
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let wanted = size.div_ceil(PER_EXTENT_PAGE);
        self.expect(table.len() == wanted, || {
            format!("blob {id:#x}: {} extent pages of {wanted}", table.len())
        });
        blob.clusters = Vec::new();
        for (ordinal, at) in table.into_iter().enumerate().take(wanted) {
            let start = ordinal * PER_EXTENT_PAGE;
            let count = (size - start).min(PER_EXTENT_PAGE);
            let page = if at == 0 { None } else { self.claim_page(read_at, at, id, claims) };
            let Some(page) = page else {
                blob.clusters.extend((0..count).map(|_| 0));
                continue;
            };
            let alone = le32(&page, 8) == 0 && le32(&page, 0xff8) == NONE;
            let covers = le32(&page, 0x11) as usize == 4 + 4 * count && le32(&page, 0x15) as usize == start;
            let end = 0x19 + 4 * count;
            let empty_behind = page[end..0xff8].iter().all(|byte| *byte == 0);
            self.expect(alone && page[0x10] == 6 && covers && empty_behind, || {
                format!("blob {id:#x}: md page {at} is not its extent page {ordinal}")
            });
            blob.clusters.extend(page[0x19..end].chunks(4).map(|entry| le32(entry, 0)));
        }
    }

    fn compare(&mut self, what: &str, mask: &BTreeSet<u32>, referenced: &BTreeSet<u32>) {
        let lost: Vec<_> = mask.difference(referenced).collect();
        let unmarked: Vec<_> = referenced.difference(mask).collect();
        self.expect(lost.is_empty(), || format!("{what}: {lost:?} marked, but nothing refers to them"));
        self.expect(unmarked.is_empty(), || format!("{what}: {unmarked:?} in use, but not marked"));
    }

    /// Section 11, 12: the root of a deleted blob would come back after a crash under SPDK.
    fn stale_roots(&mut self, read_at: ReadAt<'_>, claimed: &BTreeSet<u32>) {
        for at in (0..self.md_len).filter(|at| !claimed.contains(at)) {
            let page = self.md_page(read_at, at);
            self.expect(!is_root(at, &page), || format!("md page {at} holds a stale root"));
        }
    }

    /// Section 6.1: parents exist, are read-only and have no cycle; a family is encoded in one way.
    fn relations(&mut self) {
        let ids: Vec<u64> = self.blobs.keys().copied().collect();
        for id in &ids {
            let blob = &self.blobs[id];
            let Some(value) = blob.internal_xattrs.get(b"SNAP".as_slice()) else {
                continue;
            };
            let parent = <[u8; 8]>::try_from(value.as_slice()).map(u64::from_le_bytes).ok();
            let found = parent.and_then(|parent| self.blobs.get(&parent));
            let sound =
                found.is_some_and(PlainBlob::is_read_only) && blob.is_thin() && !blob.is_external_clone();
            let mixed = found.is_some_and(|parent| parent.has_extent_table() != blob.has_extent_table());
            self.expect(sound, || format!("blob {id:#x}: its parent {parent:x?} is no snapshot"));
            self.expect(!mixed, || format!("blob {id:#x}: runs and tables in one family"));
            self.blobs.entry(*id).and_modify(|blob| blob.parent = parent);
        }
        for id in &ids {
            let parent = |id: &u64| self.blobs.get(id).and_then(|blob| blob.parent);
            let depth = std::iter::successors(Some(*id), parent).take(ids.len() + 1).count();
            self.expect(depth <= ids.len(), || format!("blob {id:#x}: is its own ancestor"));
            if depth > ids.len() {
                self.blobs.entry(*id).and_modify(|blob| blob.parent = None);
            }
        }
    }

    /// Section 6.4: the store has a name and a UUID, and so has every lvol; names are unique.
    fn names(&mut self) {
        let mut names = BTreeSet::new();
        let mut problems = Vec::new();
        for blob in self.blobs.values() {
            let uuid = blob.xattrs.get(b"uuid".as_slice()).map_or(0, Vec::len);
            let name = blob.xattrs.get(b"name".as_slice()).map_or(&[][..], Vec::as_slice);
            if uuid != 37 || name.len() > 64 || !name.contains(&0) || blob.name().is_empty() {
                problems.push(format!("blob {:#x}: no name or no uuid", blob.id));
            }
            if blob.id != self.super_blob && !names.insert(blob.name()) {
                problems.push(format!("two lvols are named {}", blob.name()));
            }
        }
        let has_super_blob = self.blobs.get(&self.super_blob).is_some_and(|blob| blob.clusters.is_empty());
        self.expect(has_super_blob, || "no super blob".into());
        self.problems.append(&mut problems);
    }
}

/// What has an owner already.
#[derive(Default)]
struct Claims {
    clusters: BTreeSet<u32>,
    md: BTreeSet<u32>,
}

fn le16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Section 2.1, bit by bit: the slow arithmetic is the point, it can be compared with the definition.
pub fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 }
    };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !bytes.iter().fold(u32::MAX, byte)
}

/// Section 9.1.
fn is_root(at: u32, page: &[u8]) -> bool {
    le64(page, 0) == 0x1_0000_0000 | u64::from(at) && le32(page, 8) == 0 && checksum_holds(page)
}

/// The length in the header of a mask.
fn mask_bits(read_at: ReadAt<'_>, at: u64) -> u32 {
    let mut header = vec![0; PAGE];
    read_at(at, &mut header);
    le32(&header, 1)
}

fn checksum_holds(page: &[u8]) -> bool {
    checksum(&page[..PAGE - 4]) == le32(page, PAGE - 4)
}
