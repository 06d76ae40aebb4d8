//! Randomness that is all in the seed.

use std::time::Duration;

/// A generator (SplitMix64) of which every draw follows from the seed. For simulations: its draws can be foreseen.
///
/// ```
/// use demikernel_runtime::random::Random;
///
/// let (mut one, mut two) = (Random::new(7, 1), Random::new(7, 1));
/// assert_eq!(one.below(100), two.below(100));
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit of `x` over all bits of the result.
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Random {
    /// A generator for one purpose: those of different purposes are independent, so that a change in how
    /// one is used leaves what the others draw as it was.
    pub fn new(seed: u64, purpose: u64) -> Random {
        Random(mix(seed.wrapping_add(STEP)) ^ mix(purpose.wrapping_mul(STEP)))
    }

    /// Any number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is not an iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// One of `0..count`, which is not empty (else it is 0).
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(count)) >> 64) as u64
    }

    /// Whether something of this probability happens. What never or always does takes no draw.
    pub fn chance(&mut self, probability: f64) -> bool {
        if probability >= 1.0 {
            return true;
        }
        probability > 0.0 && (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64) < probability
    }

    /// At most `longest`.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1);
        match longest {
            0 => Duration::ZERO,
            _ => Duration::from_nanos(self.below(longest + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, purpose: u64) -> Vec<u64> {
        let mut random = Random::new(seed, purpose);
        (0..100).map(|_| random.next()).collect()
    }

    #[test]
    fn draws_follow_from_the_seed_and_the_purpose() {
        assert_eq!(draws(1, 1), draws(1, 1));
        for (seed, purpose) in [(0, 1), (2, 1), (1, 0), (1, 2), (u64::MAX, 1)] {
            let (one, other) = (draws(1, 1), draws(seed, purpose));
            assert!(one.iter().all(|draw| !other.contains(draw)), "{seed} {purpose}");
        }
    }

    #[test]
    fn draws_are_spread_evenly_over_their_range() {
        let mut random = Random::new(7, 0);
        let mut counts = [0; 10];
        for _ in 0..10_000 {
            counts[random.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1100).contains(&count)), "{counts:?}");
        assert_eq!(random.below(1), 0);
    }

    #[test]
    fn chances_are_as_said() {
        let mut random = Random::new(7, 0);
        let happened = (0..10_000).filter(|_| random.chance(0.25)).count();
        assert!((2400..2600).contains(&happened), "{happened}");
        for never in [0.0, -1.0, f64::NAN] {
            assert!((0..100).all(|_| !random.chance(never)));
        }
        assert!((0..100).all(|_| random.chance(1.0) && random.chance(7.0)));
    }

    #[test]
    fn durations_reach_both_ends_of_their_range() {
        let mut random = Random::new(7, 0);
        let longest = Duration::from_nanos(3);
        let drawn: Vec<u64> = (0..100).map(|_| random.up_to(longest).as_nanos() as u64).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&0), Some(&3)));
        assert_eq!(random.up_to(Duration::ZERO), Duration::ZERO);
        random.up_to(Duration::MAX);
    }
}
