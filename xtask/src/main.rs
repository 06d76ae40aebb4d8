//! `cargo xtask`: the one script, for people and for CI.
//!
//! | module         | subject                                                     |
//! |----------------|-------------------------------------------------------------|
//! | `workspace`    | where things are, and the `cargo` commands for them         |
//! | `process`      | running a command: log, progress, time limit                |
//! | `setup`        | the programs that tests and benchmarks need, installed      |
//! | `test`         | chooses stages, runs them, prints the summary               |
//! | `stages`       | the table of test stages, each a few lines                  |
//! | `counts`       | running test binaries, and reading what they print          |
//! | `instrumented` | tests under valgrind, AddressSanitizer and loom             |
//! | `tidy`         | house rules that rustfmt and clippy do not know             |
//! | `dependencies` | compiler versions and licences of what we depend on         |
//! | `exact`        | instructions, system calls and allocations per operation    |
//! | `lint`         | the stages that only read the source                        |
//! | `rfc`          | which requirements of RFCs are implemented and tested       |
//! | `works`        | what works on which transport, as tests have shown it       |
//! | `vm`           | commands under Debian's kernel, in an emulator              |
//! | `bench`        | criterion, and the comparison with peers                    |
//! | `paper`        | the experiments of the Demikernel paper, and a page of them |
//! | `demo`         | programs at work, to look at                                |

mod bench;
mod counts;
mod demo;
mod dependencies;
mod exact;
mod instrumented;
mod lint;
mod paper;
mod process;
mod rfc;
mod setup;
mod stages;
mod test;
mod tidy;
mod vm;
mod works;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Everything a person or CI runs in this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Options),
    Test(test::Options),
    Lint(lint::Options),
    Exact(exact::Options),
    Rfc(rfc::Options),
    Works(works::Options),
    Vm(vm::Options),
    Lab(vm::lab::Options),
    Bench(bench::Options),
    Paper(paper::Options),
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let result = process::watch_signals().and_then(|()| dispatch(Arguments::parse().command));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup(options) => setup::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Lint(options) => lint::run(&options),
        Command::Exact(options) => exact::run(&options),
        Command::Rfc(options) => rfc::run(&options),
        Command::Works(options) => works::run(&options),
        Command::Vm(options) => vm::run(&options),
        Command::Lab(options) => vm::lab::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Paper(options) => paper::run(&options),
        Command::Demo(options) => demo::run(&options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
