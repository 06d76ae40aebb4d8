//! Parsers of all wire formats: none panics, and what one takes is written again as it was understood.

use super::input::Input;
use super::packet::repair_payload;
use demikernel_net::wire::checksum::Sum;
use demikernel_net::wire::ip::{Version, protocol};
use demikernel_net::wire::tcp::Segment;
use demikernel_net::wire::{arp, ethernet, icmpv4, icmpv6, igmp, ipv4, ipv6, mld, ndp, tcp, udp};
use std::net::{IpAddr, Ipv6Addr};

/// A number of a format, and bytes for its parser.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 11 {
        0 => ethernet_frame(input.rest()),
        1 => arp_packet(input.rest()),
        2 => ipv4_packet(input.rest()),
        3 => ipv6_packet(input.rest()),
        4 => icmpv4_message(input.rest()),
        5 => icmpv6_message(input.rest()),
        6 => igmp_message(input.rest()),
        7 => mld_message(&mut input),
        8 => ndp_message(&mut input),
        9 => udp_datagram(input.rest()),
        _ => tcp_segment(input.rest()),
    }
}

fn ethernet_frame(bytes: &[u8]) {
    let Ok((header, start)) = ethernet::Header::parse(bytes) else { return };
    assert!(start <= bytes.len());
    let mut written = vec![0xa5; header.header_len()];
    header.emit(&mut written);
    assert_eq!(ethernet::Header::parse(&written), Ok((header, written.len())));
}

fn arp_packet(bytes: &[u8]) {
    let Ok(packet) = arp::Packet::parse(bytes) else { return };
    let mut written = [0xa5; arp::PACKET];
    packet.emit(&mut written);
    assert_eq!(arp::Packet::parse(&written), Ok(packet));
}

fn ipv4_packet(bytes: &[u8]) {
    let quoted = ipv4::Header::parse_quoted(bytes);
    let Ok((header, payload)) = ipv4::Header::parse_unverified(bytes) else { return };
    assert_eq!(quoted, Ok((header, payload.start)));
    let length = header.header_len();
    let mut written = vec![0xa5; length];
    header.emit(&mut written);
    written.extend_from_slice(&bytes[payload]);
    // Of options only the alert is written.
    let header = ipv4::Header { source_route: false, ..header };
    assert_eq!(ipv4::Header::parse(&written), Ok((header, length..written.len())));
}

fn ipv6_packet(bytes: &[u8]) {
    let Ok((header, payload)) = ipv6::Header::parse(bytes) else { return };
    assert_eq!(ipv6::Header::parse_quoted(bytes), Ok(header));
    let mut written = [0xa5; ipv6::HEADER];
    header.emit(&mut written);
    assert_eq!(ipv6::Header::parse_quoted(&written), Ok(header));
    let part = &bytes[payload.clone()];
    if let Ok(chain) = ipv6::Chain::walk_reassembled(&header, header.next_header, part) {
        assert!(chain.payload <= part.len());
    }
    let Ok(chain) = ipv6::Chain::walk(&header, &bytes[..payload.end]) else { return };
    assert!((ipv6::HEADER..=payload.end).contains(&chain.payload) && (chain.pointer as usize) < payload.end);
    if let Some(fragment) = chain.fragment {
        // A fragment header and its payload alone are the same fragment.
        let mut again = vec![0xa5; ipv6::Fragment::HEADER];
        fragment.emit(&mut again);
        again.extend_from_slice(&bytes[chain.payload..payload.end]);
        let found = ipv6::Chain::walk_reassembled(&header, ipv6::next_header::FRAGMENT, &again);
        assert!(found.is_err() || found.is_ok_and(|found| found.fragment == Some(fragment)));
    }
}

fn icmpv4_message(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    repair_payload((IpAddr::from([0; 4]), IpAddr::from([0; 4])), protocol::ICMP, &mut bytes);
    let Ok((message, start)) = icmpv4::Message::parse(&bytes) else { return };
    if message.is_error()
        && let Ok((quoted, at)) = ipv4::Header::parse_quoted(&bytes[start..])
    {
        quoted_transport(quoted.protocol, &bytes[start + at..]);
    }
    message.emit(&mut bytes);
    assert_eq!(icmpv4::Message::parse(&bytes), Ok((message, start)));
}

