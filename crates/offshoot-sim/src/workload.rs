//! What clients do: every verb and every kind of I/O, drawn from a seed.

use crate::model::{Change, Lvol, Number};
use crate::random::Random;
use crate::world::{Op, World, keeps_reads};
use crate::{cell, external};
use std::ops::Range;

/// Lvols that a workload keeps at most, so that looking at all of them stays cheap.
const LVOLS_MAX: usize = 8;

/// Sectors of an lvol at most.
const SECTORS_MAX: usize = 384;

/// Verbs under way at the same time.
const VERBS_MAX: usize = 3;

/// The next thing to do, if the draw comes to something.
pub(crate) fn draw(world: &mut World, random: &mut Random) -> Option<Op> {
    let few = world.model.lvols().len() < 2;
    match random.below(100) {
        _ if few => create(world, random),
        0..45 => write(world, random),
        45..52 => zero(world, random),
        52..58 => unmap(world, random),
        58..66 => read(world, random),
        66..76 => Some(Op::Flush),
        _ => verb(world, random),
    }
}

fn verb(world: &mut World, random: &mut Random) -> Option<Op> {
    match random.below(25) {
        0..2 => create(world, random),
        2..5 => snapshot(world, random),
        5..8 => clone(world, random),
        8..12 => remove(world, random),
        12..15 => resize(world, random),
        16 => revert(world, random),
        17 => set_parent(world, random),
        18 => inflate(world, random),
        19..21 => decouple(world, random),
        21..23 => merge(world, random),
        23 => clone_external(world, random),
        24 => onto_external(world, random),
        15 if random.chance(1, 2) => may_seal(world).then_some(Op::Seal),
        15 if random.chance(1, 2) && !world.is_growing() && !world.disk.may_hang() => {
            Some(match [0, 1, 2, 3][random.index(4)] {
                0 => Op::Grow,
                clusters => Op::GrowMd { clusters },
            })
        }
        _ => rename(world, random),
    }
}

fn may_seal(world: &World) -> bool {
    !world.is_sealing() && !world.verbs().any(|change| matches!(change, Change::SetParent { .. }))
}

fn create(world: &mut World, random: &mut Random) -> Option<Op> {
    let has_room = world.model.lvols().len() < LVOLS_MAX && world.verbs().count() < VERBS_MAX;
    has_room.then(|| {
        let sectors = size(world, random);
        let (number, name) = world.fresh();
        let thick = random.chance(1, 4);
        let reserve = random.chance(1, 4);
        Op::Verb(Change::Create { number, name, sectors, thick, reserve })
    })
}

fn snapshot(world: &mut World, random: &mut Random) -> Option<Op> {
    let first = pick(world, random, |_, lvol| !lvol.read_only)?;
    let second = pick(world, random, |_, lvol| !lvol.read_only)?;
    let mut origins = vec![first];
    if second != first && random.chance(1, 3) {
        origins.push(second);
    }
    let has_room = world.model.lvols().len() + origins.len() <= LVOLS_MAX;
    has_room.then(|| {
        let items = origins.into_iter().map(|origin| {
            let (number, name) = world.fresh();
            (origin, number, name)
        });
        let items = items.collect();
        Op::Verb(Change::Snapshot { items })
    })
}

fn clone(world: &mut World, random: &mut Random) -> Option<Op> {
    let parent = pick(world, random, |_, lvol| lvol.read_only)?;
    let has_room = world.model.lvols().len() < LVOLS_MAX;
    has_room.then(|| {
        let (number, name) = world.fresh();
        Op::Verb(Change::Clone { parent, number, name })
    })
}

fn clone_external(world: &mut World, random: &mut Random) -> Option<Op> {
    let has_room = world.model.lvols().len() < LVOLS_MAX && world.verbs().count() < VERBS_MAX;
    has_room.then(|| {
        let sectors = size(world, random);
        let (number, name) = world.fresh();
        Op::Verb(Change::CloneExternal { number, name, sectors })
    })
}

