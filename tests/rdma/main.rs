//! Programs on RDMA, in a guest with a device in software that `cargo xtask lab` starts: what it needs is not on every
//! machine, so elsewhere nothing is done here.
//!
//! - `examples`: those of this project, as they are, with clients of ours.
//! - `streams`: both ends here, in a thread each.

mod examples;
mod streams;

use std::net::IpAddr;
use std::sync::Mutex;

/// Runs a test with the address of the guest's device, one at a time; or none, where this is no such guest.
fn in_lab(test: impl FnOnce(IpAddr)) {
    static ONE: Mutex<()> = Mutex::new(());
    let Ok(address) = std::env::var("LAB_ADDRESS") else {
        eprintln!("skipped: this is done in a guest (cargo xtask lab)");
        return;
    };
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    test(address.parse().unwrap());
}
