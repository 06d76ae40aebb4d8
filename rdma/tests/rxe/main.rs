//! The verbs room on a device: that of a guest which `cargo xtask test --only rdma` starts. Elsewhere nothing is done here.

#[path = "../common/mod.rs"]
mod common;
mod machine; // what the machine does to it
mod memory; // one-sided operations
mod peers; // other programs that speak by the connection manager
mod perftest; // ib_send_bw, which speaks by TCP

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use common::*;
use demikernel_rdma::verbs::*;
use demikernel_runtime::buffer::{Buffer, Sga, pool};

#[test]
fn messages_of_several_buffers_go_both_ways_through_a_shared_queue() {
    let Some(_) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let shared = SharedReceiveQueue::new(&server.domain, 64).unwrap();
    assert_eq!(shared.post_many(std::iter::repeat_with(|| space(16384))).unwrap(), 64);
    let connections: Vec<_> = (0..3)
        .map(|index| {
            let (near, far) = (client.pair(&tagged(index)), server.sharing(&shared, &tagged(10 + index)));
            connect(&client, near, &server, far)
        })
        .collect();
    for (index, connection) in connections.iter().enumerate() {
        let long = bytes(9000, index as u8);
        let parts: Sga = [bytes(16, 0xaa), long, bytes(100, 0xbb)].into_iter().collect();
        connection.near.send(parts, Flags::default(), 1).unwrap();
        let short = [Buffer::from_static(b"static and "), bytes(4, b'i')].into_iter().collect();
        connection.near.send(short, Flags { immediate: Some(77), ..Flags::SIGNALLED }, 2).unwrap();
        let sent = client.completion();
        assert_eq!((sent.tag, sent.token), (index as u64, 2), "{sent:?}");
        let (tag, data) = received(server.completion());
        assert_eq!((tag, data.len()), (10 + index as u64, 9116));
        assert!(data[..16].iter().all(|byte| *byte == 0xaa) && data[9016..].iter().all(|byte| *byte == 0xbb));
        assert!(data[16..9016].iter().all(|byte| *byte == index as u8));
        match server.completion().outcome {
            Outcome::Received { data, immediate, .. } => {
                assert_eq!((&*data, immediate), (b"static and iiii".as_slice(), Some(77)));
            }
            other => panic!("{other:?}"),
        }
        connection.near.send(Sga::new(), Flags { immediate: Some(0), ..Flags::default() }, 0).unwrap();
        match server.completion().outcome {
            Outcome::Received { data, immediate: Some(0), .. } => assert!(data.is_empty()),
            other => panic!("{other:?}"),
        }
        connection.near.receive(space(64), 3).unwrap();
        connection.far.send(message(&[b"back"]), Flags::default(), 0).unwrap();
        assert_eq!(received(client.completion()), (index as u64, b"back".to_vec()));
    }
    assert_eq!(shared.room(), 9);
}

#[test]
fn many_messages_that_nobody_hears_of_arrive_in_order() {
    let Some(_) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let config = QueuePairConfig { send_depth: 16, inline: 32, ..tagged(1) };
    let connection = connect(&client, client.pair(&config), &server, server.pair(&tagged(2)));
    let kept = bytes(600, 7);
    for number in 0_u32..300 {
        connection.far.receive(space(1024), 0).unwrap();
        let mut data = message(&[&number.to_le_bytes()]);
        if number % 3 > 0 {
            data.push(kept.clone());
        }
        while let Err(refused) = connection.near.send(data, Flags::default(), 0) {
            assert_eq!(refused.error.kind(), ErrorKind::WouldBlock);
            data = refused.work;
            client.completion();
        }
        let (_, data) = received(server.completion());
        assert_eq!(data[..4], number.to_le_bytes());
        while client.look().is_some() {}
    }
    drop(connection);
    while client.look().is_some() {}
    assert!(kept.is_unique(), "every buffer is back");
}

