//! The timers of one runtime, by deadline: a hierarchical timing wheel.
//!
//! Deadlines are kept in ticks of 1024 ns, written with nine digits of six bits, which is all of `u64` nanoseconds.
//! A timer is in the level of the highest digit in which its deadline differs from the current tick, and there in
//! the bucket of that digit:
//!
//! ```text
//!   level      0         1          2          3          4          5        6        7        8
//!   bucket     1 us      66 us      4 ms       268 ms     17 s       18 min   20 h     52 d     9 years
//!   level's    66 us     4 ms       268 ms     17 s       18 min     20 h     52 d     9 years  584 years
//! ```
//!
//! So all timers of a level are due before all timers of the next one, and the first bucket of the lowest level that
//! is not empty, found with two count-trailing-zeros, holds the earliest. When time reaches a bucket above level 0,
//! its timers move to lower levels, in their order: timers of one tick always expire in the order in which they were
//! inserted, since a tick's bucket can be inserted into directly only after what was in the bucket above has moved
//! down. A timer moves at most once per level, and seldom through all.
//!
//! Within the current tick the deadlines themselves are compared, so no timer is ever early.
//!
//! Nanoseconds of CPU time per timer, for wheels of other proportions; 100,000 timers in slots of 64 bytes, inserted
//! and cancelled 10 to 600 s before their deadlines, in order and at random, or expired at deadlines spread over
//! 100 ms, by an executor that looks every 1 us, 20 us or 1 ms:
//!
//! | tick   | buckets per level | insert | cancel   | expire, 1 us | 20 us | 1 ms |
//! |--------|-------------------|--------|----------|--------------|-------|------|
//! | 1 us   | 64                | 3.5    | 2.3, 3.9 | 56           | 38    | 39   |
//! | 1 us   | 32                | 3.3    | 2.6, 4.0 | 62           | 48    | 46   |
//! | 1 us   | 128 (`u128`)      | 3.4    | 2.8, 4.0 | 63           | 55    | 56   |
//! | 256 ns | 64                | 3.4    | 2.7, 4.4 | 52           | 37    | 36   |
//! | 16 us  | 64                | 3.5    | 3.4, 4.4 | 74           | 37    | 29   |
//! | 66 us  | 64                | 3.5    | 3.4, 4.8 | 122          | 44    | 27   |
//!
//! These are the fastest of seven runs. Expiry waits for memory: with other programs in the shared cache all of its
//! figures double or triple, and differences of a third between rows mean nothing. What remains in every run: the
//! proportions hardly matter for what is frequent (inserting and cancelling timeouts), and ticks of 66 us lose in
//! comparisons within the tick what they save in levels. So a level is as wide as a word, which is simplest, and a
//! tick of 1 us is as short as two deadlines can be apart and still be told apart by a thread that wakes up.
//!
//! The list nodes belong to the timers' owners (they are in operation slots), so inserting and removing neither
//! allocate nor search.

use super::levels::{BUCKETS, DUE, Levels, TICK};
#[cfg(test)]
use super::levels::{DIGIT, LEVELS};
use std::ptr::{self, NonNull};

#[cfg(test)]
mod tests;

/// The bucket of a node that is in no list.
const NOWHERE: u32 = u32::MAX;

/// How many timers of a bucket [`Wheel::next_deadline`] looks at to give the exact time.
const LOOK: usize = 16;

/// A timer's place in the lists of a [`Wheel`].
#[repr(C)]
#[derive(Debug)]
pub(crate) struct TimerNode {
    /// Circular: the first one's is the last one. Both links are garbage while `bucket` is `NOWHERE`.
    prev: *mut TimerNode,
    next: *mut TimerNode,
    /// The deadline in nanoseconds.
    when: u64,
    bucket: u32,
}

const _: () = assert!(size_of::<TimerNode>() <= 32);

impl TimerNode {
    /// A node that is in no wheel.
    pub(crate) const fn new() -> TimerNode {
        TimerNode { prev: ptr::null_mut(), next: ptr::null_mut(), when: 0, bucket: NOWHERE }
    }

    /// The deadline in nanoseconds.
    pub(crate) fn when(&self) -> u64 {
        self.when
    }

    /// Whether it is in a wheel, so may neither move nor go away.
    pub(crate) fn is_linked(&self) -> bool {
        self.bucket != NOWHERE
    }
}

