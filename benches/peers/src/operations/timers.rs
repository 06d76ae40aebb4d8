//! Timers that are set and dropped again, and timers that expire.

use super::sample::{Reading, Sampler};
use super::{Plan, Samples};
use crate::machine::Rng;
use crate::runtimes::Runtime;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Which part of setting and dropping is measured.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Part {
    Insert,
    Cancel,
    Both,
}

/// Ten tasks: glommio's count of wakers ends at 32,767 for one task.
const OWNERS: u64 = 10;

/// Sets timers 10 to 600 s away (made and polled once), then drops them.
pub(super) fn insert_and_cancel<R: Runtime>(plan: Plan, part: Part) -> Samples {
    if !R::TIMERS {
        return Samples::new();
    }
    R::run(async move {
        let mut samples = Samples::new();
        for repetition in 0..=plan.repetitions as u64 {
            let inserting = Rc::new(Sampler::default());
            let cancelling = if part == Part::Both { inserting.clone() } else { Rc::default() };
            let mut owners = vec![];
            for owner in 0..OWNERS {
                let durations = durations(repetition * OWNERS + owner, plan.operations / OWNERS);
                owners.push(R::spawn(insert::<R>(durations, inserting.clone())).await);
            }
            for sleeps in owners {
                cancelling.measure(|| drop(sleeps));
            }
            if repetition > 0 {
                let sampler = if part == Part::Cancel { cancelling } else { inserting };
                samples.push(sampler.per(plan.operations));
            }
        }
        samples
    })
}

fn durations(seed: u64, count: u64) -> Vec<Duration> {
    let mut random = Rng(42 + seed * 7);
    (0..count).map(|_| Duration::from_millis(10_000 + random.below(590_000))).collect()
}

/// The sleeps, still pending, in an allocation in which they never move.
async fn insert<R: Runtime>(
    durations: Vec<Duration>,
    sampler: Rc<Sampler>,
) -> Pin<Box<[impl Future<Output = ()> + 'static]>> {
    poll_fn(|cx| {
        let mut sleeps = Vec::with_capacity(durations.len());
        sampler.measure(|| {
            for duration in &durations {
                sleeps.push(R::sleep(*duration));
                let last = sleeps.last_mut().expect("just pushed");
                // SAFETY: the vector has its capacity from the start and becomes a pinned slice without moving
                // when it is full, so that no element moves between this poll and its drop.
                let last = unsafe { Pin::new_unchecked(last) };
                assert!(last.poll(cx).is_pending());
            }
        });
        Poll::Ready(Box::into_pin(sleeps.into_boxed_slice()))
    })
    .await
}

/// How long there is for all tasks to get to sleep.
const ARMING: Duration = Duration::from_millis(900);
/// Within which time the deadlines lie.
const SPREAD_US: u64 = 100_000;

/// As many tasks as operations sleep until moments that lie at random within 100 ms; measured is the time in
/// which they expire: timer, wake, poll and the end of the task.
pub(super) fn expire<R: Runtime>(plan: Plan) -> Samples {
    if !R::TIMERS {
        return Samples::new();
    }
    R::run(async move {
        let mut samples = Samples::new();
        let mut random = Rng(7);
        for _ in 0..plan.repetitions {
            let count = Rc::new(Countdown::new(plan.operations));
            let start = Instant::now();
            let mut spawn_one = |_| {
                let deadline = ARMING + Duration::from_micros(random.below(SPREAD_US));
                let count = count.clone();
                R::spawn(async move {
                    count.awake_to_asleep();
                    R::sleep(deadline.saturating_sub(start.elapsed())).await;
                    count.end();
                })
            };
            let tasks: Vec<_> = (0..plan.operations).map(&mut spawn_one).collect();
            count.wait(|count| count.awake.get() == 0).await;
            if start.elapsed() > ARMING {
                eprintln!("timer_expire: the first timers expired before the last were set");
                return Samples::new();
            }
            let sampler = Sampler::default();
            let before = Reading::now();
            count.wait(|count| count.left.get() == 0).await;
            sampler.add(before);
            samples.push(sampler.per(plan.operations));
            for task in tasks {
                task.await;
            }
        }
        samples
    })
}

/// How many tasks have not gone to sleep, and how many have not ended.
struct Countdown {
    awake: Cell<u64>,
    left: Cell<u64>,
    main: RefCell<Option<Waker>>,
}

impl Countdown {
    fn new(tasks: u64) -> Self {
        Self { awake: Cell::new(tasks), left: Cell::new(tasks), main: RefCell::new(None) }
    }

    fn awake_to_asleep(&self) {
        self.count(&self.awake);
    }

    fn end(&self) {
        self.count(&self.left);
    }

    fn count(&self, counter: &Cell<u64>) {
        counter.set(counter.get() - 1);
        if counter.get() == 0
            && let Some(waker) = self.main.take()
        {
            waker.wake();
        }
    }

    async fn wait(&self, done: impl Fn(&Self) -> bool) {
        poll_fn(|cx| {
            if done(self) {
                return Poll::Ready(());
            }
            *self.main.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
