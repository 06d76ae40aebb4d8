//! Packets that come in pieces.

use super::counters::Counter;
use super::receive::Packet;
use super::{FRAGMENTS, Stack};
use crate::device::Frame;
use crate::ip::icmp::Complaint;
use crate::ip::reassembly::{self, Fragment, Id, Outcome};
use crate::wire::ip::{TrafficClass, protocol};
use crate::wire::ipv6::{Chain, Refusal};
use crate::wire::{ipv4, ipv6};
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_runtime::time::Instant;
use std::net::IpAddr;

impl Stack {
    /// A piece of an IPv4 packet to us.
    #[cold]
    pub(super) fn take_fragment_v4(&mut self, now: Instant, header: &ipv4::Header, packet: Packet) {
        if !self.interface.addresses.is_local(packet.destination) {
            return self.interface.counters.count(Counter::OtherHost);
        }
        let id = Id {
            source: packet.source,
            destination: packet.destination,
            identification: header.identification.into(),
            protocol: header.protocol,
        };
        let (offset, more) = (header.fragment_offset, header.more_fragments);
        self.take_fragment(now, id, packet, offset, more, header.protocol);
    }

    /// A piece of an IPv6 packet to us; the payload of `packet` is what is behind the fragment header.
    pub(super) fn take_fragment_v6(&mut self, now: Instant, fragment: &ipv6::Fragment, packet: Packet) {
        if !self.interface.addresses.is_local(packet.destination) {
            return self.interface.counters.count(Counter::OtherHost);
        }
        let id = Id {
            source: packet.source,
            destination: packet.destination,
            identification: fragment.identification,
            protocol: 0,
        };
        self.take_fragment(now, id, packet, fragment.offset, fragment.more, fragment.next_header);
    }

    fn take_fragment(
        &mut self,
        now: Instant,
        id: Id,
        packet: Packet,
        offset: u16,
        more: bool,
        next_header: u8,
    ) {
        self.interface.counters.count(Counter::Fragments);
        let ecn = packet.class.ecn;
        let header = packet.frame.head.slice(packet.header..packet.payload.start);
        let Some(payload) = packet.into_payload(0) else {
            return self.interface.counters.count(Counter::NoMemory);
        };
        let fragment = Fragment { offset, more, payload, header, next_header, ecn };
        match self.reassembly.insert(now, id, fragment) {
            Outcome::Incomplete => {}
            Outcome::Complete(whole) => self.take_whole(now, &id, whole),
            Outcome::Dropped(_) => self.interface.counters.count(Counter::FragmentsDropped),
        }
        if let Some(at) = self.reassembly.deadline() {
            self.deadlines.set(FRAGMENTS, at);
        }
    }

    /// All pieces are here.
    fn take_whole(&mut self, now: Instant, id: &Id, whole: reassembly::Packet) {
        if self.place.is_some()
            && let Some(packet) = rebuilt(id, &whole)
        {
            self.interface.counters.count(Counter::Reassembled);
            return self.take_for_cores(now, packet);
        }
        let start = whole.header.len();
        let Ok(mut head) = BufferMut::with_capacity(start + whole.payload.len()) else {
            return self.interface.counters.count(Counter::NoMemory);
        };
        self.interface.counters.count(Counter::Reassembled);
        head.extend_from_slice(&whole.header);
        whole.payload.iter().for_each(|part| head.extend_from_slice(part));
        let payload = start..head.len();
        let packet = Packet {
            frame: Frame::new(head.freeze()),
            header: 0,
            payload,
            source: id.source,
            destination: id.destination,
            class: TrafficClass { ecn: whole.ecn, ..TrafficClass::default() },
            to_all: false,
        };
        if id.source.is_ipv4() {
            return self.take_transport(now, whole.next_header, packet);
        }
        let Ok(header) = ipv6::Header::parse_quoted(&packet.frame.head) else { return };
        self.take_chain(now, &header, whole.next_header, packet);
    }

    /// Behind the fragment header there may be others.
    fn take_chain(&mut self, now: Instant, header: &ipv6::Header, next_header: u8, mut packet: Packet) {
        match Chain::walk_reassembled(header, next_header, packet.first()) {
            Ok(chain) if chain.fragment.is_none() => {
                packet.payload.start += chain.payload;
                match chain.protocol {
                    protocol::ICMPV6 => self.take_icmpv6(now, header, chain.router_alert, packet),
                    protocol => self.take_transport(now, protocol, packet),
                }
            }
            Err(Refusal::Problem { code, pointer, even_if_multicast }) => {
                self.interface.counters.count(Counter::MalformedIp);
                let code = code as u8;
                self.complain(now, &packet, Complaint::ParameterProblem { code, pointer, even_if_multicast });
            }
            _ => self.interface.counters.count(Counter::MalformedIp),
        }
    }

    fn take_transport(&mut self, now: Instant, protocol: u8, packet: Packet) {
        match protocol {
            protocol::TCP => self.take_segment(now, packet),
            protocol::UDP => self.take_udp(now, packet),
            protocol::ICMP if packet.source.is_ipv4() => self.take_icmpv4(now, packet),
            protocol => self.take_unknown(now, protocol, packet),
        }
    }

    /// Packets whose time is over; the source of one whose first piece came is told. [rfc792 time-exceeded]
    pub(super) fn expire_fragments(&mut self, now: Instant) {
        while let Some(given_up) = self.reassembly.expire(now) {
            self.interface.counters.count(Counter::FragmentsDropped);
            let Some((header, payload)) = given_up.first else { continue };
            let Some(packet) = quote(&given_up.id, &header, &payload) else { continue };
            self.complain(now, &packet, Complaint::ReassemblyTimeout);
        }
        if let Some(at) = self.reassembly.deadline() {
            self.deadlines.set(FRAGMENTS, at);
        }
    }
}

/// A packet of a transport as if it had come in one piece, for whichever core its flow is of. `None` of others, and without
/// memory for it: those stay where they are.
fn rebuilt(id: &Id, whole: &reassembly::Packet) -> Option<Frame> {
    if !matches!(whole.next_header, protocol::TCP | protocol::UDP) {
        return None;
    }
    let (length, class) = (whole.payload.len(), TrafficClass { ecn: whole.ecn, ..TrafficClass::default() });
    let payload_len = u16::try_from(length).ok()?;
    let mut head = BufferMut::with_capacity(ipv6::HEADER + length).ok()?;
    match (id.source, id.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let protocol = whole.next_header;
            let header = ipv4::Header {
                source,
                destination,
                protocol,
                payload_len,
                traffic_class: class,
                ..ipv4::Header::default()
            };
            head.resize(header.header_len(), 0);
            header.emit(&mut head);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let next_header = whole.next_header;
            let header = ipv6::Header {
                source,
                destination,
                next_header,
                payload_len,
                traffic_class: class,
                ..ipv6::Header::default()
            };
            head.resize(ipv6::HEADER, 0);
            header.emit(&mut head);
        }
        _ => return None,
    }
    whole.payload.iter().for_each(|part| head.extend_from_slice(part));
    Some(Frame::new(head.freeze()))
}

/// The first piece as it came.
fn quote(id: &Id, header: &Buffer, payload: &Buffer) -> Option<Packet> {
    let mut head = BufferMut::with_capacity(header.len() + payload.len()).ok()?;
    head.extend_from_slice(header);
    head.extend_from_slice(payload);
    let payload = header.len()..head.len();
    Some(Packet {
        frame: Frame::new(head.freeze()),
        header: 0,
        payload,
        source: id.source,
        destination: id.destination,
        class: TrafficClass::default(),
        to_all: false,
    })
}
