//! [`MissedTickBehavior`]: what an interval does about ticks that it missed.

use std::time::Duration;

use super::Instant;

/// What an interval does when a tick was noticed too late, since nobody asked for it in time.
///
/// With a period of 10 ms, started at 0, and a task that was busy from the tick at 10 until 37:
///
/// | behaviour | ticks at                     |                                        |
/// |-----------|------------------------------|----------------------------------------|
/// | `Burst`   | 0, 10, 37, 37, 40, 50, 60    | none is lost, the missed ones come late |
/// | `Delay`   | 0, 10, 37, 47, 57, 67        | the schedule moves                     |
/// | `Skip`    | 0, 10, 37, 40, 50, 60        | the schedule stays, missed ones are lost |
///
/// ```
/// use demikernel_runtime::time::{Duration, Instant, MissedTickBehavior, interval, sleep};
/// use demikernel_runtime::{Builder, Time};
/// Builder::new().time(Time::Virtual).build()?.block_on(async {
///     let mut ticks = interval(Duration::from_millis(10));
///     ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
///     let start = ticks.tick().await;
///     sleep(Duration::from_millis(37)).await;
///     ticks.tick().await; // the one at 10, late
///     assert_eq!(ticks.tick().await, start + Duration::from_millis(40));
/// });
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissedTickBehavior {
    /// Ticks at once for each missed tick, until the schedule is caught up with.
    #[default]
    Burst,
    /// Waits a whole period from the late tick on.
    Delay,
    /// Waits for the next tick of the schedule.
    Skip,
}

/// A tick that is late by less than this has not been missed: otherwise the time that a wake-up takes would add up
/// under [`MissedTickBehavior::Delay`].
const TOLERANCE: Duration = Duration::from_millis(5);

impl MissedTickBehavior {
    /// When the next tick is due, after the one that was due at `scheduled` has happened at `now`.
    pub(crate) fn next(self, scheduled: Instant, now: Instant, period: Duration) -> Instant {
        let regular = scheduled.saturating_add(period);
        let late = now.duration_since(scheduled);
        match self {
            MissedTickBehavior::Delay if late > TOLERANCE.min(period) => now.saturating_add(period),
            MissedTickBehavior::Skip if regular <= now => {
                let since_last = late.as_nanos().checked_rem(period.as_nanos()).unwrap_or(0);
                // Less than the lateness, so it fits.
                let last = now.saturating_sub(Duration::from_nanos(since_last as u64));
                last.saturating_add(period)
            }
            _ => regular,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(10);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// The ticks of an interval whose user is busy from the tick at 10 ms until 37 ms, and then waits for each.
    fn ticks(behavior: MissedTickBehavior) -> Vec<u64> {
        let (mut now, mut scheduled) = (at(0), at(0));
        let mut ticks = vec![];
        while ticks.len() < 7 {
            now = now.max(scheduled);
            ticks.push(now.as_nanos() / 1_000_000);
            scheduled = behavior.next(scheduled, now, PERIOD);
            if now == at(10) {
                now = at(37);
            }
        }
        ticks
    }

    #[test]
    fn the_table_in_the_documentation() {
        assert_eq!(ticks(MissedTickBehavior::Burst), [0, 10, 37, 37, 40, 50, 60]);
        assert_eq!(ticks(MissedTickBehavior::Delay), [0, 10, 37, 47, 57, 67, 77]);
        assert_eq!(ticks(MissedTickBehavior::Skip), [0, 10, 37, 40, 50, 60, 70]);
    }

    #[test]
    fn all_keep_the_schedule_when_nothing_was_missed() {
        for behavior in [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip] {
            assert_eq!(behavior.next(at(20), at(20), PERIOD), at(30), "{behavior:?}");
            assert_eq!(behavior.next(at(20), at(25), PERIOD), at(30), "{behavior:?} a little late");
            assert_eq!(
                behavior.next(at(20), at(19), PERIOD),
                at(30),
                "{behavior:?} early by a clock's error"
            );
        }
    }

    #[test]
    fn late_by_less_than_a_period() {
        assert_eq!(MissedTickBehavior::Burst.next(at(20), at(26), PERIOD), at(30));
        assert_eq!(MissedTickBehavior::Delay.next(at(20), at(26), PERIOD), at(36));
        assert_eq!(MissedTickBehavior::Skip.next(at(20), at(26), PERIOD), at(30));
    }

    #[test]
    fn late_by_whole_periods() {
        assert_eq!(MissedTickBehavior::Burst.next(at(20), at(50), PERIOD), at(30));
        assert_eq!(MissedTickBehavior::Delay.next(at(20), at(50), PERIOD), at(60));
        assert_eq!(MissedTickBehavior::Skip.next(at(20), at(50), PERIOD), at(60));
    }

    #[test]
    fn a_short_period_is_its_own_tolerance() {
        let period = Duration::from_millis(2);
        assert_eq!(MissedTickBehavior::Delay.next(at(20), at(22), period), at(22));
        assert_eq!(MissedTickBehavior::Delay.next(at(20), at(23), period), at(25));
    }

    #[test]
    fn extremes_saturate() {
        for behavior in [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip] {
            assert_eq!(behavior.next(at(20), at(90), Duration::MAX), Instant::MAX, "{behavior:?}");
            assert_eq!(behavior.next(Instant::MAX, Instant::MAX, PERIOD), Instant::MAX, "{behavior:?}");
        }
        assert_eq!(MissedTickBehavior::Skip.next(at(20), at(90), Duration::ZERO), at(90));
        assert_eq!(MissedTickBehavior::Skip.next(at(0), Instant::MAX, PERIOD), Instant::MAX);
    }
}
