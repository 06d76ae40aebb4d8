//! Setting up connections: who is refused, what that is called, and what is left of it.

use super::world::World;
use crate::link::{Event, Failure, Hello, Id, Link, LinkConfig, REFUSAL, Refusal};
use demikernel_runtime::time::Instant;
use std::io::ErrorKind;
use std::time::Duration;

const NOW: Instant = Instant::from_nanos(1 << 50);
const HELLO: Hello = Hello { credits: 2, buffer_size: 4096, notices: true };

fn link(config: LinkConfig) -> (Link, Id) {
    let mut link = Link::new(config);
    link.posted(link.missing());
    let listener = link.listen(3);
    (link, listener)
}

fn drain(link: &mut Link) {
    while link.poll_event().is_some() {}
    while let Some(id) = link.poll_disconnect() {
        link.detached(id);
    }
}

#[test]
fn a_foreign_peer_is_refused_by_either_side() {
    let (mut server, listener) = link(LinkConfig::default());
    assert_eq!(server.request(NOW, listener, b"").unwrap_err(), Refusal::Foreign);
    assert_eq!(server.request(NOW, listener, b"rping says hello to its peer").unwrap_err(), Refusal::Foreign);
    let mut other = HELLO.to_bytes();
    other[4] = 9;
    assert_eq!(server.request(NOW, listener, &other).unwrap_err(), Refusal::Version(9));
    assert_eq!(server.counters().foreign, 3);
    server.assert_empty();

    let (mut client, _) = link(LinkConfig::default());
    let (id, _) = client.connect(NOW).unwrap();
    assert_eq!(client.connected(id).unwrap_err().kind(), ErrorKind::WouldBlock);
    client.established(id, b"not ours");
    let error = client.connected(id).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().starts_with("the peer does not speak this protocol"), "{error}");
    assert_eq!(client.poll_disconnect(), Some(id), "what was established is ended");
    client.detached(id);
    client.close(NOW, id);
    drain(&mut client);
    client.assert_empty();
}

#[test]
fn refusals_have_names() {
    for (private, text) in [
        (&Refusal::TooMany.to_bytes()[..], "as many connections as its limit allows"),
        (&Refusal::Version(0).to_bytes(), "version 1"),
        (&[0; REFUSAL], "nobody listens"),
        (&[], "nobody listens"),
        (b"go away", "another protocol"),
    ] {
        let (mut client, _) = link(LinkConfig::default());
        let (id, _) = client.connect(NOW).unwrap();
        client.refused(id, private);
        let error = client.connected(id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn setting_up_that_takes_too_long_is_given_up_by_either_side() {
    let (mut server, listener) = link(LinkConfig::default());
    let (_, reply) = server.request(NOW, listener, &HELLO.to_bytes()).unwrap();
    assert!(Hello::parse(&reply).is_ok());
    let due = server.next_deadline().unwrap();
    assert_eq!(due, NOW + Duration::from_secs(5));
    server.tick(due);
    drain(&mut server);
    server.assert_empty();
    assert_eq!(server.counters().timeouts, 1);

    let (mut client, _) = link(LinkConfig::default());
    let (id, _) = client.connect(NOW).unwrap();
    client.tick(due);
    assert_eq!(client.connected(id).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_flood_of_requests_meets_limits() {
    let (mut server, listener) = link(LinkConfig { half_open: 2, ..LinkConfig::default() });
    let ask =
        |server: &mut Link, now: Instant| server.request(now, listener, &HELLO.to_bytes()).map(|(id, _)| id);
    let first = ask(&mut server, NOW).unwrap();
    ask(&mut server, NOW).unwrap();
    assert_eq!(ask(&mut server, NOW), Err(Refusal::TooFast), "two are half open");
    server.established(first, &[]);
    let third = ask(&mut server, NOW).unwrap();
    server.established(third, &[]);
    assert_eq!(ask(&mut server, NOW), Err(Refusal::Backlog), "two wait, and one is half open");
    assert_eq!(server.accept(listener).unwrap(), first);
    ask(&mut server, NOW).unwrap();

    let (mut server, listener) = link(LinkConfig { rate: 1, ..LinkConfig::default() });
    server.set_backlog(listener, 100);
    let mut ask = |now: Instant| server.request(now, listener, &HELLO.to_bytes()).is_ok();
    assert_eq!((ask(NOW), ask(NOW), ask(NOW + Duration::from_secs(1))), (true, false, true));

    let (mut server, listener) = link(LinkConfig { buffers: 8, floor: 2, ..LinkConfig::default() });
    let mut ask = || server.request(NOW, listener, &HELLO.to_bytes()).map(|(id, _)| id);
    assert!(ask().is_ok() && ask().is_ok());
    assert_eq!(ask(), Err(Refusal::TooMany), "each has a right to four buffers");
}

#[test]
fn connections_that_nobody_takes_are_reset_with_their_listener() {
    let configs = vec![LinkConfig::default(), LinkConfig::default()];
    let mut world = World::new(1, configs);
    let listener = world.hosts[1].link.listen(8);
    let client = world.connect(0, 1, listener).unwrap();
    let mut is_there = false;
    for _ in 0..100 {
        world.turn(0);
        is_there |= world.turn(1).contains(&Event::Listener(listener));
        world.advance();
    }
    assert!(is_there);
    assert!(world.hosts[0].link.connected(client).is_ok());
    world.hosts[1].link.unlisten(listener);
    for _ in 0..100 {
        world.turn(0);
        world.turn(1);
        world.advance();
    }
    let error = world.hosts[0].link.receive(client, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let now = world.now;
    world.hosts[0].link.close(now, client);
    world.hosts[1].link.assert_empty();
    world.hosts[0].link.assert_empty();
}

#[test]
fn each_failure_has_the_kind_that_tcp_gives() {
    for (failure, kind) in [
        (Failure::Reset, ErrorKind::ConnectionReset),
        (Failure::TimedOut, ErrorKind::TimedOut),
        (Failure::NobodyListens, ErrorKind::ConnectionRefused),
        (Failure::Unreachable, ErrorKind::HostUnreachable),
    ] {
        let (mut client, _) = link(LinkConfig::default());
        let (id, _) = client.connect(NOW).unwrap();
        client.broken(id, failure);
        assert_eq!(client.connected(id).unwrap_err().kind(), kind);
    }
}
