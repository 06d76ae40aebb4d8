//! Streams of the transport beside what one would write by hand for the purpose, on a device: the two ends are two
//! threads, which spin, each on a core of its own, or one. `cargo xtask bench rdma` runs it; BENCHMARKS.md says what its table
//! means.
//!
//! - `raw`: messages to and fro on libibverbs alone, and `manager`: how its ends find each other.
//! - `streams`: the same, and large messages, through `TcpStream`.
//! - `program`: other code, which runs before each message of a row.
//! - `perftest`: large messages by `ib_send_bw`.
//! - `report`: the table.

mod manager;
mod perftest;
mod program;
mod raw;
mod report;
mod streams;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use demikernel_rdma::transport::{RdmaConfig, addresses};
use demikernel_rdma::verbs::Device;
use raw::Raw;
use report::Report;
use streams::Streams;

/// Bytes of a message to and fro.
const MESSAGE: usize = 64;

/// Bytes of a large message.
const LARGE: usize = 65_536;

/// Where the two ends are.
const CORES: [usize; 2] = [0, 1];

/// Round trips of a turn, and those before that are not counted.
const TRIPS: usize = 200;
const WARM_UP: usize = 20;

/// Sizes of receive buffers with which large messages are measured.
const BUFFERS: [u32; 3] = [4096, 16_384, 65_536];

/// Where the device is found.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: IpAddr,
    port: u8,
}

#[derive(Clone, Debug)]
struct Options {
    device: Option<String>,
    port: u8,
    address: Option<IpAddr>,
    rounds: usize,
    large_rounds: usize,
    large: usize,
}

const USAGE: &str = "usage: compare [--device NAME] [--port NUMBER] [--address IP] [--rounds N] [--large-rounds N] \
                     [--large MESSAGES]";

impl Options {
    fn parse(words: impl Iterator<Item = String>) -> Option<Options> {
        let mut options =
            Options { device: None, port: 1, address: None, rounds: 40, large_rounds: 7, large: 100 };
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next()?;
            match word.as_str() {
                "--device" => options.device = Some(value),
                "--port" => options.port = value.parse().ok()?,
                "--address" => options.address = Some(value.parse().ok()?),
                "--rounds" => options.rounds = value.parse().ok()?,
                "--large-rounds" => options.large_rounds = value.parse().ok()?,
                "--large" => options.large = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(options)
    }

    fn device(&self) -> io::Result<(Device, Place)> {
        let address =
            self.address.map_or_else(|| addresses().map(|all| all.first().copied()), |it| Ok(Some(it)))?;
        let address = address
            .ok_or_else(|| io::Error::other("which address the device has must be said: --address"))?;
        let device = match &self.device {
            Some(name) => Device::open(name)?,
            None => Device::open_by_address(address)?,
        };
        device.active_port(self.port)?;
        let place = Place { address, port: self.port };
        Ok((device, place))
    }
}

/// What the far end is to do.
enum Turn {
    Begin(Raw),
    Raw(usize),
    Streams(usize),
    /// The streams of this index.
    Large(usize, usize),
}

/// What an end has.
struct End {
    raw: Raw,
    streams: Streams,
    large: Vec<Streams>,
}

/// Both ends in one thread.
struct Alone {
    raw: [Raw; 2],
    streams: Streams,
    /// Runs before each message.
    between: fn() -> u64,
}

impl Alone {
    fn new(device: &Device, address: IpAddr, between: fn() -> u64) -> io::Result<Alone> {
        let streams = Streams::alone(device, address, between)?;
        Ok(Alone { raw: Raw::pair(address)?, streams, between })
    }

