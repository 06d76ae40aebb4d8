//! Key-value servers under redis-benchmark, with a log and without.

use super::{Bench, Measured, START};
use crate::ends::Means;
use crate::place::Place;
use crate::systems::System;
use demikernel_measure::child::{Server, output};
use demikernel_measure::machine::{CLIENT_CORE, SERVER_CORE, pin};
use demikernel_measure::redis::requests_per_second;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Without and with persistence.
pub(super) const CASES: [&str; 2] = ["memory", "durable"];

/// Bytes of a value, and connections, each with one request under way.
const VALUE: &str = "64";
const CLIENTS: &str = "50";

/// How long redis-benchmark may take.
const LIMIT: Duration = Duration::from_secs(120);

impl Bench {
    /// SET and GET in memory, SET alone where it waits for the disk.
    pub(super) fn key_value(&self, place: &Place, system: &System, case: &str) -> io::Result<Measured> {
        let is_durable = case == "durable";
        let directory = place.file("key-value");
        std::fs::create_dir(&directory)?;
        let mut address = place.server()?;
        if address.port() == 0 {
            address = TcpListener::bind(address)?.local_addr()?;
        }
        let mut command = match system.means {
            Means::Ours => self.example(place, system, address, is_durable)?,
            _ => redis(address, is_durable),
        };
        command.current_dir(&directory);
        pin(SERVER_CORE);
        let mut server =
            Server::start(&mut command, START).map_err(|error| missing("redis-server", error))?;
        wait_for(&mut server, address)?;
        let (requests, commands): (u64, &[&str]) = match is_durable {
            true => ((self.milliseconds * 10).max(200), &["set"]),
            false => ((self.milliseconds * 200).max(1000), &["set", "get"]),
        };
        let mut measured = Measured::new();
        for command in commands {
            let rate = benchmark(address, command, requests)?;
            measured.push((format!("{case} {command}"), vec![("rate", rate)]));
        }
        drop(server);
        std::fs::remove_dir_all(directory)?;
        Ok(measured)
    }

    fn example(
        &self,
        place: &Place,
        system: &System,
        address: SocketAddr,
        is_durable: bool,
    ) -> io::Result<Command> {
        let mut command = Command::new(self.examples.join("key-value"));
        command.args(["--listen", &address.to_string(), "--transport", system.transport]);
        // As the echo with a log.
        command.args(["--idle", if is_durable { "adaptive" } else { system.idle }]);
        if is_durable {
            command.args(["--log", "./log", "--log-size", "64"]);
        }
        if let Some(path) = place.configuration(0)? {
            command.env("DEMIKERNEL_CONFIG", path);
        }
        Ok(command)
    }
}

fn redis(address: SocketAddr, is_durable: bool) -> Command {
    let mut command = Command::new("redis-server");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["--bind", &host, "--port", &port, "--save", ""]);
    match is_durable {
        true => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
        false => command.args(["--appendonly", "no"]),
    };
    command
}

fn wait_for(server: &mut Server, address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + START;
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if let Some(status) = server.status()? {
            return Err(io::Error::other(format!("the server does not start: {status}: {}", server.ready)));
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("the server does not accept connections"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Requests per second.
fn benchmark(address: SocketAddr, name: &str, requests: u64) -> io::Result<f64> {
    let mut command = Command::new("redis-benchmark");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["-h", &host, "-p", &port, "-c", CLIENTS, "-d", VALUE, "--csv", "-t", name]);
    // Most keys are there when they are asked for.
    command.args(["-n", &requests.to_string(), "-r", &(requests / 2).to_string()]);
    pin(CLIENT_CORE);
    let output = output(&mut command, LIMIT);
    pin(SERVER_CORE);
    let output = output.map_err(|error| missing("redis-benchmark", error))?.check("redis-benchmark")?;
    let rate = requests_per_second(&output.stdout);
    rate.ok_or_else(|| io::Error::other(format!("redis-benchmark says {:?}", output.stdout.trim())))
}

/// The error of starting a program that may not be there.
fn missing(program: &str, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(error.kind(), format!("{program} is not installed: cargo xtask setup"))
        }
        _ => error,
    }
}
