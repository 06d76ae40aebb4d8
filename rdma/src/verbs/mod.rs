//! Devices, memory, queues and connections of RDMA.
//!
//! The interface of libibverbs and librdmacm, with owners: whatever is made of something keeps it alive, buffers belong to
//! the device from when they are posted until their completion is [taken](CompletionQueue::take), and safe functions are
//! sound whatever their caller does. All of it stays on its thread.

mod address; // where datagrams go
mod channel; // descriptors that completions make readable
mod cm; // the connection manager
mod completion; // completion queues
mod device; // devices, their limits, ports and addresses
mod domain; // the thread's heap, registered with a device
pub mod double; // a device in the process
mod error; // what goes wrong
mod events; // what devices say of their own accord
mod post; // what queue pairs are given to do
mod provider; // the system's libraries, or the double
mod queue_pair; // queue pairs
mod raw; // the raw interfaces
mod region; // memory that peers use
mod shared_receive; // receives for several queue pairs
mod work; // what is under way

#[cfg(test)]
mod tests;

pub use address::{AddressHandle, Route, Source};
pub use channel::CompletionChannel;
pub(crate) use cm::{ChannelHandle, Stray};
pub use cm::{
    ConnectError, ConnectionId, Destination, Event, EventChannel, EventKind, Parameters, PortSpace,
    PrivateData, Request,
};
pub use completion::{Completion, CompletionQueue, Outcome, Work};
pub use device::{Device, Gid, GidType, Limits, Port, devices};
pub use domain::ProtectionDomain;
pub use error::{Error, Refused, Status, WorkError};
pub use events::DeviceEvent;
pub use post::{Flags, RemoteMemory};
pub use queue_pair::{Access, Kind, QueuePair, QueuePairConfig};
pub use region::MemoryRegion;
pub use shared_receive::SharedReceiveQueue;
