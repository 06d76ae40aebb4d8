//! [`Clock`], and which one of them [`Instant::now`] asks.
//!
//! A real clock is as cheap as the time stamp counter where the processor and the kernel both vouch for it (11 ns
//! instead of the 29 ns of `std::time::Instant::now` on the machine of BENCHMARKS.md), and reads `CLOCK_MONOTONIC`
//! elsewhere. The crate `quanta` does that too, but holds up the program while it calibrates for up to 200 ms, never
//! looks at the kernel's clock again, and drifts from it; this one starts on the kernel's clock and moves over once
//! a millisecond has passed, then compares every millisecond, and can be replaced by virtual time for each runtime.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Instant;
use super::counter;
use super::follow::{Anchor, Follower, Line};

/// The newest rate of the counter that any clock of the process measured, 0 for none: it spares a new clock the
/// measuring. One word on its own, so relaxed access suffices.
static SHARED_RATE: AtomicU64 = AtomicU64::new(0);

/// A source of [`Instant`]s: the time of the machine, or a time that only moves when it is told to.
///
/// A clock never goes backwards. A real one is at most 1 us away from `CLOCK_MONOTONIC` as long as the kernel runs
/// that at a steady rate; when the kernel changes the rate, by at most 500 ppm as NTP does, 1 us more for at most one
/// millisecond. It does not advance while the machine is suspended. It belongs to one thread, as it keeps its anchor
/// in cells.
///
/// ```
/// use demikernel_runtime::time::{Clock, Duration, Instant};
///
/// let clock = Clock::virtual_at(Instant::from_nanos(1_000));
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now(), Instant::from_nanos(3_600_000_001_000));
/// ```
#[derive(Debug)]
pub struct Clock {
    line: Cell<Line>,
    /// The latest reading in nanoseconds, which no later one may be before. The time itself if it is virtual.
    latest: Cell<u64>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Real(Cell<Follower>),
    Virtual,
}

impl Clock {
    /// A clock that tells the time of the machine. Nothing is looked up before it is first read.
    pub const fn real() -> Clock {
        Clock {
            line: Cell::new(Line::NONE),
            latest: Cell::new(0),
            source: Source::Real(Cell::new(Follower::new())),
        }
    }

    /// A clock that stands at `start` until it is advanced.
    pub const fn virtual_at(start: Instant) -> Clock {
        Clock { line: Cell::new(Line::NONE), latest: Cell::new(start.as_nanos()), source: Source::Virtual }
    }

    /// Whether it only moves when it is advanced.
    pub const fn is_virtual(&self) -> bool {
        matches!(self.source, Source::Virtual)
    }

    /// The time, never before what this clock told earlier.
    #[inline]
    pub fn now(&self) -> Instant {
        let line = self.line.get();
        let on_line = if line.is_none() { None } else { line.at(counter::ticks()) };
        // A new anchor may lie behind the end of the old line: then the clock stands until it is overtaken.
        let ns = on_line.unwrap_or_else(|| self.read_source()).max(self.latest.get());
        self.latest.set(ns);
        Instant::from_nanos(ns)
    }

    /// The time of a moment that has been, in ticks, where it can be told without a look at the counter.
    #[inline]
    pub(crate) fn at(&self, ticks: u64) -> Option<Instant> {
        if self.is_virtual() {
            return Some(Instant::from_nanos(self.latest.get()));
        }
        self.line.get().at(ticks).map(Instant::from_nanos)
    }

    /// Moves a virtual clock forward.
    ///
    /// # Panics
    /// If the clock is real.
    pub fn advance(&self, by: Duration) {
        self.advance_to(Instant::from_nanos(self.latest.get()).saturating_add(by));
    }

    /// Moves a virtual clock forward to `to`, or leaves it where it is if it is past that.
    ///
    /// # Panics
    /// If the clock is real.
    pub fn advance_to(&self, to: Instant) {
        assert!(self.is_virtual(), "only a virtual clock can be advanced");
        self.latest.set(self.latest.get().max(to.as_nanos()));
    }

