//! [`Deadlines`]: one deadline for each of many numbered things, for devices that have timers of their own.
//!
//! A [wheel](super::wheel) whose buckets are made of chunks rather than of linked entries: with very many deadlines no
//! cache holds them, and a list that leads from one to the next waits for memory at each. A deadline is put into the
//! chunk that was written to last, and a bucket that has come is read from one end to the other. What is known by number
//! is a word: where the entry is. So a number without a deadline takes four bytes, and one with a deadline about twenty.

use super::Instant;
use super::levels::{BUCKETS, DUE, Levels, TICK};

mod chunks;

use chunks::{Chunks, Entry};

/// How many entries of a bucket [`Deadlines::next`] looks at to give the exact time.
const LOOK: usize = 16;

/// A deadline for each number, of which the earliest is found at once: a hierarchical timing wheel.
///
/// Setting, moving and clearing one costs some nanoseconds however many there are, and allocates only when there are more
/// than before, or a number is larger. It reads no clock.
///
/// ```
/// use demikernel_runtime::time::{Deadlines, Instant};
///
/// let at = Instant::from_nanos;
/// let mut deadlines = Deadlines::new(at(0));
/// deadlines.set(7, at(3_000));
/// deadlines.set(9, at(2_000));
/// deadlines.set(7, at(1_000));
/// assert_eq!(deadlines.next(), Some(at(1_000)));
/// assert_eq!(deadlines.expire(at(1_500)), Some(7));
/// assert_eq!(deadlines.expire(at(1_500)), None);
/// ```
pub struct Deadlines {
    levels: Levels,
    /// Before this time (in nanoseconds) there is nothing to do.
    horizon: u64,
    chunks: Chunks,
}

impl Deadlines {
    /// No deadlines yet; the time is not before `now`.
    pub fn new(now: Instant) -> Deadlines {
        Deadlines { levels: Levels::new(now.as_nanos()), horizon: u64::MAX, chunks: Chunks::new() }
    }

    /// Sets the deadline of a number, in place of the one that it may have.
    #[inline]
    pub fn set(&mut self, number: u32, deadline: Instant) {
        self.clear(number);
        let when = deadline.as_nanos();
        let place = self.levels.place((when >> TICK).max(self.levels.tick));
        let from = if place.bucket < BUCKETS as u32 { when } else { place.start << TICK };
        self.horizon = self.horizon.min(from);
        self.chunks.reserve(number);
        self.add(place.bucket, Entry { when, number });
    }

    /// Forgets the deadline of a number.
    #[inline]
    pub fn clear(&mut self, number: u32) {
        if let Some(emptied) = self.chunks.remove(number) {
            self.levels.unmark(emptied);
        }
    }

    /// Forgets one deadline that is due, and returns its number: none before its time, and in the order of time to
    /// about a microsecond.
    #[inline]
    pub fn expire(&mut self, now: Instant) -> Option<u32> {
        let now_ns = now.as_nanos();
        if now_ns < self.horizon {
            // No bucket begins between the current tick and the new one, so all keep their places.
            self.levels.tick = self.levels.tick.max(now_ns >> TICK);
            return None;
        }
        self.turn(now_ns)
    }

