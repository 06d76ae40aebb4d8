//! Headers byte by byte, chains as a table, and both against etherparse.

use super::*;
use crate::wire::ip::{Ecn, protocol};
use crate::wire::testing::{hex, mutations, truncate_everywhere};
use etherparse::{IpNumber, Ipv6Extensions, Ipv6Header, Ipv6HeaderSlice};
use proptest::prelude::*;

/// UDP, with traffic class, flow label, and 2 bytes of padding behind it.
const PACKET: &str = "6b9a bcde 000c 1140 20010db8000000000000000000000001 fe80000000000000 0000000000000002
    01020304 05060708 090a0b0c ffff";

fn header() -> Header {
    Header {
        source: "2001:db8::1".parse().unwrap(),
        destination: "fe80::2".parse().unwrap(),
        next_header: protocol::UDP,
        hop_limit: 64,
        traffic_class: TrafficClass { dscp: 46, ecn: Ecn::Ect1 },
        flow_label: 0xabcde,
        payload_len: 12,
    }
}

fn emitted(header: &Header) -> Vec<u8> {
    let mut bytes = vec![0xa5; header.header_len()];
    header.emit(&mut bytes);
    bytes
}

/// A packet to one or all of us, with this behind the fixed header.
fn packet(destination: &str, next_header: u8, rest: &[u8]) -> (Header, Vec<u8>) {
    let destination = destination.parse().unwrap();
    let header = Header { destination, next_header, payload_len: rest.len() as u16, ..header() };
    (header, [&emitted(&header), rest].concat())
}

fn walk(next_header: u8, rest: &str) -> Result<Chain, Refusal> {
    let (header, packet) = packet("fe80::2", next_header, &hex(rest));
    Chain::walk(&header, &packet)
}

fn walk_multicast(next_header: u8, rest: &str) -> Result<Chain, Refusal> {
    let (header, packet) = packet("ff02::1", next_header, &hex(rest));
    Chain::walk(&header, &packet)
}

fn chain(protocol: u8, payload: usize, pointer: u32) -> Result<Chain, Refusal> {
    Ok(Chain { protocol, payload, pointer, fragment: None, router_alert: false })
}

fn problem(code: ProblemCode, pointer: u32, even_if_multicast: bool) -> Result<Chain, Refusal> {
    Err(Refusal::Problem { code, pointer, even_if_multicast })
}

#[test]
fn known_bytes_both_ways() {
    let bytes = hex(PACKET);
    assert_eq!(Header::parse(&bytes), Ok((header(), 40..52)));
    assert_eq!(emitted(&header()), bytes[..40]);
    assert_eq!(Chain::walk(&header(), &bytes[..52]), chain(protocol::UDP, 40, 6));
}

#[test]
fn truncated_packets_and_other_versions_are_refused() {
    truncate_everywhere(&hex(PACKET), 52, Header::parse);
    truncate_everywhere(&hex(PACKET), 40, Header::parse_quoted);
    let mut bytes = hex(PACKET);
    // [rfc8200 3-version]
    for version in (0..16).filter(|version| *version != 6) {
        bytes[0] = version << 4 | 0x0b;
        assert_eq!(Header::parse(&bytes), Err(Malformed::Version));
    }
}

#[test]
fn headers_in_a_chain_are_walked_over() {
    use next_header::{DESTINATION, FRAGMENT, HOP_BY_HOP, NONE, ROUTING};
    assert_eq!(walk(protocol::TCP, ""), chain(6, 40, 6));
    // What nobody knows is pointed at where it stands [rfc8200 4-unrecognized].
    assert_eq!(walk(254, ""), chain(254, 40, 6));
    assert_eq!(walk(DESTINATION, "fe00 0104 00000000"), chain(254, 48, 40));
    assert_eq!(walk(NONE, "0102"), chain(59, 40, 6));
    assert_eq!(walk(HOP_BY_HOP, "0600 0104 00000000"), chain(6, 48, 40));
    assert_eq!(walk(DESTINATION, "1101 010c 00000000 00000000 00000000"), chain(17, 56, 40));
    // Hop-by-hop, destination, routing with nothing left to visit, a fragment that is the whole, destination.
    // [rfc8200 4.1-any-order] [rfc8200 4.4-unrecognized] [rfc8200 4.5-whole] [rfc6946 4]
    let all =
        "3c00 0104 00000000  2b00 0000 00000000  2c00 0400 00000000  3c00 0000 12345678  0600 0104 00000000";
    assert_eq!(walk(HOP_BY_HOP, all), chain(6, 80, 72));
    assert_eq!(walk(ROUTING, "2c00 0000 00000000  06ff 0000 12345678"), chain(6, 56, 48));
    assert_eq!(walk(FRAGMENT, "0600 0006 12345678"), chain(6, 48, 40));
}

