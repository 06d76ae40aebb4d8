//! DPDK under demikernel: one environment in a process, its memory under the runtime's buffers, and queues of ports.
//!
//! Packets arrive in [`Buffer`](demikernel_runtime::buffer::Buffer)s and leave from them without a copy, as the memory that ports
//! reach is what the buffers of a thread are made of.
//!
//! ```
//! use demikernel_dpdk::{Eal, EalConfig, Port, PortConfig};
//! use demikernel_runtime::buffer::pool;
//!
//! let mut config = EalConfig::default();
//! config.huge_pages = false; // for a card they are reserved: /proc/sys/vm/nr_hugepages
//! let eal = Eal::start(&config)?;
//! pool::set_source(eal.memory()); // of this thread
//!
//! // A device in software that makes empty packets; a card is "0000:03:00.0".
//! let mut queue = Port::open(eal, &PortConfig::new("net_null0"))?;
//! let mut bytes = 0;
//! let count = queue.receive(|packet| bytes += packet.head.len());
//! assert!(count > 0 && bytes > 0);
//! println!("{} has {}", queue.port().driver(), queue.counters().received);
//! # Ok::<(), demikernel_dpdk::Error>(())
//! ```
//!
//! - [`Eal`]: DPDK's environment, of which a process has one. Whoever needs DPDK asks for it, and the first starts it.
//! - [`Memory`]: what ports reach. It becomes the [source](demikernel_runtime::buffer::pool::set_source) of the thread's
//!   buffers.
//! - [`Port`], [`Queue`]: a port's pair of queues for each thread, and bursts of packets in and out.
//!
//! The data path of DPDK is inline functions of its headers, therefore a shim in C stands between (`shim.h`). It is
//! linked with the system's libdpdk, 22.11 or later (`apt-get install libdpdk-dev pkg-config`). The crate has no features.
//!
//! Programs use the transport `dpdk` of the facade `demikernel`, which has a TCP/IP stack on such a queue; the README says how a
//! card is taken from the kernel.

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