    /// When to [`expire`](Self::expire) next: the earliest deadline, or where very many are about equally far away,
    /// a time before it.
    #[inline]
    pub fn next(&self) -> Option<Instant> {
        let at = if let Some(due) = self.chunks.last(DUE) {
            due.when
        } else {
            let place = self.levels.first()?;
            self.earliest_of(place.bucket).unwrap_or(place.start << TICK).max(self.horizon)
        };
        Some(Instant::from_nanos(at))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Moves on to the next that is due, or else to `now_ns`.
    fn turn(&mut self, now_ns: u64) -> Option<u32> {
        let now = (now_ns >> TICK).max(self.levels.tick);
        loop {
            if let Some(number) = self.take(DUE) {
                return Some(number);
            }
            let first = self.levels.first();
            let Some(place) = first.filter(|place| place.start <= now) else {
                self.levels.tick = now;
                self.horizon = first.map_or(u64::MAX, |place| place.start << TICK);
                return None;
            };
            // As this is the first bucket, nothing is between the current tick and its beginning.
            self.levels.tick = place.start;
            if let Some(only) = self.chunks.only(place.bucket)
                && only.when <= now_ns
            {
                // It is the earliest of all: no need to go level by level.
                return self.take(place.bucket);
            }
            if place.bucket >= BUCKETS as u32 {
                self.cascade(place.bucket);
            } else if place.start < now {
                // All of a past tick is due.
                return self.take(place.bucket);
            } else if let Some(later) = self.sift(place.bucket, now_ns) {
                self.horizon = later;
                return None;
            }
        }
    }

    /// Moves what is in a bucket above level 0 to lower levels, now that the current tick is its first.
    fn cascade(&mut self, bucket: u32) {
        let mut entries = self.chunks.detach(bucket);
        self.levels.unmark(bucket);
        while let Some(entry) = self.chunks.next_of(&mut entries) {
            self.add(self.levels.place(entry.when >> TICK).bucket, entry);
        }
    }

    /// Moves what is due in the current tick's bucket to `DUE`. If nothing is, the earliest deadline there.
    fn sift(&mut self, bucket: u32, now_ns: u64) -> Option<u64> {
        let later = self.chunks.entries(bucket).map(|entry| entry.when).min().filter(|&when| when > now_ns);
        if later.is_some() {
            return later;
        }
        let mut entries = self.chunks.detach(bucket);
        self.levels.unmark(bucket);
        while let Some(entry) = self.chunks.next_of(&mut entries) {
            self.add(if entry.when <= now_ns { DUE } else { bucket }, entry);
        }
        None
    }

    /// The earliest deadline in a bucket, if few enough are in it.
    fn earliest_of(&self, bucket: u32) -> Option<u64> {
        let mut entries = self.chunks.entries(bucket);
        let earliest = entries.by_ref().take(LOOK).map(|entry| entry.when).min();
        earliest.filter(|_| entries.next().is_none())
    }

    #[inline]
    fn add(&mut self, bucket: u32, entry: Entry) {
        if self.chunks.push(bucket, entry) {
            self.levels.mark(bucket);
        }
    }

    /// Takes one out of a bucket.
    #[inline]
    fn take(&mut self, bucket: u32) -> Option<u32> {
        let (entry, is_empty) = self.chunks.pop(bucket)?;
        if is_empty {
            self.levels.unmark(bucket);
        }
        Some(entry.number)
    }
}

impl std::fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deadlines").field("next", &self.next()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = 0..200_u32;
        prop_oneof![
            (number.clone(), 0..1_u64 << 36).prop_map(|(number, after)| Step::Set(number, after)),
            (number.clone(), 0..5_000_u64).prop_map(|(number, after)| Step::Set(number, after)),
            number.prop_map(Step::Clear),
            (0..1_u64 << 30).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn they_expire_as_those_of_a_map_do(steps in prop::collection::vec(step(), 1..200)) {
            let mut now = 5_000_000;
            let mut deadlines = Deadlines::new(Instant::from_nanos(now));
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(number, after) => {
                        deadlines.set(number, Instant::from_nanos(now + after));
                        model.insert(number, now + after);
                    }
                    Step::Clear(number) => {
                        deadlines.clear(number);
                        model.remove(&number);
                    }
                    Step::Pass(time) => {
                        now += time;
                        while let Some(number) = deadlines.expire(Instant::from_nanos(now)) {
                            let deadline = model.remove(&number);
                            prop_assert!(deadline.is_some_and(|deadline| deadline <= now));
                        }
                        prop_assert!(model.values().all(|&deadline| deadline > now));
                    }
                }
                prop_assert_eq!(deadlines.is_empty(), model.is_empty());
                let earliest = model.values().min().copied();
                let next = deadlines.next().map(Instant::as_nanos);
                prop_assert_eq!(next.is_some(), earliest.is_some());
                prop_assert!(next <= earliest);
            }
        }
    }
}
