//! The single-core executor, queue tokens, buffers, timers and kernel transports of demikernel.
//!
//! A runtime belongs to a thread and has devices attached, which it polls. An operation of a device is started at once and
//! gives a [`QToken`]; its completion makes ready the one task that waits.
//!
//! ```
//! use demikernel_runtime::net::{TcpListener, TcpStream};
//! use demikernel_runtime::transport::epoll::Epoll;
//! use demikernel_runtime::{Runtime, spawn, wait_any};
//!
//! let runtime = Runtime::new()?;
//! runtime.attach(Epoll::transport()?); // sockets and files by way of epoll
//! runtime.block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     let (one, other) = (TcpStream::connect(address).await?, TcpStream::connect(address).await?);
//!     let (first, second) = (listener.accept().await?.0, listener.accept().await?.0);
//!     let answering = spawn(async move { second.push("from the second".into()).await });
//!
//!     // Both operations are under way from here on; whichever is done is taken, and the other goes on.
//!     let mut tokens = [one.pop(), other.pop()];
//!     let (index, data) = wait_any(&mut tokens).await?;
//!     assert_eq!((index, data?), (1, "from the second".into()));
//!     first.push("from the first".into()).await?;
//!     let [token, _] = tokens;
//!     assert_eq!(token.await?, b"from the first");
//!     answering.await?
//! })?;
//! # std::io::Result::Ok(())
//! ```
//!
//! # What is where
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
//! # Features
//!
//! | feature | what it adds | what it needs |
//! |---|---|---|
//! | `io-uring` (default) | [`transport`]`::uring`: kernel sockets and files through io_uring | Linux 5.15 |
//! | `spans` | spans of `tracing` for tasks, operations and timers, at the level `TRACE` | nothing |
//!
//! # Where to go next
//!
//! Programs use the facade crate `demikernel`, which re-exports all of it and adds the choice of a transport by name, other
//! transports, and logs. Who writes a device begins with [`transport::Device`].

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
