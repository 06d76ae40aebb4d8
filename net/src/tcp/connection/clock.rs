//! Timestamps of a connection (RFC 7323).

use demikernel_runtime::time::{Duration, Instant};

use crate::wire::tcp::Timestamps;

/// After as many seconds without a segment, the last timestamp says nothing: 24 days. [rfc7323 5.5]
const INVALID_AFTER: u32 = 24 * 24 * 3600;

/// No second: 136 years must pass until there is one.
const OFF: u32 = u32::MAX;

/// The timestamp clock, of a millisecond as in Linux, and what is known of the peer's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Added to the time, so that it tells nobody how long the machine is up. [rfc7323 5.4]
    pub(crate) offset: u32,
    /// TS.Recent.
    pub(crate) recent: u32,
    /// Second in which that was set; [`OFF`] if timestamps are not agreed on.
    recent_at: u32,
}

impl Clock {
    pub(crate) fn new(on: bool, offset: u32) -> Clock {
        Clock { offset, recent: 0, recent_at: if on { 0 } else { OFF } }
    }

    /// Whether timestamps are agreed on; in SYN-SENT, whether they are offered.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.recent_at != OFF
    }

    /// They are not agreed on.
    pub(crate) fn turn_off(&mut self) {
        self.recent_at = OFF;
    }

    /// What to send: TSval and TSecr. [rfc7323 3.2]
    #[inline]
    pub(crate) fn stamp(&self, now: Instant) -> Option<Timestamps> {
        self.is_on().then(|| Timestamps { value: self.value(now), echo: self.recent })
    }

    /// Our clock.
    #[inline]
    pub(crate) fn value(&self, now: Instant) -> u32 {
        ((now.as_nanos() / 1_000_000) as u32).wrapping_add(self.offset)
    }

    /// The time since the value that the peer echoes was sent. [rfc7323 4.1]
    #[inline]
    pub(crate) fn since(&self, now: Instant, echo: u32) -> Option<Duration> {
        let ticks = self.value(now).wrapping_sub(echo) as i32;
        (self.is_on() && ticks >= 0).then(|| Duration::from_millis(ticks as u64))
    }

    /// Whether `value` is older than what came before, and that is not itself too old to tell. [rfc7323 5.3-R1]
    #[inline]
    pub(crate) fn is_old(&self, now: Instant, value: u32) -> bool {
        (value.wrapping_sub(self.recent) as i32) < 0
            && seconds(now).wrapping_sub(self.recent_at) < INVALID_AFTER
    }

    /// A value that is not old, of a segment that covers the last acknowledgment. [rfc7323 4.3-2]
    #[inline]
    pub(crate) fn set_recent(&mut self, now: Instant, value: u32) {
        self.recent = value;
        self.recent_at = seconds(now);
    }
}

#[inline]
fn seconds(now: Instant) -> u32 {
    (now.as_nanos() / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// [rfc7323 5.3-R1], [rfc7323 5.5]
    #[test]
    fn a_value_is_old_until_24_days_have_passed() {
        let mut clock = Clock::new(true, 7);
        let start = Instant::from_nanos(0) + 100 * DAY;
        clock.set_recent(start, 5);
        for (value, old) in [(5, false), (6, false), (4, true), (u32::MAX, true), (1 << 31, false)] {
            assert_eq!(clock.is_old(start, value), old, "{value}");
        }
        assert!(clock.is_old(start + 23 * DAY, 4));
        assert!(!clock.is_old(start + 24 * DAY, 4));
    }

    /// [rfc7323 4.1]
    #[test]
    fn the_round_trip_is_what_passed_since_the_echoed_value() {
        let clock = Clock::new(true, u32::MAX);
        let sent = Instant::from_nanos(0) + DAY;
        let echo = clock.value(sent);
        let wait = Duration::from_millis(42);
        assert_eq!(clock.since(sent + wait, echo), Some(wait));
        assert_eq!(clock.since(sent, echo.wrapping_add(1)), None);
    }
}
