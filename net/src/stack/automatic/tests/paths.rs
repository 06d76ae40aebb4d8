//! Where packets go: redirects, routers that are lost, neighbours that are there, paths that take less.

use super::addresses::{advertised, advertisement};
use super::world::*;
use crate::stack::Counter;
use crate::wire::ethernet::ether_type;
use crate::wire::ip::protocol;
use crate::wire::ndp::Message;
use crate::wire::tcp::{Flags, Segment, SequenceNumber};
use crate::wire::{checksum::Sum, icmpv4, ipv4, tcp};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Duration;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::Ipv4Addr;

const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const ME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

fn world() -> World {
    let mut world = World::new(config().address(ME.into(), 24).gateway(ip("192.0.2.1")));
    world.hosts.push((ip("192.0.2.9"), OTHER));
    world
}

/// A message of ICMP that quotes the last frame.
fn icmp(world: &World, source: [u8; 4], message: icmpv4::Message) -> Vec<u8> {
    let quoted = &world.frames.last().unwrap()[14..];
    let mut bytes = vec![0; icmpv4::HEADER];
    bytes.extend_from_slice(&quoted[..quoted.len().min(60)]);
    message.emit(&mut bytes);
    let header = ipv4::Header {
        source: source.into(),
        destination: ME,
        protocol: protocol::ICMP,
        ..ipv4::Header::default()
    };
    frame(ROUTER, OWN, ether_type::IPV4, &ipv4_packet(header, &bytes))
}

fn hop(world: &mut World) -> [u8; 6] {
    let socket = world.socket(Domain::V4, SocketKind::Datagram);
    assert_eq!(world.send(socket, "198.51.100.1:9"), 0);
    world.after(Duration::ZERO);
    *world.frames.last().unwrap().first_chunk().unwrap()
}

#[test]
fn a_redirect_is_followed_by_sockets_that_know_another_way() {
    // [rfc1122 3.2.2.2]
    let mut world = world();
    let socket = world.socket(Domain::V4, SocketKind::Datagram);
    assert_eq!(world.send(socket, "198.51.100.1:9"), 0);
    world.after(Duration::ZERO);
    let redirect = icmpv4::Message::Redirect { code: 1, gateway: [192, 0, 2, 9].into() };
    // From who is not the hop in use.
    world.hear(icmp(&world, [192, 0, 2, 8], redirect));
    assert_eq!((world.stack.counter(Counter::Redirects), hop(&mut world)), (0, ROUTER.0));
    world.hear(icmp(&world, [192, 0, 2, 1], redirect));
    assert_eq!(world.stack.counter(Counter::Redirects), 1);
    assert_eq!(world.send(socket, "198.51.100.1:9"), 0);
    world.after(Duration::ZERO);
    assert_eq!(world.frames.last().unwrap()[..6], OTHER.0);
    // It does not answer any more: back to the router. [rfc1122 3.3.1.4]
    world.hosts.retain(|(_, hardware)| *hardware != OTHER);
    for _ in 0..20 {
        assert_eq!(world.send(socket, "198.51.100.1:9"), 0);
        world.seconds(10);
    }
    assert_eq!(hop(&mut world), ROUTER.0);
    let mut config = config().address(ME.into(), 24).gateway(ip("192.0.2.1"));
    config.accept_redirects = false;
    let mut world = World::new(config);
    hop(&mut world);
    world.hear(icmp(&world, [192, 0, 2, 1], redirect));
    assert_eq!(world.stack.counter(Counter::Redirects), 0);
}

#[test]
fn a_redirect_of_ipv6_names_a_router_or_a_neighbour() {
    // [rfc4861 8.3] [rfc4861 8.1-current]
    let mut world = advertised(advertisement(1800, 3600));
    let own = world.stack.addresses().iter().nth(1).unwrap().address;
    let std::net::IpAddr::V6(own) = own else { panic!("{own}") };
    let destination = v6("2001:db8:9::1");
    for target in [v6("fe80::9"), destination] {
        let socket = world.socket(Domain::V6, SocketKind::Datagram);
        assert_eq!(world.send(socket, "[2001:db8:9::1]:9"), 0);
        world.after(Duration::ZERO);
        let redirect = Message::Redirect { target, destination, target_link_layer: Some(OTHER) };
        let sender = if target == destination { (OTHER, "fe80::9") } else { (ROUTER, "fe80::fe") };
        world.hear(ndp_frame(OTHER, v6("fe80::77"), own, &redirect));
        world.hear(ndp_frame(sender.0, v6(sender.1), own, &redirect));
        assert_eq!(world.send(socket, "[2001:db8:9::1]:9"), 0);
        world.after(Duration::ZERO);
        assert_eq!(world.frames.last().unwrap()[..6], OTHER.0);
    }
    assert_eq!(world.stack.counter(Counter::Redirects), 2);
}

