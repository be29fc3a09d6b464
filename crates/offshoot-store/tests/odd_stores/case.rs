//! What is asked of every odd store: it is looked at, opened and closed, changed, and looked at again, by the engine and
//! by the independent reader.

use crate::lvols::{Lvols as _, SESSION, pattern, writable};
use crate::plain_checker::PlainStore;
use crate::plain_maker::{Made, Plan, id_of};
use offshoot_device::MemDevice;
use offshoot_format::BlobId;
use offshoot_store::{LoadError, OpenOptions, Store};
use std::collections::BTreeMap;
use std::ops::Range;

const PAGE: usize = 4096;

/// What every lvol reads.
type Contents = BTreeMap<BlobId, Vec<u8>>;

/// A store, and what may be said about it.
pub(crate) struct Case {
    name: &'static str,
    pub(crate) made: Made,
    /// Lvols that the engine refuses to read, and with which words.
    damaged: Vec<(usize, &'static str)>,
    /// What else the engine says about it.
    finds: Vec<&'static str>,
    /// What the independent reader says about it, before and after.
    odd: Vec<&'static str>,
    /// The lvol of the plan that is renamed, so that its chain is written anew.
    renamed: Option<usize>,
    /// Its flags afterwards, if they differ.
    flags: Option<[u64; 3]>,
    /// The lvol of the plan that is written to.
    written: usize,
    /// What lies below external clones: its id, and a byte that fills it.
    below: Option<(String, u8)>,
    /// Bytes of the super block that a session changes.
    super_block: Vec<Range<usize>>,
}

impl Case {
    /// A store in which lvol 1 of the plan is written to.
    pub(crate) fn new(name: &'static str, plan: Plan) -> Self {
        Self {
            name,
            made: plan.make(),
            damaged: Vec::new(),
            finds: Vec::new(),
            odd: Vec::new(),
            renamed: None,
            flags: None,
            written: 1,
            below: None,
            super_block: Vec::new(),
        }
    }

    pub(crate) fn damaged(mut self, lvol: usize, why: &'static str) -> Self {
        self.damaged.push((lvol, why));
        self
    }

