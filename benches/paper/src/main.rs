//! The experiments of the Demikernel paper (Zhang et al., SOSP 2021, section 7) on the transports of this machine.
//!
//! `cargo xtask paper` builds this and runs it: `measure` writes `results.json` and `report.html`, `report` makes the
//! latter of the former again.
//!
//! - [`systems`]: who is compared. [`place`]: where two ends meet. [`ends`]: the processes at either end.
//! - [`experiments`]: interleaved rounds of them.
//! - [`results`]: the figures as they are measured. [`machine`]: of which machine.
//! - [`published`]: what the paper says. [`report`]: the page.

mod ends;
mod experiments;
mod machine;
mod place;
mod published;
mod report;
mod results;
mod systems;

use clap::{Parser, Subcommand};
use results::{Experiment, Plan, Results};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The experiments of the Demikernel paper again.
#[derive(Parser)]
#[command(name = "demikernel-paper")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and write results.json and report.html
    Measure(Measure),
    /// Write report.html for results that are there
    Report {
        /// What `measure` has written
        results: PathBuf,
        /// The directory for the report
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// What `measure` starts at either end
    #[command(hide = true)]
    End(ends::End),
}

#[derive(clap::Args)]
pub(crate) struct Measure {
    /// Two minutes' worth of it
    #[arg(long)]
    quick: bool,
    /// Only these experiments
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Experiment>,
    /// Interleaved rounds, 5 or 3 unless given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// How long each latency is measured in a round, 1000 or 100 unless given; others follow from it
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=600_000))]
    milliseconds: Option<u32>,
    /// The directory for what is written
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Where the examples udp-relay and key-value have been built, with the same features
    #[arg(long)]
    examples: PathBuf,
    /// Where logs are written and removed again, the directory for temporary files unless given
    #[arg(long)]
    directory: Option<PathBuf>,
}

impl Measure {
    fn plan(&self) -> Plan {
        let (rounds, milliseconds) = if self.quick { (3, 100) } else { (5, 1000) };
        Plan {
            rounds: self.rounds.map_or(rounds, usize::from),
            milliseconds: self.milliseconds.map_or(milliseconds, u64::from),
            experiments: if self.only.is_empty() { Experiment::ALL.to_vec() } else { self.only.clone() },
            unix_time: 0,
        }
    }
}

fn main() -> ExitCode {
    demikernel_measure::exit_code(run(Arguments::parse().command))
}

fn run(command: Command) -> io::Result<()> {
    match command {
        Command::End(end) => ends::run(&end),
        Command::Measure(options) => {
            for example in ["udp-relay", "key-value"] {
                let path = options.examples.join(example);
                if !path.exists() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, format!("no {}", path.display())));
                }
            }
            fs::create_dir_all(&options.out)?;
            let results = experiments::run(&options)?;
            results.write(&options.out.join("results.json"))?;
            write_report(&results, &options.out)
        }
        Command::Report { results, out } => {
            let results = Results::read(&results)?;
            fs::create_dir_all(&out)?;
            write_report(&results, &out)
        }
    }
}

fn write_report(results: &Results, out: &Path) -> io::Result<()> {
    let page = report::render(results).map_err(|error| io::Error::other(error.to_string()))?;
    let path = out.join("report.html");
    fs::write(&path, page)?;
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
