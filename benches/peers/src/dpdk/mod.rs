//! The userspace stack on DPDK, between two processes that are joined by memif: over the same cable as bare frames, and
//! beside kernel TCP over the loopback.
//!
//! Each round starts every process anew, as the two cores of a virtual machine may be near to each other or far, and
//! that changes between starts; the round trip of a cache line is measured beside and tells which.

pub mod ends;
mod report;
mod solo;

use crate::echo;
use crate::echo::server::Server as EchoServer;
use crate::machine::{self, Pace};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What is measured, in the order of the table.
///
/// Not an MTU of 9000: the memif driver of DPDK 22.11 takes frames of 1518 bytes at most.
pub const ITEMS: [&str; 7] = ["raw", "udp", "tcp", "solo", "kernel", "stream", "kv"];

/// Figures of one item in one round: a name, its unit, and the figure.
pub type Figures = Vec<(String, &'static str, f64)>;

/// What to do.
pub struct Plan<'a> {
    /// Rounds.
    pub rounds: usize,
    /// Items; all if there are none.
    pub items: &'a [String],
    /// The key-value example, built with the feature dpdk.
    pub key_value: &'a Path,
}

/// Measures, and prints a table.
///
/// # Errors
/// If a process does not start: there are huge pages to reserve.
pub fn run(plan: &Plan<'_>) -> io::Result<()> {
    let mut report = report::Report::default();
    for round in 0..plan.rounds {
        for item in ITEMS {
            if !plan.items.is_empty() && !plan.items.iter().any(|one| one == item) {
                continue;
            }
            // On one core, the two threads of that measurement would wait for each other.
            machine::pin(machine::SERVER_CORE);
            let line = demikernel_measure::cores::cache_line();
            let figures = measure(item, round, plan.key_value)?;
            for (name, unit, figure) in figures {
                eprintln!("round {round}: {name} {figure:.3} {unit} (cache line {line:.0} ns)");
                report.add(name, unit, line, figure);
            }
        }
    }
    report.print();
    Ok(())
}

fn measure(item: &str, round: usize, key_value: &Path) -> io::Result<Figures> {
    let latency = |kind: &str| {
        let figures = pair(kind, round, 1500, &[])?;
        Ok(vec![
            (format!("{kind} p50"), "us", figures[0] / 1e3),
            (format!("{kind} p99"), "us", figures[1] / 1e3),
        ])
    };
    match item {
        "raw" => bare(round),
        "udp" | "tcp" => latency(item),
        "solo" => solo(round),
        "kernel" => kernel(),
        "stream" => stream(round, 1500),
        _ => requests(round, key_value),
    }
}

/// Bare frames: of the size of a message, and of the sizes that messages have in frames of UDP and of TCP, which lie in two
/// and in three cache lines.
fn bare(round: usize) -> io::Result<Figures> {
    let mut rows = Vec::new();
    for (size, name) in [("64", "raw"), ("106", "raw of UDP's size"), ("130", "raw of TCP's size")] {
        let figures = pair("raw", round, 1500, &["--size", size])?;
        rows.push((format!("{name} p50"), "us", figures[0] / 1e3));
        rows.push((format!("{name} p99"), "us", figures[1] / 1e3));
    }
    Ok(rows)
}

/// Both ends in one thread.
fn solo(round: usize) -> io::Result<Figures> {
    let cable = ends::Cable::new("solo", round, 1500);
    machine::pin(machine::CLIENT_CORE);
    let names =
        ["frame round trip", "UDP round trip", "TCP round trip", "frames of MTU 1500", "TCP at MTU 1500"];
    let units = ["ns", "ns", "ns", "Gb/s", "Gb/s"];
    let figures = client("solo", &cable, &[])?;
    let mut rows: Figures = names
        .iter()
        .zip(units)
        .zip(figures)
        .map(|((name, unit), figure)| (format!("one thread, {name}"), unit, figure))
        .collect();
    let counting = std::env::current_exe()?.with_file_name("allocations");
    let mut counting = Command::new(counting);
    let figures = figures_of(counting.args(["dpdk", &format!("{}-counting", cable.socket())]))?;
    let names = ["per UDP echo", "per TCP echo"];
    let counts = names.iter().zip(figures);
    rows.extend(counts.map(|(name, figure)| (format!("one thread, allocations {name}"), "", figure)));
    Ok(rows)
}