fn onto_external(world: &World, random: &mut Random) -> Option<Op> {
    let parent = Some(external::NUMBER);
    let lvol = alone(world, random).filter(|_| !world.is_sealing())?;
    let fits = world.is_thin(lvol) && world.model.lvol(lvol)?.parent != parent;
    (fits && !keeps_reads(lvol))
        .then(|| Op::Verb(Change::SetParent { lvol, parent, own: world.own_cells(lvol) }))
}

fn remove(world: &mut World, random: &mut Random) -> Option<Op> {
    let deferred = random.chance(1, 3);
    let lvol = pick(world, random, |number, _| deferred || world.model.clones(number).count() < 2)?;
    Some(Op::Verb(Change::Remove { lvol, deferred }))
}

fn resize(world: &mut World, random: &mut Random) -> Option<Op> {
    let sectors = size(world, random);
    let lvol = pick(world, random, |_, lvol| !lvol.read_only && lvol.len() != sectors)?;
    Some(Op::Verb(Change::Resize { lvol, sectors }))
}

fn revert(world: &mut World, random: &mut Random) -> Option<Op> {
    let lvol = alone(world, random)?;
    let parent = world.model.lvol(lvol)?.parent;
    let snapshot = pick(world, random, |number, snapshot| {
        snapshot.read_only && parent != Some(number) && world.model.are_related(lvol, number)
    })?;
    Some(Op::Verb(Change::Revert { lvol, snapshot }))
}

fn set_parent(world: &mut World, random: &mut Random) -> Option<Op> {
    if world.is_sealing() {
        // It moves what is the parent's into the lvol.
        return None;
    }
    let lvol = alone(world, random)?;
    let (now, len) = world.model.lvol(lvol).map(|lvol| (lvol.parent, lvol.len()))?;
    let parent = match now {
        Some(_) if random.chance(1, 2) => None,
        _ => Some(pick(world, random, |number, parent| {
            parent.read_only && now != Some(number) && parent.len() == len
        })?),
    };
    let may_be = world.is_thin(lvol) && !keeps_reads(lvol);
    may_be.then(|| Op::Verb(Change::SetParent { lvol, parent, own: world.own_cells(lvol) }))
}

fn inflate(world: &mut World, random: &mut Random) -> Option<Op> {
    let lvol = pick(world, random, |number, lvol| world.lies_on(number, lvol.parent))?;
    Some(Op::Verb(Change::Inflate { lvol }))
}

fn decouple(world: &mut World, random: &mut Random) -> Option<Op> {
    let lvol = pick(world, random, |number, lvol| world.lies_on(number, lvol.parent))?;
    let parent = world.model.lvol(lvol)?.parent?;
    // What lies on the external snapshot is inflated.
    let onto = world.model.lvol(parent).and_then(|parent| parent.parent);
    Some(Op::Verb(Change::Decouple { lvol, onto }))
}

fn merge(world: &mut World, random: &mut Random) -> Option<Op> {
    let snapshot =
        pick(world, random, |number, lvol| lvol.read_only && world.model.clones(number).count() == 1)?;
    let into = world.model.clones(snapshot).next().filter(|into| world.lies_on(*into, Some(snapshot)))?;
    Some(Op::Verb(Change::Merge { snapshot, into }))
}

/// A writable lvol that nothing is under way for.
fn alone(world: &World, random: &mut Random) -> Option<Number> {
    pick(world, random, |number, lvol| !lvol.read_only && !world.is_used(number))
}

fn rename(world: &mut World, random: &mut Random) -> Option<Op> {
    let lvol = pick(world, random, |_, _| true)?;
    let (number, _) = world.fresh();
    Some(Op::Verb(Change::Rename { lvol, name: format!("r{number}") }))
}

fn write(world: &World, random: &mut Random) -> Option<Op> {
    let (lvol, cells) = writable_range(world, random)?;
    Some(Op::Write { lvol, cells, fua: random.chance(1, 8) })
}

fn zero(world: &World, random: &mut Random) -> Option<Op> {
    let (lvol, cells) = writable_range(world, random)?;
    Some(Op::Zero { lvol, cells, allocate: random.chance(1, 3), fua: random.chance(1, 8) })
}

fn unmap(world: &World, random: &mut Random) -> Option<Op> {
    let (lvol, cells) = writable_range(world, random)?;
    Some(Op::Unmap { lvol, cells, fua: random.chance(1, 8) })
}

