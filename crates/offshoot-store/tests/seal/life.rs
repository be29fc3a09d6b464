//! Sealing while lvols are in use: random writes, snapshots, clones, removals and resizes go on beside it, operations
//! complete in any order, and everything reads what a plain model says. Left alone, the job comes to its end.

use super::lvols::{Lvols as _, Shared, assert_owned_once, named, options, pattern, writable};
use super::shuffled::ShuffledDevice;
use super::{Contents, assert_plain, contents};
use offshoot_block::Buffer;
use offshoot_device::MemDevice;
use offshoot_store::{CreateOptions, Error, InitOptions, IoRequest, Reply, Store, Ticket, Verb, Work};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// What is done at once: lvols and places are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Create {
        clusters: u64,
    },
    Snapshot {
        lvol: usize,
    },
    Clone {
        lvol: usize,
    },
    Remove {
        lvol: usize,
    },
    Resize {
        lvol: usize,
        clusters: u64,
    },
    Write {
        lvol: usize,
        block: u64,
        sectors: u64,
        seed: u8,
    },
    Zero {
        lvol: usize,
        block: u64,
        blocks: u64,
    },
    Unmap {
        lvol: usize,
        cluster: u64,
    },
    /// Sealing begins, unless it is going on.
    Seal,
    Cancel,
    /// The device completes some operations.
    Run {
        steps: usize,
    },
    /// Everything that clients wait for is done.
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    let lvol = 0_usize..8;
    prop_oneof![
        1 => (1_u64..7).prop_map(|clusters| Op::Create { clusters }),
        3 => lvol.clone().prop_map(|lvol| Op::Snapshot { lvol }),
        3 => lvol.clone().prop_map(|lvol| Op::Clone { lvol }),
        3 => lvol.clone().prop_map(|lvol| Op::Remove { lvol }),
        3 => (lvol.clone(), 1_u64..7).prop_map(|(lvol, clusters)| Op::Resize { lvol, clusters }),
        14 => (lvol.clone(), 0_u64..28, 1_u64..48, any::<u8>())
            .prop_map(|(lvol, block, sectors, seed)| Op::Write { lvol, block, sectors, seed }),
        4 => (lvol.clone(), 0_u64..28, 1_u64..9).prop_map(|(lvol, block, blocks)| Op::Zero { lvol, block, blocks }),
        2 => (lvol, 0_u64..7).prop_map(|(lvol, cluster)| Op::Unmap { lvol, cluster }),
        3 => Just(Op::Seal),
        1 => Just(Op::Cancel),
        8 => (1_usize..12).prop_map(|steps| Op::Run { steps }),
        3 => Just(Op::Drain),
    ]
}

/// A store, what its lvols read, and what it has not answered.
struct World {
    store: Store<ShuffledDevice>,
    cluster: u64,
    model: Contents,
    count: u32,
    waiting: BTreeMap<Ticket, &'static str>,
    job: Option<Ticket>,
    /// Steps since the last answer.
    idle: u32,
    /// What is being written: overlapping writes would leave it open which one is the last.
    written: Vec<(String, Range<usize>)>,
    /// What the last read brought.
    read: Buffer,
}

impl World {
    fn new(cluster: u32, native: bool, seed: u64) -> Self {
        let init = InitOptions { journal_bytes: Some(1 << 20), ..options(cluster, 512, native) };
        let device = ShuffledDevice::new(MemDevice::new(24 << 20, 512), seed);
        let store = Store::init(device, &init, &writable()).unwrap();
        let (model, waiting) = (Contents::new(), BTreeMap::new());
        Self {
            store,
            cluster: cluster.into(),
            model,
            count: 0,
            waiting,
            job: None,
            idle: 0,
            written: Vec::new(),
            read: Buffer::default(),
        }
    }

