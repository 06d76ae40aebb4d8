use super::*;
use crate::wire::ip::protocol::{ICMP, ICMPV6, TCP, UDP};
use demikernel_runtime::time::Duration;
use proptest::prelude::*;

const NOW: Instant = Instant::from_nanos(0);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn answers() -> Answers {
    Answers::new(Rates::default(), Key::new([4; 16]))
}

fn packet_v4(change: impl FnOnce(&mut ipv4::Header), payload: &[u8]) -> Vec<u8> {
    let mut header = ipv4::Header {
        source: PEER,
        destination: OWN,
        protocol: UDP,
        payload_len: payload.len() as u16,
        ..ipv4::Header::default()
    };
    change(&mut header);
    let mut bytes = vec![0; header.header_len()];
    header.emit(&mut bytes);
    bytes.extend(payload);
    bytes
}

fn packet_v6(change: impl FnOnce(&mut ipv6::Header), payload: &[u8]) -> Vec<u8> {
    let mut header = ipv6::Header {
        source: PEER6,
        destination: OWN6,
        next_header: UDP,
        payload_len: payload.len() as u16,
        ..ipv6::Header::default()
    };
    change(&mut header);
    let mut bytes = vec![0; ipv6::HEADER];
    header.emit(&mut bytes);
    bytes.extend(payload);
    bytes
}

fn bytes_of(answer: &Answer) -> Vec<u8> {
    [&answer.head[..], &answer.rest[..]].concat()
}

#[test]
fn an_echo_comes_back_as_it_was_sent() {
    // [rfc792 echo] [rfc1122 3.2.2.6]
    let echo = icmpv4::Echo { identifier: 7, sequence: 9 };
    let mut message = vec![0x5a; 1000];
    icmpv4::Message::EchoRequest(echo).emit(&mut message);
    let message = Buffer::from(message);
    let answer = answers().echo_v4(NOW, PEER, OWN, &message, false).unwrap();
    assert_eq!((answer.source, answer.destination), (Some(OWN.into()), PEER.into()));
    let bytes = bytes_of(&answer);
    assert_eq!(icmpv4::Message::parse(&bytes), Ok((icmpv4::Message::EchoReply(echo), 8)));
    assert_eq!(bytes[8..], message[8..]);
    assert_eq!(answer.rest.as_ptr(), message[8..].as_ptr(), "nothing is copied");
    // [rfc1122 3.2.2.6-broadcast]
    assert!(answers().echo_v4(NOW, PEER, OWN, &message, true).is_none());
    assert!(answers().echo_v4(NOW, PEER, Ipv4Addr::new(224, 0, 0, 1), &message, false).is_none());
    assert!(answers().echo_v4(NOW, Ipv4Addr::BROADCAST, OWN, &message, false).is_none());
}

#[test]
fn an_echo_of_zeros_has_a_checksum() {
    let echo = icmpv4::Message::EchoRequest(icmpv4::Echo::default());
    for length in [8, 64] {
        let mut message = vec![0; length];
        echo.emit(&mut message);
        let answer = answers().echo_v4(NOW, PEER, OWN, &message.into(), false).unwrap();
        let bytes = bytes_of(&answer);
        assert_eq!(bytes[2..4], [0xff; 2]);
        assert!(icmpv4::Message::parse(&bytes).is_ok());
    }
}

#[test]
fn an_echo_of_ipv6_comes_back_and_from_an_address_of_ours() {
    // [rfc4443 4.2-reply] [rfc4443 4.2-source] [rfc4443 4.2-multicast]
    for destination in [OWN6, ALL6] {
        let echo = icmpv6::Echo { identifier: 7, sequence: 9 };
        let mut message = vec![0x5a; 101];
        let pseudo_header = icmpv6::pseudo_header(PEER6, destination, message.len());
        icmpv6::Message::EchoRequest(echo).emit(&mut message, pseudo_header);
        let answer = answers().echo_v6(NOW, PEER6, destination, &message.into(), OWN6).unwrap();
        assert_eq!((answer.source, answer.destination), (Some(OWN6.into()), PEER6.into()));
        let bytes = bytes_of(&answer);
        let pseudo_header = icmpv6::pseudo_header(OWN6, PEER6, bytes.len());
        let parsed = icmpv6::Message::parse(&bytes, pseudo_header);
        assert_eq!(parsed, Ok((icmpv6::Message::EchoReply(echo), 8)));
    }
    let message = Buffer::from(vec![128, 0, 0, 0, 0, 0, 0, 0]);
    assert!(answers().echo_v6(NOW, Ipv6Addr::UNSPECIFIED, OWN6, &message, OWN6).is_none());
}

