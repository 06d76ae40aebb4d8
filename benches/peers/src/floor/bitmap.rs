//! Ready tasks as bits of a flat array of words: cheap when many are ready, dear when one is.

use super::polls::{Boxed, boxed};
use super::row;
use crate::machine::Rng;
use std::hint::black_box;
use std::task::{Context, Waker};

struct Scheduler {
    tasks: Vec<Boxed>,
    ready: Vec<u64>,
}

impl Scheduler {
    /// Polls every task that is ready; `again` makes it ready again at once.
    fn pass(&mut self, again: bool) {
        let mut cx = Context::from_waker(Waker::noop());
        for word in 0..self.ready.len() {
            let mut bits = std::mem::take(&mut self.ready[word]);
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                black_box(self.tasks[word * 64 + bit].as_mut().poll(&mut cx).is_pending());
                self.ready[word] |= u64::from(again) << bit;
            }
        }
    }
}

pub(super) fn run() {
    for tasks in [64, 1024, 65_536] {
        let mut scheduler = Scheduler { tasks: boxed(tasks), ready: vec![u64::MAX; tasks / 64] };
        let rounds = 4_000_000 / tasks;
        row(&format!("flat bitmap, {tasks} of {tasks} ready"), (rounds * tasks) as u64, || {
            for _ in 0..rounds {
                scheduler.pass(true);
            }
        });
        scheduler.ready.fill(0);
        let mut random = Rng(5);
        row(&format!("flat bitmap, 1 of {tasks} ready"), 20_000, || {
            for _ in 0..20_000 {
                let task = random.below(tasks as u64) as usize;
                scheduler.ready[task / 64] |= 1 << (task % 64);
                scheduler.pass(false);
            }
        });
    }
}
