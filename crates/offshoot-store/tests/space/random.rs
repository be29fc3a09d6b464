//! Random writes, trims and verbs on a store that is nearly always full equal a model in which a write happens as a
//! whole or not at all.

use crate::common::lvols::{Lvols as _, named, pattern, writable};
use crate::common::{Model, cases, clear_method, compare};
use crate::plain_checker::PlainStore;
use crate::{BLOCK, CLUSTER, Tiny, tiny};
use offshoot_store::{CreateOptions, Error, Store, Verb};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Create { clusters: u64, thick: bool, reserve: bool },
    Snapshot { lvol: usize },
    Clone { lvol: usize },
    Remove { lvol: usize },
    Write { lvol: usize, at: u64, len: u64, seed: u8 },
    Trim { lvol: usize, first: u64, count: u64, zero: bool },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let lvol = 0_usize..6;
    let at = prop_oneof![0..8 * CLUSTER, (0..8_u64).prop_map(|cluster| cluster * CLUSTER)];
    let len = prop_oneof![1..3 * CLUSTER, Just(BLOCK), (1..6_u64).prop_map(|count| count * CLUSTER)];
    prop_oneof![
        3 => (1_u64..9, any::<bool>(), any::<bool>())
            .prop_map(|(clusters, thick, reserve)| Op::Create { clusters, thick, reserve }),
        2 => lvol.clone().prop_map(|lvol| Op::Snapshot { lvol }),
        2 => lvol.clone().prop_map(|lvol| Op::Clone { lvol }),
        3 => lvol.clone().prop_map(|lvol| Op::Remove { lvol }),
        14 => (lvol.clone(), at, len, any::<u8>())
            .prop_map(|(lvol, at, len, seed)| Op::Write { lvol, at, len, seed }),
        3 => (lvol, 0..8_u64, 1..5_u64, any::<bool>())
            .prop_map(|(lvol, first, count, zero)| Op::Trim { lvol, first, count, zero }),
        1 => Just(Op::Reopen),
    ]
}

struct World {
    store: Option<Tiny>,
    model: Model,
    made: usize,
}

impl World {
    fn store(&mut self) -> &mut Tiny {
        self.store.as_mut().unwrap()
    }

    fn pick(&self, lvol: usize) -> Option<String> {
        let count = self.model.len();
        (count > 0).then(|| self.model.keys().nth(lvol % count).unwrap().clone())
    }

    fn writable(&mut self, lvol: usize) -> Option<String> {
        let name = self.pick(lvol)?;
        let id = self.store().id(&name);
        let read_only = self.store().state().blob(id).unwrap().is_read_only();
        (!read_only).then_some(name)
    }

    fn is_reserved(&mut self, name: &str) -> bool {
        let id = self.store().id(name);
        self.store().state().blob(id).unwrap().is_reserved()
    }

    /// Clusters that are free and promised to nobody.
    fn unpromised(&mut self) -> u64 {
        let space = self.store().state().space();
        space.free.saturating_sub(space.reserved)
    }

    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("v{:03}", self.made)
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Create { clusters, thick, reserve } => {
                self.create(clusters, CreateOptions { thick, reserve, clear_method: clear_method(clusters) });
            }
            Op::Snapshot { lvol } => {
                let Some(name) = self.writable(lvol) else { return };
                let snapshot = self.fresh();
                match self.store().snapshot(&name, &snapshot) {
                    Ok(_) => drop(self.model.insert(snapshot, self.model[&name].clone())),
                    // Where it could not promise what it has promised any more.
                    Err(Error::NoClusters { .. }) => assert!(self.is_reserved(&name)),
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Clone { lvol } => {
                let Some(parent) = self.pick(lvol) else { return };
                let clone = self.fresh();
                if self.store().clone_of(&parent, &clone).is_ok() {
                    self.model.insert(clone, self.model[&parent].clone());
                }
            }
            Op::Remove { lvol } => {
                let Some(name) = self.pick(lvol) else { return };
                match self.store().remove(&name) {
                    Ok(()) => drop(self.model.remove(&name)),
                    Err(error) => assert!(matches!(error, Error::HasClones { .. }), "{error}"),
                }
            }
            Op::Write { lvol, at, len, seed } => self.write(lvol, at, len, seed),
            Op::Trim { lvol, first, count, zero } => self.trim(lvol, first, count, zero),
            Op::Reopen => {
                let store = self.store.take().unwrap();
                self.store = Some(self.checked_reopen(store));
            }
        }
    }

