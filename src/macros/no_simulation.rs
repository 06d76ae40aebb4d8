//! Without the stack, the name `sim` stands for the transport `memory`, which needs no machines.

use crate::{Builder, Time};
use std::future::Future;
use std::io;
use std::process::{ExitCode, Termination};

/// Runs a test on sockets in memory, in virtual time as those on the stack are.
pub(super) fn run<F>(storage: Option<&str>, seed: u64, test: F) -> io::Result<ExitCode>
where
    F: Future + 'static,
    F::Output: Termination,
{
    let builder = Builder::new().transport("memory").time(Time::Virtual).seed(seed);
    let builder = storage.into_iter().fold(builder, Builder::storage);
    Ok(builder.build()?.block_on(test).report())
}
