//! What connections and datagrams do, told one by one.

use super::*;
use demikernel_net::stack::{Counter, OptionName, Shutdown, SocketOption};
use demikernel_net::tcp::State;

#[test]
fn an_echo_in_both_families() {
    for to in ["10.0.0.2:7", "[fd00::2]:7"] {
        let (mut network, one, two) = two_hosts(1, delay(5));
        let (client, server, _) = pair(&mut network, one, two, address(to));
        assert_eq!(network.host(one).peer(client).unwrap(), address(to));
        assert_eq!(network.host(two).peer(server).unwrap(), network.host(one).local(client).unwrap());
        assert_errno(network.host(two).recv(server, 100), libc::EAGAIN);
        assert_eq!(network.host(one).send(client, b"ping").unwrap(), 4);
        network.run_for(Duration::from_millis(6));
        assert_eq!(network.host(two).recv(server, 100).unwrap(), b"ping");
        network.host(two).send(server, b"pong").unwrap();
        network.run_for(Duration::from_millis(6));
        assert_eq!(network.host(one).recv(client, 100).unwrap(), b"pong");
        let info = network.host(one).tcp_info(client).unwrap();
        assert_eq!(info.state, State::Established);
        assert_eq!((info.bytes_acked, info.bytes_received, info.unacked), (4, 4, 0));
    }
}

/// Sends `count` bytes; whether they arrive unaltered in `time`.
fn transfer(
    network: &mut Network,
    from: (HostId, usize),
    to: (HostId, usize),
    count: usize,
    time: Duration,
) -> bool {
    let (mut sent, mut received) = (0, 0);
    network.run_while(time, |network| {
        while sent < count {
            match network.host(from.0).send(from.1, &pattern(sent, (count - sent).min(10_000))) {
                Ok(length) => sent += length,
                Err(_) => break,
            }
        }
        network.flush();
        while let Ok(data) = network.host(to.0).recv(to.1, 1 << 20) {
            assert!(!data.is_empty(), "an end after {received} bytes with seed {}", network.seed());
            assert_eq!(data, pattern(received, data.len()), "at {received} with seed {}", network.seed());
            received += data.len();
        }
        received == count
    })
}

#[test]
fn a_large_transfer_arrives_once_in_order_unaltered() {
    let (mut network, one, two) =
        two_hosts(2, LinkConfig::new(Duration::from_millis(2), 100_000_000, 200_000));
    let (client, server, _) = pair(&mut network, one, two, address("10.0.0.2:7"));
    assert!(transfer(&mut network, (one, client), (two, server), 3_000_000, Duration::from_secs(10)));
    assert!(transfer(&mut network, (two, server), (one, client), 1_000_000, Duration::from_secs(10)));
}

#[test]
fn faults_of_every_kind_are_repaired() {
    type Fault = fn(&mut LinkConfig);
    let faults: [(&str, Fault); 6] = [
        ("loss", |link| link.loss = 0.05),
        ("bursts", |link| link.burst = Some(demikernel_net::sim::Burst { begin: 0.01, end: 0.3 })),
        ("reordering", |link| (link.reorder, link.reorder_delay) = (0.1, Duration::from_millis(5))),
        ("doubles", |link| link.duplicate = 0.2),
        ("corruption", |link| link.corrupt = 0.03),
        ("all", |link| {
            (link.loss, link.duplicate, link.corrupt) = (0.02, 0.02, 0.02);
            (link.reorder, link.reorder_delay, link.jitter) =
                (0.05, Duration::from_millis(3), Duration::from_millis(2));
        }),
    ];
    for (name, fault) in faults {
        let (mut network, one, two) =
            two_hosts(3, LinkConfig::new(Duration::from_millis(2), 50_000_000, 100_000));
        let (client, server, _) = pair(&mut network, one, two, address("10.0.0.2:7"));
        network.configure(one, two, fault);
        let arrived = transfer(&mut network, (one, client), (two, server), 500_000, Duration::from_secs(120));
        assert!(arrived, "{name}");
    }
}

