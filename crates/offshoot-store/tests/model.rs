//! Random sequences of verbs and I/O equal a plain model after every step, with reopening in between.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "model/moves.rs"]
mod moves;

use common::{
    Model, cases, compare, id_of, identity, new_store, new_store_of, new_store_on, pattern, reopen,
};
use moves::{Meanwhile, Move, attached, moving};
use offshoot_block::Buffer;
use offshoot_device::MemDevice;
use offshoot_format::{BlobCluster, BlobId, BlockState};
use offshoot_store::{CreateOptions, Error, IoRequest, Reply, Store, Underlay, Verb};
use proptest::prelude::*;

const CLUSTER: u64 = 16_384;

/// Clusters of one block, so many of them that lvols have several extent pages.
const SMALL_CLUSTER: u64 = 4096;

#[derive(Clone, Debug)]
enum Op {
    Create {
        clusters: u64,
        thick: bool,
        reserve: bool,
    },
    Snapshot {
        lvol: usize,
    },
    GroupSnapshot {
        lvols: Vec<usize>,
    },
    Clone {
        lvol: usize,
    },
    Remove {
        lvol: usize,
        deferred: bool,
    },
    Resize {
        lvol: usize,
        clusters: u64,
    },
    Rename {
        lvol: usize,
    },
    SetReadOnly {
        lvol: usize,
    },
    /// `None` forgets the parent.
    SetParent {
        lvol: usize,
        parent: Option<usize>,
    },
    Revert {
        lvol: usize,
        snapshot: usize,
    },
    Write {
        lvol: usize,
        at: u64,
        len: u64,
        seed: u8,
        fua: bool,
    },
    /// Neighbouring ranges at once, some within one block.
    Burst {
        lvol: usize,
        at: u64,
        pieces: Vec<u64>,
        seed: u8,
    },
    Zero {
        lvol: usize,
        at: u64,
        len: u64,
        allocate: bool,
    },
    Unmap {
        lvol: usize,
        at: u64,
        len: u64,
    },
    Read {
        lvol: usize,
        at: u64,
        len: u64,
    },
    /// Two writes that overlap and a read of both ranges, at once.
    Overlap {
        lvol: usize,
        at: u64,
        len: u64,
        shift: u64,
        seed: u8,
    },
    /// A write, a snapshot and a write under way at the same time.
    Race {
        lvol: usize,
        at: u64,
        len: u64,
        seed: u8,
    },
    /// Data moves, while other things happen.
    Move {
        lvol: usize,
        moving: (Move, Meanwhile, u32),
    },
    CloneExternal {
        clusters: u64,
        copy_on_read: bool,
    },
    OntoExternal {
        lvol: usize,
    },
    Flush,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let lvol = 0_usize..8;
    let at = prop_oneof![
        0_u64..8 * CLUSTER,
        (0_u64..32).prop_map(|block| block * 4096),
        (0_u64..8).prop_map(|c| c * CLUSTER)
    ];
    let len = prop_oneof![
        1_u64..3 * CLUSTER,
        Just(512),
        Just(4096),
        Just(CLUSTER),
        (1_u64..12).prop_map(|b| b * 4096)
    ];
    prop_oneof![
        2 => (0_u64..9, any::<bool>(), any::<bool>())
            .prop_map(|(clusters, thick, reserve)| Op::Create { clusters, thick, reserve }),
        3 => lvol.clone().prop_map(|lvol| Op::Snapshot { lvol }),
        1 => proptest::collection::vec(lvol.clone(), 1..4).prop_map(|lvols| Op::GroupSnapshot { lvols }),
        3 => lvol.clone().prop_map(|lvol| Op::Clone { lvol }),
        3 => (lvol.clone(), any::<bool>()).prop_map(|(lvol, deferred)| Op::Remove { lvol, deferred }),
        2 => (lvol.clone(), 0_u64..9).prop_map(|(lvol, clusters)| Op::Resize { lvol, clusters }),
        1 => lvol.clone().prop_map(|lvol| Op::Rename { lvol }),
        1 => lvol.clone().prop_map(|lvol| Op::SetReadOnly { lvol }),
        2 => (lvol.clone(), proptest::option::of(lvol.clone()))
            .prop_map(|(lvol, parent)| Op::SetParent { lvol, parent }),
        2 => (lvol.clone(), lvol.clone()).prop_map(|(lvol, snapshot)| Op::Revert { lvol, snapshot }),
        12 => (lvol.clone(), at.clone(), len.clone(), any::<u8>(), any::<bool>())
            .prop_map(|(lvol, at, len, seed, fua)| Op::Write { lvol, at, len, seed, fua }),
        4 => (lvol.clone(), at.clone(), proptest::collection::vec(1_u64..5000, 1..8), any::<u8>())
            .prop_map(|(lvol, at, pieces, seed)| Op::Burst { lvol, at, pieces, seed }),
        4 => (lvol.clone(), at.clone(), len.clone(), any::<bool>())
            .prop_map(|(lvol, at, len, allocate)| Op::Zero { lvol, at, len, allocate }),
        4 => (lvol.clone(), at.clone(), len.clone()).prop_map(|(lvol, at, len)| Op::Unmap { lvol, at, len }),
        4 => (lvol.clone(), at.clone(), len.clone()).prop_map(|(lvol, at, len)| Op::Read { lvol, at, len }),
        3 => (lvol.clone(), at.clone(), len.clone(), 0_u64..5000, any::<u8>())
            .prop_map(|(lvol, at, len, shift, seed)| Op::Overlap { lvol, at, len, shift, seed }),
        4 => (lvol.clone(), moving()).prop_map(|(lvol, moving)| Op::Move { lvol, moving }),
        1 => (0_u64..9, any::<bool>())
            .prop_map(|(clusters, copy_on_read)| Op::CloneExternal { clusters, copy_on_read }),
        1 => lvol.clone().prop_map(|lvol| Op::OntoExternal { lvol }),
        2 => (lvol, at, len, any::<u8>()).prop_map(|(lvol, at, len, seed)| Op::Race { lvol, at, len, seed }),
        1 => Just(Op::Flush),
        2 => Just(Op::Reopen),
    ]
}

