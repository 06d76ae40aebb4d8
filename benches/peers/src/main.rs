//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use peers::echo::{self, rounds::Lengths};
use peers::machine::Pace;
use peers::operations::{self, Plan};
use peers::record::Log;
use peers::{contenders, executor, floor, instructions, key_value, machine, sharded, stack, table, web};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// demikernel beside other runtimes, a bare executor and raw kernel interfaces.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print the table
    Measure(Measure),
    /// Print the table of a file of records
    Table {
        /// What `measure --records` wrote
        records: PathBuf,
    },
    /// Print the goodput of userspace stacks over losses and round-trip times, in virtual time
    Goodput,
    /// Print what the machine allows: clocks, atomics, the heap, polls, system calls, wakes between cores
    Floor,
    /// Print what TLS costs by rustls, and by the kernel if it has that
    Ktls,
    /// What `measure` starts for each round and runtime
    #[command(hide = true)]
    ExecutorChild {
        runtime: String,
        #[arg(long, default_value_t = 0)]
        round: usize,
        /// So many of each operation, once to warm up and once more, instead of the usual plan
        #[arg(long = "operations")]
        count: Option<u64>,
        operations: Vec<String>,
    },
    /// What `measure` starts for each round and userspace stack
    #[command(hide = true)]
    StackChild {
        stack: String,
        #[arg(long, default_value_t = 0)]
        round: usize,
        /// So many of each operation, unmeasured
        #[arg(long = "operations")]
        count: Option<u64>,
        items: Vec<String>,
    },
    /// Measure the userspace stack on DPDK between two processes, and print the table
    #[cfg(feature = "dpdk")]
    Dpdk {
        /// Only these
        #[arg(value_parser = peers::dpdk::ITEMS)]
        items: Vec<String>,
        /// Rounds, in each of which all processes are started anew
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// The key-value example, built with the feature dpdk
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/examples/key-value"))]
        key_value: PathBuf,
    },
    /// What `dpdk` starts at either end
    #[cfg(feature = "dpdk")]
    #[command(hide = true)]
    DpdkChild(peers::dpdk::ends::Child),
    /// Serve TCP echo on a port of the kernel's choice
    Serve {
        /// Which server
        #[arg(value_parser = echo::SERVERS)]
        server: String,
        /// The core
        #[arg(long, default_value_t = machine::SERVER_CORE)]
        core: usize,
    },
    /// Serve axum's hello on a port of the kernel's choice
    ServeWeb(ServeWeb),
}

/// What runs in the process of a server.
#[derive(clap::Args)]
struct ServeWeb {
    /// Which server
    #[arg(value_parser = web::SERVERS)]
    server: String,
    /// The core
    #[arg(long, default_value_t = machine::SERVER_CORE)]
    core: usize,
    /// With a certificate that is made at the start
    #[arg(long)]
    tls: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// Tasks, wakes, queue tokens, channels, timers
    Executor,
    /// TCP echo over loopback
    Echo,
    /// The userspace stack against smoltcp
    Net,
    /// The key-value example against redis-server
    Kv,
    /// The sharded-key-value example with two cores against one
    Shards,
    /// axum under wrk, with TLS and without
    Web,
}

#[derive(clap::Args)]
struct Measure {
    /// What to measure
    #[arg(value_enum, default_values_t = [What::Executor, What::Echo, What::Net, What::Kv, What::Shards, What::Web])]
    what: Vec<What>,
    /// Interleaved rounds of the executor operations, of the userspace stack, of key-value and of web servers
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Interleaved rounds of echo, which are shorter
    #[arg(long, default_value_t = 15)]
    echo_rounds: usize,
    /// Only these executor operations
    #[arg(long, value_delimiter = ',', value_parser = operations::NAMES)]
    operations: Vec<String>,
    /// Only these runtimes in the executor operations
    #[arg(long, value_delimiter = ',', value_parser = contenders::RUNTIMES)]
    runtimes: Vec<String>,
    /// Only these servers in echo
    #[arg(long, value_delimiter = ',', value_parser = echo::SERVERS)]
    servers: Vec<String>,
    /// Only these web servers
    #[arg(long, value_delimiter = ',', value_parser = web::SERVERS)]
    web_servers: Vec<String>,
    /// Only these items of the userspace stack
    #[arg(long, value_delimiter = ',', value_parser = stack::ITEMS)]
    items: Vec<String>,
    /// Do not count instructions, which takes minutes
    #[arg(long)]
    no_instructions: bool,
    /// Echo, key-value and web without bursts of real-time priority
    #[arg(long)]
    no_real_time: bool,
    /// The key-value example
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/examples/key-value"))]
    key_value: PathBuf,
    /// The sharded-key-value example
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/examples/sharded-key-value"))]
    sharded: PathBuf,
    /// Keep the records in this file; one that exists is continued
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
}

fn main() -> ExitCode {
    demikernel_measure::exit_code(run(Arguments::parse().command))
}

