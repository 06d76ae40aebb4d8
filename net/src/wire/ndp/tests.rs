//! Messages byte by byte, what makes them unbelievable as tables, and all against etherparse.

use super::*;
use crate::wire::icmpv6;
use crate::wire::testing::{hex, mutations, truncate_everywhere};
use etherparse::icmpv6::{Icmpv6PayloadSlice, NdpOptionSlice};
use etherparse::{Icmpv6Header, Icmpv6Slice, Icmpv6Type};
use proptest::prelude::*;

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn ip(source: &str, destination: &str) -> ipv6::Header {
    let (source, destination) = (address(source), address(destination));
    ipv6::Header { source, destination, hop_limit: HOP_LIMIT, ..ipv6::Header::default() }
}

fn link_local() -> ipv6::Header {
    ip("fe80::1", "fe80::2")
}

/// With the checksum left out.
fn emitted(message: &Message) -> Vec<u8> {
    let mut bytes = vec![0xa5; message.len()];
    message.emit(&mut bytes, Sum::ZERO);
    assert!(Sum::of(&bytes).is_valid());
    bytes[2..4].fill(0);
    bytes
}

fn refusal(ip: &ipv6::Header, bytes: &str) -> Option<Malformed> {
    Message::parse(ip, &hex(bytes)).err()
}

#[test]
fn a_router_is_asked_for() {
    let message = Message::RouterSolicitation { source_link_layer: Some(MAC) };
    let bytes = hex("8500 0000 00000000 0101 020000000007");
    assert_eq!(emitted(&message), bytes);
    assert_eq!(Message::parse(&ip("fe80::1", "ff02::2"), &bytes), Ok(message));
    assert_eq!(emitted(&Message::RouterSolicitation { source_link_layer: None }), bytes[..8]);
}

