//! The `key-value` example against redis-server, under redis-benchmark: 50 clients, one core for the server and one
//! for redis-benchmark, a window of each in turn.

use crate::child;
use crate::machine::{self, Burst, Scheduled};
use crate::record::{Kind, Log, Record};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The commands that are measured, one at a time.
pub const COMMANDS: [&str; 2] = ["set", "get"];
/// Requests in flight on each connection, and how many there are in a window.
pub const PIPELINES: [(u64, u64); 2] = [(1, 100_000), (16, 1_000_000)];
/// The contenders.
pub const OURS: &str = "key-value";
/// Debian's, as it comes, without persistence.
pub const REDIS: &str = "redis-server";

/// The name of a measurement in the records.
pub fn item(command: &str, pipeline: u64) -> String {
    format!("{command}-P{pipeline}")
}

struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a command on the server's core, and waits until it accepts connections.
    fn start(name: &'static str, command: impl FnOnce(SocketAddr) -> Command) -> io::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        // A child inherits the core.
        machine::pin(machine::SERVER_CORE);
        let child = command(address).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        machine::pin(machine::CLIENT_CORE);
        let mut server = Self { name, child: child?, address };
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("{name} does not start: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{name} does not accept connections")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// One run of redis-benchmark.
    fn measure(
        &self,
        command: &str,
        (pipeline, requests): (u64, u64),
        round: usize,
        real_time: bool,
    ) -> io::Result<Record> {
        let before = Scheduled::of(self.child.id());
        // redis-benchmark inherits the priority.
        let burst = Burst::start(self.child.id(), real_time);
        let output =
            child::output(&mut self.benchmark(command, pipeline, requests), Duration::from_secs(60))?;
        drop(burst);
        let server = Scheduled::of(self.child.id()).since(before);
        let output = output.check("redis-benchmark")?;
        let rate = requests_per_second(&output.stdout).ok_or_else(|| {
            io::Error::other(format!("redis-benchmark printed no figure: {}", output.stdout.trim()))
        })?;
        let values = vec![rate, server.running as f64 / requests as f64];
        let (contender, item) = (self.name.into(), item(command, pipeline));
        Ok(Record { kind: Kind::Requests, contender, item, round, values })
    }

    fn benchmark(&self, command: &str, pipeline: u64, requests: u64) -> Command {
        let mut benchmark = Command::new("redis-benchmark");
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        benchmark.args(["-h", &host, "-p", &port, "-c", "50", "-r", "100000", "--csv", "-t", command]);
        benchmark.args(["-P", &pipeline.to_string(), "-n", &requests.to_string()]);
        benchmark
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The second field of the last line: `"SET","98039.22","0.263",...`.
fn requests_per_second(csv: &str) -> Option<f64> {
    csv.lines().last()?.split(',').nth(1)?.trim_matches('"').parse().ok()
}

fn redis_server(address: SocketAddr) -> Command {
    let mut command = Command::new("redis-server");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["--bind", &host, "--port", &port, "--save", "", "--appendonly", "no"]);
    command
}

/// Measures `rounds` times with the example at `ours`, in bursts of real-time priority or without.
pub fn run(ours: &Path, rounds: usize, real_time: bool, log: &mut Log) -> io::Result<()> {
    if !ours.exists() {
        let build = "cargo build --release --example key-value";
        return Err(io::Error::other(format!("there is no {}: {build}", ours.display())));
    }
    let key_value = |address: SocketAddr| {
        let mut command = Command::new(ours);
        command.args(["--listen", &address.to_string()]);
        command
    };
    let mut servers = [Server::start(REDIS, redis_server)?, Server::start(OURS, key_value)?];
    let first = log.next_round(Kind::Requests);
    for round in first..first + rounds {
        eprintln!("key-value: round {} of {rounds}", round - first + 1);
        servers.reverse();
        for pipeline in PIPELINES {
            for command in COMMANDS {
                for server in &servers {
                    log.push(server.measure(command, pipeline, round, real_time)?)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::requests_per_second;

    #[test]
    fn the_rate_is_read_from_what_redis_benchmark_prints() {
        let header = "\"test\",\"rps\",\"avg_latency_ms\"\n";
        let csv = format!("{header}\"SET\",\"98039.22\",\"0.263\"\n");
        assert_eq!(requests_per_second(&csv), Some(98_039.22));
        assert_eq!(requests_per_second(header), None);
    }
}
