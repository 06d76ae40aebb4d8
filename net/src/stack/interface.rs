//! What is below the transports: one link, our addresses on it, the way to others, and what waits to leave.

use super::config::StackConfig;
use super::counters::{Counter, Counters};
use crate::device::{Capabilities, ChecksumOffload, Frame, MacAddress, Medium, Received};
use crate::ip::Key;
use crate::ip::addresses::{Addresses, Kind};
use crate::ip::fragmentation::Identifications;
use crate::ip::neighbours::{self, Cookie, Event, Neighbours, Resolution};
use crate::ip::pmtu::PathMtus;
use crate::ip::routes::{Route, Routes};
use crate::wire::arp;
use crate::wire::ethernet::{self, ether_type};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

/// Packets whose next hop does not answer that wait for their senders to be told.
const UNREACHABLE: usize = 64;

/// Octets of a link header; of none where the medium has none.
pub(crate) type LinkHeader = [u8; ethernet::MINIMUM_HEADER];

const BLANK: LinkHeader = [0; ethernet::MINIMUM_HEADER];

/// Where packets of a flow go, as it was looked up last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    generation: u32,
    to: To,
}

impl Path {
    /// Not looked up yet.
    pub(crate) const UNKNOWN: Path = Path { generation: 0, to: To::Unknown };
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum To {
    /// It is to be looked up.
    Unknown,
    /// Back to ourselves.
    Loopback,
    /// Through a medium without stations.
    Line,
    /// To this neighbour.
    Neighbor(Cookie),
}

/// What a frame begins with, and where it goes.
pub(crate) enum Way {
    /// Out, with this header.
    Out(LinkHeader),
    /// Back to ourselves.
    Back,
    /// It is to be found out: the header is left blank.
    Ask,
}

/// A packet that waits for its next hop to be known.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) frame: Frame,
}

/// One link.
pub(crate) struct Interface {
    pub(crate) capabilities: Capabilities,
    pub(crate) addresses: Addresses,
    pub(crate) routes: Routes,
    pub(crate) neighbours: Neighbours<Held>,
    /// Packets whose next hop does not answer.
    pub(crate) unreachable: VecDeque<Held>,
    pub(crate) outbound: Vec<Frame>,
    pub(crate) loopback: VecDeque<Frame>,
    pub(crate) counters: Counters,
    outbound_most: usize,
    loopback_most: usize,
    pub(super) identification: u16,
    pub(super) identifications: Identifications,
    /// Of paths to which datagrams go; connections know their own.
    pub(crate) path_mtus: PathMtus,
    generation: u32,
}

impl Interface {
    pub(crate) fn new(config: &StackConfig) -> Interface {
        let mut addresses = Addresses::new();
        let mut routes = Routes::new();
        let own = match config.capabilities.medium {
            Medium::Ethernet(own) => own,
            Medium::Ip => MacAddress::default(),
        };
        let key = Key::new(*config.key.first_chunk().unwrap_or(&[0; 16]));
        for address in &config.addresses {
            let _ = addresses.add(*address);
            let _ = routes.add(Route::fixed(address.prefix(), None));
        }
        for route in &config.routes {
            let _ = routes.add(*route);
        }
        Interface {
            capabilities: config.capabilities,
            addresses,
            routes,
            neighbours: Neighbours::new(own, config.limits.neighbours, neighbours::Times::default(), key),
            unreachable: VecDeque::new(),
            outbound: Vec::new(),
            loopback: VecDeque::new(),
            counters: Counters::default(),
            outbound_most: config.limits.outbound,
            loopback_most: config.limits.loopback,
            identification: config.key[0].into(),
            identifications: Identifications::new(key),
            path_mtus: PathMtus::new(key),
            generation: 1,
        }
    }

    /// Octets of a link header.
    #[inline]
    pub(crate) fn link_header(&self) -> usize {
        if let Medium::Ethernet(_) = self.capabilities.medium { ethernet::MINIMUM_HEADER } else { 0 }
    }

    /// The way to the destination of `path`, if it is known.
    #[inline]
    pub(crate) fn way(&mut self, path: &Path) -> Way {
        if path.generation != self.generation {
            return Way::Ask;
        }
        match path.to {
            To::Line => Way::Out(BLANK),
            To::Loopback => Way::Back,
            To::Neighbor(cookie) => {
                self.neighbours.header(cookie).map_or(Way::Ask, |header| Way::Out(*header))
            }
            To::Unknown => Way::Ask,
        }
    }

    /// Whether there is a way to `destination` at all.
    pub(crate) fn has_route(&self, now: Instant, destination: IpAddr) -> bool {
        self.addresses.kind(destination) != Kind::Other || self.routes.look_up(now, destination).is_some()
    }

    /// Sends a frame whose header is blank; what is found out of the way is for `path`. Whether it was taken.
    #[cold]
    pub(crate) fn dispatch(
        &mut self,
        now: Instant,
        destination: IpAddr,
        frame: Frame,
        path: &mut Path,
    ) -> bool {
        let know = |to| Path { generation: self.generation, to };
        let kind = self.addresses.kind(destination);
        match (kind, destination, self.capabilities.medium) {
            (Kind::Local, ..) => {
                *path = know(To::Loopback);
                return self.loop_back(frame);
            }
            (Kind::Broadcast, _, Medium::Ethernet(_)) => return self.complete(frame, MacAddress::BROADCAST),
            (Kind::Multicast, IpAddr::V4(group), Medium::Ethernet(_)) => {
                return self.complete(frame, MacAddress::of_group_v4(group));
            }
            (Kind::Multicast, IpAddr::V6(group), Medium::Ethernet(_)) => {
                return self.complete(frame, MacAddress::of_group_v6(group));
            }
            _ => {}
        }
        let Some(hop) = self.routes.look_up(now, destination) else {
            self.counters.count(Counter::NeighborUnknown);
            return kind != Kind::Other && self.queue(frame);
        };
        if self.capabilities.medium == Medium::Ip {
            *path = know(To::Line);
            return self.queue(frame);
        }
        let length = frame.len();
        let taken = match self.neighbours.resolve(now, hop.hop, Held { frame }, length) {
            Resolution::Ready(cookie, held) => {
                *path = know(To::Neighbor(cookie));
                self.send_held(cookie, held)
            }
            Resolution::Waiting => true,
        };
        self.ask_neighbours(now);
        taken
    }

