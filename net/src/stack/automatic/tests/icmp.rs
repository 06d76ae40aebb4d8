//! What is answered, and to whom errors are told.

use super::world::*;
use crate::device::MacAddress;
use crate::stack::{Counter, SocketId};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::ether_type;
use crate::wire::icmpv4::{self, Echo, Unreachable};
use crate::wire::ip::protocol;
use crate::wire::{icmpv6, ipv4, ipv6};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Duration;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::{Ipv4Addr, Ipv6Addr};

const ME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const ME_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);

fn world() -> World {
    let mut world = World::new(config().address(ME.into(), 24).address(ME_V6.into(), 64));
    world.hosts.extend([(ip("192.0.2.9"), OTHER), (ip("fe80::9"), OTHER)]);
    world
}

/// A packet of IPv4 from 192.0.2.9.
fn packet(to: Ipv4Addr, station: MacAddress, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header =
        ipv4::Header { source: [192, 0, 2, 9].into(), destination: to, protocol, ..ipv4::Header::default() };
    frame(OTHER, station, ether_type::IPV4, &ipv4_packet(header, payload))
}

fn echo(data: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; icmpv4::HEADER], data].concat();
    icmpv4::Message::EchoRequest(Echo { identifier: 7, sequence: 9 }).emit(&mut bytes);
    bytes
}

fn echo_v6(to: Ipv6Addr) -> Vec<u8> {
    let mut bytes = b"--------hello".to_vec();
    let header = ipv6::Header { source: v6("fe80::9"), destination: to, ..ipv6::Header::default() };
    let pseudo_header = icmpv6::pseudo_header(header.source, to, bytes.len());
    icmpv6::Message::EchoRequest(Echo { identifier: 7, sequence: 9 }).emit(&mut bytes, pseudo_header);
    ipv6_frame(OTHER, ipv6::Header { next_header: protocol::ICMPV6, hop_limit: 64, ..header }, &bytes)
}

#[test]
fn echoes_are_answered_whole() {
    // [rfc1122 3.2.2.6] [rfc1122 3.2.2.6-broadcast]
    let mut world = world();
    world.hear(packet(ME, OWN, protocol::ICMP, &echo(b"hello")));
    let story = world.after(Duration::ZERO);
    assert_eq!(story.last().unwrap(), "icmp 0 0 from 192.0.2.7 to 192.0.2.9");
    assert_eq!(world.frames.last().unwrap()[38..], [0, 7, 0, 9, b'h', b'e', b'l', b'l', b'o']);
    // What does not fit comes back in pieces.
    world.hear(packet(ME, OWN, protocol::ICMP, &echo(&[7; 2000])));
    let story = world.after(Duration::ZERO);
    assert_eq!(story, ["fragment 0 more true of 1480", "fragment 1480 more false of 528"]);
    for (to, station) in [(ME, MacAddress::BROADCAST), ([192, 0, 2, 255].into(), MacAddress::BROADCAST)] {
        world.hear(packet(to, station, protocol::ICMP, &echo(b"hello")));
        assert_eq!(world.after(Duration::ZERO), [""; 0]);
    }
    // [rfc4443 4.2] [rfc4443 4.2-multicast]
    for to in [ME_V6, ALL_NODES] {
        world.hear(echo_v6(to));
        assert_eq!(world.after(Duration::ZERO).last().unwrap(), "icmpv6 129 0 from fe80::7 to fe80::9");
        assert_eq!(world.frames.last().unwrap()[58..], [0, 7, 0, 9, b'h', b'e', b'l', b'l', b'o']);
    }
    world.hear(echo_v6(v6("ff02::99")));
    assert_eq!(world.after(Duration::ZERO), [""; 0], "a group that nobody here has joined");
}

#[test]
fn a_packet_that_goes_nowhere_is_complained_of_but_not_if_it_went_to_many() {
    // [rfc1122 3.2.2.1] [rfc1122 3.2.2]
    let datagram = [0, 1, 0, 9, 0, 8, 0, 0];
    let everybody = Ipv4Addr::new(192, 0, 2, 255);
    let error = {
        let mut bytes = [&[0; icmpv4::HEADER], &datagram[..]].concat();
        icmpv4::Message::DestinationUnreachable(Unreachable::PORT).emit(&mut bytes);
        bytes
    };
    let table = [
        (packet(ME, OWN, protocol::UDP, &datagram), Some("icmp 3 3")),
        (packet(ME, OWN, 99, b"hello"), Some("icmp 3 2")),
        (packet(ME, MacAddress::BROADCAST, protocol::UDP, &datagram), None),
        (packet(everybody, MacAddress::BROADCAST, protocol::UDP, &datagram), None),
        (packet(ME, OWN, protocol::ICMP, &error), None),
        (packet([192, 0, 2, 8].into(), OWN, protocol::UDP, &datagram), None),
    ];
    for (number, (packet, expected)) in table.into_iter().enumerate() {
        let mut world = world();
        world.hear(packet);
        let said = world.after(Duration::ZERO).into_iter().find(|words| words.starts_with("icmp"));
        let expected = expected.map(|kind| format!("{kind} from 192.0.2.7 to 192.0.2.9"));
        assert_eq!(said, expected, "{number}");
    }
}

