//! Ticks at a fixed period.

use super::{Instant, MissedTickBehavior, Sleep, sleep_until};
use futures_core::Stream;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Ticks every `period`, first at once.
///
/// # Panics
/// If `period` is zero, and outside of a runtime.
///
/// ```
/// use std::time::Duration;
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let mut interval = demikernel_runtime::time::interval(Duration::from_millis(1));
/// let first = interval.tick().await;
/// assert_eq!(interval.tick().await, first + Duration::from_millis(1));
/// # });
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks every `period`, first at `start`.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::time::{Duration, Instant, interval_at};
/// let start = Instant::now() + Duration::from_millis(2);
/// assert_eq!(interval_at(start, Duration::from_millis(1)).tick().await, start);
/// # });
/// ```
///
/// # Panics
/// If `period` is zero, and outside of a runtime.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval must not be zero");
    Interval { sleep: sleep_until(start), period, missed: MissedTickBehavior::default() }
}

/// The ticks of [`interval`]; also a `Stream` that never ends.
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    period: Duration,
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick, and gives the moment it was due. Dropping the future loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        ready!(Pin::new(&mut self.sleep).poll(cx));
        let due = self.sleep.deadline();
        self.sleep.reset(self.missed.next(due, Instant::now(), self.period));
        Poll::Ready(due)
    }

    /// What happens to ticks that nobody took in time.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what happens to ticks that nobody took in time.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// The period.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The next tick comes a period from now.
    pub fn reset(&mut self) {
        self.sleep.reset(Instant::now().saturating_add(self.period));
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
}
