//! What is known of a disk before anything goes wrong with it.

use super::atlas::Atlas;
use super::graph::{Graph, Node};
use super::ring::Ring;
use crate::check::{Contents, Expected};
use crate::disk::{Cut, DiskState, SimDisk, Written};
use crate::external;
use crate::image::index;
use crate::model::{Model, Number};
use crate::power::Power;
use crate::random::Random;
use crate::violation::{Promise, Violation};
use crate::world::{Append, Watch};
use offshoot_format::{Layout, NativeHeader, SuperBlock};
use offshoot_store::Store;
use std::collections::BTreeSet;

/// A disk as its store left it, and everything about it.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) disk: DiskState,
    pub(super) power: Power,
    pub(super) expected: Expected<'a>,
    /// What was kept of the life before, and the writes in it.
    pub(super) watch: Watch,
    pub(super) written: Vec<Written>,
    /// What recovers from the disk.
    pub(super) model: Model,
    pub(super) contents: Contents,
    pub(super) whole: Graph,
    /// Lvols and what they have inherited from since the last life began.
    pub(super) relations: BTreeSet<(Number, Number)>,
    /// What the md pages alone say.
    pub(super) checkpoint: Graph,
    pub(super) atlas: Atlas,
}

/// A disk, how it came to be like that, and what is expected of it.
#[derive(Debug)]
pub(super) struct Left<'a> {
    pub(super) disk: DiskState,
    /// How it came to its end. `None` when it was closed.
    pub(super) cut: Option<Cut>,
    pub(super) power: Power,
    pub(super) expected: Expected<'a>,
    pub(super) watch: Watch,
    pub(super) written: Vec<Written>,
}

impl<'a> Known<'a> {
    /// Looks at a disk with which nothing is wrong.
    ///
    /// # Errors
    /// The first promise that is broken even so.
    pub(super) fn of(left: Left<'a>, random: &mut Random) -> Result<Self, Violation> {
        let Left { disk, cut, power, expected, watch, written } = left;
        let worst = cut.unwrap_or(Cut::Kill);
        let sound = expected.check(&disk, worst, power.clone(), random)?;
        let store = look(&disk, &power)?;
        let whole = Graph::of(&store);
        let (super_block, layout) = (store.super_block().clone(), store.state().layout.clone());
        let checkpoint = match checkpointed(&disk, &super_block, &layout) {
            Some(disk) => Graph::of(&look(&disk, &power)?),
            None => whole.clone(),
        };
        let atlas = Atlas::of(&disk, &super_block, &layout, [&whole, &checkpoint]);
        let (model, contents) = (sound.model, sound.contents);
        let relations = watch.relations();
        Ok(Self {
            relations,
            disk,
            power,
            expected,
            watch,
            written,
            model,
            contents,
            whole,
            checkpoint,
            atlas,
        })
    }
}

impl Known<'_> {
    /// What was known when a frame was appended.
    pub(super) fn append(&self, lsn: u64) -> Option<&Append> {
        self.watch.append(self.atlas.epoch, lsn)
    }

    /// Everything that depends on some lvols, by the md pages or by what the journal made of them since: whatever inherits
    /// or has inherited from them, and what the journal has made in their families.
    pub(super) fn dependants(&self, mut numbers: BTreeSet<Number>) -> BTreeSet<Number> {
        let Self { checkpoint, whole, model, .. } = self;
        loop {
            let before = numbers.len();
            checkpoint.add_heirs(&mut numbers);
            whole.add_heirs(&mut numbers);
            for (heir, parent) in &self.relations {
                if numbers.contains(parent) {
                    numbers.insert(*heir);
                }
            }
            let grown = numbers.len() > before;
            // Also what has gone since: others may have taken it over.
            let there = whole.0.values().map(|node| node.number);
            let ever = there.chain(self.relations.iter().map(|(_, parent)| *parent));
            let made = ever.filter(|number| !checkpoint.knows(*number));
            let related = |made: &Number| numbers.iter().any(|number| model.are_of_family(*made, *number));
            let made: Vec<Number> = made.filter(|made| !numbers.contains(made)).filter(related).collect();
            if !grown && made.is_empty() {
                return numbers;
            }
            numbers.extend(made);
        }
    }

    /// Whether a sound store has any use for an md page.
    pub(super) fn uses(&self, page: u32) -> bool {
        let nodes = self.whole.0.values().chain(self.checkpoint.0.values());
        nodes.flat_map(Node::pages).any(|used| used == page)
    }
}

fn look(disk: &DiskState, power: &Power) -> Result<Store<SimDisk>, Violation> {
    let store = Store::open(SimDisk::resume(disk.clone(), 0), external::at_once(), &power.read_only());
    store.map_err(|error| Violation::new(Promise::D6, format!("the store does not open: {error}")))
}

/// The disk of an open store as if its journal held nothing but images. `None` when it has no journal.
fn checkpointed(disk: &DiskState, super_block: &SuperBlock, layout: &Layout) -> Option<DiskState> {
    let native =
        super_block.native.as_ref().filter(|_| super_block.is_native() && !super_block.is_clean())?;
    let area = native.journal?;
    let mut disk = disk.clone();
    let page_size = index(u64::from(layout.md_page_size));
    let ring = Ring::read(&disk, layout, area);
    let newest = ring.newest(native).filter(|newest| !newest.in_place);
    for set in newest.iter().flat_map(|newest| ring.image_sets(newest)) {
        for (page, image) in set.images {
            disk.rot(layout.md_page_offset(page), &image);
        }
        for run in set.zeroed {
            disk.rot(layout.md_page_offset(run.start), &vec![0; page_size * run.len as usize]);
        }
    }
    let epoch = native.epoch.map(|byte| !byte);
    let native = NativeHeader { epoch, previous: None, ..native.clone() };
    let emptied = SuperBlock { native: Some(native), ..super_block.clone() };
    disk.rot(0, &emptied.encode());
    Some(disk)
}
