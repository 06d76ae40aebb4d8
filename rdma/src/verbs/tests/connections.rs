//! The connection manager.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;

const LIMIT: Duration = Duration::from_secs(1);

fn there(port: u16) -> SocketAddr {
    (double::ADDRESS, port).into()
}

fn next(channel: &EventChannel) -> Event {
    channel.next_event().unwrap().expect("an event")
}

/// An id that knows the way.
fn routed(channel: &EventChannel, space: PortSpace, tag: u64, to: SocketAddr) -> ConnectionId {
    let id = ConnectionId::new(channel, space, tag).unwrap();
    id.resolve_address(None, to, LIMIT).unwrap();
    let event = next(channel);
    assert!(matches!(event.kind, EventKind::AddressResolved) && event.tag == tag, "{event:?}");
    id.resolve_route(LIMIT).unwrap();
    assert!(matches!(next(channel).kind, EventKind::RouteResolved));
    id
}

fn listener(channel: &EventChannel, space: PortSpace) -> (ConnectionId, SocketAddr) {
    let id = ConnectionId::new(channel, space, 100).unwrap();
    id.bind(there(0)).unwrap();
    id.listen(2).unwrap();
    let address = id.local_address().unwrap();
    (id, address)
}

fn request(channel: &EventChannel) -> Request {
    match next(channel) {
        Event { tag: 100, kind: EventKind::Request(request) } => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_is_made_with_words_on_both_sides_and_carries_messages() {
    let (client, server) = (Side::new(), Side::new());
    let (asking, listening) = (double::event_channel().unwrap(), double::event_channel().unwrap());
    let (_listener, address) = listener(&listening, PortSpace::Reliable);
    let near_id = routed(&asking, PortSpace::Reliable, 1, address);
    assert_eq!(near_id.device_name().as_deref(), Some(client.device.name()));
    let near = client.pair(&tagged(1));
    let parameters = Parameters { private_data: b"version 1", initiator_depth: 4, ..Parameters::default() };
    near_id.connect(&near, &parameters).unwrap();
    let Request { id: far_id, data, responder_resources, .. } = request(&listening);
    assert_eq!((&*data, responder_resources), (b"version 1".as_slice(), 4));
    far_id.set_tag(2);
    let far = server.pair(&tagged(2));
    far_id.prepare(&far).unwrap();
    far.receive(space(64), 0).unwrap();
    far_id.accept(&far, &Parameters { private_data: b"credits 7", ..Parameters::default() }).unwrap();
    match next(&asking) {
        Event { tag: 1, kind: EventKind::Response { data, .. } } => assert_eq!(&*data, b"credits 7"),
        other => panic!("{other:?}"),
    }
    near_id.establish(&near, &Parameters::default()).unwrap();
    assert!(matches!(next(&listening), Event { tag: 2, kind: EventKind::Established }));
    assert_eq!(near_id.peer_address(), Some(address));
    assert_eq!(far_id.peer_address(), near_id.local_address());
    near.send(message(&[b"hello"]), Flags::default(), 0).unwrap();
    assert_eq!(received(server.completed()), [(2, b"hello".to_vec())]);
    near_id.disconnect().unwrap();
    assert!(matches!(next(&listening), Event { tag: 2, kind: EventKind::Disconnected }));
    assert!(matches!(next(&asking), Event { tag: 1, kind: EventKind::Disconnected }));
    assert!(asking.next_event().unwrap().is_none() && listening.next_event().unwrap().is_none());
}

fn failure(channel: &EventChannel) -> (ErrorKind, Vec<u8>) {
    match next(channel).kind {
        EventKind::Failed { error, data } => (std::io::Error::from(error).kind(), data.to_vec()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn whoever_is_not_wanted_is_told() {
    let client = Side::new();
    let channel = double::event_channel().unwrap();
    let (listener, address) = listener(&channel, PortSpace::Reliable);
    let pairs: Vec<_> = (0..3).map(|tag| client.pair(&tagged(tag))).collect();
    let connect = |pair: &QueuePair, address| {
        let id = routed(&channel, PortSpace::Reliable, pair.tag(), address);
        id.connect(pair, &Parameters::default()).unwrap();
        id
    };
    let _one = connect(&pairs[0], address);
    request(&channel).id.reject(b"no credits").unwrap();
    assert_eq!(failure(&channel), (ErrorKind::ConnectionRefused, b"no credits".to_vec()));
    let _two = connect(&pairs[1], address);
    drop(request(&channel));
    assert_eq!(failure(&channel).0, ErrorKind::ConnectionRefused);
    drop(listener);
    let _three = connect(&pairs[2], address);
    assert_eq!(failure(&channel).0, ErrorKind::ConnectionRefused);
    let id = ConnectionId::new(&channel, PortSpace::Reliable, 1).unwrap();
    id.resolve_address(None, "198.51.100.1:1".parse().unwrap(), LIMIT).unwrap();
    assert_eq!(failure(&channel).0, ErrorKind::NetworkUnreachable);
}

#[test]
fn a_flood_of_requests_meets_the_backlog_and_goes_with_its_listener() {
    let before = double::alive();
    {
        let client = Side::new();
        let (channel, listening) = (double::event_channel().unwrap(), double::event_channel().unwrap());
        let (listener, address) = listener(&listening, PortSpace::Reliable);
        let pairs: Vec<_> = (0..3).map(|tag| client.pair(&tagged(tag))).collect();
        let ids: Vec<_> =
            pairs.iter().map(|pair| routed(&channel, PortSpace::Reliable, pair.tag(), address)).collect();
        for (id, pair) in ids.iter().zip(&pairs) {
            id.connect(pair, &Parameters::default()).unwrap();
        }
        assert_eq!(failure(&channel).0, ErrorKind::TimedOut);
        drop(listener);
        assert_eq!(failure(&channel).0, ErrorKind::ConnectionRefused);
        assert_eq!(failure(&channel).0, ErrorKind::ConnectionRefused);
    }
    assert_eq!(double::alive(), before);
}

#[test]
fn a_port_is_listened_on_once_and_only_on_addresses_of_devices() {
    let channel = double::event_channel().unwrap();
    let (_listener, address) = listener(&channel, PortSpace::Reliable);
    let id = ConnectionId::new(&channel, PortSpace::Reliable, 1).unwrap();
    assert_eq!(id.bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(id.bind("198.51.100.1:0".parse().unwrap()).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    id.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    assert_ne!(id.local_address().unwrap().port(), 0);
}

#[test]
fn whoever_asks_for_datagrams_is_told_where_to_send_them() {
    let (client, server) = (Side::new(), Side::new());
    let channel = double::event_channel().unwrap();
    let (_listener, address) = listener(&channel, PortSpace::Datagrams);
    let datagrams = QueuePairConfig { kind: Kind::Datagrams, ..tagged(1) };
    let (near, far) = (client.pair(&datagrams), server.pair(&QueuePairConfig { tag: 2, ..datagrams }));
    let near_id = routed(&channel, PortSpace::Datagrams, 1, address);
    let wrong = client.pair(&tagged(3));
    assert_eq!(near_id.connect(&wrong, &Parameters::default()).unwrap_err().kind(), ErrorKind::InvalidInput);
    near_id.connect(&near, &Parameters::default()).unwrap();
    let Request { id: far_id, .. } = request(&channel);
    assert!(far.receive(space(256), 0).is_err(), "nothing was told it yet");
    far_id.prepare(&far).unwrap();
    far.receive(space(256), 0).unwrap();
    far_id.accept(&far, &Parameters::default()).unwrap();
    let (to, there) = match next(&channel) {
        Event { tag: 1, kind: EventKind::Datagrams(to, _) } => (to, to.address(&client.domain).unwrap()),
        other => panic!("{other:?}"),
    };
    near.send_to(message(&[b"datagram"]), &there, to.number, to.key, Flags::default(), 0).unwrap();
    assert_eq!(received(server.completed()), [(2, b"datagram".to_vec())]);
}
