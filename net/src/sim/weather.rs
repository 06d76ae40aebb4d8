//! Links as a seed has them.

use super::link::{Burst, LinkConfig};
use demikernel_runtime::random::Random;
use std::time::Duration;

impl LinkConfig {
    /// The links of a test with this seed.
    ///
    /// With seed 0 they are good: some delay, some jitter, and nothing is lost. Every other seed draws delay and
    /// bandwidth of a local or a wide network, and has each fault (loss alone and in bursts, reordering, doubles,
    /// altered bits) with some probability, so that a few dozen seeds meet most of their combinations.
    ///
    /// ```
    /// use demikernel_net::sim::LinkConfig;
    ///
    /// assert_eq!(LinkConfig::from_seed(0).loss, 0.0);
    /// assert_eq!(LinkConfig::from_seed(7), LinkConfig::from_seed(7));
    /// assert!((1..20).any(|seed| LinkConfig::from_seed(seed).loss > 0.0));
    /// ```
    pub fn from_seed(seed: u64) -> LinkConfig {
        let mut config = LinkConfig {
            delay: Duration::from_micros(100),
            jitter: Duration::from_micros(50),
            ..LinkConfig::default()
        };
        if seed == 0 {
            return config;
        }
        let mut random = Random::new(seed, 0x7765_6174_6865_7200);
        // From 50 us to 51 ms, as probable in each power of two.
        config.delay = Duration::from_micros(50 << random.below(11));
        config.jitter = config.delay.mul_f64(share(&mut random));
        if random.chance(0.5) {
            // From 1 Mb/s to 1 Gb/s, with a queue of at least a few packets, and of at most the bytes of 100 ms.
            let bandwidth = 1_000_000 << random.below(11);
            config.bandwidth = Some(bandwidth);
            config.queue = Some((bandwidth as f64 / 80.0 * share(&mut random)) as usize + 10_000);
        }
        if random.chance(0.5) {
            config.loss = 0.05 * share(&mut random);
        }
        if random.chance(0.25) {
            config.burst =
                Some(Burst { begin: 0.005 * share(&mut random), end: 0.1 + 0.4 * share(&mut random) });
        }
        if random.chance(0.25) {
            config.reorder = 0.1 * share(&mut random);
            config.reorder_delay = config.delay.mul_f64(2.0 * share(&mut random));
        }
        if random.chance(0.25) {
            config.duplicate = 0.05 * share(&mut random);
        }
        if random.chance(0.25) {
            config.corrupt = 0.02 * share(&mut random);
        }
        config
    }
}

/// Anything from 0 to 1.
fn share(random: &mut Random) -> f64 {
    random.below(1 << 32) as f64 / (1u64 << 32) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_dozen_seeds_meet_every_fault_and_every_absence_of_one() {
        let all: Vec<_> = (1..50).map(LinkConfig::from_seed).collect();
        let faults: [fn(&LinkConfig) -> bool; 6] = [
            |link| link.bandwidth.is_some(),
            |link| link.loss > 0.0,
            |link| link.burst.is_some(),
            |link| link.reorder > 0.0,
            |link| link.duplicate > 0.0,
            |link| link.corrupt > 0.0,
        ];
        for (number, fault) in faults.iter().enumerate() {
            let count = all.iter().filter(|link| fault(link)).count();
            assert!((3..47).contains(&count), "fault {number} in {count} of {}", all.len());
        }
        assert!(all.iter().all(|link| link.loss <= 0.05 && link.delay <= Duration::from_millis(52)));
    }
}
