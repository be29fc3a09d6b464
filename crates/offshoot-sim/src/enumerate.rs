//! Runs that leave nothing to chance: short sequences of steps, cut or made to fail at every device operation.

use crate::counts::Counts;
use crate::disk::{Bounds, Cut, Effect, Fault, OpKind};
use crate::explore::Explorer;
use crate::random::Random;
use crate::setup::Setup;
use crate::steps::Step;
use crate::violation::{Promise, Violation};
use crate::world::{Resting, World};
use offshoot_block::{BlockDevice, DeviceError};
use offshoot_store::Rules;

/// The store that every enumerated run begins with: an lvol with data, its snapshot with data, a clone of that.
#[derive(Debug)]
pub struct Family {
    resting: Resting,
}

/// A fault that strikes once.
#[derive(Clone, Debug)]
struct Strike {
    fault: Fault,
    /// Whether it takes what was cached.
    loses: bool,
    /// Whether it is the external snapshot that is struck.
    below: bool,
}

impl Family {
    /// Makes it.
    ///
    /// # Errors
    /// A promise that is broken before anything has gone wrong.
    pub fn new(setup: Setup, rules: Rules) -> Result<Self, Box<Violation>> {
        let mut world = World::new(setup, rules, 1)?;
        for step in [Step::CreateThin, Step::Write, Step::Snapshot, Step::Clone, Step::Write, Step::Flush] {
            do_step(&mut world, step, |_| Ok(()))?;
        }
        world.read_all()?;
        Ok(Self { resting: world.close()?.resting })
    }

