//! Programs on the userspace stack, driven through a TAP interface by programs on the kernel's side of it.
//!
//! Each test is in a network namespace of its own, which takes root; without, it is passed over, unless
//! `DEMIKERNEL_REQUIRE_ALL` is set. So is a client that is not installed.

mod cores;
mod examples;
mod lossy;
#[path = "../on_a_stack/operations.rs"]
mod operations;
mod packet;
#[path = "../on_a_stack/ports.rs"]
mod ports;
#[path = "../programs/mod.rs"]
mod programs;
mod transfers;

use programs::lab::Lab;
use tap as on_device;

fn tap(name: &str) -> Option<Lab> {
    Lab::tap(name, "tap", "tap0", "")
}