/// Of each block of an lvol whether the lvol itself says what it reads.
fn own_blocks<D: offshoot_block::BlockDevice>(store: &Store<D>, id: BlobId) -> Vec<bool> {
    let state = store.state();
    let blob = state.blob(id).unwrap();
    let block_is_own = |number: u64| {
        let (cluster, block) =
            (number / u64::from(state.units.blocks), number % u64::from(state.units.blocks));
        let entry = blob.tree.entry(BlobCluster(cluster));
        let block = u32::try_from(block).unwrap();
        let speaks = entry
            .layers()
            .find(|(_, _, states)| states.is_none_or(|states| states.of(block) != BlockState::Inherit));
        speaks.is_some_and(|(tag, ..)| state.owner(tag) == Some(id))
    };
    (0..blob.len * u64::from(state.units.blocks)).map(block_is_own).collect()
}

struct World {
    store: Option<Store<common::ShuffledDevice>>,
    model: Model,
    count: u128,
    cluster: u64,
    /// What sizes and offsets are multiplied by.
    scale: u64,
}

impl World {
    fn store(&mut self) -> &mut Store<common::ShuffledDevice> {
        self.store.as_mut().unwrap()
    }

    fn pick(&self, lvol: usize) -> Option<String> {
        if self.model.is_empty() { None } else { self.model.keys().nth(lvol % self.model.len()).cloned() }
    }

    fn fresh(&mut self) -> (String, offshoot_store::Identity) {
        self.count += 1;
        let name = format!("v{:03}", self.count);
        (name.clone(), identity(&name, self.count))
    }

    fn execute(&mut self, verb: Verb) -> Result<(), Error> {
        self.store().execute(verb).map(drop)
    }

    /// The part of a range that lies in an lvol.
    fn clip(&self, name: &str, at: u64, len: u64) -> (usize, usize) {
        let size = self.model[name].len() as u64;
        let at = (at * (self.cluster * self.scale / CLUSTER)).min(size);
        (usize::try_from(at).unwrap(), usize::try_from(len.min(size - at)).unwrap())
    }

    fn read_only(&mut self, name: &str) -> bool {
        let id = id_of(self.store(), name);
        self.store().state().blob(id).unwrap().is_read_only()
    }

