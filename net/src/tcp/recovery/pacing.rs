//! Pacing: when the next burst may leave.

use demikernel_runtime::time::Instant;

/// Below this there is no pacing: a timer would be as coarse as the round trip.
const LEAST_RTT: u64 = 100_000;

/// The most that leaves at once, and the time that a burst stands for at most.
const BURST: u64 = 65_536;
const BURST_TIME: u64 = 1_000_000;

/// A burst is let go, then nothing until the time it stands for has passed: so a timer serves a burst, not a segment.
#[derive(Debug)]
pub(super) struct Pacing {
    /// When all that has left would have left one by one.
    due: Instant,
    /// Nanoseconds an octet, with 16 binary places; zero for no pacing.
    per_octet: u64,
    /// The time that a burst stands for.
    burst: u32,
    /// Nothing leaves before `due`.
    closed: bool,
}

impl Pacing {
    pub(super) const fn new(now: Instant) -> Pacing {
        Pacing { due: now, per_octet: 0, burst: 0, closed: false }
    }

    /// `rate` octets a second; zero for no pacing.
    pub(super) fn set_rate(&mut self, rate: u64, segment: u32, smoothed: u64) {
        if rate == 0 || smoothed < LEAST_RTT {
            self.per_octet = 0;
            self.closed = false;
            return;
        }
        self.per_octet = (1_000_000_000u64 << 16) / rate;
        let octets = (rate / (1_000_000_000 / BURST_TIME)).min(BURST).max(2 * u64::from(segment));
        self.burst = u32::try_from((octets * self.per_octet) >> 16).unwrap_or(u32::MAX);
    }

    #[inline]
    pub(super) fn on_sent(&mut self, now: Instant, length: u32) {
        if self.per_octet == 0 {
            return;
        }
        let cost = (u64::from(length) * self.per_octet) >> 16;
        let due = self.due.max(now).as_nanos().saturating_add(cost);
        self.closed = due >= now.as_nanos().saturating_add(u64::from(self.burst));
        self.due = Instant::from_nanos(due);
    }

    #[inline]
    pub(super) fn send_at(&self) -> Option<Instant> {
        self.closed.then_some(self.due)
    }

    /// Octets a second; zero for no pacing.
    pub(super) fn rate(&self) -> u64 {
        (1_000_000_000u64 << 16).checked_div(self.per_octet).unwrap_or(0)
    }
}
