//! The TAP device against the kernel, each test in a network namespace of its own.

mod common;

use common::{ADDRESS, alone, arp_request, ip, wait_for};
use demikernel_net::device::{Frame, FrameDevice, Tap, TapConfig};
use demikernel_runtime::buffer::Buffer;
use std::net::UdpSocket;
use std::time::Duration;

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

#[test]
fn an_interface_in_use_is_waited_for() {
    if !alone() {
        return;
    }
    ip("tuntap add tap0 mode tap");
    let config = TapConfig::new("tap0", ADDRESS);
    let tap = Tap::open(&config).unwrap();
    let error = Tap::open(&config).unwrap_err();
    assert!(error.to_string().contains("another process has it"), "{error}");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(tap);
        });
        assert_eq!(Tap::open(&config).unwrap().name(), "tap0");
    });
}