    pub(crate) fn finds(self, finds: &[&'static str]) -> Self {
        Self { finds: finds.to_vec(), ..self }
    }

    pub(crate) fn odd(self, odd: &[&'static str]) -> Self {
        Self { odd: odd.to_vec(), ..self }
    }

    pub(crate) fn renaming(self, lvol: usize) -> Self {
        Self { renamed: Some(lvol), ..self }
    }

    /// The flags that the renamed lvol has then.
    pub(crate) fn flags(self, flags: [u64; 3]) -> Self {
        Self { flags: Some(flags), ..self }
    }

    pub(crate) fn writing(self, lvol: usize) -> Self {
        Self { written: lvol, ..self }
    }

    /// With a device outside that is full of this byte.
    pub(crate) fn over(self, id: &str, byte: u8) -> Self {
        Self { below: Some((id.into(), byte)), ..self }
    }

    /// A session changes these bytes of the super block.
    pub(crate) fn changing(mut self, bytes: Range<usize>) -> Self {
        self.super_block.push(bytes);
        self
    }

    pub(crate) fn device(&self) -> MemDevice {
        MemDevice::with_content(&self.made.bytes, 512)
    }

    pub(crate) fn open(&self) -> Store<MemDevice> {
        self.opened(self.device(), &writable())
    }

    pub(crate) fn reopened(&self, bytes: &[u8], options: &OpenOptions) -> Store<MemDevice> {
        self.opened(MemDevice::with_content(bytes, 512), options)
    }

    fn opened(&self, device: MemDevice, options: &OpenOptions) -> Store<MemDevice> {
        let below = self
            .below
            .iter()
            .map(|(id, byte)| (id.clone(), MemDevice::with_content(&vec![*byte; 1 << 20], 512)));
        Store::open(device, below.collect(), options).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// All of it, and again as if SPDK had not closed the store.
    pub(crate) fn run(mut self) {
        let contents = self.contents();
        self.look(self.device(), &contents);
        let mut store = self.open();
        store.flush().unwrap();
        assert!(self.close(store) == self.made.bytes, "{}: opening and closing changed something", self.name);
        self.run_session(contents);

        const CLEAN: Range<usize> = 0x10..0x14;
        self.made.edit_super_block(|bytes| bytes[CLEAN].fill(0));
        self.super_block.push(CLEAN);
        let contents = self.contents();
        self.look(self.device(), &contents);
        self.run_session(contents);
    }

    /// What is said about it before a session is settled by it.
    pub(crate) fn run_repaired(mut self) {
        let contents = self.contents();
        self.look(self.device(), &contents);
        self.finds.clear();
        self.run_session(contents);
    }

    fn run_session(&self, mut contents: Contents) {
        let bytes = self.change(&mut contents);
        let store = self.look(MemDevice::with_content(&bytes, 512), &contents);
        self.check_plain(&bytes, &contents, &store);
    }

    /// The store is refused, and stays as it is.
    pub(crate) fn refused(self) -> LoadError {
        for options in [OpenOptions::read_only(Some(SESSION)), writable()] {
            let device = crate::lvols::Shared::new(self.device());
            let refused = Store::open(device.clone(), Vec::new(), &options);
            assert!(refused.is_err(), "{}: opened", self.name);
            assert!(device.borrow().content() == self.made.bytes, "{}: it was written to", self.name);
        }
        let refused = Store::open(self.device(), Vec::new(), &writable());
        refused.expect_err(self.name)
    }

    fn contents(&self) -> Contents {
        let is_lvol = |blob: &usize| id_of(*blob) != self.made.plan.super_blob && !self.is_damaged(*blob);
        let lvols = (0..self.made.plan.blobs.len()).filter(is_lvol);
        lvols.map(|blob| (BlobId(id_of(blob)), self.content(blob))).collect()
    }

    fn content(&self, blob: usize) -> Vec<u8> {
        let mut content = self.made.content(blob);
        if let Some((_, byte)) = &self.below
            && self.made.plan.blobs[blob].is_external_clone()
        {
            let parts = content.chunks_mut(self.made.cluster_bytes()).zip(&self.made.clusters[blob]);
            parts.filter(|(_, cluster)| **cluster == 0).for_each(|(part, _)| part.fill(*byte));
        }
        content
    }

    fn is_damaged(&self, blob: usize) -> bool {
        self.damaged.iter().any(|(damaged, _)| *damaged == blob)
    }

    /// The engine reads what it should, and says what it should.
    fn look(&self, device: MemDevice, contents: &Contents) -> Store<MemDevice> {
        let name = self.name;
        let mut store = self.opened(device, &OpenOptions::read_only(Some(SESSION)));
        let findings: Vec<String> = store.findings().iter().map(|finding| finding.what.to_string()).collect();
        let expected: Vec<&str> =
            self.damaged.iter().map(|(_, why)| *why).chain(self.finds.clone()).collect();
        let is_expected = |finding: &String| expected.iter().any(|text| finding.contains(text));
        let is_found = |text: &&str| findings.iter().any(|finding| finding.contains(text));
        assert!(findings.iter().all(is_expected) && expected.iter().all(is_found), "{name}: {findings:?}");

        for (lvol, expected) in contents {
            let read = store.read(*lvol, 0, expected.len()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(read.as_slice() == expected, "{name}: lvol {lvol} reads something else");
        }
        for (blob, _) in &self.damaged {
            let lvol = BlobId(id_of(*blob));
            let blob = store.state().blob(lvol).unwrap_or_else(|| panic!("{name}: {lvol} is not listed"));
            assert!(blob.damage.is_some(), "{name}: {lvol}");
            let len = usize::try_from(store.state().bytes(blob)).unwrap();
            assert!(len == 0 || store.read(lvol, 0, len).is_err(), "{name}: {lvol} is read");
        }
        let lvols = store.state().lvols().count();
        assert_eq!(lvols, contents.len() + self.damaged.len(), "{name}: lvols");
        store
    }

    /// A session: writes over what is there and where nothing is, a new lvol, a new name. Hands back the device.
    fn change(&self, contents: &mut Contents) -> Vec<u8> {
        let mut store = self.open();
        let lvol = BlobId(id_of(self.written));
        let content = contents.get_mut(&lvol).unwrap();
        let last = content.len() - PAGE;
        for (at, seed) in [(0, 7), (last, 8)] {
            let data = pattern(PAGE as u64, seed);
            content[at..at + PAGE].copy_from_slice(data.as_slice());
            store.write(lvol, at as u64, data).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
        let size = u64::from(self.made.plan.cluster_size);
        let made = store.create("made", 2 * size, false).unwrap();
        let mut content = vec![0; self.made.cluster_bytes() * 2];
        content[..PAGE].copy_from_slice(pattern(PAGE as u64, 9).as_slice());
        store.write(made, 0, pattern(PAGE as u64, 9)).unwrap();
        contents.insert(made, content);
        if let Some(renamed) = self.renamed {
            let (lvol, name) = (BlobId(id_of(renamed)), "renamed".into());
            store.run(offshoot_store::Verb::Rename { lvol, name }).unwrap();
        }
        self.close(store)
    }

    fn close(&self, store: Store<MemDevice>) -> Vec<u8> {
        let (device, closed) = store.close();
        closed.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        device.content()
    }

    /// The independent reader finds the contents, and the oddness that was there before and no more.
    fn check_plain(&self, bytes: &[u8], contents: &Contents, store: &Store<MemDevice>) {
        let name = self.name;
        let read_at = |at: u64, target: &mut [u8]| {
            let at = usize::try_from(at).unwrap();
            target.copy_from_slice(&bytes[at..at + target.len()]);
        };
        let plain = PlainStore::read(&read_at);
        let is_odd = |problem: &String| self.odd.iter().any(|text| problem.contains(text));
        let problems: Vec<&String> = plain.problems.iter().filter(|problem| !is_odd(problem)).collect();
        assert!(problems.is_empty(), "{name}: {problems:?}");
        assert_eq!(plain.version, self.made.plan.version, "{name}");
        assert_eq!(plain.free_clusters, store.engine().free_clusters(), "{name}: free clusters");
        let is_whole = |lvol: &BlobId| plain.blobs.get(&lvol.0).is_some_and(|blob| !blob.is_external_clone());
        for (lvol, expected) in contents.iter().filter(|(lvol, _)| is_whole(lvol)) {
            assert!(plain.content(&read_at, &plain.blobs[&lvol.0]) == *expected, "{name}: lvol {lvol}");
        }
        self.check_untouched(bytes);
        if let Some(renamed) = self.renamed {
            self.check_renamed(bytes, &plain, renamed);
        }
    }

    /// Blobs that nothing was done to, and the super block, are as they were.
    fn check_untouched(&self, bytes: &[u8]) {
        let name = self.name;
        let blobs = (0..self.made.md_pages.len())
            .filter(|blob| ![Some(self.written), self.renamed].contains(&Some(*blob)));
        for page in blobs.flat_map(|blob| self.made.md_pages[blob].iter()) {
            let at = self.made.md_offset(*page);
            let range = at..at + PAGE;
            assert!(bytes[range.clone()] == self.made.bytes[range], "{name}: md page {page}");
        }
        let is_free = |at: &usize| {
            self.super_block.iter().any(|range| range.contains(at)) || (0xffc..PAGE).contains(at)
        };
        let differs = |at: &usize| bytes[*at] != self.made.bytes[*at];
        let changed: Vec<usize> = (0..PAGE).filter(|at| differs(at) && !is_free(at)).collect();
        assert!(changed.is_empty(), "{name}: bytes {changed:#x?} of the super block");
    }

    /// All of its oddness is there again.
    fn check_renamed(&self, bytes: &[u8], plain: &PlainStore, renamed: usize) {
        let name = self.name;
        let before = &self.made.plan.blobs[renamed];
        let Some(after) = plain.blobs.get(&id_of(renamed)) else { return };
        assert_eq!(after.name(), "renamed", "{name}");
        assert_eq!(after.flags, self.flags.unwrap_or(before.flags), "{name}: flags");
        assert_eq!(after.clusters, self.made.clusters[renamed], "{name}: clusters");
        let others = |xattrs: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>| -> BTreeMap<Vec<u8>, Vec<u8>> {
            xattrs.filter(|(key, _)| key != b"name").collect()
        };
        let kept = others(&mut before.xattrs.iter().cloned());
        assert_eq!(others(&mut after.xattrs.clone().into_iter()), kept, "{name}: xattrs");
        let internal = before.internal_xattrs.iter().cloned().collect();
        assert_eq!(after.internal_xattrs, internal, "{name}: internal xattrs");
        let at = self.made.md_offset(self.made.md_pages[renamed][0]);
        let root = &bytes[at..at + PAGE];
        for (kind, payload) in &before.unknown {
            let mut descriptor = vec![*kind];
            descriptor.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
            descriptor.extend(payload);
            let is_there = root.windows(descriptor.len()).any(|window| window == descriptor);
            assert!(is_there, "{name}: descriptor {kind}");
        }
    }
}
