//! Interleaved rounds under wrk, and instructions per request.

use super::{PLAIN_ONLY, wrk};
use crate::echo::server::Server;
use crate::instructions;
use crate::machine::{self, Burst, Pace, Scheduled};
use crate::record::{Kind, Log, Record};
use std::io;
use std::thread::sleep;

/// What is measured: its name in the records, and whether it is with TLS.
pub const ITEMS: [(&str, bool); 2] = [("http", false), ("https", true)];

/// Of all servers.
pub const CONNECTIONS: usize = 64;

/// Seconds of a turn, of which wrk knows none shorter.
const TURN: u64 = 1;

/// Seconds of two runs whose difference is counted: callgrind makes a server thirty times slower.
const COUNTED: [u64; 2] = [3, 9];

struct Running<'a> {
    name: &'a str,
    item: &'static str,
    tls: bool,
    server: Server,
}

/// Starts all servers and measures `rounds` times.
pub fn run(servers: &[String], rounds: usize, pace: Pace, log: &mut Log) -> io::Result<()> {
    if !wrk::available() {
        return Err(io::Error::other("the comparison of web servers needs wrk: cargo xtask setup"));
    }
    machine::pin(machine::CLIENT_CORE);
    let mut running = vec![];
    for (item, tls) in ITEMS {
        for name in contenders(servers, tls) {
            match start(name, tls, &[]) {
                Ok(server) => running.push(Running { name, item, tls, server }),
                Err(error) => eprintln!("{error}"),
            }
        }
    }
    let first = log.next_round(Kind::Web);
    for round in first..first + rounds {
        eprintln!("web: round {} of {rounds}", round - first + 1);
        // Nobody is always the first after a pause.
        running.rotate_left(1);
        for server in &running {
            match measure(server, round, pace) {
                Ok(record) => log.push(record)?,
                Err(error) => eprintln!("web: {}: {error}", server.name),
            }
        }
    }
    Ok(())
}

fn contenders(servers: &[String], tls: bool) -> impl Iterator<Item = &str> {
    let can = move |name: &&str| !tls || !PLAIN_ONLY.contains(name);
    servers.iter().map(String::as_str).filter(can)
}

fn start(name: &str, tls: bool, wrapper: &[String]) -> io::Result<Server> {
    let mut arguments = vec!["serve-web", name];
    arguments.extend(tls.then_some("--tls"));
    Server::launch(&arguments, wrapper)
}

fn measure(running: &Running<'_>, round: usize, pace: Pace) -> io::Result<Record> {
    let server = &running.server;
    sleep(pace.pause);
    let before = Scheduled::of(server.pid());
    // wrk inherits the priority.
    let burst = Burst::start(server.pid(), pace.real_time);
    let run = wrk::run(server.address, running.tls, CONNECTIONS, TURN)?;
    let server_cpu = Scheduled::of(server.pid()).since(before).running as f64;
    drop(burst);
    let requests = run.requests as f64;
    let values = vec![run.rate, server_cpu / requests, server_cpu / (requests / run.rate * 1e9)];
    let (contender, item) = (running.name.into(), running.item.into());
    Ok(Record { kind: Kind::Web, contender, item, round, values })
}

/// Counts instructions in user space per request, of each server.
pub fn count(servers: &[String], log: &mut Log) -> io::Result<()> {
    for (item, tls) in ITEMS {
        for name in contenders(servers, tls) {
            let measure = |seconds: u64| {
                let server = start(name, tls, &instructions::wrapper())?;
                let requests = wrk::run(server.address, tls, CONNECTIONS, seconds)?.requests;
                Ok::<_, io::Error>((requests, instructions::collected(&server.kill()?)?))
            };
            match (measure(COUNTED[0]), measure(COUNTED[1])) {
                (Ok((few, small)), Ok((many, large))) if many > few => {
                    let values = vec![(large as f64 - small as f64) / (many - few) as f64];
                    let (contender, item) = (name.into(), item.into());
                    log.push(Record { kind: Kind::WebInstructions, contender, item, round: 0, values })?;
                }
                (Err(error), _) | (_, Err(error)) => eprintln!("web: {name}: {error}"),
                _ => eprintln!("web: {name}: no more requests in more time"),
            }
        }
    }
    Ok(())
}
