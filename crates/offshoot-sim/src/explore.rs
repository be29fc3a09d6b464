//! Every crash of one moment, within bounds.

use crate::check::{Expected, Recovered};
use crate::counts::Counts;
use crate::disk::{Bounds, Cut, DiskState, Subset};
use crate::power::Power;
use crate::random::Random;
use crate::violation::Violation;
use crate::world::{Closed, World};

/// Of how many states one also has its recovery cut short.
const INTERRUPTED_ONE_OF: u64 = 12;

/// Goes through crashes and counts them.
#[derive(Debug)]
pub(crate) struct Explorer<'a> {
    pub(crate) bounds: Bounds,
    pub(crate) random: Random,
    pub(crate) counts: &'a mut Counts,
}

impl Explorer<'_> {
    /// Every crash of this moment in the life of a store.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub(crate) fn moment(&mut self, world: &World) -> Result<(), Violation> {
        self.every_crash(&world.disk.state(), &world.expected(), &world.power)
    }

    /// Every crash between the steps of a close.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub(crate) fn close(&mut self, closed: &Closed) -> Result<(), Violation> {
        for step in &closed.steps {
            let explored = self.every_crash(step, &closed.expected(), &closed.resting.power);
            explored.map_err(|violation| violation.during("while closing"))?;
        }
        Ok(())
    }

    fn every_crash(
        &mut self,
        state: &DiskState,
        expected: &Expected<'_>,
        power: &Power,
    ) -> Result<(), Violation> {
        for cut in Cut::ALL {
            let uncertain = state.uncertain(cut);
            let subsets = Subset::of_changes(&uncertain, self.bounds, &mut self.random);
            for subset in subsets {
                let (left, fate) = state.crash(cut, |change, sector| subset.keeps(change, sector));
                self.counts.count(cut, fate);
                let mut power = power.clone();
                power.after(cut);
                let checked = expected.check(&left, cut, power, &mut self.random);
                let recovered = checked.map_err(|violation| {
                    let uncertain =
                        uncertain.iter().map(|change| format!("{:#x}+{:#x}", change.offset, change.len));
                    let uncertain: Vec<String> = uncertain.collect();
                    violation.during(format!("{cut} that kept {subset:?} of {uncertain:?}"))
                })?;
                self.now_and_then_interrupt(&recovered, expected, cut)?;
            }
        }
        Ok(())
    }

    fn now_and_then_interrupt(
        &mut self,
        recovered: &Recovered,
        expected: &Expected<'_>,
        cut: Cut,
    ) -> Result<(), Violation> {
        if !self.random.chance(1, INTERRUPTED_ONE_OF) {
            return Ok(());
        }
        let checked = recovered.check_interrupted(expected, cut, &mut self.random, self.counts);
        checked.map_err(|violation| violation.during(cut))
    }
}
