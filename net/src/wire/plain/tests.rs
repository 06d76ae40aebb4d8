//! What is said here of a packet is what the parsers and emitters of each layer say.

use super::*;
use crate::wire::ip::{TrafficClass, protocol};
use crate::wire::tcp::{self, Flags, Options, Segment, SequenceNumber, Timestamps};
use crate::wire::{ipv4, udp};
use proptest::prelude::*;
use std::ops::Range;

const LINK_HEADER: [u8; LINK] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

fn around() -> impl Strategy<Value = Around> {
    any::<(u32, u32, u8, u8)>().prop_map(|(source, destination, hops, class)| Around {
        source,
        destination,
        hops,
        class,
    })
}

fn plain() -> impl Strategy<Value = Plain> {
    any::<(u32, u32, u16, bool, Option<(u32, u32)>)>().prop_map(
        |(sequence, acknowledgment, window, pushes, stamps)| Plain {
            sequence: SequenceNumber::new(sequence),
            acknowledgment: SequenceNumber::new(acknowledgment),
            window,
            pushes,
            timestamps: stamps.map(|(value, echo)| Timestamps { value, echo }),
        },
    )
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..120)
}

fn header(around: &Around, protocol: u8, length: usize) -> ipv4::Header {
    ipv4::Header {
        source: around.source.into(),
        destination: around.destination.into(),
        protocol,
        time_to_live: around.hops,
        traffic_class: TrafficClass::from_bits(around.class),
        payload_len: length as u16,
        ..ipv4::Header::default()
    }
}

/// The packet as the emitters of each layer make it; without payload in its checksum if a device is to complete it.
fn segment_by_layers(around: &Around, segment: &Segment, payload: &[u8], complete: bool) -> Vec<u8> {
    let length = segment.header_len() + payload.len();
    let mut bytes = vec![0; ipv4::MINIMUM_HEADER + segment.header_len()];
    ipv4::Header { dont_fragment: true, ..header(around, protocol::TCP, length) }.emit(&mut bytes);
    let l4 = &mut bytes[ipv4::MINIMUM_HEADER..];
    let sum = segment.emit(l4);
    let (source, destination) = (around.source.into(), around.destination.into());
    let pseudo_header = Sum::pseudo_header_v4(source, destination, protocol::TCP, length as u16);
    let whole = pseudo_header.then(sum).then(Sum::of(payload)).checksum();
    tcp::set_checksum(l4, if complete { whole } else { pseudo_header.fold() });
    bytes.extend(payload);
    bytes
}

fn datagram_by_layers(around: &Around, ports: (u16, u16), identification: u16, payload: &[u8]) -> Vec<u8> {
    let length = udp::HEADER + payload.len();
    let mut bytes = vec![0; ipv4::MINIMUM_HEADER + udp::HEADER];
    ipv4::Header { identification, ..header(around, protocol::UDP, length) }.emit(&mut bytes);
    let l4 = &mut bytes[ipv4::MINIMUM_HEADER..];
    let sum =
        udp::Header { source: ports.0, destination: ports.1, payload_len: payload.len() as u16 }.emit(l4);
    let (source, destination) = (around.source.into(), around.destination.into());
    let pseudo_header = Sum::pseudo_header_v4(source, destination, protocol::UDP, length as u16);
    udp::set_checksum(l4, pseudo_header.then(sum).then(Sum::of(payload)).checksum());
    bytes.extend(payload);
    bytes
}

/// A plain packet, as far as the parsers of each layer let one be.
fn parsed_by_layers(packet: &[u8]) -> Option<(ipv4::Header, Range<usize>)> {
    let (header, payload) = ipv4::Header::parse(packet).ok()?;
    let addresses = [header.source, header.destination];
    let plain = payload.start == ipv4::MINIMUM_HEADER && !header.is_fragment();
    (plain && !addresses.iter().any(std::net::Ipv4Addr::is_loopback)).then_some((header, payload))
}

fn pseudo_header(header: &ipv4::Header, length: usize) -> Sum {
    Sum::pseudo_header_v4(header.source, header.destination, header.protocol, length as u16)
}

fn check_segment(packet: &[u8]) -> Result<bool, TestCaseError> {
    let Some((around, protocol::TCP, end)) = Around::parse(packet, false) else { return Ok(false) };
    let Some((plain, ports, payload)) = Plain::parse(packet, &around, end, false) else { return Ok(false) };
    let (header, range) = parsed_by_layers(packet).expect("it is a plain packet");
    prop_assert_eq!(
        (around.source, around.destination),
        (header.source.to_bits(), header.destination.to_bits())
    );
    prop_assert_eq!((around.hops, around.class), (header.time_to_live, header.traffic_class.bits()));
    let bytes = &packet[range.clone()];
    prop_assert_eq!(tcp::verify(pseudo_header(&header, bytes.len()), bytes), Ok(()));
    let (segment, start) = Segment::parse(bytes).expect("it is a segment");
    let urgent = segment.urgent;
    prop_assert_eq!(Segment { urgent, ..plain.segment((ports >> 16) as u16, ports as u16) }, segment);
    prop_assert_eq!(payload, range.start + start..range.end);
    Ok(true)
}