#[test]
fn a_router_says_how_things_are() {
    let bytes = hex("8600 0000 40 c0 0708 00007530 000003e8
        0101 020000000007
        0501 0000 000005dc
        0304 40c0 00278d00 00093a80 00000000 20010db8000100020000000000000000
        1903 0000 00000e10 20010db8000000000000000000000053");
    let mut router = RouterAdvertisement {
        hop_limit: 64,
        managed: true,
        other: true,
        lifetime: 1800,
        reachable_time: 30_000,
        retransmit_time: 1000,
        source_link_layer: Some(MAC),
        mtu: Some(1500),
        ..RouterAdvertisement::default()
    };
    router.prefixes[0] = Some(PrefixInformation {
        prefix: address("2001:db8:1:2::"),
        length: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: 2_592_000,
        preferred_lifetime: 604_800,
    });
    router.dns_servers[0] = Some(DnsServer { address: address("2001:db8::53"), lifetime: 3600 });
    let message = Message::RouterAdvertisement(router);
    assert_eq!(Message::parse(&ip("fe80::1", "ff02::1"), &bytes), Ok(message));
    assert_eq!(emitted(&message), bytes);
}

#[test]
fn a_neighbour_is_asked_for_and_answers() {
    let target = address("fe80::2");
    let question = Message::NeighborSolicitation { target, source_link_layer: Some(MAC) };
    let bytes = hex("8700 0000 00000000 fe800000000000000000000000000002 0101 020000000007");
    assert_eq!(Message::parse(&ip("fe80::1", "ff02::1:ff00:2"), &bytes), Ok(question));
    assert_eq!(emitted(&question), bytes);

    let answer = Message::NeighborAdvertisement(NeighborAdvertisement {
        target,
        router: false,
        solicited: true,
        replaces: true,
        target_link_layer: Some(MAC),
    });
    let bytes = hex("8800 0000 60000000 fe800000000000000000000000000002 0201 020000000007");
    assert_eq!(Message::parse(&link_local(), &bytes), Ok(answer));
    assert_eq!(emitted(&answer), bytes);
}

#[test]
fn a_router_tells_of_a_better_hop() {
    let (target, destination) = (address("fe80::3"), address("2001:db8::9"));
    let message = Message::Redirect { target, destination, target_link_layer: Some(MAC) };
    let bytes = hex("8900 0000 00000000 fe800000000000000000000000000003 20010db8000000000000000000000009
        0201 020000000007");
    assert_eq!(emitted(&message), bytes);
    // It quotes the packet too, which is skipped.
    let with_quote = [&bytes[..], &hex("0402 0000 00000000 6000000000000000")].concat();
    assert_eq!(Message::parse(&link_local(), &with_quote), Ok(message));
}

#[test]
fn messages_from_beyond_the_link_or_of_other_codes_are_refused() {
    // [rfc4861 hop-limit]
    for message in every_kind() {
        let mut bytes = emitted(&message);
        assert_eq!(Message::parse(&link_local(), &bytes), Ok(message));
        let routed = ipv6::Header { hop_limit: 254, ..link_local() };
        assert_eq!(Message::parse(&routed, &bytes), Err(Malformed::Value));
        bytes[1] = 1;
        assert_eq!(Message::parse(&link_local(), &bytes), Err(Malformed::Value));
    }
    assert_eq!(refusal(&link_local(), "8000 0000 0000 0000"), Some(Malformed::Value));
}

#[test]
fn truncated_messages_and_options_are_refused() {
    let lengths = [8, 16, 24, 24, 40];
    for (message, length) in every_kind().into_iter().zip(lengths) {
        truncate_everywhere(&emitted(&message), length, |bytes| Message::parse(&link_local(), bytes));
    }
    let solicitation = "8500 0000 00000000";
    // [rfc4861 4.6-length]
    for options in ["0100 020000000007", "0001", "01", "0102 020000000007"] {
        let bytes = format!("{solicitation} {options}");
        assert_eq!(refusal(&link_local(), &bytes), Some(Malformed::Option), "{options}");
    }
    // An address that is not of Ethernet.
    let infiniband = format!("{solicitation} 0103 {}", "00".repeat(22));
    assert_eq!(refusal(&link_local(), &infiniband), Some(Malformed::Option));
}

#[test]
fn unknown_options_are_skipped_and_the_first_of_two_counts() {
    // [rfc4861 9-unknown]
    let bytes = hex("8500 0000 00000000 fe01 000000000000 0101 020000000007 0101 020000000008");
    let message = Message::RouterSolicitation { source_link_layer: Some(MAC) };
    assert_eq!(Message::parse(&link_local(), &bytes), Ok(message));
}

#[test]
fn who_has_no_address_asks_for_routers_without_naming_itself() {
    // [rfc4861 6.1.1]
    assert_eq!(refusal(&ip("::", "ff02::2"), "8500 0000 00000000"), None);
    let named = "8500 0000 00000000 0101 020000000007";
    assert_eq!(refusal(&ip("::", "ff02::2"), named), Some(Malformed::Value));
}

#[test]
fn a_router_speaks_from_its_address_on_the_link() {
    // [rfc4861 6.1.2]
    let bytes = "8600 0000 40 00 0708 00000000 00000000";
    assert_eq!(refusal(&ip("fe80::1", "ff02::1"), bytes), None);
    for source in ["2001:db8::1", "::", "fec0::1"] {
        assert_eq!(refusal(&ip(source, "ff02::1"), bytes), Some(Malformed::Value), "{source}");
    }
}

#[test]
fn solicitations_that_cannot_be() {
    // [rfc4861 7.1.1]
    let bytes = |target: &str, options: &str| {
        let target = Ipv6Addr::octets(&address(target)).map(|byte| format!("{byte:02x}")).concat();
        format!("8700 0000 00000000 {target} {options}")
    };
    let own = "0101 020000000007";
    let table = [
        ("fe80::1", "ff02::1:ff00:2", "fe80::2", own, None),
        ("fe80::1", "fe80::2", "fe80::2", "", None),
        ("::", "ff02::1:ff00:2", "fe80::2", "", None),
        ("fe80::1", "ff02::1:ff00:2", "ff02::2", "", Some(Malformed::Value)),
        ("::", "fe80::2", "fe80::2", "", Some(Malformed::Value)),
        ("::", "ff02::1", "fe80::2", "", Some(Malformed::Value)),
        ("::", "ff02::1:ff00:2", "fe80::2", own, Some(Malformed::Value)),
    ];
    for (source, destination, target, options, expected) in table {
        let result = refusal(&ip(source, destination), &bytes(target, options));
        assert_eq!(result, expected, "{source} {destination} {target} {options}");
    }
}

#[test]
fn advertisements_that_cannot_be() {
    // [rfc4861 7.1.2]
    let solicited = "8800 0000 40000000 fe800000000000000000000000000002";
    assert_eq!(refusal(&link_local(), solicited), None);
    assert_eq!(refusal(&ip("fe80::2", "ff02::1"), solicited), Some(Malformed::Value));
    let to_all = "8800 0000 20000000 fe800000000000000000000000000002";
    assert_eq!(refusal(&ip("fe80::2", "ff02::1"), to_all), None);
    let of_a_group = "8800 0000 20000000 ff020000000000000000000000000002";
    assert_eq!(refusal(&link_local(), of_a_group), Some(Malformed::Value));
}

#[test]
fn redirects_that_cannot_be() {
    // [rfc4861 8.1]
    let (hop, global, group) = (
        "fe800000000000000000000000000003",
        "20010db8000000000000000000000009",
        "ff020000000000000000000000000002",
    );
    let table = [
        ("fe80::1", hop, global, None),
        ("fe80::1", global, global, None),
        ("2001:db8::1", hop, global, Some(Malformed::Value)),
        ("fe80::1", hop, group, Some(Malformed::Value)),
        ("fe80::1", global, hop, Some(Malformed::Value)),
    ];
    for (source, target, destination, expected) in table {
        let bytes = format!("8900 0000 00000000 {target} {destination}");
        assert_eq!(refusal(&ip(source, "fe80::2"), &bytes), expected, "{source} {target} {destination}");
    }
}

fn advertised(options: &str) -> RouterAdvertisement {
    let bytes = hex(&format!("8600 0000 40 00 0708 00000000 00000000 {options}"));
    match Message::parse(&ip("fe80::1", "ff02::1"), &bytes) {
        Ok(Message::RouterAdvertisement(router)) => router,
        other => panic!("{other:?}"),
    }
}

#[test]
fn prefixes_lose_what_is_behind_them_and_are_limited() {
    // [rfc4861 4.6.2-prefix]
    let prefix = |length: u8| format!("0304 {length:02x}80 00000001 00000001 00000000 {}", "ff".repeat(16));
    for (length, expected) in [
        (0, "::"),
        (1, "8000::"),
        (64, "ffff:ffff:ffff:ffff::"),
        (127, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
    ] {
        let router = advertised(&prefix(length));
        assert_eq!(router.prefixes[0].unwrap().prefix, address(expected));
    }
    assert_eq!(advertised(&prefix(129)).prefixes, [None; MOST_PREFIXES]);
    let many = advertised(&format!("{} 0501 0000 00000500", prefix(8).repeat(20)));
    assert!(many.prefixes.iter().all(Option::is_some));
    assert_eq!(many.mtu, Some(1280));
}

#[test]
fn servers_of_one_option_and_of_several_are_taken_in_order() {
    // [rfc8106 5.3.1-length]
    let server = |last: u8| format!("20010db80000000000000000000000{last:02x}");
    let two = format!("1905 0000 0000000a {}{}", server(1), server(2));
    let one = format!("1903 0000 0000000b {}", server(3));
    let half = "1902 0000 0000000c 20010db800000000".to_string();
    let router = advertised(&format!("{two} {half} {one} {two}"));
    let servers: Vec<_> = router
        .dns_servers
        .iter()
        .flatten()
        .map(|server| (server.address.octets()[15], server.lifetime))
        .collect();
    assert_eq!(servers, [(1, 10), (2, 10), (3, 11), (1, 10)]);
}

#[test]
fn a_corpus_of_broken_messages_parses_or_is_refused() {
    let options = "0101 020000000007 0501 0000 000005dc 1903 0000 00000e10 20010db8000000000000000000000053";
    for message in every_kind() {
        let bytes = [emitted(&message), hex(options)].concat();
        for bytes in mutations(&bytes) {
            if let Ok(message) = Message::parse(&link_local(), &bytes) {
                assert_eq!(Message::parse(&link_local(), &emitted(&message)), Ok(message));
            }
        }
    }
}

/// One of each, as short as it can be.
fn every_kind() -> [Message; 5] {
    let (target, destination) = (address("fe80::2"), address("2001:db8::9"));
    let neighbor = NeighborAdvertisement {
        target,
        router: true,
        solicited: false,
        replaces: true,
        target_link_layer: None,
    };
    [
        Message::RouterSolicitation { source_link_layer: None },
        Message::RouterAdvertisement(RouterAdvertisement::default()),
        Message::NeighborSolicitation { target, source_link_layer: None },
        Message::NeighborAdvertisement(neighbor),
        Message::Redirect { target, destination, target_link_layer: None },
    ]
}

fn any_link_layer() -> impl Strategy<Value = Option<MacAddress>> {
    prop::option::of(any::<[u8; 6]>().prop_map(MacAddress))
}

fn any_unicast() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(|address| Ipv6Addr::from(address & !(1 << 127)))
}

fn any_prefix() -> impl Strategy<Value = PrefixInformation> {
    (any::<u128>(), 0u8..=128, any::<(bool, bool, u32, u32)>()).prop_map(|(prefix, length, fields)| {
        let (on_link, autonomous, valid_lifetime, preferred_lifetime) = fields;
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        let prefix = (prefix & mask).into();
        PrefixInformation { prefix, length, on_link, autonomous, valid_lifetime, preferred_lifetime }
    })
}

fn places<T: Copy, const MOST: usize>(values: &[T]) -> [Option<T>; MOST] {
    std::array::from_fn(|place| values.get(place).copied())
}

fn any_router() -> impl Strategy<Value = RouterAdvertisement> {
    let fields = any::<(u8, bool, bool, u16, u32, u32, Option<u32>)>();
    let servers = prop::collection::vec(any::<(u128, u32)>(), 0..=MOST_DNS_SERVERS);
    let prefixes = prop::collection::vec(any_prefix(), 0..=MOST_PREFIXES);
    (fields, any_link_layer(), prefixes, servers).prop_map(
        |(fields, source_link_layer, prefixes, servers)| {
            let (hop_limit, managed, other, lifetime, reachable_time, retransmit_time, mtu) = fields;
            let server = |(address, lifetime): (u128, u32)| DnsServer { address: address.into(), lifetime };
            let servers: Vec<_> = servers.into_iter().map(server).collect();
            let (prefixes, dns_servers) = (places(&prefixes), places(&servers));
            RouterAdvertisement {
                hop_limit,
                managed,
                other,
                lifetime,
                reachable_time,
                retransmit_time,
                source_link_layer,
                mtu,
                prefixes,
                dns_servers,
            }
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        any_link_layer().prop_map(|source_link_layer| Message::RouterSolicitation { source_link_layer }),
        any_router().prop_map(Message::RouterAdvertisement),
        (any_unicast(), any_link_layer()).prop_map(|(target, source_link_layer)| {
            Message::NeighborSolicitation { target, source_link_layer }
        }),
        (any_unicast(), any::<(bool, bool, bool)>(), any_link_layer()).prop_map(
            |(target, (router, solicited, replaces), target_link_layer)| {
                Message::NeighborAdvertisement(NeighborAdvertisement {
                    target,
                    router,
                    solicited,
                    replaces,
                    target_link_layer,
                })
            }
        ),
        (any_unicast(), any_link_layer()).prop_map(|(target, target_link_layer)| Message::Redirect {
            target,
            destination: target,
            target_link_layer
        }),
    ]
}

/// What etherparse finds in the options; it does not know servers of names.
fn options_of<'a>(options: impl Iterator<Item = NdpOptionSlice<'a>>) -> RouterAdvertisement {
    let mut found = RouterAdvertisement::default();
    let mut prefixes = Vec::new();
    for option in options {
        match option {
            NdpOptionSlice::SourceLinkLayerAddress(address) => {
                found.source_link_layer = Some(MacAddress(address.link_layer_address().try_into().unwrap()));
            }
            NdpOptionSlice::TargetLinkLayerAddress(address) => {
                found.source_link_layer = Some(MacAddress(address.link_layer_address().try_into().unwrap()));
            }
            NdpOptionSlice::Mtu(mtu) => found.mtu = Some(mtu.mtu()),
            NdpOptionSlice::PrefixInformation(prefix) => prefixes.push(PrefixInformation {
                prefix: prefix.prefix().into(),
                length: prefix.prefix_length(),
                on_link: prefix.on_link(),
                autonomous: prefix.autonomous_address_configuration(),
                valid_lifetime: prefix.valid_lifetime(),
                preferred_lifetime: prefix.preferred_lifetime(),
            }),
            NdpOptionSlice::Unknown(option) => assert_eq!(option.option_type().0, 25),
            other => panic!("{other:?} is not sent"),
        }
    }
    found.prefixes = places(&prefixes);
    found
}

fn from_etherparse(bytes: &[u8]) -> Message {
    let message = Icmpv6Slice::from_slice(bytes).unwrap();
    match (message.icmp_type(), message.payload_slice().unwrap()) {
        (_, Icmpv6PayloadSlice::RouterSolicitation(payload)) => {
            let options = options_of(payload.options_iterator().map(Result::unwrap));
            Message::RouterSolicitation { source_link_layer: options.source_link_layer }
        }
        (Icmpv6Type::RouterAdvertisement(header), Icmpv6PayloadSlice::RouterAdvertisement(payload)) => {
            Message::RouterAdvertisement(RouterAdvertisement {
                hop_limit: header.cur_hop_limit,
                managed: header.managed_address_config,
                other: header.other_config,
                lifetime: header.router_lifetime,
                reachable_time: payload.reachable_time(),
                retransmit_time: payload.retrans_timer(),
                ..options_of(payload.options_iterator().map(Result::unwrap))
            })
        }
        (_, Icmpv6PayloadSlice::NeighborSolicitation(payload)) => {
            let options = options_of(payload.options_iterator().map(Result::unwrap));
            let (target, source_link_layer) = (payload.target_address(), options.source_link_layer);
            Message::NeighborSolicitation { target, source_link_layer }
        }
        (Icmpv6Type::NeighborAdvertisement(header), Icmpv6PayloadSlice::NeighborAdvertisement(payload)) => {
            let options = options_of(payload.options_iterator().map(Result::unwrap));
            Message::NeighborAdvertisement(NeighborAdvertisement {
                target: payload.target_address(),
                router: header.router,
                solicited: header.solicited,
                replaces: header.r#override,
                target_link_layer: options.source_link_layer,
            })
        }
        (_, Icmpv6PayloadSlice::Redirect(payload)) => {
            let options = options_of(payload.options_iterator().map(Result::unwrap));
            Message::Redirect {
                target: payload.target_address(),
                destination: payload.destination_address(),
                target_link_layer: options.source_link_layer,
            }
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed_here_and_by_etherparse(message in any_message()) {
        let ip = link_local();
        let mut bytes = vec![0xa5; message.len()];
        message.emit(&mut bytes, icmpv6::pseudo_header(ip.source, ip.destination, message.len()));
        prop_assert_eq!(Message::parse(&ip, &bytes), Ok(message));
        let other = Icmpv6Slice::from_slice(&bytes).unwrap();
        prop_assert!(other.is_checksum_valid(ip.source.octets(), ip.destination.octets()));
        let expected = match message {
            Message::RouterAdvertisement(router) => Message::RouterAdvertisement(RouterAdvertisement {
                dns_servers: [None; MOST_DNS_SERVERS],
                ..router
            }),
            other => other,
        };
        prop_assert_eq!(from_etherparse(&bytes), expected);
    }

    #[test]
    fn what_etherparse_writes_is_read(mut router in any_router(), prefix in any_prefix()) {
        router.prefixes = places(&[prefix]);
        (router.source_link_layer, router.mtu, router.dns_servers) = (None, None, [None; MOST_DNS_SERVERS]);
        let payload = etherparse::icmpv6::RouterAdvertisementPayload {
            reachable_time: router.reachable_time,
            retrans_timer: router.retransmit_time,
        };
        let option = etherparse::icmpv6::PrefixInformation {
            prefix_length: prefix.length,
            on_link: prefix.on_link,
            autonomous_address_configuration: prefix.autonomous,
            valid_lifetime: prefix.valid_lifetime,
            preferred_lifetime: prefix.preferred_lifetime,
            prefix: prefix.prefix.octets(),
        };
        let rest = [&payload.to_bytes()[..], &option.to_bytes()].concat();
        let kind = Icmpv6Type::RouterAdvertisement(etherparse::icmpv6::RouterAdvertisementHeader {
            cur_hop_limit: router.hop_limit,
            managed_address_config: router.managed,
            other_config: router.other,
            router_lifetime: router.lifetime,
        });
        let bytes = [&Icmpv6Header::new(kind).to_bytes()[..], &rest].concat();
        prop_assert_eq!(Message::parse(&link_local(), &bytes), Ok(Message::RouterAdvertisement(router)));
    }

    #[test]
    fn anything_parses_or_is_refused(
        kind in 132u8..139, options_at in prop::sample::select(vec![8usize, 16, 24, 40]),
        mut bytes in prop::collection::vec(any::<u8>(), 4..160), kinds in prop::collection::vec(0u8..30, 20),
    ) {
        (bytes[0], bytes[1]) = (kind, 0);
        for (place, kind) in (options_at..bytes.len().saturating_sub(1)).step_by(8).zip(kinds) {
            (bytes[place], bytes[place + 1]) = (kind, bytes[place + 1] % 6);
        }
        let _ = Message::parse(&link_local(), &bytes);
    }
}
