//! Whom a frame is for, as far as cores are concerned.
//!
//! Nothing is verified but that it can be read; what is wrong with a frame is found by the core that gets it.

use super::registry::Protocol;
use crate::ip::dhcp::{CLIENT_PORT, SERVER_PORT};
use crate::wire::ethernet::{self, ether_type};
use crate::wire::ip::{Version, protocol};
use crate::wire::ipv6::{Chain, next_header};
use crate::wire::{icmpv6, ipv4, ipv6};
use std::net::IpAddr;

/// Of ICMP, messages about a packet of ours.
const ERRORS_V4: [u8; 5] = [3, 4, 5, 11, 12];
const ECHO_REQUEST_V4: u8 = 8;

/// Bytes in front of what an ICMP error quotes, of both versions.
const BEFORE_QUOTE: usize = 8;

/// Whom a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Course {
    /// For the core of a flow.
    Flow(Ends),
    /// A fragment: all of them go to one core.
    Hosts(IpAddr, IpAddr),
    /// Each core is to know it.
    All,
    /// For the first core.
    First,
    /// Whoever gets it can answer.
    Any,
}

/// The ends of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends {
    pub(super) protocol: Protocol,
    pub(super) local: IpAddr,
    pub(super) local_port: u16,
    pub(super) remote: IpAddr,
    pub(super) remote_port: u16,
}

impl Course {
    /// That of a frame.
    #[inline]
    pub(super) fn of_frame(bytes: &[u8], is_ethernet: bool) -> Course {
        if !is_ethernet {
            return Course::of_packet(bytes, false);
        }
        let Ok((header, at)) = ethernet::Header::parse(bytes) else { return Course::Any };
        match header.ether_type {
            ether_type::IPV4 | ether_type::IPV6 => {
                Course::of_packet(&bytes[at..], header.destination.is_multicast())
            }
            ether_type::ARP => Course::All,
            _ => Course::Any,
        }
    }

    /// That of an IP packet.
    #[inline]
    pub(super) fn of_packet(packet: &[u8], to_many: bool) -> Course {
        match Version::of(packet) {
            Ok(Version::V4) => of_v4(packet, to_many),
            Ok(Version::V6) => of_v6(packet, to_many),
            Err(_) => Course::Any,
        }
    }
}

#[inline]
fn of_v4(packet: &[u8], to_many: bool) -> Course {
    let Ok((header, start)) = ipv4::Header::parse_quoted(packet) else { return Course::Any };
    let (source, destination) = (header.source.into(), header.destination.into());
    let Some(payload) = packet.get(start..) else { return Course::Any };
    match header.protocol {
        _ if header.is_fragment() => Course::Hosts(source, destination),
        protocol::TCP | protocol::UDP => of_ports(header.protocol, source, destination, payload, to_many),
        protocol::ICMP => match payload.first() {
            Some(&ECHO_REQUEST_V4) if to_many => Course::First,
            Some(kind) if ERRORS_V4.contains(kind) => of_quote(payload),
            _ => Course::Any,
        },
        _ if to_many => Course::All,
        _ => Course::Any,
    }
}

#[inline]
fn of_v6(packet: &[u8], to_many: bool) -> Course {
    let Ok(header) = ipv6::Header::parse_quoted(packet) else { return Course::Any };
    let (source, destination) = (header.source.into(), header.destination.into());
    match header.next_header {
        protocol::TCP | protocol::UDP => {
            of_ports(header.next_header, source, destination, &packet[ipv6::HEADER..], to_many)
        }
        _ => of_chain(packet, &header, to_many),
    }
}

