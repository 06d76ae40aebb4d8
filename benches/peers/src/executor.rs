//! Interleaved rounds of the executor operations: a child process for each round and runtime, all on one core.

use crate::child;
use crate::machine;
use crate::record::{Kind, Log, Record};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a child may take for all its operations.
const LIMIT: Duration = Duration::from_secs(180);

/// Times `operations` in every runtime, `rounds` times.
pub fn time(runtimes: &[String], operations: &[String], rounds: usize, log: &mut Log) -> io::Result<()> {
    machine::pin(machine::SERVER_CORE);
    let program = std::env::current_exe()?;
    let first = log.next_round(Kind::Time);
    for round in first..first + rounds {
        eprintln!("executor: round {} of {rounds}", round - first + 1);
        for index in 0..runtimes.len() {
            // Nobody is always the first after the same neighbour.
            let runtime = &runtimes[(index + round) % runtimes.len()];
            measure(&program, &["executor-child"], runtime, operations, round, log)?;
        }
    }
    Ok(())
}

/// Counts allocations once per runtime, in the program that lies beside this one.
pub fn allocations(runtimes: &[String], operations: &[String], log: &mut Log) -> io::Result<()> {
    let program = std::env::current_exe()?.with_file_name("allocations");
    if !program.exists() {
        eprintln!("executor: no allocations counted: the program `allocations` is not built (cargo build)");
        return Ok(());
    }
    eprintln!("executor: counting allocations");
    let round = log.next_round(Kind::Allocations);
    runtimes.iter().try_for_each(|runtime| measure(&program, &[], runtime, operations, round, log))
}

/// A runtime that fails costs its own figures only.
fn measure(
    program: &Path,
    arguments: &[&str],
    runtime: &str,
    operations: &[String],
    round: usize,
    log: &mut Log,
) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).args([runtime, "--round", &round.to_string()]).args(operations);
    let output = child::output(&mut command, LIMIT)?;
    for line in output.stdout.lines() {
        // Some runtimes print lines of their own.
        if let Ok(record) = line.parse::<Record>() {
            log.push(record)?;
        }
    }
    if let Err(error) = output.check(runtime) {
        eprintln!("executor: {error}");
    }
    Ok(())
}
