//! Choices that a seed reproduces.

/// A stream of numbers: the generator SplitMix64 of Steele, Lea and Flood.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for each seed, part and step, so that what one consumes changes nothing for the others.
    pub(crate) fn new(seed: u64, part: Part, step: u64) -> Self {
        let mut random = Self(seed);
        for word in [part as u64, step] {
            random.0 = random.next() ^ word;
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Evenly from `0..end`. A bias of one in 2^40 does not matter here.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "there is nothing to choose from");
        usize::try_from(self.next() % end as u64).expect("less than a usize")
    }

    /// Evenly between two values, both included.
    pub(crate) fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    /// From 1 to 2^`bits`, each power of two as likely as the next: small values often, large ones now and then.
    pub(crate) fn magnitude(&mut self, bits: u32) -> usize {
        let end = 1 << self.between(0, bits as usize);
        self.between(end / 2 + end % 2, end)
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Who makes choices.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// The shape of the store.
    Store = 1,
    /// The verbs of a round.
    Verbs,
    /// The course of a round: when to kill, and what to look at first.
    Course,
    /// The requests of a round.
    Load,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let take = |seed, part, step| {
            let mut random = Random::new(seed, part, step);
            [random.next(), random.next(), random.next()]
        };
        assert_eq!(take(1, Part::Load, 2), take(1, Part::Load, 2));
        let all =
            [take(1, Part::Load, 2), take(2, Part::Load, 2), take(1, Part::Verbs, 2), take(1, Part::Load, 3)];
        for (position, one) in all.iter().enumerate() {
            assert!(!all[..position].contains(one), "{position}");
        }
    }

    #[test]
    fn magnitudes_stay_in_range() {
        let mut random = Random::new(1, Part::Store, 0);
        let drawn: Vec<usize> = (0..10_000).map(|_| random.magnitude(4)).collect();
        assert!((1..=16).all(|value| drawn.contains(&value)));
        assert!(drawn.iter().all(|value| (1..=16).contains(value)));
    }
}
