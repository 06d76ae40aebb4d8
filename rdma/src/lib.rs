//! RDMA for demikernel: verbs queues, and sockets on reliable connections.
//!
//! - `link`: the protocol of a connection, as state machines that do no input or output.
//! - `onesided` (likewise with the feature `verbs`): memory of the peer, by queue tokens.
//! - `verbs` (with the feature of that name): devices, memory, queues and connections of RDMA.

pub mod link;
#[cfg(feature = "verbs")]
pub mod onesided;
#[cfg(feature = "verbs")]
pub mod verbs;

#[cfg(feature = "verbs")]
pub use onesided::OneSided;
#[cfg(feature = "verbs")]
pub use verbs::{Access, MemoryRegion as MemoryWindow, RemoteMemory};