    fn run(&mut self, op: Op) {
        let unit = self.cluster * self.scale;
        let bytes = |clusters: u64| clusters * unit;
        match op {
            Op::Create { clusters, thick, reserve } => self.create(clusters, thick, reserve),
            Op::Snapshot { lvol } => self.snapshot(&[lvol]),
            Op::GroupSnapshot { lvols } => self.snapshot(&lvols),
            Op::Clone { lvol } => {
                let Some(parent) = self.pick(lvol) else { return };
                let writable = !self.read_only(&parent);
                let (name, identity) = self.fresh();
                let id = id_of(self.store(), &parent);
                let made = self.execute(Verb::Clone { parent: id, identity });
                if writable {
                    assert_eq!(made, Err(Error::CloneOfWritable(parent)));
                } else {
                    made.unwrap();
                    let bytes = self.model[&parent].clone();
                    self.model.insert(name, bytes);
                }
            }
            Op::Remove { lvol, deferred } => {
                let Some(name) = self.pick(lvol) else { return };
                let id = id_of(self.store(), &name);
                let clones = self.store().state().blob(id).unwrap().clones.len();
                let removed = self.execute(match deferred {
                    true => Verb::RemoveDeferred { lvol: id },
                    false => Verb::Remove { lvol: id },
                });
                if clones > 1 && !deferred {
                    assert!(matches!(removed, Err(Error::HasClones { .. })));
                } else {
                    removed.unwrap();
                    self.model.remove(&name);
                }
            }
            Op::Resize { lvol, clusters } => {
                let Some(name) = self.pick(lvol) else { return };
                let read_only = self.read_only(&name);
                let id = id_of(self.store(), &name);
                let resized = self.execute(Verb::Resize { lvol: id, size_bytes: bytes(clusters) });
                if read_only {
                    assert_eq!(resized, Err(Error::ReadOnlyLvol(name)));
                } else {
                    resized.unwrap();
                    self.model.get_mut(&name).unwrap().resize(usize::try_from(bytes(clusters)).unwrap(), 0);
                }
            }
            Op::Rename { lvol } => {
                let Some(old) = self.pick(lvol) else { return };
                let (name, _) = self.fresh();
                let id = id_of(self.store(), &old);
                self.execute(Verb::Rename { lvol: id, name: name.clone() }).unwrap();
                let bytes = self.model.remove(&old).unwrap();
                self.model.insert(name, bytes);
            }
            Op::SetReadOnly { lvol } => self.set_read_only(lvol),
            Op::SetParent { lvol, parent } => self.set_parent(lvol, parent),
            Op::Revert { lvol, snapshot } => self.revert(lvol, snapshot),
            Op::Write { lvol, at, len, seed, fua } => {
                let Some(name) = self.pick(lvol) else { return };
                let (at, len) = self.clip(&name, at, len);
                let (id, data) = (id_of(self.store(), &name), pattern(len, seed));
                let read_only = self.read_only(&name);
                let write = IoRequest::Write { lvol: id, offset: at as u64, data: data.clone(), fua };
                let ticket = self.store().submit(write);
                let written = self.store().wait_for(ticket);
                if read_only {
                    assert_eq!(written.unwrap_err(), Error::ReadOnlyLvol(name));
                } else {
                    written.unwrap();
                    self.model.get_mut(&name).unwrap()[at..at + len].copy_from_slice(data.as_slice());
                }
            }
            Op::Burst { lvol, at, pieces, seed } => self.burst(lvol, at, &pieces, seed),
            Op::Zero { lvol, at, len, allocate } => {
                let Some(name) = self.pick(lvol) else { return };
                if self.read_only(&name) {
                    return;
                }
                let (at, len) = self.clip(&name, at, len);
                let id = id_of(self.store(), &name);
                let range = at as u64..(at + len) as u64;
                let ticket =
                    self.store().submit(IoRequest::WriteZeroes { lvol: id, range, allocate, fua: false });
                self.store().wait_for(ticket).unwrap();
                self.model.get_mut(&name).unwrap()[at..at + len].fill(0);
            }
            Op::Unmap { lvol, at, len } => self.unmap(lvol, at, len),
            Op::Read { lvol, at, len } => self.read(lvol, at, len),
            Op::Race { lvol, at, len, seed } => self.race(lvol, at, len, seed),
            Op::Overlap { lvol, at, len, shift, seed } => self.overlap(lvol, at, len, shift, seed),
            Op::Flush => self.store().flush().unwrap(),
            Op::Move { lvol, moving } => self.moves(lvol, moving),
            Op::CloneExternal { clusters, copy_on_read } => {
                self.clone_external(clusters, copy_on_read);
            }
            Op::OntoExternal { lvol } => self.onto_external(lvol),
            Op::Reopen => self.reopen(),
        }
    }

    fn reopen(&mut self) {
        let store = self.store.take().unwrap();
        self.store = Some(attached(reopen(store)));
    }

