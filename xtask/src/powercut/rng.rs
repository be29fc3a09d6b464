//! Numbers that a seed determines: what is drawn inside the guest and outside of it can be drawn again.

/// splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// The sequence of a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence of its own for part `number` of something that has a seed: what is drawn for one part does not
    /// depend on how much was drawn for the others.
    pub(super) fn of_part(seed: u64, number: u64) -> Self {
        Self(mix(seed ^ mix(number.wrapping_add(1))))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `limit`, which is not 0. Slightly uneven, as no test minds.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// An index into something of `len` elements, at least one.
    #[expect(clippy::cast_possible_truncation, reason = "below a usize")]
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// One of several values, at least one.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}

/// Spreads a number over all bits.
fn mix(number: u64) -> u64 {
    let mut word = number;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_part_determine_a_sequence() {
        let draw = |mut rng: Rng| [rng.next(), rng.next(), rng.next()];
        assert_eq!(draw(Rng::new(7)), draw(Rng::new(7)));
        assert_ne!(draw(Rng::new(7)), draw(Rng::new(8)));
        assert_eq!(draw(Rng::of_part(7, 1)), draw(Rng::of_part(7, 1)));
        assert_ne!(draw(Rng::of_part(7, 1)), draw(Rng::of_part(7, 2)));
        assert_ne!(draw(Rng::of_part(7, 1)), draw(Rng::of_part(8, 1)));
    }
}