    fn trips(&mut self, contender: usize) -> io::Result<Vec<u64>> {
        if contender == 0 {
            let [near, far] = &mut self.raw;
            return near.ping_alone(far, self.between, WARM_UP + TRIPS);
        }
        self.streams.ping(WARM_UP + TRIPS)
    }
}

/// What one end tells the other: addresses to connect to, or turns.
struct Line<S, R> {
    tell: Sender<S>,
    told: Receiver<R>,
}

fn line() -> (Line<Turn, SocketAddr>, Line<SocketAddr, Turn>) {
    let ((turns, its_turns), (addresses, its_addresses)) = (channel(), channel());
    (Line { tell: turns, told: its_addresses }, Line { tell: addresses, told: its_turns })
}

fn gone<E>(_: E) -> io::Error {
    io::Error::other("the other end is gone")
}

fn configs() -> Vec<RdmaConfig> {
    let sized = |buffer_size| {
        let mut config = RdmaConfig::default();
        config.buffer_size = buffer_size;
        config
    };
    BUFFERS.map(sized).to_vec()
}

fn pin(core: usize) {
    // SAFETY: a set of bits, which the call reads.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        if libc::sched_setaffinity(0, size_of_val(&set), &set) != 0 {
            eprintln!("not pinned to core {core}: {}", io::Error::last_os_error());
        }
    }
}

fn far(options: &Options, line: &Line<SocketAddr, Turn>) -> io::Result<()> {
    pin(CORES[1]);
    let (device, place) = options.device()?;
    let tell = |address| {
        // If nobody is there, nobody connects either.
        let _ = line.tell.send(address);
    };
    let listen = |config: &RdmaConfig| Streams::listen(&device, config, place.address, tell);
    let Turn::Begin(raw) = line.told.recv().map_err(gone)? else { return Err(gone(())) };
    let streams = listen(&RdmaConfig::default())?;
    let large = configs().iter().map(listen).collect::<io::Result<_>>()?;
    let mut end = End { raw, streams, large };
    while let Ok(turn) = line.told.recv() {
        match turn {
            Turn::Begin(_) => {}
            Turn::Raw(count) => end.raw.pong(count)?,
            Turn::Streams(count) => end.streams.pong(count)?,
            Turn::Large(index, count) => end.large[index].drain(count, LARGE)?,
        }
    }
    Ok(())
}

fn near(options: &Options, line: &Line<Turn, SocketAddr>) -> io::Result<Report> {
    pin(CORES[0]);
    let (device, place) = options.device()?;
    println!("{} at {}, port {}", device.name(), place.address, place.port);
    let address = || line.told.recv().map_err(gone);
    let [raw, far] = Raw::pair(place.address)?;
    line.tell.send(Turn::Begin(far)).map_err(gone)?;
    let connect = |config: &RdmaConfig| Streams::connect(&device, config, address()?);
    let streams = connect(&RdmaConfig::default())?;
    let large = configs().iter().map(connect).collect::<io::Result<_>>()?;
    let mut end = End { raw, streams, large };
    let mut report = Report::new(&BUFFERS);
    let mut alone = Vec::new();
    for between in [program::none, program::run] {
        alone.push(Alone::new(&device, place.address, between)?);
    }
    for round in 0..options.rounds {
        for contender in [round % 2, 1 - round % 2] {
            let times = trips(&mut end, line, contender)?;
            report.trips(0, contender, &times[WARM_UP..]);
            for (index, alone) in alone.iter_mut().enumerate() {
                report.trips(1 + index, contender, &alone.trips(contender)?[WARM_UP..]);
            }
        }
    }
    for _ in 0..options.large_rounds {
        report.floor(perftest::pour(device.name(), &place, options.large, LARGE)?);
        for (index, streams) in end.large.iter_mut().enumerate() {
            line.tell.send(Turn::Large(index, options.large)).map_err(gone)?;
            report.goodput(index, streams.pour(options.large, LARGE)?);
        }
    }
    Ok(report)
}

/// A turn of the floor (0) or of ours (1).
fn trips(end: &mut End, line: &Line<Turn, SocketAddr>, contender: usize) -> io::Result<Vec<u64>> {
    let count = WARM_UP + TRIPS;
    if contender == 0 {
        line.tell.send(Turn::Raw(count)).map_err(gone)?;
        return end.raw.ping(count);
    }
    line.tell.send(Turn::Streams(count)).map_err(gone)?;
    end.streams.ping(count)
}

fn main() -> io::Result<()> {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let (here, there) = line();
    let its = options.clone();
    let far = thread::spawn(move || far(&its, &there));
    let result = near(&options, &here);
    drop(here);
    let far = far.join().unwrap_or_else(|_| Err(io::Error::other("the far end has panicked")));
    // Why the far end has failed is why the near one has, if both have.
    far?;
    result?.print();
    Ok(())
}