    fn read(&mut self, lvol: usize, at: u64, len: u64) {
        let Some(name) = self.pick(lvol) else { return };
        let (at, len) = self.clip(&name, at, len);
        let id = id_of(self.store(), &name);
        let read = self.store().read(id, at as u64, len).unwrap();
        assert!(read.as_slice() == &self.model[&name][at..at + len]);
    }

    fn create(&mut self, clusters: u64, thick: bool, reserve: bool) {
        let size_bytes = clusters * self.cluster * self.scale;
        let options = CreateOptions { thick, reserve, clear_method: common::clear_method(clusters) };
        let (name, identity) = self.fresh();
        self.execute(Verb::Create { identity, size_bytes, options }).unwrap();
        self.model.insert(name, vec![0; usize::try_from(size_bytes).unwrap()]);
    }

    fn snapshot(&mut self, lvols: &[usize]) {
        let mut names: Vec<String> = lvols.iter().filter_map(|lvol| self.pick(*lvol)).collect();
        names.sort();
        names.dedup();
        names.retain(|name| !self.read_only(name));
        if names.is_empty() {
            return;
        }
        let mut items = Vec::new();
        for name in &names {
            let (snapshot, identity) = self.fresh();
            items.push((id_of(self.store(), name), identity));
            let bytes = self.model[name].clone();
            self.model.insert(snapshot, bytes);
        }
        self.execute(Verb::Snapshot { items }).unwrap();
    }

    fn set_read_only(&mut self, lvol: usize) {
        let Some(name) = self.pick(lvol) else { return };
        let id = id_of(self.store(), &name);
        self.execute(Verb::SetReadOnly { lvol: id }).unwrap();
        assert!(self.read_only(&name));
    }

    fn set_parent(&mut self, lvol: usize, parent: Option<usize>) {
        let Some(name) = self.pick(lvol) else { return };
        let parent = parent.and_then(|parent| self.pick(parent));
        let id = id_of(self.store(), &name);
        let underlay = match &parent {
            Some(parent) => Underlay::Snapshot(id_of(self.store(), parent)),
            None => Underlay::Nothing,
        };
        self.settle();
        let own = own_blocks(self.store(), id);
        let state = self.store().state();
        let blob = state.blob(id).unwrap().clone();
        let onto = parent.as_ref().map(|parent| state.lvol_by_name(parent.as_bytes()).unwrap().clone());
        let result = self.execute(Verb::SetParent { lvol: id, underlay });
        let refused = match onto {
            _ if !blob.is_thin() || !blob.clones.is_empty() => true,
            None => blob.parent.is_none() && !blob.external_is_parent,
            Some(onto) => {
                onto.id == id || !onto.is_read_only() || blob.parent == Some(onto.id) || onto.len != blob.len
            }
        };
        assert_eq!(result.is_err(), refused, "{result:?}");
        if refused {
            return;
        }
        let below = parent.map(|parent| self.model[&parent].clone());
        let bytes = self.model.get_mut(&name).unwrap();
        for (number, (block, is_own)) in bytes.chunks_mut(4096).zip(own).enumerate() {
            match (&below, is_own) {
                (_, true) => {}
                (Some(below), false) => block.copy_from_slice(&below[number * 4096..][..block.len()]),
                (None, false) => block.fill(0),
            }
        }
    }

    fn revert(&mut self, lvol: usize, snapshot: usize) {
        let (Some(name), Some(snapshot)) = (self.pick(lvol), self.pick(snapshot)) else { return };
        let (lvol, to) = (id_of(self.store(), &name), id_of(self.store(), &snapshot));
        let state = self.store().state();
        let blob = state.blob(lvol).unwrap();
        let possible = !blob.is_read_only()
            && blob.clones.is_empty()
            && state.blob(to).unwrap().is_read_only()
            && state.family(lvol).contains(&to);
        let reverted = self.execute(Verb::Revert { lvol, snapshot: to });
        assert_eq!(reverted.is_ok(), possible, "{reverted:?}");
        if possible {
            let bytes = self.model[&snapshot].clone();
            self.model.insert(name, bytes);
        }
    }

    fn burst(&mut self, lvol: usize, at: u64, pieces: &[u64], seed: u8) {
        let Some(name) = self.pick(lvol) else { return };
        if self.read_only(&name) {
            return;
        }
        let id = id_of(self.store(), &name);
        let mut tickets = Vec::new();
        let mut next = at;
        let factor = self.cluster * self.scale / CLUSTER;
        for (number, len) in (0_u8..).zip(pieces) {
            let (at, len) = self.clip(&name, next, *len);
            next = ((at + len) as u64).div_ceil(factor);
            let data = pattern(len, seed.wrapping_add(number));
            self.model.get_mut(&name).unwrap()[at..at + len].copy_from_slice(data.as_slice());
            let write = IoRequest::Write { lvol: id, offset: at as u64, data, fua: number % 3 == 0 };
            tickets.push(self.store().submit(write));
        }
        self.wait_for_all(&tickets);
    }