    fn step(&mut self) {
        let mut replies = Vec::new();
        self.store.poll(&mut replies);
        self.idle = if replies.is_empty() { self.idle + 1 } else { 0 };
        assert!(self.idle < 100_000, "no answer to {:?}, {:?}", self.waiting, self.job);
        for (ticket, result) in replies {
            if self.job == Some(ticket) {
                self.job = None;
                match result {
                    Ok(Reply::Done) | Err(Error::Cancelled) => {}
                    other => panic!("sealing: {other:?}"),
                }
                continue;
            }
            let what = self.waiting.remove(&ticket).unwrap();
            match result {
                Ok(Reply::Buffer(buffer)) if what == "read" => self.read = buffer,
                result => assert!(result.is_ok(), "{what}: {result:?}"),
            }
        }
    }

    fn drain(&mut self) {
        while !self.waiting.is_empty() {
            self.step();
        }
        self.written.clear();
    }

    fn writes(&mut self, name: &str, range: &Range<usize>) {
        let meets = |(other, at): &(String, Range<usize>)| {
            other == name && at.start < range.end && range.start < at.end
        };
        if self.written.iter().any(meets) {
            self.drain();
        }
        self.written.push((name.into(), range.clone()));
    }

    fn pick(&self, lvol: usize, is: impl Fn(&offshoot_store::Blob) -> bool) -> Option<String> {
        let names =
            self.model.keys().filter(|name| is(self.store.state().blob(self.store.id(name)).unwrap()));
        let names: Vec<&String> = names.collect();
        (!names.is_empty()).then(|| names[lvol % names.len()].clone())
    }

