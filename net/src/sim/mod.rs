//! A network in virtual time, for tests: everything that varies follows from a seed.
//!
//! - [`Link`]: one direction of a cable, which delays, loses, doubles, reorders and alters what it carries.
//! - [`Host`]: an IP host without a device, whose packets are bytes.
//! - [`Network`]: hosts and links, in one thread and one time.

mod host;
mod link;
mod network;

pub use host::{Host, HostConfig};
pub use link::{Burst, Link, LinkConfig, LinkStats};
pub use network::{HostId, Network};
