//! How long operations take, by kind.
//!
//! It is counted for each operation, so its histogram is one of our own: a count costs some ten instructions, of which
//! hdrhistogram's take eighty. As there, each power of two is divided evenly; into 32, so that a time is known to 3 %.

use super::operation::Work;
use demikernel_runtime::inspect::Latencies;
use demikernel_runtime::time::Instant;

/// Kinds that take about as long.
const KINDS: [&str; 4] = ["read", "write", "flush", "discard"];

/// What takes longer is counted as this: more than a minute, in nanoseconds.
const MOST: u64 = (1 << 36) - 1;

/// Buckets of a power of two: so many bits of a time are kept.
const BITS: u32 = 5;
const BUCKETS: usize = bucket(MOST) + 1;

/// A histogram for each kind, from when the first of that kind is over: each has eight kilobytes.
#[derive(Default)]
pub(super) struct Times([Option<Box<Histogram>>; KINDS.len()]);

struct Histogram {
    counts: [u64; BUCKETS],
    sum: u64,
}

/// The bucket of a time.
#[inline]
const fn bucket(nanos: u64) -> usize {
    // Below 64 each time has its own.
    let shift = (nanos | (1 << BITS)).ilog2() - BITS;
    ((shift as usize) << BITS) + (nanos >> shift) as usize
}

/// The longest time of a bucket.
const fn longest(bucket: usize) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    (((bucket - (shift << BITS)) as u64 + 1) << shift) - 1
}

impl Times {
    /// An operation that was started at `began` is over.
    #[inline]
    pub(super) fn count(&mut self, work: &Work, began: Instant) {
        let nanos = Instant::of_turn().as_nanos().saturating_sub(began.as_nanos());
        let kind = match work {
            Work::Read { .. } | Work::ReadVectored { .. } => 0,
            Work::Write { .. } | Work::WriteDurable { .. } => 1,
            Work::Flush { .. } => 2,
            Work::Discard { .. } | Work::WriteZeroes { .. } => 3,
        };
        let histogram =
            self.0[kind].get_or_insert_with(|| Box::new(Histogram { counts: [0; BUCKETS], sum: 0 }));
        histogram.sum = histogram.sum.wrapping_add(nanos);
        histogram.counts[bucket(nanos.min(MOST))] += 1;
    }

    /// Those that there are.
    pub(super) fn latencies(&self) -> Vec<Latencies> {
        let kinds = KINDS.into_iter().zip(&self.0);
        let kinds = kinds.filter_map(|(name, kind)| kind.as_deref().map(|kind| (name, kind)));
        kinds
            .map(|(name, Histogram { counts, sum })| {
                let buckets = counts.iter().enumerate().filter(|(_, count)| **count > 0);
                let buckets = buckets.map(|(bucket, count)| (longest(bucket), *count)).collect();
                Latencies::new(name, *sum, buckets)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        for bucket in 0..BUCKETS - 1 {
            let (last, next) = (longest(bucket), longest(bucket) + 1);
            assert_eq!((super::bucket(last), super::bucket(next)), (bucket, bucket + 1));
            let width = longest(bucket + 1) - last;
            assert!(width == 1 || width * 32 <= next, "{bucket}");
        }
        assert_eq!((bucket(0), longest(BUCKETS - 1)), (0, MOST));
    }
}