fn run(command: Command) -> io::Result<()> {
    match command {
        Command::Measure(options) => measure(&options),
        Command::Table { records } => {
            print!("{}", table::render(&Log::open(Path::new(&records))?));
            Ok(())
        }
        Command::ExecutorChild { runtime, round, count, operations } => {
            match count {
                None => operations::report(&runtime, &operations, round, false),
                Some(count) => operations.iter().for_each(|operation| {
                    operations::run(&runtime, operation, Plan { operations: count, repetitions: 1 });
                }),
            }
            Ok(())
        }
        Command::StackChild { stack, round, count, items } => {
            match count {
                None => stack::report(&stack, &items, round),
                Some(count) => items.iter().for_each(|item| stack::repeat(&stack, item, count)),
            }
            Ok(())
        }
        Command::Goodput => {
            stack::print_grid();
            Ok(())
        }
        Command::Floor => {
            floor::run();
            Ok(())
        }
        Command::Ktls => {
            floor::tls();
            Ok(())
        }
        #[cfg(feature = "dpdk")]
        Command::Dpdk { items, rounds, key_value } => {
            peers::dpdk::run(&peers::dpdk::Plan { rounds, items: &items, key_value: &key_value })
        }
        #[cfg(feature = "dpdk")]
        Command::DpdkChild(child) => peers::dpdk::ends::run(&child),
        Command::Serve { server, core } => {
            echo::serve(&server, core);
            Ok(())
        }
        Command::ServeWeb(ServeWeb { server, core, tls }) => {
            web::serve(&server, core, tls);
            Ok(())
        }
    }
}

fn measure(options: &Measure) -> io::Result<()> {
    let mut log = match &options.records {
        Some(path) => Log::open(path)?,
        None => Log::in_memory(),
    };
    let mut failed = vec![];
    for what in &options.what {
        let result = match what {
            What::Executor => measure_executor(options, &mut log),
            What::Echo => measure_echo(options, &mut log),
            What::Net => {
                let instructions = !options.no_instructions && have_valgrind();
                let items = chosen(&options.items, &stack::ITEMS);
                stack::run(&items, options.rounds, instructions, &mut log)
            }
            What::Kv => key_value::run(&options.key_value, options.rounds, !options.no_real_time, &mut log),
            What::Shards => measure_shards(options, &mut log),
            What::Web => measure_web(options, &mut log),
        };
        // What has been measured is worth a table, whatever happens to the rest.
        failed.extend(result.err().map(|error| error.to_string()));
    }
    println!("{}\n\n{}", machine::description(), table::render(&log));
    if options.what.contains(&What::Net) && options.items.is_empty() {
        stack::print_grid();
    }
    if failed.is_empty() { Ok(()) } else { Err(io::Error::other(failed.join("; "))) }
}

fn measure_executor(options: &Measure, log: &mut Log) -> io::Result<()> {
    let runtimes = chosen(&options.runtimes, &contenders::RUNTIMES);
    let operations = chosen(&options.operations, &operations::NAMES);
    executor::time(&runtimes, &operations, options.rounds, log)?;
    executor::allocations(&runtimes, &operations, log)?;
    if options.no_instructions || !have_valgrind() {
        return Ok(());
    }
    eprintln!("executor: counting instructions");
    for operation in &operations {
        // Setting and dropping cannot be told apart by a total, and expiry waits for real time.
        if matches!(operation.as_str(), "timer_insert" | "timer_cancel" | "timer_expire") {
            continue;
        }
        let own = Some("demikernel").filter(|own| runtimes.iter().any(|x| x == own));
        for runtime in own.into_iter().chain(table::fastest_at(log, operation)) {
            // A queue token stands against the peers' slot, which has its own turn.
            if operation == operations::TOKEN && Some(runtime) != own {
                continue;
            }
            if let Err(error) = instructions::operation(runtime, operation, log) {
                eprintln!("executor: {operation} of {runtime}: {error}");
            }
        }
    }
    Ok(())
}

fn measure_echo(options: &Measure, log: &mut Log) -> io::Result<()> {
    let servers = chosen(&options.servers, &echo::SERVERS);
    let pace = Pace { real_time: !options.no_real_time, pause: Duration::from_millis(50) };
    let lengths = Lengths { round_trips: 400, window: Duration::from_millis(40), pace };
    echo::rounds::run(&servers, options.echo_rounds, lengths, log)?;
    if options.no_instructions || !have_valgrind() {
        return Ok(());
    }
    eprintln!("echo: counting instructions");
    // A server that spins executes instructions whether or not there are messages.
    let sleeps = |server: &&String| !server.ends_with("-spin") && !server.ends_with("-adaptive");
    for server in servers.iter().filter(sleeps) {
        for connections in instructions::CONNECTIONS {
            if let Err(error) = instructions::message(server, connections, log) {
                eprintln!("echo: {server}: {error}");
            }
        }
    }
    Ok(())
}

fn measure_shards(options: &Measure, log: &mut Log) -> io::Result<()> {
    sharded::run(&options.sharded, options.rounds, log)?;
    if options.no_instructions || !have_valgrind() {
        return Ok(());
    }
    eprintln!("{}: counting instructions", sharded::OURS);
    sharded::count(&options.sharded, log)
}

fn measure_web(options: &Measure, log: &mut Log) -> io::Result<()> {
    let servers = chosen(&options.web_servers, &web::SERVERS);
    let pace = Pace { real_time: !options.no_real_time, pause: Duration::from_millis(500) };
    web::rounds::run(&servers, options.rounds, pace, log)?;
    if options.no_instructions || !have_valgrind() {
        return Ok(());
    }
    eprintln!("web: counting instructions");
    web::rounds::count(&servers, log)
}

fn have_valgrind() -> bool {
    let available = instructions::available();
    if !available {
        eprintln!("no instructions counted: valgrind is not installed");
    }
    available
}

fn chosen(some: &[String], all: &[&str]) -> Vec<String> {
    if some.is_empty() { all.iter().map(|x| x.to_string()).collect() } else { some.to_vec() }
}