    fn wait_for_all(&mut self, tickets: &[offshoot_store::Ticket]) {
        let mut replies = Vec::new();
        while replies.len() < tickets.len() {
            self.store().poll(&mut replies);
        }
        for (ticket, result) in replies {
            assert!(tickets.contains(&ticket));
            assert!(matches!(result.unwrap(), Reply::Buffer(_) | Reply::Made(_)));
        }
    }

    /// Whole clusters that are trimmed read zeros; what is trimmed in part may keep its bytes, which the model
    /// then learns.
    fn unmap(&mut self, lvol: usize, at: u64, len: u64) {
        let Some(name) = self.pick(lvol) else { return };
        if self.read_only(&name) {
            return;
        }
        let (at, len) = self.clip(&name, at, len);
        let id = id_of(self.store(), &name);
        self.store().unmap(id, at as u64..(at + len) as u64).unwrap();
        let after: Buffer = self.store().read(id, at as u64, len).unwrap();
        let before = &mut self.model.get_mut(&name).unwrap()[at..at + len];
        for (now, old) in after.as_slice().iter().zip(before.iter()) {
            assert!(*now == 0 || now == old, "a trimmed byte is neither zero nor what it was");
        }
        before.copy_from_slice(after.as_slice());
    }

    /// Each sector has the bytes of one of the two writes; a read under way sees old or new ones.
    fn overlap(&mut self, lvol: usize, at: u64, len: u64, shift: u64, seed: u8) {
        let Some(name) = self.pick(lvol) else { return };
        if self.read_only(&name) {
            return;
        }
        let id = id_of(self.store(), &name);
        let (at, len) = self.clip(&name, at, len);
        let size = self.model[&name].len();
        let start = (at + usize::try_from(shift).unwrap()).min(size);
        let (first, second) = (at..at + len, start..(start + len).min(size));
        let (a, b) = (pattern(first.len(), seed), pattern(second.len(), seed.wrapping_add(50)));
        let whole = first.start..first.end.max(second.end);
        let read = IoRequest::Read { lvol: id, offset: at as u64, buffer: Buffer::zeroed(whole.len()) };
        let read = self.store().submit(read);
        for (range, data) in [(&first, &a), (&second, &b)] {
            let offset = range.start as u64;
            self.store().submit(IoRequest::Write { lvol: id, offset, data: data.clone(), fua: false });
        }
        let mut replies = Vec::new();
        while replies.len() < 3 {
            self.store().poll(&mut replies);
        }
        let after = self.store().read(id, at as u64, whole.len()).unwrap();
        let before = self.model[&name].clone();
        let of = |range: &std::ops::Range<usize>, data: &Buffer, byte: usize| {
            range.contains(&byte).then(|| data.as_slice()[byte - range.start])
        };
        for (ticket, result) in replies {
            let reply = result.unwrap();
            if ticket == read
                && let Reply::Buffer(seen) = reply
            {
                for (byte, seen) in whole.clone().zip(seen.as_slice()) {
                    let legal = [Some(before[byte]), of(&first, &a, byte), of(&second, &b, byte)];
                    assert!(legal.contains(&Some(*seen)), "a read saw what nobody wrote at {byte:#x}");
                }
            }
        }
        for sector in whole.clone().collect::<Vec<_>>().chunk_by(|left, right| left / 512 == right / 512) {
            let both = |byte: &&usize| first.contains(byte) && second.contains(byte);
            let now = |byte: &usize| Some(after.as_slice()[byte - whole.start]);
            for byte in sector.iter().filter(|byte| !both(byte)) {
                let only = of(&first, &a, *byte).or(of(&second, &b, *byte)).unwrap_or(before[*byte]);
                assert_eq!(now(byte), Some(only));
            }
            let overlapped = || sector.iter().filter(both);
            let one = overlapped().all(|byte| now(byte) == of(&first, &a, *byte));
            let other = overlapped().all(|byte| now(byte) == of(&second, &b, *byte));
            assert!(one || other, "a sector holds parts of two writes");
        }
        self.model.get_mut(&name).unwrap()[whole].copy_from_slice(after.as_slice());
    }

