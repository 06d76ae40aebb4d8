//! How long operations take, by kind.

use super::operation::Work;
use demikernel_runtime::inspect::Latencies;
use demikernel_runtime::time::Instant;
use hdrhistogram::Histogram;

/// Kinds that take about as long.
const KINDS: [&str; 4] = ["read", "write", "flush", "discard"];

/// What takes longer is counted as this: a minute, in nanoseconds.
const MOST: u64 = 60_000_000_000;

/// Two digits of each time are kept.
const DIGITS: u8 = 2;

/// A histogram for each kind, from when the first of that kind is over: each has some tens of kilobytes.
#[derive(Default)]
pub(super) struct Times([Option<Box<Kind>>; KINDS.len()]);

struct Kind {
    histogram: Histogram<u64>,
    sum: u64,
}

impl Kind {
    fn new() -> Box<Kind> {
        let histogram = Histogram::new_with_max(MOST, DIGITS).expect("the bounds are valid");
        Box::new(Kind { histogram, sum: 0 })
    }
}

impl Times {
    /// An operation that was started at `began` is over.
    #[inline]
    pub(super) fn count(&mut self, work: &Work, began: Instant) {
        let nanos = Instant::now().as_nanos().saturating_sub(began.as_nanos());
        let kind = match work {
            Work::Read { .. } | Work::ReadVectored { .. } => 0,
            Work::Write { .. } | Work::WriteDurable { .. } => 1,
            Work::Flush { .. } => 2,
            Work::Discard { .. } | Work::WriteZeroes { .. } => 3,
        };
        let kind = self.0[kind].get_or_insert_with(Kind::new);
        kind.sum = kind.sum.saturating_add(nanos);
        kind.histogram.saturating_record(nanos);
    }

    /// Those that there are.
    pub(super) fn latencies(&self) -> Vec<Latencies> {
        let kinds = KINDS.into_iter().zip(&self.0);
        let kinds = kinds.filter_map(|(name, kind)| kind.as_ref().map(|kind| (name, kind)));
        kinds
            .map(|(name, kind)| {
                let buckets = kind.histogram.iter_recorded();
                let buckets =
                    buckets.map(|step| (step.value_iterated_to(), step.count_since_last_iteration()));
                Latencies::new(name, kind.sum, buckets.collect())
            })
            .collect()
    }
}
