//! What it takes one core to tell another something: `cargo bench -p demikernel-runtime --bench cores`.
//!
//! Prints how long a message there and its answer take, by channel and by `spawn_on`, for each way of being idle, beside what
//! the machine takes to hand a cache line there and back: the least that there can be. Processors of a virtual machine are near to
//! each other at one time and far at another, so look at what is beside it.
//!
//! With the arguments `messages COUNT` it sends so many there and back between two runtimes that one thread runs in turn, which
//! callgrind counts exactly: a message costs half of what COUNT more take, divided by COUNT.

use demikernel_runtime::channel::cross::{Receiver, Sender, bounded};
use demikernel_runtime::{Idle, Lockstep, core_index, pin_to_core, run_on_cores, spawn_on};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rounds that are timed together.
const BATCH: u32 = 2_000;
const BATCHES: u32 = 15;

/// How long a round took: of the batches the best, and the one in the middle.
struct Times(Vec<Duration>);

impl Times {
    fn show(mut self, what: &str) {
        self.0.sort();
        let [best, middle] = [self.0[0], self.0[self.0.len() / 2]].map(|time| time.as_nanos());
        println!("{what:32} {best:8} {middle:8}");
    }
}

/// A cache line that two spinning threads hand to each other.
fn cache_line() -> Times {
    static LINE: AtomicU64 = AtomicU64::new(0);
    let rounds = u64::from(BATCH * BATCHES);
    let wait = |value| {
        while LINE.load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = pin_to_core(1);
            for round in 0..rounds {
                wait(2 * round + 1);
                LINE.store(2 * round + 2, Ordering::Release);
            }
        });
        let timing = scope.spawn(|| {
            let _ = pin_to_core(0);
            let batch = |batch: u32| {
                let start = Instant::now();
                for round in u64::from(batch * BATCH)..u64::from((batch + 1) * BATCH) {
                    LINE.store(2 * round + 1, Ordering::Release);
                    wait(2 * round + 2);
                }
                start.elapsed() / BATCH
            };
            Times((0..BATCHES).map(batch).collect())
        });
        timing.join().expect("nothing panics")
    })
}

/// Times rounds of core 0, while core 1 does what `other` says until it is told to end.
async fn rounds(mut round: impl AsyncFnMut(u64)) -> Times {
    let mut times = Vec::new();
    for _ in 0..BATCHES {
        let start = Instant::now();
        for number in 0..u64::from(BATCH) {
            round(number).await;
        }
        times.push(start.elapsed() / BATCH);
    }
    Times(times)
}

async fn echo(questions: &Receiver<u64>, answers: &Sender<u64>) {
    while let Ok(number) = questions.recv().await {
        if answers.send(number).await.is_err() {
            break;
        }
    }
}

async fn ask(questions: &Sender<u64>, answers: &Receiver<u64>, number: u64) {
    questions.send(number).await.expect("the other lives");
    assert_eq!(answers.recv().await, Ok(number));
}

/// Two cores, of which the first is timed and the second serves until then.
fn two_cores(idle: Idle, first: impl AsyncFn() -> Times + Sync, second: impl AsyncFn() + Sync) -> Times {
    let main = async || match core_index() {
        0 => Some(first().await),
        _ => {
            second().await;
            None
        }
    };
    let results = run_on_cores(2, |builder| builder.idle(idle).build(), main, |_| false);
    let times = results.into_iter().find_map(|result| result.expect("both run").flatten());
    times.expect("the first gives times")
}

fn channels(idle: Idle) -> Times {
    let ((ask_it, asked), (answer, answered)) = (bounded(1), bounded(1));
    let first = async || {
        let times = rounds(async |number| ask(&ask_it, &answered, number).await).await;
        ask_it.close();
        times
    };
    two_cores(idle, first, async || echo(&asked, &answer).await)
}

fn spawning(idle: Idle) -> Times {
    let (end, ended) = bounded::<()>(1);
    let first = async || {
        let times = rounds(async |number| {
            assert_eq!(spawn_on(1, move || async move { number }).await.expect("it lives"), number);
        })
        .await;
        end.close();
        times
    };
    two_cores(idle, first, async || assert!(ended.recv().await.is_err()))
}

/// So many messages there and back, between runtimes that this thread runs in turn.
fn messages(count: u64) {
    let lockstep = Lockstep::new().expect("there are descriptors");
    let [one, other] = [(); 2].map(|()| lockstep.runtime().expect("there are descriptors"));
    let ((ask_it, asked), (answer, answered)) = (bounded(1), bounded(1));
    let asking = one.spawn(async move {
        for number in 0..count {
            ask(&ask_it, &answered, number).await;
        }
    });
    other.spawn(async move { echo(&asked, &answer).await }).detach();
    while !asking.is_finished() {
        one.run();
        other.run();
    }
}

fn main() {
    // Cargo adds one of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [what, count] = &arguments[..]
        && what == "messages"
    {
        return messages(count.parse().expect("a number"));
    }
    println!("{:32} {:>8} {:>8}", "there and back, ns", "best", "middle");
    cache_line().show("a cache line");
    for (idle, name) in [(Idle::Spin, "spin"), (Idle::default(), "adaptive"), (Idle::Block, "block")] {
        channels(idle).show(&format!("channel, {name}"));
        spawning(idle).show(&format!("spawn_on and join, {name}"));
    }
}
