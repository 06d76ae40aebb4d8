//! Programs on RDMA, in a guest with a device in software that `cargo xtask lab` starts: what it needs is not on every
//! machine, so elsewhere nothing is done here.
//!
//! - `cores`: a program of several cores.
//! - `examples`: those of this project, as they are, with clients of ours.
//! - `durable`: a server whose log is on an NVMe drive.
//! - `streams`, `datagrams`, `tls`: both ends here, in a thread each. `one_sided`: also in a process each.
//! - `wire`: one end here, and the other in a second guest, behind a cable that loses packets.

#[path = "../programs/acknowledged.rs"]
mod acknowledged;
mod cores;
mod datagrams;
#[path = "../programs/drives.rs"]
mod drives;
mod durable;
mod examples;
mod one_sided;
#[path = "../programs/secured.rs"]
mod secured;
mod streams;
mod tls;
mod wire;

use std::net::IpAddr;
use std::sync::Mutex;

/// Runs a test with the address of the guest's device, one at a time; or none, where this is no such guest.
fn in_lab(test: impl FnOnce(IpAddr)) {
    static ONE: Mutex<()> = Mutex::new(());
    let Some(address) = variable("LAB_ADDRESS").filter(|_| variable("LAB_PEER") == variable("LAB_ADDRESS"))
    else {
        eprintln!("skipped: this is done in a guest by itself (cargo xtask lab)");
        return;
    };
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    test(address.parse().unwrap());
}

/// Runs a test with the addresses of this guest and the other one, and the number of this one; or none, where there is no
/// such guest.
fn in_pair(test: impl FnOnce(IpAddr, IpAddr, u32)) {
    let (here, there) = (variable("LAB_ADDRESS"), variable("LAB_PEER"));
    let (Some(here), Some(there)) = (here.clone(), there.filter(|there| Some(there) != here.as_ref())) else {
        eprintln!("skipped: this is done in a pair of guests (cargo xtask lab --pair)");
        return;
    };
    let number = variable("LAB_NODE").unwrap();
    test(here.parse().unwrap(), there.parse().unwrap(), number.parse().unwrap());
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