#[test]
fn packets_of_another_version_or_of_loopback_are_dropped_silently() {
    // [rfc1122 3.2.1.1] [rfc1122 3.2.1.3-g]
    let mut world = world();
    let mut other = packet(ME, OWN, protocol::ICMP, &echo(b"hello"));
    other[14] = 0x55;
    world.hear(other);
    for (source, destination) in [([127, 0, 0, 1], ME), ([192, 0, 2, 9], Ipv4Addr::LOCALHOST)] {
        let protocol = protocol::ICMP;
        let header = ipv4::Header { source: source.into(), destination, protocol, ..ipv4::Header::default() };
        world.hear(frame(OTHER, OWN, ether_type::IPV4, &ipv4_packet(header, &echo(b"hello"))));
    }
    let socket = world.socket(Domain::V4, SocketKind::Datagram);
    world.stack.bind(socket, "127.0.0.1:0".parse().unwrap()).unwrap();
    world.send(socket, "192.0.2.9:9");
    assert_eq!(world.seconds(5), [""; 0], "nor does anything leave from there");
    assert_eq!(world.stack.counter(Counter::MartianSource), 2);
    assert_eq!(world.stack.counter(Counter::LostSource), 1);
}

#[test]
fn nobody_chooses_the_way_through_us() {
    // [rfc7126 4.3]
    let mut world = world();
    let mut routed = packet(ME, OWN, protocol::ICMP, &echo(b"hello"));
    routed.splice(34..34, [131, 7, 8, 192, 0, 2, 8, 0]);
    (routed[14], routed[17]) = (0x47, routed[17] + 8);
    routed[24..26].fill(0);
    let checksum = Sum::of(&routed[14..42]).checksum();
    routed[24..26].copy_from_slice(&checksum.to_be_bytes());
    world.hear(routed);
    assert_eq!(world.after(Duration::ZERO), [""; 0]);
    assert_eq!(world.stack.counter(Counter::SourceRouted), 1);
}

fn datagrams(world: &mut World, port: u16) -> SocketId {
    let socket = world.socket(Domain::V4, SocketKind::Datagram);
    world.stack.bind(socket, (Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
    socket
}

#[test]
fn errors_reach_the_socket_whose_packet_they_quote() {
    // [rfc1122 3.2.2.1-demultiplex] [rfc1122 4.1.3.3] [rfc1122 4.2.3.9]
    let mut world = world();
    let (one, two) = (datagrams(&mut world, 1000), datagrams(&mut world, 1001));
    for socket in [one, two] {
        world.stack.connect(world.now, socket, "192.0.2.9:9".parse().unwrap()).unwrap();
    }
    let stream = world.socket(Domain::V4, SocketKind::Stream);
    let report = |world: &mut World, why| {
        world.after(Duration::ZERO);
        let sent = &world.frames.last().unwrap()[14..];
        let mut bytes = [&[0; icmpv4::HEADER], &sent[..28]].concat();
        icmpv4::Message::DestinationUnreachable(why).emit(&mut bytes);
        world.hear(packet(ME, OWN, protocol::ICMP, &bytes));
    };
    let data = Sga::from(Buffer::from_static(b"hello"));
    world.stack.send_to(world.now, one, &data, None).unwrap();
    report(&mut world, Unreachable::PORT);
    let errors =
        [one, two].map(|socket| world.stack.take_error(socket).unwrap().and_then(|it| it.raw_os_error()));
    assert_eq!(errors, [Some(libc::ECONNREFUSED), None]);
    let _ = world.stack.connect(world.now, stream, "192.0.2.9:80".parse().unwrap());
    report(&mut world, Unreachable::HOST);
    let error = world.stack.take_error(stream).unwrap().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH), "while it is being opened");
}

#[test]
fn what_does_not_fit_a_packet_leaves_in_fragments() {
    // [rfc1122 3.3.3]
    let mut world = world();
    let socket = datagrams(&mut world, 1000);
    let data = Sga::from(Buffer::from(vec![7; 3000]));
    world.stack.send_to(world.now, socket, &data, Some("192.0.2.9:9".parse().unwrap())).unwrap();
    let story = world.after(Duration::ZERO);
    let expected =
        ["fragment 0 more true of 1480", "fragment 1480 more true of 1480", "fragment 2960 more false of 48"];
    assert_eq!(story[1..], expected, "{story:?}");
}

#[test]
fn neighbours_are_asked_through_their_group_and_then_themselves() {
    // [rfc4861 7.2.2] [rfc4291 2.7.1]
    let mut world = world();
    let socket = world.socket(Domain::V6, SocketKind::Datagram);
    assert_eq!(world.send(socket, "[fe80::9]:9"), 0);
    assert_eq!(world.after(Duration::ZERO)[0], "ndp ask fe80::9");
    assert_eq!(world.frames[0][..6], [0x33, 0x33, 0xff, 0, 0, 9]);
    world.seconds(60);
    assert_eq!(world.send(socket, "[fe80::9]:9"), 0);
    assert_eq!(world.seconds(6).last().unwrap(), "ndp ask fe80::9");
    assert_eq!(world.frames.last().unwrap()[..6], OTHER.0);
}
