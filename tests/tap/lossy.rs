//! A bad link between the stack and the kernel.
//!
//! ```text
//!   echo on our stack ── TAP near │ packet socket ── relay ── TAP far │ the kernel
//! ```
//!
//! Both interfaces are in one namespace, but only the far one has addresses: the near one is a cable.

use crate::programs::echoed::echoed;
use crate::programs::lab::{Lab, ip};
use crate::tap;
use demikernel_net::device::{
    FaultInjector, Faults, FrameDevice, MacAddress, PacketConfig, PacketSocket, Tap, TapConfig,
};
use demikernel_runtime::time::Instant;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Carries frames between two devices until it is dropped.
struct Relay {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<[u64; 3]>>,
}

impl Relay {
    /// What goes wrong in each direction follows from `seed`.
    fn start(faults: Faults, seed: u64) -> Relay {
        let ends = Arc::new(AtomicBool::new(false));
        let end = ends.clone();
        // The thread has the namespace of this one.
        let thread = thread::spawn(move || {
            let mut far = TapConfig::new("far", MacAddress::default());
            far.offload = false;
            let mut far = Tap::open(&far).unwrap();
            let near = PacketSocket::open(&PacketConfig::new("near")).unwrap();
            let mut near = FaultInjector::new(near, faults, faults, seed, Instant::now);
            while !end.load(Ordering::Relaxed) {
                let moved = carry(&mut near, &mut far).unwrap() + carry(&mut far, &mut near).unwrap();
                if moved == 0 {
                    wait(&near, &far);
                }
            }
            let (one, other) = (near.receive_stats(), near.transmit_stats());
            [one.dropped + other.dropped, one.reordered + other.reordered, one.duplicated + other.duplicated]
        });
        Relay { ends, thread: Some(thread) }
    }

    /// Frames that were lost, overtaken and doubled.
    fn end(mut self) -> [u64; 3] {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(from: &mut impl FrameDevice, to: &mut impl FrameDevice) -> io::Result<usize> {
    let mut burst = Vec::new();
    let count = from.receive(&mut burst)?;
    while !burst.is_empty() {
        if to.transmit(&mut burst)? == 0 {
            thread::sleep(Duration::from_micros(50));
        }
    }
    Ok(count)
}

/// Until a frame comes, or is due: no longer than a tenth of a millisecond while some are held back.
fn wait(near: &impl FrameDevice, far: &impl FrameDevice) {
    let Some((near, far)) = near.descriptor().zip(far.descriptor()) else {
        return thread::sleep(Duration::from_micros(100));
    };
    let mut descriptors = [near, far].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: as many descriptors as is said.
    unsafe { libc::poll(descriptors.as_mut_ptr(), 2, 10) };
}

/// Echoes over a link with these faults.
fn over(name: &str, listen: &str, faults: Faults, size: usize, settings: &str) {
    let Some(lab) = Lab::new(name, "tap", "near") else { return };
    for arguments in [
        "tuntap add near mode tap",
        "tuntap add far mode tap",
        "addr add 10.9.0.1/24 dev far",
        "-6 addr add fd00:9::1/64 dev far nodad",
        "link set far up",
    ] {
        ip(arguments);
    }
    // Nobody here is to answer for it.
    ip("link set near arp off");
    std::fs::write("/proc/sys/net/ipv6/conf/near/disable_ipv6", "1").unwrap();
    ip("link set near up");
    lab.configure(&format!("offload = false\n{settings}"));
    let server = lab.serve("echo", &["serve", "--listen", listen]);
    let relay = Relay::start(faults, 7);
    echoed(server.address, size);
    let [dropped, reordered, doubled] = relay.end();
    // The link was as bad as it was meant to be.
    let frames = (2 * size / 1448) as f64;
    let near = |count: u64, share: f64| count as f64 >= 0.5 * share * frames;
    assert!(near(dropped, faults.drop) && near(reordered, faults.reorder) && near(doubled, faults.duplicate));
}

const LINK: Faults = Faults {
    drop: 0.01,
    corrupt: 0.0,
    duplicate: 0.005,
    reorder: 0.01,
    reorder_delay: Duration::from_millis(2),
    delay: Duration::from_millis(2),
    size_limit: None,
    rate_limit: None,
};

#[test]
fn a_percent_is_lost_others_are_overtaken_or_doubled() {
    over("lossy-4", "10.9.0.2:0", LINK, 8 << 20, "");
}

#[test]
fn three_percent_are_lost_and_one_altered() {
    let faults = Faults { drop: 0.03, corrupt: 0.01, ..LINK };
    over("lossy-6", "[fd00:9::2]:0", faults, 4 << 20, "");
}

#[test]
fn bbr_bears_losses() {
    let faults = Faults { drop: 0.03, ..LINK };
    over("lossy-bbr", "10.9.0.2:0", faults, 4 << 20, "[tcp]\ncongestion-control = \"bbr\"\n");
}

/// Those that the configuration asks for, on the device of the program itself.
#[test]
fn faults_of_the_configuration() {
    let Some(lab) = tap("faults") else { return };
    let faults = "[faults]\nseed = 9\ndrop = 0.01\ncorrupt = 0.01\nduplicate = 0.01\nreorder = 0.01\n\
                  reorder-delay = \"2ms\"\ndelay = \"1ms\"\n";
    for offload in [true, false] {
        lab.configure(&format!("offload = {offload}\n{faults}"));
        for listen in ["10.9.0.2:0", "[fd00:9::2]:0"] {
            let server = lab.serve("echo", &["serve", "--listen", listen]);
            echoed(server.address, 2 << 20);
        }
    }
}
