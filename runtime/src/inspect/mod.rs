//! Looking inside of a running program: what it has counted, and what it waits for.
//!
//! - [`metrics`], [`Metrics`]: counts and shares of time of one runtime, its pool of buffers and its devices.
//!   [`all_metrics`]: those of all cores.
//!   [`prometheus`] writes them as Prometheus reads them.
//! - [`dump`], [`Dump`]: every task, where it was spawned, and the tokens that it waits for, since when.
//! - [`connections`], [`Connection`]: connections of the devices, with what TCP knows of each.
//! - [`runtimes`]: handles of all runtimes of the process. By a [`Handle`](crate::Handle) other threads ask the same, and
//!   switch captures on and off.
//!
//! All of it is counted whether or not somebody looks: a turn of the loop reads the processor's counter once, a
//! task keeps where it was spawned, and an operation the turn in which it was started.
//!
//! ```
//! use demikernel_runtime::{inspect, spawn, time};
//!
//! # demikernel_runtime::Runtime::new().unwrap().block_on(async {
//! let ticker = spawn(time::sleep(time::Duration::from_secs(60))).named("ticker");
//! demikernel_runtime::yield_now().await;
//! assert_eq!(inspect::metrics().tasks, 1);
//! let dump = inspect::dump();
//! assert_eq!(dump.tasks[0].name.as_deref(), Some("ticker"));
//! assert!(dump.to_string().contains("timer"), "{dump}");
//! # drop(ticker);
//! # });
//! ```

mod ask;
mod connection;
mod dump;
mod latencies;
mod metrics;
mod prometheus;

pub use ask::{all_metrics, runtimes};
pub use connection::Connection;
pub use dump::{Dump, Progress, Task, Token, TokenKind};
pub use latencies::Latencies;
pub use metrics::{DeviceMetrics, Metrics};
pub use prometheus::{CONTENT_TYPE, prometheus};

use crate::executor;

/// What this thread's runtime has counted.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let task = demikernel_runtime::spawn(async {});
/// assert_eq!(demikernel_runtime::metrics().tasks, 1);
/// task.await.unwrap();
/// assert_eq!((demikernel_runtime::metrics().tasks, demikernel_runtime::metrics().spawned), (0, 1));
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn metrics() -> Metrics {
    executor::current_metrics()
}

/// The tasks and tokens of this thread's runtime. The task that asks is shown as it last waited.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn dump() -> Dump {
    executor::current_dump(usize::MAX)
}

/// The connections of this thread's runtime.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn connections() -> Vec<Connection> {
    executor::current_connections(usize::MAX)
}
