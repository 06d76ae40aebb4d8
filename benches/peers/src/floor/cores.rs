//! Between two cores, wall time, in bursts of real-time priority.

use super::kernel::eventfd;
use super::print;
use crate::machine::{Burst, CLIENT_CORE, pin, wall_ns};
use demikernel_measure::cores::cache_line;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(30);

pub(super) fn run() {
    print("cache line to another core and back, wall", &(0..9).map(|_| cache_line()).collect::<Vec<_>>());
    wake();
}

/// This process, as a burst's other party.
fn burst() -> Burst {
    Burst::start(std::process::id(), true)
}

/// A thread that sleeps on the other core is woken and wakes this one.
fn wake() {
    const BURSTS: u64 = 10;
    const PER_BURST: u64 = 300;
    let one = 1_u64.to_ne_bytes();
    let (mut there, mut back) = (eventfd(0).unwrap(), eventfd(0).unwrap());
    let (mut inbox, mut outbox) = (there.try_clone().unwrap(), back.try_clone().unwrap());
    let partner = thread::spawn(move || {
        pin(CLIENT_CORE);
        for _ in 0..BURSTS * PER_BURST {
            inbox.read_exact(&mut [0; 8]).unwrap();
            outbox.write_all(&one).unwrap();
        }
    });
    let (mut writes, mut round_trips) = (vec![], vec![]);
    for _ in 0..BURSTS {
        thread::sleep(PAUSE);
        let burst = burst();
        for _ in 0..PER_BURST {
            let start = wall_ns();
            there.write_all(&one).unwrap();
            writes.push((wall_ns() - start) as f64);
            back.read_exact(&mut [0; 8]).unwrap();
            round_trips.push((wall_ns() - start) as f64);
        }
        drop(burst);
    }
    partner.join().expect("the partner does not panic");
    print("wake of a thread that sleeps on another core, and back, wall", &round_trips);
    print("of which the write that wakes", &writes);
}
