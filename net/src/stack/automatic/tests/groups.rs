//! Reports of groups.

use super::world::*;
use crate::device::MacAddress;
use crate::stack::SocketOption;
use crate::wire::ethernet::ether_type;
use crate::wire::ip::protocol;
use crate::wire::{icmpv6, igmp, ipv4, ipv6, mld};
use demikernel_runtime::time::Duration;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::Ipv6Addr;

fn world() -> World {
    World::new(config().address(ip("192.0.2.7"), 24).address(ip("fe80::7"), 64))
}

#[test]
fn joining_and_leaving_is_told_to_the_routers() {
    // [rfc3376 5.1] [rfc3376 5.1-repeat] [rfc3376 4-ttl] [rfc3810 6.1] [rfc3810 6.1-repeat] [rfc3810 5.2.14]
    for (group, joined, left) in [
        (
            "239.1.2.3",
            "igmp ChangeToExclude 239.1.2.3 to 224.0.0.22",
            "igmp ChangeToInclude 239.1.2.3 to 224.0.0.22",
        ),
        ("ff05::7", "mld ChangeToExclude ff05::7 from link", "mld ChangeToInclude ff05::7 from link"),
    ] {
        let mut world = world();
        let [one, two] = [(); 2].map(|()| world.socket(Domain::V6, SocketKind::Datagram));
        world.stack.join(world.now, one, ip(group)).unwrap();
        assert_eq!(world.after(Duration::ZERO), [joined]);
        assert_eq!(world.seconds(2), [joined], "once more, in case it was lost");
        world.stack.join(world.now, two, ip(group)).unwrap();
        world.stack.leave(world.now, one, ip(group)).unwrap();
        assert_eq!(world.seconds(2), [""; 0], "one socket is left");
        // Closing is leaving.
        world.stack.close(world.now, two).unwrap();
        assert_eq!(world.seconds(2), [left, left]);
    }
}

#[test]
fn queries_are_answered() {
    // [rfc3376 5.2] [rfc3810 6.2]
    let mut world = world();
    let socket = world.socket(Domain::V4, SocketKind::Datagram);
    world.stack.join(world.now, socket, ip("239.1.2.3")).unwrap();
    world.stack.join(world.now, socket, ip("ff05::7")).unwrap();
    world.seconds(3);
    let query = igmp::Message::QueryV2 { group: None, max_response: Duration::from_secs(2) };
    let mut message = vec![0; query.len()];
    query.emit(&mut message);
    let header = ipv4::Header {
        source: [192, 0, 2, 1].into(),
        destination: igmp::ALL_SYSTEMS,
        protocol: protocol::IGMP,
        router_alert: true,
        ..ipv4::Header::default()
    };
    let to = MacAddress::of_group_v4(igmp::ALL_SYSTEMS);
    world.hear(frame(ROUTER, to, ether_type::IPV4, &ipv4_packet(header, &message)));
    let report = format!("igmp {:?} to 239.1.2.3", igmp::Message::ReportV2 { group: [239, 1, 2, 3].into() });
    assert_eq!(world.seconds(2), [report], "in the version of the query");

    let query = mld::Message::QueryV1 { group: None, max_response: Duration::from_secs(2) };
    let mut message = vec![0; query.len()];
    let (source, destination): (Ipv6Addr, _) = (v6("fe80::fe"), mld::ALL_NODES);
    query.emit(&mut message, icmpv6::pseudo_header(source, destination, query.len()));
    let header = ipv6::Header { source, destination, hop_limit: 1, ..ipv6::Header::default() };
    let plain = ipv6::Header { next_header: protocol::ICMPV6, ..header };
    world.hear(ipv6_frame(ROUTER, plain, &message));
    assert_eq!(world.seconds(3), [""; 0], "without the alert it is none");
    let alert = [&ipv6::HOP_BY_HOP_ROUTER_ALERT[..], &message].concat();
    let header = ipv6::Header { next_header: ipv6::next_header::HOP_BY_HOP, ..header };
    world.hear(ipv6_frame(ROUTER, header, &alert));
    let story = world.seconds(3);
    assert!(story.len() == 1 && story[0].contains("ReportV1"), "{story:?}");
}

#[test]
fn a_datagram_to_a_group_goes_to_those_who_have_joined_it() {
    // [rfc1112 7.2]
    let mut world = world();
    let sockets = [(); 3].map(|()| {
        let socket = world.socket(Domain::V4, SocketKind::Datagram);
        world.stack.set_option(world.now, socket, &SocketOption::ReuseAddress(true)).unwrap();
        world.stack.bind(socket, "0.0.0.0:9".parse().unwrap()).unwrap();
        socket
    });
    let groups = ["239.0.0.1", "239.0.0.2"].map(ip);
    for (number, joins) in [(0, &groups[..1]), (1, &groups[..]), (2, &[])] {
        joins.iter().for_each(|group| world.stack.join(world.now, sockets[number], *group).unwrap());
    }
    for (group, expected) in [("239.0.0.1", [1, 1, 0]), ("239.0.0.2", [0, 1, 0]), ("239.0.0.3", [0, 0, 0])] {
        let std::net::IpAddr::V4(group) = ip(group) else { panic!("{group}") };
        let (source, protocol) = ([192, 0, 2, 1].into(), protocol::UDP);
        let header = ipv4::Header { source, destination: group, protocol, ..ipv4::Header::default() };
        let packet = ipv4_packet(header, &[0, 9, 0, 9, 0, 13, 0, 0, b'h', b'e', b'l', b'l', b'o']);
        world.hear(frame(ROUTER, MacAddress::of_group_v4(group), ether_type::IPV4, &packet));
        let received =
            sockets.map(|socket| std::iter::from_fn(|| world.stack.recv_from(socket).ok()).count());
        assert_eq!(received, expected, "{group}");
    }
}

#[test]
fn sockets_cannot_join_without_limit() {
    let mut world = world();
    let mut errors = Vec::new();
    for number in 0..100u8 {
        let socket = world.socket(Domain::V4, SocketKind::Datagram);
        let group = std::net::IpAddr::from([239, 0, 0, number]);
        errors.extend(world.stack.join(world.now, socket, group).err().map(|error| error.raw_os_error()));
    }
    assert_eq!(errors, [Some(libc::ENOBUFS); 100 - crate::ip::multicast::MOST_GROUPS]);
}