/// The wheel.
///
/// Invariants, between calls:
/// - every node in a list is valid, and accessed by the wheel alone (the contract of [`Wheel::insert`]);
/// - `heads[b]` is the first node of bucket `b`'s circular list, or null, as `levels` says;
/// - the tick of a node in level `l` (its deadline's, or the tick at which it was inserted, if it was overdue then)
///   agrees with `tick` in all digits above `l`, is greater in digit `l` if `l > 0`, not less if `l == 0`;
/// - `horizon` is at most every deadline, and at most the beginning of every occupied bucket above level 0.
pub(crate) struct Wheel {
    levels: Levels,
    /// Before this time (in nanoseconds) there is nothing to do.
    horizon: u64,
    len: usize,
    heads: [*mut TimerNode; DUE as usize + 1],
}

impl Wheel {
    /// An empty wheel.
    pub(crate) const fn new(now_ns: u64) -> Wheel {
        Wheel {
            levels: Levels::new(now_ns),
            horizon: u64::MAX,
            len: 0,
            heads: [ptr::null_mut(); DUE as usize + 1],
        }
    }

    /// Whether no timer is in the wheel.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a timer in, to expire at `when_ns`; at the next call of [`Wheel::expire`] if that is past.
    ///
    /// # Safety
    /// The node is in no wheel. Until it has been taken out again, by [`Wheel::remove`] or [`Wheel::expire`] of this
    /// wheel, it stays valid, stays where it is, and nobody else writes to it or holds a `&mut` to it.
    #[inline]
    pub(crate) unsafe fn insert(&mut self, node: NonNull<TimerNode>, when_ns: u64) {
        let tick = (when_ns >> TICK).max(self.levels.tick);
        let place = self.levels.place(tick);
        let from = if place.bucket < BUCKETS as u32 { when_ns } else { place.start << TICK };
        self.horizon = self.horizon.min(from);
        self.len += 1;
        // SAFETY: the caller vouches that the node is valid and in no list.
        unsafe {
            debug_assert!(!node.as_ref().is_linked());
            (*node.as_ptr()).when = when_ns;
            self.append(node.as_ptr(), place.bucket);
        }
    }

    /// Takes a timer out before it has expired; `false` if it is not in the wheel (any more).
    ///
    /// # Safety
    /// The node is valid, and if it is in a wheel, it is in this one.
    #[inline]
    pub(crate) unsafe fn remove(&mut self, node: NonNull<TimerNode>) -> bool {
        // SAFETY: the caller vouches for the node, and that if it is in a list, that is one of ours.
        unsafe {
            if !node.as_ref().is_linked() {
                return false;
            }
            self.unlink(node.as_ptr());
        }
        self.len -= 1;
        true
    }

    /// Takes out one timer whose deadline is at or before `now_ns`, `None` if there is none; in the order of their
    /// ticks, and within a tick in the order of insertion.
    ///
    /// Also tells the wheel the time, which makes insertions near: it is meant to be called in every turn of the
    /// loop, and costs one comparison when nothing is due.
    #[inline]
    pub(crate) fn expire(&mut self, now_ns: u64) -> Option<NonNull<TimerNode>> {
        if now_ns < self.horizon {
            // No bucket begins between the current tick and the new one, so all timers keep their places.
            self.levels.tick = self.levels.tick.max(now_ns >> TICK);
            return None;
        }
        self.turn(now_ns)
    }

