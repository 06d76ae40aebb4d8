//! Time: the clock, instants, and the wheel of timers.
//!
//! | module    | holds                                                                    |
//! |-----------|--------------------------------------------------------------------------|
//! | `counter` | the time stamp counter of the processor, or that there is none           |
//! | `follow`  | how the counter is kept in step with `CLOCK_MONOTONIC`: pure arithmetic  |
//! | `clock`   | [`Clock`], real or virtual, and which one [`Instant::now`] asks          |
//! | `instant` | [`Instant`], a point of a clock's time                                   |
//! | `levels`  | the arithmetic of wheels of timers                                       |
//! | `wheel`   | the timers of one runtime, by deadline                                   |
//! | `deadlines`| [`Deadlines`]: timers by number, for devices that have their own         |
//! | `ticks`   | the processor's counter as it is, for counting                           |
//! | `sleep`   | waiting for a moment, and giving up at one                               |
//! | `interval`| ticks; `missed`: what becomes of those that nobody took in time          |
//!
//! All instants of a process count from one epoch, that of `CLOCK_MONOTONIC`, so they can be compared across
//! threads.

pub use std::time::Duration;

pub(crate) mod clock;
#[cfg_attr(any(miri, not(target_arch = "x86_64")), path = "counter_none.rs")]
mod counter;
mod deadlines;
mod follow;
mod instant;
mod interval;
mod levels;
mod missed;
mod sleep;
pub(crate) mod ticks;
pub(crate) mod wheel;

pub use clock::Clock;
pub use deadlines::Deadlines;
pub use instant::Instant;
pub use interval::{Interval, interval, interval_at};
pub use missed::MissedTickBehavior;
pub use sleep::{Elapsed, Sleep, Timeout, sleep, sleep_until, timeout, timeout_at};

pub(crate) use clock::CurrentClock;
