//! The userspace stack beside smoltcp: two stacks of a kind in one thread, joined in memory by Ethernet frames.
//!
//! Both compute all checksums, and segments have at most 1,500 bytes of IP. Time is virtual for both; the time that is
//! measured is the CPU's. A child process per round and contender, as for the operations of executors.

mod goodput;
mod ours;
mod smoltcp;

pub use goodput::print_grid;

use crate::child;
use crate::instructions;
use crate::machine;
use crate::record::{Kind, Log, Record};
use crate::stats::median;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The contenders.
pub const CONTENDERS: [&str; 2] = [OURS, "smoltcp"];

/// Ours.
pub const OURS: &str = "demikernel-net";

/// Memory of an idle connection, measured by the program whose allocator counts.
pub const MEMORY: &str = "memory";

/// What is measured, in the order of the table.
pub const ITEMS: [&str; 9] = [
    "tcp_echo_1",
    "tcp_echo_1000",
    "tcp_echo_100000",
    "udp_echo",
    "receive",
    "transmit",
    "streaming",
    "connections",
    MEMORY,
];

/// Goodput in virtual time: the same in every run.
pub const GOODPUT: [&str; 3] = ["goodput_reno", "goodput_cubic", "goodput_bbr"];

/// Bytes of a message of echo.
const MESSAGE: usize = 64;

/// Full segments that are given to a connection at once.
const BLOCK: usize = 32;

/// Connections that are made and ended together.
const TOGETHER: usize = 100;

/// How long a child may take for all it does.
const LIMIT: Duration = Duration::from_secs(300);

/// What a contender does of one item: so many operations at each call. Where only a part of that is measured, it returns
/// how long the part took.
type Work = Box<dyn FnMut(u64) -> Option<u64>>;

/// Prepares; nothing if the contender cannot do it.
fn prepare(contender: &str, item: &str) -> Option<Work> {
    match contender {
        OURS => ours::prepare(item),
        "smoltcp" => smoltcp::prepare(item),
        other => panic!("no stack is called {other:?}"),
    }
}

/// How many operations are measured at once.
fn operations(item: &str) -> u64 {
    match item {
        "tcp_echo_1000" => 2_000,
        "tcp_echo_100000" => 200_000,
        "connections" => 40 * TOGETHER as u64,
        "receive" | "transmit" => 32_000,
        _ => 50_000,
    }
}

/// Measures in this process, and prints records.
pub fn report(contender: &str, items: &[String], round: usize) {
    for item in items {
        let value = if item == MEMORY { memory(contender) } else { time(contender, item) };
        let Some(value) = value else { continue };
        let (contender, item) = (contender.to_owned(), item.clone());
        println!("{}", Record { kind: Kind::Stack, contender, item, round, values: vec![value] });
    }
}

/// CPU ns of an operation; for connections, how many there are in a second.
fn time(contender: &str, item: &str) -> Option<f64> {
    let mut work = prepare(contender, item)?;
    // What is very slow is done less often.
    let before = machine::cpu_ns();
    work(operations(item) / 50 + 1);
    let slow = machine::cpu_ns() - before > 200_000_000;
    let count = if slow { operations(item) / 50 + 1 } else { operations(item) };
    let samples = (0..if slow { 3 } else { 7 }).map(|_| {
        let before = machine::cpu_ns();
        let part = work(count);
        part.unwrap_or_else(|| machine::cpu_ns() - before) as f64 / count as f64
    });
    let ns = median(samples.collect::<Vec<_>>());
    Some(if item == "connections" { 1e9 / ns } else { ns })
}

/// Bytes on the heap that an idle connection has at one end, without its buffers.
fn memory(contender: &str) -> Option<f64> {
    demikernel_allocations::is_counting().then(|| match contender {
        OURS => ours::memory(),
        _ => smoltcp::memory(),
    })
}

/// Does so many operations, and measures nothing.
pub fn repeat(contender: &str, item: &str, count: u64) {
    if let Some(mut work) = prepare(contender, item) {
        work(count);
    }
}

/// Measures the chosen items of all contenders, `rounds` times.
pub fn run(items: &[String], rounds: usize, count_instructions: bool, log: &mut Log) -> io::Result<()> {
    machine::pin(machine::SERVER_CORE);
    let program = std::env::current_exe()?;
    let first = log.next_round(Kind::Stack);
    for round in first..first + rounds {
        eprintln!("stack: round {} of {rounds}", round - first + 1);
        for index in 0..CONTENDERS.len() {
            let contender = CONTENDERS[(index + round) % CONTENDERS.len()];
            let timed: Vec<_> = items.iter().filter(|item| *item != MEMORY).cloned().collect();
            measure(&program, &["stack-child"], contender, &timed, round, log)?;
        }
    }
    let counting = program.with_file_name("allocations");
    for contender in CONTENDERS.iter().filter(|_| items.iter().any(|item| item == MEMORY)) {
        measure(&counting, &["stack"], contender, &[MEMORY.to_owned()], first, log)?;
    }
    for control in GOODPUT {
        for (contender, value) in goodput::of(control) {
            let (contender, item) = (contender.to_owned(), control.to_owned());
            log.push(Record { kind: Kind::Stack, contender, item, round: first, values: vec![value] })?;
        }
    }
    if count_instructions {
        eprintln!("stack: counting instructions");
        for item in items.iter().filter(|item| *item != MEMORY && *item != "tcp_echo_100000") {
            for contender in CONTENDERS {
                let count = operations(item).min(4_000);
                if let Err(error) = instructions::stack(contender, item, count, log) {
                    eprintln!("stack: {item} of {contender}: {error}");
                }
            }
        }
    }
    Ok(())
}

/// A contender that fails costs its own figures only.
fn measure(
    program: &Path,
    arguments: &[&str],
    contender: &str,
    items: &[String],
    round: usize,
    log: &mut Log,
) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).args([contender, "--round", &round.to_string()]).args(items);
    let output = child::output(&mut command, LIMIT)?;
    for record in output.stdout.lines().filter_map(|line| line.parse().ok()) {
        log.push(record)?;
    }
    if let Err(error) = output.check(contender) {
        eprintln!("stack: {error}");
    }
    Ok(())
}