    fn writable(&self, lvol: usize) -> Option<String> {
        self.pick(lvol, |blob| !blob.is_read_only() && blob.clones.is_empty())
    }

    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count)
    }

    /// A verb runs to its end: which lvols there are is known at every moment. What a job does goes on meanwhile.
    fn verb(&mut self, verb: Verb) {
        self.drain();
        let ticket = self.store.start(verb);
        self.waiting.insert(ticket, "verb");
        self.drain();
    }

    fn submit(&mut self, what: &'static str, request: IoRequest) {
        let ticket = self.store.submit(request);
        self.waiting.insert(ticket, what);
    }

    fn range(&self, name: &str, start: u64, len: u64) -> Range<usize> {
        let size = self.model[name].len() as u64;
        let start = start.min(size);
        usize::try_from(start).unwrap()..usize::try_from((start + len).min(size)).unwrap()
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Create { clusters } => {
                let (name, size_bytes) = (self.fresh(), clusters * self.cluster);
                self.verb(Verb::Create {
                    identity: named(&name),
                    size_bytes,
                    options: CreateOptions::provisioned(clusters == 3),
                });
                self.model.insert(name, vec![0; usize::try_from(size_bytes).unwrap()]);
            }
            Op::Snapshot { lvol } => {
                let Some(origin) = self.writable(lvol).filter(|_| self.model.len() < 12) else { return };
                let name = self.fresh();
                let items = vec![(self.store.id(&origin), named(&name))];
                self.verb(Verb::Snapshot { items });
                self.model.insert(name, self.model[&origin].clone());
            }
            Op::Clone { lvol } => {
                let parent = self.pick(lvol, offshoot_store::Blob::is_read_only);
                let Some(parent) = parent.filter(|_| self.model.len() < 12) else { return };
                let name = self.fresh();
                self.verb(Verb::Clone { parent: self.store.id(&parent), identity: named(&name) });
                self.model.insert(name, self.model[&parent].clone());
            }
            Op::Remove { lvol } => {
                let Some(name) = self.pick(lvol, |blob| blob.clones.len() < 2) else { return };
                self.verb(Verb::Remove { lvol: self.store.id(&name) });
                self.model.remove(&name);
            }
            Op::Resize { lvol, clusters } => {
                let Some(name) = self.writable(lvol) else { return };
                let size_bytes = clusters * self.cluster;
                self.verb(Verb::Resize { lvol: self.store.id(&name), size_bytes });
                self.model.get_mut(&name).unwrap().resize(usize::try_from(size_bytes).unwrap(), 0);
            }
            Op::Write { lvol, block, sectors, seed } => {
                let Some(name) = self.writable(lvol) else { return };
                let range =
                    self.range(&name, block * self.cluster / 4 + u64::from(seed % 3) * 512, sectors * 512);
                let data = pattern(range.len() as u64, seed);
                self.writes(&name, &range);
                self.model.get_mut(&name).unwrap()[range.clone()].copy_from_slice(data.as_slice());
                let (lvol, offset) = (self.store.id(&name), range.start as u64);
                self.submit("write", IoRequest::Write { lvol, offset, data, fua: seed % 8 == 0 });
            }
            Op::Zero { lvol, block, blocks } => {
                let Some(name) = self.writable(lvol) else { return };
                let range = self.range(&name, block * self.cluster / 4, blocks * self.cluster / 4);
                self.writes(&name, &range);
                self.model.get_mut(&name).unwrap()[range.clone()].fill(0);
                let (lvol, range) = (self.store.id(&name), range.start as u64..range.end as u64);
                self.submit("zero", IoRequest::WriteZeroes { lvol, range, allocate: false, fua: false });
            }
            Op::Unmap { lvol, cluster } => {
                let Some(name) = self.writable(lvol) else { return };
                let range = self.range(&name, cluster * self.cluster, self.cluster);
                self.writes(&name, &range);
                let lvol = self.store.id(&name);
                let (start, end) = (range.start as u64, range.end as u64);
                self.submit("unmap", IoRequest::Unmap { lvol, range: start..end, fua: false });
                self.drain();
                // Zeros, or what was there: the model learns which.
                let now = self.content(&name);
                let model = &mut self.model.get_mut(&name).unwrap()[range.clone()];
                for (now, old) in now[range].iter().zip(model.iter_mut()) {
                    assert!(*now == 0 || *now == *old);
                    *old = *now;
                }
            }
            Op::Seal => {
                if self.job.is_none() {
                    self.job = Some(self.store.start_job(Work::Seal, None));
                }
            }
            Op::Cancel => {
                if let Some(job) = self.job {
                    self.store.cancel(job);
                }
            }
            Op::Run { steps } => (0..steps).for_each(|_| self.step()),
            Op::Drain => {
                self.drain();
                self.compare();
            }
        }
    }

    /// Reads like a client: the job is not waited for.
    fn content(&mut self, name: &str) -> Vec<u8> {
        let (lvol, len) = (self.store.id(name), self.model[name].len());
        let buffer = Buffer::zeroed(len);
        let ticket = self.store.submit(IoRequest::Read { lvol, offset: 0, buffer });
        self.waiting.insert(ticket, "read");
        while self.waiting.contains_key(&ticket) {
            self.step();
        }
        self.read.as_slice().to_vec()
    }

    fn compare(&mut self) {
        for name in self.model.keys().cloned().collect::<Vec<_>>() {
            assert!(self.content(&name) == self.model[&name], "{name} reads something else");
        }
        assert_eq!(self.store.state().audit(), &[]);
        assert_owned_once(&self.store);
    }
}

