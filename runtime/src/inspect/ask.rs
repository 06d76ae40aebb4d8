//! Looking into runtimes from other threads.

use super::{Connection, Dump, Metrics};
use crate::executor::{self, Handle};
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
