//! ICMP of both versions: echo, errors about what we sent, errors about what we got. At most so many a second.

use super::Stack;
use super::counters::Counter;
use super::emit::Envelope;
use super::interface::Held;
use super::receive::Packet;
use super::segments::note;
use super::socket::Socket;
use crate::table::Flow;
use crate::tcp::{self, Events};
use crate::wire::ip::{TrafficClass, Version, protocol};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6, tcp as wire_tcp, udp};
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, SocketAddr};

/// Why a packet to us goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unreachable {
    /// Nobody speaks its protocol here.
    Protocol,
    /// Nobody has its port.
    Port,
}

/// What an ICMP error says of a packet of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Report {
    Unreachable(tcp::Unreachable),
    TooBig(u16),
    /// It may pass.
    Soft,
}

impl Stack {
    #[cold]
    pub(super) fn take_icmpv4(&mut self, now: Instant, packet: Packet) {
        if !self.is_for_us(&packet) {
            return;
        }
        let bytes: Vec<u8> = packet.pieces(0).flatten().copied().collect();
        let Ok((message, at)) = icmpv4::Message::parse(&bytes) else {
            return self.interface.counters.count(Counter::MalformedIcmp);
        };
        match message {
            icmpv4::Message::EchoRequest(echo) => self.answer_echo(now, &packet, echo, &bytes[at..]),
            icmpv4::Message::DestinationUnreachable(why) => self.take_report(now, &bytes[at..], of_v4(why)),
            icmpv4::Message::FragmentationNeeded { mtu } => {
                self.take_report(now, &bytes[at..], Report::TooBig(mtu));
            }
            _ if message.is_error() => self.take_report(now, &bytes[at..], Report::Soft),
            _ => {}
        }
    }

    #[cold]
    pub(super) fn take_icmpv6(&mut self, now: Instant, header: &ipv6::Header, packet: Packet) {
        let bytes: Vec<u8> = packet.pieces(0).flatten().copied().collect();
        let pseudo_header = icmpv6::pseudo_header(header.source, header.destination, bytes.len());
        let Ok((message, at)) = icmpv6::Message::parse(&bytes, pseudo_header) else {
            return self.interface.counters.count(Counter::MalformedIcmp);
        };
        if let icmpv6::Message::Other {
            kind: icmpv6::kind::ROUTER_SOLICITATION..=icmpv6::kind::REDIRECT,
            ..
        } = message
        {
            return self.take_ndp(now, header, &bytes);
        }
        if !self.is_for_us(&packet) {
            return;
        }
        match message {
            icmpv6::Message::EchoRequest(echo) => self.answer_echo(now, &packet, echo, &bytes[at..]),
            icmpv6::Message::DestinationUnreachable(why) => self.take_report(now, &bytes[at..], of_v6(why)),
            icmpv6::Message::PacketTooBig { mtu } => {
                let mtu = mtu.clamp(1, 65_535) as u16;
                self.take_report(now, &bytes[at..], Report::TooBig(mtu));
            }
            _ if message.is_error() => self.take_report(now, &bytes[at..], Report::Soft),
            _ => {}
        }
    }

    /// [rfc1122 3.2.2.6] [rfc4443 4.2-reply]
    fn answer_echo(&mut self, now: Instant, packet: &Packet, echo: icmpv4::Echo, data: &[u8]) {
        if !self.icmp.allows(now) {
            return self.interface.counters.count(Counter::IcmpLimited);
        }
        self.interface.counters.count(Counter::EchoAnswered);
        let class = TrafficClass { dscp: packet.class.dscp, ..TrafficClass::default() };
        let v4 = packet.source.is_ipv4();
        let protocol = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
        let envelope = Envelope { class, ..Envelope::new(packet.destination, packet.source, protocol) };
        self.interface.send_packet(now, &envelope, icmpv4::HEADER + data.len(), |bytes, pseudo_header| {
            bytes[icmpv4::HEADER..].copy_from_slice(data);
            if v4 {
                icmpv4::Message::EchoReply(echo).emit(bytes);
            } else {
                icmpv6::Message::EchoReply(echo).emit(bytes, pseudo_header);
            }
        });
    }

