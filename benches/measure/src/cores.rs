//! How far two cores are from each other, which changes between starts of processes on a virtual machine.

use crate::machine::{Burst, CLIENT_CORE, pin, wall_ns};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;
use std::time::Duration;

const ROUNDS: u64 = 20_000;
const PAUSE: Duration = Duration::from_millis(30);

/// How long a cache line takes to the other core and back, in ns, while both threads spin. The caller is on another core
/// than [`CLIENT_CORE`].
pub fn cache_line() -> f64 {
    static LINE: AtomicU64 = AtomicU64::new(0);
    LINE.store(0, SeqCst);
    let partner = thread::spawn(|| {
        pin(CLIENT_CORE);
        for round in 0..ROUNDS {
            pass(&LINE, 2 * round + 1);
        }
    });
    thread::sleep(PAUSE);
    let burst = Burst::start(std::process::id(), true);
    let start = wall_ns();
    LINE.store(1, Release);
    for round in 1..ROUNDS {
        pass(&LINE, 2 * round);
    }
    while LINE.load(Acquire) != 2 * ROUNDS {
        std::hint::spin_loop();
    }
    let time = wall_ns() - start;
    drop(burst);
    partner.join().expect("the partner does not panic");
    time as f64 / ROUNDS as f64
}

/// Waits for a number and answers with the next.
fn pass(line: &AtomicU64, number: u64) {
    while line.load(Acquire) != number {
        std::hint::spin_loop();
    }
    line.store(number + 1, Release);
}
