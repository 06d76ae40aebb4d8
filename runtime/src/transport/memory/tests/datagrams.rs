//! Datagrams.

use super::{at, config, kind, tell, token};
use crate::QToken;
use crate::buffer::Buffer;
use crate::time::{Duration, sleep};
use crate::transport::memory::{Memory, MemoryConfig};
use crate::transport::{Device, Domain, Endpoint, Network, Qd, SocketKind, SocketOption};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

fn bound(memory: &Memory, address: &str) -> Qd {
    let endpoint = at(address);
    let qd = memory.socket(endpoint.domain(), SocketKind::Datagram).unwrap();
    memory.bind(qd, &endpoint).unwrap();
    qd
}

fn send(memory: &Memory, qd: Qd, bytes: &[u8], to: &str) -> QToken<io::Result<()>> {
    let data = Buffer::from(bytes.to_vec()).into();
    token(|done| memory.push_to(qd, data, to.parse().unwrap(), done))
}

fn receive(memory: &Memory, qd: Qd) -> QToken<io::Result<(Buffer, SocketAddr)>> {
    token(|done| memory.pop_from(qd, 1 << 16, done))
}

/// Sends a hundred numbers, and says which arrived, in their order.
fn numbers(config: MemoryConfig) -> Vec<u8> {
    tell(config, |memory| async move {
        let (sender, receiver) = (bound(&memory, "127.0.0.1:1"), bound(&memory, "127.0.0.1:2"));
        for number in 0..100 {
            send(&memory, sender, &[number], "127.0.0.1:2").await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        let mut arrived = Vec::new();
        loop {
            let pop = receive(&memory, receiver);
            if !pop.is_done() {
                return arrived;
            }
            arrived.push(pop.await.unwrap().0[0]);
        }
    })
}

#[test]
fn on_a_good_day_all_arrive_in_their_order() {
    let jittery = MemoryConfig { jitter: Duration::from_millis(1), ..config() };
    assert_eq!(numbers(jittery), (0..100).collect::<Vec<_>>());
}

#[test]
fn some_are_lost() {
    let arrived = numbers(MemoryConfig { loss: 0.3, ..config() });
    assert!((50..90).contains(&arrived.len()), "{arrived:?}");
    assert!(arrived.is_sorted());
    assert_eq!(numbers(MemoryConfig { loss: 1.0, ..config() }), []);
}

#[test]
fn some_arrive_twice() {
    let mut arrived = numbers(MemoryConfig { duplicates: 0.3, ..config() });
    assert!((110..150).contains(&arrived.len()), "{arrived:?}");
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived.len(), 100);
}