    /// Tells the source of a packet that it went nowhere; not if it went to many. [rfc1122 3.2.2-broadcast] [rfc4443 2.4-e3]
    #[cold]
    pub(super) fn send_unreachable(&mut self, now: Instant, packet: &Packet, why: Unreachable) {
        let v4 = packet.source.is_ipv4();
        if !self.is_for_us(packet) {
            return;
        }
        if v4 {
            let why = match why {
                Unreachable::Protocol => icmpv4::Unreachable::PROTOCOL,
                Unreachable::Port => icmpv4::Unreachable::PORT,
            };
            self.send_error_v4(now, packet, icmpv4::Message::DestinationUnreachable(why));
        } else {
            let message = icmpv6::Message::DestinationUnreachable(icmpv6::Unreachable::PORT);
            self.send_error_v6(now, packet, message);
        }
    }

    /// Something is wrong with the headers of an IPv6 packet. [rfc4443 3.4]
    #[cold]
    pub(super) fn send_problem(
        &mut self,
        now: Instant,
        packet: &Packet,
        code: u8,
        pointer: u32,
        to_many: bool,
    ) {
        let many = packet.destination.is_multicast() || packet.to_all;
        if many && !to_many || !self.interface.may_be_source(packet.source) {
            return;
        }
        if !packet.destination.is_multicast() && !self.interface.addresses.is_local(packet.destination) {
            return;
        }
        self.send_error_v6(now, packet, icmpv6::Message::ParameterProblem { code, pointer });
    }

    pub(super) fn send_error_v4(&mut self, now: Instant, packet: &Packet, message: icmpv4::Message) {
        if !self.icmp.allows(now) {
            return self.interface.counters.count(Counter::IcmpLimited);
        }
        let quoted = &packet.frame.head[packet.header..packet.payload.end.min(packet.frame.head.len())];
        let quoted = &quoted[..quoted.len().min(icmpv4::QUOTE)];
        let envelope = Envelope::new(packet.destination, packet.source, protocol::ICMP);
        self.interface.send_packet(now, &envelope, icmpv4::HEADER + quoted.len(), |bytes, _| {
            bytes[icmpv4::HEADER..].copy_from_slice(quoted);
            message.emit(bytes);
        });
    }

    pub(super) fn send_error_v6(&mut self, now: Instant, packet: &Packet, message: icmpv6::Message) {
        if !self.icmp.allows(now) {
            return self.interface.counters.count(Counter::IcmpLimited);
        }
        let source = match self.interface.addresses.is_local(packet.destination) {
            true => Some(packet.destination),
            false => self.interface.addresses.select_source(now, packet.source),
        };
        let Some(source) = source else { return };
        let quoted = &packet.frame.head[packet.header..packet.payload.end.min(packet.frame.head.len())];
        let quoted = &quoted[..quoted.len().min(icmpv6::QUOTE)];
        let envelope = Envelope::new(source, packet.source, protocol::ICMPV6);
        self.interface.send_packet(now, &envelope, icmpv6::HEADER + quoted.len(), |bytes, pseudo_header| {
            bytes[icmpv6::HEADER..].copy_from_slice(quoted);
            message.emit(bytes, pseudo_header);
        });
    }

    /// Packets whose next hop does not answer: it is as if a router had said so. [rfc4861 7.2.2-unreachable]
    pub(super) fn tell_unreachable(&mut self, now: Instant) {
        let link = self.interface.link_header();
        while let Some(Held { frame }) = self.interface.unreachable.pop_front() {
            self.interface.counters.count(Counter::NeighborUnknown);
            let report = Report::Unreachable(tcp::Unreachable::Host);
            self.take_quoted(now, frame.head.get(link..).unwrap_or_default(), report);
        }
    }

    fn take_report(&mut self, now: Instant, quoted: &[u8], report: Report) {
        self.interface.counters.count(Counter::IcmpErrors);
        self.take_quoted(now, quoted, report);
    }

    /// A report about the packet that `quoted` begins with. [rfc1122 3.2.2.1-demultiplex]
    fn take_quoted(&mut self, now: Instant, quoted: &[u8], report: Report) {
        let (source, destination, protocol, at): (IpAddr, IpAddr, u8, usize) = match Version::of(quoted) {
            Ok(Version::V4) => match ipv4::Header::parse_quoted(quoted) {
                Ok((header, at)) => (header.source.into(), header.destination.into(), header.protocol, at),
                Err(_) => return,
            },
            Ok(Version::V6) => match ipv6::Header::parse_quoted(quoted) {
                Ok(header) => {
                    (header.source.into(), header.destination.into(), header.next_header, ipv6::HEADER)
                }
                Err(_) => return,
            },
            Err(_) => return,
        };
        let inner = quoted.get(at..).unwrap_or_default();
        match protocol {
            protocol::TCP => self.report_to_connection(now, source, destination, inner, report),
            protocol::UDP => self.report_to_datagrams(now, source, destination, inner, report),
            _ => {}
        }
    }

