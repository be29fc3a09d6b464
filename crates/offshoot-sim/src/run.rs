//! One random run: several lives of a store, each ended by a crash or an orderly close.

use crate::check::{Expected, Recovered};
use crate::counts::Counts;
use crate::disk::{Cut, Effect, Fault, OpKind};
use crate::random::Random;
use crate::setup::Setup;
use crate::violation::Violation;
use crate::workload;
use crate::world::{Closed, World};
use offshoot_block::DeviceError;
use offshoot_store::Rules;

/// Requests under way at the same time.
const REQUESTS_MAX: usize = 6;

/// So many times more steps are taken in a life in which something hangs: enough for others to go around the ring.
const PATIENCE_WITH_A_HANG: u64 = 8;

/// Does everything that a seed stands for.
///
/// # Errors
/// The first promise that is broken.
pub fn run(seed: u64, rules: Rules, counts: &mut Counts) -> Result<(), Box<Violation>> {
    start(seed, rules, true, counts)
}

/// The same without crashes and faults: nothing but requests and completions in any order.
///
/// # Errors
/// The first promise that is broken.
pub fn run_calmly(seed: u64, counts: &mut Counts) -> Result<(), Box<Violation>> {
    start(seed, Rules::ALL, false, counts)
}

fn start(seed: u64, rules: Rules, crashes: bool, counts: &mut Counts) -> Result<(), Box<Violation>> {
    let mut random = Random::new(seed);
    let setup = Setup::draw(&mut random);
    let world = World::new(setup, rules, random.bits()).map_err(Box::new)?;
    let mut run = Run { world: Some(world), random, crashes, counts };
    let lived = run.lives();
    lived.map_err(|violation| {
        run.counts.violations += 1;
        let history = run.world.map(|world| world.history().to_vec()).unwrap_or_default();
        let setup = format!("{setup:?}");
        Box::new(violation.after(&history).after(&[setup]))
    })
}

struct Run<'a> {
    world: Option<World>,
    random: Random,
    crashes: bool,
    counts: &'a mut Counts,
}

