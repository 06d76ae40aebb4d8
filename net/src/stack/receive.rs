//! From frames to packets for the transports.

use super::Stack;
use super::counters::Counter;
use super::segments::{confirm, note, progress};
use super::socket::{Holder, Socket};
use crate::device::{Frame, Medium, Received};
use crate::ip::icmp::Complaint;
use crate::table::Flow;
use crate::tcp::Ecn;
use crate::wire::Malformed;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, ether_type};
use crate::wire::ip::{TrafficClass, Version, protocol};
use crate::wire::ipv6::{Chain, Refusal};
use crate::wire::plain::{Around, Plain, parse_datagram};
use crate::wire::{ipv4, ipv6};
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// A packet on its way up: where its parts are in the frame that brought it.
pub(super) struct Packet {
    pub(super) frame: Frame,
    /// Where the IP header begins, for those who quote it.
    pub(super) header: usize,
    /// What is behind the IP headers: it may go on in the frame's other pieces.
    pub(super) payload: Range<usize>,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) class: TrafficClass,
    /// It came to everybody, or to a group, on the link.
    pub(super) to_all: bool,
}

impl Packet {
    /// Octets behind the IP headers.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.payload.len()
    }

    /// The payload as far as it is in the first piece.
    #[inline]
    pub(super) fn first(&self) -> &[u8] {
        &self.frame.head[self.payload.start..self.payload.end.min(self.frame.head.len())]
    }

    /// The payload in all its pieces, the first `skip` octets left out, which are in the first.
    pub(super) fn pieces(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let mut left = self.len() - skip;
        let first = &self.first()[skip..];
        std::iter::once(first).chain(self.frame.rest.iter().map(|part| &part[..])).map(move |part| {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            part
        })
    }

    /// The sum of the payload behind a pseudo-header.
    #[inline]
    pub(super) fn sum(&self, pseudo_header: Sum) -> Sum {
        if self.frame.rest.is_empty() {
            return pseudo_header.then(Sum::of(self.first()));
        }
        self.pieces(0).fold(pseudo_header, |sum, part| sum.then(Sum::of(part)))
    }

    /// The payload without its first `skip` octets, which are in the first piece: without a copy, unless it lies in
    /// several pieces. `None` if there is no memory for that.
    #[inline]
    pub(super) fn into_payload(mut self, skip: usize) -> Option<Buffer> {
        let start = self.payload.start + skip;
        if self.payload.end <= self.frame.head.len() {
            let mut head = self.frame.head;
            head.truncate(self.payload.end);
            head.advance(start);
            return Some(head);
        }
        let length = self.payload.end - start;
        if start == self.frame.head.len() && self.frame.rest.segments() == 1 {
            let mut only = self.frame.rest.pop_front()?;
            only.truncate(length);
            return Some(only);
        }
        self.gather(skip, length)
    }

    #[cold]
    fn gather(&self, skip: usize, length: usize) -> Option<Buffer> {
        let mut whole = BufferMut::with_capacity(length).ok()?;
        self.pieces(skip).for_each(|part| whole.extend_from_slice(part));
        Some(whole.freeze())
    }
}

/// What a frame is whose like nearly all are. Where its payload is in the frame is among what is known of it.
enum Recognized {
    Segment { slot: u32, plain: Plain, payload: Range<usize>, ecn: Ecn },
    Datagram { slot: u32, source: SocketAddr, destination: IpAddr, payload: Range<usize> },
}

/// A part of a frame's first piece.
#[inline]
fn part(frame: Frame, range: Range<usize>) -> Buffer {
    let mut head = frame.head;
    head.truncate(range.end);
    head.advance(range.start);
    head
}

impl Stack {
    #[inline]
    pub(super) fn take_frame(&mut self, now: Instant, frame: Frame) {
        match self.recognize(&frame) {
            Some(Recognized::Segment { slot, plain, payload, ecn }) => {
                self.take_plain(now, frame, slot, &plain, payload, ecn);
            }
            Some(Recognized::Datagram { slot, source, destination, payload }) => {
                self.deliver(slot, part(frame, payload), source, destination);
            }
            None => self.take_any_frame(now, frame),
        }
    }

