//! Interleaved rounds of latency and throughput.

use super::server::Server;
use super::{latency, throughput};
use crate::machine::{self, Pace};
use crate::record::{Kind, Log, Record};
use std::io;
use std::time::Duration;

/// Connections and bytes of the throughput cells.
pub const CELLS: [(usize, usize); 4] = [(32, 64), (256, 64), (32, 16 * 1024), (256, 16 * 1024)];

/// The name of a cell in the records.
pub fn cell(connections: usize, size: usize) -> String {
    format!("{connections}x{size}")
}

/// How long the parts of a round are.
#[derive(Clone, Copy)]
pub struct Lengths {
    /// Round trips of a latency burst.
    pub round_trips: usize,
    /// Window of a throughput burst.
    pub window: Duration,
    /// Priority, and pauses between bursts.
    pub pace: Pace,
}

/// Starts all servers and measures `rounds` times.
pub fn run(servers: &[String], rounds: usize, lengths: Lengths, log: &mut Log) -> io::Result<()> {
    machine::pin(machine::CLIENT_CORE);
    let mut running = vec![];
    for name in servers {
        match Server::start(name, &[]) {
            Ok(server) => {
                server.rest();
                running.push((name.as_str(), server));
            }
            Err(error) => eprintln!("{error}"),
        }
    }
    let first = log.next_round(Kind::Latency).max(log.next_round(Kind::Throughput));
    for round in first..first + rounds {
        eprintln!("echo: round {} of {rounds}", round - first + 1);
        // Nobody is always the first after a pause.
        running.rotate_left(1);
        for (name, server) in &running {
            server.resume();
            let record = measure_latency(name, server, round, lengths);
            server.rest();
            keep(log, record, name)?;
        }
        for (connections, size) in CELLS {
            for (name, server) in &running {
                server.resume();
                let record = measure_throughput(name, server, round, connections, size, lengths);
                server.rest();
                keep(log, record, name)?;
            }
        }
    }
    Ok(())
}

/// A server that fails costs its own figures only.
fn keep(log: &mut Log, record: io::Result<Record>, name: &str) -> io::Result<()> {
    match record {
        Ok(record) => log.push(record),
        Err(error) => {
            eprintln!("echo: {name}: {error}");
            Ok(())
        }
    }
}

fn measure_latency(name: &str, server: &Server, round: usize, lengths: Lengths) -> io::Result<Record> {
    let quantiles = latency::burst(server, lengths.round_trips, lengths.pace)?;
    let values = quantiles.map(|ns| ns as f64).to_vec();
    Ok(Record { kind: Kind::Latency, contender: name.into(), item: "1x64".into(), round, values })
}

fn measure_throughput(
    name: &str,
    server: &Server,
    round: usize,
    connections: usize,
    size: usize,
    lengths: Lengths,
) -> io::Result<Record> {
    let figures = throughput::burst(server, connections, size, lengths.window, lengths.pace)?;
    let values = vec![figures.rate, figures.server_ns, figures.utilisation];
    let item = cell(connections, size);
    Ok(Record { kind: Kind::Throughput, contender: name.into(), item, round, values })
}
