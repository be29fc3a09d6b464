//! The verbs that move data, whole, in use, cancelled or stopped half-way, and lvols over an external snapshot.

use super::{World, own_blocks};
use crate::common::{ShuffledDevice, external_content, external_device, id_of, pattern};
use offshoot_format::BlobId;
use offshoot_store::{Error, IoRequest, Reply, Store, Ticket, Underlay, Verb, Work};
use proptest::prelude::*;
use uuid::Uuid;

/// The external snapshot of every store.
pub(super) const EXTERNAL: Uuid = Uuid::from_u128(0xe << 64);

/// A job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    Inflate,
    Decouple,
    /// So many of the snapshots that an lvol lies on: the newest into the lvol, or the older ones into the newest.
    Merge {
        snapshots: usize,
    },
    /// The md region takes so many clusters.
    Grow {
        clusters: u32,
    },
}

/// What happens while a job runs, after some operations of the device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meanwhile {
    Nothing,
    Write {
        at: u64,
        len: u64,
        seed: u8,
    },
    Cancel,
    /// The store is closed and opened, and the job is asked for again.
    Stop,
}

pub(super) fn moving() -> impl Strategy<Value = (Move, Meanwhile, u32)> {
    let how = prop_oneof![
        3 => Just(Move::Inflate),
        3 => Just(Move::Decouple),
        3 => (1_usize..4).prop_map(|snapshots| Move::Merge { snapshots }),
        1 => (1_u32..4).prop_map(|clusters| Move::Grow { clusters }),
    ];
    let write = (0_u64..8 * super::CLUSTER, 1_u64..2 * super::CLUSTER, any::<u8>());
    let meanwhile = prop_oneof![
        2 => Just(Meanwhile::Nothing),
        2 => write.prop_map(|(at, len, seed)| Meanwhile::Write { at, len, seed }),
        1 => Just(Meanwhile::Cancel),
        1 => Just(Meanwhile::Stop),
    ];
    (how, meanwhile, 0_u32..40)
}

/// The store, with its external snapshot.
pub(super) fn attached(mut store: Store<ShuffledDevice>) -> Store<ShuffledDevice> {
    store.attach_external(&EXTERNAL.to_string(), external_device());
    store
}

impl World {
    pub(super) fn moves(&mut self, lvol: usize, (how, meanwhile, after): (Move, Meanwhile, u32)) {
        let Some(name) = self.pick(lvol) else { return };
        let id = id_of(self.store(), &name);
        let Some((work, run)) = self.work(id, how) else { return };
        let state = self.store().state();
        let parent = state.blob(id).unwrap().parent;
        let grandparent = parent.and_then(|parent| state.blob(parent).unwrap().parent);
        let result = self.run_meanwhile(&name, work, meanwhile, after);
        // Each snapshot of a merge goes by itself.
        let gone: Vec<String> = run
            .iter()
            .filter(|name| self.store().state().lvol_by_name(name.as_bytes()).is_none())
            .cloned()
            .collect();
        gone.iter().for_each(|name| drop(self.model.remove(name)));
        let state = self.store().state();
        match (how, result) {
            (_, Err(Error::Cancelled)) => assert!(matches!(meanwhile, Meanwhile::Cancel)),
            (Move::Decouple, Err(Error::NoParent(_))) => assert_eq!(parent, None),
            (Move::Grow { .. }, Err(Error::NoClusters { .. } | Error::TooManyMdPages { .. })) => {}
            (_, Err(error)) => panic!("{how:?}: {error}"),
            (Move::Merge { .. }, Ok(())) => assert_eq!(gone, run),
            (Move::Inflate, Ok(())) => {
                let lvol = state.blob(id).unwrap();
                assert!(lvol.parent.is_none() && !lvol.is_thin() && !lvol.external_is_parent);
                assert_eq!(lvol.own_clusters, lvol.len);
            }
            (Move::Decouple, Ok(())) => {
                let lvol = state.blob(id).unwrap();
                let is_same = lvol.parent == grandparent;
                assert!(is_same || state.deferred().next().is_some(), "{:?}, {grandparent:?}", lvol.parent);
            }
            (Move::Grow { .. }, Ok(())) => {
                let Work::Grow { md_pages, .. } = work else { unreachable!() };
                assert_eq!(state.layout.md_len, md_pages);
            }
        }
        self.nothing_is_kept();
    }

