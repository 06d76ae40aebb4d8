//! Which way a batch becomes durable: by a write that is so by itself, or by a write and a flush.
//!
//! Neither is the faster one everywhere. Past the cache of a drive (FUA) it is the former. Where the kernel has to flush
//! after the write, it saves two changes of thread, but is done by a work queue of the kernel, which busy processors keep
//! waiting for milliseconds. So both are measured: the one that took less of late is used, and the other one tried now and
//! then, the more seldom the slower it is.

use demikernel_runtime::time::Duration;

/// A trial of the other way comes after so many batches, and after twice as many each time that it was much slower.
const SOONEST: u32 = 32;
const LATEST: u32 = 2048;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    DurableWrite,
    Flush,
}

pub(super) struct Ways {
    /// What batches took of late; `None` before the first.
    durable_write: Option<Duration>,
    flush: Option<Duration>,
    /// Batches until the next trial, and from one to the next.
    left: u32,
    interval: u32,
}

impl Ways {
    pub(super) fn new() -> Ways {
        Ways { durable_write: None, flush: None, left: SOONEST, interval: SOONEST }
    }

    /// Which way the next batch goes, if it can go either.
    pub(super) fn next(&self) -> Way {
        let faster = self.faster();
        match self.left {
            0 => faster.other(),
            _ => faster,
        }
    }

    /// A batch that could go either way went this one, and took so long.
    pub(super) fn took(&mut self, way: Way, time: Duration) {
        let faster = self.faster();
        let known = self.time(way);
        // The newest has a quarter of the weight.
        *known = Some(known.map_or(time, |known| (known * 3 + time) / 4));
        if self.faster() != faster {
            (self.interval, self.left) = (SOONEST, SOONEST);
        } else if way == faster {
            self.left = self.left.saturating_sub(1);
        } else {
            let is_much_slower = self.time(faster).is_some_and(|usual| time > usual * 2);
            self.interval = if is_much_slower { (self.interval * 2).min(LATEST) } else { SOONEST };
            self.left = self.interval;
        }
    }

    /// What has not been measured is taken for faster.
    fn faster(&self) -> Way {
        match (self.durable_write, self.flush) {
            (None, _) => Way::DurableWrite,
            (_, None) => Way::Flush,
            (Some(durable_write), Some(flush)) if flush < durable_write => Way::Flush,
            _ => Way::DurableWrite,
        }
    }

    fn time(&mut self, way: Way) -> &mut Option<Duration> {
        match way {
            Way::DurableWrite => &mut self.durable_write,
            Way::Flush => &mut self.flush,
        }
    }
}

impl Way {
    fn other(self) -> Way {
        match self {
            Way::DurableWrite => Way::Flush,
            Way::Flush => Way::DurableWrite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many batches went by a flush, on a device whose ways take so many microseconds.
    fn flushes(ways: &mut Ways, batches: u32, durable_write: u64, flush: u64) -> u32 {
        let mut flushes = 0;
        for _ in 0..batches {
            let way = ways.next();
            let time = if way == Way::Flush { flush } else { durable_write };
            flushes += u32::from(way == Way::Flush);
            ways.took(way, Duration::from_micros(time));
        }
        flushes
    }

    #[test]
    fn the_faster_one_is_used() {
        assert_eq!(flushes(&mut Ways::new(), 20, 100, 150), 1, "each is tried");
        assert_eq!(flushes(&mut Ways::new(), 20, 150, 100), 19, "each is tried");
        assert_eq!(flushes(&mut Ways::new(), 20, 0, 0), 1, "equals: the one operation");
    }

    #[test]
    fn the_slower_one_is_tried_now_and_then() {
        let mut ways = Ways::new();
        assert!((30..35).contains(&flushes(&mut ways, 1000, 100, 150)));
        let mut ways = Ways::new();
        // After 32, 64, ... 1024 and 2048 batches: twice in 4,096 once it is known how slow it is.
        flushes(&mut ways, 5000, 100, 4000);
        assert!((1..=3).contains(&flushes(&mut ways, 4096, 100, 4000)));
    }

    #[test]
    fn what_becomes_slow_is_left_at_once() {
        let mut ways = Ways::new();
        flushes(&mut ways, 1000, 100, 150);
        assert!(flushes(&mut ways, 100, 4000, 200) > 90);
        // And taken up again when it is fast, at the next trial or the one after it.
        assert!(flushes(&mut ways, 3000, 100, 200) < 2500);
        assert!(flushes(&mut ways, 100, 100, 200) < 10);
    }
}
