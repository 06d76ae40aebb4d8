//! Programs on the simulated network and file system, as users write them, mostly in virtual time.

mod deadlock;
mod repeats;
mod storm;
mod streams;
mod time;

use demikernel_runtime::transport::Transport;
use demikernel_runtime::transport::sim::{Sim, SimConfig};
use demikernel_runtime::{Builder, Runtime, Time};
use std::rc::Rc;

/// A runtime in virtual time, and its only device.
fn simulated(config: SimConfig) -> (Runtime, Rc<Sim>) {
    let runtime = Builder::new().time(Time::Virtual).build().unwrap();
    let sim = Sim::with_config(config);
    runtime.attach(Transport::both(sim.clone()));
    (runtime, sim)
}

fn seeded(seed: u64) -> SimConfig {
    let mut config = SimConfig::default();
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