    /// The time where there is no line to read it off; makes the next line if it can.
    #[cold]
    fn read_source(&self) -> u64 {
        let Source::Real(cell) = &self.source else { return self.latest.get() };
        let mut follower = cell.get();
        if follower.is_fresh() && !counter::is_reliable() {
            follower.abandon();
            cell.set(follower);
        }
        if follower.is_abandoned() {
            return kernel_ns();
        }
        let (ns, anchor) = read_both();
        let shared = SHARED_RATE.load(Ordering::Relaxed);
        let line = match anchor {
            None => follower.miss(),
            Some(anchor) if follower.is_fresh() && shared != 0 => follower.begin(anchor, shared),
            Some(anchor) => follower.observe(anchor),
        };
        if let Some(rate) = follower.rate() {
            SHARED_RATE.store(rate, Ordering::Relaxed);
        }
        cell.set(follower);
        self.line.set(line);
        ns
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(super) fn kernel_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec of our own that the call may write.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(failed, 0, "every kernel has CLOCK_MONOTONIC");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The kernel's time, and an anchor if the counter could be read close enough to it.
///
/// A thread that is preempted between the reads sees them far apart, and tries again. It gives up after some
/// attempts, and the kernel's time has to do until the next read.
fn read_both() -> (u64, Option<Anchor>) {
    /// Less than 0.5 us at 2 GHz and above: several times what the vDSO takes, but no preemption.
    const CLOSE: u64 = 1024;
    let mut ns = 0;
    for _ in 0..4 {
        let before = counter::ticks();
        ns = kernel_ns();
        let between = counter::ticks().wrapping_sub(before);
        if between <= CLOSE {
            return (ns, Some(Anchor { ticks: before + between / 2, ns }));
        }
    }
    (ns, None)
}

thread_local! {
    /// The clock of the runtime that is running on this thread; null outside of one.
    static CURRENT: Cell<*const Clock> = const { Cell::new(ptr::null()) };
    /// For those who ask outside of a runtime.
    static OUTSIDE: Clock = const { Clock::real() };
}

/// Calls `f` with the clock that [`Instant::now`] asks on this thread.
#[inline]
pub(crate) fn with_current_clock<R>(f: impl FnOnce(&Clock) -> R) -> R {
    let current = CURRENT.get();
    if current.is_null() {
        return OUTSIDE.with(f);
    }
    // SAFETY: whoever made the pointer current keeps the clock alive until the guard is dropped, which takes the
    // pointer away (contract of `CurrentClock::enter`), and it is the clock of this thread.
    f(unsafe { &*current })
}

/// While it lives, a certain clock is the one that [`Instant::now`] asks on this thread.
pub(crate) struct CurrentClock<'a> {
    outer: *const Clock,
    /// Borrows the clock; the pointer also ties the guard to its thread.
    clock: PhantomData<(&'a Clock, *const ())>,
}

impl<'a> CurrentClock<'a> {
    /// Makes `clock` the current one.
    ///
    /// # Safety
    /// The guard must be dropped before the clock goes away (so it may not be leaked), and guards of one thread in
    /// the reverse order of their making.
    pub(crate) unsafe fn enter(clock: &'a Clock) -> CurrentClock<'a> {
        CurrentClock { outer: CURRENT.replace(clock), clock: PhantomData }
    }
}

impl Drop for CurrentClock<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `f` while `clock` is the one that [`Instant::now`] asks on this thread.
    fn with_clock<R>(clock: &Clock, f: impl FnOnce() -> R) -> R {
        // SAFETY: a local that is dropped when `f` returns or unwinds, while the clock is still borrowed; so nested calls
        // drop theirs in reverse order.
        let _current = unsafe { CurrentClock::enter(clock) };
        f()
    }

    /// Reads for some milliseconds of the kernel's time, each reading between two of the kernel's clock.
    fn read_for(clock: &Clock, ms: u64) {
        /// More than the bound of [`Clock`], as NTP may be at work on this machine.
        const BOUND: u64 = 20_000;
        let end = kernel_ns() + ms * 1_000_000;
        let mut latest = 0;
        loop {
            let before = kernel_ns();
            let now = clock.now().as_nanos();
            let after = kernel_ns();
            assert!(now + BOUND >= before && now <= after + BOUND, "{now} is not in {before}..{after}");
            assert!(now >= latest, "{now} is before {latest}");
            latest = now;
            if after > end {
                return;
            }
        }
    }

    #[test]
    fn a_real_clock_stays_with_the_kernels() {
        let clock = Clock::real();
        read_for(&clock, if cfg!(miri) { 1 } else { 100 });
        // Between two readings under valgrind pass microseconds, too many to calibrate the counter.
        if counter::is_reliable() && std::env::var_os("DEMIKERNEL_VALGRIND").is_none() {
            assert!(!clock.line.get().is_none(), "it has not moved over to the counter");
        }
    }

    #[test]
    fn clocks_of_many_threads_agree() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    with_current_clock(|clock| read_for(clock, if cfg!(miri) { 1 } else { 30 }))
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("its assertions hold");
        }
    }

    #[test]
    fn after_a_long_sleep_the_first_reading_is_right() {
        let clock = Clock::real();
        for _ in 0..4 {
            read_for(&clock, if cfg!(miri) { 1 } else { 3 });
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn virtual_time_moves_only_when_told() {
        let clock = Clock::virtual_at(Instant::from_nanos(5));
        assert!(clock.is_virtual());
        assert_eq!(clock.now(), clock.now());
        clock.advance(Duration::from_nanos(10));
        assert_eq!(clock.now(), Instant::from_nanos(15));
        clock.advance_to(Instant::from_nanos(7));
        assert_eq!(clock.now(), Instant::from_nanos(15));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Instant::MAX);
    }

    #[test]
    #[should_panic(expected = "only a virtual clock")]
    fn real_time_cannot_be_moved() {
        Clock::real().advance(Duration::from_secs(1));
    }

    #[test]
    fn instants_ask_the_current_clock_and_then_the_outer_one() {
        let (outer, inner) =
            (Clock::virtual_at(Instant::from_nanos(1)), Clock::virtual_at(Instant::from_nanos(2)));
        with_clock(&outer, || {
            assert_eq!(Instant::now(), Instant::from_nanos(1));
            with_clock(&inner, || assert_eq!(Instant::now(), Instant::from_nanos(2)));
            let panicked =
                std::panic::catch_unwind(|| with_clock(&Clock::virtual_at(Instant::MAX), || panic!()));
            assert!(panicked.is_err());
            assert_eq!(Instant::now(), Instant::from_nanos(1));
        });
        assert!(Instant::now().as_nanos() > 2);
    }
}
