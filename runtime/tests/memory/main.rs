//! Programs on the simulated network and file system, as users write them, mostly in virtual time.

mod deadlock;
mod repeats;
mod storm;
mod streams;
mod time;

use demikernel_runtime::transport::Transport;
use demikernel_runtime::transport::memory::{Memory, MemoryConfig};
use demikernel_runtime::{Builder, Runtime, Time};
use std::rc::Rc;

/// A runtime in virtual time, and its only device.
fn simulated(config: MemoryConfig) -> (Runtime, Rc<Memory>) {
    let runtime = Builder::new().time(Time::Virtual).build().unwrap();
    let memory = Memory::with_config(config);
    runtime.attach(Transport::both(memory.clone()));
    (runtime, memory)
}

fn seeded(seed: u64) -> MemoryConfig {
    let mut config = MemoryConfig::default();
    config.seed = seed;
    config
}

/// Runs a program in virtual time. It never blocks the thread, since there is nothing to wait for but time.
fn run<F: Future>(seed: u64, program: F) -> F::Output {
    let (runtime, _) = simulated(seeded(seed));
    let output = runtime.block_on(program);
    assert_eq!(runtime.metrics().parks, 0, "a virtual runtime has waited in real time");
    output
}