/// With extension headers, or ICMP.
#[cold]
fn of_chain(packet: &[u8], header: &ipv6::Header, to_many: bool) -> Course {
    use icmpv6::kind::*;
    let (source, destination) = (header.source.into(), header.destination.into());
    let end = packet.len().min(ipv6::HEADER + usize::from(header.payload_len));
    let Ok(chain) = Chain::walk(header, &packet[..end]) else { return Course::Any };
    let Some(payload) = packet.get(chain.payload..end) else { return Course::Any };
    match (chain.protocol, payload.first().copied()) {
        _ if chain.fragment.is_some() => Course::Hosts(source, destination),
        (protocol::TCP | protocol::UDP, _) => of_ports(chain.protocol, source, destination, payload, to_many),
        (protocol::ICMPV6, Some(ROUTER_SOLICITATION..=REDIRECT)) => Course::All,
        (protocol::ICMPV6, Some(DESTINATION_UNREACHABLE..=PARAMETER_PROBLEM)) => of_quote(payload),
        (protocol::ICMPV6, Some(ECHO_REQUEST)) if to_many => Course::First,
        (next_header::NONE, _) => Course::Any,
        _ if to_many => Course::All,
        _ => Course::Any,
    }
}

#[inline]
fn of_ports(kind: u8, source: IpAddr, destination: IpAddr, payload: &[u8], to_many: bool) -> Course {
    let Some([s0, s1, d0, d1]) = payload.first_chunk() else { return Course::Any };
    let (from, to) = (u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1]));
    let protocol = if kind == protocol::TCP { Protocol::Tcp } else { Protocol::Udp };
    if protocol == Protocol::Udp && (from, to) == (SERVER_PORT, CLIENT_PORT) && source.is_ipv4() {
        return Course::First;
    }
    if to_many || destination.is_multicast() {
        return Course::All;
    }
    Course::Flow(Ends { protocol, local: destination, local_port: to, remote: source, remote_port: from })
}

/// The core that has sent what an ICMP error is about. That was on its way out, so its source is our end.
#[cold]
fn of_quote(message: &[u8]) -> Course {
    let Some(quote) = message.get(BEFORE_QUOTE..) else { return Course::Any };
    match Course::of_packet_without_errors(quote) {
        Course::Flow(Ends { protocol, local, local_port, remote, remote_port }) => {
            let (local, remote) = (remote, local);
            let (local_port, remote_port) = (remote_port, local_port);
            Course::Flow(Ends { protocol, local, local_port, remote, remote_port })
        }
        _ => Course::Any,
    }
}

impl Course {
    /// Of what is quoted: an error about an error is nobody's, and recursion has an end.
    fn of_packet_without_errors(packet: &[u8]) -> Course {
        let kind = match Version::of(packet) {
            Ok(Version::V4) => packet.get(9),
            Ok(Version::V6) => packet.get(6),
            Err(_) => None,
        };
        match kind {
            Some(&(protocol::TCP | protocol::UDP)) => Course::of_packet(packet, false),
            _ => Course::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::MacAddress;

    fn v4(kind: u8, payload: &[u8]) -> Vec<u8> {
        let header = ipv4::Header {
            source: "10.0.0.2".parse().unwrap(),
            destination: "10.0.0.1".parse().unwrap(),
            protocol: kind,
            payload_len: payload.len() as u16,
            ..ipv4::Header::default()
        };
        let mut packet = vec![0; header.header_len()];
        header.emit(&mut packet);
        packet.extend(payload);
        packet
    }

    fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let header = ipv6::Header {
            source: "fd00::2".parse().unwrap(),
            destination: "fd00::1".parse().unwrap(),
            next_header,
            payload_len: payload.len() as u16,
            ..ipv6::Header::default()
        };
        let mut packet = vec![0; ipv6::HEADER];
        header.emit(&mut packet);
        packet.extend(payload);
        packet
    }

    fn frame(destination: MacAddress, ether_type: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ethernet::MINIMUM_HEADER];
        let source = MacAddress([2, 0, 0, 0, 0, 2]);
        ethernet::Header { destination, source, vlan: None, ether_type }.emit(&mut frame);
        frame.extend(packet);
        frame
    }

    fn ends(protocol: Protocol, local: &str, local_port: u16, remote: &str, remote_port: u16) -> Course {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Course::Flow(Ends { protocol, local, local_port, remote, remote_port })
    }

