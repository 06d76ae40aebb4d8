//! UDP datagrams: to whom they go, and how they leave.

use super::Stack;
use super::counters::Counter;
use super::receive::Packet;
use super::socket::{Socket, shown};
use crate::cores::Protocol;
use crate::ip::addresses::Kind;
use crate::ip::icmp::Complaint;
use crate::table::Flow;
use crate::tcp::{Events, Tuple};
use crate::udp::{self, Datagram};
use crate::wire::checksum::Sum;
use crate::wire::ip::{Version, protocol};
use crate::wire::plain::Around;
use crate::wire::udp::{HEADER, Header};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::Domain;
use std::net::{IpAddr, SocketAddr};

/// Whom the last plain datagram was for, and of which flow it was: the next one most likely is, too, as peers send several
/// or wait for answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    source: u32,
    destination: u32,
    ports: u32,
    slot: u32,
    /// The interface's when it was looked up; it holds as long as that does not change, nor what sockets are bound to.
    generation: u32,
}

impl Last {
    /// Nobody.
    pub(super) const NONE: Last = Last { source: 0, destination: 0, ports: 0, slot: 0, generation: 0 };
}

impl Stack {
    /// The socket for a [plain](crate::wire::plain) datagram.
    #[inline]
    pub(super) fn find_plain_datagrams(&mut self, around: &Around, ports: u32) -> Option<u32> {
        let Last { source, destination, ports: last_ports, slot, generation } = self.last_datagram;
        let same = source == around.source && destination == around.destination && ports == last_ports;
        if same && generation == self.interface.generation {
            return Some(slot);
        }
        self.look_for_datagrams(around, ports)
    }

    #[inline(never)]
    fn look_for_datagrams(&mut self, around: &Around, ports: u32) -> Option<u32> {
        let Around { source, destination, .. } = *around;
        let from = SocketAddr::new(IpAddr::V4(source.into()), (ports >> 16) as u16);
        let slot = self.find_datagrams(ports as u16, IpAddr::V4(destination.into()), from)?;
        let generation = self.interface.generation;
        self.last_datagram = Last { source, destination, ports, slot, generation };
        Some(slot)
    }

    /// Sockets are bound, connected or closed: what comes may be for another.
    pub(super) fn forget_last_datagram(&mut self) {
        self.last_datagram = Last::NONE;
    }

    #[inline]
    pub(super) fn take_udp(&mut self, now: Instant, mut packet: Packet) {
        let Ok(header) = Header::parse_quoted(packet.first()) else {
            return self.interface.counters.count(Counter::MalformedUdp);
        };
        let length = HEADER + usize::from(header.payload_len);
        if length > packet.len() {
            return self.interface.counters.count(Counter::MalformedUdp);
        }
        packet.payload.end = packet.payload.start + length;
        if !packet.frame.received.l4_checksum_good && !is_udp_valid(&packet) {
            return self.interface.counters.count(Counter::UdpChecksum);
        }
        let source = SocketAddr::new(packet.source, header.source);
        let destination = packet.destination;
        if let Some(slot) = self.find_datagrams(header.destination, destination, source) {
            return self.deliver_packet(slot, packet, source);
        }
        self.take_other_udp(now, &header, packet, source);
    }

    /// The socket for a datagram to one of our addresses: one that is connected to its sender before others.
    #[inline]
    pub(super) fn find_datagrams(&self, port: u16, destination: IpAddr, source: SocketAddr) -> Option<u32> {
        if self.peers.len() > 0 {
            let flow = Flow::of(destination, port, source.ip(), source.port());
            if let Some(slot) = self.datagrams_of(&flow) {
                return Some(slot);
            }
        }
        if destination.is_multicast() || !self.interface.addresses.is_local(destination) {
            return None;
        }
        let spread = u64::from(source.port()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.udp_ports.find(port, destination, spread)
    }

    fn deliver_packet(&mut self, slot: u32, packet: Packet, source: SocketAddr) {
        let destination = packet.destination;
        match packet.into_payload(HEADER) {
            Some(payload) => self.deliver(slot, payload, source, destination),
            None => self.interface.counters.count(Counter::NoMemory),
        }
    }

    /// What a datagram to `destination` carries is for this socket.
    #[inline]
    pub(super) fn deliver(&mut self, slot: u32, payload: Buffer, source: SocketAddr, destination: IpAddr) {
        let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) else { return };
        // From a socket that is connected, nobody else's datagrams are received.
        let stranger = udp.peer.is_some_and(|peer| peer != source);
        if stranger || udp.socket.is_shut() {
            return self.interface.counters.count(Counter::NoPort);
        }
        let source =
            if udp.domain == Domain::V4 { source } else { shown(udp.domain, source.ip(), source.port()) };
        if !udp.socket.deliver(Datagram { payload, source, destination }) {
            return self.interface.counters.count(Counter::UdpOverflow);
        }
        udp.events |= Events::READABLE;
        if !std::mem::replace(&mut udp.told, true) {
            self.events.push(slot);
        }
    }

