//! Reports of groups to the routers and switches of an Ethernet: IGMP and MLD.

use super::super::counters::Counter;
use super::super::interface::{Interface, Path};
use super::super::receive::Packet;
use super::super::{Stack, errno};
use crate::device::Frame;
use crate::ip::multicast::{CannotJoin, Outgoing, Query};
use crate::wire::ip::{TrafficClass, protocol};
use crate::wire::ipv6::{HOP_BY_HOP_ROUTER_ALERT, next_header};
use crate::wire::{igmp, ipv4, ipv6, mld};
use demikernel_runtime::buffer::BufferMut;
use demikernel_runtime::time::Instant;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of reports: network control, as Linux's. (RFC 4594 section 3.1)
const CLASS: u8 = 0xc0;

impl Interface {
    /// A socket joins; the first of a group is told to the routers. Without an Ethernet there is nobody to be told.
    pub(in crate::stack) fn join(&mut self, now: Instant, group: IpAddr) -> io::Result<()> {
        if !self.is_ethernet() {
            return Ok(());
        }
        let joined = match group {
            IpAddr::V4(group) => self.automatic.groups_v4.join(now, group),
            IpAddr::V6(group) => self.automatic.groups_v6.join(now, group),
        };
        joined.map_err(|CannotJoin| errno(libc::ENOBUFS))
    }

    /// A socket leaves.
    pub(in crate::stack) fn leave(&mut self, now: Instant, group: IpAddr) {
        if self.is_ethernet() {
            match group {
                IpAddr::V4(group) => self.automatic.groups_v4.leave(now, group),
                IpAddr::V6(group) => self.automatic.groups_v6.leave(now, group),
            };
        }
    }

    /// Whether what goes to a group of IPv6 is for us, too.
    pub(in crate::stack) fn is_member(&self, group: Ipv6Addr) -> bool {
        group.is_multicast() && self.automatic.groups_v6.contains(group)
    }

    pub(super) fn run_groups(&mut self, now: Instant) {
        loop {
            let random = self.automatic.random();
            let Some(report) = self.automatic.groups_v4.poll(now, random) else { break };
            self.report_v4(now, &report);
        }
        loop {
            let random = self.automatic.random();
            let Some(report) = self.automatic.groups_v6.poll(now, random) else { break };
            self.report_v6(now, &report);
        }
    }

    /// [rfc3376 4-ttl]
    fn report_v4(&mut self, now: Instant, report: &Outgoing<Ipv4Addr>) {
        let (destination, message) = report.to_igmp();
        // Who has no address yet reports from none. (RFC 3376 section 4.2.13)
        let source = match self.addresses.select_source(now, destination.into()) {
            Some(IpAddr::V4(source)) => source,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let header = ipv4::Header {
            source,
            destination,
            protocol: protocol::IGMP,
            time_to_live: 1,
            traffic_class: TrafficClass::from_bits(CLASS),
            identification: self.next_identification(),
            payload_len: message.len() as u16,
            router_alert: true,
            ..ipv4::Header::default()
        };
        let length = header.header_len();
        self.send_report(now, destination.into(), length, &message, |bytes| header.emit(bytes));
    }

    /// [rfc3810 5.2.13] [rfc3810 5.2.14]
    fn report_v6(&mut self, now: Instant, report: &Outgoing<Ipv6Addr>) {
        let link_local = self.addresses.iter().find_map(|address| match address.address {
            IpAddr::V6(ip) if address.unique && ip.is_unicast_link_local() => Some(ip),
            _ => None,
        });
        let source = link_local.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let (destination, message) = report.to_mld(source);
        let header = ipv6::Header {
            source,
            destination,
            next_header: next_header::HOP_BY_HOP,
            hop_limit: mld::HOP_LIMIT,
            payload_len: (HOP_BY_HOP_ROUTER_ALERT.len() + message.len()) as u16,
            ..ipv6::Header::default()
        };
        let length = ipv6::HEADER + HOP_BY_HOP_ROUTER_ALERT.len();
        self.send_report(now, destination.into(), length, &message, |bytes| {
            header.emit(bytes);
            bytes[ipv6::HEADER..].copy_from_slice(&HOP_BY_HOP_ROUTER_ALERT);
        });
    }

    /// A packet with headers that routers look into.
    fn send_report(
        &mut self,
        now: Instant,
        destination: IpAddr,
        headers: usize,
        message: &[u8],
        emit: impl FnOnce(&mut [u8]),
    ) {
        let link = self.link_header();
        let Ok(mut head) = BufferMut::with_capacity(link + headers + message.len()) else {
            return self.counters.count(Counter::NoMemory);
        };
        head.resize(link + headers, 0);
        emit(&mut head[link..]);
        head.extend_from_slice(message);
        self.dispatch(now, destination, Frame::new(head.freeze()), &mut { Path::UNKNOWN });
    }
}

impl Stack {
    /// A message of IGMP: a query is answered, another's report may be enough.
    #[cold]
    pub(in crate::stack) fn take_igmp(&mut self, now: Instant, packet: &Packet) {
        let bytes: Vec<u8> = packet.pieces(0).flatten().copied().collect();
        let Ok(message) = igmp::Message::parse(&bytes) else {
            return self.interface.counters.count(Counter::MalformedIgmp);
        };
        let random = self.interface.automatic.random();
        let groups = &mut self.interface.automatic.groups_v4;
        match (Query::from_igmp(&message), message) {
            (Some(query), _) => groups.on_query(now, &query, random),
            (_, igmp::Message::ReportV1 { group } | igmp::Message::ReportV2 { group }) => {
                groups.on_report(now, group);
            }
            _ => return,
        }
        self.settle_automatic();
    }

    /// A message of MLD whose checksum is right.
    #[cold]
    pub(in crate::stack) fn take_mld(
        &mut self,
        now: Instant,
        header: &ipv6::Header,
        alert: bool,
        bytes: &[u8],
    ) {
        let Ok(message) = mld::Message::parse(header, alert, bytes) else {
            return self.interface.counters.count(Counter::MalformedIcmp);
        };
        let random = self.interface.automatic.random();
        let groups = &mut self.interface.automatic.groups_v6;
        match (Query::from_mld(&message), message) {
            (Some(query), _) => groups.on_query(now, &query, random),
            (_, mld::Message::ReportV1 { group }) => groups.on_report(now, group),
            _ => return,
        }
        self.settle_automatic();
    }
}
