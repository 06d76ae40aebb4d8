//! Frames over shared memory, by loops in C over DPDK's own calls: the floor of the userspace stack on DPDK.

use super::{End, Side};
use crate::place;
use demikernel_dpdk::{Eal, EalConfig, Port, PortConfig, Queue};
use hdrhistogram::Histogram;
use std::io;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Round trips between looks at the clock.
const BATCH: usize = 1000;

/// How long the other end's port is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

static NEVER: AtomicBool = AtomicBool::new(false);

/// Serves until it is killed, or sends frames of each size for a while and prints a line for each.
pub(super) fn run(end: &End) -> io::Result<()> {
    let mut queue = open(&end.transport)?;
    if end.side == Side::Server {
        println!("ready {}", end.address);
        queue.raw_echo(&NEVER);
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    while !queue.port().link().up {
        if Instant::now() > deadline {
            return Err(io::Error::other("the link does not come up"));
        }
        queue.receive(drop);
    }
    for &size in &end.sizes {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds");
        queue.raw_ping(size as u16, BATCH);
        let start = Instant::now();
        while start.elapsed() < end.time() {
            let times = queue.raw_ping(size as u16, BATCH);
            if times.len() < BATCH {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a frame does not come back"));
            }
            times.iter().for_each(|time| histogram.saturating_record(u64::from(*time)));
        }
        let [p50, p99] = [0.5, 0.99].map(|part| histogram.value_at_quantile(part));
        println!("{size} {} {p50} {p99} {:.1}", histogram.len(), histogram.mean());
    }
    Ok(())
}

fn open(port: &str) -> io::Result<Queue> {
    let mut config = EalConfig::default();
    config.huge_pages = place::has_huge_pages();
    let eal = Eal::start(&config)?;
    demikernel::buffer::pool::set_source(eal.memory());
    let mut config = PortConfig::new(port);
    config.mtu = Some(1500);
    Ok(Port::open(eal, &config)?)
}
