//! The executor's operations, each done as often as asked: what `executor` times and `ops` counts.

mod channels;
mod network;
mod tasks;
mod timers;

use demikernel::{Builder, Idle, Runtime, Time};
use std::future::Future;
use std::pin::Pin;

/// Does an operation so many times, inside of a runtime.
type Run = fn(u64) -> Pin<Box<dyn Future<Output = ()>>>;

/// An operation.
pub(crate) struct Operation {
    /// What it is called, here and in the tables.
    pub(crate) name: &'static str,
    /// It is done a multiple of so many times.
    pub(crate) unit: u64,
    settings: fn(Builder) -> Builder,
    run: Run,
}

impl Operation {
    const fn new(name: &'static str, unit: u64, run: Run) -> Self {
        Self { name, unit, settings: |builder| builder, run }
    }

    const fn on(self, settings: fn(Builder) -> Builder) -> Self {
        Self { settings, ..self }
    }

    /// A runtime for it.
    pub(crate) fn runtime(&self) -> Runtime {
        // Blocking, as time spent spinning would be counted.
        let builder = Builder::new().idle(Idle::Block);
        (self.settings)(builder).build().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Does it `count` times, or up to one unit more.
    pub(crate) fn run(&self, runtime: &Runtime, count: u64) {
        runtime.block_on((self.run)(count.next_multiple_of(self.unit)));
    }
}

/// All of them, in the order of the tables.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation::new("spawn_join", 1, |count| Box::pin(tasks::spawn_join(count))),
    Operation::new("spawn_join_1024", 1024, |count| Box::pin(tasks::spawn_join_1024(count))),
    Operation::new("yield_1", 1, |count| Box::pin(tasks::yields(1, count))),
    Operation::new("yield_64", 64, |count| Box::pin(tasks::yields(64, count))),
    Operation::new("yield_1024", 1024, |count| Box::pin(tasks::yields(1024, count))),
    Operation::new("wake_1", 1, |count| Box::pin(channels::wake(1, count))),
    Operation::new("wake_1024", 1, |count| Box::pin(channels::wake(1024, count))),
    Operation::new("pp_slot", 1, |count| Box::pin(channels::ping_pong_of_slots(count))),
    Operation::new("pp_token", 1, |count| Box::pin(channels::ping_pong_of_tokens(count))),
    Operation::new("mpsc", 1, |count| Box::pin(channels::ping_pong_of_mpsc(count))),
    Operation::new("oneshot", 1, |count| Box::pin(channels::oneshots(count))),
    Operation::new("timer_insert_cancel", 1024, |count| Box::pin(timers::insert_cancel(count))),
    Operation::new("timer_expire", 1024, |count| Box::pin(timers::expire(count)))
        .on(|builder| builder.time(Time::Virtual)),
    Operation::new("tcp_echo_io_uring", 1, |count| Box::pin(network::tcp_echo(count)))
        .on(|builder| builder.transport("io_uring")),
    Operation::new("tcp_echo_epoll", 1, |count| Box::pin(network::tcp_echo(count)))
        .on(|builder| builder.transport("epoll")),
];
