//! The example key-value with a log beside redis-server that waits for fdatasync, under redis-benchmark.

use crate::machine::{Burst, Preferred, Scratch, ratio};
use crate::table::{Row, rate};
use demikernel_measure::redis::requests_per_second;
use demikernel_measure::stats::median;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Clients, and requests of a run: it lasts about as long with any number of them.
const LOADS: [(u32, u32); 3] = [(1, 1_000), (16, 12_000), (64, 40_000)];

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str, command: impl FnOnce(SocketAddr) -> Command) -> io::Result<Server> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = command(address).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut server = Server { child, address };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("{name} does not start: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{name} does not accept connections")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// SET requests per second, as redis-benchmark counts them.
    fn measure(&self, clients: u32, requests: u32) -> io::Result<f64> {
        // At the end of a run it spins until the last replies are there: with real-time priority it would keep the
        // kernel's threads, and so these replies, waiting for a second.
        let mut benchmark = Command::new("nice");
        benchmark.args(["-n", "-20", "redis-benchmark"]);
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        benchmark.args(["-h", &host, "-p", &port, "-r", "100000", "-d", "64", "--csv", "-t", "set"]);
        benchmark.args(["-c", &clients.to_string(), "-n", &requests.to_string()]);
        let burst = Burst::of(vec![self.child.id()]);
        let output = benchmark.output()?;
        drop(burst);
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = requests_per_second(&text).filter(|_| output.status.success());
        rate.ok_or_else(|| io::Error::other(format!("redis-benchmark: {}: {}", output.status, text.trim())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rows for each number of clients. `ours` is the example.
pub fn measure(scratch: &Scratch, rounds: usize, ours: &Path) -> io::Result<Vec<Row>> {
    let directory = scratch.path("redis");
    fs::create_dir(&directory)?;
    let key_value = |address: SocketAddr| {
        let mut command = Command::new(ours);
        command.args(["--listen", &address.to_string(), "--log-size", "256", "--log"]);
        command.arg(scratch.path("key-value"));
        command
    };
    let redis = |address: SocketAddr| {
        let mut command = Command::new("redis-server");
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        command.args(["--bind", &host, "--port", &port, "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--dir"]).arg(&directory);
        command
    };
    let _session = Preferred::session();
    let (own, other) = (Server::start("key-value", key_value)?, Server::start("redis-server", redis)?);
    // What is made at first, memory and threads of the kernel, is there afterwards.
    for server in [&own, &other] {
        server.measure(4, 2_000)?;
    }
    let mut rows = Vec::new();
    for (clients, requests) in LOADS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            eprintln!("key-value: {clients} clients, round {} of {rounds}", round + 1);
            if round % 2 == 0 {
                ours.push(own.measure(clients, requests)?);
                theirs.push(other.measure(clients, requests)?);
            } else {
                theirs.push(other.measure(clients, requests)?);
                ours.push(own.measure(clients, requests)?);
            }
        }
        let ratio = ratio(&ours, &theirs);
        rows.push(Row {
            name: format!("key-value --log, SET of 64 B, {clients} clients"),
            figure: rate(median(ours)),
            references: format!("redis-server, appendfsync always {}: {ratio:.2} x", rate(median(theirs))),
            bar: Some((">= 1.5 x".to_owned(), ratio >= 1.5)),
        });
    }
    Ok(rows)
}