#[test]
fn hop_by_hop_options_are_first_or_unrecognized() {
    // [rfc8200 4.1-hop-by-hop]
    let code = ProblemCode::UnrecognizedNextHeader;
    assert_eq!(
        walk(next_header::DESTINATION, "0000 0104 00000000 0600 0104 00000000"),
        problem(code, 40, false)
    );
    assert_eq!(
        walk(next_header::HOP_BY_HOP, "0000 0104 00000000 0600 0104 00000000"),
        problem(code, 40, false)
    );
}

#[test]
fn unknown_options_ask_for_what_becomes_of_the_packet() {
    // [rfc8200 4.2-unrecognized] [rfc4443 2.4-e3]
    let code = ProblemCode::UnrecognizedOption;
    for next_header in [next_header::HOP_BY_HOP, next_header::DESTINATION] {
        assert_eq!(walk(next_header, "1100 1e02 ffff 0100"), chain(17, 48, 40));
        assert_eq!(walk(next_header, "1100 0100 5e02 ffff"), Err(Refusal::Discard));
        assert_eq!(walk(next_header, "1100 0100 9e02 ffff"), problem(code, 44, true));
        assert_eq!(walk(next_header, "1100 0000 00de 01ff"), problem(code, 45, true));
        assert_eq!(walk_multicast(next_header, "1100 0100 9e02 ffff"), problem(code, 44, true));
        assert_eq!(walk_multicast(next_header, "1100 0100 de02 ffff"), Err(Refusal::Discard));
    }
    // Jumbograms are unknown.
    assert_eq!(walk(next_header::HOP_BY_HOP, "1100 c204 00012345"), problem(code, 42, true));
}

#[test]
fn options_beyond_their_header_are_malformed() {
    for rest in ["1100 0105 00000000", "1100 1e02 ffff 0001", "1100 0103 0000 00de"] {
        assert_eq!(
            walk(next_header::DESTINATION, rest),
            Err(Refusal::Malformed(Malformed::Option)),
            "{rest}"
        );
    }
}

#[test]
fn chains_and_options_have_limits() {
    let headers = |count: usize| {
        let mut bytes = hex("3c00 0104 00000000").repeat(count);
        bytes[8 * (count - 1)] = 17;
        let (header, packet) = packet("fe80::2", next_header::DESTINATION, &bytes);
        Chain::walk(&header, &packet)
    };
    assert_eq!(headers(8), chain(17, 104, 96));
    assert_eq!(headers(9), Err(Refusal::Discard));
    // Padding is free, options are not.
    assert_eq!(walk(next_header::DESTINATION, "1101 1e00 1e00 1e00 1e00 1e00 1e00 1e00"), chain(17, 56, 40));
    let nine = "1102 1e00 1e00 1e00 1e00 1e00 1e00 1e00 1e00 1e00 0000 0000";
    assert_eq!(walk(next_header::DESTINATION, nine), Err(Refusal::Discard));
    let padding = "1102 1e00 1e00 1e00 1e00 1e00 1e00 1e00 1e00 0100 0100 0000";
    assert_eq!(walk(next_header::DESTINATION, padding), chain(17, 64, 40));
}

#[test]
fn routing_with_segments_left_is_a_problem_whatever_its_type() {
    // [rfc8200 4.4-unrecognized] [rfc5095 3]
    for kind in 0..=255u8 {
        let (header, packet) = packet("fe80::2", next_header::ROUTING, &[17, 0, kind, 1, 0, 0, 0, 0]);
        assert_eq!(Chain::walk(&header, &packet), problem(ProblemCode::ErroneousField, 42, false));
    }
}

