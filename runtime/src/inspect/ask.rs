//! Looking into runtimes from other threads.

use super::{Connection, Dump, Metrics};
use crate::executor::{self, Handle};
use crate::time::{Instant, timeout_at};
use std::io;
use std::time::Duration;

/// Handles of all runtimes of the process, in the order in which they were made: of `cores = N`, one for each core.
///
/// ```
/// use demikernel_runtime::{inspect, run_on_cores, yield_now};
/// use std::time::Duration;
///
/// let results = run_on_cores(2, |builder| builder.build(), async || {
///     // Whichever core comes first looks at itself alone.
///     let patience = Duration::from_secs(5);
///     inspect::runtimes()[0].metrics(patience).is_ok()
/// }, |_| false);
/// assert_eq!(results.len(), 2);
/// ```
pub fn runtimes() -> Vec<Handle> {
    executor::all()
}

/// The metrics of all runtimes of the process that answer within `patience`, without blocking this one.
///
/// ```
/// use demikernel_runtime::{core_index, inspect, run_on_cores, time};
/// use std::time::Duration;
///
/// let results = run_on_cores(2, |builder| builder.build(), async || {
///     let seen = inspect::all_metrics(Duration::from_secs(5)).await;
///     // The other may be there already, or not.
///     let own = seen.iter().any(|metrics| metrics.core == core_index());
///     time::sleep(Duration::from_millis(10)).await;
///     own
/// }, |_| false);
/// assert!(results.into_iter().all(|own| own.unwrap() == Some(true)));
/// ```
///
/// # Panics
/// Outside of a runtime.
pub async fn all_metrics(patience: Duration) -> Vec<Metrics> {
    let until = Instant::now() + patience;
    let asked: Vec<_> = runtimes().iter().map(|handle| handle.ask_later(executor::current_metrics)).collect();
    let mut all = Vec::with_capacity(asked.len());
    for answer in asked {
        // One that has ended, or lost patience, is left out.
        if let Ok(Ok(metrics)) = timeout_at(until, answer.recv()).await {
            all.push(metrics);
        }
    }
    all
}

/// Looking inside, from any thread. The calls block until the runtime has come to it, between two turns of its
/// loop.
///
/// Each fails with `TimedOut` when the runtime does not come to it within `patience`, because a task does not return
/// or because nobody runs it, and with `NotConnected` when it has ended.
impl Handle {
    /// As [`metrics`](super::metrics).
    ///
    /// ```
    /// let runtime = demikernel_runtime::Runtime::new()?;
    /// let handle = runtime.handle();
    /// let thread = std::thread::spawn(move || handle.metrics(std::time::Duration::from_secs(5)));
    /// runtime.block_on(async {
    ///     let metrics = demikernel_runtime::spawn_blocking(|| thread.join().unwrap()).await?;
    ///     assert_eq!(metrics?.core, 0);
    ///     # std::io::Result::Ok(())
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// If the runtime does not come to it.
    pub fn metrics(&self, patience: Duration) -> io::Result<Metrics> {
        self.ask(patience, executor::current_metrics)
    }

    /// As [`dump`](super::dump), of no more than `most` tasks and tokens.
    ///
    /// # Errors
    /// If the runtime does not come to it.
    pub fn dump(&self, most: usize, patience: Duration) -> io::Result<Dump> {
        self.ask(patience, move || executor::current_dump(most))
    }

    /// As [`connections`](super::connections), no more than `most`.
    ///
    /// # Errors
    /// If the runtime does not come to it.
    pub fn connections(&self, most: usize, patience: Duration) -> io::Result<Vec<Connection>> {
        self.ask(patience, move || executor::current_connections(most))
    }

    /// Has the first device that can do so write what goes through it to `output` in the pcapng format, in place of
    /// where it did before; with `None` no more. Gives the name of the device. A device that is made to capture from
    /// its start by `[capture]` does that besides.
    ///
    /// # Errors
    /// `Unsupported` if no device can: only the userspace stack does. Those of the output. If the runtime does not
    /// come to it.
    pub fn capture(
        &self,
        output: Option<Box<dyn io::Write + Send>>,
        patience: Duration,
    ) -> io::Result<&'static str> {
        self.ask(patience, move || {
            executor::current_capture(output.map(|output| output as Box<dyn io::Write>))
        })?
    }
}
