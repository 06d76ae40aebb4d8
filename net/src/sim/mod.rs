//! A network in virtual time, for tests: everything that varies follows from a seed.
//!
//! - [`Link`]: one direction of a cable, which delays, loses, doubles, reorders and alters what it carries.
//! - [`Host`]: an IP host without a device, whose packets are bytes.
//! - [`Network`]: hosts and links, in one thread and one time.
//! - [`Simulation`]: machines that run ordinary asynchronous programs, in one thread and one time.

mod fabric;
mod host;
mod link;
mod machines;
mod network;
mod trace;
mod weather;

pub use host::{Host, HostConfig};
pub use link::{Burst, Link, LinkConfig, LinkStats};
pub use machines::{Builder, Control, Error, Outcome, Simulation, lone_transport};
pub use network::{HostId, Network};
pub use trace::Trace;