#[test]
fn fragments_stop_the_walk_at_what_they_are_part_of() {
    use next_header::{FRAGMENT, HOP_BY_HOP};
    let fragment = |offset, more| Fragment { next_header: 17, offset, more, identification: 0x1234_5678 };
    let result = |offset, more| {
        chain(17, 48, 40).map(|chain| Chain { fragment: Some(fragment(offset, more)), ..chain })
    };
    assert_eq!(walk(FRAGMENT, "1100 0001 12345678 0102030405060708"), result(0, true));
    assert_eq!(walk(FRAGMENT, "1100 0009 12345678 0102030405060708"), result(8, true));
    assert_eq!(walk(FRAGMENT, "1100 0ff8 12345678 01"), result(0xff8, false));
    // The two reserved bits say nothing [rfc8200 4.5-reserved].
    assert_eq!(walk(FRAGMENT, "11ff 000f 12345678 0102030405060708"), result(8, true));
    assert_eq!(walk(FRAGMENT, "1100 0009 12345678"), Err(Refusal::Malformed(Malformed::Length)));
    let behind_others = walk(HOP_BY_HOP, "2c00 0104 00000000 1100 0009 12345678 0102030405060708").unwrap();
    assert_eq!((behind_others.payload, behind_others.fragment), (56, Some(fragment(8, true))));

    let mut bytes = [0xa5; Fragment::HEADER];
    fragment(0xff8, true).emit(&mut bytes);
    assert_eq!(bytes[..], hex("1100 0ff9 12345678"));
}

#[test]
fn impossible_fragments_are_problems() {
    let code = ProblemCode::ErroneousField;
    // [rfc8200 4.5-multiple-of-8]
    assert_eq!(walk(next_header::FRAGMENT, "1100 0009 12345678 01020304050607"), problem(code, 4, false));
    // [rfc8200 4.5-65535]: 65528 and 8 are too many, 7 are not.
    assert_eq!(walk(next_header::FRAGMENT, "1100 fff8 12345678 0102030405060708"), problem(code, 42, false));
    assert!(walk(next_header::FRAGMENT, "1100 fff8 12345678 01020304050607").is_ok());
    let behind_others = "2c00 0104 00000000 1100 fff8 12345678 01020304050607";
    assert_eq!(walk(next_header::DESTINATION, behind_others), problem(code, 50, false));
}

#[test]
fn a_first_fragment_has_all_headers() {
    // [rfc8200 4.5-first] [rfc7112 5]
    let incomplete = problem(ProblemCode::IncompleteChain, 0, false);
    assert_eq!(walk(next_header::FRAGMENT, "0600 0001 12345678 0102030405060708"), incomplete);
    assert_eq!(walk(next_header::FRAGMENT, "3c00 0001 12345678 0601 0104 00000000"), incomplete);
    assert_eq!(walk(next_header::FRAGMENT, "3c00 0001 12345678 1100 0104 00000000"), incomplete);
    let complete = "3c00 0001 12345678 1100 0104 00000000 0102030405060708";
    let chain = walk(next_header::FRAGMENT, complete).unwrap();
    assert_eq!(
        (chain.protocol, chain.payload, chain.fragment.unwrap().more),
        (next_header::DESTINATION, 48, true)
    );
    // Others need not.
    assert!(walk(next_header::FRAGMENT, "0600 0009 12345678 0102030405060708").is_ok());
}

#[test]
fn fragments_of_fragments_are_not_followed() {
    // As deep as a packet can be, and a stack cannot.
    let mut rest = hex("2c00 0001 12345678").repeat(8000);
    rest.extend(hex("0600 0001 12345678 0102030405060708"));
    let (header, packet) = packet("fe80::2", next_header::FRAGMENT, &rest);
    assert_eq!(Chain::walk(&header, &packet).unwrap().payload, 48);
}

#[test]
fn what_was_reassembled_is_walked_over_from_its_beginning() {
    let part = hex("1100 0104 00000000 0102030405060708");
    let walked = Chain::walk_reassembled(&header(), next_header::DESTINATION, &part);
    assert_eq!(walked, chain(17, 8, 0));
    let unrecognized = problem(ProblemCode::UnrecognizedNextHeader, 0, false);
    assert_eq!(Chain::walk_reassembled(&header(), next_header::HOP_BY_HOP, &part), unrecognized);
}

#[test]
fn the_router_alert_of_mld_is_seen() {
    let (header, packet) = packet("ff02::16", next_header::HOP_BY_HOP, &HOP_BY_HOP_ROUTER_ALERT);
    let alert = chain(protocol::ICMPV6, 48, 40).map(|chain| Chain { router_alert: true, ..chain });
    assert_eq!(Chain::walk(&header, &packet), alert);
    // Among destination options it is unknown, and its type asks to skip it.
    assert_eq!(walk(next_header::DESTINATION, "3a00 0502 0000 0100"), chain(58, 48, 40));
}

#[test]
fn truncated_chains_are_refused() {
    let all =
        "3c00 0104 00000000  2b00 0000 00000000  2c00 0400 00000000  3c00 0000 12345678  0600 0104 00000000";
    let (header, packet) = packet("fe80::2", next_header::HOP_BY_HOP, &hex(all));
    for length in 0..packet.len() {
        let result = Chain::walk(&header, &packet[..length]);
        assert_eq!(result, Err(Refusal::Malformed(Malformed::Truncated)), "{length} bytes");
    }
}