    fn create(&mut self, clusters: u64, options: CreateOptions) {
        let name = self.fresh();
        let (identity, size_bytes) = (named(&name), clusters * CLUSTER);
        match self.store().execute(Verb::Create { identity, size_bytes, options }) {
            Ok(_) => {
                let len = usize::try_from(clusters * CLUSTER).unwrap();
                self.model.insert(name, vec![0; len]);
            }
            Err(Error::NoClusters { needed, free }) => {
                assert!((options.thick || options.reserve) && needed == clusters && free < needed);
                // Nor would waiting have helped: what was coming free has come by now.
                self.store().poll(&mut Vec::new());
                self.store().flush().unwrap();
                let free = self.unpromised();
                assert!(free < needed, "refused {needed} clusters, and {free} are free");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A write happens as a whole or, where there is no space, not at all: its clusters are chosen before the first
    /// byte of it moves.
    fn write(&mut self, lvol: usize, at: u64, len: u64, seed: u8) {
        let Some(name) = self.writable(lvol) else { return };
        let size = self.model[&name].len() as u64;
        let at = at.min(size);
        let len = len.min(size - at);
        let id = self.store().id(&name);
        let data = pattern(len, seed);
        match self.store().write(id, at, data.clone()) {
            Ok(_) => {
                let at = usize::try_from(at).unwrap();
                let content = self.model.get_mut(&name).unwrap();
                content[at..at + data.len()].copy_from_slice(data.as_slice());
            }
            Err(Error::NoClusters { .. }) => {
                let touched = (at + len).div_ceil(CLUSTER) - at / CLUSTER;
                assert!(!self.is_reserved(&name), "{name} is refused what was kept for it");
                let free = self.unpromised();
                assert!(free < touched, "{free} clusters are free for a write to {touched}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn trim(&mut self, lvol: usize, first: u64, count: u64, zero: bool) {
        let Some(name) = self.writable(lvol) else { return };
        let clusters = self.model[&name].len() as u64 / CLUSTER;
        let first = first.min(clusters);
        let range = first * CLUSTER..(first + count).min(clusters) * CLUSTER;
        let id = self.store().id(&name);
        let plain = !self.store().state().native_allowed;
        let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        if zero {
            match self.store().write_zeroes(id, range.clone()) {
                Ok(()) => self.model.get_mut(&name).unwrap()[part].fill(0),
                // SPDK's format cannot hide a parent's cluster without a cluster.
                Err(error) => {
                    assert!(plain && matches!(error, Error::NoClusters { .. }), "{error}");
                    assert!(!self.is_reserved(&name), "{name} is refused what was kept for it");
                }
            }
            return;
        }
        self.store().unmap(id, range.clone()).unwrap();
        let len = usize::try_from(range.end - range.start).unwrap();
        let after = self.store().read(id, range.start, len).unwrap();
        let content = &mut self.model.get_mut(&name).unwrap()[part];
        if !plain {
            assert!(after.as_slice().iter().all(|byte| *byte == 0), "{name}: trimmed clusters read zeros");
        }
        let old_or_zero = |(now, old): (&u8, &u8)| *now == 0 || now == old;
        assert!(after.as_slice().iter().zip(content.iter()).all(old_or_zero));
        content.copy_from_slice(after.as_slice());
    }

    /// Reopens, and holds a sealed store against the second reading of the format.
    fn checked_reopen(&self, store: Tiny) -> Tiny {
        let (device, closed) = store.close();
        closed.unwrap();
        let store = Store::open(device, Vec::new(), &writable()).unwrap();
        assert_eq!(store.findings(), &[]);
        if !store.super_block().is_native() {
            let device = &store.device().inner;
            let read_at = |offset, bytes: &mut [u8]| device.read_at(offset, bytes);
            let plain = PlainStore::read(&read_at);
            assert_eq!(plain.problems, Vec::<String>::new());
            assert_eq!(plain.free_clusters, store.free());
            assert_eq!(plain.lvols().count(), self.model.len());
            for (name, content) in &self.model {
                assert!(plain.content(&read_at, plain.lvol(name)) == *content, "{name}");
            }
        }
        store
    }
}

fn run(ops: Vec<Op>, native: bool, seed: u64) {
    let mut world = World { store: Some(tiny(native, seed)), model: Model::new(), made: 0 };
    for op in ops.into_iter().chain([Op::Reopen]) {
        world.run(op);
        let model = std::mem::take(&mut world.model);
        compare(world.store(), &model);
        world.model = model;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(120), ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_harmed_on_a_full_native_store(ops in proptest::collection::vec(op(), 1..50), seed in any::<u64>()) {
        run(ops, true, seed);
    }

    #[test]
    fn nothing_is_harmed_on_a_full_plain_store(ops in proptest::collection::vec(op(), 1..50), seed in any::<u64>()) {
        run(ops, false, seed);
    }
}
