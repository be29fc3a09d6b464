//! Are group snapshots held against one point in time? Runs in which they are none must be found out.

use crate::model::{Change, Number};
use crate::random::Random;
use crate::setup::Setup;
use crate::violation::{Promise, Violation};
use crate::world::{Op, World};
use offshoot_store::Rules;

/// Sectors of each of two lvols that writes go to.
const SECTORS: usize = 4;

/// Snapshots of two lvols at a time, under writes that go to one and the other, compared at the end.
fn snapshots(seed: u64, split_groups: bool) -> Result<(), Violation> {
    let mut random = Random::new(seed);
    let mut world = World::new(Setup::SMALLEST, Rules::ALL, random.bits())?;
    world.split_groups = split_groups;
    let sectors = Setup::SMALLEST.cluster_size as usize / 512;
    let lvols: Vec<Number> = [(); 2]
        .map(|()| {
            let (number, name) = world.fresh();
            world.submit(Op::Verb(Change::Create { number, name, sectors, thick: false, reserve: false }));
            number
        })
        .to_vec();
    world.drain(|_| Ok(()))?;
    for _ in 0..3 {
        let items = lvols.iter().map(|origin| {
            let (number, name) = world.fresh();
            (*origin, number, name)
        });
        let items = items.collect();
        world.submit(Op::Verb(Change::Snapshot { items }));
        while world.verbs().count() > 0 {
            if world.waiting() < 4 {
                let (lvol, sector) = (lvols[random.index(2)], random.index(SECTORS));
                let cells = crate::cell::cells(sector..sector + 1);
                world.submit(Op::Write { lvol, cells, fua: false });
            }
            world.advance()?;
        }
        world.drain(|_| Ok(()))?;
        world.read_all()?;
    }
    Ok(())
}

#[test]
fn a_group_shows_one_moment() {
    for seed in 0..40 {
        let taken = snapshots(seed, false);
        assert!(taken.is_ok(), "seed {seed}: {taken:?}");
    }
}

#[test]
fn a_group_that_is_taken_apart_is_found_out() {
    let broken = |seed| snapshots(seed, true).is_err_and(|violation| violation.promise == Promise::D5);
    let found = (0..40).filter(|seed| broken(*seed)).count();
    assert!(found > 20, "found in {found} of 40 runs only");
}
