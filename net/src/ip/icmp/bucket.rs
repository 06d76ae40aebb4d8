//! Token buckets.

use demikernel_runtime::time::Instant;

/// How often something may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// A token bucket as one instant: when it will have been full (the generic cell rate algorithm).
///
/// ```
/// use demikernel_net::ip::icmp::{Bucket, Rate};
/// use demikernel_runtime::time::{Duration, Instant};
///
/// let rate = Rate { per_second: 1, burst: 2 };
/// let now = Instant::from_nanos(0);
/// let mut bucket = Bucket::full();
/// assert!(bucket.take(now, rate) && bucket.take(now, rate) && !bucket.take(now, rate));
/// assert!(bucket.take(now + Duration::from_secs(1), rate));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// As after a long pause.
    #[must_use]
    pub const fn full() -> Bucket {
        Bucket { full_at: 0 }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant, rate: Rate) -> bool {
        if rate.per_second == 0 || rate.burst == 0 {
            return false;
        }
        let interval = 1_000_000_000 / u64::from(rate.per_second);
        let now = now.as_nanos();
        let full_at = self.full_at.max(now).saturating_add(interval);
        if full_at - now > interval.saturating_mul(u64::from(rate.burst)) {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rate_of_nothing_is_never() {
        let now = Instant::from_nanos(5);
        assert!(!Bucket::full().take(now, Rate { per_second: 0, burst: 5 }));
        assert!(!Bucket::full().take(now, Rate { per_second: 5, burst: 0 }));
    }

    proptest! {
        #[test]
        fn no_interval_has_more_than_the_rate_and_the_burst(
            gaps in prop::collection::vec(0u64..400_000_000, 1..200), per_second in 1u32..20, burst in 1u32..10,
        ) {
            let rate = Rate { per_second, burst };
            let mut bucket = Bucket::full();
            let (mut now, mut taken) = (0, 0u64);
            for gap in &gaps {
                now += gap;
                taken += u64::from(bucket.take(Instant::from_nanos(now), rate));
            }
            // Intervals are cut to whole nanoseconds.
            let allowed = u64::from(burst) + now * u64::from(per_second) / 1_000_000_000 + 1;
            prop_assert!(taken <= allowed, "{taken} of {allowed}");
            prop_assert!(taken >= (gaps.len() as u64).min(burst.into()));
        }
    }
}