    /// Sends what has waited for its neighbour.
    fn send_held(&mut self, cookie: Cookie, held: Held) -> bool {
        match self.neighbours.header(cookie).copied() {
            Some(header) => self.complete_with(held.frame, &header),
            None => false,
        }
    }

    fn complete(&mut self, frame: Frame, destination: MacAddress) -> bool {
        let Medium::Ethernet(source) = self.capabilities.medium else { return false };
        let bytes = frame.head.get(ethernet::MINIMUM_HEADER).copied().unwrap_or_default();
        let ether_type = if bytes >> 4 == 6 { ether_type::IPV6 } else { ether_type::IPV4 };
        let mut header = BLANK;
        ethernet::Header { destination, source, vlan: None, ether_type }.emit(&mut header);
        self.complete_with(frame, &header)
    }

    /// Writes the header into a frame in which it was left blank.
    fn complete_with(&mut self, mut frame: Frame, header: &LinkHeader) -> bool {
        match std::mem::take(&mut frame.head).try_into_mut() {
            Ok(mut head) if head.len() >= header.len() => {
                head[..header.len()].copy_from_slice(header);
                frame.head = head.freeze();
                self.queue(frame)
            }
            _ => false,
        }
    }

    /// Does what the neighbours want: questions, and packets that have waited. Those that can go nowhere come back.
    pub(crate) fn ask_neighbours(&mut self, now: Instant) {
        while let Some(event) = self.neighbours.poll() {
            match event {
                Event::Solicit { address: IpAddr::V4(address), to } => self.solicit_v4(now, address, to),
                Event::Solicit { address: IpAddr::V6(address), to } => self.solicit_v6(now, address, to),
                Event::Send { cookie, packet } => {
                    self.send_held(cookie, packet);
                }
                Event::Unreachable { packet, .. } => {
                    if self.unreachable.len() < UNREACHABLE {
                        self.unreachable.push_back(packet);
                    }
                }
                Event::RouterLost(_) => {}
            }
        }
    }

    /// [rfc826 generation]
    fn solicit_v4(&mut self, now: Instant, target: Ipv4Addr, to: Option<MacAddress>) {
        let Some(IpAddr::V4(source)) = self.addresses.select_source(now, target.into()) else { return };
        let Medium::Ethernet(own) = self.capabilities.medium else { return };
        self.send_arp(
            to.unwrap_or(MacAddress::BROADCAST),
            &arp::Packet {
                operation: arp::Operation::Request,
                sender_hardware: own,
                sender_protocol: source,
                target_hardware: MacAddress::default(),
                target_protocol: target,
            },
        );
    }

    /// Sends an ARP packet.
    pub(crate) fn send_arp(&mut self, destination: MacAddress, packet: &arp::Packet) {
        let Medium::Ethernet(source) = self.capabilities.medium else { return };
        let mut bytes = [0; ethernet::MINIMUM_HEADER + arp::PACKET];
        ethernet::Header { destination, source, vlan: None, ether_type: ether_type::ARP }.emit(&mut bytes);
        packet.emit(&mut bytes[ethernet::MINIMUM_HEADER..]);
        match Buffer::copy_from_slice(&bytes) {
            Ok(frame) => {
                self.queue(Frame::new(frame));
            }
            Err(_) => self.counters.count(Counter::NoMemory),
        }
    }

    /// Waits for the device.
    pub(crate) fn queue(&mut self, frame: Frame) -> bool {
        let room = self.outbound.len() < self.outbound_most;
        if room {
            self.outbound.push(frame);
        } else {
            self.counters.count(Counter::OutboundOverflow);
        }
        room
    }

    /// Whether one more frame can wait for the device.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.outbound.len() < self.outbound_most
    }

    /// A packet to ourselves.
    pub(crate) fn loop_back(&mut self, mut frame: Frame) -> bool {
        if self.loopback.len() >= self.loopback_most {
            self.counters.count(Counter::OutboundOverflow);
            return false;
        }
        frame.head.advance(self.link_header());
        frame.checksum = ChecksumOffload::default();
        frame.received = VERIFIED;
        self.loopback.push_back(frame);
        true
    }

    /// The MTU towards `to`.
    pub(crate) fn mtu(&self, destination: IpAddr) -> u16 {
        let device = self.capabilities.mtu.min(65_535) as u16;
        if self.addresses.is_local(destination) { LOOPBACK_MTU } else { device }
    }

    /// Whether a packet may come from `source` at all. [rfc1122 3.2.1.3-source]
    pub(crate) fn may_be_source(&self, source: IpAddr) -> bool {
        !source.is_unspecified() && self.addresses.may_be_source(source)
    }
}

/// As Linux's `lo`, as far as 16 bits go.
const LOOPBACK_MTU: u16 = 65_535;

/// What never left the machine needs no checksum.
pub(super) const VERIFIED: Received = Received { ip_checksum_good: true, l4_checksum_good: true, hash: None };
