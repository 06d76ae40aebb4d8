//! demikernel's storage beside fio, bare system calls, a log of others and redis-server.

mod append;
mod around;
mod drives;
mod fio;
mod key_value;
mod machine;
mod random;
mod replay;
mod table;

use clap::{Parser, Subcommand, ValueEnum};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use table::Row;

#[global_allocator]
static ALLOCATOR: demikernel_allocations::Counting = demikernel_allocations::Counting;

/// demikernel's storage beside fio, bare system calls, a log of others and redis-server.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print the table
    Measure(Measure),
    /// So many operations on a device that does nothing or copies, for those who count instructions from outside
    Repeat {
        #[arg(value_parser = around::DEVICES)]
        device: String,
        #[arg(value_parser = around::OPERATIONS)]
        operation: String,
        depth: usize,
        count: usize,
    },
    /// In a guest of `cargo xtask vm --disks`: read its first drive by each driver in turn, and print the rates
    Guest(Turns),
    /// What `guest` starts for each
    #[command(hide = true)]
    Drive {
        #[arg(value_parser = drives::DRIVERS)]
        driver: String,
        #[command(flatten)]
        turns: Turns,
    },
}

#[derive(clap::Args)]
struct Turns {
    /// Interleaved rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each is measured at each depth
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000)]
    window: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// An operation's cost around the device
    Around,
    /// Random reads of a file
    Random,
    /// Durable appends to a log
    Append,
    /// Replay and recovery of a log
    Replay,
    /// The key-value example with a log
    Kv,
    /// What the guest has printed of its NVMe drive
    Drives,
}

#[derive(clap::Args)]
struct Measure {
    /// What to measure
    #[arg(value_enum, default_values_t = [What::Around, What::Random, What::Append, What::Replay, What::Kv, What::Drives])]
    what: Vec<What>,
    /// Interleaved rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long each contender is measured in a round
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500)]
    window: u64,
    /// Without bursts of real-time priority, which take root
    #[arg(long)]
    no_real_time: bool,
    /// Where files of at most 1.5 GiB are made, and removed
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// The key-value example
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/examples/key-value"))]
    key_value: PathBuf,
    /// The figures that `guest` has printed
    #[arg(long, value_name = "FILE")]
    drives: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Measure(options) => measure(&options),
        Command::Repeat { device, operation, depth, count } => {
            around::repeat(&device, &operation, depth, count)
        }
        Command::Guest(turns) => drives::guest(turns.rounds, Duration::from_millis(turns.window)),
        Command::Drive { driver, turns } => drives::child(&driver, Duration::from_millis(turns.window)),
    };
    demikernel_measure::exit_code(result)
}

fn measure(options: &Measure) -> io::Result<()> {
    if !fio::is_there() {
        return Err(io::Error::other("fio is not installed"));
    }
    if options.no_real_time {
        machine::Burst::disable();
    }
    let scratch = machine::Scratch::new(&options.directory)?;
    let (rounds, window) = (options.rounds, Duration::from_millis(options.window));
    let (mut rows, mut failed) = (Vec::<Row>::new(), Vec::new());
    for what in &options.what {
        let result = match what {
            What::Around => around::rows(),
            What::Random => random::measure(&scratch, rounds, window),
            What::Append => append::measure(&scratch, rounds, window),
            What::Replay => replay::measure(&scratch, rounds),
            What::Kv => key_value::measure(&scratch, rounds, &options.key_value),
            What::Drives => match &options.drives {
                Some(path) => std::fs::read_to_string(path).map(|printed| drives::rows(&printed)),
                None => continue,
            },
        };
        // What has been measured is worth a table, whatever happens to the rest.
        match result {
            Ok(measured) => rows.extend(measured),
            Err(error) => failed.push(error.to_string()),
        }
    }
    println!("{}\n\n{}", machine::description(&options.directory), table::render(&rows));
    if failed.is_empty() { Ok(()) } else { Err(io::Error::other(failed.join("; "))) }
}
