//! How long something took, as a histogram.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// A histogram of times, in nanoseconds, as it is handed out: of each bucket the largest time that it counts, and
/// how many it has.
///
/// ```
/// use demikernel_runtime::inspect::Latencies;
/// use std::time::Duration;
///
/// let latencies = Latencies::new("read", 60_000, vec![(20_000, 2), (1000, 9), (5000, 0)]);
/// assert_eq!(latencies.count(), 11);
/// assert_eq!(latencies.quantile(0.5), Some(Duration::from_micros(1)));
/// assert_eq!(latencies.quantile(1.0), Some(Duration::from_micros(20)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latencies {
    name: Cow<'static, str>,
    /// Of all that were counted.
    sum: u64,
    /// In ascending order, none empty.
    buckets: Vec<(u64, u64)>,
}

impl Latencies {
    /// Of buckets in any order; `sum` is that of all times.
    pub fn new(name: impl Into<Cow<'static, str>>, sum: u64, mut buckets: Vec<(u64, u64)>) -> Latencies {
        buckets.retain(|&(_, count)| count > 0);
        buckets.sort_unstable();
        Latencies { name: name.into(), sum, buckets }
    }

    /// Of what.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// All times together, in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The buckets that are not empty, in ascending order: the largest time in nanoseconds that each counts, and
    /// how many.
    pub fn buckets(&self) -> &[(u64, u64)] {
        &self.buckets
    }

    /// The time within which this share of all was done, as exact as the buckets are. `None` of nothing.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0u64;
        let reached = self.buckets.iter().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            seen >= wanted
        });
        reached.map(|(most, _)| Duration::from_nanos(*most))
    }

    /// What was counted since `before`, an earlier state of the same.
    pub fn since(&self, before: &Latencies) -> Latencies {
        let earlier =
            |most: u64| before.buckets.iter().find(|(other, _)| *other == most).map_or(0, |it| it.1);
        let buckets = self.buckets.iter().map(|&(most, count)| (most, count.saturating_sub(earlier(most))));
        Latencies::new(self.name.clone(), self.sum.saturating_sub(before.sum), buckets.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_meanwhile_is_the_difference() {
        let before = Latencies::new("x", 10, vec![(1, 2), (8, 1)]);
        let after = Latencies::new("x", 36, vec![(1, 2), (8, 3), (16, 1)]);
        let since = after.since(&before);
        assert_eq!((since.buckets(), since.sum()), (&[(8, 2), (16, 1)][..], 26));
        assert_eq!(Latencies::default().quantile(0.5), None);
    }
}
