//! Dropping tokens: nothing is lost, nothing leaks, nothing arrives where it should not.

use super::*;
use futures::future::join_all;

#[test]
fn a_dropped_pop_loses_no_data() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        for round in 0..20u8 {
            let pop = uring.pop(server);
            if round % 2 == 0 {
                // The kernel has it.
                sleep(Duration::from_micros(200)).await;
            }
            if round % 3 == 0 {
                // The data is there, perhaps before the cancellation is.
                uring.push(client, vec![round]).await.unwrap();
                if pop.is_done() {
                    assert_eq!(pop.await.unwrap(), [round]);
                    continue;
                }
                drop(pop);
            } else {
                drop(pop);
                uring.push(client, vec![round]).await.unwrap();
            }
            assert_eq!(uring.pop(server).await.unwrap(), [round]);
        }
    });
}

#[test]
fn dropping_a_pop_gives_its_memory_back() {
    on_each(async |uring| {
        let (server, client) = uring.pair().await;
        let before = counter(uring, "in_kernel");
        let pops: Vec<_> = (0..3).map(|_| uring.pop(server)).collect();
        sleep(Duration::from_millis(2)).await;
        drop(pops);
        until(|| counter(uring, "in_kernel") <= before).await;
        uring.push(client, b"still here".to_vec()).await.unwrap();
        assert_eq!(uring.pop(server).await.unwrap(), b"still here");
    });
}

#[test]
fn a_pop_that_is_asked_for_again_at_once_is_not_cancelled() {
    on(Config::default(), async |uring| {
        let (server, client) = uring.pair().await;
        let mut pop = uring.pop(server);
        sleep(Duration::from_millis(2)).await;
        let before = counter(uring, "cancelled");
        for _ in 0..10 {
            drop(pop);
            pop = uring.pop(server);
            sleep(Duration::from_micros(100)).await;
        }
        assert_eq!(counter(uring, "cancelled"), before);
        uring.push(client, b"x".to_vec()).await.unwrap();
        assert_eq!(pop.await.unwrap(), b"x");
    });
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    on_each(async |uring| {
        let (listener, address) = uring.listener();
        for round in 0..6 {
            let accept = uring.accept(listener);
            if round % 2 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            drop(accept);
            let client = uring.socket(Domain::V4, SocketKind::Stream).unwrap();
            uring.connect(client, &address).await.unwrap();
            sleep(Duration::from_millis(1)).await;
            let accepted = uring.accept(listener).await.unwrap();
            assert_eq!(accepted.peer, uring.local(client).unwrap());
            uring.close(client);
            uring.close(accepted.qd);
        }
    });
}

#[test]
fn a_dropped_connect_ends() {
    on_each(async |uring| {
        // Nobody answers there (TEST-NET-1), or there is no route; either way nothing is left behind.
        let client = uring.socket(Domain::V4, SocketKind::Stream).unwrap();
        let (full, address) = full_listener();
        let connect = uring.connect(client, &address);
        sleep(Duration::from_millis(2)).await;
        drop(connect);
        uring.close(client);
        until(|| counter(uring, "sockets") == 0).await;
        drop(full);
    });
}

/// A listening socket whose queue is full, so that connects to it stay under way.
fn full_listener() -> (Vec<socket2::Socket>, Endpoint) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut all = vec![listener];
    for _ in 0..3 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        all.push(socket);
    }
    (all, Endpoint::Inet(address.as_socket().unwrap()))
}

#[test]
fn a_dropped_push_is_sent_whole_or_not_at_all() {
    let config = |early_push| Config { early_push, ..Config::default() };
    for config in [config(0), Config { deferred_work: false, ..config(0) }] {
        on(config, async |uring| {
            let (server, client) = uring.pair().await;
            // Not with the kernel yet.
            drop(uring.push(client, b"never".to_vec()));
            // More than the socket takes: the first is under way when dropped, the others wait behind it.
            let first = uring.push(client, vec![1; 8 << 20]);
            let second = uring.push(client, vec![2; 1000]);
            let third = uring.push(client, vec![3; 1000]);
            sleep(Duration::from_millis(5)).await;
            drop(first);
            drop(second);
            sleep(Duration::from_millis(5)).await;
            let data = uring.pop_exactly(server, (8 << 20) + 1000).await;
            assert!(data[..8 << 20].iter().all(|&byte| byte == 1), "what was begun is sent to its end");
            assert!(data[8 << 20..].iter().all(|&byte| byte == 3), "what was not is not sent");
            third.await.unwrap();
        });
    }
}

#[test]
fn dropping_everything_gives_everything_back() {
    on_each(async |uring| {
        pool::trim();
        let memory = buffers();
        for delay in [0, 100, 1000, 3000] {
            let (server, client) = uring.pair().await;
            let (listener, _) = uring.listener();
            let accept = uring.accept(listener);
            let pops: Vec<_> = (0..2).map(|_| uring.pop(server)).collect();
            let pushes: Vec<_> = (0..2).map(|_| uring.push(server, vec![0; 4 << 20])).collect();
            sleep(Duration::from_micros(delay)).await;
            drop((accept, pops, pushes));
            uring.close(listener);
            uring.close(client);
            uring.close(server);
            until(|| counter(uring, "sockets") == 0).await;
        }
        // The ring of buffers may hold some.
        let held = 16 * 16 * 1024;
        assert!(buffers() <= memory + held, "{} bytes were in use, now {}", memory, buffers());
    });
}

#[test]
fn closing_tells_those_who_wait() {
    on_each(async |uring| {
        let (server, _client) = uring.pair().await;
        let pops: Vec<_> = (0..3).map(|_| uring.pop(server)).collect();
        sleep(Duration::from_millis(1)).await;
        uring.close(server);
        for pop in join_all(pops).await {
            assert_eq!(pop.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    });
}

#[test]
fn a_runtime_that_ends_leaves_nothing_in_the_kernel() {
    for (name, config) in configs() {
        eprintln!("- {name}");
        let uring = Tested(Uring::new(config).unwrap());
        let runtime = Runtime::new().unwrap();
        runtime.attach(Transport::both(uring.0.clone()));
        let tokens = runtime.block_on(async {
            let (server, client) = uring.pair().await;
            let (listener, _) = uring.listener();
            (
                uring.accept(listener),
                uring.pop(server),
                uring.pop(client),
                uring.push(client, vec![5; 16 << 20]),
            )
        });
        drop(runtime);
        assert_eq!(counter(&uring, "in_kernel"), 0);
        let (accept, pop_a, mut pop_b, mut push) = tokens;
        assert_eq!(pop_b.try_take().unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(push.try_take().unwrap().is_err());
        drop((accept, pop_a));
    }
}
