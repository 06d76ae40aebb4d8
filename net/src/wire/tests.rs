//! Whole frames, through all layers: those of etherparse here, ours there, and what is left of them when broken.

use super::checksum::Sum;
use super::ethernet::{self, ether_type};
use super::ip::{Version, protocol};
use super::testing::mutations;
use super::{Malformed, arp, icmpv4, icmpv6, igmp, ipv4, ipv6, mld, ndp, tcp, udp};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use std::net::IpAddr;

/// What a frame turned out to carry.
#[derive(Debug, PartialEq, Eq)]
enum Payload {
    Tcp { ports: (u16, u16), bytes: Vec<u8> },
    Udp { ports: (u16, u16), bytes: Vec<u8> },
    Other(u8),
    Arp,
    Fragment,
}

fn parse_frame(bytes: &[u8]) -> Result<Payload, Malformed> {
    let (frame, start) = ethernet::Header::parse(bytes)?;
    let packet = &bytes[start..];
    match frame.ether_type {
        ether_type::ARP => arp::Packet::parse(packet).map(|_| Payload::Arp),
        ether_type::IPV4 => parse_ipv4(packet),
        ether_type::IPV6 => parse_ipv6(packet),
        _ => Err(Malformed::Value),
    }
}

fn parse_ipv4(packet: &[u8]) -> Result<Payload, Malformed> {
    let (ip, payload) = ipv4::Header::parse(packet)?;
    if ip.is_fragment() {
        return Ok(Payload::Fragment);
    }
    let payload = &packet[payload];
    match ip.protocol {
        protocol::ICMP => {
            let (message, start) = icmpv4::Message::parse(payload)?;
            if message.is_error() {
                let (quoted, start) = ipv4::Header::parse_quoted(&payload[start..])
                    .map(|(quoted, offset)| (quoted, start + offset))?;
                if quoted.protocol == protocol::TCP {
                    tcp::Quoted::parse(&payload[start..])?;
                }
            }
            Ok(Payload::Other(ip.protocol))
        }
        protocol::IGMP => igmp::Message::parse(payload).map(|_| Payload::Other(ip.protocol)),
        _ => parse_transport(ip.source.into(), ip.destination.into(), ip.protocol, payload),
    }
}

fn parse_ipv6(packet: &[u8]) -> Result<Payload, Malformed> {
    let (ip, payload) = ipv6::Header::parse(packet)?;
    let packet = &packet[..payload.end];
    let chain = ipv6::Chain::walk(&ip, packet).map_err(|_| Malformed::Value)?;
    if chain.fragment.is_some() {
        return Ok(Payload::Fragment);
    }
    let payload = &packet[chain.payload..];
    if chain.protocol != protocol::ICMPV6 {
        return parse_transport(ip.source.into(), ip.destination.into(), chain.protocol, payload);
    }
    let pseudo_header = icmpv6::pseudo_header(ip.source, ip.destination, payload.len());
    if let (icmpv6::Message::Other { .. }, _) = icmpv6::Message::parse(payload, pseudo_header)? {
        let _ = mld::Message::parse(&ip, chain.router_alert, payload);
        let _ = ndp::Message::parse(&ip, payload);
    }
    Ok(Payload::Other(chain.protocol))
}

fn parse_transport(from: IpAddr, to: IpAddr, number: u8, bytes: &[u8]) -> Result<Payload, Malformed> {
    match number {
        protocol::TCP => {
            let (segment, start) = tcp::Segment::parse(bytes)?;
            tcp::verify(Sum::pseudo_header(from, to, number, bytes.len() as u32), bytes)?;
            let ports = (segment.source, segment.destination);
            Ok(Payload::Tcp { ports, bytes: bytes[start..].to_vec() })
        }
        protocol::UDP => {
            let (header, payload) = udp::Header::parse(bytes)?;
            let version = if from.is_ipv4() { Version::V4 } else { Version::V6 };
            let pseudo_header = Sum::pseudo_header(from, to, number, payload.end as u32);
            udp::verify(version, pseudo_header, &bytes[..payload.end])?;
            let ports = (header.source, header.destination);
            Ok(Payload::Udp { ports, bytes: bytes[payload].to_vec() })
        }
        other => Ok(Payload::Other(other)),
    }
}

