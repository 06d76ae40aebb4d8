//! [`Instant`]: a point of a clock's time.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::sync::OnceLock;
use std::time::Duration;

use super::clock::{kernel_ns, with_current_clock};

/// A point of time, as `std::time::Instant`, but of the current runtime's [`Clock`](super::Clock): real or virtual.
///
/// It is a count of nanoseconds since one epoch of the process (of the machine, on Linux), 8 bytes, and goes 584
/// years far. The readings of two threads' clocks may differ by the error of both, so a difference saturates at
/// zero instead of panicking.
///
/// ```
/// use demikernel_runtime::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let deadline = start + Duration::from_millis(5);
/// assert!(start < deadline);
/// assert_eq!(start - deadline, Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The last instant that there is: what a deadline that overflows becomes.
    pub const MAX: Instant = Instant(u64::MAX);

    /// The time of the runtime that is running on this thread, or of the machine outside of one.
    #[inline]
    pub fn now() -> Instant {
        with_current_clock(super::Clock::now)
    }

    /// When the present turn of the runtime's loop began, which is a few nanoseconds cheaper to have than
    /// [`now`](Self::now) and late by at most what tasks have taken in this turn: good for counting how long
    /// operations of devices take. Outside of a runtime, and where the time of the turn is not known, it is `now`.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// use demikernel_runtime::time::{Duration, Instant, sleep};
    /// let before = Instant::of_turn();
    /// sleep(Duration::from_millis(5)).await;
    /// assert!(Instant::of_turn() - before >= Duration::from_millis(4));
    /// assert!(Instant::of_turn() <= Instant::now());
    /// # });
    /// ```
    #[inline]
    pub fn of_turn() -> Instant {
        crate::executor::turn().unwrap_or_else(Instant::now)
    }

    /// The instant that is `ns` nanoseconds after the epoch: to begin virtual time with.
    pub const fn from_nanos(ns: u64) -> Instant {
        Instant(ns)
    }

    /// Nanoseconds since the epoch. In real time it is that of `CLOCK_MONOTONIC`.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that has passed since.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// use demikernel_runtime::time::{Duration, Instant, sleep};
    /// let start = Instant::now();
    /// sleep(Duration::from_millis(1)).await;
    /// assert!(start.elapsed() >= Duration::from_millis(1));
    /// # });
    /// ```
    pub fn elapsed(&self) -> Duration {
        Instant::now().duration_since(*self)
    }

    /// The time from `earlier` to this instant, zero if that is later.
    pub const fn duration_since(&self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same: the name that the standard library has for it.
    pub const fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }

    /// The time from `earlier` to this instant, `None` if that is later.
    pub const fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        match self.0.checked_sub(earlier.0) {
            Some(ns) => Some(Duration::from_nanos(ns)),
            None => None,
        }
    }

    /// This instant and a duration, `None` if that is after [`Instant::MAX`].
    pub const fn checked_add(&self, duration: Duration) -> Option<Instant> {
        match checked_nanos(duration) {
            Some(ns) => match self.0.checked_add(ns) {
                Some(sum) => Some(Instant(sum)),
                None => None,
            },
            None => None,
        }
    }

    /// This instant less a duration, `None` if that is before the epoch.
    pub const fn checked_sub(&self, duration: Duration) -> Option<Instant> {
        match checked_nanos(duration) {
            Some(ns) => match self.0.checked_sub(ns) {
                Some(difference) => Some(Instant(difference)),
                None => None,
            },
            None => None,
        }
    }

    /// This instant and a duration, at most [`Instant::MAX`].
    pub const fn saturating_add(&self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(saturating_nanos(duration)))
    }

    /// This instant less a duration, at least the epoch.
    pub const fn saturating_sub(&self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(saturating_nanos(duration)))
    }
}

/// A duration in nanoseconds, `None` if it is longer than 584 years.
const fn checked_nanos(duration: Duration) -> Option<u64> {
    let ns = duration.as_nanos();
    if ns > u64::MAX as u128 { None } else { Some(ns as u64) }
}

/// A duration in nanoseconds, the greatest number if it is longer than 584 years.
pub(super) const fn saturating_nanos(duration: Duration) -> u64 {
    match checked_nanos(duration) {
        Some(ns) => ns,
        None => u64::MAX,
    }
}

