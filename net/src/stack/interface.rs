//! What is below the transports: one link, our addresses on it, the way to others, and what waits to leave.

use super::config::StackConfig;
use super::counters::{Counter, Counters};
use crate::device::{Capabilities, ChecksumOffload, Frame, MacAddress, Medium, Received, Segmentation};
use crate::ip::Key;
use crate::ip::addresses::{Addresses, Kind};
use crate::ip::fragmentation::{self, Identifications};
use crate::ip::neighbours::{self, Cookie, Event, Neighbours, Resolution};
use crate::ip::pmtu::PathMtus;
use crate::ip::routes::{Route, Routes};
use crate::table::Flow;
use crate::tcp::Transmit;
use crate::wire::arp;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, ether_type};
use crate::wire::ip::{TrafficClass, protocol};
use crate::wire::{ipv4, ipv6, tcp, udp};
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::time::Instant;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

/// Payload up to this size is copied behind the headers; longer one stays where it is.
const COPY: usize = 256;

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

/// Addresses and what else an IP header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) hops: u8,
    pub(crate) class: TrafficClass,
    /// Routers may cut it.
    pub(crate) may_fragment: bool,
}

impl Envelope {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Envelope {
        Envelope {
            source,
            destination,
            protocol,
            hops: 64,
            class: TrafficClass::default(),
            may_fragment: false,
        }
    }

    #[inline]
    pub(crate) fn header_len(&self) -> usize {
        if self.source.is_ipv4() { ipv4::MINIMUM_HEADER } else { ipv6::HEADER }
    }

    #[inline]
    fn emit(&self, bytes: &mut [u8], payload_len: usize, identification: u16) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Header {
                source,
                destination,
                protocol: self.protocol,
                time_to_live: self.hops,
                traffic_class: self.class,
                identification,
                dont_fragment: !self.may_fragment,
                payload_len: payload_len as u16,
                ..ipv4::Header::default()
            }
            .emit(bytes),
            (IpAddr::V6(source), IpAddr::V6(destination)) => ipv6::Header {
                source,
                destination,
                next_header: self.protocol,
                hop_limit: self.hops,
                traffic_class: self.class,
                payload_len: payload_len as u16,
                ..ipv6::Header::default()
            }
            .emit(bytes),
            _ => debug_assert!(false, "a packet has addresses of one version"),
        }
    }

    /// The headers of a piece of a packet.
    fn emit_fragment(&self, bytes: &mut [u8], piece: &fragmentation::Piece, identification: u32) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Header {
                source,
                destination,
                protocol: self.protocol,
                time_to_live: self.hops,
                traffic_class: self.class,
                identification: identification as u16,
                more_fragments: piece.more,
                fragment_offset: piece.offset,
                payload_len: piece.payload.len() as u16,
                ..ipv4::Header::default()
            }
            .emit(bytes),
            _ => {
                let length = ipv6::Fragment::HEADER + piece.payload.len();
                let whole = Envelope { protocol: ipv6::next_header::FRAGMENT, ..*self };
                whole.emit(bytes, length, 0);
                let (offset, more) = (piece.offset, piece.more);
                ipv6::Fragment { next_header: self.protocol, offset, more, identification }
                    .emit(&mut bytes[ipv6::HEADER..]);
            }
        }
    }

    #[inline]
    fn pseudo_header(&self, length: usize) -> Sum {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Sum::pseudo_header_v4(source, destination, self.protocol, length as u16)
            }
            _ => Sum::pseudo_header(self.source, self.destination, self.protocol, length as u32),
        }
    }
}

/// One link.
pub(crate) struct Interface {
    pub(crate) capabilities: Capabilities,
    pub(crate) addresses: Addresses,
    pub(crate) routes: Routes,
    pub(crate) neighbours: Neighbours<Held>,
    /// Packets whose next hop does not answer.
    pub(crate) unreachable: VecDeque<Held>,
    pub(crate) outbound: VecDeque<Frame>,
    pub(crate) loopback: VecDeque<Frame>,
    pub(crate) counters: Counters,
    outbound_most: usize,
    loopback_most: usize,
    identification: u16,
    identifications: Identifications,
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
            neighbours: Neighbours::new(
                own,
                neighbours::Limits::default(),
                neighbours::Times::default(),
                key,
            ),
            unreachable: VecDeque::new(),
            outbound: VecDeque::new(),
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