    fn report_to_connection(
        &mut self,
        now: Instant,
        source: IpAddr,
        destination: IpAddr,
        inner: &[u8],
        report: Report,
    ) {
        let Ok(quoted) = wire_tcp::Quoted::parse(inner) else { return };
        let flow = Flow::of(source, quoted.source, destination, quoted.destination);
        let Some(slot) = self.flows.find(&flow) else { return };
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        match report {
            Report::Unreachable(why) => tcp.connection.handle_unreachable(now, quoted.sequence, why),
            Report::TooBig(mtu) => tcp.connection.handle_too_big(now, quoted.sequence, mtu),
            Report::Soft => {}
        }
        note(tcp, slot, &mut self.ready, &mut self.events);
    }

    /// Connected sockets are told; others have no use for it. [rfc1122 4.1.3.3]
    fn report_to_datagrams(
        &mut self,
        now: Instant,
        source: IpAddr,
        destination: IpAddr,
        inner: &[u8],
        report: Report,
    ) {
        let Ok(header) = udp::Header::parse_quoted(inner) else { return };
        if let Report::TooBig(mtu) = report {
            self.note_path(now, source, destination, &header, mtu);
        }
        let flow = Flow::of(source, header.source, destination, header.destination);
        let Some(slot) = self.peers.find(&flow) else { return };
        let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) else { return };
        let number = match report {
            Report::Unreachable(why) => errno_of(why),
            Report::TooBig(_) => libc::EMSGSIZE,
            Report::Soft => return,
        };
        debug_assert_eq!(
            udp.peer.map(|peer| peer.port()),
            Some(SocketAddr::new(destination, header.destination).port())
        );
        udp.socket.fail(number);
        self.tell_datagrams(slot, Events::ERROR);
    }
}

impl Stack {
    /// The path takes less than the link: further datagrams are cut, if the one that was too big may have been ours.
    /// [rfc8201 4-validate]
    fn note_path(
        &mut self,
        now: Instant,
        source: IpAddr,
        destination: IpAddr,
        header: &udp::Header,
        mtu: u16,
    ) {
        let flow = Flow::of(source, header.source, destination, header.destination);
        let slot = self.peers.find(&flow).or_else(|| self.udp_ports.find(header.source, source, 0));
        let link = self.interface.mtu(destination);
        let headers = udp::HEADER as u16 + if source.is_ipv4() { 20 } else { 40 };
        let length = header.payload_len.saturating_add(headers);
        let paths = &mut self.interface.path_mtus;
        let _ = paths.on_too_big(now, destination, mtu.into(), length, link, || slot.is_some());
        if let Some(slot) = slot
            && let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot)
        {
            udp.target = None;
        }
    }
}

fn errno_of(why: tcp::Unreachable) -> i32 {
    match why {
        tcp::Unreachable::Network => libc::ENETUNREACH,
        tcp::Unreachable::Host | tcp::Unreachable::Prohibited => libc::EHOSTUNREACH,
        tcp::Unreachable::Protocol => libc::ENOPROTOOPT,
        tcp::Unreachable::Port => libc::ECONNREFUSED,
    }
}

/// [rfc1122 4.2.3.9-soft]
fn of_v4(why: icmpv4::Unreachable) -> Report {
    use icmpv4::Unreachable as Why;
    Report::Unreachable(match why {
        Why::NETWORK | Why::NETWORK_UNKNOWN | Why::NETWORK_PROHIBITED | Why::NETWORK_SERVICE => {
            tcp::Unreachable::Network
        }
        Why::PROTOCOL => tcp::Unreachable::Protocol,
        Why::PORT => tcp::Unreachable::Port,
        Why::PROHIBITED | Why::HOST_PROHIBITED => tcp::Unreachable::Prohibited,
        _ => tcp::Unreachable::Host,
    })
}

fn of_v6(why: icmpv6::Unreachable) -> Report {
    use icmpv6::Unreachable as Why;
    Report::Unreachable(match why {
        Why::NO_ROUTE => tcp::Unreachable::Network,
        Why::PORT => tcp::Unreachable::Port,
        Why::PROHIBITED => tcp::Unreachable::Prohibited,
        _ => tcp::Unreachable::Host,
    })
}