fn icmpv6_message(bytes: &[u8]) {
    let (mut bytes, addresses) = (bytes.to_vec(), (Ipv6Addr::LOCALHOST, Ipv6Addr::from(7)));
    repair_payload((addresses.0.into(), addresses.1.into()), protocol::ICMPV6, &mut bytes);
    let pseudo_header = icmpv6::pseudo_header(addresses.0, addresses.1, bytes.len());
    let Ok((message, start)) = icmpv6::Message::parse(&bytes, pseudo_header) else { return };
    if message.is_error()
        && let Ok(quoted) = ipv6::Header::parse_quoted(&bytes[start..])
    {
        quoted_transport(quoted.next_header, &bytes[start + ipv6::HEADER..]);
    }
    message.emit(&mut bytes, pseudo_header);
    assert_eq!(icmpv6::Message::parse(&bytes, pseudo_header), Ok((message, start)));
}

fn quoted_transport(number: u8, bytes: &[u8]) {
    if number == protocol::TCP {
        let _ = tcp::Quoted::parse(bytes);
    } else {
        let _ = udp::Header::parse_quoted(bytes);
    }
}

fn igmp_message(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    repair_payload((IpAddr::from([0; 4]), IpAddr::from([0; 4])), protocol::IGMP, &mut bytes);
    let Ok(message) = igmp::Message::parse(&bytes) else { return };
    let mut written = vec![0xa5; message.len()];
    message.emit(&mut written);
    assert_eq!(igmp::Message::parse(&written), Ok(message));
}

/// A packet of ICMPv6 with addresses of any kind.
fn icmpv6_header(input: &mut Input<'_>, hop_limit: u8) -> ipv6::Header {
    let place = input.u8();
    let source = match place % 4 {
        0 => Ipv6Addr::UNSPECIFIED,
        1 => input.ipv6(),
        _ => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, place.into()),
    };
    let destination = match place >> 4 & 3 {
        0 => input.ipv6(),
        1 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
        2 => ndp::solicited_node(Ipv6Addr::from(9)),
        _ => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    };
    let hop_limit = if place & 0x80 != 0 { input.u8() } else { hop_limit };
    ipv6::Header { source, destination, hop_limit, next_header: protocol::ICMPV6, ..ipv6::Header::default() }
}

fn mld_message(input: &mut Input<'_>) {
    let ip = icmpv6_header(input, mld::HOP_LIMIT);
    let bytes = input.rest();
    let _ = mld::Message::parse(&ip, false, bytes);
    let Ok(message) = mld::Message::parse(&ip, true, bytes) else { return };
    let mut written = vec![0xa5; message.len()];
    message.emit(&mut written, Sum::ZERO);
    assert_eq!(mld::Message::parse(&ip, true, &written), Ok(message));
}

fn ndp_message(input: &mut Input<'_>) {
    let ip = icmpv6_header(input, ndp::HOP_LIMIT);
    let Ok(message) = ndp::Message::parse(&ip, input.rest()) else { return };
    let mut written = vec![0xa5; message.len()];
    message.emit(&mut written, Sum::ZERO);
    assert_eq!(ndp::Message::parse(&ip, &written), Ok(message));
}

fn udp_datagram(bytes: &[u8]) {
    let Ok((header, payload)) = udp::Header::parse(bytes) else { return };
    let _ = udp::verify(Version::V4, Sum::ZERO, &bytes[..payload.end]);
    let mut written = [0xa5; udp::HEADER];
    let sum = header.emit(&mut written).then(Sum::of(&bytes[payload.clone()]));
    udp::set_checksum(&mut written, sum.checksum());
    let again = [&written[..], &bytes[payload.clone()]].concat();
    assert_eq!(udp::Header::parse(&again), Ok((header, payload)));
    assert_eq!(udp::verify(Version::V6, Sum::ZERO, &again), Ok(()));
}

/// Which options are written depends on the flags, so what was written once is compared.
fn tcp_segment(bytes: &[u8]) {
    let write = |segment: &Segment| {
        let mut written = vec![0xa5; segment.header_len()];
        let sum = segment.emit(&mut written);
        tcp::set_checksum(&mut written, sum.checksum());
        assert_eq!(tcp::verify(Sum::ZERO, &written), Ok(()), "the sum is that of what was written");
        written
    };
    let Ok((segment, start)) = Segment::parse(bytes) else { return };
    assert!((tcp::MINIMUM_HEADER..=bytes.len()).contains(&start));
    let written = write(&segment);
    let (again, start) = Segment::parse(&written).expect("what was written can be read");
    assert_eq!(start, written.len());
    assert_eq!(Segment { options: segment.options, ..again }, segment);
    assert_eq!(again.options.timestamps, segment.options.timestamps);
    assert_eq!(write(&again), written);
}
