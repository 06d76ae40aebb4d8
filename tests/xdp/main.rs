//! Programs on the userspace stack over AF_XDP, driven by programs on the kernel's side of a veth pair.
//!
//! Each test is in a network namespace of its own, which takes root; without, it is passed over, unless
//! `DEMIKERNEL_REQUIRE_ALL` is set. So is a client that is not installed.

mod examples;
#[path = "../on_a_stack/operations.rs"]
mod operations;
#[path = "../on_a_stack/ports.rs"]
mod ports;
#[path = "../programs/mod.rs"]
mod programs;

use programs::lab::Lab;
use xdp as on_device;

fn xdp(name: &str) -> Option<Lab> {
    Lab::veth(name, "xdp", 1)
}
