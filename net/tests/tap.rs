//! The TAP device against the kernel, each test in a network namespace of its own.

use demikernel_net::device::{Frame, FrameDevice, MacAddress, Tap, TapConfig};
use demikernel_runtime::buffer::Buffer;
use std::io;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

const ADDRESS: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

/// Moves this thread, and what it starts, to a network namespace that nobody else is in. `false` where that is not
/// allowed and need not be.
fn alone() -> bool {
    // SAFETY: affects this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        return true;
    }
    let error = io::Error::last_os_error();
    assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "no network namespace: {error}");
    eprintln!("skipped: no network namespace: {error}");
    false
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip is installed");
    assert!(status.success(), "ip {arguments}");
}

/// What arrives in a second, until `take` gives something.
fn wait_for<R>(tap: &mut Tap, mut take: impl FnMut(&[u8]) -> Option<R>) -> R {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut burst = Vec::new();
    loop {
        tap.receive(&mut burst).unwrap();
        for frame in burst.drain(..) {
            if let Some(found) = take(&frame.head) {
                return found;
            }
        }
        assert!(Instant::now() < deadline, "nothing of the kind arrives");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(ADDRESS.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(ADDRESS.0);
    frame.extend([10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
    frame
}

#[test]
fn the_kernel_answers_a_neighbour() {
    if !alone() {
        return;
    }
    let mut tap = Tap::open(&TapConfig::new("tap0", ADDRESS)).unwrap();
    ip("addr add 10.9.0.1/24 dev tap0");
    // The kernel's side is not up: what is sent is lost, as on a cable that nobody is at.
    let mut burst = vec![Frame::new(Buffer::from(arp_request()))];
    assert_eq!(tap.transmit(&mut burst).unwrap(), 1);
    ip("link set tap0 up mtu 1400");
    burst.push(Frame::new(Buffer::from(arp_request())));
    assert_eq!(tap.transmit(&mut burst).unwrap(), 1);
    let reply = wait_for(&mut tap, |frame| {
        (frame[..6] == ADDRESS.0 && frame[12..14] == [8, 6]).then(|| frame.to_vec())
    });
    assert_eq!(reply[20..22], [0, 2], "a reply");
    assert_eq!(reply[28..32], [10, 9, 0, 1]);
    assert_eq!(tap.counters()[4], ("frames the kernel refused", 1));
}

#[test]
fn a_datagram_of_the_kernel_asks_for_its_neighbour() {
    if !alone() {
        return;
    }
    let mut tap = Tap::open(&TapConfig::new("tap%d", ADDRESS)).unwrap();
    assert_eq!((tap.name(), tap.capabilities().mtu), ("tap0", 1500));
    ip("addr add 10.9.0.1/24 dev tap0");
    ip("link set tap0 up");
    let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
    socket.send_to(b"hello", "10.9.0.2:7").unwrap();
    let wanted = wait_for(&mut tap, |frame| (frame[12..14] == [8, 6]).then(|| frame[38..42].to_vec()));
    assert_eq!(wanted, [10, 9, 0, 2]);
}
