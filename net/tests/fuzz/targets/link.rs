//! A stack on an Ethernet: frames of all kinds, and neighbours that answer or do not.

use super::input::Input;
use super::packet::{repair, repair_payload, wrap};
use demikernel_net::device::{Capabilities, Frame, MacAddress, Medium};
use demikernel_net::stack::{SocketId, Stack, StackConfig};
use demikernel_net::wire::arp::{self, Operation};
use demikernel_net::wire::ethernet::{self, ether_type};
use demikernel_net::wire::ip::protocol;
use demikernel_runtime::buffer::{Buffer, Sga, pool};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const HERE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const MTU: usize = 1500;

/// Frames that one event has at most.
const MOST_FRAMES: usize = 4096;

pub(crate) fn run(data: &[u8]) {
    let before = pool::stats().in_use();
    let mut input = Input::new(data);
    let mut world = World::new();
    while !input.is_empty() {
        world.step(&mut input);
        world.look();
    }
    drop(world);
    assert_eq!(pool::stats().in_use(), before, "memory is given back");
}

struct World {
    stack: Stack,
    now: Instant,
    sockets: [SocketId; 2],
    burst: Vec<Frame>,
}

impl World {
    fn new() -> World {
        let now = Instant::from_nanos(1_000_000_000);
        let config = StackConfig::new(Capabilities::new(Medium::Ethernet(HERE), MTU), [7; 32])
            .address([10, 0, 0, 1].into(), 24)
            .address([0xfd00, 0, 0, 0, 0, 0, 0, 1].into(), 64)
            .gateway([10, 0, 0, 254].into())
            .gateway([0xfe80, 0, 0, 0, 0, 0, 0, 0xfe].into());
        let mut stack = Stack::new(now, config);
        let sockets =
            [Domain::V4, Domain::V6].map(|domain| stack.socket(domain, SocketKind::Datagram).unwrap());
        World { stack, now, sockets, burst: Vec::new() }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 7 {
            0 => self.take(input.counted()),
            1 => {
                let (kind, mut packet) = (input.bool(), input.counted().to_vec());
                repair(&mut packet);
                self.take_packet(
                    if kind { ether_type::IPV4 } else { ether_type::IPV6 },
                    &packet,
                    input.bool(),
                );
            }
            2 => self.arp(input),
            3 => {
                let (source, destination) = (addresses_v6(input), addresses_v6(input));
                let mut message = input.counted().to_vec();
                repair_payload((source, destination), protocol::ICMPV6, &mut message);
                let packet = wrap(source, destination, protocol::ICMPV6, &message);
                self.take_packet(ether_type::IPV6, &packet, input.bool());
            }
            4 => {
                self.now = self.now.saturating_add(Duration::from_micros(1 << (input.u8() % 32)));
                self.stack.handle_deadlines(self.now);
            }
            _ => self.send(input),
        }
    }

    fn take(&mut self, frame: &[u8]) {
        self.burst.push(Frame::new(Buffer::copy_from_slice(frame).unwrap()));
        self.stack.receive(self.now, &mut self.burst);
    }

    fn take_packet(&mut self, ether_type: u16, packet: &[u8], to_all: bool) {
        let destination = if to_all { MacAddress::BROADCAST } else { HERE };
        let header =
            ethernet::Header { destination, source: MacAddress([2, 0, 0, 0, 0, 2]), vlan: None, ether_type };
        let mut frame = vec![0; header.header_len()];
        header.emit(&mut frame);
        frame.extend_from_slice(packet);
        self.take(&frame);
    }

    fn arp(&mut self, input: &mut Input<'_>) {
        let near = |input: &mut Input<'_>| Ipv4Addr::new(10, 0, 0, input.u8());
        let packet = arp::Packet {
            operation: if input.bool() { Operation::Request } else { Operation::Reply },
            sender_hardware: MacAddress(input.array()),
            sender_protocol: near(input),
            target_hardware: HERE,
            target_protocol: near(input),
        };
        let mut bytes = [0; arp::PACKET];
        packet.emit(&mut bytes);
        self.take_packet(ether_type::ARP, &bytes, input.bool());
    }

    fn send(&mut self, input: &mut Input<'_>) {
        let (to, socket) = match input.bool() {
            true => (IpAddr::from([10, 0, input.u8() & 1, input.u8()]), self.sockets[0]),
            false => (addresses_v6(input), self.sockets[1]),
        };
        let data = Sga::from(Buffer::from(vec![1; usize::from(input.u8()) * 16]));
        let _ = self.stack.send_to(self.now, socket, &data, Some(SocketAddr::new(to, 9)));
    }

    fn look(&mut self) {
        let mut count = 0;
        while self.stack.transmit(self.now, &mut self.burst) > 0 {
            for frame in self.burst.drain(..) {
                assert!(frame.len() <= MTU + 14, "{} bytes", frame.len());
                let (header, _) = ethernet::Header::parse(&frame.head).expect("a frame");
                assert_eq!(header.source, HERE);
                count += 1;
            }
            assert!(count < MOST_FRAMES, "{count} frames for one");
        }
        while self.stack.poll_event().is_some() {}
    }
}

fn addresses_v6(input: &mut Input<'_>) -> IpAddr {
    match input.u8() {
        0 => input.ipv6().into(),
        1 => IpAddr::from([0; 16]),
        2 => IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1]),
        3 => IpAddr::from([0xff02, 0, 0, 0, 0, 1, 0xff00, 1]),
        place if place & 1 == 0 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(place >> 1)]),
        place => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(place)]),
    }
}
