//! Runs in which the disk is damaged: one or a few faults hit a zone of a store at rest, or of one that a crash has
//! left. What may be lost then is in the fault atlas; everything else has to be served as if nothing had happened.
//!
//! Some faults nobody can tell, by the format: a page that was written last time has as good a checksum as the one that
//! should be there, and no frame says that the newest one was there. They are told apart in `blast`, by the write that
//! was lost and the lvols that it was about, and excuse nothing else.

mod atlas;
mod blast;
mod fault;
mod graph;
mod known;
mod pending;
mod ring;
mod use_again;
mod verdict;

use crate::counts::Counts;
use crate::disk::{Cut, DiskState, SimDisk};
use crate::external;
use crate::harm::{DamageKind, Zone};
use crate::random::Random;
use crate::setup::Setup;
use crate::violation::{Promise, Violation};
use crate::workload;
use crate::world::World;
use blast::Blast;
use fault::{Hit, strike};
use known::{Known, Left};
use offshoot_store::{LoadError, Rules, Store};
use verdict::judge;

/// Requests under way at the same time.
const REQUESTS_MAX: usize = 6;

/// How many times the disk of a run is damaged, each time anew.
const TIMES: u64 = 24;

/// Makes a store, lets it live for a while, and damages what it leaves in several ways, all drawn from the seed.
///
/// # Errors
/// The first promise that is broken.
pub fn run_damaged(seed: u64, rules: Rules, counts: &mut Counts) -> Result<(), Box<Violation>> {
    let mut random = Random::new(seed);
    let setup = Setup::draw(&mut random);
    let mut world = World::new(setup, rules, random.bits())?;
    let lived = lives(&mut world, &mut random);
    let history = world.history().to_vec();
    let done = lived.and_then(|()| match random.chance(1, 4) {
        true => at_rest(world, &mut random, counts),
        false => after_a_cut(&mut world, &mut random, counts),
    });
    done.map_err(|violation| {
        counts.violations += 1;
        Box::new(violation.after(&history).after(&[format!("{setup:?}")]))
    })
}

/// Up to three lives, of which the last one is watched.
fn lives(world: &mut World, random: &mut Random) -> Result<(), Violation> {
    for _ in 0..random.below(3) {
        live(world, random)?;
        let cut = Cut::draw(random);
        let (left, _) = world.disk.state().crash_at_random(cut, random);
        world.note(format!("{cut}"));
        let recovered = world.check(&left, cut, random)?;
        world.go_on(recovered);
    }
    world.watch();
    live(world, random)
}

fn live(world: &mut World, random: &mut Random) -> Result<(), Violation> {
    for _ in 0..50 + random.below(350) {
        if world.waiting() < REQUESTS_MAX
            && random.chance(1, 3)
            && let Some(op) = workload::draw(world, random)
        {
            world.submit(op);
        }
        world.advance()?;
    }
    if random.chance(1, 3) { world.drain(|_| Ok(())) } else { Ok(()) }
}

/// A store that was closed.
fn at_rest(mut world: World, random: &mut Random, counts: &mut Counts) -> Result<(), Violation> {
    world.drain(|_| Ok(()))?;
    world.read_all()?;
    let (disk, watch) = (world.disk.clone(), world.kept());
    let closed = world.close()?;
    let expected = closed.at_rest();
    let left = Left {
        disk: closed.resting.state.clone(),
        cut: None,
        power: closed.resting.power.clone(),
        expected,
        watch,
        written: disk.written(),
    };
    damage(Known::of(left, random)?, random, counts)
}

/// A store that a crash has left.
fn after_a_cut(world: &mut World, random: &mut Random, counts: &mut Counts) -> Result<(), Violation> {
    let cut = Cut::draw(random);
    let (disk, fate) = world.disk.state().crash_at_random(cut, random);
    counts.count(cut, fate);
    let mut power = world.power.clone();
    power.after(cut);
    let (watch, written) = (world.kept(), world.disk.written());
    let left = Left { disk, cut: Some(cut), power, expected: world.expected(), watch, written };
    let damaged = Known::of(left, random).and_then(|known| damage(known, random, counts));
    damaged.map_err(|violation| violation.during(cut))
}

fn damage(known: Known<'_>, random: &mut Random, counts: &mut Counts) -> Result<(), Violation> {
    let zones: Vec<Zone> = known.atlas.zones().collect();
    for _ in 0..TIMES {
        let zone = zones[random.index(zones.len())];
        let kind = DamageKind::ALL[random.index(DamageKind::ALL.len())];
        if pending::is_not_tried(zone, kind) {
            continue;
        }
        // Of several newest frames only one can be the last.
        let one = matches!(zone, Zone::Newest | Zone::Tail) || random.chance(2, 3);
        let most = if one { 1 } else { 3 };
        let mut disk = known.disk.clone();
        let hits: Vec<Hit> = (0..most)
            .filter_map(|_| strike(&mut disk, &known.atlas, &known.written, (zone, kind), random))
            .collect();
        if hits.is_empty() {
            continue;
        }
        counts.damage.count(zone, kind);
        counts.states += 1;
        let examined = examine(&known, &disk, &hits, random, counts);
        examined.map_err(|violation| {
            let hits: Vec<String> = hits.iter().map(Hit::to_string).collect();
            violation.during(hits.join(", "))
        })?;
    }
    Ok(())
}

/// Opens a damaged disk, for looking and then for writing, and goes on using it.
fn examine(
    known: &Known<'_>,
    disk: &DiskState,
    hits: &[Hit],
    random: &mut Random,
    counts: &mut Counts,
) -> Result<(), Violation> {
    let blast = Blast::of(hits, known, disk);
    let looked = SimDisk::resume(disk.clone(), random.bits());
    let store = Store::open(looked.clone(), external::at_once(), &known.power.read_only());
    let Some(mut store) = opened(store, &blast)? else { return Ok(()) };
    judge(&mut store, known, &blast).map_err(|violation| violation.during("opened read-only"))?;
    if looked.asked().changing > 0 {
        return Err(Violation::new(Promise::D6, "a read-only opening changed the disk"));
    }
    let mut power = known.power.clone();
    let device = SimDisk::resume(disk.clone(), random.bits());
    let store = Store::open(device.clone(), external::at_once(), &power.writable());
    let Some(mut store) = opened(store, &blast)? else { return Ok(()) };
    let verdict = judge(&mut store, known, &blast)?;
    counts.damage.lost += verdict.lost.len() as u64;
    counts.damage.stale += verdict.stale.len() as u64;
    counts.damage.frozen += u64::from(verdict.read_only);
    if blast.forgetful {
        return Ok(());
    }
    use_again::go_on((store, device), known, &blast, &verdict, power)
}

/// A store need not open only when its one super block is hit, and has to say so then.
fn opened(
    store: Result<Store<SimDisk>, LoadError>,
    blast: &Blast,
) -> Result<Option<Store<SimDisk>>, Violation> {
    match store {
        Ok(store) => Ok(Some(store)),
        Err(_) if blast.all => Ok(None),
        Err(error) => Err(Violation::new(Promise::D6, format!("the store does not open: {error}"))),
    }
}
