//! What the benchmarks that start processes share.
//!
//! - [`machine`]: clocks, affinity, CPU accounting, bursts of real-time priority, and one line about where figures come
//!   from.
//! - [`cores`]: how far the two cores are from each other.
//! - [`child`]: processes that end by themselves, and those that serve until they are killed, within limits.
//! - [`stats`]: medians and quartiles. [`redis`]: what redis-benchmark prints.
//! - [`exit_code`]: how they end.

pub mod child;
pub mod cores;
pub mod machine;
pub mod redis;
pub mod stats;

use std::io;
use std::process::ExitCode;

/// What a program ends with, whose error is printed on the standard error.
pub fn exit_code(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
