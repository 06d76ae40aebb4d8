//! The cheapest reading of time there is, in units that nobody knows until they are compared with a clock.

use super::clock::kernel_ns;
use super::counter;
use std::sync::atomic::{AtomicU64, Ordering};

/// A moment, in ticks: those of the processor's counter where there is one, else nanoseconds.
#[inline]
pub(crate) fn now() -> u64 {
    if counter::EXISTS { counter::ticks() } else { kernel_ns() }
}

/// Nanoseconds per tick, with [`PLACES`] binary places; 0 until it was measured. Measured once in a process, so
/// that the same ticks are always the same nanoseconds. One word on its own, so relaxed access suffices.
static RATE: AtomicU64 = AtomicU64::new(0);

const PLACES: u32 = 32;

/// Over how many nanoseconds the rate is measured at least: the two readings of a stamp are some 100 ns apart at
/// worst, unless the thread is preempted between them.
const ENOUGH: u64 = 50_000_000;

/// The same moment in ticks and in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    ticks: u64,
    ns: u64,
}

impl Stamp {
    pub(crate) fn now() -> Stamp {
        Stamp { ticks: now(), ns: kernel_ns() }
    }

    /// How many nanoseconds so many ticks are, by what has passed since the stamp unless it is known better.
    pub(crate) fn nanos(self, ticks: u64) -> u64 {
        if !counter::EXISTS {
            return ticks;
        }
        let ns = (u128::from(ticks) * u128::from(self.rate())) >> PLACES;
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    fn rate(self) -> u64 {
        let known = RATE.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let now = Stamp::now();
        let (ticks, ns) = (now.ticks.saturating_sub(self.ticks), now.ns.saturating_sub(self.ns));
        let rate = (u128::from(ns) << PLACES) / u128::from(ticks.max(1));
        let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
        if ns < ENOUGH {
            return rate;
        }
        // Whoever was first has said it for all.
        match RATE.compare_exchange(0, rate, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => rate,
            Err(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn ticks_become_the_time_that_has_passed() {
        let (stamp, ticks, start) = (Stamp::now(), now(), Instant::now());
        std::thread::sleep(Duration::from_millis(60));
        let (passed, real) = (now() - ticks, start.elapsed().as_nanos() as u64);
        let nanos = stamp.nanos(passed);
        assert!(nanos.abs_diff(real) < real / 5, "{nanos} instead of {real}");
        assert_eq!(stamp.nanos(passed), nanos, "the rate is measured once");
    }
}