#[test]
fn complaints_say_what_is_wrong() {
    let table = [
        // [rfc1122 3.2.2.1-port] [rfc1122 3.2.2.1-protocol] [rfc1122 3.2.2.5]
        (Complaint::PortUnreachable, [3, 3, 0], [1, 4, 0]),
        // [rfc4443 3.1-port] [rfc4443 3.4] [rfc4443 3.3]
        (Complaint::UnknownProtocol { pointer: 6 }, [3, 2, 0], [4, 1, 6]),
        (Complaint::ReassemblyTimeout, [11, 1, 0], [3, 1, 0]),
        (
            Complaint::ParameterProblem { code: 0, pointer: 9, even_if_multicast: false },
            [12, 0, 9],
            [4, 0, 9],
        ),
    ];
    for (complaint, v4, v6) in table {
        let packet = packet_v4(|_| {}, &[1; 100]);
        let answer = answers().error_v4(NOW, &packet, complaint, false, false).unwrap();
        assert_eq!([answer.head[0], answer.head[1], answer.head[4]], v4, "{complaint:?}");
        assert!(Sum::of(&answer.head).is_valid());
        assert_eq!(answer.head[8..], packet);
        // [rfc1122 3.2.2-source]
        assert_eq!((answer.source, answer.destination), (Some(OWN.into()), PEER.into()));
        let packet = packet_v6(|_| {}, &[1; 100]);
        let answer = answers().error_v6(NOW, &packet, complaint, false, OWN6).unwrap();
        assert_eq!([answer.head[0], answer.head[1], answer.head[7]], v6, "{complaint:?}");
        assert!(icmpv6::pseudo_header(OWN6, PEER6, answer.head.len()).then(Sum::of(&answer.head)).is_valid());
        assert_eq!(answer.head[8..], packet);
    }
}

#[test]
fn quotations_are_cut_off() {
    // [rfc4443 2.4-c] [rfc1812 4.3.2.3]
    let packet = packet_v4(|_| {}, &[1; 2000]);
    let answer = answers().error_v4(NOW, &packet, Complaint::PortUnreachable, false, false).unwrap();
    assert_eq!(answer.head.len() + 20, 576);
    let packet = packet_v6(|_| {}, &[1; 2000]);
    let answer = answers().error_v6(NOW, &packet, Complaint::PortUnreachable, false, OWN6).unwrap();
    assert_eq!(answer.head.len() + 40, 1280);
}

#[test]
fn nobody_is_told_where_it_would_multiply() {
    let complain = |packet: &[u8], is_link_group, is_broadcast| {
        answers().error_v4(NOW, packet, Complaint::PortUnreachable, is_link_group, is_broadcast).is_some()
    };
    assert!(complain(&packet_v4(|_| {}, &[1; 8]), false, false));
    // [rfc1122 3.2.2-broadcast] [rfc1122 2.4]
    assert!(!complain(&packet_v4(|_| {}, &[1; 8]), true, false));
    assert!(!complain(&packet_v4(|_| {}, &[1; 8]), false, true));
    assert!(!complain(
        &packet_v4(|header| header.destination = Ipv4Addr::new(224, 0, 0, 1), &[1; 8]),
        false,
        false
    ));
    // [rfc1122 3.2.2-fragment]
    assert!(!complain(&packet_v4(|header| header.fragment_offset = 8, &[1; 8]), false, false));
    // [rfc1122 3.2.2-no-single-host]
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], [240, 0, 0, 1]] {
        let packet = packet_v4(|header| header.source = source.into(), &[1; 8]);
        assert!(!complain(&packet, false, false), "{source:?}");
    }
    // [rfc1122 3.2.2-no-error-about]
    for (kind, told) in [(8, true), (0, true), (3, false), (4, false), (5, false), (11, false), (12, false)] {
        let packet = packet_v4(|header| header.protocol = ICMP, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(complain(&packet, false, false), told, "{kind}");
    }
}