#[test]
fn whoever_is_not_wanted_is_told_and_so_is_who_asks_where_nobody_is() {
    let Some(here) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let (listener, there) = server.listener(PortSpace::Reliable, SocketAddr::new(here, 0));
    let near = client.pair(&tagged(1));
    let id = client.routed(PortSpace::Reliable, 1, there);
    id.connect(&near, &Parameters::default()).unwrap();
    server.request().id.reject(b"no credits").unwrap();
    match client.event() {
        Event { tag: 1, kind: EventKind::Failed { error: error @ ConnectError::Rejected, data } } => {
            assert_eq!(data[..10], *b"no credits");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
    let near = client.pair(&tagged(2));
    let id = client.routed(PortSpace::Reliable, 2, there);
    id.connect(&near, &Parameters::default()).unwrap();
    drop(server.request());
    assert_refused(client.event(), 2);
    drop(listener);
    let near = client.pair(&tagged(3));
    let id = client.routed(PortSpace::Reliable, 3, there);
    id.connect(&near, &Parameters::default()).unwrap();
    assert_refused(client.event(), 3);
    let id = ConnectionId::new(&client.events, PortSpace::Reliable, 4).unwrap();
    let nowhere = "10.9.0.77:1".parse().unwrap();
    id.resolve_address(None, nowhere, Duration::from_millis(500)).unwrap();
    match client.event().kind {
        EventKind::Failed { error: error @ ConnectError::Address(_), .. } => {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::TimedOut | ErrorKind::HostUnreachable), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let id = ConnectionId::new(&client.events, PortSpace::Reliable, 5).unwrap();
    assert_eq!(id.bind("198.51.100.1:0".parse().unwrap()).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

fn assert_refused(event: Event, expected: u64) {
    match event {
        Event { tag, kind: EventKind::Failed { error, .. } } => {
            assert_eq!((tag, error.kind()), (expected, ErrorKind::ConnectionRefused), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_that_ends_tells_both_and_gives_back_what_was_under_way() {
    let Some(_) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let connection = connect(&client, client.pair(&tagged(1)), &server, server.pair(&tagged(2)));
    connection.near.receive(space(64), 8).unwrap();
    connection.near.receive(space(64), 9).unwrap();
    connection.far.receive(space(64), 10).unwrap();
    connection.near_id.disconnect().unwrap();
    assert!(matches!(server.event(), Event { tag: 2, kind: EventKind::Disconnected }));
    connection.far_id.disconnect().unwrap();
    assert!(matches!(client.event(), Event { tag: 1, kind: EventKind::Disconnected }));
    connection.near.fail().unwrap();
    for token in [8, 9] {
        let completion = client.completion();
        assert_eq!(completion.token, token);
        assert_eq!(failure(completion), Status::Flushed);
    }
    connection.near.send(message(&[b"late"]), Flags::default(), 3).unwrap();
    assert_eq!(failure(client.completion()), Status::Flushed);
    assert_eq!((connection.near.sends(), connection.near.receives()), (0, 0));
}

#[test]
fn what_is_dropped_half_way_releases_its_buffers() {
    let Some(_) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let shared = SharedReceiveQueue::new(&server.domain, 32).unwrap();
    let kept = bytes(30_000, 3);
    for round in 0..20 {
        shared.post_many(std::iter::repeat_with(|| space(32_768))).unwrap();
        let (near, far) = (client.pair(&tagged(1)), server.sharing(&shared, &tagged(2)));
        let connection = connect(&client, near, &server, far);
        for _ in 0..4 {
            connection.near.send(kept.clone().into(), Flags::SIGNALLED, 0).unwrap();
        }
        let Connection { near_id, near, far_id, far } = connection;
        // The one end, or the other, in the middle of a message.
        if round % 2 == 0 {
            drop((near, far))
        } else {
            drop((far, near))
        }
        assert!(kept.is_unique(), "round {round}");
        drop((near_id, far_id));
        while client.events.next_event().unwrap().is_some() {}
        while server.events.next_event().unwrap().is_some() {}
        assert!(client.look().is_none() && server.look().is_none());
    }
    // A receive that the last of them had taken may be lost with it, one for each at most.
    let posted = shared.posted();
    assert!(posted <= 32, "{posted}");
    drop(shared);
    drop((client, server, kept));
    assert_eq!(pool::stats().in_use(), 0);
}

#[test]
fn datagrams_find_their_way_and_back() {
    let Some(here) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let datagrams = QueuePairConfig { kind: Kind::Datagrams, ..tagged(1) };
    let (near, far) = (client.pair(&datagrams), server.pair(&QueuePairConfig { tag: 2, ..datagrams }));
    let (_listener, there) = server.listener(PortSpace::Datagrams, SocketAddr::new(here, 0));
    let near_id = client.routed(PortSpace::Datagrams, 1, there);
    near_id.connect(&near, &Parameters { private_data: b"where", ..Default::default() }).unwrap();
    let request = server.request();
    assert_eq!(request.data[..5], *b"where");
    assert_eq!(far.receive(space(2048), 0).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    request.id.prepare(&far).unwrap();
    far.receive(space(2048), 0).unwrap();
    request.id.accept(&far, &Parameters::default()).unwrap();
    let to = match client.event() {
        Event { tag: 1, kind: EventKind::Datagrams(to, _) } => to,
        other => panic!("{other:?}"),
    };
    assert_eq!(to.number, far.number());
    let handle = to.address(&client.domain).unwrap();
    let data = bytes(900, b'd');
    near.send_to(data.clone().into(), &handle, to.number, to.key, Flags::SIGNALLED, 5).unwrap();
    assert_eq!(client.completion().token, 5);
    let source = match server.completion().outcome {
        Outcome::Received { data: got, source: Some(source), .. } => {
            assert_eq!(got, data);
            source
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(source.number, near.number());
    let gids = server.device.gids().unwrap();
    let gid = gids.iter().find(|gid| gid.address() == Some(here)).unwrap();
    assert_eq!(source.gid, Some(gid.raw));
    let back = Route::back(gid.port, gid.index as u8, &source);
    let handle = AddressHandle::new(&server.domain, &back).unwrap();
    near.receive(space(2048), 0).unwrap();
    far.send_to(message(&[b"answer"]), &handle, source.number, to.key, Flags::default(), 0).unwrap();
    assert_eq!(received(client.completion()), (1, b"answer".to_vec()));
}

#[test]
fn devices_are_found_by_name_and_address_and_say_what_they_have() {
    let Some(here) = address() else { return };
    assert_eq!(devices().unwrap(), ["rxe0"]);
    let device = Device::open_by_address(here).unwrap();
    assert_eq!(device.name(), "rxe0");
    let port = device.active_port(1).unwrap();
    assert!(port.is_ethernet() && port.mtu() >= 1024, "{port:?}");
    let gid = device.gids().unwrap().into_iter().find(|gid| gid.address() == Some(here)).unwrap();
    assert_eq!(device.gid(1, gid.index, GidType::RoceV2).unwrap(), gid);
    let error = device.gid(1, gid.index, GidType::InfiniBand).unwrap_err();
    assert!(error.to_string().contains("is an address of RoCE v2 10.9.0.1, not an InfiniBand"), "{error}");
    let limits = device.limits();
    assert!(limits.segments >= 4 && limits.atomics && limits.ports == 1, "{limits:?}");
    let error = Device::open("mlx5_7").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no RDMA device is called \"mlx5_7\"; there are rxe0"), "{error}");
    let error = Device::open_by_address("192.0.2.9".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("has the address 192.0.2.9"), "{error}");
}

#[test]
fn completions_and_marked_ones_notify() {
    let Some(_) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let connection = connect(&client, client.pair(&tagged(1)), &server, server.pair(&tagged(2)));
    for _ in 0..3 {
        connection.far.receive(space(64), 0).unwrap();
    }
    server.completions.arm(true).unwrap();
    let soon = || std::time::Instant::now() + Duration::from_millis(300);
    connection.near.send(message(&[b"1"]), Flags::default(), 0).unwrap();
    assert!(!readable(&server.channel, soon()), "it was not marked");
    connection.near.send(message(&[b"2"]), Flags { solicited: true, ..Flags::default() }, 0).unwrap();
    assert!(readable(&server.channel, std::time::Instant::now() + LIMIT));
    assert_eq!(server.channel.drain().unwrap(), 1);
    assert_eq!(received(server.completion()).1, b"1");
    assert_eq!(received(server.completion()).1, b"2");
}
