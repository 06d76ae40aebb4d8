//! DPDK under demikernel.
//!
//! - [`Eal`]: DPDK's environment, of which a process has one. Whoever needs DPDK asks for it, and the first starts it.
//! - [`Memory`]: what ports reach. It becomes the [source](demikernel_runtime::buffer::pool::set_source) of the thread's
//!   buffers, so that a packet arrives in a [`Buffer`](demikernel_runtime::buffer::Buffer) and leaves from one without a
//!   copy.
//! - [`Port`], [`Queue`]: a port's pair of queues for each thread, and bursts of packets in and out.
//!
//! The data path of DPDK is inline functions of its headers, therefore a shim in C stands between (`shim.h`). It is
//! linked with the system's libdpdk, 22.11 or later.

mod control;
mod eal;
mod error;
mod ffi;
mod interrupt;
mod log;
mod memory;
mod pci;
mod pool;
mod port;
mod queue;
mod raw;
mod reach;

pub use eal::{Eal, EalConfig};
pub use error::Error;
pub use memory::Memory;
pub use port::{Can, Link, Port, PortConfig};
pub use queue::{Checksum, Outgoing, Packet, Queue, QueueCounters};

/// Packets in a burst, at most.
pub const BURST: usize = 32;
