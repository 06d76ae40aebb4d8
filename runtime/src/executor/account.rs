//! Where the time of a core goes: busy, idle, blocked, and how long turns take.
//!
//! Times are those of the processor's counter, read once in a turn, and become nanoseconds when somebody looks.
//! A turn is counted by how the one before it ended: if that had made something ready, the time between the two is
//! that of tasks, else nothing was to be done.

use crate::inspect::Latencies;
use crate::time::ticks::{self, Stamp};
use std::cell::Cell;
use std::time::Duration;

/// Of so many powers of two there is one bucket each for the length of a turn, in ticks.
const BUCKETS: usize = 64;

pub(super) struct Account {
    /// When counting began.
    began: Cell<Stamp>,
    /// When the present turn began.
    pub(super) turn: Cell<u64>,
    is_idle: Cell<bool>,
    /// The core is being run: otherwise time passes for somebody else.
    runs: Cell<bool>,
    /// When it began to be run, and for how long it was before that. What of it was not idle was busy.
    entered: Cell<u64>,
    ran: Cell<u64>,
    idle: Cell<u64>,
    parked: Cell<u64>,
    turns: [Cell<u64>; BUCKETS],
}

impl Account {
    pub(super) fn new() -> Account {
        Account {
            began: Cell::new(Stamp::now()),
            turn: Cell::new(ticks::now()),
            is_idle: Cell::new(false),
            runs: Cell::new(false),
            entered: Cell::new(0),
            ran: Cell::new(0),
            idle: Cell::new(0),
            parked: Cell::new(0),
            turns: [const { Cell::new(0) }; BUCKETS],
        }
    }

    /// Begins anew, for another runtime.
    pub(super) fn reset(&self) {
        self.began.set(Stamp::now());
        self.turn.set(ticks::now());
        self.turns.iter().chain([&self.ran, &self.idle, &self.parked]).for_each(|count| count.set(0));
    }

    /// The loop begins to run.
    pub(super) fn enter(&self) {
        let now = ticks::now();
        self.turn.set(now);
        self.entered.set(now);
        self.is_idle.set(false);
        self.runs.set(true);
    }

    /// The loop ends.
    pub(super) fn leave(&self) {
        self.turn();
        self.ran.set(self.until(self.turn.get()));
        self.runs.set(false);
    }

    /// A turn begins.
    #[inline]
    pub(super) fn turn(&self) {
        let now = ticks::now();
        // Counters of two processors may differ by a little.
        let took = now.saturating_sub(self.turn.replace(now));
        if self.is_idle.get() {
            self.idle.set(self.idle.get() + took);
        } else {
            let bucket = &self.turns[(took | 1).ilog2() as usize];
            bucket.set(bucket.get() + 1);
        }
    }

    /// Whether the turn has found nothing to do.
    #[inline]
    pub(super) fn found_nothing(&self, nothing: bool) {
        self.is_idle.set(nothing);
    }

    /// The thread was blocked, since `before`.
    pub(super) fn parked_since(&self, before: u64) {
        self.parked.set(self.parked.get() + ticks::now().saturating_sub(before));
    }

    /// For how long it has run until `now`, if it runs.
    fn until(&self, now: u64) -> u64 {
        let present = if self.runs.get() { now.saturating_sub(self.entered.get()) } else { 0 };
        self.ran.get() + present
    }

    /// How many nanoseconds so many ticks are.
    fn nanos(&self, ticks: u64) -> u64 {
        self.began.get().nanos(ticks)
    }

    /// How long ago the turn was that began at `then`.
    pub(super) fn since(&self, then: u64) -> Duration {
        Duration::from_nanos(self.nanos(ticks::now().saturating_sub(then)))
    }

    /// The times that were busy, idle and blocked.
    pub(super) fn times(&self) -> [Duration; 3] {
        let now = ticks::now();
        let is_idle = self.runs.get() && self.is_idle.get();
        let present = if is_idle { now.saturating_sub(self.turn.get()) } else { 0 };
        let idle = self.idle.get() + present;
        [self.until(now).saturating_sub(idle), idle, self.parked.get()]
            .map(|ticks| Duration::from_nanos(self.nanos(ticks)))
    }

    /// How long turns took.
    pub(super) fn turn_times(&self) -> Latencies {
        let most = |bucket: usize| u64::MAX >> (BUCKETS - 1 - bucket);
        let buckets = self.turns.iter().enumerate();
        let buckets = buckets.map(|(bucket, count)| (self.nanos(most(bucket)), count.get())).collect();
        let busy = self.until(self.turn.get()).saturating_sub(self.idle.get());
        Latencies::new("turn", self.nanos(busy), buckets)
    }
}