/// # Panics
/// If the result is after [`Instant::MAX`], as that of the standard library.
impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        self.checked_add(duration).expect("overflow when adding a duration to an instant")
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// # Panics
/// If the result is before the epoch, as that of the standard library.
impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        self.checked_sub(duration).expect("overflow when subtracting a duration from an instant")
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    /// As [`Instant::duration_since`].
    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&Duration::from_nanos(self.0)).finish()
    }
}

/// One moment on the standard library's clock and on ours. They are the same clock, but the standard library does
/// not tell its numbers; read once in a process, so that conversions to and fro give the same instant.
fn tie() -> (std::time::Instant, Instant) {
    static TIE: OnceLock<(std::time::Instant, Instant)> = OnceLock::new();
    *TIE.get_or_init(|| {
        let before = kernel_ns();
        let theirs = std::time::Instant::now();
        (theirs, Instant(before + (kernel_ns() - before) / 2))
    })
}

/// Of real time only: virtual time has nothing to do with the standard library's. An instant before the epoch becomes
/// the epoch.
impl From<std::time::Instant> for Instant {
    fn from(theirs: std::time::Instant) -> Instant {
        let (their_tie, our_tie) = tie();
        match theirs.checked_duration_since(their_tie) {
            Some(after) => our_tie.saturating_add(after),
            None => our_tie.saturating_sub(their_tie.duration_since(theirs)),
        }
    }
}

/// Of real time only.
impl From<Instant> for std::time::Instant {
    fn from(ours: Instant) -> std::time::Instant {
        let (their_tie, our_tie) = tie();
        match ours.checked_duration_since(our_tie) {
            Some(after) => their_tie + after,
            None => their_tie - our_tie.duration_since(ours),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn arithmetic_saturates_or_says_so() {
        let (early, late) = (Instant::from_nanos(5), Instant::from_nanos(9));
        assert_eq!(late - early, Duration::from_nanos(4));
        assert_eq!(early - late, Duration::ZERO);
        assert_eq!(early.checked_duration_since(late), None);
        assert_eq!(late.checked_duration_since(early), Some(Duration::from_nanos(4)));
        assert_eq!(early + (late - early), late);
        assert_eq!(early.checked_sub(SECOND), None);
        assert_eq!(early.saturating_sub(SECOND), Instant::from_nanos(0));
        assert_eq!(early.checked_add(Duration::MAX), None);
        assert_eq!(early.saturating_add(Duration::MAX), Instant::MAX);
    }

    #[test]
    fn the_border_is_exact() {
        let all = Duration::from_nanos(u64::MAX);
        let epoch = Instant::from_nanos(0);
        assert_eq!(epoch.checked_add(all), Some(Instant::MAX));
        assert_eq!(epoch.checked_add(all + Duration::from_nanos(1)), None);
        assert_eq!(Instant::MAX.checked_sub(all), Some(epoch));
        assert_eq!(Instant::MAX.checked_sub(all + Duration::from_nanos(1)), None);
    }

    #[test]
    #[should_panic(expected = "overflow when adding")]
    fn adding_too_much_panics_as_in_the_standard_library() {
        let _ = Instant::now() + Duration::MAX;
    }

    #[test]
    fn conversions_to_and_fro_give_the_same_instant() {
        let theirs = std::time::Instant::now();
        for theirs in [theirs, theirs + 3600 * SECOND, theirs - Duration::from_millis(1)] {
            assert_eq!(std::time::Instant::from(Instant::from(theirs)), theirs);
        }
    }

    #[test]
    fn a_conversion_gives_the_same_time() {
        let before = kernel_ns();
        let converted = Instant::from(std::time::Instant::now()).as_nanos();
        let after = kernel_ns();
        assert!(before <= converted + 10_000_000 && converted <= after + 10_000_000);
        assert!(std::time::Instant::from(Instant::from_nanos(kernel_ns())).elapsed() < SECOND);
    }

    #[test]
    fn debug_shows_seconds() {
        assert_eq!(format!("{:?}", Instant::from_nanos(1_500_000_000)), "Instant(1.5s)");
    }
}