/// A frame of ours, its headers written one behind the other in front of the payload.
fn frame_of_ours(addresses: (IpAddr, IpAddr), segment: &tcp::Segment, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xa5; 14 + 40 + 60];
    let length = segment.header_len() + payload.len();
    let ether_type = if addresses.0.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
    let ethernet = ethernet::Header { ether_type, ..ethernet::Header::default() };
    ethernet.emit(&mut bytes);
    let start = 14
        + match addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let payload_len = length as u16;
                let header = ipv4::Header {
                    source,
                    destination,
                    protocol: protocol::TCP,
                    payload_len,
                    ..ipv4::Header::default()
                };
                header.emit(&mut bytes[14..]);
                header.header_len()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let payload_len = length as u16;
                let header = ipv6::Header {
                    source,
                    destination,
                    next_header: protocol::TCP,
                    payload_len,
                    ..ipv6::Header::default()
                };
                header.emit(&mut bytes[14..]);
                header.header_len()
            }
            _ => panic!("addresses of one version"),
        };
    let pseudo_header = Sum::pseudo_header(addresses.0, addresses.1, protocol::TCP, length as u32);
    let sum = segment.emit(&mut bytes[start..]).then(Sum::of(payload));
    tcp::set_checksum(&mut bytes[start..], pseudo_header.then(sum).checksum());
    bytes.truncate(start + segment.header_len());
    bytes.extend(payload);
    bytes
}

fn frames_of_etherparse(payload: &[u8]) -> Vec<Vec<u8>> {
    let link = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (from, to) = ([0xfe; 16], [0xfd; 16]);
    let write = |build: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        build(&mut bytes);
        bytes
    };
    vec![
        write(&|bytes| {
            link().ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(7, 9).write(bytes, payload).unwrap();
        }),
        write(&|bytes| link().ipv6(from, to, 64).udp(7, 9).write(bytes, payload).unwrap()),
        write(&|bytes| {
            let vlan = link().single_vlan(7.try_into().unwrap());
            vlan.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).tcp(7, 9, 1, 2).write(bytes, payload).unwrap();
        }),
        write(&|bytes| link().ipv6(from, to, 64).tcp(7, 9, 1, 2).write(bytes, payload).unwrap()),
        write(&|bytes| {
            let ip = link().ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
            ip.icmpv4_echo_request(7, 9).write(bytes, payload).unwrap();
        }),
        write(&|bytes| link().ipv6(from, to, 64).icmpv6_echo_reply(7, 9).write(bytes, payload).unwrap()),
    ]
}

#[test]
fn frames_of_etherparse_arrive() {
    let bytes = b"payload".to_vec();
    let ports = (7, 9);
    let tcp = || Payload::Tcp { ports, bytes: bytes.clone() };
    let udp = || Payload::Udp { ports, bytes: bytes.clone() };
    let expected = [udp(), udp(), tcp(), tcp(), Payload::Other(1), Payload::Other(58)];
    for (frame, expected) in frames_of_etherparse(&bytes).iter().zip(expected) {
        assert_eq!(parse_frame(frame), Ok(expected));
        // Short frames are padded on the link.
        let padded = [frame, &[0; 20][..]].concat();
        assert_eq!(parse_frame(&padded), parse_frame(frame));
        for length in 0..frame.len() {
            assert!(parse_frame(&frame[..length]).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn a_corpus_of_broken_frames_does_no_harm() {
    let mut refused = 0;
    let mut count = 0;
    for frame in frames_of_etherparse(b"payload") {
        for bytes in mutations(&frame) {
            count += 1;
            refused += usize::from(parse_frame(&bytes).is_err());
        }
    }
    // Checksums see nearly all; what is left are addresses of the link, and padding.
    assert!(refused * 10 > count * 7, "{refused} of {count}");
}

proptest! {
    #[test]
    fn etherparse_takes_our_frames_apart(
        payload: Vec<u8>, v6: bool, v4s: ([u8; 4], [u8; 4]), v6s: ([u8; 16], [u8; 16]), ports: (u16, u16),
        timestamps: Option<(u32, u32)>,
    ) {
        let addresses: (IpAddr, IpAddr) =
            if v6 { (v6s.0.into(), v6s.1.into()) } else { (v4s.0.into(), v4s.1.into()) };
        let mut segment = tcp::Segment { source: ports.0, destination: ports.1, ..tcp::Segment::default() };
        segment.options.timestamps = timestamps.map(|(value, echo)| tcp::Timestamps { value, echo });
        let bytes = frame_of_ours(addresses, &segment, &payload);
        prop_assert_eq!(parse_frame(&bytes), Ok(Payload::Tcp { ports, bytes: payload.clone() }));

        let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
        let from = match sliced.net.as_ref().unwrap() {
            NetSlice::Ipv4(ip) => IpAddr::from(ip.header().source()),
            NetSlice::Ipv6(ip) => IpAddr::from(ip.header().source()),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(from, addresses.0);
        let Some(TransportSlice::Tcp(other)) = sliced.transport else { panic!("a segment") };
        prop_assert_eq!((other.source_port(), other.destination_port()), ports);
        prop_assert_eq!(other.payload(), &payload[..]);
    }

    #[test]
    fn anything_does_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..120), which in 0usize..3) {
        let start: &[u8] = [&[0x08, 0x00, 0x45][..], &[0x86, 0xdd, 0x60], &[0x08, 0x06]][which];
        if let Some(place) = bytes.get_mut(12..12 + start.len()) {
            place.copy_from_slice(start);
        }
        let _ = parse_frame(&bytes);
    }
}
