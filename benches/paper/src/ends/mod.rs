//! The processes at the ends of a connection: each is this program, started anew, pinned to a core.
//!
//! - [`wire`]: system calls that block or spin. [`ring`]: a bare io_uring. [`datagrams`]: the generator and the plain
//!   relay of the relay's experiment.
//! - [`ours`]: the runtime, on any transport. [`tokio`]: a runtime that others have.
//! - [`frames`], [`memif`]: bare frames, by whatever device carries those of the userspace stack.
//!
//! A message is received whole before it is answered, as NetPIPE does it. A connection has messages of one size, and a
//! server is told the sizes of the connections that come, one after the other.

mod datagrams;
#[cfg(feature = "stack")]
mod frames;
#[cfg(feature = "dpdk")]
mod memif;
mod ours;
#[cfg(feature = "io-uring")]
mod ring;
mod tokio;
mod wire;

use clap::ValueEnum;
use demikernel_measure::machine;
use hdrhistogram::Histogram;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What messages go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Means {
    /// demikernel
    Ours,
    /// System calls that never wait, again and again
    Spinning,
    /// System calls that wait
    Blocking,
    /// A bare io_uring that is never waited for
    Ring,
    /// tokio's current-thread runtime
    Tokio,
    /// Frames sent back as they come
    Frames,
    /// Frames over shared memory, by DPDK alone
    Memif,
}

/// Which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Side {
    /// Answers
    Server,
    /// Asks, and prints how long it took
    Client,
    /// Sends to a relay, and prints how long it takes until what it sends is back
    Generator,
    /// Passes datagrams on
    Relay,
}

/// The command line of an end.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct End {
    /// Which end
    #[arg(value_enum)]
    pub(crate) side: Side,
    /// By which means
    #[arg(value_enum)]
    pub(crate) means: Means,
    /// Datagrams
    #[arg(long)]
    pub(crate) udp: bool,
    /// Where a server listens, and where a client finds it
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// A generator's own: where what it sent comes back; and where a relay sends to
    #[arg(long)]
    pub(crate) back: Option<SocketAddr>,
    /// Bytes of messages, of each connection
    #[arg(long, value_delimiter = ',', default_value = "64")]
    pub(crate) sizes: Vec<usize>,
    /// For how long each size is measured
    #[arg(long, default_value_t = 200)]
    pub(crate) milliseconds: u64,
    /// Of ours, or of the device of frames
    #[arg(long, default_value = "auto")]
    pub(crate) transport: String,
    /// What ours does when nothing is ready
    #[arg(long, default_value = "spin")]
    pub(crate) idle: demikernel::Idle,
    /// Append each message to this file, durably, before it is answered
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,
}

impl End {
    fn time(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }
}

/// Serves until it is killed, or measures and prints a line for each size.
///
/// # Errors
/// Those of sockets and devices; what is not compiled in.
pub(crate) fn run(end: &End) -> io::Result<()> {
    let is_server = matches!(end.side, Side::Server | Side::Relay);
    machine::pin(if is_server { machine::SERVER_CORE } else { machine::CLIENT_CORE });
    match end.means {
        Means::Ours => ours::run(end),
        Means::Spinning | Means::Blocking => match end.side {
            Side::Generator | Side::Relay => datagrams::run(end),
            Side::Server | Side::Client => wire::run(end, |socket| wire::Calls::new(socket, end.means)),
        },
        Means::Tokio => tokio::run(end),
        #[cfg(feature = "io-uring")]
        Means::Ring => wire::run(end, ring::Ring::new),
        #[cfg(feature = "stack")]
        Means::Frames => frames::reflect(&end.transport),
        #[cfg(feature = "dpdk")]
        Means::Memif => memif::run(end),
        #[cfg(not(all(feature = "io-uring", feature = "stack", feature = "dpdk")))]
        other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("{other:?} is not compiled in"))),
    }
}

/// Says where a server listens, which is all that it says.
fn announce(address: SocketAddr) {
    println!("ready {address}");
}

/// Round trips of one size.
struct Times {
    size: usize,
    end: Instant,
    /// Round trips before this do not count.
    begin: Instant,
    histogram: Histogram<u64>,
}

impl Times {
    /// From now on, a quarter of the time to warm up.
    fn start(size: usize, time: Duration) -> Times {
        let now = Instant::now();
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds");
        Times { size, begin: now + time / 4, end: now + time / 4 + time, histogram }
    }

    /// A round trip that began then and has just ended; whether there are to be more. One counts, whatever it takes.
    fn add(&mut self, start: Instant) -> bool {
        let now = Instant::now();
        if start >= self.begin || now >= self.end {
            self.histogram.saturating_record((now - start).as_nanos() as u64);
        }
        now < self.end
    }

    /// Prints what the parent reads.
    fn print(&self) {
        let [p50, p99] = [0.5, 0.99].map(|part| self.histogram.value_at_quantile(part));
        println!("{} {} {p50} {p99} {:.1}", self.size, self.histogram.len(), self.histogram.mean());
    }
}
