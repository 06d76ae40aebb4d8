//! Time: the clock, instants, and the wheel of timers.
//!
//! | module    | holds                                                                    |
//! |-----------|--------------------------------------------------------------------------|
//! | `counter` | the time stamp counter of the processor, or that there is none           |
//! | `follow`  | how the counter is kept in step with `CLOCK_MONOTONIC`: pure arithmetic  |
//! | `clock`   | [`Clock`], real or virtual, and which one [`Instant::now`] asks          |
//! | `instant` | [`Instant`], a point of a clock's time                                   |
//! | `wheel`   | the timers of one runtime, by deadline                                   |
//! | `missed`  | what an interval does about ticks that it missed                         |
//!
//! All instants of a process count from one epoch, that of `CLOCK_MONOTONIC`, so they can be compared across
//! threads.

pub use std::time::Duration;

#[allow(dead_code, reason = "the executor is what makes a clock current")]
pub(crate) mod clock;
#[cfg_attr(any(miri, not(target_arch = "x86_64")), path = "counter_none.rs")]
mod counter;
mod follow;
mod instant;
#[allow(dead_code, reason = "intervals are what asks for the next tick")]
mod missed;
#[allow(dead_code, reason = "the executor is what turns the wheel")]
pub(crate) mod wheel;

pub use clock::Clock;
pub use instant::Instant;
pub use missed::MissedTickBehavior;
