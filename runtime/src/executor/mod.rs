//! The executor and its queue tokens, in the order in which an operation passes through them:
//!
//! - `slot`, `page`: the operation slab. One slot is one operation: an I/O, a timer, a task, a join.
//! - `completion`, `token`: the two ends of an operation.
//! - `owner`: operations of something in memory, which takes back what nobody took.
//! - `untaken`: results whose tokens were dropped, on their way back.
//! - `wait`: waiting for many tokens.
//! - `task`, `store`: operations that run a future, and the memory for it. `memory`: where that is from.
//! - `waker`, `remote`: making a slot ready, from its own thread and from others.
//! - `core`, `context`: everything of one core, and which of them this thread runs.
//! - `runtime`, `idle`: the loop, and what it does when nothing is ready.
//! - `handle`: spawning from other threads. `cores`: one runtime per core. `team`: spawning from one core on
//!   another. `local`: task-locals.
//! - `account`: where its time goes. `survey`: what people can see of it. `registry`: all runtimes of the process.
//! - `span`: spans of tasks and operations, with the feature `spans`.
//! - `vacant`: the place of a device that was detached.
//! - `lockstep`: many runtimes in one thread and one virtual time.

mod account;
mod completion;
mod context;
mod core;
mod cores;
mod handle;
mod idle;
mod local;
mod lockstep;
mod memory;
mod owner;
mod page;
mod registry;
mod remote;
mod runtime;
mod slot;
#[cfg_attr(not(feature = "spans"), path = "no_span.rs")]
mod span;
mod store;
mod survey;
mod task;
mod team;
mod token;
mod untaken;
mod vacant;
mod wait;
mod waker;

pub use completion::{Completion, DeviceId, OperationId, operation};
pub use cores::{core_count, core_index, device_counters, pin_to_core, run_on_cores};
pub use handle::{Handle, RemoteJoinHandle};
pub use idle::{Idle, ParseIdleError};
pub use local::{AccessError, LocalKey, TaskLocalFuture};
pub use lockstep::{Lockstep, Stepped};
pub use runtime::{
    Builder, Runtime, Time, attach, default_logs, default_network, default_storage, detach, handle,
    set_default_logs,
};
pub use task::{JoinError, JoinHandle, YieldNow, spawn, yield_now};
pub use team::spawn_on;
pub use token::QToken;
pub use wait::{
    NoTokens, wait, wait_all, wait_all_deadline, wait_any, wait_any_deadline, wait_deadline, wait_next_n,
    wait_next_n_deadline,
};

pub(crate) use completion::{fits_in_slot, timer};
pub(crate) use context::{is_inside, turn};
pub(crate) use cores::unpin;
pub(crate) use handle::OutsideWork;
pub(crate) use owner::Owner;
pub(crate) use registry::all;
pub(crate) use remote::EventFd;
pub(crate) use runtime::{default_network_for, layer};
pub(crate) use survey::{current_capture, current_connections, current_dump, current_metrics};
pub(crate) use untaken::hand_back;
