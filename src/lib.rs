//! An async runtime in which everything that can be awaited is a queue token, after the Demikernel
//! datapath-OS architecture (Zhang et al., SOSP 2021). A program is written once, with `async`/`await`, and
//! runs on any of the compiled-in transports.
//!
//! # A server and its client
//!
//! ```
//! use demikernel::net::{TcpListener, TcpStream};
//! use std::io;
//!
//! async fn echo(listener: TcpListener) -> io::Result<()> {
//!     loop {
//!         let (stream, _) = listener.accept().await?;
//!         demikernel::spawn(async move {
//!             loop {
//!                 let data = stream.pop().await?; // a buffer that the device wrote into
//!                 if data.is_empty() {
//!                     return io::Result::Ok(());
//!                 }
//!                 stream.push(data).await?; // the same memory goes out
//!             }
//!         })
//!         .detach();
//!     }
//! }
//!
//! #[demikernel::main]
//! async fn main() -> io::Result<()> {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     demikernel::spawn(echo(listener)).detach();
//!
//!     let client = TcpStream::connect(address).await?;
//!     client.push("hello".into()).await?;
//!     assert_eq!(client.pop().await?, b"hello");
//!     Ok(())
//! }
//! ```
//!
//! Which transport it runs on is the environment's to say (`DEMIKERNEL_TRANSPORT=epoll`), or the attribute's:
//! `#[demikernel::main(transport = "io_uring", cores = 4, idle = "spin")]`. A call of `pop` or `push` has started
//! its operation and gives a [`QToken`], which may be awaited at once, later, together with others ([`wait_any`], or any
//! combinator of `futures`), or dropped, which cancels it.
//!
//! # What is where
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
//! - [`guide`]: guides to one subject each.
//! - [`pdpix`]: the PDPIX calls by name, with integer descriptors and tokens.
//! - [`transport`]: what a runtime asks of its devices, for those who write one.
//!
//! # Features
//!
//! They only add, and none changes a public type.
//!
//! | feature | what it adds | what it needs |
//! |---|---|---|
//! | `io-uring` (default) | the transport `io_uring`: sockets and files of the kernel, and logs in files | Linux 5.15 |
//! | `inspect` (default) | the control socket of running programs, where `[inspect]` asks for one | nothing |
//! | `sim` | the module `sim` and the transport: machines on a simulated network, for tests | nothing |
//! | `tap` | the transports `tap` and `packet`: our TCP/IP stack on an interface of the kernel; has `sim` | root, or an interface of the user's |
//! | `xdp` | the transport `xdp`: the same on queues of an interface, past the kernel's stack; has `sim` | Linux 5.10, root or capabilities |
//! | `dpdk` | the transport `dpdk`: the same on a port of DPDK; has `sim` | libdpdk 22.11, pkg-config |
//! | `rdma` | the transport and the module `rdma`: reliable connections, datagrams, one-sided operations | libibverbs, librdmacm, CMake, libclang |
//! | `nvme` | NVMe drives for [`storage`], by a driver of ours | VFIO and an IOMMU |
//! | `spdk` | NVMe drives and targets for [`storage`], by SPDK's | SPDK's libraries when it runs |
//! | `hyper` | the traits of hyper 1: HTTP, axum, tonic | nothing |
//! | `compat` | tokio's `AsyncRead` and `AsyncWrite` both ways, and a thread with tokio's runtime | nothing |
//! | `spans` | spans of `tracing` for tasks, operations and timers | nothing |
//!
//! `epoll` and `memory` are always there. The README says what each needs to run, and what works on which.
//!
//! # Where to go next
//!
//! The [guides](guide), of which each begins at the beginning. The examples, each with its commands at the top: `echo`, `key-value`
//! (the Redis protocol), `http`, `sharded-key-value` (several cores). ARCHITECTURE.md says how the parts meet and why.

mod builder;
mod choose;
#[cfg(feature = "compat")]
pub mod compat;
#[cfg_attr(not(feature = "inspect"), path = "no_control.rs")]
mod control;
mod forward;
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
