//! The packet socket on one end of a veth pair, the kernel at the other.

mod common;

use common::{ADDRESS, alone, arp_request, ip, wait_for};
use demikernel_net::device::{Frame, FrameDevice, Medium, PacketConfig, PacketSocket};
use demikernel_runtime::buffer::Buffer;

#[test]
fn the_kernel_answers_a_neighbour_at_the_other_end() {
    if !alone() {
        return;
    }
    ip("link add near type veth peer name far");
    ip("addr add 10.9.0.1/24 dev far");
    ip("link set far up");
    ip("link set near up");
    let mut config = PacketConfig::new("near");
    config.address = Some(ADDRESS);
    config.frames = 32;
    let mut device = PacketSocket::open(&config).unwrap();
    assert_eq!((device.capabilities().medium, device.capabilities().mtu), (Medium::Ethernet(ADDRESS), 1500));
    // More often than there are slots: the rings go round.
    for round in 0..100 {
        let mut burst = vec![Frame::new(Buffer::from(arp_request()))];
        // Two pieces of memory make one frame.
        let rest = burst[0].head.split_off(20);
        burst[0].rest.push(rest);
        assert_eq!(device.transmit(&mut burst).unwrap(), 1, "round {round}");
        let reply = wait_for(&mut device, |frame| {
            (frame[..6] == ADDRESS.0 && frame[12..14] == [8, 6]).then(|| frame.to_vec())
        });
        assert_eq!((&reply[20..22], &reply[28..32]), (&[0, 2][..], &[10, 9, 0, 1][..]));
    }
    ip("link set near down");
    let mut burst = vec![Frame::new(Buffer::from(arp_request()))];
    assert_eq!(device.transmit(&mut burst).unwrap(), 1, "lost, as nobody is there");
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    if !alone() {
        return;
    }
    let error = PacketSocket::open(&PacketConfig::new("eth99")).unwrap_err();
    assert!(error.to_string().starts_with("no interface \"eth99\": "), "{error}");
    let mut config = PacketConfig::new("lo");
    config.frames = 33;
    let error = PacketSocket::open(&config).unwrap_err();
    assert!(error.to_string().contains("33 frames in a ring: expected a power of two"), "{error}");
}