    #[inline]
    fn take_plain(
        &mut self,
        now: Instant,
        frame: Frame,
        slot: u32,
        plain: &Plain,
        payload: Range<usize>,
        ecn: Ecn,
    ) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else {
            return self.take_any_frame(now, frame);
        };
        let payload = part(frame, payload);
        let free = matches!(tcp.holder, Holder::User | Holder::Nobody);
        if !free || !tcp.connection.is_predicted(plain, payload.len(), ecn) {
            let flow = tcp.flow.get();
            let segment = plain.segment(flow.remote_port(), flow.local_port());
            return self.take_segment_of(now, slot, &segment, payload, ecn);
        }
        let before = self.interface.neighbours.wants_confirmation().then(|| progress(tcp));
        tcp.connection.handle_predicted(now, plain, payload);
        if let Some(before) = before {
            confirm(&mut self.interface, now, tcp, before);
        }
        note(tcp, slot, &mut self.ready, &mut self.events);
    }

    /// Whom a [plain](crate::wire::plain) frame is for, if it is for somebody, and what it says. Of any other frame
    /// nothing is said, not even what is wrong with it.
    #[inline(always)]
    fn recognize(&mut self, frame: &Frame) -> Option<Recognized> {
        let at = match self.interface.capabilities.medium {
            Medium::Ethernet(own) => {
                let link = frame.head.first_chunk::<{ ethernet::MINIMUM_HEADER }>()?;
                if link[..6] != own.0 || link[12..] != ether_type::IPV4.to_be_bytes() {
                    return None;
                }
                ethernet::MINIMUM_HEADER
            }
            Medium::Ip => 0,
        };
        if !frame.rest.is_empty() {
            return None;
        }
        let Received { ip_checksum_good, l4_checksum_good: is_good, .. } = frame.received;
        let packet = &frame.head[at..];
        let (around, protocol, end) = Around::parse(packet, ip_checksum_good)?;
        let in_frame = |payload: Range<usize>| at + payload.start..at + payload.end;
        match protocol {
            protocol::TCP => {
                let (plain, ports, payload) = Plain::parse(packet, &around, end, is_good)?;
                let flow = Flow::of_v4(around.destination, around.source, ports.rotate_left(16));
                let slot = self.look_up_last(&flow)?;
                let ecn = Ecn::from_bits(around.class);
                Some(Recognized::Segment { slot, plain, payload: in_frame(payload), ecn })
            }
            protocol::UDP => {
                let (ports, payload) = parse_datagram(packet, &around, end, is_good)?;
                let source = SocketAddr::new(IpAddr::V4(around.source.into()), (ports >> 16) as u16);
                let destination = IpAddr::V4(around.destination.into());
                let slot = self.find_plain_datagrams(&around, ports)?;
                Some(Recognized::Datagram { slot, source, destination, payload: in_frame(payload) })
            }
            _ => None,
        }
    }

    #[inline(never)]
    fn take_any_frame(&mut self, now: Instant, frame: Frame) {
        let Medium::Ethernet(own) = self.interface.capabilities.medium else {
            return self.take_packet(now, frame, 0, false);
        };
        let Ok((header, at)) = ethernet::Header::parse(&frame.head) else {
            return self.interface.counters.count(Counter::MalformedEthernet);
        };
        let to_all = header.destination.is_multicast();
        if header.destination != own && !to_all {
            return self.interface.counters.count(Counter::OtherStation);
        }
        match header.ether_type {
            ether_type::IPV4 => self.take_ipv4(now, frame, at, to_all),
            ether_type::IPV6 => self.take_ipv6(now, frame, at, to_all),
            ether_type::ARP => self.take_arp(now, &frame, at),
            _ => self.interface.counters.count(Counter::UnknownEtherType),
        }
    }

    /// A packet without a link header. [rfc1122 3.2.1.1]
    #[inline(never)]
    fn take_packet(&mut self, now: Instant, frame: Frame, at: usize, to_all: bool) {
        match Version::of(&frame.head[at..]) {
            Ok(Version::V4) => self.take_ipv4(now, frame, at, to_all),
            Ok(Version::V6) => self.take_ipv6(now, frame, at, to_all),
            Err(_) => self.interface.counters.count(Counter::MalformedIp),
        }
    }

    /// What we have sent to ourselves: as much as there is now, as answers may follow for ever.
    #[cold]
    pub(super) fn receive_loopback(&mut self, now: Instant) {
        for _ in 0..self.interface.loopback.len() {
            let Some(frame) = self.interface.loopback.pop_front() else { return };
            self.interface.counters.count(Counter::LoopedBack);
            let frame = match &self.place {
                None => frame,
                Some(place) => match place.steer_packet(frame) {
                    Some(frame) => frame,
                    None => continue,
                },
            };
            self.take_inner(now, frame);
        }
    }

    /// A packet without a link header that did not come from outside, or was looked at when it did.
    pub(super) fn take_inner(&mut self, now: Instant, frame: Frame) {
        self.looping = true;
        self.take_packet(now, frame, 0, false);
        self.looping = false;
    }

    /// With TCP's beginning in one piece of code: packets are large values, which nobody moves so.
    #[inline(always)]
    fn take_ipv4(&mut self, now: Instant, frame: Frame, at: usize, to_all: bool) {
        let Some(header) = ipv4::Plain::parse(&frame.head[at..], frame.received.ip_checksum_good) else {
            return self.take_any_ipv4(now, frame, at, to_all);
        };
        let start = at + ipv4::MINIMUM_HEADER;
        let payload = start..start + usize::from(header.payload_len);
        if payload.end > frame.head.len() && payload.end > frame.len() {
            return self.interface.counters.count(Counter::MalformedIp);
        }
        let packet = Packet {
            frame,
            header: at,
            payload,
            source: header.source.into(),
            destination: header.destination.into(),
            class: header.traffic_class,
            to_all,
        };
        match header.protocol {
            protocol::TCP => self.take_tcp(now, packet),
            protocol => self.take_other_v4(now, protocol, packet),
        }
    }

    #[inline]
    fn take_other_v4(&mut self, now: Instant, protocol: u8, packet: Packet) {
        match protocol {
            protocol::UDP => self.take_udp(now, packet),
            protocol::ICMP => self.take_icmpv4(now, packet),
            protocol => self.take_unknown(now, protocol, packet),
        }
    }

    /// What is not [plain](ipv4::Plain).
    #[cold]
    fn take_any_ipv4(&mut self, now: Instant, frame: Frame, at: usize, to_all: bool) {
        let (header, payload) = match parse_ipv4(&frame, at) {
            Ok(parsed) => parsed,
            Err(_) => return self.interface.counters.count(Counter::MalformedIp),
        };
        let packet = Packet {
            frame,
            header: at,
            payload,
            source: header.source.into(),
            destination: header.destination.into(),
            class: header.traffic_class,
            to_all,
        };
        if header.is_fragment() || header.source_route || self.is_foreign_loopback(&packet) {
            return self.take_unusual_ipv4(now, &header, packet);
        }
        match header.protocol {
            protocol::TCP => self.take_segment(now, packet),
            protocol => self.take_other_v4(now, protocol, packet),
        }
    }

    /// Nobody may choose the way through us. [rfc7126 4.3]
    #[cold]
    fn take_unusual_ipv4(&mut self, now: Instant, header: &ipv4::Header, packet: Packet) {
        if header.source_route {
            self.interface.counters.count(Counter::SourceRouted);
        } else if self.is_foreign_loopback(&packet) {
            self.interface.counters.count(Counter::MartianSource);
        } else {
            self.take_fragment_v4(now, header, packet);
        }
    }

    /// Whether it has a loopback address but came from outside. [rfc1122 3.2.1.3-g]
    #[inline]
    fn is_foreign_loopback(&self, packet: &Packet) -> bool {
        (packet.source.is_loopback() || packet.destination.is_loopback()) && !self.looping
    }

    #[inline(never)]
    fn take_ipv6(&mut self, now: Instant, frame: Frame, at: usize, to_all: bool) {
        let Ok(header) = ipv6::Header::parse_quoted(&frame.head[at..]) else {
            return self.interface.counters.count(Counter::MalformedIp);
        };
        let start = at + ipv6::HEADER;
        let payload = start..start + usize::from(header.payload_len);
        if payload.end > frame.len() {
            return self.interface.counters.count(Counter::MalformedIp);
        }
        let packet = Packet {
            frame,
            header: at,
            payload,
            source: header.source.into(),
            destination: header.destination.into(),
            class: header.traffic_class,
            to_all,
        };
        if self.is_foreign_loopback(&packet) {
            return self.interface.counters.count(Counter::MartianSource);
        }
        match header.next_header {
            protocol::TCP => self.take_segment(now, packet),
            protocol::UDP => self.take_udp(now, packet),
            _ => self.take_other_ipv6(now, &header, packet),
        }
    }

    /// With extension headers, or ICMP.
    #[cold]
    fn take_other_ipv6(&mut self, now: Instant, header: &ipv6::Header, mut packet: Packet) {
        let end = packet.payload.end.min(packet.frame.head.len());
        let chain = match Chain::walk(header, &packet.frame.head[packet.header..end]) {
            Ok(chain) => chain,
            Err(Refusal::Problem { code, pointer, even_if_multicast }) => {
                self.interface.counters.count(Counter::MalformedIp);
                let code = code as u8;
                return self.complain(
                    now,
                    &packet,
                    Complaint::ParameterProblem { code, pointer, even_if_multicast },
                );
            }
            Err(_) => return self.interface.counters.count(Counter::MalformedIp),
        };
        packet.payload.start = packet.header + chain.payload;
        if let Some(fragment) = chain.fragment {
            return self.take_fragment_v6(now, &fragment, packet);
        }
        match chain.protocol {
            protocol::TCP => self.take_segment(now, packet),
            protocol::UDP => self.take_udp(now, packet),
            protocol::ICMPV6 => self.take_icmpv6(now, header, chain.router_alert, packet),
            ipv6::next_header::NONE => {}
            _ => {
                self.interface.counters.count(Counter::UnknownProtocol);
                // [rfc8200 4-unrecognized]
                self.complain(now, &packet, Complaint::UnknownProtocol { pointer: chain.pointer });
            }
        }
    }

    /// A protocol that nobody here speaks. [rfc1122 3.2.2.1-protocol]
    #[cold]
    pub(super) fn take_unknown(&mut self, now: Instant, protocol: u8, packet: Packet) {
        if protocol == protocol::IGMP && packet.source.is_ipv4() {
            return self.take_igmp(now, &packet);
        }
        self.interface.counters.count(Counter::UnknownProtocol);
        self.complain(now, &packet, Complaint::UnknownProtocol { pointer: 0 });
    }

    /// Whether a packet is for this host and from one that can be answered; counts why it is not. [rfc9293 MUST-57]
    /// [rfc9293 MUST-63]
    pub(super) fn is_for_us(&self, packet: &Packet) -> bool {
        if !self.interface.addresses.is_local(packet.destination) {
            self.interface.counters.count(Counter::OtherHost);
            return false;
        }
        if packet.to_all || !self.interface.may_be_source(packet.source) {
            self.interface.counters.count(Counter::MartianSource);
            return false;
        }
        true
    }
}

/// The header, and where the payload is in the frame, which may have several pieces.
#[inline(always)]
fn parse_ipv4(frame: &Frame, at: usize) -> Result<(ipv4::Header, Range<usize>), Malformed> {
    let bytes = &frame.head[at..];
    let (header, start) = ipv4::Header::parse_quoted(bytes)?;
    // [rfc1122 3.2.1.2]
    if !frame.received.ip_checksum_good && !sum_of_header(bytes, start).is_valid() {
        return Err(Malformed::Checksum);
    }
    let start = at + start;
    let end = start + usize::from(header.payload_len);
    if end > frame.len() { Err(Malformed::Truncated) } else { Ok((header, start..end)) }
}

/// Of a known number of octets, as nearly always, the sum has no loop and no rests.
#[inline]
fn sum_of_header(bytes: &[u8], length: usize) -> Sum {
    match bytes.first_chunk::<{ ipv4::MINIMUM_HEADER }>() {
        Some(fixed) if length == ipv4::MINIMUM_HEADER => Sum::of(fixed),
        _ => Sum::of(&bytes[..length]),
    }
}