#[test]
fn nobody_is_told_in_ipv6_either() {
    let port = Complaint::PortUnreachable;
    let complain = |packet: &[u8], complaint, is_link_group| {
        answers().error_v6(NOW, packet, complaint, is_link_group, OWN6)
    };
    assert!(complain(&packet_v6(|_| {}, &[1; 8]), port, false).is_some());
    // [rfc4443 2.4-e4] [rfc4443 2.4-e5]
    assert!(complain(&packet_v6(|_| {}, &[1; 8]), port, true).is_none());
    let to_all = packet_v6(|header| header.destination = ALL6, &[1; 8]);
    assert!(complain(&to_all, port, false).is_none());
    // [rfc4443 2.4-e3] [rfc4443 2.2-source]
    let option = Complaint::ParameterProblem { code: 2, pointer: 42, even_if_multicast: true };
    assert_eq!(complain(&to_all, option, true).unwrap().source, Some(OWN6.into()));
    // [rfc4443 2.4-e6]
    for source in [Ipv6Addr::UNSPECIFIED, ALL6] {
        assert!(complain(&packet_v6(|header| header.source = source, &[1; 8]), port, false).is_none());
    }
    // [rfc4443 2.4-e1] [rfc4443 2.4-e2]
    for (kind, told) in [(128, true), (129, true), (1, false), (4, false), (100, false), (137, false)] {
        let message = [kind, 0, 0, 0, 0, 0, 0, 0];
        let packet = packet_v6(|header| header.next_header = ICMPV6, &message);
        assert_eq!(complain(&packet, port, false).is_some(), told, "{kind}");
        // Behind destination options too.
        let behind = [&[ICMPV6, 0, 1, 4, 0, 0, 0, 0], &message[..]].concat();
        let packet = packet_v6(|header| header.next_header = 60, &behind);
        assert_eq!(complain(&packet, port, false).is_some(), told, "{kind} behind options");
    }
}

#[test]
fn floods_are_answered_seldom() {
    // [rfc4443 2.4-f] [rfc1812 4.3.2.8]
    let mut answers = answers();
    let packet = packet_v4(|_| {}, &[1; 8]);
    let told = |answers: &mut Answers, now, packet: &[u8]| {
        answers.error_v4(now, packet, Complaint::PortUnreachable, false, false).is_some()
    };
    let from_one = (0..10_000).filter(|_| told(&mut answers, NOW, &packet)).count();
    assert_eq!(from_one, 6);
    assert!(told(&mut answers, NOW + Duration::from_secs(1), &packet));
    assert!(!told(&mut answers, NOW + Duration::from_secs(1), &packet));
    let mut answers = self::answers();
    let from_many = (0..10_000u32).filter(|number| {
        let packet = packet_v4(|header| header.source = Ipv4Addr::from_bits(0x0a00_0000 + number), &[1; 8]);
        told(&mut answers, NOW, &packet)
    });
    assert_eq!(from_many.count(), 50);
    assert_eq!(answers.suppressed(), 9950);
    let mut echo = vec![0; 8];
    icmpv4::Message::EchoRequest(icmpv4::Echo::default()).emit(&mut echo);
    let echo = Buffer::from(echo);
    let replies = (0..10_000).filter(|_| answers.echo_v4(NOW, PEER, OWN, &echo, false).is_some()).count();
    assert_eq!(replies, 1000);
}

fn failed(report: Option<Report>) -> Option<(i32, bool)> {
    match report?.what {
        What::Failed { errno, is_hard } => Some((errno, is_hard)),
        What::TooBig { .. } => None,
    }
}

#[test]
fn errors_have_the_numbers_of_linux() {
    use libc::{EACCES, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH, ENOPROTOOPT, EPROTO};
    let quote = packet_v4(|_| {}, &[1; 8]);
    // [rfc1122 3.2.2.1-report] [rfc5461 4.1] [rfc1122 4.2.3.9-soft]
    let table = [
        (0, Some((ENETUNREACH, false))),
        (1, Some((EHOSTUNREACH, false))),
        (2, Some((ENOPROTOOPT, true))),
        (3, Some((ECONNREFUSED, true))),
        (5, Some((libc::EOPNOTSUPP, false))),
        (6, Some((ENETUNREACH, true))),
        (7, Some((EHOSTDOWN, true))),
        (8, Some((libc::ENONET, true))),
        (9, Some((ENETUNREACH, true))),
        (10, Some((EHOSTUNREACH, true))),
        (11, Some((ENETUNREACH, false))),
        (12, Some((EHOSTUNREACH, false))),
        (13, Some((EHOSTUNREACH, true))),
        (15, Some((EHOSTUNREACH, true))),
        (16, None),
    ];
    for (code, expected) in table {
        let message = icmpv4::Message::DestinationUnreachable(icmpv4::Unreachable(code));
        assert_eq!(failed(report_v4(&message, &quote)), expected, "{code}");
    }
    // [rfc1122 3.2.2.4] [rfc1122 3.2.2.5]
    let report = |message| failed(report_v4(&message, &quote));
    assert_eq!(report(icmpv4::Message::TimeExceeded { code: 0 }), Some((EHOSTUNREACH, false)));
    let problem = icmpv4::Message::ParameterProblem { code: 0, pointer: 0 };
    assert_eq!(report(problem), Some((EPROTO, true)));
    // [rfc6633 3]
    assert_eq!(report(icmpv4::Message::Other { kind: 4, code: 0, rest: [0; 4] }), None);
    // [rfc4443 3.1-report] [rfc4443 3.1-upper]
    let quote = packet_v6(|_| {}, &[1; 8]);
    let table = [
        (0, (ENETUNREACH, false)),
        (1, (EACCES, true)),
        (2, (EHOSTUNREACH, false)),
        (3, (EHOSTUNREACH, false)),
        (4, (ECONNREFUSED, true)),
        (5, (EACCES, true)),
        (6, (EACCES, true)),
        (7, (EPROTO, false)),
    ];
    for (code, expected) in table {
        let message = icmpv6::Message::DestinationUnreachable(icmpv6::Unreachable(code));
        assert_eq!(failed(report_v6(&message, &quote)), Some(expected), "{code}");
    }
}

