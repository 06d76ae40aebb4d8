//! What one runtime has counted.

use super::Latencies;
use crate::buffer::pool;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// A snapshot of one runtime: counts since it was made, and how things are now.
///
/// ```
/// let runtime = demikernel_runtime::Runtime::new()?;
/// runtime.block_on(async { demikernel_runtime::spawn(async {}).await.unwrap() });
/// let metrics = runtime.metrics();
/// assert!(metrics.polls >= 1);
/// assert_eq!((metrics.spawned, metrics.live_operations), (1, 0));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Metrics {
    /// Which of the program's cores it is.
    pub core: usize,
    /// Which of the process's runtimes it is; no other has or will have the number.
    pub runtime: u32,
    /// Polls of tasks, and wake-ups of the future given to `block_on`.
    pub polls: u64,
    /// Times a task was made ready that was not ready already.
    pub wakes: u64,
    /// Of these, by other threads.
    pub remote_wakes: u64,
    /// Turns of the loop, each with one poll of every device.
    pub turns: u64,
    /// Times the thread was blocked.
    pub parks: u64,
    /// Tasks that were spawned.
    pub spawned: u64,
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Tokens of operations that are under way, other than timers.
    pub tokens: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Operations, timers and tasks that were started. The count wraps around.
    pub operations: u32,
    /// Operations that somebody holds: tasks, tokens, timers.
    pub live_operations: usize,
    /// Pages of 63 operations each.
    pub pages: usize,
    /// Time in turns that had something to do. Runtimes that are stepped by a lockstep have no such times.
    pub busy: Duration,
    /// Time in turns that found nothing to do, blocked or not.
    pub idle: Duration,
    /// Of that, the time for which the thread was blocked.
    pub parked: Duration,
    /// How long turns took that had something to do: the longest that a packet may have waited to be looked at.
    pub turn_times: Latencies,
    /// The pool of buffers of the runtime's thread.
    pub buffers: pool::Stats,
    /// The devices, in the order in which they were attached.
    pub devices: Vec<DeviceMetrics>,
}

/// What a device has counted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DeviceMetrics {
    /// The device's name.
    pub name: Cow<'static, str>,
    /// Its counters, by name.
    pub counters: Vec<(Cow<'static, str>, u64)>,
    /// How long its operations took, by kind.
    pub latencies: Vec<Latencies>,
}

impl Metrics {
    /// The share of its time for which the runtime had nothing to do, from 0 to 1.
    ///
    /// ```
    /// use std::time::Duration;
    /// let mut metrics = demikernel_runtime::Metrics::default();
    /// metrics.busy = Duration::from_secs(1);
    /// metrics.idle = Duration::from_secs(3);
    /// assert_eq!(metrics.idle_share(), 0.75);
    /// ```
    pub fn idle_share(&self) -> f64 {
        let all = (self.busy + self.idle).as_secs_f64();
        if all == 0.0 { 0.0 } else { self.idle.as_secs_f64() / all }
    }

    /// What the device of this name has counted under that name: of the first such device.
    pub fn counter(&self, device: &str, counter: &str) -> Option<u64> {
        let device = self.devices.iter().find(|other| other.name == device)?;
        device.counters.iter().find(|(name, _)| name == counter).map(|(_, value)| *value)
    }
}
