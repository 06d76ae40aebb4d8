//! RDMA for demikernel: verbs queues, and sockets on reliable connections.
//!
//! - `link`: the protocol of a connection, as state machines that do no input or output.
//! - `verbs` (with the feature of that name): devices, memory, queues and connections of RDMA.

pub mod link;
#[cfg(feature = "verbs")]
pub mod verbs;
