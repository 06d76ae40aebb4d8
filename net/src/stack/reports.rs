//! Errors about what we have sent, as others report them or as the link shows: to whom they matter.

use super::Stack;
use super::counters::Counter;
use super::interface::Held;
use super::segments::note;
use super::socket::Socket;
use crate::ip::icmp::{Quoted, Report, What, report_v4, report_v6};
use crate::table::Flow;
use crate::tcp::{self, Events};
use crate::wire::ip::{Version, protocol};
use crate::wire::tcp::SequenceNumber;
use crate::wire::{icmpv4, icmpv6};
use demikernel_runtime::time::Instant;

impl Stack {
    /// Packets whose next hop does not answer: it is as if a router had said so. [rfc4861 7.2.2-unreachable]
    pub(super) fn tell_unreachable(&mut self, now: Instant) {
        let link = self.interface.link_header();
        while let Some(Held { frame }) = self.interface.unreachable.pop_front() {
            self.interface.counters.count(Counter::NeighborUnknown);
            let quote = frame.head.get(link..).unwrap_or_default();
            let report = if let Ok(Version::V4) = Version::of(quote) {
                let why = icmpv4::Unreachable::HOST;
                report_v4(&icmpv4::Message::DestinationUnreachable(why), quote)
            } else {
                let why = icmpv6::Unreachable::ADDRESS;
                report_v6(&icmpv6::Message::DestinationUnreachable(why), quote)
            };
            if let Some(report) = report {
                self.deliver_report(now, &report);
            }
        }
    }

    /// What ICMP reports. One that quotes too little of a packet says nothing.
    pub(super) fn take_report(&mut self, now: Instant, report: Option<Report>) {
        self.interface.counters.count(Counter::IcmpErrors);
        if let Some(report) = report {
            self.deliver_report(now, &report);
        }
    }

    /// [rfc1122 3.2.2.1-demultiplex]
    fn deliver_report(&mut self, now: Instant, report: &Report) {
        match report.quoted.protocol {
            protocol::TCP => self.report_to_connection(now, report),
            protocol::UDP => self.report_to_datagrams(now, report),
            _ => {}
        }
    }

    /// [rfc1122 4.2.3.9]
    fn report_to_connection(&mut self, now: Instant, report: &Report) {
        let quoted = &report.quoted;
        let Some(slot) = self.connection_of(&flow_of(quoted)) else { return };
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        let sequence = SequenceNumber::new(quoted.sequence());
        match report.what {
            What::Failed { errno, .. } => {
                tcp.connection.handle_unreachable(now, sequence, unreachable_of(errno));
            }
            What::TooBig { mtu } => {
                let mtu = mtu.min(u32::from(u16::MAX)) as u16;
                let believed = tcp.connection.is_in_flight(sequence);
                tcp.connection.handle_too_big(now, sequence, mtu);
                self.note_path(now, quoted, mtu, believed);
            }
        }
        if let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) {
            note(tcp, slot, &mut self.ready, &mut self.events);
        }
    }

    /// Connected sockets are told; others have no use for it. [rfc1122 4.1.3.3]
    fn report_to_datagrams(&mut self, now: Instant, report: &Report) {
        let quoted = &report.quoted;
        let connected = self.datagrams_of(&flow_of(quoted));
        if let What::TooBig { mtu } = report.what {
            let slot = connected.or_else(|| self.udp_ports.find(quoted.ports().0, quoted.source, 0));
            self.note_path(now, quoted, mtu.min(u32::from(u16::MAX)) as u16, slot.is_some());
            if let Some(Socket::Udp(udp)) = slot.and_then(|slot| self.sockets.get_mut(slot)) {
                udp.target = None;
            }
        }
        let Some(slot) = connected else { return };
        let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) else { return };
        udp.socket.fail(match report.what {
            What::Failed { errno, .. } => errno,
            What::TooBig { .. } => libc::EMSGSIZE,
        });
        self.tell_datagrams(slot, Events::ERROR);
    }

    /// The path takes less than the link: further datagrams are cut, and further connections begin with less, if the
    /// packet that was too big may have been ours. [rfc8201 4-validate]
    fn note_path(&mut self, now: Instant, quoted: &Quoted, mtu: u16, believed: bool) {
        let (destination, length) = (quoted.destination, quoted.length);
        let link = self.interface.mtu(destination);
        let paths = &mut self.interface.path_mtus;
        let _ = paths.on_too_big(now, destination, mtu.into(), length, link, || believed);
    }
}

fn flow_of(quoted: &Quoted) -> Flow {
    let (local, remote) = quoted.ports();
    Flow::of(quoted.source, local, quoted.destination, remote)
}

/// What it means to a connection.
fn unreachable_of(errno: i32) -> tcp::Unreachable {
    match errno {
        libc::ENETUNREACH => tcp::Unreachable::Network,
        libc::ENOPROTOOPT => tcp::Unreachable::Protocol,
        libc::ECONNREFUSED => tcp::Unreachable::Port,
        libc::EACCES => tcp::Unreachable::Prohibited,
        _ => tcp::Unreachable::Host,
    }
}
