//! What is this transport's own: when it makes system calls, and what idle sockets cost. What all kernel
//! transports do is tested for all of them in `tests/transport`.

use super::Epoll;
use crate::buffer::{Buffer, pool};
use crate::executor::{Builder, Idle, QToken, Runtime, operation, spawn, yield_now};
use crate::time::{Duration, sleep, timeout};
use crate::transport::{Device, Domain, Endpoint, Network, Qd, SocketKind, Transport};
use std::io::{Read, Write};
use std::rc::Rc;

fn runtime(idle: Idle) -> (Runtime, Rc<Epoll>) {
    let runtime = Builder::new().idle(idle).build().unwrap();
    let epoll = Epoll::new().unwrap();
    runtime.attach(Transport::both(epoll.clone()));
    (runtime, epoll)
}

fn pop(epoll: &Epoll, qd: Qd) -> QToken<std::io::Result<Buffer>> {
    let (token, done) = operation();
    epoll.pop(qd, 1 << 20, done);
    token
}

fn push(epoll: &Epoll, qd: Qd, data: impl Into<crate::buffer::Sga>) -> QToken<std::io::Result<()>> {
    let (token, done) = operation();
    epoll.push(qd, data.into(), done);
    token
}

async fn accept(epoll: &Epoll, qd: Qd) -> Qd {
    let (token, done) = operation();
    epoll.accept(qd, done);
    token.await.unwrap().qd
}