#[test]
fn a_corpus_of_broken_chains_is_walked_or_refused() {
    let all =
        "3c00 0502 0000 0100  2b00 0000 00000000  2c00 0400 00000000  3c00 0001 12345678  0600 0104 00000000";
    for rest in mutations(&hex(all)) {
        let (header, packet) = packet("fe80::2", next_header::HOP_BY_HOP, &rest);
        match Chain::walk(&header, &packet) {
            Ok(chain) => assert!(chain.payload <= packet.len()),
            Err(Refusal::Problem { pointer, .. }) => assert!((pointer as usize) < packet.len()),
            Err(_) => {}
        }
    }
}

fn any_header() -> impl Strategy<Value = Header> {
    (any::<(u128, u128)>(), any::<[u8; 3]>(), 0u32..1 << 20, 0u16..2000).prop_map(
        |((source, destination), [next_header, hop_limit, class], flow_label, payload_len)| Header {
            source: source.into(),
            destination: destination.into(),
            next_header,
            hop_limit,
            traffic_class: TrafficClass::from_bits(class),
            flow_label,
            payload_len,
        },
    )
}

fn to_etherparse(header: &Header) -> Ipv6Header {
    Ipv6Header {
        traffic_class: header.traffic_class.bits(),
        flow_label: header.flow_label.try_into().unwrap(),
        payload_length: header.payload_len,
        next_header: IpNumber(header.next_header),
        hop_limit: header.hop_limit,
        source: header.source.octets(),
        destination: header.destination.octets(),
    }
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed_here_and_by_etherparse(header in any_header(), padding in 0usize..20) {
        let mut bytes = emitted(&header);
        prop_assert_eq!(Ipv6HeaderSlice::from_slice(&bytes).unwrap().to_header(), to_etherparse(&header));
        let end = HEADER + usize::from(header.payload_len);
        bytes.resize(end + padding, 0xff);
        prop_assert_eq!(Header::parse(&bytes), Ok((header, HEADER..end)));
    }

    #[test]
    fn what_etherparse_writes_is_read(header in any_header()) {
        let bytes = to_etherparse(&header).to_bytes();
        prop_assert_eq!(Header::parse_quoted(&bytes), Ok(header));
        prop_assert_eq!(&emitted(&header)[..], &bytes[..]);
    }

    #[test]
    fn anything_is_walked_or_refused(
        mut rest in prop::collection::vec(any::<u8>(), 0..120),
        kinds in prop::collection::vec(prop::sample::select(vec![0u8, 43, 44, 60, 17]), 15),
        multicast: bool,
    ) {
        // Chains that often go on: known kinds, and short.
        for (place, kind) in (0..rest.len().saturating_sub(4)).step_by(8).zip(&kinds) {
            (rest[place], rest[place + 1], rest[place + 3]) = (*kind, 0, 0);
        }
        let (header, packet) = packet(if multicast { "ff02::1" } else { "fe80::2" }, kinds[0], &rest);
        match Chain::walk(&header, &packet) {
            Ok(chain) => prop_assert!(chain.payload <= packet.len()),
            Err(Refusal::Problem { pointer, .. }) => prop_assert!((pointer as usize) < packet.len()),
            Err(_) => {}
        }
    }

    #[test]
    fn chains_end_where_they_end_for_etherparse(destination in 0u8..3, whole: bool, last in prop::sample::select(vec![6u8, 17, 58])) {
        let option = |next| Ipv6Extensions {
            destination_options: Some(
                etherparse::Ipv6RawExtHeader::new_raw(IpNumber(next), &[1, 4, 0, 0, 0, 0]).unwrap(),
            ),
            ..Ipv6Extensions::default()
        };
        let mut extensions = if destination > 0 { option(last) } else { Ipv6Extensions::default() };
        extensions.fragment = whole.then(|| etherparse::Ipv6FragmentHeader {
            next_header: IpNumber(last),
            fragment_offset: 0u16.try_into().unwrap(),
            more_fragments: false,
            identification: 7,
        });
        let first = extensions.set_next_headers(IpNumber(last));
        let mut rest = Vec::new();
        extensions.write(&mut rest, first).unwrap();
        let (header, packet) = packet("fe80::2", first.0, &rest);
        let chain = Chain::walk(&header, &packet).unwrap();
        prop_assert_eq!((chain.protocol, chain.payload), (last, packet.len()));
    }
}