    const PORTS: [u8; 8] = [0x0f, 0xa0, 0, 80, 0, 0, 0, 0];
    const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    #[test]
    fn segments_and_datagrams_are_of_their_flow() {
        let expected = ends(Protocol::Tcp, "10.0.0.1", 80, "10.0.0.2", 4000);
        assert_eq!(Course::of_frame(&frame(OWN, 0x0800, &v4(6, &PORTS)), true), expected);
        assert_eq!(Course::of_frame(&v4(6, &PORTS), false), expected);
        let expected = ends(Protocol::Udp, "fd00::1", 80, "fd00::2", 4000);
        assert_eq!(Course::of_frame(&frame(OWN, 0x86dd, &v6(17, &PORTS)), true), expected);
        // Behind options for the destination.
        let padded = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &PORTS].concat();
        assert_eq!(Course::of_frame(&frame(OWN, 0x86dd, &v6(60, &padded)), true), expected);
    }

    #[test]
    fn what_all_are_to_know_goes_to_all() {
        let all = MacAddress::BROADCAST;
        assert_eq!(Course::of_frame(&frame(OWN, 0x0806, &[0; 28]), true), Course::All);
        assert_eq!(Course::of_frame(&frame(OWN, 0x86dd, &v6(58, &[136, 0, 0, 0])), true), Course::All);
        assert_eq!(Course::of_frame(&frame(all, 0x0800, &v4(17, &PORTS)), true), Course::All);
        assert_eq!(Course::of_frame(&frame(all, 0x0800, &v4(2, &[0x11, 0, 0, 0])), true), Course::All);
    }

    #[test]
    fn one_core_answers_what_went_to_many_and_talks_to_servers_of_dhcp() {
        let all = MacAddress::BROADCAST;
        assert_eq!(Course::of_frame(&frame(all, 0x0800, &v4(1, &[8, 0, 0, 0])), true), Course::First);
        assert_eq!(Course::of_frame(&frame(OWN, 0x0800, &v4(1, &[8, 0, 0, 0])), true), Course::Any);
        let lease = [0, 67, 0, 68, 0, 8, 0, 0];
        for destination in [all, OWN] {
            assert_eq!(Course::of_frame(&frame(destination, 0x0800, &v4(17, &lease)), true), Course::First);
        }
    }

    #[test]
    fn fragments_go_where_all_of_them_go() {
        let mut packet = v4(17, &PORTS);
        packet[6] = 0x20;
        let [source, destination] = ["10.0.0.2", "10.0.0.1"].map(|address| address.parse().unwrap());
        assert_eq!(Course::of_packet(&packet, false), Course::Hosts(source, destination));
        let fragment = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &PORTS].concat();
        let [source, destination] = ["fd00::2", "fd00::1"].map(|address| address.parse().unwrap());
        assert_eq!(Course::of_packet(&v6(44, &fragment), false), Course::Hosts(source, destination));
    }

    #[test]
    fn errors_go_to_whom_they_are_about() {
        // What was sent from 10.0.0.2, port 4000.
        let error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &v4(17, &PORTS)].concat();
        let expected = ends(Protocol::Udp, "10.0.0.2", 4000, "10.0.0.1", 80);
        assert_eq!(Course::of_packet(&v4(1, &error), false), expected);
        let error = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &v6(6, &PORTS)].concat();
        let expected = ends(Protocol::Tcp, "fd00::2", 4000, "fd00::1", 80);
        assert_eq!(Course::of_packet(&v6(58, &error), false), expected);
        let about_an_error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &v4(1, &error)].concat();
        assert_eq!(Course::of_packet(&v4(1, &about_an_error), false), Course::Any);
    }

    #[test]
    fn nothing_panics() {
        let whole = frame(OWN, 0x86dd, &v6(58, &[&[1; 8][..], &v6(44, &[6; 40])].concat()));
        for length in 0..=whole.len() {
            let _ = (Course::of_frame(&whole[..length], true), Course::of_frame(&whole[..length], false));
        }
        for kind in 0..=u8::MAX {
            let _ = (
                Course::of_packet(&v4(kind, &[kind; 9]), false),
                Course::of_packet(&v6(kind, &[kind; 9]), true),
            );
        }
    }
}
