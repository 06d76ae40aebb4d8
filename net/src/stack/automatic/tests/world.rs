//! The link: what the stack sends is written down in words, and answered by whoever is there.

use crate::device::{Capabilities, Frame, MacAddress, Medium};
use crate::stack::{SocketId, Stack, StackConfig};
use crate::wire::dhcp::{self, Kind, option};
use crate::wire::ethernet::{self, ether_type};
use crate::wire::ip::protocol;
use crate::wire::ipv6::Chain;
use crate::wire::ndp::{Message, NeighborAdvertisement, RouterAdvertisement, solicited_node};
use crate::wire::{arp, checksum::Sum, icmpv6, igmp, ipv4, ipv6, mld, tcp, udp};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::{Duration, Instant};
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub(super) const ROUTER: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xfe]);
pub(super) const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(super) const START: Instant = Instant::from_nanos(1_000_000_000);

/// Who has which address on the link.
pub(super) type Hosts = Vec<(IpAddr, MacAddress)>;

pub(super) struct World {
    pub(super) stack: Stack,
    pub(super) now: Instant,
    /// What was sent, in words, and when, in milliseconds.
    pub(super) said: Vec<(u64, String)>,
    /// Other hosts, which answer to ARP and NDP.
    pub(super) hosts: Hosts,
    /// Whether a DHCP server at 192.0.2.1 answers, with this address, for so many seconds.
    pub(super) lease: Option<(Ipv4Addr, u32)>,
    /// What a router at fe80::fe says when it is asked.
    pub(super) router: Option<RouterAdvertisement>,
    /// Frames as they were sent.
    pub(super) frames: Vec<Vec<u8>>,
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub(super) fn config() -> StackConfig {
    StackConfig::new(Capabilities::new(Medium::Ethernet(OWN), 1500), [7; 32])
}

impl World {
    pub(super) fn new(config: StackConfig) -> World {
        let hosts = vec![(ip("192.0.2.1"), ROUTER), (ip("fe80::fe"), ROUTER)];
        World {
            stack: Stack::new(START, config),
            now: START,
            said: Vec::new(),
            hosts,
            lease: None,
            router: None,
            frames: Vec::new(),
        }
    }