    /// Does some steps one after the other, and looks at every crash between any two completions of the device, those
    /// of the close at the end included. A sequence with a step that comes to nothing is left out.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn every_cut(
        &self,
        steps: &[Step],
        bounds: Bounds,
        counts: &mut Counts,
    ) -> Result<(), Box<Violation>> {
        let mut random = Random::new(seed(steps));
        let mut world = World::open(&self.resting, random.bits())?;
        let mut explorer = Explorer { bounds, random, counts };
        for step in steps {
            let done = do_step(&mut world, *step, |world| explorer.moment(world));
            if !done.map_err(|violation| self.told(violation, steps, &world, explorer.counts))? {
                return Ok(());
            }
        }
        let history = world.history().to_vec();
        let closed = world.close().and_then(|closed| explorer.close(&closed));
        closed.map_err(|violation| {
            explorer.counts.violations += 1;
            Box::new(violation.after(&history).after(&[format!("{steps:?}")]))
        })
    }

    /// Does some steps while one device operation fails, each in its turn, and crashes afterwards.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn every_error(&self, steps: &[Step], counts: &mut Counts) -> Result<(), Box<Violation>> {
        let fails = |error| Fault::new(Effect::Fail(error));
        let strikes = [
            Strike { fault: fails(DeviceError::Io { errno: 5 }), loses: false, below: false },
            Strike { fault: fails(DeviceError::NoSpace), loses: false, below: false },
            Strike { fault: Fault::new(Effect::LoseCache).on(OpKind::Sync), loses: true, below: false },
            Strike { fault: fails(DeviceError::Io { errno: 5 }), loses: false, below: true },
        ];
        for strike in strikes {
            for number in 0.. {
                if !self.one_error(steps, &strike, number, counts)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Says whether the fault has struck: otherwise there were no more operations.
    fn one_error(
        &self,
        steps: &[Step],
        strike: &Strike,
        number: u64,
        counts: &mut Counts,
    ) -> Result<bool, Box<Violation>> {
        let mut random = Random::new(seed(steps) ^ number);
        let mut world = World::open(&self.resting, random.bits())?;
        let Strike { fault, loses, below } = strike.clone();
        let fault = fault.after(number).times(1);
        world.note(format!("{fault:?}{}", if below { " of the external snapshot" } else { "" }));
        if loses {
            world.expect_loss();
        }
        let disk = if below { &world.below } else { &world.disk }.clone();
        disk.inject(fault);
        let done = self.with_error(&mut world, steps, &mut random, counts);
        if below && world.has_failed() {
            let what = Violation::new(Promise::Service, "an external snapshot that fails stops the store");
            return Err(self.told(what, steps, &world, counts));
        }
        let struck = disk.asked().struck > 0;
        counts.faults += u64::from(struck);
        done.map_err(|violation| self.told(violation, steps, &world, counts))?;
        Ok(struck)
    }

    fn with_error(
        &self,
        world: &mut World,
        steps: &[Step],
        random: &mut Random,
        counts: &mut Counts,
    ) -> Result<(), Violation> {
        for step in steps {
            if !do_step(world, *step, |_| Ok(()))? {
                break;
            }
        }
        // Whatever failed, everyone can still read.
        world.disk.heal();
        world.below.heal();
        world.read_all().map_err(|violation| violation.during("after the error"))?;
        let mut explorer = Explorer { bounds: Bounds::FEW, random: random.fork(), counts };
        explorer.moment(world)
    }

    /// Does some steps, compares, and compares again after an orderly close and after a crash.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn every_step(&self, steps: &[Step], counts: &mut Counts) -> Result<(), Box<Violation>> {
        let mut random = Random::new(seed(steps));
        let mut world = World::open(&self.resting, random.bits())?;
        let done = self.plain(&mut world, steps, &mut random, counts);
        if !done.map_err(|violation| self.told(violation, steps, &world, counts))? {
            return Ok(());
        }
        let history = world.history().to_vec();
        let reopened = world.close().and_then(|closed| World::open(&closed.resting, random.bits()));
        reopened.and_then(|mut world| world.read_all()).map_err(|violation| {
            counts.violations += 1;
            Box::new(violation.after(&history).after(&[format!("{steps:?}")]))
        })
    }

    fn plain(
        &self,
        world: &mut World,
        steps: &[Step],
        random: &mut Random,
        counts: &mut Counts,
    ) -> Result<bool, Violation> {
        for step in steps {
            // Something is always under way beside a verb.
            if let Some(op) = Step::FirstWrite.op(world) {
                world.submit(op);
            }
            if !do_step(world, *step, |_| Ok(()))? {
                return Ok(false);
            }
        }
        world.read_all()?;
        for cut in Cut::ALL {
            let (left, fate) = world.disk.state().crash_at_random(cut, random);
            counts.count(cut, fate);
            world.check(&left, cut, random)?;
        }
        Ok(true)
    }

    fn told(
        &self,
        violation: Violation,
        steps: &[Step],
        world: &World,
        counts: &mut Counts,
    ) -> Box<Violation> {
        counts.violations += 1;
        Box::new(violation.after(world.history()).after(&[format!("{steps:?}")]))
    }
}

/// Does a step to its end. Says whether it came to anything.
fn do_step(
    world: &mut World,
    step: Step,
    mut after_each: impl FnMut(&World) -> Result<(), Violation>,
) -> Result<bool, Violation> {
    let Some(op) = step.op(world) else {
        return Ok(false);
    };
    world.submit(op);
    after_each(world)?;
    world.drain(after_each)?;
    if world.disk.outstanding() > 0 {
        return Err(Violation::new(Promise::Service, "the device is not idle when all is done"));
    }
    Ok(true)
}

/// All sequences of some steps of one length, in order.
pub fn sequences(steps: &[Step], len: u32) -> impl Iterator<Item = Vec<Step>> {
    let count = steps.len().pow(len);
    (0..count).map(move |number| {
        let digits = (0..len).map(|digit| number / steps.len().pow(digit) % steps.len());
        digits.map(|digit| steps[digit]).collect()
    })
}

/// A seed of its own for every sequence.
fn seed(steps: &[Step]) -> u64 {
    steps
        .iter()
        .fold(17, |seed: u64, step| crate::random::mix(seed.wrapping_mul(31).wrapping_add(*step as u64)))
}