    /// To a group, to everybody, or to nobody.
    #[cold]
    fn take_other_udp(&mut self, now: Instant, header: &Header, packet: Packet, source: SocketAddr) {
        if self.take_lease(now, header, &packet) {
            return;
        }
        let destination = packet.destination;
        match self.interface.addresses.kind(destination) {
            Kind::Local => {
                let (local_port, remote_port) = (header.destination, header.source);
                let tuple = Tuple { local: destination, local_port, remote: packet.source, remote_port };
                if self.pass_on(Protocol::Udp, &tuple, &packet) {
                    return;
                }
                self.interface.counters.count(Counter::NoPort);
                self.complain(now, &packet, Complaint::PortUnreachable);
            }
            Kind::Other => self.interface.counters.count(Counter::OtherHost),
            kind => self.deliver_to_all(header, packet, source, kind),
        }
    }

    /// Each socket gets what goes to a group that it has joined, or to everybody. [rfc1112 7.2]
    fn deliver_to_all(&mut self, header: &Header, packet: Packet, source: SocketAddr, kind: Kind) {
        let group = packet.destination;
        let member = |slot: &u32| match self.sockets.get(*slot) {
            Some(Socket::Udp(udp)) => kind == Kind::Broadcast || udp.groups.contains(&group),
            _ => false,
        };
        let slots: Vec<u32> =
            self.udp_ports.all(header.destination, group).into_iter().filter(member).collect();
        let (class, to_all, head) = (packet.class, packet.to_all, packet.header);
        let (from, payload) = (packet.source, packet.payload.clone());
        for slot in slots {
            let frame = crate::device::Frame {
                head: packet.frame.head.clone(),
                rest: packet.frame.rest.clone(),
                received: packet.frame.received,
                ..crate::device::Frame::default()
            };
            let payload = payload.clone();
            let copy =
                Packet { frame, header: head, payload, source: from, destination: group, class, to_all };
            self.deliver_packet(slot, copy, source);
        }
    }

    /// Something has happened to a UDP socket.
    pub(super) fn tell_datagrams(&mut self, slot: u32, events: Events) {
        if let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) {
            udp.events |= events;
            if !std::mem::replace(&mut udp.told, true) {
                self.events.push(slot);
            }
        }
    }

    /// There is room again for those who found none.
    #[cold]
    pub(super) fn unblock(&mut self) {
        if !self.interface.has_room() {
            return;
        }
        for slot in std::mem::take(&mut self.blocked) {
            if let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot)
                && std::mem::take(&mut udp.blocked)
            {
                self.tell_datagrams(slot, Events::WRITABLE);
            }
        }
    }
}

#[inline]
fn is_udp_valid(packet: &Packet) -> bool {
    let version = if packet.source.is_ipv4() { Version::V4 } else { Version::V6 };
    let bytes = packet.first();
    let sum = Sum::pseudo_header(packet.source, packet.destination, protocol::UDP, packet.len() as u32);
    if packet.frame.rest.is_empty() {
        return crate::wire::udp::verify(version, sum, bytes).is_ok();
    }
    let checksum = u16::from_be_bytes([bytes[6], bytes[7]]);
    udp::verify(version, sum, checksum, packet.pieces(0)).is_ok()
}