fn run(cluster: u32, native: bool, seed: u64, ops: &[Op]) {
    let mut world = World::new(cluster, native, seed);
    world.run(&Op::Create { clusters: 6 });
    for op in ops {
        world.run(op);
    }
    world.run(&Op::Drain);
    // What a crash leaves right now is the same.
    let left = world.store.device().inner.clone();
    let mut crashed = Store::open(ShuffledDevice::new(left, seed), Vec::new(), &writable()).unwrap();
    assert_eq!((crashed.findings(), crashed.state().audit()), (&[][..], Vec::new()));
    assert!(contents(&mut crashed) == world.model, "a crash shows something else");

    world.run(&Op::Seal);
    while world.job.is_some() {
        world.step();
    }
    world.run(&Op::Seal);
    while world.job.is_some() {
        world.step();
    }
    world.compare();
    let (device, closed) = world.store.close();
    closed.unwrap();
    assert_plain(&device.inner, &world.model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn seals_beside_everything_else(ops in proptest::collection::vec(op(), 1..60), seed in any::<u64>()) {
        run(16_384, true, seed, &ops);
    }

    #[test]
    fn seals_a_store_that_takes_no_native_states(ops in proptest::collection::vec(op(), 1..40), seed in any::<u64>()) {
        run(16_384, false, seed, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Clusters that are filled in several steps.
    #[test]
    fn seals_large_clusters_beside_everything_else(
        ops in proptest::collection::vec(op(), 1..30),
        seed in any::<u64>(),
    ) {
        run_large(seed, &ops);
    }
}

fn run_large(seed: u64, ops: &[Op]) {
    run(512 << 10, true, seed, ops);
}

/// A snapshot hides the end of its own parent, as its clone does, which holds that cluster itself and gives it up at one
/// moment or another of sealing. Whoever comes first, nothing of ours is left and a replay agrees.
#[test]
fn a_trim_of_a_clone_at_every_step() {
    const CLUSTER: u64 = 16_384;
    const CHECKPOINT_WRITES: u64 = 300;
    let prepared = |seed| {
        let device = Shared::new(ShuffledDevice::new(MemDevice::new(24 << 20, 512), seed));
        let init = InitOptions { journal_bytes: Some(256 << 10), ..options(16_384, 512, true) };
        let mut store = Store::init(device.clone(), &init, &writable()).unwrap();
        let disk = store.create("disk", 2 * CLUSTER, false).unwrap();
        store.write(disk, CLUSTER, pattern(CLUSTER, 1)).unwrap();
        for snapshot in ["base", "snap"] {
            store.snapshot("disk", snapshot).unwrap();
            store.resize("disk", CLUSTER).unwrap();
            store.resize("disk", 2 * CLUSTER).unwrap();
        }
        store.write(disk, CLUSTER, pattern(CLUSTER, 2)).unwrap();
        // Until a checkpoint has written what metadata says of all that.
        let busy = store.create("busy", CLUSTER, false).unwrap();
        for _ in 0..CHECKPOINT_WRITES {
            store.write(busy, 0, pattern(512, 3)).unwrap();
            store.unmap(busy, 0..CLUSTER).unwrap();
        }
        store.flush().unwrap();
        (device, store, disk)
    };
    for seed in 1..4 {
        for completions in 0..1000 {
            let what = format!("seed {seed}, after {completions} completions");
            let (device, mut store, disk) = prepared(seed);
            let job = store.start_job(Work::Seal, None);
            let mut replies = Vec::new();
            device.borrow().grant = completions;
            (0..20).for_each(|_| store.poll(&mut replies));
            let is_late = replies.iter().any(|(ticket, _)| *ticket == job);
            let range = CLUSTER..2 * CLUSTER;
            store.submit(IoRequest::WriteZeroes { lvol: disk, range, allocate: false, fua: false });
            store.poll(&mut replies);
            device.borrow().grant = u64::MAX;
            while replies.len() < 2 {
                store.wait(&mut replies);
            }
            assert!(replies.iter().all(|(_, result)| result.is_ok()), "{what}: {replies:?}");
            store.flush().unwrap();
            let mut expected = contents(&mut store);
            assert_eq!(expected["disk"], vec![0; 2 * 16_384]);
            let left = Shared::new(ShuffledDevice::new(device.borrow().inner.clone(), seed));
            let mut replayed = Store::open(left, Vec::new(), &writable()).unwrap();
            assert_eq!((replayed.findings(), replayed.state().audit()), (&[][..], Vec::new()), "{what}");
            assert!(contents(&mut replayed) == expected, "{what}");
            for store in [&mut store, &mut replayed] {
                store.remove("snap").unwrap();
                store.flush().unwrap();
            }
            let own =
                |store: &Store<Shared<ShuffledDevice>>| ["disk", "base"].map(|name| store.own_clusters(name));
            assert_eq!(own(&replayed), own(&store), "{what}: a replay gives the clone something else");
            assert_eq!(store.state().audit(), &[], "{what}");
            expected.remove("snap");
            store.close().1.unwrap();
            assert_plain(&device.borrow().inner, &expected);
            if is_late {
                assert!(completions > 3, "{what}");
                break;
            }
        }
    }
}
