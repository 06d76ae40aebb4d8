//! Programs on DPDK: two of ours over devices of shared memory, and one with programs on the kernel's side.
//!
//! Those with the kernel are in network namespaces of their own, which takes root; without, they are passed over, unless
//! `DEMIKERNEL_REQUIRE_ALL` is set. None needs huge pages but those that say so.

mod kernel;
#[path = "../on_a_stack/operations.rs"]
mod operations;
mod pairs;
#[path = "../on_a_stack/ports.rs"]
mod ports;
#[path = "../programs/mod.rs"]
mod programs;
mod refused;

use kernel::tap as on_device;