impl Run<'_> {
    fn lives(&mut self) -> Result<(), Violation> {
        let Some(mut world) = self.world.take() else { return Ok(()) };
        for _ in 0..2 + self.random.below(5) {
            let lived = self.life(&mut world);
            if lived.is_err() {
                self.world = Some(world);
                return lived;
            }
            if !self.crashes || self.random.chance(1, 5) && !world.has_failed() {
                world = self.close_and_open(world)?;
            } else if let Err(violation) = self.crash(&mut world) {
                self.world = Some(world);
                return Err(violation);
            }
        }
        let mut world = self.close_and_open(world)?;
        world.read_all().map_err(|violation| violation.after(world.history()))
    }

    /// Requests and completions in any order, with a look at what a crash would leave now and then.
    fn life(&mut self, world: &mut World) -> Result<(), Violation> {
        if self.crashes && self.random.chance(1, 5) {
            self.inject(world);
        }
        let steps = 50 + self.random.below(250);
        let hang = (self.crashes && self.random.chance(1, 8)).then(|| self.random.below(steps));
        let patience = if hang.is_some() { PATIENCE_WITH_A_HANG } else { 1 };
        for step in 0..steps * patience {
            if hang == Some(step) {
                self.hang(world);
            }
            let may_ask = world.waiting() < REQUESTS_MAX && !world.has_failed();
            if may_ask
                && self.random.chance(1, 4)
                && let Some(op) = workload::draw(world, &mut self.random)
            {
                world.submit(op);
            }
            match self.random.chance(1, 100) {
                true => world.second()?,
                false => drop(world.advance()?),
            }
            if self.crashes && self.random.chance(1, 6 * patience) {
                self.glance(world)?;
            }
        }
        Ok(())
    }

    /// A fault that the format promises to survive: a failed operation of any kind, or a failed sync that takes the
    /// cache with it.
    fn inject(&mut self, world: &mut World) {
        if self.random.chance(1, 6) {
            let fault = Fault::new(Effect::Fail(DeviceError::Io { errno: 5 })).after(self.random.below(20));
            world.note(format!("from now on, of the external snapshot: {fault:?}"));
            world.below.inject(fault.times(1 + self.random.below(3)));
        }
        let after = self.random.below(120);
        let error = match self.random.chance(1, 4) {
            true => DeviceError::NoSpace,
            false => DeviceError::Io { errno: 5 },
        };
        let fault = match self.random.below(8) {
            0 => {
                world.expect_loss();
                Fault::new(Effect::LoseCache).on(OpKind::Sync).after(after / 8)
            }
            1 => Fault::new(Effect::Fail(error)).on(OpKind::Sync).after(after / 8),
            2 => Fault::new(Effect::Fail(error)).on(OpKind::Read).after(after / 4),
            3 => Fault::new(Effect::Delay { completions: 30 }).after(after / 4),
            _ => Fault::new(Effect::Fail(error)).on(OpKind::Write).after(after / 2),
        };
        world.note(format!("from now on: {fault:?}"));
        world.disk.inject(fault.times(1 + self.random.below(2)));
        self.counts.faults += 1;
    }

    /// A read of data or a write to the metadata that does not come back while others come and go: what it leaves
    /// undone has to be waited for, however long.
    fn hang(&mut self, world: &mut World) {
        let after = self.random.below(8);
        let (metadata, data) = world.regions();
        // A journal that moves may come to lie there, and what is appended is waited for by all.
        let fault = match self.random.chance(1, 2) || world.is_growing() {
            true => Fault::new(Effect::Hang).on(OpKind::Read).within(data),
            false => Fault::new(Effect::Hang).on(OpKind::Write).within(metadata),
        };
        let fault = fault.after(after).times(1 + self.random.below(3));
        world.note(format!("from now on: {fault:?}"));
        world.disk.inject(fault);
        self.counts.faults += 1;
    }

    /// What a crash at this moment would leave.
    fn glance(&mut self, world: &World) -> Result<(), Violation> {
        let state = world.disk.state();
        for cut in Cut::ALL {
            if cut == Cut::Reboot && self.random.chance(2, 3) || cut == Cut::Kill && world.is_loss_untold() {
                continue;
            }
            if state.uncertain(cut).is_empty() && self.random.chance(1, 2) {
                continue;
            }
            let (left, fate) = state.crash_at_random(cut, &mut self.random);
            self.counts.count(cut, fate);
            let recovered = world.check(&left, cut, &mut self.random)?;
            if self.random.chance(1, 4) {
                self.interrupt(&world.expected(), &recovered, cut)?;
            }
        }
        Ok(())
    }

    fn interrupt(
        &mut self,
        expected: &Expected<'_>,
        recovered: &Recovered,
        cut: Cut,
    ) -> Result<(), Violation> {
        let checked = recovered.check_interrupted(expected, cut, &mut self.random, self.counts);
        checked.map_err(|violation| violation.during(cut))
    }

    /// A crash that the store has to live on after.
    fn crash(&mut self, world: &mut World) -> Result<(), Violation> {
        let cut = match Cut::draw(&mut self.random) {
            Cut::Kill if world.is_loss_untold() => Cut::Reboot,
            cut => cut,
        };
        let (left, fate) = world.disk.state().crash_at_random(cut, &mut self.random);
        world.note(format!("{cut}"));
        self.counts.count(cut, fate);
        let recovered = world.check(&left, cut, &mut self.random)?;
        world.go_on(recovered);
        Ok(())
    }

    /// An orderly end, itself cut now and then, and the next opening.
    fn close_and_open(&mut self, mut world: World) -> Result<World, Violation> {
        let settled = self.settle(&mut world);
        let mut history = world.history().to_vec();
        history.push("close".into());
        let reopened = settled.and_then(|()| self.reopen(world));
        let mut world = reopened.map_err(|violation| violation.after(&history))?;
        history.into_iter().for_each(|line| world.note(line));
        Ok(world)
    }

    /// Lets everything end that is under way. A store that has failed does not close: it crashes.
    fn settle(&mut self, world: &mut World) -> Result<(), Violation> {
        world.disk.heal();
        world.below.heal();
        world.disk.release();
        world.drain(|_| Ok(()))?;
        if world.has_failed() {
            self.crash(world)?;
        }
        world.read_all()
    }

    fn reopen(&mut self, world: World) -> Result<World, Violation> {
        let closed = world.close()?;
        for _ in 0..if self.crashes { 3 } else { 0 } {
            self.cut_close(&closed)?;
        }
        World::open(&closed.resting, self.random.bits())
    }

    fn cut_close(&mut self, closed: &Closed) -> Result<(), Violation> {
        let Some(step) = closed.steps.get(self.random.index(closed.steps.len().max(1))) else {
            return Ok(());
        };
        let cut = Cut::draw(&mut self.random);
        let (left, fate) = step.crash_at_random(cut, &mut self.random);
        self.counts.count(cut, fate);
        closed.check(&left, cut, &mut self.random)
    }
}
