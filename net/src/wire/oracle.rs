//! What etherparse makes of formats whose own tests do not ask it: tags, ARP, fragments, queries of IGMP, sums.

use super::checksum::Sum;
use super::ethernet::{self, MacAddress};
use super::multicast::{Query, Sources};
use super::{arp, igmp, ipv4, ipv6};
use etherparse::checksum::u64_16bit_word;
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacket, EtherType, Ethernet2Header, IgmpSlice, IpFragOffset, IpNumber,
    Ipv4HeaderSlice, Ipv6FragmentHeader, SingleVlanHeader, SlicedPacket, VlanId,
};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

fn emitted(length: usize, emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0xa5; length];
    emit(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn sums_of_pieces(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5)) {
        let ours = pieces.iter().fold(Sum::ZERO, |sum, piece| sum.then(Sum::of(piece)));
        let whole = pieces.concat();
        let theirs = u64_16bit_word::add_slice(0, &whole);
        prop_assert_eq!(ours.checksum().to_ne_bytes(), u64_16bit_word::ones_complement(theirs).to_be_bytes());
    }

    #[test]
    fn tags(addresses: ([u8; 6], [u8; 6]), tags in prop::collection::vec((0u16..4096, 0u8..8, any::<bool>()), 0..3), ether_type in 0x0800u16..0x8000) {
        let kind = |place: usize| match tags.len() - place {
            0 => EtherType(ether_type),
            2 => EtherType::PROVIDER_BRIDGING,
            _ => EtherType::VLAN_TAGGED_FRAME,
        };
        let ethernet = Ethernet2Header { source: addresses.0, destination: addresses.1, ether_type: kind(0) };
        let mut bytes = ethernet.to_bytes().to_vec();
        for (place, (number, priority, eligible)) in tags.iter().enumerate() {
            let tag = SingleVlanHeader {
                pcp: (*priority).try_into().unwrap(),
                drop_eligible_indicator: *eligible,
                vlan_id: VlanId::try_new(*number).unwrap(),
                ether_type: kind(place + 1),
            };
            bytes.extend(tag.to_bytes());
        }
        let header = ethernet::Header {
            source: MacAddress(addresses.0),
            destination: MacAddress(addresses.1),
            vlan: tags.last().map(|tag| tag.0),
            ether_type,
        };
        prop_assert_eq!(ethernet::Header::parse(&bytes), Ok((header, bytes.len())));
        // And back: with one tag at most, of no priority.
        let ours = emitted(header.header_len(), |bytes| header.emit(bytes));
        let (found, rest) = Ethernet2Header::from_slice(&ours).unwrap();
        prop_assert_eq!((found.source, found.destination), addresses);
        let inner = match header.vlan {
            None => found.ether_type,
            Some(number) => {
                let (tag, _) = SingleVlanHeader::from_slice(rest).unwrap();
                prop_assert_eq!((tag.vlan_id.value(), tag.pcp.value()), (number, 0));
                tag.ether_type
            }
        };
        prop_assert_eq!(inner.0, ether_type);
    }

    #[test]
    fn arp_both_ways(asks: bool, hardware: ([u8; 6], [u8; 6]), protocol: ([u8; 4], [u8; 4])) {
        let packet = arp::Packet {
            operation: if asks { arp::Operation::Request } else { arp::Operation::Reply },
            sender_hardware: MacAddress(hardware.0),
            sender_protocol: protocol.0.into(),
            target_hardware: MacAddress(hardware.1),
            target_protocol: protocol.1.into(),
        };
        let other = ArpEthIpv4Packet {
            operation: if asks { ArpOperation::REQUEST } else { ArpOperation::REPLY },
            sender_mac: hardware.0,
            sender_ipv4: protocol.0,
            target_mac: hardware.1,
            target_ipv4: protocol.1,
        };
        let bytes = emitted(arp::PACKET, |bytes| packet.emit(bytes));
        prop_assert_eq!(ArpPacket::from_slice(&bytes).unwrap().try_eth_ipv4(), Ok(other.clone()));
        let theirs = ArpPacket::from(other).to_bytes();
        prop_assert_eq!(&theirs[..], &bytes[..]);
        prop_assert_eq!(arp::Packet::parse(&theirs), Ok(packet));
    }

    #[test]
    fn fragments_both_ways(next_header: u8, units in 0u16..8192, more: bool, identification: u32, v4: (u16, bool)) {
        let fragment = ipv6::Fragment { next_header, offset: units * 8, more, identification };
        let other = Ipv6FragmentHeader {
            next_header: IpNumber(next_header),
            fragment_offset: IpFragOffset::try_new(units).unwrap(),
            more_fragments: more,
            identification,
        };
        let bytes = emitted(ipv6::Fragment::HEADER, |bytes| fragment.emit(bytes));
        prop_assert_eq!(Ipv6FragmentHeader::from_slice(&bytes).unwrap().0, other.clone());
        prop_assert_eq!(&other.to_bytes()[..], &bytes[..]);

        let header = ipv4::Header {
            identification: v4.0,
            dont_fragment: v4.1,
            more_fragments: more,
            fragment_offset: units * 8,
            ..ipv4::Header::default()
        };
        let bytes = emitted(header.header_len(), |bytes| header.emit(bytes));
        let other = Ipv4HeaderSlice::from_slice(&bytes).unwrap();
        prop_assert_eq!((other.fragments_offset().value(), other.more_fragments()), (units, more));
        prop_assert_eq!((other.identification(), other.dont_fragment()), v4);
        prop_assert_eq!(other.is_fragmenting_payload(), header.is_fragment());
    }

    #[test]
    fn etherparse_reads_queries(
        group in prop::option::of(0xe000_0000u32..0xf000_0000), tenths in 0u16..=127, suppress: bool, robustness in 0u8..8,
        seconds in 0u64..=127, sources in prop::collection::vec(any::<u32>(), 0..5),
    ) {
        let sources: Vec<Ipv4Addr> = sources.into_iter().map(Ipv4Addr::from).collect();
        let query = igmp::Message::QueryV3(Query {
            group: group.map(Ipv4Addr::from),
            max_response: Duration::from_millis(u64::from(tenths) * 100),
            suppress,
            robustness,
            interval: Duration::from_secs(seconds),
            sources: Sources::new(&sources),
        });
        let bytes = emitted(query.len(), |bytes| query.emit(bytes));
        let IgmpSlice::MembershipQueryWithSources(other) = IgmpSlice::from_slice(&bytes).unwrap() else {
            panic!("a query with sources")
        };
        prop_assert_eq!(other.max_response_code().as_10th_secs(), tenths);
        prop_assert_eq!(other.group_address().octets, group.unwrap_or(0).to_be_bytes());
        prop_assert_eq!((other.s_flag(), other.qrv().value()), (suppress, robustness));
        prop_assert_eq!(u64::from(other.qqic()), seconds);
        prop_assert!(other.source_addresses().map(Ipv4Addr::from).eq(sources.iter().copied()));
    }
}

/// A router alert stands where etherparse finds an option of its length and value.
#[test]
fn alerts_of_both_versions() {
    let header = ipv4::Header { router_alert: true, protocol: 2, ..ipv4::Header::default() };
    let bytes = emitted(header.header_len(), |bytes| header.emit(bytes));
    let other = Ipv4HeaderSlice::from_slice(&bytes).unwrap();
    assert_eq!((other.options(), other.ihl()), (&[148, 4, 0, 0][..], 6));

    let fixed = ipv6::Header { next_header: 0, payload_len: 16, ..ipv6::Header::default() };
    let mut bytes = emitted(ipv6::HEADER, |bytes| fixed.emit(bytes));
    bytes.extend(ipv6::HOP_BY_HOP_ROUTER_ALERT);
    bytes.extend([143, 0, 0, 0, 0, 0, 0, 0]);
    let sliced = SlicedPacket::from_ip(&bytes).unwrap();
    let chain = ipv6::Chain::walk(&fixed, &bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv6(ip)) = sliced.net else { panic!("a packet of IPv6") };
    assert_eq!(ip.payload().ip_number.0, chain.protocol);
    assert_eq!(ip.payload().payload, &bytes[chain.payload..]);
}