#[test]
fn some_are_overtaken() {
    let mut arrived = numbers(MemoryConfig { reorders: 0.3, ..config() });
    assert!(!arrived.is_sorted());
    arrived.sort_unstable();
    assert_eq!(arrived, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_socket_sends_no_more_than_it_has_room_for() {
    tell(config(), |memory| async move {
        let sender = bound(&memory, "127.0.0.1:1");
        memory.set_option(sender, SocketOption::SendBuffer(3000)).unwrap();
        let sends: Vec<_> = (0..4).map(|_| send(&memory, sender, &[0; 1000], "127.0.0.1:2")).collect();
        let done: Vec<_> = sends.iter().map(QToken::is_done).collect();
        assert_eq!(done, [true, true, false, false]);
        for send in sends {
            send.await.unwrap();
        }
        // A large one goes when it is alone.
        memory.set_option(sender, SocketOption::SendBuffer(1)).unwrap();
        send(&memory, sender, &[0; 60_000], "127.0.0.1:2").await.unwrap();
        let given_up = send(&memory, sender, b"never", "127.0.0.1:2");
        drop(given_up);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(memory.counters()[10..13].iter().map(|counter| counter.1).sum::<u64>(), 5);
    });
}

#[test]
fn a_receiver_that_does_not_receive_has_no_room() {
    tell(config(), |memory| async move {
        let (sender, receiver) = (bound(&memory, "127.0.0.1:1"), bound(&memory, "0.0.0.0:2"));
        memory.set_option(receiver, SocketOption::ReceiveBuffer(2000)).unwrap();
        for _ in 0..9 {
            send(&memory, sender, &[0; 500], "127.0.0.1:2").await.unwrap();
        }
        sleep(Duration::from_millis(1)).await;
        let lost = memory.counters().into_iter().find(|counter| counter.0 == "datagrams without room");
        assert_eq!(lost.unwrap().1, 7);
        for _ in 0..2 {
            assert_eq!(receive(&memory, receiver).await.unwrap().0.len(), 500);
        }
        memory.close(receiver);
        memory.close(sender);
    });
}

#[test]
fn a_connected_socket_hears_that_nobody_is_there() {
    tell(config(), |memory| async move {
        let sender = bound(&memory, "127.0.0.1:1");
        token(|done| memory.connect(sender, &at("127.0.0.1:2"), done)).await.unwrap();
        let pop = token(|done| memory.pop(sender, 100, done));
        token(|done| memory.push(sender, Buffer::from_static(b"x").into(), done)).await.unwrap();
        assert_eq!(kind(pop.await), ErrorKind::ConnectionRefused);

        // It takes nothing from others.
        let other = bound(&memory, "127.0.0.1:3");
        send(&memory, other, b"not the peer", "127.0.0.1:1").await.unwrap();
        let peer = bound(&memory, "127.0.0.1:2");
        send(&memory, peer, b"the peer", "127.0.0.1:1").await.unwrap();
        assert_eq!(token(|done| memory.pop(sender, 100, done)).await.unwrap(), b"the peer");
        let unconnected = token(|done| memory.push(other, Buffer::from_static(b"x").into(), done)).await;
        assert_eq!(unconnected.unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
        let too_long = send(&memory, other, &[0; 65_508], "127.0.0.1:1").await;
        assert_eq!(too_long.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    });
}

#[test]
fn a_partition_loses_datagrams() {
    let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    tell(config(), |memory| async move {
        let (sender, receiver) = (bound(&memory, "10.0.0.1:1"), bound(&memory, "10.0.0.2:2"));
        memory.partition(other, one);
        send(&memory, sender, b"lost", "10.0.0.2:2").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        memory.heal(one, other);
        send(&memory, sender, b"found", "10.0.0.2:2").await.unwrap();
        assert_eq!(receive(&memory, receiver).await.unwrap().0, b"found");
    });
}

#[test]
fn families_meet_at_wildcard_addresses() {
    tell(config(), |memory| async move {
        let both = bound(&memory, "[::]:2");
        let v4 = bound(&memory, "127.0.0.1:1");
        send(&memory, v4, b"four", "127.0.0.1:2").await.unwrap();
        let (data, from) = receive(&memory, both).await.unwrap();
        assert_eq!((data.as_slice(), from.to_string()), (&b"four"[..], "[::ffff:127.0.0.1]:1".into()));
        send(&memory, both, b"back", "[::ffff:127.0.0.1]:1").await.unwrap();
        let (data, from) = receive(&memory, v4).await.unwrap();
        assert_eq!((data.as_slice(), from.to_string()), (&b"back"[..], "127.0.0.1:2".into()));
        // Without an address of its own it gets one.
        let v6 = memory.socket(Domain::V6, SocketKind::Datagram).unwrap();
        send(&memory, v6, b"six", "[::1]:2").await.unwrap();
        let (_, from) = receive(&memory, both).await.unwrap();
        let local = memory.local(v6).unwrap().inet().unwrap();
        assert_eq!((from.ip().to_string(), from.port()), ("::1".into(), local.port()));
        assert_eq!(kind(memory.bind(v6, &Endpoint::Unix(None))), ErrorKind::InvalidInput);
    });
}
