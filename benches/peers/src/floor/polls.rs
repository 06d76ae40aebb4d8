//! Polling futures that are always pending, with no executor around them.

use super::row;
use crate::machine::Rng;
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

const MANY: usize = 10_000_000;

/// A task.
pub(super) type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// Does as little as a task can at each poll.
async fn count() {
    let polls = Cell::new(0_u64);
    poll_fn::<(), _>(|_| {
        polls.set(black_box(polls.get() + 1));
        Poll::Pending
    })
    .await;
    pending().await
}

/// So many of them, each in an allocation of its own.
pub(super) fn boxed(tasks: usize) -> Vec<Boxed> {
    (0..tasks).map(|_| Box::pin(count()) as Boxed).collect()
}

pub(super) fn run() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut future = pin!(count());
    row("poll of an async fn, known type", MANY as u64, || {
        for _ in 0..MANY {
            black_box(future.as_mut().poll(&mut cx).is_pending());
        }
    });
    for tasks in [64, 1024, 65_536] {
        let (rounds, mut futures) = (4_000_000 / tasks, boxed(tasks));
        let polls = (rounds * tasks) as u64;
        row(&format!("poll of {tasks} boxed futures in turn"), polls, || {
            for _ in 0..rounds {
                for future in &mut futures {
                    black_box(future.as_mut().poll(&mut cx).is_pending());
                }
            }
        });
        let mut random = Rng(99);
        let order: Vec<usize> = (0..tasks).map(|_| random.below(tasks as u64) as usize).collect();
        row(&format!("poll of {tasks} boxed futures at random"), polls, || {
            for _ in 0..rounds {
                for &index in &order {
                    black_box(futures[index].as_mut().poll(&mut cx).is_pending());
                }
            }
        });
        let mut queue: VecDeque<u32> = (0..tasks as u32).collect();
        row(&format!("pop from a queue of {tasks}, poll, push"), polls, || {
            for _ in 0..polls {
                let index = queue.pop_front().expect("as many are pushed as popped");
                black_box(futures[index as usize].as_mut().poll(&mut cx).is_pending());
                queue.push_back(index);
            }
        });
    }
}