fn read(world: &World, random: &mut Random) -> Option<Op> {
    let lvol = any(world, random, |number, lvol| lvol.len() > 0 && !is_excluded(world, number))?;
    let cells = range(world, lvol, random)?;
    Some(Op::Read { lvol, cells })
}

fn writable_range(world: &World, random: &mut Random) -> Option<(Number, Range<usize>)> {
    let fits = |number, lvol: &Lvol| !lvol.read_only && lvol.len() > 0 && !is_excluded(world, number);
    let lvol = any(world, random, fits)?;
    Some((lvol, range(world, lvol, random)?))
}

/// Whether a verb is under way that wants the lvol for itself.
fn is_excluded(world: &World, number: Number) -> bool {
    world.verbs().any(|change| change.excludes() == Some(number))
}

/// Whole clusters.
fn size(world: &World, random: &mut Random) -> usize {
    let cluster = world.setup.cluster_size as usize / 512;
    cluster * random.index(SECTORS_MAX / cluster + 1)
}

/// Cells that exist before and after any resize under way: single sectors, whole blocks, whole clusters, any sectors, or
/// any bytes. Often the neighbourhood of another request.
fn range(world: &World, number: Number, random: &mut Random) -> Option<Range<usize>> {
    let mut len = world.model.lvol(number).map_or(0, Lvol::len);
    for change in world.verbs() {
        match change {
            Change::Resize { lvol, sectors } if *lvol == number => len = len.min(*sectors),
            _ => {}
        }
    }
    if random.chance(1, 6) {
        return ragged(len, random);
    }
    let cluster = world.setup.cluster_size as usize / 512;
    let unit = world.setup.block_size as usize / 512;
    let (grain, most) = match random.below(8) {
        0..3 => (unit, 4),
        3..5 => (8, 4),
        5 => (cluster, 2),
        _ => (unit, 2 * cluster / unit),
    };
    let start = match random.chance(1, 2) {
        true => random.index(len.max(1)) / grain * grain,
        // A hot corner, where requests meet.
        false => random.index(16) / grain * grain,
    };
    let end = (start + (1 + random.index(most)) * grain).min(len);
    (start < end).then_some(cell::cells(start..end))
}

/// Cells from somewhere in a split sector on, or up to there, or both: no end of it need be aligned to anything.
fn ragged(len: usize, random: &mut Random) -> Option<Range<usize>> {
    let splits = len.saturating_sub(cell::SPLIT).div_ceil(cell::PERIOD);
    let number = if random.chance(1, 2) { 0 } else { random.index(splits.max(1)) };
    let split = number * cell::PERIOD + cell::SPLIT;
    let start = split - random.index(3);
    let end = (split + 1 + random.index(3)).min(len);
    if start >= end {
        return None;
    }
    let cells = cell::cells(start..end);
    let start = cells.start + random.index(cells.len());
    Some(start..start + 1 + random.index(cells.end - start))
}

/// An lvol that no verb under way is about.
fn pick(world: &World, random: &mut Random, fits: impl Fn(Number, &Lvol) -> bool) -> Option<Number> {
    if world.verbs().count() >= VERBS_MAX {
        return None;
    }
    let related = |lvol: Number| {
        let parent = world.model.lvol(lvol).and_then(|lvol| lvol.parent);
        let parent = parent.filter(|parent| *parent != external::NUMBER);
        world.model.clones(lvol).chain(parent).collect()
    };
    let busy: Vec<Number> = world.verbs().flat_map(|change| change.touches(related)).collect();
    let free = |number: Number| {
        !busy.contains(&number) && !related(number).iter().any(|relative| busy.contains(relative))
    };
    any(world, random, |number, lvol| free(number) && fits(number, lvol))
}

fn any(world: &World, random: &mut Random, fits: impl Fn(Number, &Lvol) -> bool) -> Option<Number> {
    let fitting: Vec<Number> =
        world.model.lvols().filter(|(number, lvol)| fits(*number, lvol)).map(|(number, _)| number).collect();
    fitting.get(random.index(fitting.len().max(1))).copied()
}
