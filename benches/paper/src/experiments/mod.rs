//! The experiments: rounds in which every system has its turn, in another order each time, each started anew.

mod echo;
mod key_value;
mod relay;

use crate::ends::{Means, Side};
use crate::place::{self, Place};
use crate::results::{Absent, Experiment, Figure, Plan, Results, Transport, VERSION};
use crate::systems::{Role, SYSTEMS, System};
use crate::{Measure, machine};
use demikernel_measure::child::{Server, output};
use demikernel_measure::cores::cache_line;
use demikernel_measure::machine::{SERVER_CORE, pin};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a server may take to start: DPDK has to find memory.
const START: Duration = Duration::from_secs(20);

/// A case of a system: its name, and each metric with its value.
type Measured = Vec<(String, Vec<(&'static str, f64)>)>;

/// What all experiments need.
struct Bench {
    /// Where the examples are.
    examples: PathBuf,
    /// A directory that goes with this.
    scratch: PathBuf,
    milliseconds: u64,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.scratch) {
            eprintln!("{} is still there: {error}", self.scratch.display());
        }
    }
}

/// Runs them.
///
/// # Errors
/// With one core, where who spins would keep the other end from answering; and those of files. What cannot be measured is in
/// the results, with the reason.
pub(crate) fn run(options: &Measure) -> io::Result<Results> {
    if thread::available_parallelism()?.get() < 2 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "two cores are needed, one for each end"));
    }
    let below = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = below.join(format!("demikernel-paper-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let mut plan = options.plan();
    plan.unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let bench = Bench {
        examples: options.examples.canonicalize()?,
        scratch: scratch.canonicalize()?,
        milliseconds: plan.milliseconds,
    };
    let mut machine = machine::describe(&bench.scratch);
    machine.load.push(machine::load());
    // Threads and children are where this is, unless they say otherwise.
    pin(SERVER_CORE);
    let mut turns = Turns { bench, missing: BTreeMap::new(), figures: Vec::new(), absent: Vec::new() };
    turns.probe();
    for round in 0..plan.rounds {
        machine.cache_line.push(cache_line());
        for &experiment in &plan.experiments {
            eprintln!("round {} of {}: {experiment:?}", round + 1, plan.rounds);
            turns.round(experiment, round);
        }
        machine.load.push(machine::load());
    }
    let transports = SYSTEMS.iter().filter(|system| system.role == Role::Ours && system.idle == "spin");
    let transports = transports.map(|system| Transport {
        name: system.transport.to_owned(),
        missing: turns.missing.get(system.transport).cloned(),
    });
    Ok(Results {
        version: VERSION,
        machine,
        plan,
        transports: transports.collect(),
        figures: turns.figures,
        absent: turns.absent,
    })
}

struct Turns {
    bench: Bench,
    /// Why a transport cannot be used.
    missing: BTreeMap<&'static str, String>,
    figures: Vec<Figure>,
    absent: Vec<Absent>,
}

impl Turns {
    /// Finds out which transports work, by a few messages on each.
    fn probe(&mut self) {
        for system in SYSTEMS.iter().filter(|system| system.role == Role::Ours) {
            let why =
                system.missing().or_else(|| self.bench.probe(system).err().map(|error| error.to_string()));
            if let Some(why) = why {
                eprintln!("{}: {why}", system.transport);
                self.missing.insert(system.transport, why);
            }
        }
    }

    /// Each system's turn.
    fn round(&mut self, experiment: Experiment, round: usize) {
        for turn in 0..SYSTEMS.len() {
            let system = &SYSTEMS[(turn + round * 5) % SYSTEMS.len()];
            for case in cases(experiment, system) {
                let why = self.missing.get(system.transport).cloned();
                let why = why.or_else(|| cannot(experiment, system, case).map(str::to_owned));
                let measured = match why {
                    Some(why) => Err(why),
                    None => self.bench.measure(experiment, system, case).map_err(|error| error.to_string()),
                };
                match measured {
                    Ok(measured) => self.keep(experiment, system, round, measured),
                    Err(why) => self.lack(experiment, system, case, why),
                }
            }
        }
    }

    fn keep(&mut self, experiment: Experiment, system: &System, round: usize, measured: Measured) {
        for (case, metrics) in measured {
            self.figures.extend(metrics.into_iter().map(|(metric, value)| Figure {
                experiment,
                system: system.id.to_owned(),
                case: case.clone(),
                metric: metric.to_owned(),
                round,
                value,
            }));
        }
    }

    fn lack(&mut self, experiment: Experiment, system: &System, case: &str, why: String) {
        let (system, case) = (system.id.to_owned(), case.to_owned());
        let is_known =
            |known: &Absent| known.experiment == experiment && known.system == system && known.case == case;
        if !self.absent.iter().any(is_known) {
            if !self.missing.values().any(|missing| *missing == why) {
                eprintln!("{experiment:?}: {system} {case}: {why}");
            }
            self.absent.push(Absent { experiment, system, case, why });
        }
    }
}

/// What is run of a system in an experiment, one start of a server each; an empty name stands for several cases.
fn cases(experiment: Experiment, system: &System) -> &'static [&'static str] {
    let spins = system.idle != "block";
    match (experiment, system.role) {
        (Experiment::KeyValue, Role::Ours) if spins => &key_value::CASES,
        (Experiment::KeyValue, _) if system.id == "redis" => &key_value::CASES,
        (Experiment::KeyValue, _) => &[],
        _ if system.id == "redis" => &[],
        (Experiment::Echo, _) => &["tcp", "udp"],
        (Experiment::Log, Role::Ours) if spins => &["tcp"],
        (Experiment::Log, Role::Other) if system.means == Means::Blocking => &["tcp"],
        (Experiment::Sizes, Role::Ours) if spins => &[""],
        (Experiment::Sizes, Role::Floor) if system.means != Means::Frames => &[""],
        (Experiment::Sizes, Role::Other) => &[""],
        (Experiment::Relay, Role::Ours) if spins => &["udp"],
        (Experiment::Relay, _) if matches!(system.means, Means::Spinning | Means::Blocking) => &["udp"],
        _ => &[],
    }
}

