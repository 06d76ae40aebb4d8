//! [`Levels`]: the arithmetic of a hierarchical timing wheel, whatever its buckets are made of. See
//! [`wheel`](super::wheel) for what levels and buckets are.

/// One tick is 2^10 ns. Deadlines stay exact whatever it is; it decides which timers count as simultaneous.
pub(super) const TICK: u32 = 10;
/// Bits of a digit: a level's occupancy is one word.
pub(super) const DIGIT: u32 = 6;
/// Of a level.
pub(super) const BUCKETS: usize = 1 << DIGIT;
pub(super) const LEVELS: usize = (u64::BITS - TICK).div_ceil(DIGIT) as usize;

/// Timers that have been found due, and wait to be taken: a bucket of its own, after those of the levels.
pub(super) const DUE: u32 = (LEVELS * BUCKETS) as u32;

/// A bucket of a level.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) bucket: u32,
    /// The first tick of the bucket.
    pub(super) start: u64,
}

/// The current tick, and which buckets are not empty.
pub(super) struct Levels {
    /// The current tick: of the latest time that the wheel was told.
    pub(super) tick: u64,
    /// A bit for each level that is not empty.
    pub(super) levels: u32,
    /// A bit for each bucket that is not empty. The last word is for `DUE`.
    pub(super) occupancy: [u64; LEVELS + 1],
}

impl Levels {
    /// All buckets are empty.
    pub(super) const fn new(now_ns: u64) -> Levels {
        Levels { tick: now_ns >> TICK, levels: 0, occupancy: [0; LEVELS + 1] }
    }

    /// Where a timer of a tick belongs, which is not before the current one.
    #[inline]
    pub(super) fn place(&self, tick: u64) -> Place {
        // The lowest digit's bits set nothing but level 0.
        let level = ((tick ^ self.tick) | 1).ilog2() / DIGIT;
        let digits = tick >> (level * DIGIT);
        let bucket = level * BUCKETS as u32 + (digits as u32 & (BUCKETS as u32 - 1));
        Place { bucket, start: digits << (level * DIGIT) }
    }

    /// The bucket with the earliest timers of those that are not in `DUE`.
    #[inline]
    pub(super) fn first(&self) -> Option<Place> {
        let levels = self.levels & ((1 << LEVELS) - 1);
        if levels == 0 {
            return None;
        }
        let level = levels.trailing_zeros();
        let digit = self.occupancy[level as usize].trailing_zeros();
        let shift = level * DIGIT;
        let above = self.tick >> shift >> DIGIT << DIGIT;
        let start = (above | u64::from(digit)) << shift;
        Some(Place { bucket: level * BUCKETS as u32 + digit, start })
    }

    /// A bucket is empty no more.
    #[inline]
    pub(super) fn mark(&mut self, bucket: u32) {
        let level = bucket as usize / BUCKETS;
        self.occupancy[level] |= 1 << (bucket as usize % BUCKETS);
        self.levels |= 1 << level;
    }

    /// A bucket is empty.
    #[inline]
    pub(super) fn unmark(&mut self, bucket: u32) {
        let level = bucket as usize / BUCKETS;
        self.occupancy[level] &= !(1 << (bucket as usize % BUCKETS));
        if self.occupancy[level] == 0 {
            self.levels &= !(1 << level);
        }
    }
}
