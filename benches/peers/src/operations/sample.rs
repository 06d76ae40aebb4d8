//! How one figure is taken.

use crate::machine;
use demikernel_allocations as allocator;
use std::cell::Cell;

/// How often an operation is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Operations in a repetition.
    pub operations: u64,
    /// Repetitions after one that warms up.
    pub repetitions: usize,
}

/// What one operation cost on average in a repetition.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// CPU time of the process.
    pub ns: f64,
    /// Heap allocations; zero unless the program's allocator counts.
    pub allocations: f64,
}

/// Those of all repetitions.
pub type Samples = Vec<Sample>;

/// Adds up what the measured stretches of a repetition cost.
#[derive(Default)]
pub struct Sampler {
    cpu: Cell<u64>,
    allocations: Cell<u64>,
}

impl Sampler {
    /// Does some work, measured.
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = Reading::now();
        let result = work();
        self.add(before);
        result
    }

    /// Adds what has happened since `before`.
    pub fn add(&self, before: Reading) {
        let now = Reading::now();
        self.cpu.set(self.cpu.get() + now.cpu - before.cpu);
        self.allocations.set(self.allocations.get() + now.allocations - before.allocations);
    }

    /// The cost of each of `operations`.
    pub fn per(&self, operations: u64) -> Sample {
        let per = |sum: u64| sum as f64 / operations as f64;
        Sample { ns: per(self.cpu.get()), allocations: per(self.allocations.get()) }
    }
}

/// The meters at one moment.
#[derive(Clone, Copy)]
pub struct Reading {
    cpu: u64,
    allocations: u64,
}

impl Reading {
    /// Reads them.
    #[inline]
    pub fn now() -> Self {
        Self { allocations: allocator::of_process(), cpu: machine::cpu_ns() }
    }
}

impl Plan {
    /// Repeats `work`, the first time without looking; each repetition does [`Plan::operations`].
    pub async fn sample(self, mut work: impl AsyncFnMut()) -> Samples {
        work().await;
        let mut samples = Samples::new();
        for _ in 0..self.repetitions {
            let sampler = Sampler::default();
            let before = Reading::now();
            work().await;
            sampler.add(before);
            samples.push(sampler.per(self.operations));
        }
        samples
    }
}
