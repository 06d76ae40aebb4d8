//! Tests as programs of simulated machines.

use demikernel_net::sim::Builder;
use std::future::Future;
use std::io;
use std::process::{ExitCode, Termination};

/// Runs a test on the machine `"test"` of a simulation.
pub(super) fn run<F>(storage: Option<&str>, seed: u64, test: F) -> io::Result<ExitCode>
where
    F: Future + 'static,
    F::Output: Termination,
{
    if let Some(name) = storage.filter(|name| !["auto", "memory", "sim"].contains(name)) {
        let text =
            format!("storage {name:?} on transport \"sim\": a simulated machine has its files in memory");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let simulation = Builder::new().seed(seed).build()?;
    Ok(simulation.block_on("test", async move { test.await.report() }))
}