    /// The snapshot holds the first write or not, in each byte; the lvol holds both.
    fn race(&mut self, lvol: usize, at: u64, len: u64, seed: u8) {
        let Some(name) = self.pick(lvol) else { return };
        if self.read_only(&name) {
            return;
        }
        let (at, len) = self.clip(&name, at, len);
        let id = id_of(self.store(), &name);
        let (first, second) = (pattern(len, seed), pattern(len, seed.wrapping_add(100)));
        let before = self.model[&name].clone();
        let (snapshot, identity) = self.fresh();
        let mut tickets = Vec::new();
        let write =
            |data: &Buffer| IoRequest::Write { lvol: id, offset: at as u64, data: data.clone(), fua: false };
        tickets.push(self.store().submit(write(&first)));
        tickets.push(self.store().start(Verb::Snapshot { items: vec![(id, identity)] }));
        tickets.push(self.store().submit(write(&second)));
        self.wait_for_all(&tickets);
        // Writes wait in order of arrival, so the snapshot has the first one and not the second.
        let mut frozen = before;
        frozen[at..at + len].copy_from_slice(first.as_slice());
        self.model.insert(snapshot, frozen.clone());
        frozen[at..at + len].copy_from_slice(second.as_slice());
        self.model.insert(name, frozen);
    }
}

fn run(ops: Vec<Op>, block_size: u32, native: bool, seed: u64) {
    let store = new_store(16_384, block_size, native, seed);
    run_in(store, CLUSTER, 1, ops);
}

/// On a device whose blocks are larger than those that the store shows.
fn run_on_large_blocks(ops: Vec<Op>, native: bool, seed: u64) {
    let device = MemDevice::new(common::DEVICE_BYTES, 4096);
    run_in(new_store_on(device, 16_384, 512, native, seed), CLUSTER, 1, ops);
}

/// With clusters of one block and lvols of several extent pages.
fn run_long(ops: Vec<Op>, native: bool, seed: u64) {
    let store = new_store_of(512 << 20, 4096, 4096, native, seed);
    run_in(store, SMALL_CLUSTER, 148, ops);
}

/// A snapshot with two clones, all with something of their own: nothing can be done to an empty store but to create, and
/// a sequence by chance is half over before it does.
fn beginning() -> Vec<Op> {
    let write = |lvol, at, len| Op::Write { lvol, at, len, seed: 7, fua: false };
    vec![
        Op::Create { clusters: 6, thick: false, reserve: false },
        write(0, 0, 2 * CLUSTER + 512),
        Op::Snapshot { lvol: 0 },
        write(0, CLUSTER, 4096),
        Op::Clone { lvol: 1 },
        write(2, 3 * CLUSTER + 512, 4096),
    ]
}

fn run_in(store: Store<common::ShuffledDevice>, cluster: u64, scale: u64, ops: Vec<Op>) {
    let mut world = World { store: Some(attached(store)), model: Model::new(), count: 0, cluster, scale };
    for op in beginning().into_iter().chain(ops) {
        world.run(op);
        let model = world.model.clone();
        compare(world.store(), &model);
    }
    world.reopen();
    let model = world.model.clone();
    compare(world.store(), &model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(250), ..ProptestConfig::default() })]

    #[test]
    fn native_512(ops in proptest::collection::vec(op(), 1..40), seed in any::<u64>()) {
        run(ops, 512, true, seed);
    }

    #[test]
    fn native_4096(ops in proptest::collection::vec(op(), 1..40), seed in any::<u64>()) {
        run(ops, 4096, true, seed);
    }

    #[test]
    fn plain_512(ops in proptest::collection::vec(op(), 1..40), seed in any::<u64>()) {
        run(ops, 512, false, seed);
    }

    #[test]
    fn plain_4096(ops in proptest::collection::vec(op(), 1..40), seed in any::<u64>()) {
        run(ops, 4096, false, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn native_on_large_blocks(ops in proptest::collection::vec(op(), 1..40), seed in any::<u64>()) {
        run_on_large_blocks(ops, true, seed);
    }

    #[test]
    fn plain_on_large_blocks(ops in proptest::collection::vec(op(), 1..40), seed in any::<u64>()) {
        run_on_large_blocks(ops, false, seed);
    }

    #[test]
    fn native_long(ops in proptest::collection::vec(op(), 1..25), seed in any::<u64>()) {
        run_long(ops, true, seed);
    }

    #[test]
    fn plain_long(ops in proptest::collection::vec(op(), 1..25), seed in any::<u64>()) {
        run_long(ops, false, seed);
    }
}
