//! What tests of devices share: network namespaces, and the frames of a neighbour.

// Not every test uses all of it.
#![allow(dead_code)]

use demikernel_net::device::{FrameDevice, MacAddress};
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

/// This side of the cable.
pub(crate) const ADDRESS: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

/// Moves this thread, and what it starts, to a network namespace that nobody else is in. `false` where that is not
/// allowed and need not be.
pub(crate) fn alone() -> bool {
    // SAFETY: affects this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        return true;
    }
    let error = io::Error::last_os_error();
    assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "no network namespace: {error}");
    eprintln!("skipped: no network namespace: {error}");
    false
}

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip is installed");
    assert!(status.success(), "ip {arguments}");
}

/// What arrives, until `take` gives something.
pub(crate) fn wait_for<R>(device: &mut impl FrameDevice, mut take: impl FnMut(&[u8]) -> Option<R>) -> R {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut burst = Vec::new();
    loop {
        device.receive(&mut burst).unwrap();
        for frame in burst.drain(..) {
            if let Some(found) = take(&frame.head) {
                return found;
            }
        }
        assert!(Instant::now() < deadline, "nothing of the kind arrives");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Asks who has 10.9.0.1, for 10.9.0.2.
pub(crate) fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(ADDRESS.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(ADDRESS.0);
    frame.extend([10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
    frame
}
