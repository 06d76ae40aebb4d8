//! Connections: order, ends, errors.

use super::*;
use futures::future::join_all;
use std::net::Shutdown;

#[test]
fn tcp_echo() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        assert_eq!(uring.peer(client).unwrap(), uring.local(server).unwrap());
        for length in [1, 64, 256, 257, 4096, 16 * 1024, 16 * 1024 + 1, 200_000] {
            let sent: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let push = uring.push(client, sent.clone());
            let received = uring.pop_exactly(server, length).await;
            push.await.unwrap();
            assert_eq!(received, sent);
            let (back, push) = (uring.pop_exactly(client, length), uring.push(server, received));
            let (back, pushed) = futures::join!(back, push);
            pushed.unwrap();
            assert_eq!(back, sent);
        }
    });
}

#[test]
fn unix_echo() {
    on_each(async |uring| {
        let scratch = Scratch::new("unix");
        let address = Endpoint::Unix(Some(scratch.path("socket")));
        let listener = uring.socket(Domain::Unix, SocketKind::Stream).unwrap();
        uring.bind(listener, &address).unwrap();
        uring.listen(listener, 8).unwrap();
        let client = uring.socket(Domain::Unix, SocketKind::Stream).unwrap();
        uring.connect(client, &address).await.unwrap();
        let accepted = uring.accept(listener).await.unwrap();
        assert_eq!(accepted.peer, Endpoint::Unix(None));
        uring.push(client, b"hello".to_vec()).await.unwrap();
        assert_eq!(uring.pop(accepted.qd).await.unwrap(), b"hello");
        uring.close(client);
        assert!(uring.pop(accepted.qd).await.unwrap().is_empty());
    });
}

#[test]
fn ipv6_echo() {
    on_each(async |uring| {
        let listener = uring.socket(Domain::V6, SocketKind::Stream).unwrap();
        if uring.bind(listener, &Endpoint::Inet("[::1]:0".parse().unwrap())).is_err() {
            return eprintln!("skipped: no IPv6");
        }
        uring.listen(listener, 8).unwrap();
        let client = uring.socket(Domain::V6, SocketKind::Stream).unwrap();
        uring.connect(client, &uring.local(listener).unwrap()).await.unwrap();
        let accepted = uring.accept(listener).await.unwrap();
        assert_eq!(accepted.peer, uring.local(client).unwrap());
        uring.push(accepted.qd, b"six".to_vec()).await.unwrap();
        assert_eq!(uring.pop(client).await.unwrap(), b"six");
    });
}

#[test]
fn many_pushes_and_pops_keep_their_order() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        // More than one operation can gather, and more than the socket takes at once.
        let message = |n: u32| n.to_le_bytes().repeat(1 + n as usize % 300);
        let pushes: Vec<_> = (0..2000).map(|n| uring.push(client, message(n))).collect();
        let expected: Vec<u8> = (0..2000).flat_map(message).collect();
        let pops: Vec<_> = (0..5).map(|_| uring.pop_limited(server, 1000)).collect();
        let mut received = Vec::new();
        for pop in join_all(pops).await {
            received.extend_from_slice(&pop.unwrap());
        }
        let rest = uring.pop_exactly(server, expected.len() - received.len()).await;
        received.extend(rest);
        assert!(received == expected);
        for push in join_all(pushes).await {
            push.unwrap();
        }
    });
}

#[test]
fn pushes_of_one_turn_go_out_together() {
    let config = Config { early_push: 0, ..Config::default() };
    on(config, async |uring| {
        let (server, client) = uring.pair().await;
        let before = counter(uring, "sent");
        let pushes: Vec<_> = (0..40).map(|_| uring.push(client, b"abc".to_vec())).collect();
        join_all(pushes).await;
        assert_eq!(counter(uring, "sent") - before, 1);
        assert_eq!(uring.pop_exactly(server, 120).await, b"abc".repeat(40));
    });
}

#[test]
fn half_close_lets_the_other_half_go_on() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        let push = uring.push(client, vec![7; 300_000]);
        uring.shutdown_socket(client, Shutdown::Write).unwrap();
        assert_eq!(uring.push(client, b"late".to_vec()).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(uring.pop_exactly(server, 300_000).await, vec![7; 300_000]);
        push.await.unwrap();
        assert!(uring.pop(server).await.unwrap().is_empty());
        assert!(uring.pop(server).await.unwrap().is_empty(), "the end stays");
        uring.push(server, b"back".to_vec()).await.unwrap();
        assert_eq!(uring.pop(client).await.unwrap(), b"back");
    });
}

