//! When the next cycle of the log begins: at once, or a moment later, so that more pushes share its flush.
//!
//! Who is told that a record is durable often pushes the next one then. Begun with what waits at that moment, each cycle
//! has one half of those who push and the next one the other half, for ever: everybody waits for two flushes, of which
//! each serves half as many as it could. So the next cycle waits for those that the last one has served, but never longer
//! than half of what that took, no longer than a quarter without anybody coming, and only while it pays: while at least
//! half of them do come in that time. A single pusher is never waited for, as nobody is missing when it has come.

use demikernel_runtime::time::{Duration, Instant};

/// What takes less is not waited for: timers of a thread that sleeps are late by as much.
const LEAST: Duration = Duration::from_micros(50);

pub(super) struct Gather {
    /// When the cycle under way began, or the last one.
    began: Instant,
    /// When the last cycle was over, and how long it took.
    over: Instant,
    took: Duration,
    /// How many it served.
    served: u64,
    /// How many had come in all when it was over.
    before: u64,
    /// And in the time after it that may be waited.
    by_then: u64,
    /// When the latest was seen to have come.
    latest: Instant,
    pays: bool,
}

impl Gather {
    pub(super) fn new(now: Instant) -> Gather {
        Gather {
            began: now,
            over: now,
            took: Duration::ZERO,
            served: 0,
            before: 0,
            by_then: 0,
            latest: now,
            pays: false,
        }
    }

    /// So many have come by now, in all.
    pub(super) fn seen(&mut self, now: Instant, come: u64) {
        if come > self.by_then && now <= self.over + self.took / 2 {
            self.by_then = come;
            self.latest = now;
        }
    }

    /// Until when the next cycle is to wait, of those that have been seen; `None` if it is to begin.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        if !self.pays || self.took < LEAST || self.by_then >= self.before + self.served {
            return None;
        }
        let end = (self.over + self.took / 2).min(self.latest + self.took / 4);
        (now < end).then_some(end)
    }

    /// A cycle begins.
    pub(super) fn begins(&mut self, now: Instant) {
        self.began = now;
    }

    /// The cycle is over: it has served so many, and so many had come by then in all. What it took.
    pub(super) fn is_over(&mut self, now: Instant, served: u64, come: u64) -> Duration {
        self.pays = (self.by_then - self.before) * 2 >= self.served;
        self.took = now - self.began;
        (self.over, self.latest) = (now, now);
        (self.served, self.before, self.by_then) = (served, come, come);
        self.took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_micros(400);

    fn us(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    /// After a cycle from 0 to 400 us that has served `served`, with which `come` had come in all.
    fn after_one(pays: bool, served: u64, come: u64) -> Gather {
        let mut gather = Gather::new(us(0));
        gather.begins(us(0));
        gather.is_over(us(400), served, come);
        assert_eq!((gather.took, gather.over), (FLUSH, us(400)));
        gather.pays = pays;
        gather
    }

    #[test]
    fn those_that_were_served_are_waited_for() {
        let mut gather = after_one(true, 8, 12);
        assert_eq!(gather.until(us(400)), Some(us(500)));
        gather.seen(us(450), 15);
        assert_eq!(gather.until(us(450)), Some(us(550)));
        gather.seen(us(540), 19);
        assert_eq!(gather.until(us(540)), Some(us(600)), "half of the time at most");
        gather.seen(us(541), 20);
        assert_eq!(gather.until(us(541)), None, "all are there");
    }

    #[test]
    fn one_alone_waits_for_nobody() {
        let mut gather = after_one(true, 1, 1);
        gather.seen(us(410), 2);
        assert_eq!(gather.until(us(410)), None);
    }

    #[test]
    fn nobody_is_waited_for_who_does_not_come() {
        let mut gather = after_one(true, 8, 8);
        gather.seen(us(420), 9);
        assert_eq!(gather.until(us(519)), Some(us(520)));
        assert_eq!(gather.until(us(520)), None);
        gather.begins(us(520));
        // These come while the flush is under way.
        gather.seen(us(700), 16);
        gather.is_over(us(920), 1, 16);
        assert!(!gather.pays, "1 of 8 came in time");
        assert_eq!(gather.until(us(920)), None);
    }

    #[test]
    fn whether_it_pays_is_seen_without_waiting() {
        let mut gather = after_one(false, 8, 16);
        assert_eq!(gather.until(us(400)), None);
        gather.begins(us(400));
        gather.seen(us(430), 20);
        gather.seen(us(700), 24);
        gather.is_over(us(800), 8, 24);
        assert!(gather.pays, "4 of 8 came in time");
        assert_eq!(gather.until(us(800)), Some(us(900)));
    }

    #[test]
    fn fast_devices_wait_for_nobody() {
        let mut gather = Gather::new(us(0));
        gather.begins(us(0));
        gather.is_over(us(30), 8, 16);
        gather.pays = true;
        assert_eq!(gather.until(us(30)), None);
    }
}
