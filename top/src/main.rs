//! Shows what a running demikernel program does.
//!
//! ```text
//! $ cat demikernel.toml
//! [inspect]
//! socket = "/run/user/1000/server.sock"
//! $ DEMIKERNEL_CONFIG=demikernel.toml ./server &
//! $ demikernel-top /run/user/1000/server.sock             # q ends it; 1, 2, 3: counters, tasks, connections
//! $ demikernel-top --once /run/user/1000/server.sock      # the same as text, for a second
//! ```

mod figures; // rates, from two samples
mod keys; // the terminal, and what is pressed
mod screen; // what is drawn
mod text; // the same without a terminal

use anyhow::{Context, Result};
use clap::Parser;
use demikernel_inspect::Client;
use figures::Sample;
use std::path::PathBuf;
use std::time::Duration;

/// Shows what a running demikernel program does: its cores, tasks, transports and latencies.
///
/// The program has to have a control socket: `[inspect]` with `socket = "PATH"` in its demikernel.toml.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The program's control socket
    socket: PathBuf,
    /// Print once what it does, as text, and end
    #[arg(long)]
    once: bool,
    /// Print the tasks, and what each waits for
    #[arg(long, conflicts_with_all = ["once", "connections"])]
    tasks: bool,
    /// Print the connections
    #[arg(long, conflicts_with = "once")]
    connections: bool,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    /// Tasks and connections to ask for, of each core
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    most: u32,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds from 0.01 to 3600".to_owned())
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let shown = cli.socket.display();
    let mut client = Client::connect(&cli.socket).with_context(|| format!("cannot look into {shown}"))?;
    let most = cli.most as usize;
    let interval = Duration::from_secs_f64(cli.interval);
    if cli.tasks {
        print!("{}", text::tasks(&client.dump(most)?));
    } else if cli.connections {
        print!("{}", text::connections(&client.connections(most)?));
    } else if cli.once {
        let before = Sample::take(&mut client)?;
        std::thread::sleep(interval);
        let now = Sample::take(&mut client)?;
        print!("{}", text::metrics(client.greeting(), &before, &now));
    } else {
        keys::run(&mut client, interval, most)?;
    }
    Ok(())
}