/// Prints how often memory is allocated per echo over UDP and over TCP, for both ends in one thread, in a program whose
/// allocator counts.
///
/// # Errors
/// Those of DPDK and of sockets.
pub fn count_allocations(socket: &str) -> io::Result<()> {
    solo::count_allocations(&ends::Cable::at(socket, 1500))
}

/// A blocking and a spinning server of other runtimes behind the kernel's loopback.
fn kernel() -> io::Result<Figures> {
    let mut figures = Vec::new();
    for server in ["tokio", "raw-epoll-spin"] {
        machine::pin(machine::CLIENT_CORE);
        let running = EchoServer::start(server, &[])?;
        let pace = Pace { real_time: false, pause: Duration::from_millis(50) };
        let [p50, _] = echo::latency::burst(&running, 20_000, pace)?;
        figures.push((format!("kernel TCP, {server} p50"), "us", p50 as f64 / 1e3));
    }
    Ok(figures)
}

/// Gigabits of payload per second: bare frames, and TCP in messages of 256 KiB.
fn stream(round: usize, mtu: u16) -> io::Result<Figures> {
    let raw = pair("flood", round, mtu, &[])?;
    let tcp = pair("stream", round, mtu, &[])?;
    Ok(vec![(format!("frames of MTU {mtu}"), "Gb/s", raw[0]), (format!("TCP at MTU {mtu}"), "Gb/s", tcp[0])])
}

/// Requests per second of the key-value example with 1,000 connections of one request each.
fn requests(round: usize, key_value: &Path) -> io::Result<Figures> {
    let mut figures = Vec::new();
    for (transport, name) in [("dpdk", "key-value on DPDK"), ("io_uring", "key-value on io_uring")] {
        let cable = ends::Cable::new("kv", round, 1500);
        let mut command = Command::new(key_value);
        command.env("DEMIKERNEL_TRANSPORT", transport).args(["--idle", "spin"]);
        let address = if transport == "dpdk" { "10.66.0.1:6379" } else { "127.0.0.1:16379" };
        command.args(["--listen", address]);
        let file = std::env::temp_dir().join(format!("demikernel-bench-{}.toml", std::process::id()));
        std::fs::write(&file, cable.configuration(0))?;
        command.env("DEMIKERNEL_CONFIG", &file);
        machine::pin(machine::SERVER_CORE);
        let server = start(&mut command);
        machine::pin(machine::CLIENT_CORE);
        let server = server?;
        let result = client("kv", &cable, &["--transport", transport, "--address", address])?;
        drop(server);
        std::fs::remove_file(file)?;
        figures.push((name.to_owned(), "k/s", result[0] / 1e3));
    }
    Ok(figures)
}

/// A process that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server, and waits for its first line.
fn start(command: &mut Command) -> io::Result<Running> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
    let running = Running(child);
    if line.is_empty() { Err(io::Error::other(format!("{command:?} does not start"))) } else { Ok(running) }
}

/// A server and a client of this program, joined by a cable: what the client says.
fn pair(kind: &str, round: usize, mtu: u16, arguments: &[&str]) -> io::Result<Vec<f64>> {
    let cable = ends::Cable::new(kind, round, mtu);
    let mut server = Command::new(std::env::current_exe()?);
    server.args(["dpdk-child", kind, "--server"]).args(cable.arguments()).args(arguments);
    let _server = start(&mut server)?;
    client(kind, &cable, arguments)
}

fn client(kind: &str, cable: &ends::Cable, arguments: &[&str]) -> io::Result<Vec<f64>> {
    let mut client = Command::new(std::env::current_exe()?);
    figures_of(client.args(["dpdk-child", kind]).args(cable.arguments()).args(arguments))
}

/// The numbers that a program prints.
fn figures_of(command: &mut Command) -> io::Result<Vec<f64>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if !output.status.success() || figures.is_empty() {
        return Err(io::Error::other(format!("{command:?} has failed: {text}")));
    }
    Ok(figures)
}
