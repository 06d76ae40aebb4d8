//! Datagrams.

use super::{at, config, kind, tell, token};
use crate::QToken;
use crate::buffer::Buffer;
use crate::time::{Duration, sleep};
use crate::transport::sim::{Sim, SimConfig};
use crate::transport::{Device, Domain, Endpoint, Network, Qd, SocketKind, SocketOption};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

fn bound(sim: &Sim, address: &str) -> Qd {
    let endpoint = at(address);
    let qd = sim.socket(endpoint.domain(), SocketKind::Datagram).unwrap();
    sim.bind(qd, &endpoint).unwrap();
    qd
}

fn send(sim: &Sim, qd: Qd, bytes: &[u8], to: &str) -> QToken<io::Result<()>> {
    let data = Buffer::from(bytes.to_vec()).into();
    token(|done| sim.push_to(qd, data, to.parse().unwrap(), done))
}

fn receive(sim: &Sim, qd: Qd) -> QToken<io::Result<(Buffer, SocketAddr)>> {
    token(|done| sim.pop_from(qd, 1 << 16, done))
}

/// Sends a hundred numbers, and says which arrived, in their order.
fn numbers(config: SimConfig) -> Vec<u8> {
    tell(config, |sim| async move {
        let (sender, receiver) = (bound(&sim, "127.0.0.1:1"), bound(&sim, "127.0.0.1:2"));
        for number in 0..100 {
            send(&sim, sender, &[number], "127.0.0.1:2").await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        let mut arrived = Vec::new();
        loop {
            let pop = receive(&sim, receiver);
            if !pop.is_done() {
                return arrived;
            }
            arrived.push(pop.await.unwrap().0[0]);
        }
    })
}

#[test]
fn on_a_good_day_all_arrive_in_their_order() {
    let jittery = SimConfig { jitter: Duration::from_millis(1), ..config() };
    assert_eq!(numbers(jittery), (0..100).collect::<Vec<_>>());
}

#[test]
fn some_are_lost() {
    let arrived = numbers(SimConfig { loss: 0.3, ..config() });
    assert!((50..90).contains(&arrived.len()), "{arrived:?}");
    assert!(arrived.is_sorted());
    assert_eq!(numbers(SimConfig { loss: 1.0, ..config() }), []);
}

#[test]
fn some_arrive_twice() {
    let mut arrived = numbers(SimConfig { duplicates: 0.3, ..config() });
    assert!((110..150).contains(&arrived.len()), "{arrived:?}");
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived.len(), 100);
}

#[test]
fn some_are_overtaken() {
    let mut arrived = numbers(SimConfig { reorders: 0.3, ..config() });
    assert!(!arrived.is_sorted());
    arrived.sort_unstable();
    assert_eq!(arrived, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_socket_sends_no_more_than_it_has_room_for() {
    tell(config(), |sim| async move {
        let sender = bound(&sim, "127.0.0.1:1");
        sim.set_option(sender, SocketOption::SendBuffer(3000)).unwrap();
        let sends: Vec<_> = (0..4).map(|_| send(&sim, sender, &[0; 1000], "127.0.0.1:2")).collect();
        let done: Vec<_> = sends.iter().map(QToken::is_done).collect();
        assert_eq!(done, [true, true, false, false]);
        for send in sends {
            send.await.unwrap();
        }
        // A large one goes when it is alone.
        sim.set_option(sender, SocketOption::SendBuffer(1)).unwrap();
        send(&sim, sender, &[0; 60_000], "127.0.0.1:2").await.unwrap();
        let given_up = send(&sim, sender, b"never", "127.0.0.1:2");
        drop(given_up);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(sim.counters()[10..13].iter().map(|counter| counter.1).sum::<u64>(), 5);
    });
}

#[test]
fn a_receiver_that_does_not_receive_has_no_room() {
    tell(config(), |sim| async move {
        let (sender, receiver) = (bound(&sim, "127.0.0.1:1"), bound(&sim, "0.0.0.0:2"));
        sim.set_option(receiver, SocketOption::ReceiveBuffer(2000)).unwrap();
        for _ in 0..9 {
            send(&sim, sender, &[0; 500], "127.0.0.1:2").await.unwrap();
        }
        sleep(Duration::from_millis(1)).await;
        let lost = sim.counters().into_iter().find(|counter| counter.0 == "datagrams without room");
        assert_eq!(lost.unwrap().1, 7);
        for _ in 0..2 {
            assert_eq!(receive(&sim, receiver).await.unwrap().0.len(), 500);
        }
        sim.close(receiver);
        sim.close(sender);
    });
}

#[test]
fn a_connected_socket_hears_that_nobody_is_there() {
    tell(config(), |sim| async move {
        let sender = bound(&sim, "127.0.0.1:1");
        token(|done| sim.connect(sender, &at("127.0.0.1:2"), done)).await.unwrap();
        let pop = token(|done| sim.pop(sender, 100, done));
        token(|done| sim.push(sender, Buffer::from_static(b"x").into(), done)).await.unwrap();
        assert_eq!(kind(pop.await), ErrorKind::ConnectionRefused);

        // It takes nothing from others.
        let other = bound(&sim, "127.0.0.1:3");
        send(&sim, other, b"not the peer", "127.0.0.1:1").await.unwrap();
        let peer = bound(&sim, "127.0.0.1:2");
        send(&sim, peer, b"the peer", "127.0.0.1:1").await.unwrap();
        assert_eq!(token(|done| sim.pop(sender, 100, done)).await.unwrap(), b"the peer");
        let unconnected = token(|done| sim.push(other, Buffer::from_static(b"x").into(), done)).await;
        assert_eq!(unconnected.unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
        let too_long = send(&sim, other, &[0; 65_508], "127.0.0.1:1").await;
        assert_eq!(too_long.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    });
}

#[test]
fn a_partition_loses_datagrams() {
    let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    tell(config(), |sim| async move {
        let (sender, receiver) = (bound(&sim, "10.0.0.1:1"), bound(&sim, "10.0.0.2:2"));
        sim.partition(other, one);
        send(&sim, sender, b"lost", "10.0.0.2:2").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        sim.heal(one, other);
        send(&sim, sender, b"found", "10.0.0.2:2").await.unwrap();
        assert_eq!(receive(&sim, receiver).await.unwrap().0, b"found");
    });
}

#[test]
fn families_meet_at_wildcard_addresses() {
    tell(config(), |sim| async move {
        let both = bound(&sim, "[::]:2");
        let v4 = bound(&sim, "127.0.0.1:1");
        send(&sim, v4, b"four", "127.0.0.1:2").await.unwrap();
        let (data, from) = receive(&sim, both).await.unwrap();
        assert_eq!((data.as_slice(), from.to_string()), (&b"four"[..], "[::ffff:127.0.0.1]:1".into()));
        send(&sim, both, b"back", "[::ffff:127.0.0.1]:1").await.unwrap();
        let (data, from) = receive(&sim, v4).await.unwrap();
        assert_eq!((data.as_slice(), from.to_string()), (&b"back"[..], "127.0.0.1:2".into()));
        // Without an address of its own it gets one.
        let v6 = sim.socket(Domain::V6, SocketKind::Datagram).unwrap();
        send(&sim, v6, b"six", "[::1]:2").await.unwrap();
        let (_, from) = receive(&sim, both).await.unwrap();
        let local = sim.local(v6).unwrap().inet().unwrap();
        assert_eq!((from.ip().to_string(), from.port()), ("::1".into(), local.port()));
        assert_eq!(kind(sim.bind(v6, &Endpoint::Unix(None))), ErrorKind::InvalidInput);
    });
}