#[test]
fn a_half_closed_connection_goes_on_the_other_way() {
    let (mut network, one, two) = two_hosts(4, delay(1));
    let (client, server, listener) = pair(&mut network, one, two, address("10.0.0.2:7"));
    network.host(one).send(client, b"request").unwrap();
    network.host(one).shutdown(client, Shutdown::Write).unwrap();
    assert_errno(network.host(one).send(client, b"more"), libc::EPIPE);
    network.run_for(Duration::from_millis(5));
    assert_eq!(network.host(two).recv(server, 100).unwrap(), b"request");
    assert_eq!(network.host(two).recv(server, 100).unwrap(), b"", "the end");
    assert!(network.host(two).readiness(server).unwrap().peer_closed);
    network.host(two).send(server, b"response").unwrap();
    network.host(two).close(server).unwrap();
    network.run_for(Duration::from_millis(100));
    assert_eq!(network.host(one).recv(client, 100).unwrap(), b"response");
    assert_eq!(network.host(one).recv(client, 100).unwrap(), b"");
    network.host(one).close(client).unwrap();
    network.host(two).close(listener).unwrap();
    network.run_for(Duration::from_secs(1));
    assert_eq!(network.host(two).stack().sockets(), 0);
    let stack = network.host(one).stack();
    assert_eq!((stack.sockets(), stack.time_waits()), (1, 1));
    network.run_for(Duration::from_secs(61));
    assert_eq!(network.host(one).stack().sockets(), 0);
    assert_eq!(network.next_deadline(), None, "nothing is left to do");
}

#[test]
fn a_port_that_nobody_has_refuses() {
    let (mut network, one, two) = two_hosts(5, delay(1));
    let client = connect(network.host(one), address("10.0.0.2:9"));
    assert_errno(network.host(one).connect(client, address("10.0.0.2:9")), libc::EALREADY);
    assert_errno(network.host(one).recv(client, 1), libc::EAGAIN);
    network.run_for(Duration::from_millis(5));
    let readiness = network.host(one).readiness(client).unwrap();
    assert!(readiness.error && readiness.hang_up && readiness.writable && readiness.readable);
    let error = network.host(one).take_error(client).unwrap().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    assert!(network.host(one).take_error(client).unwrap().is_none(), "told once");
    assert_eq!(network.host(two).stack().counter(Counter::ResetsSent), 1);
    network.host(one).close(client).unwrap();
    assert_eq!(network.host(one).stack().sockets(), 0);
}

#[test]
fn a_reset_ends_it() {
    let (mut network, one, two) = two_hosts(6, delay(1));
    let (client, server, _) = pair(&mut network, one, two, address("10.0.0.2:7"));
    network.host(one).set_option(client, &SocketOption::Linger(Some(Duration::ZERO))).unwrap();
    network.host(one).close(client).unwrap();
    network.run_for(Duration::from_millis(5));
    assert_errno(network.host(two).recv(server, 10), libc::ECONNRESET);
    assert_eq!(network.host(two).recv(server, 10).unwrap(), b"");
    assert_errno(network.host(two).send(server, b"x"), libc::EPIPE);
    assert_eq!(network.host(one).stack().sockets(), 0);
}

#[test]
fn nobody_answers() {
    let (mut network, one, two) = two_hosts(7, delay(1));
    network.configure(one, two, |link| link.partitioned = true);
    let client = connect(network.host(one), address("10.0.0.2:9"));
    let failed = network
        .run_while(Duration::from_secs(600), |network| network.host(one).readiness(client).unwrap().error);
    assert!(failed);
    assert_errno(network.host(one).connect(client, address("10.0.0.2:9")), libc::ETIMEDOUT);
    assert_errno(network.host(one).connect(client, address("10.0.0.2:9")), libc::EINPROGRESS);
}

#[test]
fn a_peer_that_vanishes_is_given_up() {
    let (mut network, one, two) = two_hosts(8, delay(1));
    let (client, _, _) = pair(&mut network, one, two, address("10.0.0.2:7"));
    network.configure(one, two, |link| link.partitioned = true);
    network.host(one).set_option(client, &SocketOption::UserTimeout(5_000)).unwrap();
    network.host(one).send(client, b"hello?").unwrap();
    let begun = network.now();
    let failed = network
        .run_while(Duration::from_secs(600), |network| network.host(one).readiness(client).unwrap().error);
    let patience = network.now() - begun;
    assert!(
        failed && patience >= Duration::from_secs(5) && patience < Duration::from_secs(10),
        "{patience:?}"
    );
    assert_errno(network.host(one).recv(client, 1), libc::ETIMEDOUT);
}

