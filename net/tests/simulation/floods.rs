//! What comes from outside meets limits, and never makes a host panic.

use super::*;
use demikernel_net::stack::Counter;
use demikernel_net::tcp;
use demikernel_net::wire::checksum::Sum;
use demikernel_net::wire::ip::protocol;
use demikernel_net::wire::ipv4;
use demikernel_net::wire::tcp::{Flags, Options, Segment, SequenceNumber, set_checksum};
use demikernel_runtime::buffer::pool;
use proptest::prelude::*;

const HERE: [u8; 4] = [10, 0, 0, 1];

fn host() -> Host {
    Host::new(HostConfig::new([HERE.into(), "fd00::1".parse().unwrap()]).seed(5))
}

fn packet(source: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = ipv4::Header {
        source: source.into(),
        destination: HERE.into(),
        protocol,
        payload_len: payload.len() as u16,
        ..ipv4::Header::default()
    };
    let mut bytes = vec![0; 20];
    header.emit(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn segment(source: [u8; 4], segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; segment.header_len()];
    let _ = segment.emit(&mut bytes);
    bytes.extend_from_slice(payload);
    let pseudo_header = Sum::pseudo_header_v4(source.into(), HERE.into(), protocol::TCP, bytes.len() as u16);
    let sum = pseudo_header.then(Sum::of(&bytes)).checksum();
    set_checksum(&mut bytes, sum);
    packet(source, protocol::TCP, &bytes)
}

/// [rfc4987 3.6]: a flood of SYNs leaves as many half-open connections as there may be; others are answered with
/// cookies, and who sends one back is served.
#[test]
fn a_flood_of_syns_is_answered_with_cookies() {
    let mut host = host();
    let listener = listen(&mut host, address("10.0.0.1:80"));
    let syn = |number: u32| Segment {
        source: (number % 60_000) as u16 + 1,
        destination: 80,
        sequence: SequenceNumber::new(number),
        flags: Flags::SYN,
        window: 1000,
        options: Options { maximum_segment_size: Some(1460), ..Options::default() },
        ..Segment::default()
    };
    let flooder = |number: u32| [10, 9, (number >> 8) as u8, number as u8];
    for number in 0..20_000 {
        host.inject(&segment(flooder(number), &syn(number), b""));
        host.extract();
    }
    assert_eq!(host.stack().sockets(), 1024 + 1);
    host.inject(&segment([10, 8, 0, 1], &syn(7), b""));
    while host.stack().is_busy() {}
    let mut answer = None;
    while let Some(packet) = host.extract() {
        answer = Some(packet);
    }
    let answer = answer.unwrap();
    let (cookie, _) = Segment::parse(&answer[20..]).unwrap();
    assert_eq!(cookie.flags, Flags::SYN | Flags::ACK);
    let ack = Segment {
        sequence: cookie.acknowledgment,
        acknowledgment: cookie.sequence + 1,
        flags: Flags::ACK,
        options: Options::default(),
        ..syn(7)
    };
    let forged = Segment { acknowledgment: ack.acknowledgment + 12_345, ..ack };
    host.inject(&segment([10, 8, 0, 1], &forged, b""));
    assert_errno(host.accept(listener), libc::EAGAIN);
    host.inject(&segment([10, 8, 0, 1], &ack, b"hello"));
    let (socket, _) = host.accept(listener).unwrap();
    assert_eq!(host.recv(socket, 10).unwrap(), b"hello");
    let counter = |name: &str| host.stack().counters().iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!((counter("tcp_cookies_received"), counter("tcp_cookies_failed")), (1, 1));
}

#[test]
fn answers_to_nobodys_packets_are_limited() {
    let mut host = host();
    let ack = Segment { source: 1, destination: 9, flags: Flags::ACK, ..Segment::default() };
    for number in 0..30_000u32 {
        host.inject(&segment([10, 9, (number >> 8) as u8, number as u8], &ack, b""));
        host.inject(&packet([10, 9, 1, 1], protocol::UDP, &[0, 1, 0, 9, 0, 8, 0, 0]));
        host.inject(&packet([10, 9, 1, 1], 99, b""));
    }
    assert_eq!(host.stack().counter(Counter::ResetsSent), 10_000);
    assert_eq!(host.stack().counter(Counter::ResetsLimited), 20_000);
    // To one host a few at once, and to all no more than these. [rfc1812 4.3.2.8]
    assert_eq!(host.stack().counter(Counter::IcmpLimited), 60_000 - 6);
    for number in 0..10_000u32 {
        host.inject(&packet([10, 8, (number >> 8) as u8, number as u8], 99, b""));
    }
    assert_eq!(host.stack().counter(Counter::IcmpLimited), 70_000 - 50);
}

#[test]
fn fragments_that_never_become_whole_are_given_up() {
    let mut host = host();
    let before = pool::stats().in_use();
    for number in 0..50_000u32 {
        let header = ipv4::Header {
            source: [10, 9, 0, 1].into(),
            destination: HERE.into(),
            protocol: protocol::UDP,
            identification: number as u16,
            more_fragments: true,
            fragment_offset: (number % 8 * 1000) as u16 / 8 * 8,
            payload_len: 1000,
            ..ipv4::Header::default()
        };
        let mut bytes = vec![0; 1020];
        header.emit(&mut bytes);
        host.inject(&bytes);
    }
    let kept = pool::stats().in_use().saturating_sub(before);
    assert!(kept <= 2 << 20, "{kept} bytes are kept");
    host.advance_to(host.now() + Duration::from_secs(61));
    assert_eq!(host.next_deadline(), None);
    assert!(pool::stats().in_use() <= before + (64 << 10));
}

#[test]
fn segments_out_of_order_are_kept_within_the_window() {
    let mut config = HostConfig::new([HERE.into()]);
    config.tcp =
        tcp::Config { receive_buffer: 64 << 10, receive_buffer_most: 64 << 10, ..tcp::Config::default() };
    let mut host = Host::new(config);
    let listener = listen(&mut host, address("10.0.0.1:80"));
    let peer = [10, 0, 0, 2];
    let base = Segment { source: 5, destination: 80, window: 60_000, ..Segment::default() };
    host.inject(&segment(peer, &Segment { flags: Flags::SYN, ..base }, b""));
    let answer = host.extract().unwrap();
    let (answer, _) = Segment::parse(&answer[20..]).unwrap();
    let ack = Segment {
        sequence: SequenceNumber::new(1),
        acknowledgment: answer.sequence + 1,
        flags: Flags::ACK,
        ..base
    };
    host.inject(&segment(peer, &ack, b""));
    host.accept(listener).unwrap();
    let before = pool::stats().in_use();
    for number in 0..100_000u32 {
        // Every other octet, over and over, in pieces that touch nothing.
        let sequence = SequenceNumber::new(3 + number * 2 % 100_000);
        host.inject(&segment(peer, &Segment { sequence, ..ack }, b"x"));
        while host.extract().is_some() {}
    }
    let kept = pool::stats().in_use().saturating_sub(before);
    assert!(kept <= 1 << 20, "{kept} bytes are kept of a window of 64 KiB");
}

/// Bytes that look like packets: without these, hardly any would get past the first check.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let tcp =
        (any::<u8>(), any::<u32>(), any::<u32>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(flags, sequence, acknowledgment, window, payload)| {
                let parsed = Segment {
                    source: 5,
                    destination: 80,
                    // Near to what counts, half of the time.
                    sequence: SequenceNumber::new(if sequence & 1 == 0 { sequence >> 16 } else { sequence }),
                    acknowledgment: SequenceNumber::new(acknowledgment),
                    flags: Flags::from_bits(flags),
                    window,
                    ..Segment::default()
                };
                segment([10, 0, 0, 2], &parsed, &payload)
            });
    let other = (
        prop_oneof![Just(protocol::TCP), Just(protocol::UDP), Just(protocol::ICMP), any::<u8>()],
        prop::collection::vec(any::<u8>(), 0..100),
    )
        .prop_map(|(protocol, payload)| packet([10, 0, 0, 2], protocol, &payload));
    let v6 = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(next_header, payload)| {
        let header = demikernel_net::wire::ipv6::Header {
            source: "fd00::2".parse().unwrap(),
            destination: "fd00::1".parse().unwrap(),
            next_header,
            payload_len: payload.len() as u16,
            ..Default::default()
        };
        let mut bytes = vec![0; 40];
        header.emit(&mut bytes);
        bytes.extend_from_slice(&payload);
        bytes
    });
    prop_oneof![tcp, other, v6, prop::collection::vec(any::<u8>(), 0..120)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_bytes_are_dropped_or_answered(packets in prop::collection::vec((likely(), 0..2000u64), 1..60)) {
        let mut host = host();
        let listener = listen(&mut host, address("10.0.0.1:80"));
        let datagrams = host.socket(Domain::V4, SocketKind::Datagram).unwrap();
        host.bind(datagrams, address("10.0.0.1:53")).unwrap();
        let client = connect(&mut host, address("10.0.0.2:5"));
        for (packet, milliseconds) in packets {
            host.inject(&packet);
            host.advance_to(host.now() + Duration::from_millis(milliseconds));
            while let Some(answer) = host.extract() {
                prop_assert!(answer.len() <= 1500);
            }
            if let Ok((socket, _)) = host.accept(listener) {
                let _ = host.recv(socket, 100);
                let _ = host.send(socket, b"hello");
                let _ = host.close(socket);
            }
            let _ = host.recvfrom(datagrams, 100);
        }
        let _ = host.close(client);
        host.close(listener).unwrap();
        host.close(datagrams).unwrap();
        host.advance_to(host.now() + Duration::from_secs(4000));
        while host.extract().is_some() {}
        prop_assert_eq!(host.stack().sockets(), 0);
        prop_assert_eq!(host.next_deadline(), None);
    }
}