    /// A frame with this segment. `None` if there is no memory: it is as if it were lost.
    #[inline]
    pub(crate) fn tcp_frame(
        &self,
        flow: &Flow,
        hops: u8,
        class: TrafficClass,
        way: &Way,
        transmit: Transmit,
    ) -> Option<Frame> {
        let Transmit { segment, payload, cut, .. } = transmit;
        let local = matches!(way, Way::Back);
        let link = self.link_header();
        let ends = flow.v4();
        let at = link + if ends.is_some() { ipv4::MINIMUM_HEADER } else { ipv6::HEADER };
        let headers = at + segment.header_len();
        let length = payload.len();
        let inline = length <= COPY || !self.capabilities.scatter && !local;
        // Beside the stack's own memory, only what is written of a buffer is touched.
        let mut bytes = [0; LONGEST_HEADERS];
        if let Way::Out(header) = way {
            bytes[..ethernet::MINIMUM_HEADER].copy_from_slice(header);
        }
        let l4 = headers - at + length;
        let pseudo_header = match ends {
            Some((source, destination)) => {
                let header = ipv4::Header {
                    source,
                    destination,
                    protocol: protocol::TCP,
                    time_to_live: hops,
                    traffic_class: class,
                    dont_fragment: true,
                    payload_len: l4 as u16,
                    ..ipv4::Header::default()
                };
                header.emit(&mut bytes[link..]);
                Sum::pseudo_header_v4(source, destination, protocol::TCP, l4 as u16)
            }
            None => emit_v6(flow, hops, class, l4, &mut bytes[link..]),
        };
        let sum = segment.emit(&mut bytes[at..]);
        let mut frame = Frame::default();
        if local {
            frame.received = VERIFIED;
        } else if self.capabilities.transmit_l4_checksum {
            tcp::set_checksum(&mut bytes[at..], pseudo_header.fold());
            frame.checksum.l4 = Some((at as u16, 16));
        } else {
            let sum = sum_of(pseudo_header.then(sum), &payload);
            tcp::set_checksum(&mut bytes[at..], sum.checksum());
        }
        if self.capabilities.transmit_ip_checksum && ends.is_some() && !local {
            frame.checksum.ip = Some(link as u16);
        }
        frame.segmentation = cut.map(|segment| Segmentation { segment, headers: headers as u16 });
        let Ok(mut head) = BufferMut::with_capacity(headers + if inline { length } else { 0 }) else {
            self.counters.count(Counter::NoMemory);
            return None;
        };
        head.extend_from_slice(&bytes[..headers]);
        if inline {
            copy(&payload, &mut head);
        } else {
            frame.rest = payload;
        }
        frame.head = head.freeze();
        Some(frame)
    }

    /// Room for headers, zeroed, and for payload behind them.
    #[inline]
    fn head(&self, headers: usize, payload: usize) -> Option<BufferMut> {
        let Ok(mut head) = BufferMut::with_capacity(headers + payload) else {
            self.counters.count(Counter::NoMemory);
            return None;
        };
        head.resize(headers, 0);
        Some(head)
    }

    /// Sends a datagram that fits; whether it was taken.
    pub(crate) fn send_udp(
        &mut self,
        now: Instant,
        path: &mut Path,
        envelope: &Envelope,
        ports: (u16, u16),
        payload: &Sga,
    ) -> bool {
        let way = self.way(path);
        let link = self.link_header();
        let at = link + envelope.header_len();
        let headers = at + udp::HEADER;
        let length = payload.len();
        let local = matches!(way, Way::Back);
        let inline = length <= COPY || !self.capabilities.scatter && !local;
        let Some(mut head) = self.head(headers, if inline { length } else { 0 }) else { return false };
        if let Way::Out(header) = &way {
            head[..link].copy_from_slice(&header[..link]);
        }
        let identification = self.next_identification();
        envelope.emit(&mut head[link..], udp::HEADER + length, identification);
        let header = udp::Header { source: ports.0, destination: ports.1, payload_len: length as u16 };
        let sum = header.emit(&mut head[at..]);
        let pseudo_header = envelope.pseudo_header(udp::HEADER + length);
        let mut frame = Frame::default();
        if local {
            udp::set_checksum(&mut head[at..], 0xffff);
            frame.received = VERIFIED;
        } else if self.capabilities.transmit_l4_checksum {
            udp::set_checksum(&mut head[at..], pseudo_header.fold());
            frame.checksum.l4 = Some((at as u16, 6));
        } else {
            let sum = sum_of(pseudo_header.then(sum), payload);
            udp::set_checksum(&mut head[at..], sum.checksum());
        }
        if inline {
            copy(payload, &mut head);
        } else {
            frame.rest = payload.clone();
        }
        frame.head = head.freeze();
        match way {
            Way::Out(_) => self.queue(frame),
            Way::Back => self.loop_back(frame),
            Way::Ask => self.dispatch(now, envelope.destination, frame, path),
        }
    }