#[test]
fn datagrams_go_to_and_fro_and_nobodys_port_refuses() {
    for (to, any) in [("10.0.0.2:53", "0.0.0.0:0"), ("[fd00::2]:53", "[::]:0")] {
        let (mut network, one, two) = two_hosts(9, delay(1));
        let to = address(to);
        let server = network.host(two).socket(domain_of(to), SocketKind::Datagram).unwrap();
        network.host(two).bind(server, to).unwrap();
        let client = network.host(one).socket(domain_of(to), SocketKind::Datagram).unwrap();
        assert_errno(network.host(one).send(client, b"x"), libc::EDESTADDRREQ);
        network.host(one).bind(client, address(any)).unwrap();
        for text in [&b"one"[..], b"", &[7; 1400]] {
            assert_eq!(network.host(one).sendto(client, text, to).unwrap(), text.len());
        }
        network.run_for(Duration::from_millis(5));
        let (data, from) = network.host(two).recvfrom(server, 100).unwrap();
        assert_eq!(
            (data.as_slice(), from.port()),
            (&b"one"[..], network.host(one).local(client).unwrap().port())
        );
        assert_eq!(network.host(two).recvfrom(server, 100).unwrap().0, b"");
        assert_eq!(network.host(two).recvfrom(server, 2000).unwrap().0, [7; 1400]);
        assert_errno(network.host(two).recvfrom(server, 100), libc::EAGAIN);
        network.host(two).sendto(server, b"answer", from).unwrap();
        network.run_for(Duration::from_millis(5));
        assert_eq!(network.host(one).recv(client, 100).unwrap(), b"answer");
        network.host(two).close(server).unwrap();
        network.host(one).connect(client, to).unwrap();
        assert_eq!(network.host(one).send(client, b"anybody?").unwrap(), 8);
        network.run_for(Duration::from_millis(5));
        assert!(network.host(one).readiness(client).unwrap().error);
        assert_errno(network.host(one).send(client, b"?"), libc::ECONNREFUSED);
    }
}

#[test]
fn a_datagram_longer_than_the_link_takes_goes_in_pieces() {
    for to in ["10.0.0.2:53", "[fd00::2]:53"] {
        let (mut network, one, two) = two_hosts(15, delay(1));
        network
            .configure(one, two, |link| (link.reorder, link.reorder_delay) = (0.5, Duration::from_millis(3)));
        let server = network.host(two).socket(domain_of(address(to)), SocketKind::Datagram).unwrap();
        network.host(two).bind(server, address(to)).unwrap();
        let client = network.host(one).socket(domain_of(address(to)), SocketKind::Datagram).unwrap();
        for length in [1500, 9_000, 65_000] {
            assert_eq!(network.host(one).sendto(client, &pattern(0, length), address(to)).unwrap(), length);
            network.run_for(Duration::from_millis(20));
            assert_eq!(
                network.host(two).recvfrom(server, 1 << 16).unwrap().0,
                pattern(0, length),
                "{to} {length}"
            );
        }
        // Without one of its pieces nothing of it arrives, and its sender is told in the end.
        network.configure(one, two, |link| link.loss = 0.2);
        network.host(one).sendto(client, &pattern(0, 60_000), address(to)).unwrap();
        network.flush();
        network.configure(one, two, |link| link.loss = 0.0);
        network.run_for(Duration::from_secs(100));
        assert_errno(network.host(two).recvfrom(server, 1 << 16), libc::EAGAIN);
        assert_eq!(network.host(two).stack().counter(Counter::Reassembled), 3);
        assert_eq!(network.next_deadline(), None);
    }
}