#[test]
fn every_pop_sees_the_end() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        let pops: Vec<_> = (0..3).map(|_| uring.pop(server)).collect();
        uring.close(client);
        for pop in join_all(pops).await {
            assert!(pop.unwrap().is_empty());
        }
    });
}

#[test]
fn a_reset_is_an_error_of_pop_and_push() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        let pop = uring.pop(server);
        // Dropping it with a linger of 0 resets the connection.
        uring.set_option(client, crate::transport::SocketOption::Linger(Some(Duration::ZERO))).unwrap();
        uring.close(client);
        assert_eq!(pop.await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        // With early pushes the first one after that may be done before the kernel is asked.
        let mut last = Ok(());
        for _ in 0..3 {
            last = uring.push(server, b"x".to_vec()).await;
            sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(last.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_peer_that_vanishes_ends_pushes_under_way() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        let pushes: Vec<_> = (0..4).map(|_| uring.push(server, vec![0; 8 << 20])).collect();
        sleep(Duration::from_millis(5)).await;
        uring.set_option(client, crate::transport::SocketOption::Linger(Some(Duration::ZERO))).unwrap();
        uring.close(client);
        for push in join_all(pushes).await {
            assert!(push.is_err());
        }
        let before = buffers();
        uring.close(server);
        until(|| counter(uring, "sockets") == 0).await;
        assert!(buffers() <= before);
    });
}

#[test]
fn connecting_to_nobody_is_refused() {
    on_each(async |uring| {
        let (listener, address) = uring.listener();
        uring.close(listener);
        let client = uring.socket(Domain::V4, SocketKind::Stream).unwrap();
        let error = uring.connect(client, &address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn what_is_pushed_while_connecting_follows() {
    on_each(async |uring| {
        let (listener, address) = uring.listener();
        let client = uring.socket(Domain::V4, SocketKind::Stream).unwrap();
        let connect = uring.connect(client, &address);
        let (push, pop) = (uring.push(client, b"early".to_vec()), uring.pop(client));
        let server = uring.accept(listener).await.unwrap().qd;
        assert_eq!(uring.pop_exactly(server, 5).await, b"early");
        uring.push(server, b"reply".to_vec()).await.unwrap();
        connect.await.unwrap();
        push.await.unwrap();
        assert_eq!(pop.await.unwrap(), b"reply");
    });
}

#[test]
fn an_address_is_free_again_at_once() {
    on_each(async |uring| {
        let (listener, address) = uring.listener();
        let accept = uring.accept(listener);
        sleep(Duration::from_millis(1)).await;
        uring.close(listener);
        assert_eq!(accept.await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        let again = uring.socket(Domain::V4, SocketKind::Stream).unwrap();
        uring.bind(again, &address).unwrap();
        uring.listen(again, 8).unwrap();
    });
}

#[test]
fn numbers_that_are_closed_are_errors() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        uring.close(server);
        uring.close(server);
        assert_eq!(uring.pop(server).await.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(uring.push(server, b"x".to_vec()).await.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(uring.accept(client).await.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(uring.accept(Qd(9999)).await.unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn close_sends_what_was_pushed() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        let push = uring.push(client, vec![3; 3 << 20]);
        let small = uring.push(client, b"end".to_vec());
        uring.close(client);
        let mut received = uring.pop_exactly(server, (3 << 20) + 3).await;
        assert_eq!(received.split_off(3 << 20), b"end");
        push.await.unwrap();
        small.await.unwrap();
        assert!(uring.pop(server).await.unwrap().is_empty());
    });
}

#[test]
fn a_spinning_runtime_makes_no_system_call_for_nothing() {
    let uring = Tested(Uring::new(Config::default()).unwrap());
    let runtime = Runtime::new().unwrap();
    runtime.attach(Transport::both(uring.0.clone()));
    runtime.block_on(async {
        let (server, _client) = uring.pair().await;
        let _pop = uring.pop(server);
        sleep(Duration::from_millis(2)).await;
        let before = counter(&uring, "enters");
        for _ in 0..1000 {
            uring.poll(crate::transport::Turn::Idle);
            uring.poll(crate::transport::Turn::Busy);
        }
        assert_eq!(counter(&uring, "enters"), before);
    });
}