/// Why a case cannot be, on any machine.
fn cannot(experiment: Experiment, system: &System, case: &str) -> Option<&'static str> {
    match (experiment, system.transport) {
        (Experiment::Echo | Experiment::Relay, "rdma") if case == "udp" => {
            Some("RDMA has streams here, and no datagrams")
        }
        (Experiment::Echo, _) if case == "tcp" && system.means == Means::Frames => {
            Some("frames are sent back by whoever knows no TCP: the floor is that of UDP")
        }
        (Experiment::KeyValue, "dpdk") => Some(
            "redis-benchmark has the kernel's sockets, and memif leads to a process: cargo xtask bench dpdk -- kv",
        ),
        (Experiment::KeyValue, "rdma") => Some("redis-benchmark has the kernel's sockets"),
        _ => None,
    }
}

impl Bench {
    fn measure(&self, experiment: Experiment, system: &System, case: &str) -> io::Result<Measured> {
        place::at(system.place, &self.scratch, |place| match experiment {
            Experiment::Echo => self.echo(place, system, case),
            Experiment::Log => self.log(place, system),
            Experiment::Sizes => self.sizes(place, system),
            Experiment::Relay => self.relay(place, system),
            Experiment::KeyValue => self.key_value(place, system, case),
        })
    }

    /// This program as an end of a connection.
    fn end(&self, place: &Place, side: Side, means: Means, system: &System) -> io::Result<Command> {
        self.end_that_idles(place, side, means, system, system.idle)
    }

    fn end_that_idles(
        &self,
        place: &Place,
        side: Side,
        means: Means,
        system: &System,
        idle: &str,
    ) -> io::Result<Command> {
        let end = usize::from(matches!(side, Side::Client | Side::Generator));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("end").args([format!("{side:?}").to_lowercase(), format!("{means:?}").to_lowercase()]);
        match means {
            Means::Memif => drop(command.args(["--transport", &place.port(end)])),
            _ if system.transport.is_empty() => {}
            _ => drop(command.args(["--transport", system.transport])),
        }
        if means == Means::Ours {
            command.args(["--idle", idle]);
            if let Some(path) = place.configuration(end)? {
                command.env("DEMIKERNEL_CONFIG", path);
            }
        }
        Ok(command)
    }

    /// Starts a server; where it listens.
    fn serve(&self, mut command: Command) -> io::Result<(Server, SocketAddr)> {
        let server = Server::start(&mut command, START)?;
        let address = server.ready.split(' ').next_back().and_then(|word| word.parse().ok());
        match address {
            Some(address) => Ok((server, address)),
            None => Err(io::Error::other(format!("the server says {:?}", server.ready))),
        }
    }

    /// Runs a client to its end: a line of numbers for each size.
    fn drive(&self, mut command: Command, milliseconds: u64, sizes: usize) -> io::Result<Vec<Times>> {
        command.args(["--milliseconds", &milliseconds.to_string()]);
        let limit = START + Duration::from_millis(2 * milliseconds) * sizes as u32;
        let output = output(&mut command, limit)?.check("the client")?;
        let times: Option<Vec<_>> = output.stdout.lines().map(Times::parse).collect();
        match times {
            Some(times) if times.len() == sizes => Ok(times),
            _ => Err(io::Error::other(format!("the client says {:?}", output.stdout.trim()))),
        }
    }
}

/// What a client prints of a size.
struct Times {
    size: usize,
    metrics: Vec<(&'static str, f64)>,
}

impl Times {
    fn parse(line: &str) -> Option<Times> {
        let mut words = line.split(' ');
        let size = words.next()?.parse().ok()?;
        let count: f64 = words.next()?.parse().ok()?;
        let figures: Vec<f64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let metrics: Vec<_> = ["p50", "p99", "mean"].into_iter().zip(figures).collect();
        (count > 0.0 && metrics.len() == 3).then_some(Times { size, metrics })
    }
}

impl Plan {
    /// For each size of a message.
    fn of_size(milliseconds: u64) -> u64 {
        (milliseconds / 4).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_clients_are_read() {
        let times = Times::parse("64 1000 5100 9000 5250.5").expect("it is well formed");
        assert_eq!(times.size, 64);
        assert_eq!(times.metrics, [("p50", 5100.0), ("p99", 9000.0), ("mean", 5250.5)]);
        for wrong in ["", "64", "64 0 0 0 0", "64 1 2 3", "64 1 2 3 x"] {
            assert!(Times::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn every_experiment_has_systems_of_ours_and_others() {
        for experiment in Experiment::ALL {
            let has = |ours: bool| {
                let mut such = SYSTEMS.iter().filter(|system| (system.role == Role::Ours) == ours);
                such.any(|system| !cases(experiment, system).is_empty())
            };
            assert!(has(true) && has(false), "{experiment:?}");
        }
    }
}