#[test]
fn an_echo_request_is_answered() {
    use demikernel_net::wire::icmpv4::{Echo, HEADER, Message};
    use demikernel_net::wire::{ip::protocol, ipv4};
    let (mut network, one, _) = two_hosts(10, delay(1));
    let header = ipv4::Header {
        source: [10, 0, 0, 9].into(),
        destination: [10, 0, 0, 1].into(),
        protocol: protocol::ICMP,
        payload_len: (HEADER + 4) as u16,
        ..ipv4::Header::default()
    };
    let mut packet = vec![0; 20 + HEADER + 4];
    header.emit(&mut packet);
    packet[28..].copy_from_slice(b"data");
    Message::EchoRequest(Echo { identifier: 3, sequence: 4 }).emit(&mut packet[20..]);
    network.host(one).inject(&packet);
    let answer = network.host(one).extract().unwrap();
    let (header, payload) = ipv4::Header::parse(&answer).unwrap();
    assert_eq!((header.source.octets(), header.destination.octets()), ([10, 0, 0, 1], [10, 0, 0, 9]));
    let (message, at) = Message::parse(&answer[payload.clone()]).unwrap();
    assert_eq!(message, Message::EchoReply(Echo { identifier: 3, sequence: 4 }));
    assert_eq!(&answer[payload][at..], b"data");
}

#[test]
fn a_host_talks_to_itself() {
    for to in ["127.0.0.1:7", "10.0.0.1:7", "[::1]:7", "[fd00::1]:7"] {
        let (mut network, one, _) = two_hosts(11, delay(1));
        let (client, server, _) = pair(&mut network, one, one, address(to));
        network.host(one).send(client, b"to myself").unwrap();
        assert_eq!(network.host(one).recv(server, 100).unwrap(), b"to myself");
        assert!(transfer(&mut network, (one, client), (one, server), 300_000, Duration::from_secs(2)));
        assert_eq!(network.nowhere(), 0);
        assert!(network.host(one).extract().is_none(), "nothing has left");
    }
}

#[test]
fn a_socket_of_ipv6_serves_ipv4_too() {
    let (mut network, one, two) = two_hosts(12, delay(1));
    let listener = listen(network.host(two), address("[::]:7"));
    let client = connect(network.host(one), address("10.0.0.2:7"));
    network.run_for(Duration::from_millis(10));
    let (server, from) = network.host(two).accept(listener).unwrap();
    assert_eq!(
        from,
        SocketAddr::new("::ffff:10.0.0.1".parse().unwrap(), network.host(one).local(client).unwrap().port())
    );
    assert_eq!(network.host(two).local(server).unwrap(), address("[::ffff:10.0.0.2]:7"));
}

#[test]
fn calls_in_wrong_states_get_the_errors_of_linux() {
    let (mut network, one, two) = two_hosts(13, delay(1));
    let host = network.host(one);
    let stream = host.socket(Domain::V4, SocketKind::Stream).unwrap();
    assert_errno(host.accept(stream), libc::EINVAL);
    assert_errno(host.send(stream, b"x"), libc::EPIPE);
    assert_errno(host.recv(stream, 1), libc::ENOTCONN);
    assert_errno(host.shutdown(stream, Shutdown::Both), libc::ENOTCONN);
    assert_errno(host.peer(stream), libc::ENOTCONN);
    assert_errno(host.bind(stream, address("10.0.0.77:1")), libc::EADDRNOTAVAIL);
    assert_errno(host.bind(stream, address("[::1]:1")), libc::EAFNOSUPPORT);
    assert_errno(host.connect(stream, address("[::1]:1")), libc::EAFNOSUPPORT);
    assert_errno(host.connect(stream, address("224.0.0.1:1")), libc::ENETUNREACH);
    host.bind(stream, address("0.0.0.0:80")).unwrap();
    assert_errno(host.bind(stream, address("0.0.0.0:81")), libc::EINVAL);
    host.listen(stream, 1).unwrap();
    assert_errno(host.accept(stream), libc::EAGAIN);
    assert_errno(host.connect(stream, address("10.0.0.2:1")), libc::EISCONN);
    let other = host.socket(Domain::V4, SocketKind::Stream).unwrap();
    assert_errno(host.bind(other, address("10.0.0.1:80")), libc::EADDRINUSE);
    let datagram = host.socket(Domain::V4, SocketKind::Datagram).unwrap();
    assert_errno(host.listen(datagram, 1), libc::EOPNOTSUPP);
    assert_errno(host.sendto(datagram, b"", address("255.255.255.255:9")), libc::EACCES);
    assert_errno(host.sendto(datagram, &[0; 65_508], address("10.0.0.2:9")), libc::EMSGSIZE);
    assert_errno(host.set_option(datagram, &SocketOption::NoDelay(true)), libc::ENOPROTOOPT);
    assert_errno(host.set_option(other, &SocketOption::TimeToLive(0)), libc::EINVAL);
    assert_errno(host.set_option(other, &SocketOption::Congestion("x".into())), libc::ENOENT);
    host.close(stream).unwrap();
    assert_errno(host.accept(stream), libc::EBADF);
    host.bind(other, address("10.0.0.1:80")).unwrap();
    let (client, _, _) = pair(&mut network, one, two, address("10.0.0.2:7"));
    network.host(one).connect(client, address("10.0.0.2:7")).unwrap();
    assert_errno(network.host(one).connect(client, address("10.0.0.2:7")), libc::EISCONN);
    assert_errno(network.host(one).listen(client, 1), libc::EINVAL);
}

