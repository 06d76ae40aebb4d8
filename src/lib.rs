//! An async runtime in which everything that can be awaited is a queue token, after the Demikernel
//! datapath-OS architecture (Zhang et al., SOSP 2021). A program is written once, with `async`/`await`, and
//! runs on any of the compiled-in transports.
//!
//! What is where:
//!
//! - [`main`], [`test`](macro@test), [`Builder`]: making runtimes, and choosing their transport.
//! - [`spawn`], [`QToken`], [`wait_any`] and the rest at the root: tasks and operations.
//! - [`Buffer`], [`buffer`]: memory that goes through sockets and files without a copy.
//! - [`net`]: TCP, UDP and Unix sockets. [`fs`]: files.
//! - [`storage`]: logs that lose nothing, and block devices.
//! - [`channel`]: channels within a core and between cores. [`queue`](mod@queue): in-memory queues, and queues
//!   made of others.
//! - [`metrics`], [`dump`], [`inspect`]: looking inside of a running program.
//! - [`time`]: clocks and timers. [`signal`]: signals of the process.
//! - `sim` (with the feature of that name): testing servers on a simulated network.
//! - `rdma` (with the feature of that name): devices, memory and queues of RDMA, below streams.
//! - `compat` (with the feature of that name): libraries written for tokio, on this runtime and beside it.
//! - `hyper` (with the feature of that name): streams, timers and tasks as hyper 1 wants them.
//! - [`guide`]: guides to one subject each, such as porting.
//! - [`pdpix`]: the PDPIX calls by name, with integer descriptors and tokens.
//! - [`transport`]: what a runtime asks of its devices, for those who write one.

mod builder;
mod choose;
#[cfg(feature = "compat")]
pub mod compat;
#[cfg_attr(not(feature = "inspect"), path = "no_control.rs")]
mod control;
pub mod guide;
#[cfg(feature = "hyper")]
pub mod hyper;
#[doc(hidden)]
pub mod macros;
mod on_thread;
#[cfg(feature = "sim")]
pub mod sim;
pub mod storage;

#[cfg(feature = "rdma")]
pub use demikernel_rdma as rdma;

pub use builder::Builder;
pub use choose::transports;
pub use demikernel_macros::{main, test};
pub use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
pub use demikernel_runtime::inspect::{Metrics, dump, metrics};
pub use demikernel_runtime::{
    AccessError, BlockingHandle, Completion, DeviceId, Handle, Idle, JoinError, JoinHandle, LocalKey,
    NoTokens, OperationId, ParseIdleError, QToken, RemoteJoinHandle, Runtime, TaskLocalFuture, Time,
    YieldNow, attach, core_count, core_index, default_network, default_storage, device_counters, handle,
    operation, pin_to_core, spawn, spawn_blocking, spawn_on, task_local, wait, wait_all, wait_all_deadline,
    wait_any, wait_any_deadline, wait_deadline, wait_next_n, wait_next_n_deadline, yield_now,
};
pub use demikernel_runtime::{buffer, channel, fs, inspect, net, pdpix, queue, signal, time, transport};
pub use on_thread::OnThread;

/// The README's program is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