fn check_datagram(packet: &[u8]) -> Result<bool, TestCaseError> {
    let Some((around, protocol::UDP, end)) = Around::parse(packet, false) else { return Ok(false) };
    let Some((ports, payload)) = parse_datagram(packet, &around, end, false) else { return Ok(false) };
    let (header, range) = parsed_by_layers(packet).expect("it is a plain packet");
    let (datagram, inside) = udp::Header::parse(&packet[range.clone()]).expect("it is a datagram");
    let bytes = &packet[range.start..range.start + inside.end];
    let good = udp::verify(crate::wire::ip::Version::V4, pseudo_header(&header, bytes.len()), bytes);
    prop_assert_eq!(good, Ok(()));
    prop_assert_eq!(ports, u32::from(datagram.source) << 16 | u32::from(datagram.destination));
    prop_assert_eq!(payload, range.start + inside.start..range.start + inside.end);
    Ok(true)
}

#[test]
fn segments_that_say_more_are_not_plain() {
    let around = Around { source: 0x0a00_0001, destination: 0x0a00_0002, hops: 64, class: 0 };
    let stamps = Options { timestamps: Some(Timestamps::default()), ..Options::default() };
    let mut sack = stamps;
    sack.sack.push(tcp::SackBlock::default());
    for (flags, options, expected) in [
        (Flags::ACK, stamps, true),
        (Flags::ACK | Flags::PSH, Options::default(), true),
        (Flags::ACK | Flags::FIN, stamps, false),
        (Flags::ACK | Flags::URG, stamps, false),
        (Flags::ACK | Flags::ECE, stamps, false),
        (Flags::RST, Options::default(), false),
        (Flags::SYN, Options::default(), false),
        (Flags::ACK, sack, false),
        (Flags::ACK, Options { user_timeout: Some(7), ..stamps }, false),
    ] {
        let segment = Segment { flags, options, ..Segment::default() };
        let packet = segment_by_layers(&around, &segment, &[1; 40], true);
        assert_eq!(check_segment(&packet).expect("both agree"), expected, "{segment:?}");
        assert_eq!(Plain::of(&segment).is_some(), expected);
    }
}

proptest! {
    #[test]
    fn frames_are_those_of_the_emitters_of_each_layer(
        around in around(), plain in plain(), ports: (u16, u16), payload in payload(), complete: bool,
    ) {
        let segment = plain.segment(ports.0, ports.1);
        let sum = complete.then(|| Sum::of(&payload));
        let both = u32::from(ports.0) << 16 | u32::from(ports.1);
        let frame = plain.frame(&LINK_HEADER, &around, both, payload.len(), sum);
        let bytes = [&frame[..plain.frame_headers()], &payload].concat();
        prop_assert_eq!(&bytes[..LINK], &LINK_HEADER);
        prop_assert_eq!(&bytes[LINK..], segment_by_layers(&around, &segment, &payload, complete));
    }

    #[test]
    fn datagrams_are_those_of_the_emitters_of_each_layer(
        around in around(), ports: (u16, u16), identification: u16, payload in payload(),
    ) {
        let both = u32::from(ports.0) << 16 | u32::from(ports.1);
        let sum = Some(Sum::of(&payload));
        let frame = datagram_frame(&LINK_HEADER, &around, both, identification, payload.len(), sum);
        let bytes = [&frame[..], &payload].concat();
        prop_assert_eq!(&bytes[..LINK], &LINK_HEADER);
        prop_assert_eq!(&bytes[LINK..], datagram_by_layers(&around, ports, identification, &payload));
    }

    /// Every one that is not altered is known as one, if it is long enough; each other one, if the layers say the same.
    #[test]
    fn what_is_parsed_is_what_each_layer_says(
        around in around(), plain in plain(), ports: (u16, u16), payload in payload(), padding in 0usize..10,
        alteration in prop::option::of((0usize..200, 1u8..)), cut in 0usize..3,
    ) {
        prop_assume!(around.source >> 24 != LOOPBACK && around.destination >> 24 != LOOPBACK);
        let segment = segment_by_layers(&around, &plain.segment(ports.0, ports.1), &payload, true);
        let datagram = datagram_by_layers(&around, ports, 7, &payload);
        for (index, mut packet) in [segment, datagram].into_iter().enumerate() {
            packet.resize(packet.len() + padding, 0xa5);
            if let Some((place, change)) = alteration {
                let place = place % packet.len();
                packet[place] ^= change;
            } else {
                packet.truncate(packet.len() - cut);
            }
            let known = if index == 0 { check_segment(&packet)? } else { check_datagram(&packet)? };
            let whole = alteration.is_none() && cut <= padding;
            prop_assert!(known || !whole || packet.len() < 52);
        }
    }

    #[test]
    fn anything_is_known_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        check_segment(&bytes)?;
        check_datagram(&bytes)?;
    }
}