#[test]
fn options_are_as_they_were_set() {
    let (mut network, one, _) = two_hosts(14, delay(1));
    let host = network.host(one);
    let socket = host.socket(Domain::V6, SocketKind::Stream).unwrap();
    for option in [
        SocketOption::NoDelay(true),
        SocketOption::Cork(true),
        SocketOption::QuickAck(false),
        SocketOption::KeepAlive(true),
        SocketOption::KeepIdle(7),
        SocketOption::KeepInterval(8),
        SocketOption::KeepCount(9),
        SocketOption::UserTimeout(1000),
        SocketOption::Linger(Some(Duration::from_secs(1))),
        SocketOption::SendBuffer(50_000),
        SocketOption::ReceiveBuffer(60_000),
        SocketOption::MaximumSegment(500),
        SocketOption::Congestion("bbr".into()),
        SocketOption::ReuseAddress(true),
        SocketOption::ReusePort(true),
        SocketOption::V6Only(true),
        SocketOption::TimeToLive(5),
        SocketOption::TypeOfService(16),
        SocketOption::Broadcast(true),
    ] {
        let before = host.get_option(socket, option.name()).unwrap();
        if option.name() != OptionName::KeepCount {
            assert_ne!(before, option);
        }
        host.set_option(socket, &option).unwrap();
        assert_eq!(host.get_option(socket, option.name()).unwrap(), option);
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same() {
    let run = |seed| {
        let (mut network, one, two) =
            two_hosts(seed, LinkConfig::new(Duration::from_millis(2), 50_000_000, 100_000));
        network.configure(one, two, |link| (link.loss, link.jitter) = (0.05, Duration::from_millis(1)));
        let (client, server, _) = pair(&mut network, one, two, address("10.0.0.2:7"));
        assert!(transfer(&mut network, (one, client), (two, server), 200_000, Duration::from_secs(100)));
        (
            network.now(),
            network.stats(one, two),
            network.stats(two, one),
            network.host(one).local(client).unwrap(),
        )
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// [rfc1122 4.1.3.4], [rfc8200 8.1-zero-received]
#[test]
fn a_datagram_without_checksum_is_taken_in_ipv4_only() {
    use demikernel_net::wire::{ip::protocol, ipv4, ipv6};
    let datagram = [0, 9, 0, 53, 0, 9, 0, 0, b'x'];
    let (mut network, one, _) = two_hosts(16, delay(1));
    let host = network.host(one);
    let v4 = host.socket(Domain::V4, SocketKind::Datagram).unwrap();
    host.bind(v4, address("10.0.0.1:53")).unwrap();
    let v6 = host.socket(Domain::V6, SocketKind::Datagram).unwrap();
    host.bind(v6, address("[fd00::1]:53")).unwrap();
    let mut packet = [0; 29];
    let (source, destination) = ([10, 0, 0, 2].into(), [10, 0, 0, 1].into());
    ipv4::Header { source, destination, protocol: protocol::UDP, payload_len: 9, ..ipv4::Header::default() }
        .emit(&mut packet);
    packet[20..].copy_from_slice(&datagram);
    host.inject(&packet);
    assert_eq!(host.recvfrom(v4, 9).unwrap(), (b"x".to_vec(), address("10.0.0.2:9")));
    let mut packet = [0; 49];
    let (source, destination) = ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap());
    ipv6::Header {
        source,
        destination,
        next_header: protocol::UDP,
        payload_len: 9,
        ..ipv6::Header::default()
    }
    .emit(&mut packet);
    packet[40..].copy_from_slice(&datagram);
    host.inject(&packet);
    assert_errno(host.recvfrom(v6, 9), libc::EAGAIN);
    assert_eq!(host.stack().counter(Counter::UdpChecksum), 1);
}

#[test]
fn a_group_and_everybody_are_reached() {
    let (mut network, one, two) = two_hosts(17, delay(1));
    let member = network.host(one).socket(Domain::V4, SocketKind::Datagram).unwrap();
    network.host(one).bind(member, address("0.0.0.0:5353")).unwrap();
    let sender = network.host(two).socket(Domain::V4, SocketKind::Datagram).unwrap();
    let group = address("239.1.2.3:5353");
    let send = |network: &mut Network, to| {
        network.host(two).sendto(sender, b"all", to).unwrap();
        let packet = network.host(two).extract().unwrap();
        network.host(one).inject(&packet);
        network.host(one).recv(member, 9).ok()
    };
    assert_eq!(send(&mut network, group), None, "not a member");
    network.host(one).join(member, group.ip()).unwrap();
    assert_errno(network.host(one).join(member, group.ip()), libc::EADDRINUSE);
    assert_eq!(send(&mut network, group).unwrap(), b"all");
    network.host(one).leave(member, group.ip()).unwrap();
    assert_eq!(send(&mut network, group), None);
    network.host(two).set_option(sender, &SocketOption::Broadcast(true)).unwrap();
    assert_eq!(send(&mut network, address("10.0.0.255:5353")).unwrap(), b"all");
}

/// [rfc8201 4-validate]: what a router reports makes pieces of the next datagram; what it makes up does not.
#[test]
fn a_report_of_a_smaller_link_cuts_datagrams() {
    use demikernel_net::wire::icmpv6::{HEADER, Message, pseudo_header};
    use demikernel_net::wire::{ip::protocol, ipv6};
    let (mut network, one, _) = two_hosts(18, delay(1));
    let host = network.host(one);
    let socket = host.socket(Domain::V6, SocketKind::Datagram).unwrap();
    let (here, router) = ("fd00::1".parse().unwrap(), "fd00::fe".parse().unwrap());
    let report = |packet: &[u8]| {
        let mut bytes = vec![0; 40 + HEADER];
        bytes.extend_from_slice(packet);
        let length = bytes.len() - 40;
        ipv6::Header {
            source: router,
            destination: here,
            next_header: protocol::ICMPV6,
            payload_len: length as u16,
            ..ipv6::Header::default()
        }
        .emit(&mut bytes);
        Message::PacketTooBig { mtu: 1300 }.emit(&mut bytes[40..], pseudo_header(router, here, length));
        bytes
    };
    host.sendto(socket, &[7; 1400], address("[fd00::2]:9")).unwrap();
    let whole = host.extract().unwrap();
    let mut forged = whole[..200].to_vec();
    forged[40] ^= 1;
    host.inject(&report(&forged));
    host.sendto(socket, &[7; 1400], address("[fd00::2]:9")).unwrap();
    assert_eq!(host.extract().unwrap().len(), whole.len(), "from a port that nobody has");
    host.inject(&report(&whole[..200]));
    host.sendto(socket, &[7; 1400], address("[fd00::2]:9")).unwrap();
    let lengths: Vec<_> = std::iter::from_fn(|| host.extract()).map(|packet| packet.len()).collect();
    assert!(lengths.len() == 2 && lengths.iter().all(|length| *length <= 1300), "{lengths:?}");
}