    /// Sends a datagram that is too long for one packet, as fragments. [rfc1122 3.3.3]
    #[cold]
    pub(crate) fn send_in_pieces(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        ports: (u16, u16),
        payload: &Sga,
        mtu: u16,
    ) -> bool {
        let length = udp::HEADER + payload.len();
        let mut header = [0; udp::HEADER];
        let emitted =
            udp::Header { source: ports.0, destination: ports.1, payload_len: payload.len() as u16 }
                .emit(&mut header);
        let sum = sum_of(envelope.pseudo_header(length).then(emitted), payload);
        udp::set_checksum(&mut header, sum.checksum());
        let Ok(first) = Buffer::copy_from_slice(&header) else { return false };
        let whole: Sga = std::iter::once(first).chain(payload.iter().cloned()).collect();
        let v4 = envelope.source.is_ipv4();
        let extension = if v4 { 0 } else { ipv6::Fragment::HEADER };
        let headers = envelope.header_len() + extension;
        let Ok(pieces) = fragmentation::cut(whole, headers, mtu.into()) else { return false };
        let identification =
            self.identifications.next(envelope.source, envelope.destination, envelope.protocol);
        let mut path = Path::UNKNOWN;
        pieces.fold(true, |sent, piece| {
            let link = self.link_header();
            let mut frame = Frame::default();
            let Some(mut head) = self.head(link + headers, piece.payload.len()) else { return false };
            envelope.emit_fragment(&mut head[link..], &piece, identification);
            // Pieces are rare: they are copied, so that each is a frame that any device takes.
            copy(&piece.payload, &mut head);
            frame.head = head.freeze();
            self.dispatch(now, envelope.destination, frame, &mut path) && sent
        })
    }

    /// A number for a packet that may be cut.
    pub(crate) fn next_identification(&mut self) -> u16 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }

    /// Sends a packet whose payload `write` writes, `length` octets of it, into zeros.
    #[cold]
    pub(crate) fn send_packet(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        length: usize,
        write: impl FnOnce(&mut [u8], Sum),
    ) -> bool {
        let link = self.link_header();
        let at = link + envelope.header_len();
        let Some(mut head) = self.head(at + length, 0) else { return false };
        let identification = self.next_identification();
        envelope.emit(&mut head[link..], length, identification);
        write(&mut head[at..], envelope.pseudo_header(length));
        self.dispatch(now, envelope.destination, Frame::new(head.freeze()), &mut { Path::UNKNOWN })
    }

    /// Waits for the device.
    pub(crate) fn queue(&mut self, frame: Frame) -> bool {
        let room = self.outbound.len() < self.outbound_most;
        if room {
            self.outbound.push_back(frame);
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

/// Of Ethernet, IPv6 and TCP.
const LONGEST_HEADERS: usize = 128;

const _: () = assert!(ethernet::MINIMUM_HEADER + ipv6::HEADER + tcp::MAXIMUM_HEADER <= LONGEST_HEADERS);

/// The header of a segment over IPv6, and the sum of its pseudo-header.
#[inline(never)]
fn emit_v6(flow: &Flow, hops: u8, class: TrafficClass, length: usize, bytes: &mut [u8]) -> Sum {
    let envelope = Envelope { hops, class, ..Envelope::new(flow.local(), flow.remote(), protocol::TCP) };
    envelope.emit(bytes, length, 0);
    envelope.pseudo_header(length)
}

/// As Linux's `lo`, as far as 16 bits go.
const LOOPBACK_MTU: u16 = 65_535;

const VERIFIED: Received = Received { ip_checksum_good: true, l4_checksum_good: true, hash: None };

/// The sum with that of the payload behind it, which is one buffer nearly always.
#[inline]
fn sum_of(sum: Sum, payload: &Sga) -> Sum {
    let Some(first) = payload.first() else { return sum };
    let sum = sum.then(Sum::of(first));
    if payload.segments() == 1 {
        return sum;
    }
    payload.iter().skip(1).fold(sum, |sum, part| sum.then(Sum::of(part)))
}

/// Copies the payload behind the headers.
#[inline]
fn copy(payload: &Sga, head: &mut BufferMut) {
    let Some(first) = payload.first() else { return };
    head.extend_from_slice(first);
    if payload.segments() > 1 {
        payload.iter().skip(1).for_each(|part| head.extend_from_slice(part));
    }
}
