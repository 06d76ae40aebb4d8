//! The executor operations: one generic body for each, run by every runtime.
//!
//! A figure is the CPU time of the whole process (all its threads) for one repetition, divided by the
//! operations in it. A child process measures one runtime: a warm-up and then [`Plan::repetitions`], of which
//! it reports the median and the least. In the binary `allocations` the same bodies count what they allocate;
//! under callgrind two runs with different [`Plan::operations`] give instructions per operation.

mod channels;
mod ping_pong;
mod sample;
mod spawn;
mod timers;
mod wake;
mod yields;

pub use ping_pong::{SLOT, TOKEN};
pub use sample::{Plan, Sample, Samples};
pub(crate) use wake::Switchboard;
pub(crate) use yields::yield_once;

use crate::record::{Kind, Record};
use crate::runtimes::mini::Mini;
use crate::runtimes::{self as rt, Runtime};
use crate::stats::median;

/// All operations, in the order of the table.
pub const NAMES: [&str; 17] = [
    "spawn_join",
    "spawn_join_1024",
    "yield_1",
    "yield_64",
    "yield_1024",
    "wake_1",
    "wake_1024",
    "wake_65536",
    SLOT,
    TOKEN,
    "mpsc",
    "futures_oneshot",
    "futures_mpsc",
    "timer_insert",
    "timer_cancel",
    "timer_insert_cancel",
    "timer_expire",
];

/// Measures `operation` in `runtime`; nothing if the runtime cannot do it.
pub fn run(runtime: &str, operation: &str, plan: Plan) -> Samples {
    match runtime {
        "mini" => generic::<Mini<false>>(operation, plan),
        "mini-atomic" => generic::<Mini<true>>(operation, plan),
        "tokio" => generic::<rt::tokio::CurrentThread>(operation, plan),
        "tokio-local" => generic::<rt::tokio::Local>(operation, plan),
        "tokio-localset" => generic::<rt::tokio::LocalSet>(operation, plan),
        "tokio-uring" => generic::<rt::tokio_uring::TokioUring>(operation, plan),
        "monoio" => generic::<rt::monoio::Monoio>(operation, plan),
        "glommio" => generic::<rt::glommio::Glommio>(operation, plan),
        "compio" => generic::<rt::compio::Compio>(operation, plan),
        "smol" => generic::<rt::smol::Smol>(operation, plan),
        "smol-static" => generic::<rt::smol::Static>(operation, plan),
        "futures" => generic::<rt::futures::Pool>(operation, plan),
        "embassy" => rt::embassy::run(operation, plan),
        "demikernel" if operation == TOKEN => rt::demikernel::ping_pong_of_tokens(plan),
        "demikernel" => generic::<rt::demikernel::Demikernel>(operation, plan),
        other => panic!("no runtime is called {other:?}"),
    }
}

fn generic<R: Runtime>(operation: &str, plan: Plan) -> Samples {
    match operation {
        "spawn_join" => spawn::one::<R>(plan),
        "spawn_join_1024" => spawn::many::<R>(plan),
        "yield_1" => yields::run::<R>(1, plan),
        "yield_64" => yields::run::<R>(64, plan),
        "yield_1024" => yields::run::<R>(1024, plan),
        "wake_1" => wake::run::<R>(1, plan),
        "wake_1024" => wake::run::<R>(1024, plan),
        "wake_65536" => wake::run::<R>(65_536, plan),
        SLOT => ping_pong::run::<R>(plan),
        TOKEN => Samples::new(),
        "mpsc" => channels::own::<R>(plan),
        "futures_oneshot" => channels::futures_oneshot::<R>(plan),
        "futures_mpsc" => channels::futures_mpsc::<R>(plan),
        "timer_insert" => timers::insert_and_cancel::<R>(plan, timers::Part::Insert),
        "timer_cancel" => timers::insert_and_cancel::<R>(plan, timers::Part::Cancel),
        "timer_insert_cancel" => timers::insert_and_cancel::<R>(plan, timers::Part::Both),
        "timer_expire" => timers::expire::<R>(plan),
        other => panic!("no operation is called {other:?}"),
    }
}

/// The plan with which an operation's time is measured.
pub fn timing_plan(operation: &str) -> Plan {
    match operation {
        "yield_1" | "yield_64" | "yield_1024" => Plan { operations: 262_144, repetitions: 7 },
        "spawn_join" => Plan { operations: 50_000, repetitions: 7 },
        "spawn_join_1024" => Plan { operations: 32 * 1024, repetitions: 7 },
        "timer_expire" => Plan { operations: 100_000, repetitions: 3 },
        _ => Plan { operations: 100_000, repetitions: 7 },
    }
}

/// Measures in this process and prints records; `counting` says that the allocator counts.
pub fn report(runtime: &str, operations: &[String], round: usize, counting: bool) {
    for operation in operations {
        let samples = run(runtime, operation, timing_plan(operation));
        if samples.is_empty() {
            continue;
        }
        let kind = if counting { Kind::Allocations } else { Kind::Time };
        let figures = || samples.iter().map(|x| if counting { x.allocations } else { x.ns });
        let values = vec![median(figures()), figures().fold(f64::INFINITY, f64::min)];
        let record = Record { kind, contender: runtime.into(), item: operation.clone(), round, values };
        println!("{record}");
    }
}