    /// Lets time pass; what was said since the last time, in words.
    pub(super) fn after(&mut self, time: Duration) -> Vec<String> {
        let (end, from) = (self.now + time, self.said.len());
        loop {
            self.stack.handle_deadlines(self.now);
            self.exchange();
            match self.stack.next_deadline().filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        self.now = end;
        self.said[from..].iter().map(|(_, words)| words.clone()).collect()
    }

    pub(super) fn seconds(&mut self, seconds: u64) -> Vec<String> {
        self.after(Duration::from_secs(seconds))
    }

    /// Until nobody has anything to say.
    fn exchange(&mut self) {
        let mut burst = Vec::new();
        while self.stack.transmit(self.now, &mut burst) > 0 {
            for frame in std::mem::take(&mut burst) {
                let mut bytes = Vec::new();
                frame.copy_to(&mut bytes);
                let milliseconds = self.now.duration_since(START).as_millis() as u64;
                self.said.push((milliseconds, describe(&bytes)));
                for answer in self.answers(&bytes) {
                    self.hear(answer);
                }
                self.frames.push(bytes);
            }
        }
    }

    /// A frame comes to the stack.
    pub(super) fn hear(&mut self, frame: Vec<u8>) {
        self.stack.receive(self.now, &mut vec![Frame::new(Buffer::from(frame))]);
    }

    fn answers(&self, frame: &[u8]) -> Vec<Vec<u8>> {
        let (header, at) = ethernet::Header::parse(frame).unwrap();
        match header.ether_type {
            ether_type::ARP => self.answer_arp(&arp::Packet::parse(&frame[at..]).unwrap()),
            ether_type::IPV4 => self.answer_dhcp(&frame[at..]),
            _ => self.answer_ndp(&frame[at..]),
        }
    }

    fn answer_arp(&self, packet: &arp::Packet) -> Vec<Vec<u8>> {
        let owner = self.hosts.iter().find(|(ip, _)| *ip == packet.target_protocol);
        let is_question = packet.operation == arp::Operation::Request;
        owner
            .filter(|_| is_question)
            .map(|(_, hardware)| arp_frame(&packet.reply(*hardware)))
            .into_iter()
            .collect()
    }

    fn answer_dhcp(&self, packet: &[u8]) -> Vec<Vec<u8>> {
        let (header, payload) = ipv4::Header::parse(packet).unwrap();
        let Some((address, seconds)) = self.lease.filter(|_| header.protocol == protocol::UDP) else {
            return Vec::new();
        };
        let Ok((question, options)) = dhcp::Header::parse(&packet[payload][udp::HEADER..]) else {
            return Vec::new();
        };
        let kind = match options.kind() {
            Some(Kind::Discover) => Kind::Offer,
            Some(Kind::Request) => Kind::Ack,
            _ => return Vec::new(),
        };
        let seconds = seconds.to_be_bytes();
        let answer = dhcp::Header { is_reply: true, yours: address, ..question }.emit(&[
            (option::MESSAGE_TYPE, &[kind as u8]),
            (option::SERVER_IDENTIFIER, &[192, 0, 2, 1]),
            (option::LEASE_TIME, &seconds),
            (option::SUBNET_MASK, &[255, 255, 255, 0]),
            (option::ROUTER, &[192, 0, 2, 1]),
            (option::DOMAIN_NAME_SERVER, &[9, 9, 9, 9]),
            (option::INTERFACE_MTU, &[5, 0x14]),
        ]);
        // As some servers do, to the address that is only about to be had.
        vec![udp_frame([192, 0, 2, 1].into(), address, 67, 68, &answer)]
    }

    fn answer_ndp(&self, packet: &[u8]) -> Vec<Vec<u8>> {
        let (header, payload) = ipv6::Header::parse(packet).unwrap();
        if header.next_header != protocol::ICMPV6 {
            return Vec::new();
        }
        match Message::parse(&header, &packet[payload]) {
            Ok(Message::NeighborSolicitation { target, .. }) => {
                let owner = self.hosts.iter().find(|(ip, _)| *ip == target);
                let probe = header.source.is_unspecified();
                let to = if probe { ALL_NODES } else { header.source };
                let answer = |hardware| {
                    Message::NeighborAdvertisement(NeighborAdvertisement {
                        target,
                        router: hardware == ROUTER,
                        solicited: !probe,
                        replaces: true,
                        target_link_layer: Some(hardware),
                    })
                };
                owner
                    .map(|(_, hardware)| ndp_frame(*hardware, target, to, &answer(*hardware)))
                    .into_iter()
                    .collect()
            }
            Ok(Message::RouterSolicitation { .. }) => {
                let router = self.router.map(Message::RouterAdvertisement);
                router
                    .map(|message| ndp_frame(ROUTER, v6("fe80::fe"), ALL_NODES, &message))
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn socket(&mut self, domain: Domain, kind: SocketKind) -> SocketId {
        self.stack.socket(domain, kind).unwrap()
    }

    /// The number of the error that sending a datagram gives; 0 if it was sent.
    pub(super) fn send(&mut self, socket: SocketId, to: &str) -> i32 {
        let to: SocketAddr = to.parse().unwrap();
        let data = Sga::from(Buffer::from_static(b"hello"));
        let result = self.stack.send_to(self.now, socket, &data, Some(to));
        result.err().map_or(0, |error| error.raw_os_error().unwrap())
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        let usable = self.stack.addresses().iter().filter(|address| address.unique);
        usable.map(|address| format!("{}/{}", address.address, address.prefix_length)).collect()
    }
}

pub(super) fn frame(from: MacAddress, to: MacAddress, ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ethernet::MINIMUM_HEADER];
    ethernet::Header { destination: to, source: from, vlan: None, ether_type }.emit(&mut bytes);
    bytes.extend_from_slice(packet);
    bytes
}

pub(super) fn arp_frame(packet: &arp::Packet) -> Vec<u8> {
    let mut bytes = vec![0; arp::PACKET];
    packet.emit(&mut bytes);
    frame(packet.sender_hardware, MacAddress::BROADCAST, ether_type::ARP, &bytes)
}

/// A claim of an address.
pub(super) fn claim(address: &str) -> Vec<u8> {
    let IpAddr::V4(address) = ip(address) else { panic!("of IPv4") };
    arp_frame(&crate::ip::conflict::announcement(OTHER, address))
}

pub(super) fn ipv4_packet(header: ipv4::Header, payload: &[u8]) -> Vec<u8> {
    let header = ipv4::Header { payload_len: payload.len() as u16, time_to_live: 64, ..header };
    let mut bytes = vec![0; header.header_len()];
    header.emit(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn udp_frame(source: Ipv4Addr, destination: Ipv4Addr, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; udp::HEADER];
    let header = udp::Header { source: from, destination: to, payload_len: payload.len() as u16 };
    let sum = header.emit(&mut datagram).then(Sum::of(payload));
    datagram.extend_from_slice(payload);
    let pseudo_header = Sum::pseudo_header_v4(source, destination, protocol::UDP, datagram.len() as u16);
    udp::set_checksum(&mut datagram, pseudo_header.then(sum).checksum());
    let header = ipv4::Header { source, destination, protocol: protocol::UDP, ..ipv4::Header::default() };
    frame(ROUTER, OWN, ether_type::IPV4, &ipv4_packet(header, &datagram))
}

pub(super) fn ndp_frame(from: MacAddress, source: Ipv6Addr, to: Ipv6Addr, message: &Message) -> Vec<u8> {
    let mut bytes = vec![0; message.len()];
    message.emit(&mut bytes, icmpv6::pseudo_header(source, to, message.len()));
    let header = ipv6::Header { next_header: protocol::ICMPV6, hop_limit: 255, ..ipv6::Header::default() };
    ipv6_frame(from, ipv6::Header { source, destination: to, ..header }, &bytes)
}

pub(super) fn ipv6_frame(from: MacAddress, header: ipv6::Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ipv6::HEADER];
    ipv6::Header { payload_len: payload.len() as u16, ..header }.emit(&mut bytes);
    bytes.extend_from_slice(payload);
    let to = header.destination;
    let destination = if to.is_multicast() { MacAddress::of_group_v6(to) } else { OWN };
    frame(from, destination, ether_type::IPV6, &bytes)
}

/// A frame in words: protocol, what it says, to whom.
fn describe(frame: &[u8]) -> String {
    let (header, at) = ethernet::Header::parse(frame).unwrap();
    let packet = &frame[at..];
    match header.ether_type {
        ether_type::ARP => describe_arp(&arp::Packet::parse(packet).unwrap(), header.destination),
        ether_type::IPV4 => describe_v4(packet),
        _ => describe_v6(packet),
    }
}

fn describe_arp(packet: &arp::Packet, to: MacAddress) -> String {
    let target = packet.target_protocol;
    match (packet.operation, packet.sender_protocol) {
        (arp::Operation::Request, sender) if sender.is_unspecified() => format!("arp probe {target}"),
        (arp::Operation::Request, sender) if sender == target => format!("arp announce {target}"),
        (arp::Operation::Request, _) if to != MacAddress::BROADCAST => format!("arp ask {target} itself"),
        (arp::Operation::Request, _) => format!("arp ask {target}"),
        _ => format!("arp answer {}", packet.sender_protocol),
    }
}

fn describe_v4(packet: &[u8]) -> String {
    let (header, payload) = ipv4::Header::parse(packet).unwrap();
    let (source, destination, payload) = (header.source, header.destination, &packet[payload]);
    if header.is_fragment() {
        let (offset, more, length) = (header.fragment_offset, header.more_fragments, payload.len());
        return format!("fragment {offset} more {more} of {length}");
    }
    match header.protocol {
        protocol::ICMP => {
            let (kind, code) = (payload[0], payload[1]);
            format!("icmp {kind} {code} from {source} to {destination}")
        }
        protocol::IGMP => {
            assert!((header.time_to_live, header.router_alert) == (1, true), "[rfc3376 4-ttl]");
            format!("igmp {} to {destination}", describe_igmp(&igmp::Message::parse(payload).unwrap()))
        }
        protocol::UDP => match dhcp::Header::parse(&payload[udp::HEADER..]) {
            Ok((_, options)) => format!("dhcp {:?} {source} to {destination}", options.kind().unwrap()),
            Err(_) => format!("udp {source} to {destination}"),
        },
        protocol::TCP => describe_tcp(source.into(), destination.into(), payload, header.time_to_live),
        _ => format!("{} {source} to {destination}", header.protocol),
    }
}

fn describe_tcp(source: IpAddr, destination: IpAddr, payload: &[u8], hops: u8) -> String {
    let (segment, header) = tcp::Segment::parse(payload).unwrap();
    let (length, flags) = (payload.len() - header, segment.flags.bits());
    format!("tcp {source} to {destination} flags {flags:#x} length {length} hops {hops}")
}

fn describe_igmp(message: &igmp::Message<'_>) -> String {
    match message {
        igmp::Message::ReportV3(records) => records
            .iter()
            .map(|record| format!("{:?} {}", record.kind, record.group))
            .collect::<Vec<_>>()
            .join(", "),
        other => format!("{other:?}"),
    }
}

fn describe_v6(packet: &[u8]) -> String {
    let (header, payload) = ipv6::Header::parse(packet).unwrap();
    let chain = Chain::walk(&header, packet).unwrap();
    let (source, destination) = (header.source, header.destination);
    let bytes = &packet[chain.payload..payload.end];
    if chain.protocol == protocol::TCP {
        return describe_tcp(source.into(), destination.into(), bytes, header.hop_limit);
    }
    if chain.protocol == protocol::UDP {
        return format!("udp {source} to {destination}");
    }
    match mld::Message::parse(&header, chain.router_alert, bytes) {
        Ok(mld::Message::ReportV2(records)) => {
            let records = records.iter().map(|record| format!("{:?} {}", record.kind, record.group));
            return format!("mld {} from {}", records.collect::<Vec<_>>().join(", "), kind_of(source));
        }
        Ok(other) => return format!("mld {other:?}"),
        Err(_) => {}
    }
    let Ok(message) = Message::parse(&header, bytes) else {
        return format!("icmpv6 {} {} from {source} to {destination}", bytes[0], bytes[1]);
    };
    match message {
        Message::RouterSolicitation { source_link_layer } => {
            format!(
                "ndp ask routers from {} {}",
                kind_of(source),
                if source_link_layer.is_some() { "me" } else { "" }
            )
        }
        Message::NeighborSolicitation { target, source_link_layer } if source.is_unspecified() => {
            assert_eq!((destination, source_link_layer), (solicited_node(target), None));
            format!("ndp probe {target}")
        }
        Message::NeighborSolicitation { target, .. } => format!("ndp ask {target}"),
        Message::NeighborAdvertisement(it) => format!("ndp answer {} replaces {}", it.target, it.replaces),
        other => format!("{other:?}"),
    }
}

fn kind_of(source: Ipv6Addr) -> &'static str {
    match source {
        source if source.is_unspecified() => "nobody",
        source if source.is_unicast_link_local() => "link",
        _ => "elsewhere",
    }
}