#[test]
fn a_router_that_is_silent_is_replaced() {
    // [rfc4861 7.3.3-router] [rfc4861 6.3.6]
    let mut world = advertised(advertisement(1800, 3600));
    let mut other = advertisement(1800, 3600);
    other.source_link_layer = Some(OTHER);
    world.hear(ndp_frame(OTHER, v6("fe80::9"), ALL_NODES, &Message::RouterAdvertisement(other)));
    world.hosts = vec![(ip("fe80::9"), OTHER)];
    let socket = world.socket(Domain::V6, SocketKind::Datagram);
    for _ in 0..20 {
        assert_eq!(world.send(socket, "[2001:db8:9::1]:9"), 0);
        world.seconds(10);
    }
    assert_eq!(world.send(socket, "[2001:db8:9::1]:9"), 0);
    world.after(Duration::ZERO);
    assert_eq!(world.frames.last().unwrap()[..6], OTHER.0);
}

#[test]
fn data_that_arrive_spare_the_question_whether_a_neighbour_is_there() {
    // [rfc4861 7.3.1-confirmation] [rfc1122 2.3.2.1-advice]
    let silent = |acknowledges: bool| {
        let mut world = world();
        let socket = world.socket(Domain::V4, SocketKind::Stream);
        let _ = world.stack.connect(world.now, socket, "192.0.2.9:80".parse().unwrap());
        world.after(Duration::ZERO);
        let syn = last_segment(&world);
        let mut peer = Segment {
            source: 80,
            destination: syn.source,
            sequence: SequenceNumber::new(1000),
            acknowledgment: SequenceNumber::new(syn.sequence.value().wrapping_add(1)),
            flags: Flags::SYN | Flags::ACK,
            window: 60_000,
            ..Segment::default()
        };
        world.hear(tcp_frame(&peer));
        peer.flags = Flags::ACK;
        peer.sequence = SequenceNumber::new(1001);
        for _ in 0..100 {
            world.seconds(1);
            let _ = world.stack.send(world.now, socket, &mut Sga::from(Buffer::from_static(b"x")));
            world.after(Duration::ZERO);
            if acknowledges {
                let sent = last_segment(&world);
                peer.acknowledgment = SequenceNumber::new(sent.sequence.value().wrapping_add(1));
                world.hear(tcp_frame(&peer));
            }
        }
        world.said.iter().filter(|(_, words)| words == "arp ask 192.0.2.9 itself").count()
    };
    assert_eq!(silent(true), 0);
    assert!(silent(false) > 0);
}

#[test]
fn connections_to_a_host_share_what_its_path_takes() {
    // [rfc8201 5.2] [rfc1191 6.2]
    let mut world = world();
    let connect = |world: &mut World| {
        let socket = world.socket(Domain::V4, SocketKind::Stream);
        let _ = world.stack.connect(world.now, socket, (FAR, 80).into());
        world.after(Duration::ZERO);
        socket
    };
    let one = connect(&mut world);
    assert_eq!(world.stack.tcp_info(world.now, one).unwrap().pmtu, 1500);
    let too_big = icmpv4::Message::FragmentationNeeded { mtu: 1280 };
    world.hear(icmp(&world, [192, 0, 2, 1], too_big));
    let two = connect(&mut world);
    let mtus = [one, two].map(|socket| world.stack.tcp_info(world.now, socket).unwrap().pmtu);
    assert_eq!(mtus, [1280, 1280]);
    let syn = world.frames.last().unwrap();
    assert_eq!(syn[54..58], [2, 4, 5, 0xb4], "what may come is another matter: 1460");
    // One that nobody has sent says nothing.
    let mut forged = icmp(&world, [192, 0, 2, 1], icmpv4::Message::FragmentationNeeded { mtu: 600 });
    forged[14 + 20 + 8 + 20 + 4] ^= 1;
    world.hear(forged);
    let three = connect(&mut world);
    assert_eq!(world.stack.tcp_info(world.now, three).unwrap().pmtu, 1280);
}

fn last_segment(world: &World) -> Segment {
    let frame = world.frames.iter().rev().find(|frame| frame[23] == protocol::TCP).unwrap();
    tcp::Segment::parse(&frame[34..]).unwrap().0
}

fn tcp_frame(segment: &Segment) -> Vec<u8> {
    let mut bytes = vec![0; segment.header_len()];
    let source = Ipv4Addr::new(192, 0, 2, 9);
    let sum = segment.emit(&mut bytes);
    let pseudo_header = Sum::pseudo_header_v4(source, ME, protocol::TCP, bytes.len() as u16);
    tcp::set_checksum(&mut bytes, pseudo_header.then(sum).checksum());
    let header = ipv4::Header { source, destination: ME, protocol: protocol::TCP, ..ipv4::Header::default() };
    frame(OTHER, OWN, ether_type::IPV4, &ipv4_packet(header, &bytes))
}
