//! RDMA for demikernel: verbs queues, and sockets on reliable connections.
//!
//! A stream is a reliable connection: the hardware delivers, and neither side enters the kernel for a message. Beside it there
//! are one-sided operations on the peer's memory (`Remote`, which has an example), and datagrams.
//!
#![cfg_attr(feature = "verbs", doc = "```")]
#![cfg_attr(not(feature = "verbs"), doc = "```ignore")]
//! use demikernel_rdma::transport::{RdmaConfig, RdmaTransport};
//! use demikernel_rdma::verbs::double;
//! use demikernel_runtime::net::{TcpListener, TcpStream};
//!
//! let runtime = demikernel_runtime::Runtime::new()?;
//! // A device in the process, for tests; `RdmaTransport::open` takes that of the machine.
//! let (device, manager) = (double::device()?, double::event_channel()?);
//! let transport = RdmaTransport::with_device(device, manager, &RdmaConfig::default())?;
//! runtime.attach(transport.transport());
//! runtime.block_on(async {
//!     let listener = TcpListener::bind((double::ADDRESS, 0)).await?;
//!     let client = TcpStream::connect(listener.local_addr()?).await?;
//!     let (server, _) = listener.accept().await?;
//!     client.push("hello".into()).await?;
//!     assert_eq!(server.pop().await?, b"hello");
//!     std::io::Result::Ok(())
//! })?;
//! # std::io::Result::Ok(())
//! ```
//!
//! # What is where
//!
//! - `link`: the protocol of a connection, as state machines that do no input or output.
//! - `verbs` (with the feature of that name): devices, memory, queues and connections of RDMA.
//! - `onesided` (likewise with the feature `verbs`): memory of the peer, by queue tokens.
//! - `transport` (likewise): sockets of the runtime on the first two, and one-sided operations on streams (`Remote`).
//!
//! # Features
//!
//! | feature | what it adds | what it needs |
//! |---|---|---|
//! | `verbs` | all but `link` | libibverbs, librdmacm, CMake and libclang to build; a device to run |
//!
//! Without it there is the protocol alone. Programs use the transport `rdma` of the facade `demikernel`, whose feature `rdma` has
//! this one; the README says what a machine needs. `WIRE.md` is what goes over the wire, and `link` obeys it.
//!
//! # The verbs room
//!
//! In the order in which one needs them: a `Device` is opened for a thread; a `ProtectionDomain` has the thread's heap
//! registered with it; completions of its queues come to a `CompletionQueue`, which wakes whoever sleeps through a
//! `CompletionChannel`; a `SharedReceiveQueue` has buffers for whatever comes; a `QueuePair` sends, and is joined with a
//! peer's by a `ConnectionId`, of which one hears through an `EventChannel`.
//!
//! Buffers are given away when they are posted, and come back in a `Completion`. What is made of something keeps it alive,
//! so that things can be dropped in any order and at any time: a queue pair that goes with work under way has the device
//! let go of its memory first.
//!
//! `double` is a device in the process, with a connection manager, which this example runs on:
//!
#![cfg_attr(feature = "verbs", doc = "```")]
#![cfg_attr(not(feature = "verbs"), doc = "```ignore")]
//! use demikernel_rdma::verbs::{
//!     CompletionQueue, Flags, Outcome, ProtectionDomain, QueuePair, QueuePairConfig, Route, double,
//! };
//! use demikernel_runtime::buffer::{Buffer, BufferMut};
//!
//! # fn main() -> std::io::Result<()> {
//! let device = double::device()?; // or Device::open("mlx5_0"), Device::open_by_address(...)
//! let domain = ProtectionDomain::new(&device)?;
//! let completions = CompletionQueue::new(&device, 64, None)?;
//! let pair = |tag| {
//!     let config = QueuePairConfig { tag, ..QueuePairConfig::default() };
//!     QueuePair::new(&domain, &completions, &completions, None, &config)
//! };
//! let (here, there) = (pair(1)?, pair(2)?);
//!
//! // Without a connection manager: either end is told where the other is.
//! let (port, gid) = (device.active_port(1)?, device.gids()?[0]);
//! let route = Route { port: 1, gid_index: gid.index as u8, gid: Some(gid.raw), ..Route::default() };
//! here.join(&port, &route, there.number())?;
//! there.join(&port, &route, here.number())?;
//!
//! there.receive(BufferMut::with_capacity(2048)?, 0)?;
//! here.send(Buffer::copy_from_slice(b"hello")?.into(), Flags::SIGNALLED, 7)?;
//! while completions.poll()? > 0 {
//!     while let Some(completion) = completions.take() {
//!         match completion.outcome {
//!             Outcome::Received { data, .. } => assert_eq!((completion.tag, &*data), (2, &b"hello"[..])),
//!             Outcome::Sent(_) => assert_eq!((completion.tag, completion.token), (1, 7)),
//!             other => panic!("{other:?}"),
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

// It links the connection manager's library, as long as somebody uses it.
#[cfg(feature = "verbs")]
use demikernel_rdma_system as _;

pub mod link;
#[cfg(feature = "verbs")]
pub mod onesided;
#[cfg(feature = "verbs")]
pub mod transport;
#[cfg(feature = "verbs")]
pub mod verbs;

#[cfg(feature = "verbs")]
pub use onesided::OneSided;
#[cfg(feature = "verbs")]
pub use transport::{Notice, Remote};
#[cfg(feature = "verbs")]
pub use verbs::{Access, MemoryRegion as MemoryWindow, RemoteMemory};
