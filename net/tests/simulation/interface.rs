//! What RFC 9293 section 3.9 wants between TCP, its users and IP; urgent data.

use super::{address, assert_errno, connect, delay, listen, two_hosts};
use demikernel_net::sim::{Host, HostConfig};
use demikernel_net::stack::{OptionName, SocketOption};
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::IpAddr;
use std::time::Duration;

const TIME: Duration = Duration::from_secs(1);

/// A host with two addresses.
fn host() -> Host {
    Host::new(HostConfig::new([[10, 0, 0, 1].into(), [10, 0, 0, 3].into()]))
}

/// An IPv4 packet with these octets behind its addresses, its checksum and options right.
fn packet(protocol: u8, source: [u8; 4], destination: [u8; 4], options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
    packet.extend(source.into_iter().chain(destination));
    packet.extend(options);
    let checksum = checksum(0, &packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn checksum(sum: u32, bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = sum + words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A TCP segment without data in such a packet.
fn segment(source: [u8; 4], destination: [u8; 4], options: &[u8], port: u16, flags: u8, ack: u32) -> Vec<u8> {
    let mut segment = [4000_u16.to_be_bytes(), port.to_be_bytes()].concat();
    segment.extend(1000_u32.to_be_bytes().into_iter().chain(ack.to_be_bytes()));
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let addresses: Vec<u8> = source.into_iter().chain(destination).collect();
    let pseudo = u32::from(!checksum(0, &addresses)) + 6 + segment.len() as u32;
    let checksum = checksum(pseudo, &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet(6, source, destination, options, &segment)
}

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const PEER: [u8; 4] = [10, 0, 0, 9];
const OWN: [u8; 4] = [10, 0, 0, 1];

/// The flags of the segments that come out.
fn answers(host: &mut Host) -> Vec<u8> {
    std::iter::from_fn(|| host.extract()).map(|packet| packet[20 + 13] & 0x3f).collect()
}

/// [rfc9293 MUST-41] [rfc9293 MUST-42]
#[test]
fn each_address_has_its_own_listener_of_a_port() {
    let mut host = host();
    let one = listen(&mut host, address("10.0.0.1:80"));
    let client = connect(&mut host, address("10.0.0.1:80"));
    host.advance_to(host.now());
    let (first, _) = host.accept(one).unwrap();
    // A second one disturbs neither the first nor its connection.
    let three = listen(&mut host, address("10.0.0.3:80"));
    connect(&mut host, address("10.0.0.3:80"));
    host.advance_to(host.now());
    assert_errno(host.accept(one), libc::EAGAIN);
    assert!(host.accept(three).is_ok());
    host.send(client, b"still").unwrap();
    host.advance_to(host.now());
    assert_eq!(host.recv(first, 10).unwrap(), b"still");
}

/// [rfc9293 MUST-43] [rfc9293 MUST-44] [rfc9293 MUST-45]
#[test]
fn the_local_address_is_the_users_or_ips_and_stays() {
    let (mut network, one, two) = two_hosts(1, delay(1));
    let listener = listen(network.host(two), address("10.0.0.2:80"));
    let host = network.host(one);
    let chosen = host.socket(Domain::V4, SocketKind::Stream).unwrap();
    host.bind(chosen, address("10.0.0.1:555")).unwrap();
    assert_errno(host.connect(chosen, address("10.0.0.2:80")), libc::EINPROGRESS);
    let open = connect(host, address("10.0.0.2:80"));
    let before = [host.local(chosen).unwrap(), host.local(open).unwrap()];
    assert_eq!(before[0], address("10.0.0.1:555"));
    assert_eq!(before[1].ip(), IpAddr::from(OWN));
    network.run_while(TIME, |_| false);
    for _ in 0..2 {
        let (_, peer) = network.host(two).accept(listener).unwrap();
        assert!(before.contains(&peer));
    }
    let host = network.host(one);
    host.send(open, b"data").unwrap();
    network.run_while(TIME, |_| false);
    let host = network.host(one);
    assert_eq!([host.local(chosen).unwrap(), host.local(open).unwrap()], before);
}

/// [rfc9293 MUST-46]
#[test]
fn nobody_connects_to_many() {
    let mut host = host();
    for many in ["10.0.0.255:80", "255.255.255.255:80", "224.0.0.1:80"] {
        let socket = host.socket(Domain::V4, SocketKind::Stream).unwrap();
        assert_errno(host.connect(socket, address(many)), libc::ENETUNREACH);
    }
    assert!(host.extract().is_none());
}

/// [rfc9293 MUST-48] [rfc9293 SHLD-21] [rfc9293 SHLD-22] [rfc9293 MUST-49]
#[test]
fn the_class_and_the_hop_limit_are_the_users() {
    let mut host = host();
    let socket = host.socket(Domain::V4, SocketKind::Stream).unwrap();
    host.set_option(socket, &SocketOption::TypeOfService(0xb8)).unwrap();
    host.set_option(socket, &SocketOption::TimeToLive(3)).unwrap();
    assert_errno(host.connect(socket, address("10.0.0.9:80")), libc::EINPROGRESS);
    let syn = host.extract().unwrap();
    assert_eq!((syn[1], syn[8]), (0xb8, 3));
    // Another class while the connection lasts: the next segment has it.
    host.set_option(socket, &SocketOption::TypeOfService(0x28)).unwrap();
    assert_eq!(
        host.get_option(socket, OptionName::TypeOfService).unwrap(),
        SocketOption::TypeOfService(0x28)
    );
    host.advance_to(host.next_deadline().unwrap());
    assert_eq!(host.extract().unwrap()[1], 0x28);
}

/// [rfc9293 MUST-50]
#[test]
fn options_of_ip_that_are_not_known_are_ignored() {
    let mut host = host();
    listen(&mut host, address("10.0.0.1:80"));
    // Number 0x5e of eight octets, which nobody has assigned.
    host.inject(&segment(PEER, OWN, &[0x5e, 8, 1, 2, 3, 4, 5, 6], 80, SYN, 0));
    assert_eq!(answers(&mut host), [SYN | ACK]);
}

/// [rfc9293 MUST-55]
#[test]
fn source_quench_changes_nothing() {
    let mut host = host();
    let socket = connect(&mut host, address("10.0.0.9:80"));
    let syn = host.extract().unwrap();
    let before = host.tcp_info(socket).unwrap();
    let mut quench = vec![4, 0, 0, 0, 0, 0, 0, 0];
    quench.extend(&syn[..28]);
    let sum = checksum(0, &quench);
    quench[2..4].copy_from_slice(&sum.to_be_bytes());
    host.inject(&packet(1, PEER, OWN, &[], &quench));
    let after = host.tcp_info(socket).unwrap();
    assert_eq!((after.state, after.cwnd, after.ssthresh), (before.state, before.cwnd, before.ssthresh));
    assert!(host.extract().is_none());
}

/// [rfc9293 MUST-57] [rfc9293 MUST-63]
#[test]
fn segments_to_many_or_from_nobody_are_dropped_in_silence() {
    let mut host = host();
    let any = host.socket(Domain::V4, SocketKind::Stream).unwrap();
    host.bind(any, address("0.0.0.0:80")).unwrap();
    host.listen(any, 8).unwrap();
    for destination in [[10, 0, 0, 255], [255; 4], [224, 0, 0, 1]] {
        host.inject(&segment(PEER, destination, &[], 80, SYN, 0));
    }
    for source in [[0; 4], [255; 4], [10, 0, 0, 255], [224, 0, 0, 1], [127, 0, 0, 1]] {
        host.inject(&segment(source, OWN, &[], 80, SYN, 0));
    }
    assert_eq!(answers(&mut host), []);
    host.inject(&segment(PEER, OWN, &[], 80, SYN, 0));
    assert_eq!(answers(&mut host), [SYN | ACK]);
}

/// [rfc9293 3.10.7.2]
#[test]
fn what_arrives_for_a_listener() {
    let mut host = host();
    listen(&mut host, address("10.0.0.1:80"));
    for (flags, expected) in [
        (RST, vec![]),
        (RST | ACK, vec![]),
        (ACK, vec![RST]),
        (SYN | ACK, vec![RST]),
        (0, vec![]),
        (SYN, vec![SYN | ACK]),
    ] {
        host.inject(&segment(PEER, OWN, &[], 80, flags, 77));
        assert_eq!(answers(&mut host), expected, "flags {flags:#x}");
    }
}

/// [rfc9293 MUST-30] [rfc9293 MUST-31] [rfc9293 MUST-32] [rfc9293 MUST-33] [rfc9293 MUST-62]
#[test]
fn urgent_data_come_in_line_and_are_told_of() {
    let (mut network, one, two) = two_hosts(3, delay(1));
    let listener = listen(network.host(two), address("10.0.0.2:80"));
    let client = connect(network.host(one), address("10.0.0.2:80"));
    network.run_while(TIME, |_| false);
    let (server, _) = network.host(two).accept(listener).unwrap();
    network.host(one).send(client, b"plain ").unwrap();
    network.host(one).send_urgent(client, b"urgent").unwrap();
    network.host(one).send(client, b" plain").unwrap();
    network.run_while(TIME, |_| false);
    let host = network.host(two);
    assert_eq!(host.urgent(server).unwrap(), Some(12));
    assert!(host.readiness(server).unwrap().urgent);
    assert_eq!(host.recv(server, 100).unwrap(), b"plain ");
    assert_eq!(host.recv(server, 1).unwrap(), b"u");
    assert_eq!(host.urgent(server).unwrap(), Some(5));
    assert_eq!(host.recv(server, 5).unwrap(), b"rgent");
    assert_eq!(host.urgent(server).unwrap(), None);
    assert_eq!(host.recv(server, 100).unwrap(), b" plain");
    assert!(!host.readiness(server).unwrap().urgent);
    // More of it, beyond what one pointer reaches, arrives whole, and the end is told in time.
    let long = vec![7; 100_000];
    let sent = network.host(one).send_urgent(client, &long).unwrap();
    let mut received = 0;
    network.run_while(TIME, |network| {
        while let Ok(data) = network.host(two).recv(server, 1 << 20) {
            received += data.len();
        }
        false
    });
    assert_eq!(received, sent);
    assert_eq!(network.host(two).urgent(server).unwrap(), None);
    let listener = network.host(two).urgent(listener);
    assert_errno(listener, libc::EINVAL);
}
