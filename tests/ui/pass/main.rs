//! Runs on one core, with a return type of its own and an attribute inside.

use std::process::ExitCode;

/// The documentation stays.
#[demikernel::main(transport = "sim", time = "virtual", seed = 7, idle = "adaptive(50us)")]
pub async fn main() -> ExitCode {
    #![deny(warnings)]
    demikernel::yield_now().await;
    std::process::ExitCode::SUCCESS
}