#[test]
fn quotations_say_whose_packet_it_was() {
    let transport = [0x1f, 0x90, 0x00, 0x50, 1, 2, 3, 4];
    let quote = packet_v4(|header| (header.protocol, header.payload_len) = (TCP, 1000), &transport);
    let message = icmpv4::Message::FragmentationNeeded { mtu: 900 };
    let report = report_v4(&message, &quote).unwrap();
    assert_eq!(report.what, What::TooBig { mtu: 900 });
    // [rfc5927 4.1]
    assert_eq!(report.quoted.ports(), (8080, 80));
    assert_eq!((report.quoted.sequence(), report.quoted.length), (0x0102_0304, 1020));
    // [rfc1122 3.2.2-quote]
    assert_eq!(report_v4(&message, &quote[..27]), None);
    let later = packet_v4(|header| header.fragment_offset = 8, &transport);
    assert_eq!(report_v4(&message, &later), None);
    // [rfc4443 2.4-d] Behind options and a fragment header.
    let behind =
        |offset| [&[44, 0, 1, 4, 0, 0, 0, 0], &[UDP, 0, 0, offset, 0, 0, 0, 9][..], &transport].concat();
    let message = icmpv6::Message::PacketTooBig { mtu: 1280 };
    let quote = packet_v6(|header| header.next_header = 60, &behind(1));
    let report = report_v6(&message, &quote).unwrap();
    assert_eq!((report.quoted.protocol, report.quoted.ports()), (UDP, (8080, 80)));
    let later = packet_v6(|header| header.next_header = 60, &behind(8));
    assert_eq!(report_v6(&message, &later), None);
    // [rfc4443 3.2-upper] [rfc4443 3.3-upper] [rfc4443 3.4-upper]
    let quote = packet_v6(|header| header.next_header = 60, &behind(1));
    assert_eq!(report.what, What::TooBig { mtu: 1280 });
    let exceeded = icmpv6::Message::TimeExceeded { code: 0 };
    assert_eq!(failed(report_v6(&exceeded, &quote)), Some((libc::EHOSTUNREACH, false)));
    let problem = icmpv6::Message::ParameterProblem { code: 1, pointer: 40 };
    assert_eq!(failed(report_v6(&problem, &quote)), Some((libc::EPROTO, true)));
    // [rfc4443 2.4-a] [rfc4443 2.4-b]
    assert_eq!(report_v6(&icmpv6::Message::Other { kind: 200, code: 0, rest: [0; 4] }, &quote), None);
    assert_eq!(report_v6(&icmpv6::Message::Other { kind: 99, code: 0, rest: [0; 4] }, &quote), None);
}

proptest! {
    #[test]
    fn any_bytes_are_answered_or_not(bytes in prop::collection::vec(any::<u8>(), 0..120), kind: u8, code: u8) {
        let mut answers = answers();
        let complaint = Complaint::PortUnreachable;
        if let Some(answer) = answers.error_v4(NOW, &bytes, complaint, false, false) {
            prop_assert!(Sum::of(&answer.head).is_valid());
        }
        let _ = answers.error_v6(NOW, &bytes, complaint, false, OWN6);
        let mut quote = bytes.clone();
        if let Some(first) = quote.first_mut() {
            *first = 0x60;
        }
        let _ = answers.error_v6(NOW, &quote, complaint, false, OWN6);
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        let checksum = Sum::of(&message).checksum();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let (message, _) = icmpv4::Message::parse(&message).unwrap();
        let _ = report_v4(&message, &bytes);
        let _ = report_v6(&icmpv6::Message::PacketTooBig { mtu: 1 }, &quote);
        let _ = answers.echo_v4(NOW, PEER, OWN, &bytes.clone().into(), false);
        let _ = answers.echo_v6(NOW, PEER6, ALL6, &bytes.into(), OWN6);
    }
}
