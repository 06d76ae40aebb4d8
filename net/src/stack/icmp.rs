//! ICMP of both versions: echoes, errors about what we got, and to whom messages go that have come.

use super::Stack;
use super::counters::Counter;
use super::emit::Envelope;
use super::receive::Packet;
use crate::device::Medium;
use crate::ip::icmp::{Answer, Answers, Complaint, report_v4, report_v6};
use crate::wire::ip::{TrafficClass, protocol};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
            icmpv4::Message::EchoRequest(_) => self.answer_echo(now, &packet, &bytes),
            icmpv4::Message::Redirect { gateway, .. } => {
                self.take_redirect(now, &packet, gateway, &bytes[at..])
            }
            _ if message.is_error() => self.take_report(now, report_v4(&message, &bytes[at..])),
            _ => {}
        }
    }

    /// There is a better first hop for the packet that is quoted. [rfc1122 3.2.2.2]
    fn take_redirect(&mut self, now: Instant, packet: &Packet, gateway: Ipv4Addr, quoted: &[u8]) {
        let (IpAddr::V4(sender), Ok((header, _))) = (packet.source, ipv4::Header::parse_quoted(quoted))
        else {
            return;
        };
        if self.interface.addresses.is_local(header.source.into()) {
            self.interface.redirect_v4(now, sender, gateway, header.destination);
            self.settle_automatic();
        }
    }

    #[cold]
    pub(super) fn take_icmpv6(&mut self, now: Instant, header: &ipv6::Header, alert: bool, packet: Packet) {
        let bytes: Vec<u8> = packet.pieces(0).flatten().copied().collect();
        let pseudo_header = icmpv6::pseudo_header(header.source, header.destination, bytes.len());
        let Ok((message, at)) = icmpv6::Message::parse(&bytes, pseudo_header) else {
            return self.interface.counters.count(Counter::MalformedIcmp);
        };
        if let icmpv6::Message::Other { kind, .. } = message {
            use icmpv6::kind::*;
            match kind {
                ROUTER_SOLICITATION..=REDIRECT if self.is_echoed(&packet) => return,
                ROUTER_SOLICITATION..=REDIRECT => return self.take_ndp(now, header, &bytes),
                MULTICAST_LISTENER_QUERY..=MULTICAST_LISTENER_DONE | MULTICAST_LISTENER_REPORT_V2 => {
                    return self.take_mld(now, header, alert, &bytes);
                }
                _ => {}
            }
        }
        let to_group = self.interface.is_member(header.destination);
        if !to_group && !self.is_for_us(&packet) {
            return;
        }
        match message {
            icmpv6::Message::EchoRequest(_) => self.answer_echo(now, &packet, &bytes),
            _ if message.is_error() && !to_group => self.take_report(now, report_v6(&message, &bytes[at..])),
            _ => {}
        }
    }

    /// Whether a link has given back what we have sent: our own question is nobody's claim. [rfc4862 5.4.3-loopback]
    fn is_echoed(&self, packet: &Packet) -> bool {
        match self.interface.capabilities.medium {
            Medium::Ethernet(own) => packet.header > 0 && packet.frame.head.get(6..12) == Some(&own.0[..]),
            Medium::Ip => false,
        }
    }

    /// [rfc1122 3.2.2.6] [rfc4443 4.2] [rfc4443 4.2-reply]
    fn answer_echo(&mut self, now: Instant, packet: &Packet, message: &[u8]) {
        let Ok(message) = Buffer::copy_from_slice(message) else {
            return self.interface.counters.count(Counter::NoMemory);
        };
        let class = TrafficClass { dscp: packet.class.dscp, ..TrafficClass::default() };
        let own = self.own(now, packet.source);
        let to_all = packet.to_all || self.interface.addresses.is_broadcast(packet.destination);
        let answer = self.limited(|answers| match (packet.source, packet.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                answers.echo_v4(now, source, destination, &message, to_all)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                answers.echo_v6(now, source, destination, &message, own?)
            }
            _ => None,
        });
        if let Some(answer) = answer {
            self.interface.counters.count(Counter::EchoAnswered);
            self.send_answer(now, answer, class);
        }
    }

    /// Something is wrong with a packet: its source is told, unless one of the many reasons not to stands against it.
    /// [rfc1122 3.2.2] [rfc1122 3.2.2.1] [rfc4443 2.4-e3]
    #[cold]
    pub(super) fn complain(&mut self, now: Instant, packet: &Packet, complaint: Complaint) {
        let destination = packet.destination;
        let to_many = destination.is_multicast() || self.interface.addresses.is_broadcast(destination);
        let concerns = to_many || self.interface.addresses.is_local(destination);
        if !concerns || !self.interface.may_be_source(packet.source) {
            return;
        }
        let bytes = &packet.frame.head[packet.header..packet.payload.end.min(packet.frame.head.len())];
        let own = self.own(now, packet.source);
        let answer = self.limited(|answers| match packet.source {
            IpAddr::V4(_) => answers.error_v4(now, bytes, complaint, packet.to_all, to_many),
            IpAddr::V6(_) => answers.error_v6(now, bytes, complaint, packet.to_all, own?),
        });
        if let Some(answer) = answer {
            self.send_answer(now, answer, TrafficClass::default());
        }
    }

    /// From which of our addresses of IPv6 somebody is answered who has asked a group.
    fn own(&self, now: Instant, to: IpAddr) -> Option<Ipv6Addr> {
        match self.interface.addresses.select_source(now, to) {
            Some(IpAddr::V6(own)) => Some(own),
            _ => None,
        }
    }

    /// An answer, if there is one; counts it if only a limit forbids it.
    fn limited(&mut self, answer: impl FnOnce(&mut Answers) -> Option<Answer>) -> Option<Answer> {
        let before = self.answers.suppressed();
        let answer = answer(&mut self.answers);
        self.interface.counters.add(Counter::IcmpLimited, self.answers.suppressed() - before);
        answer
    }

    fn send_answer(&mut self, now: Instant, answer: Answer, class: TrafficClass) {
        let Answer { source, destination, head, rest } = answer;
        let Some(source) = source.or_else(|| self.interface.addresses.select_source(now, destination)) else {
            return;
        };
        let protocol = if source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
        let envelope = Envelope { class, ..Envelope::new(source, destination, protocol) };
        let length = head.len() + rest.len();
        let mtu = self.interface.path_mtu(now, destination);
        if envelope.header_len() + length > usize::from(mtu) {
            let whole: Sga = [head.freeze(), rest].into_iter().collect();
            self.interface.send_pieces(now, &envelope, whole, mtu);
            return;
        }
        self.interface.send_packet(now, &envelope, length, |bytes, _| {
            let (first, last) = bytes.split_at_mut(head.len());
            first.copy_from_slice(&head);
            last.copy_from_slice(&rest);
        });
    }
}
