//! What the machine itself allows: the price of the things that an executor is made of. Plain loops, CPU time per
//! operation, the least and the median of nine.

mod bitmap;
mod cores;
mod cpu;
mod kernel;
mod ktls;
mod polls;

use crate::machine::{self, cpu_ns};
use crate::stats::median;

/// Prints them all.
pub fn run() {
    machine::pin(machine::SERVER_CORE);
    println!("| operation, ns | least | median |\n|---|---|---|");
    cpu::run();
    polls::run();
    bitmap::run();
    kernel::run();
    cores::run();
    ktls::run();
}

/// Prints what TLS costs here in the program, and in the kernel if it has that.
pub fn tls() {
    machine::pin(machine::SERVER_CORE);
    println!("| operation, ns | least | median |\n|---|---|---|");
    ktls::run();
}

/// One row: `work` does so many operations.
fn row(name: &str, operations: u64, mut work: impl FnMut()) {
    work();
    let sample = |_| {
        let start = cpu_ns();
        work();
        (cpu_ns() - start) as f64 / operations as f64
    };
    print(name, &(0..9).map(sample).collect::<Vec<_>>());
}

fn print(name: &str, samples: &[f64]) {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    println!("| {name} | {least:.2} | {:.2} |", median(samples.iter().copied()));
}
