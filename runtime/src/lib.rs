//! The single-core executor, queue tokens, buffers, timers and kernel transports of demikernel.
//!
//! In the order in which data flows:
//!
//! - [`transport`]: what a runtime asks of its devices; io_uring, epoll, and sockets and files in memory.
//! - [`buffer`]: memory that every device can reach.
//! - [`executor`](spawn): tasks, and [`QToken`], the one leaf future.
//! - [`channel`]: channels within a core and between cores. [`queue`](mod@queue): in-memory queues, and queues
//!   made of others.
//! - [`signal`]: signals of the process. [`spawn_blocking`]: work for other threads.
//! - [`time`]: clocks, timers, intervals. [`Lockstep`]: many runtimes in one thread and one virtual time.
//! - [`inspect`]: what a runtime has counted, what its tasks wait for, and who is connected.
//! - [`random`]: draws from a seed, for simulations.
//! - [`net`]: sockets on any of the transports; [`fs`]: files.
//! - [`pdpix`]: the PDPIX calls by name, with integer descriptors and tokens.
//!
//! The facade crate `demikernel` re-exports all of it and adds the choice of a transport by name.

mod blocking;
pub mod buffer;
pub mod channel;
mod executor;
pub mod fs;
pub mod inspect;
pub mod net;
pub mod pdpix;
pub mod queue;
pub mod random;
pub mod signal;
mod sync;
pub mod time;
pub mod transport;

pub use self::blocking::{BlockingHandle, spawn_blocking};
pub use self::inspect::{Metrics, dump, metrics};
pub use self::queue::queue;
pub use executor::{
    AccessError, Builder, Completion, DeviceId, Handle, Idle, JoinError, JoinHandle, LocalKey, Lockstep,
    NoTokens, OperationId, ParseIdleError, QToken, RemoteJoinHandle, Runtime, Stepped, TaskLocalFuture, Time,
    YieldNow, attach, core_count, core_index, default_logs, default_network, default_storage, detach,
    device_counters, handle, operation, pin_to_core, run_on_cores, set_default_logs, spawn, spawn_on, wait,
    wait_all, wait_all_deadline, wait_any, wait_any_deadline, wait_deadline, wait_next_n,
    wait_next_n_deadline, yield_now,
};
