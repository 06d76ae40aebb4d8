//! The `sharded-key-value` example with one core and with two: what a request costs it.
//!
//! On a machine with as many cores as the server has, the client takes from it what it needs itself, so that requests/s say
//! little about how the server scales. But what a request costs, in CPU time and in instructions, does not depend on how long
//! the server waited for a core: a server of two cores does so many times the work of one as it is twice of what a request
//! costs with one, divided by what it costs with two. Idle cores block, as those that spin would be charged for it.

use crate::child;
use crate::instructions;
use crate::machine::{self, Scheduled};
use crate::record::{Kind, Log, Record};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The contender.
pub const OURS: &str = "sharded-key-value";
/// The commands, one at a time.
pub const COMMANDS: [&str; 2] = ["set", "get"];
/// How many cores there are.
pub const CORES: [usize; 2] = [1, 2];
/// Requests of a window; each connection has so many under way.
const REQUESTS: u64 = 400_000;
const PIPELINE: u64 = 16;
/// Of two runs whose difference is counted.
const COUNTED: [u64; 2] = [20_000, 60_000];

const PATIENCE: Duration = Duration::from_secs(20);

/// The name of a measurement in the records.
pub fn item(command: &str, cores: usize) -> String {
    format!("{command}-{cores}")
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &Path, cores: usize, transport: &str, wrapper: &[String]) -> io::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = match wrapper {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(["--listen", &address.to_string(), "--cores", &cores.to_string()]);
        command.args(["--transport", transport, "--idle", "block"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut server = Self { child, address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("{OURS} does not start: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{OURS} does not accept connections")));
            }
            sleep(Duration::from_millis(20));
        }
        // The other cores begin to accept, too.
        sleep(Duration::from_millis(200));
        Ok(server)
    }

    fn load(&self, command: &str, requests: u64) -> io::Result<()> {
        let mut benchmark = Command::new("redis-benchmark");
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        benchmark.args(["-h", &host, "-p", &port, "-c", "50", "-r", "100000", "-q", "-t", command]);
        benchmark.args(["-P", &PIPELINE.to_string(), "-n", &requests.to_string()]);
        child::output(&mut benchmark, Duration::from_secs(120))?.check("redis-benchmark").map(drop)
    }

    /// Requests/s, and CPU ns per request.
    fn measure(&self, command: &str) -> io::Result<Vec<f64>> {
        let (before, start) = (Scheduled::of(self.child.id()), Instant::now());
        self.load(command, REQUESTS)?;
        let took = start.elapsed().as_secs_f64();
        let running = Scheduled::of(self.child.id()).since(before).running;
        Ok(vec![REQUESTS as f64 / took, running as f64 / REQUESTS as f64])
    }

    /// Ends it as its users do, and gives what it wrote to standard error.
    fn end(mut self) -> io::Result<String> {
        // SAFETY: the child has not been waited for, so that the id is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::other("the server does not end"));
            }
            sleep(Duration::from_millis(50));
        }
        // What it writes, a few lines, is in the pipe.
        let mut errors = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut errors)?;
        Ok(errors)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures `rounds` times, both servers in turns.
pub fn run(program: &Path, rounds: usize, log: &mut Log) -> io::Result<()> {
    check(program)?;
    machine::pin_to(&[machine::SERVER_CORE, machine::CLIENT_CORE]);
    let mut servers = CORES
        .map(|cores| (cores, Server::start(program, cores, "io_uring", &[])))
        .into_iter()
        .collect::<Vec<_>>();
    let first = log.next_round(Kind::Shards);
    for round in first..first + rounds {
        eprintln!("{OURS}: round {} of {rounds}", round - first + 1);
        servers.reverse();
        for command in COMMANDS {
            for (cores, server) in &servers {
                let server = server.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
                let (contender, item) = (OURS.into(), item(command, *cores));
                let values = server.measure(command)?;
                log.push(Record { kind: Kind::Shards, contender, item, round, values })?;
            }
        }
    }
    Ok(())
}

/// Counts instructions in user space per request, on epoll: valgrind lets no other thread run, and keeps signals back, while
/// one waits in io_uring.
pub fn count(program: &Path, log: &mut Log) -> io::Result<()> {
    check(program)?;
    for command in COMMANDS {
        for cores in CORES {
            let total = |requests: u64| {
                let server = Server::start(program, cores, "epoll", &instructions::wrapper())?;
                server.load(command, requests)?;
                instructions::collected(&server.end()?)
            };
            let (small, large) = (total(COUNTED[0])?, total(COUNTED[1])?);
            let values = vec![(large as f64 - small as f64) / (COUNTED[1] - COUNTED[0]) as f64];
            let (contender, item) = (OURS.into(), item(command, cores));
            log.push(Record { kind: Kind::ShardInstructions, contender, item, round: 0, values })?;
        }
    }
    Ok(())
}

fn check(program: &Path) -> io::Result<()> {
    if program.exists() {
        return Ok(());
    }
    let build = "cargo build --release --example sharded-key-value";
    Err(io::Error::other(format!("there is no {}: {build}", program.display())))
}
