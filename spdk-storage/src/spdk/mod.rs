//! NVMe controllers by SPDK's driver, past the kernel: PCI devices, and targets on networks.
//!
//! SPDK's libraries are loaded when the first [`Controller`] is connected; building needs nothing of them. They and the
//! DPDK that they were built with are the user's to provide: see [`SpdkConfig`]. With the feature `dpdk`, SPDK runs on
//! the DPDK that the program is linked with, and in the same environment as its network ports.
//!
//! - [`Controller`]: connecting, and opening namespaces.
//! - `driver`: commands of one queue pair. `environment`: EAL, and memory. `library`, `functions`: what is loaded.
//!
//! Memory that lies in the runtime's heap is used where it is; other is copied. A queue pair is polled while commands are
//! under way, and some ten times a second for events and what keeps connections alive.

mod controller;
#[cfg(test)]
mod double;
mod driver;
mod environment;
mod error;
mod functions;
mod library;
mod status;
#[cfg(test)]
mod tests;

pub use controller::Controller;
pub use driver::SpdkDriver;
pub use environment::SpdkConfig;
pub use error::SpdkError;
