//! [openraft] on demikernel: servers that lose nothing while most of their machines live.
//!
//! A program says what it replicates, a [`Machine`], and has the rest from here and from openraft, which is re-exported:
//!
//! - [`Runtime`]: openraft's `AsyncRuntime`. Its tasks are those of the core that it was called on, its time is the runtime's, and
//!   so virtual in a simulation, and so is what it draws.
//! - [`LogStore`]: its log and votes, on a [`Log`](demikernel::storage::Log). Entries that are appended together share a flush.
//! - [`StateMachine`]: the machine, and its snapshots on another log.
//! - [`Network`] and [`serve`]: requests between nodes over streams of any transport, with [`Limits`].
//! - [`config`]: what a configuration of openraft begins with.
//!
//! openraft is used with its feature `single-threaded`: nothing needs to be `Send`, and a node belongs to one core.
//!
//! ```
//! use demikernel::net::TcpListener;
//! use demikernel::storage::{Geometry, StoreOptions, Volume, memory::Disk};
//! use demikernel_raft::openraft::{BasicNode, Raft};
//! use demikernel_raft::{Limits, LogStore, Machine, Network, Runtime, StateMachine, openraft, serve};
//! use std::collections::BTreeMap;
//! use std::{io, sync::Arc};
//!
//! openraft::declare_raft_types!(
//!     Types: D = u64, R = u64, NodeId = u64, Node = BasicNode, AsyncRuntime = Runtime,
//! );
//!
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl Machine<Types> for Sum {
//!     fn apply(&mut self, number: u64) -> u64 {
//!         self.0 += number;
//!         self.0
//!     }
//!     fn snapshot(&self) -> Vec<u8> {
//!         self.0.to_le_bytes().to_vec()
//!     }
//!     fn restore(&mut self, bytes: &[u8]) -> io::Result<()> {
//!         self.0 = u64::from_le_bytes(bytes.try_into().map_err(io::Error::other)?);
//!         Ok(())
//!     }
//! }
//!
//! # let runtime = demikernel::Builder::new().transport("memory").build()?;
//! # runtime.block_on(async {
//! // In a program: `demikernel::storage::open("node.log", 256 << 20).await?`
//! let volume = Volume::attach(Disk::new(Geometry::new(512, 8 << 20)).device());
//! let store = StoreOptions::new().create(true).segment_size(64 << 10).open(volume).await?;
//! let log = LogStore::<Types>::open(store.log("raft").await?).await?;
//! let machine = StateMachine::open(store.log("snapshots").await?, Sum::default()).await?;
//!
//! let config = Arc::new(demikernel_raft::config().validate().unwrap());
//! let raft = Raft::new(1, config, Network::default(), log, machine.clone()).await.unwrap();
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let nodes = BTreeMap::from([(1, BasicNode::new(listener.local_addr()?))]); // and others
//! demikernel::spawn(serve(listener, raft.clone(), Limits::default())).detach();
//! raft.initialize(nodes).await.unwrap();
//!
//! # raft.wait(None).current_leader(1, "").await.unwrap();
//! // Durable on most nodes when it is answered.
//! assert_eq!(raft.client_write(42).await.unwrap().data, 42);
//! assert_eq!(machine.get().0, 42);
//! # io::Result::Ok(())
//! # })?;
//! # io::Result::Ok(())
//! ```
//!
//! The example `replicated-key-value` is a whole server, and `tests/simulated` how one is tested against partitions and
//! losses of power: nodes on simulated machines, and whether the history of their clients is linearizable.
//!
//! # Features
//!
//! Those of `demikernel` of the same names, passed on: `io-uring` (default), `sim`, `tap`, `xdp`, `dpdk`, `rdma`, `nvme`, `spdk`. The
//! crate works on any of the transports, and is tested with `sim`.
//!
//! # Sizes
//!
//! A store needs room for two snapshots and for the entries between them: openraft's `snapshot_policy` and
//! `max_in_snapshot_log_to_keep`. Those entries are in memory, too, and a snapshot while it is made or received. A log that is full
//! ends the node; the others go on.

mod config; // what openraft is configured with
pub mod network; // between nodes
pub mod runtime; // tasks, timers, channels
pub mod storage; // logs and snapshots

pub use config::config;
pub use network::{Limits, Network, serve};
pub use openraft;
pub use runtime::Runtime;
pub use storage::{Configuration, LogStore, Machine, StateMachine};
