//! One connection, one message of 64 bytes at a time, a client that never sleeps.

use super::server::Server;
use crate::machine::{Burst, Pace};
use hdrhistogram::Histogram;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const SIZE: usize = 64;
/// Round trips before those that count: a server that slept gets its caches back.
const WARM_UP: usize = 20;

/// p50 and p99 of one burst of `round_trips`, in ns.
pub(crate) fn burst(server: &Server, round_trips: usize, pace: Pace) -> io::Result<[u64; 2]> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3).expect("valid bounds");
    std::thread::sleep(pace.pause);
    let burst = Burst::start(server.pid(), pace.real_time);
    for i in 0..WARM_UP + round_trips {
        let start = Instant::now();
        round_trip(&mut stream)?;
        if i >= WARM_UP {
            histogram.saturating_record(start.elapsed().as_nanos() as u64);
        }
    }
    drop(burst);
    Ok([0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile)))
}

fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
    let message = [0x5a; SIZE];
    let mut sent = 0;
    while sent < SIZE {
        sent += progress(stream.write(&message[sent..]))?;
    }
    let mut buffer = [0; SIZE];
    let mut received = 0;
    while received < SIZE {
        received += progress(stream.read(&mut buffer[received..]))?;
    }
    Ok(())
}

/// The bytes moved, none if the socket was not ready.
fn progress(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            std::hint::spin_loop();
            Ok(0)
        }
        other => other,
    }
}