    /// When to call [`Wheel::expire`] next: the earliest deadline, in nanoseconds.
    ///
    /// If many timers share the first bucket and it is not near, it may be the beginning of that bucket: then nothing
    /// expires at that time, but the timers move down, and the next answer is closer. That happens at most once per
    /// level. Never later than the earliest deadline, and later than `now` if `expire(now)` has just returned `None`.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let due = self.heads[DUE as usize];
        if !due.is_null() {
            // SAFETY: nodes in our lists are valid.
            return Some(unsafe { (*due).when });
        }
        let place = self.levels.first()?;
        let bound = self.earliest_of(place.bucket).unwrap_or(place.start << TICK);
        Some(bound.max(self.horizon))
    }

    /// Moves on to the next due timer, or else to `now_ns`.
    fn turn(&mut self, now_ns: u64) -> Option<NonNull<TimerNode>> {
        let now = (now_ns >> TICK).max(self.levels.tick);
        loop {
            if let Some(node) = self.pop(DUE) {
                return Some(node);
            }
            let Some(place) = self.levels.first() else {
                self.levels.tick = now;
                self.horizon = u64::MAX;
                return None;
            };
            if place.start > now {
                self.levels.tick = now;
                self.horizon = place.start << TICK;
                return None;
            }
            // As this is the first bucket, nothing is between the current tick and its beginning.
            self.levels.tick = place.start;
            if place.bucket >= BUCKETS as u32 {
                self.cascade(place.bucket, now_ns);
            } else if place.start < now {
                // All of a past tick is due.
                return self.pop(place.bucket);
            } else if let Some(later) = self.sift(place.bucket, now_ns) {
                self.horizon = later;
                return None;
            }
        }
    }

    /// Moves the timers of a bucket above level 0 to lower levels, now that the current tick is its first.
    fn cascade(&mut self, bucket: u32, now_ns: u64) {
        let first = self.heads[bucket as usize];
        // SAFETY: nodes in our lists are valid. The links of those that have not been moved yet stay as they were,
        // as `append` writes only to the node it is given and to its new list; so the walk ends at the last one,
        // whose `next` is still the first.
        unsafe {
            if (*first).next == first && (*first).when <= now_ns {
                // It is alone in the first bucket, so it is the earliest of all: no need to go level by level.
                self.unlink(first);
                return self.append(first, DUE);
            }
            self.clear(bucket);
            let mut node = first;
            loop {
                let next = (*node).next;
                let place = self.levels.place((*node).when >> TICK);
                self.append(node, place.bucket);
                if next == first {
                    return;
                }
                node = next;
            }
        }
    }

    /// Moves the due timers of the current tick's bucket to `DUE`. If there are none, the earliest deadline.
    fn sift(&mut self, bucket: u32, now_ns: u64) -> Option<u64> {
        let first = self.heads[bucket as usize];
        let mut later = u64::MAX;
        let mut any = false;
        // SAFETY: nodes in our lists are valid. `last` is found before any node leaves the list, and the walk reads
        // a node's `next` before that node leaves.
        unsafe {
            let last = (*first).prev;
            let mut node = first;
            loop {
                let next = (*node).next;
                if (*node).when <= now_ns {
                    self.unlink(node);
                    self.append(node, DUE);
                    any = true;
                } else {
                    later = later.min((*node).when);
                }
                if node == last {
                    return (!any).then_some(later);
                }
                node = next;
            }
        }
    }

    /// The earliest deadline in a bucket, if few enough timers are in it.
    fn earliest_of(&self, bucket: u32) -> Option<u64> {
        let first = self.heads[bucket as usize];
        let mut earliest = u64::MAX;
        let mut node = first;
        for _ in 0..LOOK {
            // SAFETY: nodes in our lists are valid.
            unsafe {
                earliest = earliest.min((*node).when);
                node = (*node).next;
            }
            if node == first {
                return Some(earliest);
            }
        }
        None
    }

    /// Takes the first timer out of a bucket.
    fn pop(&mut self, bucket: u32) -> Option<NonNull<TimerNode>> {
        let node = NonNull::new(self.heads[bucket as usize])?;
        // SAFETY: nodes in our lists are valid.
        unsafe { self.unlink(node.as_ptr()) };
        self.len -= 1;
        Some(node)
    }

    /// Links a node at the end of a bucket's list.
    ///
    /// # Safety
    /// The node is valid and in no list of its own any more.
    #[inline]
    unsafe fn append(&mut self, node: *mut TimerNode, bucket: u32) {
        let head = &mut self.heads[bucket as usize];
        // SAFETY: the caller vouches for the node; the others are in our list, so they are valid.
        unsafe {
            (*node).bucket = bucket;
            if head.is_null() {
                (*node).prev = node;
                (*node).next = node;
                *head = node;
                self.levels.mark(bucket);
            } else {
                let (first, last) = (*head, (**head).prev);
                (*node).prev = last;
                (*node).next = first;
                (*last).next = node;
                (*first).prev = node;
            }
        }
    }

    /// Takes a node out of its list.
    ///
    /// # Safety
    /// The node is valid and in a list of this wheel.
    #[inline]
    unsafe fn unlink(&mut self, node: *mut TimerNode) {
        // SAFETY: the node is in a list of ours, and its neighbours are valid.
        unsafe {
            let bucket = (*node).bucket;
            let (prev, next) = ((*node).prev, (*node).next);
            (*node).bucket = NOWHERE;
            if next == node {
                return self.clear(bucket);
            }
            (*prev).next = next;
            (*next).prev = prev;
            let head = &mut self.heads[bucket as usize];
            if *head == node {
                *head = next;
            }
        }
    }

    /// Forgets a bucket's list.
    #[inline]
    fn clear(&mut self, bucket: u32) {
        self.heads[bucket as usize] = ptr::null_mut();
        self.levels.unmark(bucket);
    }
}