fn listener(epoll: &Epoll) -> (Qd, std::net::SocketAddr) {
    let qd = epoll.socket(Domain::V4, SocketKind::Stream).unwrap();
    epoll.bind(qd, &Endpoint::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
    epoll.listen(qd, 1024).unwrap();
    (qd, epoll.local(qd).unwrap().inet().unwrap())
}

async fn with_peer(epoll: &Epoll) -> (Qd, std::net::TcpStream) {
    let (listener, address) = listener(epoll);
    let peer = std::net::TcpStream::connect(address).unwrap();
    let server = accept(epoll, listener).await;
    epoll.close(listener);
    (server, peer)
}

/// The counters named, one after the other.
fn counters<const N: usize>(epoll: &Epoll, names: [&str; N]) -> [u64; N] {
    let all = epoll.counters();
    names.map(|name| all.iter().find(|counter| counter.0 == name).unwrap().1)
}

const CALLS: [&str; 3] = ["epoll_wait calls", "receive calls", "send calls"];

#[test]
fn a_message_costs_three_system_calls() {
    let (runtime, epoll) = runtime(Idle::Block);
    runtime.block_on(async {
        let (server, mut peer) = with_peer(&epoll).await;
        let rounds = 1000;
        let thread = std::thread::spawn(move || {
            for round in 0..rounds {
                let mut back = [0; 64];
                peer.write_all(&[round as u8; 64]).unwrap();
                peer.read_exact(&mut back).unwrap();
                assert_eq!(back, [round as u8; 64]);
            }
        });
        // The first registers the socket.
        let first = pop(&epoll, server).await.unwrap();
        push(&epoll, server, first).await.unwrap();
        let before = counters(&epoll, CALLS);
        for _ in 1..rounds {
            let data = pop(&epoll, server).await.unwrap();
            push(&epoll, server, data).await.unwrap();
        }
        let calls: Vec<_> =
            counters(&epoll, CALLS).iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(calls[1..], [rounds - 1, rounds - 1], "receives and sends are never in vain");
        // A wait may end early, for acknowledgements make a socket writable.
        assert!(calls[0] <= (rounds - 1) * 2, "{calls:?}");
        thread.join().unwrap();
        epoll.close(server);
    });
}

#[test]
fn no_system_call_while_tasks_are_ready() {
    let (runtime, epoll) = runtime(Idle::default());
    runtime.block_on(async {
        let (server, _peer) = with_peer(&epoll).await;
        let [before] = counters(&epoll, ["epoll_wait calls"]);
        for _ in 0..100_000 {
            yield_now().await;
        }
        assert_eq!(counters(&epoll, ["epoll_wait calls"]), [before], "nothing waits");

        let turns = runtime.metrics().turns;
        let waiting = pop(&epoll, server);
        for _ in 0..100_000 {
            yield_now().await;
        }
        let [after] = counters(&epoll, ["epoll_wait calls"]);
        assert!(after - before <= runtime.metrics().turns - turns);
        assert!(after - before <= 100_000 / 100, "{} for 100,000 polls of a task", after - before);
        drop(waiting);
        epoll.close(server);
    });
}

#[test]
fn idle_connections_hold_no_buffers() {
    let (runtime, epoll) = runtime(Idle::Block);
    runtime.block_on(async {
        let before = pool::stats().in_use();
        let (listener, address) = listener(&epoll);
        let mut ends = Vec::new();
        for _ in 0..100 {
            let peer = std::net::TcpStream::connect(address).unwrap();
            let server = accept(&epoll, listener).await;
            ends.push((server, peer, pop(&epoll, server)));
        }
        sleep(Duration::from_millis(5)).await;
        assert_eq!(pool::stats().in_use(), before);
        for (server, peer, pop) in ends {
            drop(peer);
            assert!(pop.await.unwrap().is_empty());
            epoll.close(server);
        }
        epoll.close(listener);
    });
}

#[test]
fn another_device_can_block_for_it() {
    let (runtime, first) = runtime(Idle::Block);
    let second = Epoll::new().unwrap();
    runtime.attach(Transport::both(second.clone()));
    runtime.block_on(async {
        let (server, mut peer) = with_peer(&second).await;
        let (other, mut other_peer) = with_peer(&first).await;
        let thread = std::thread::spawn(move || {
            for _ in 0..100 {
                let mut byte = [0];
                std::thread::sleep(Duration::from_micros(200));
                peer.write_all(b"x").unwrap();
                peer.read_exact(&mut byte).unwrap();
                other_peer.write_all(b"y").unwrap();
                other_peer.read_exact(&mut byte).unwrap();
            }
        });
        for _ in 0..100 {
            let from_second = pop(&second, server).await.unwrap();
            assert_eq!(from_second, b"x");
            push(&second, server, from_second).await.unwrap();
            let from_first = pop(&first, other).await.unwrap();
            assert_eq!(from_first, b"y");
            push(&first, other, from_first).await.unwrap();
        }
        thread.join().unwrap();
        // Events for which nobody waits do not keep the runtime from blocking.
        let parks = runtime.metrics().parks;
        sleep(Duration::from_millis(50)).await;
        assert!(runtime.metrics().parks - parks < 20);
        second.close(server);
        first.close(other);
    });
}

#[test]
fn operations_after_the_end_are_errors() {
    let (runtime, epoll) = runtime(Idle::Block);
    let server = runtime.block_on(async { with_peer(&epoll).await.0 });
    drop(runtime);
    let other = Runtime::new().unwrap();
    other.block_on(async {
        assert!(pop(&epoll, server).await.is_err());
        assert!(push(&epoll, server, Buffer::from_static(b"x")).await.is_err());
        assert!(epoll.socket(Domain::V4, SocketKind::Stream).is_err());
    });
}

#[test]
fn a_task_that_never_waits_lets_others_run() {
    let (runtime, epoll) = runtime(Idle::Spin);
    runtime.block_on(async {
        let (server, mut peer) = with_peer(&epoll).await;
        peer.write_all(&[1; 100_000]).unwrap();
        let greedy = spawn({
            let epoll = epoll.clone();
            async move {
                // Every one of these could be done at once.
                for _ in 0..100_000 {
                    let (token, done) = operation();
                    epoll.pop(server, 1, done);
                    assert_eq!(token.await.unwrap(), [1]);
                }
                epoll.close(server);
            }
        });
        let mut turns = 0;
        while !greedy.is_finished() {
            yield_now().await;
            turns += 1;
        }
        assert!(turns > 1000, "{turns} turns in 100,000 pops");
        let finished = timeout(Duration::from_secs(1), greedy).await;
        finished.unwrap().unwrap();
    });
}