    /// The job that a move comes to, and the snapshots that go by it.
    fn work(&mut self, id: BlobId, how: Move) -> Option<(Work, Vec<String>)> {
        let state = self.store().state();
        match how {
            Move::Inflate => Some((Work::Inflate { lvol: id }, Vec::new())),
            Move::Decouple => Some((Work::Decouple { lvol: id }, Vec::new())),
            Move::Grow { clusters } => {
                let layout = &state.layout;
                let md_pages = layout.md_len + clusters * (layout.cluster_size / layout.md_page_size);
                Some((Work::Grow { size_bytes: layout.size_bytes, md_pages }, Vec::new()))
            }
            Move::Merge { snapshots } => {
                let parent = |id: &BlobId| state.blob(*id)?.parent;
                let run: Vec<BlobId> = std::iter::successors(parent(&id), parent).take(snapshots).collect();
                let (oldest, into) = state.merge_run(&run).ok()?;
                let gone = run.iter().filter(|id| **id != into).filter_map(|id| state.blob(*id));
                let mut gone: Vec<String> =
                    gone.filter(|blob| state.is_lvol(blob)).map(|blob| blob.display_name()).collect();
                gone.sort();
                gone.dedup();
                Some((Work::Merge { oldest, into }, gone))
            }
        }
    }

    /// Runs a job, and lets something happen after some operations of the device.
    fn run_meanwhile(
        &mut self,
        name: &str,
        work: Work,
        meanwhile: Meanwhile,
        after: u32,
    ) -> Result<(), Error> {
        let job = self.store().start_job(work, None);
        let mut replies = Vec::new();
        for _ in 0..after {
            self.store().poll(&mut replies);
        }
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Cancel => self.store().cancel(job),
            Meanwhile::Stop if replies.is_empty() => {
                self.reopen();
                let work = match work {
                    // The last one has gone into it already, and is being taken up.
                    Work::Merge { oldest, into } if self.store().state().blob(oldest).is_none() => {
                        Work::Merge { oldest: into, into }
                    }
                    work => work,
                };
                let again = self.store().start_job(work, None);
                return self.answers(&[again], Vec::new()).remove(0).1;
            }
            Meanwhile::Stop => {}
            Meanwhile::Write { at, len, seed } => {
                if !self.read_only(name) {
                    let (at, len) = self.clip(name, at, len);
                    let (lvol, data) = (id_of(self.store(), name), pattern(len, seed));
                    self.model.get_mut(name).unwrap()[at..at + len].copy_from_slice(data.as_slice());
                    let offset = at as u64;
                    let write = self.store().submit(IoRequest::Write { lvol, offset, data, fua: false });
                    let mut answers = self.answers(&[job, write], replies);
                    let position = answers.iter().position(|(ticket, _)| *ticket == write).unwrap();
                    answers.remove(position).1.unwrap();
                    return answers.remove(0).1;
                }
            }
        }
        self.answers(&[job], replies).remove(0).1
    }

    fn answers(
        &mut self,
        tickets: &[Ticket],
        mut replies: Vec<(Ticket, Result<Reply, Error>)>,
    ) -> Vec<(Ticket, Result<(), Error>)> {
        while replies.len() < tickets.len() {
            self.store().poll(&mut replies);
        }
        replies.into_iter().map(|(ticket, result)| (ticket, result.map(drop))).collect()
    }

    /// Lets what goes on behind replies come to its end: what lvols have read may be becoming theirs.
    pub(super) fn settle(&mut self) {
        while self.store().engine().is_busy() {
            self.store().poll(&mut Vec::new());
        }
    }

    /// What was kept for a job is everybody's again.
    fn nothing_is_kept(&mut self) {
        self.store().flush().unwrap();
        self.settle();
        self.store().flush().unwrap();
        let space = self.store().state().space();
        let available = self.store().state().clusters.available() as u64;
        assert_eq!(available, space.free - space.reserved, "{space:?}");
    }

    pub(super) fn clone_external(&mut self, clusters: u64, copy_on_read: bool) {
        let size_bytes = clusters * self.cluster * self.scale;
        let (name, identity) = self.fresh();
        let external_bytes = external_content().len() as u64;
        let verb =
            Verb::CloneExternal { identity, size_bytes, external: EXTERNAL, external_bytes, copy_on_read };
        self.execute(verb).unwrap();
        self.model.insert(name, below(size_bytes));
    }

    pub(super) fn onto_external(&mut self, lvol: usize) {
        let Some(name) = self.pick(lvol) else { return };
        let id = id_of(self.store(), &name);
        self.settle();
        let own = own_blocks(self.store(), id);
        let blob = self.store().state().blob(id).unwrap().clone();
        let underlay = Underlay::External(EXTERNAL);
        let result = self.execute(Verb::SetParent { lvol: id, underlay });
        let refused = !blob.is_thin() || !blob.clones.is_empty() || blob.external_is_parent;
        assert_eq!(result.is_err(), refused, "{result:?}");
        if refused {
            return;
        }
        let bytes = self.model.get_mut(&name).unwrap();
        let below = below(bytes.len() as u64);
        let blocks = bytes.chunks_mut(4096).zip(below.chunks(4096)).zip(own);
        for ((block, below), _) in blocks.filter(|(_, is_own)| !is_own) {
            block.copy_from_slice(below);
        }
    }
}

/// What an lvol over the external snapshot reads.
fn below(size_bytes: u64) -> Vec<u8> {
    let mut bytes = external_content();
    bytes.resize(usize::try_from(size_bytes).unwrap(), 0);
    bytes
}
