//! Tokens that are dropped before their operation is done.

use crate::harness::Net;
use crate::operations::{buffer, pattern};
use demikernel_runtime::buffer::{Buffer, pool};
use demikernel_runtime::time::{Duration, sleep};
use demikernel_runtime::transport::{Domain, Qd};
use demikernel_runtime::{QToken, spawn, yield_now};
use futures::future::{join_all, poll_fn};
use std::io::Read;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::Poll;

type Run = Pin<Box<dyn Future<Output = ()>>>;

pub(crate) fn a_cancelled_pop_loses_nothing(net: Net) -> Run {
    Box::pin(async move {
        for domain in [Domain::V4, Domain::Unix] {
            let (client, server) = net.pair(domain).await;
            let sent = pattern(100_000, 5);
            let mut received = Vec::new();
            let mut parts = sent.chunks(97).enumerate();
            while received.len() < sent.len() {
                if let Some((index, part)) = parts.next() {
                    // Given up with nothing there, and with data on its way or there already.
                    let mut pops = [net.pop(server), net.pop(server), net.pop(server)];
                    if index % 3 == 0 {
                        yield_now().await;
                    }
                    net.push(client, buffer(part)).await.unwrap();
                    if index % 2 == 0 {
                        yield_now().await;
                    }
                    // The one that has its result is not given up.
                    for pop in &mut pops {
                        if let Some(data) = take_if_done(pop) {
                            received.extend_from_slice(&data.unwrap());
                        }
                    }
                } else {
                    received.extend_from_slice(&net.pop(server).await.unwrap());
                }
            }
            assert!(received == sent);
            net.network.close(client);
            net.network.close(server);
        }
    })
}

/// Between two looks at a token. To yield would not do: virtual time stands still while a task is ready.
const A_MOMENT: Duration = Duration::from_micros(10);

/// Tokens that are dropped when their results are there already.
pub(crate) fn a_result_that_nobody_took_goes_to_the_next(net: Net) -> Run {
    Box::pin(async move {
        for domain in [Domain::V4, Domain::Unix] {
            let (client, server) = net.pair(domain).await;
            for round in 0..20u8 {
                let mut pops: Vec<_> = (0..3).map(|_| net.pop_up_to(server, 2)).collect();
                let sent = [round, 1, 2, 3, 4, 5];
                net.push(client, buffer(&sent)).await.unwrap();
                while !pops.iter().all(QToken::is_done) {
                    sleep(A_MOMENT).await;
                }
                // In any order, and not all.
                let kept = pops.remove(usize::from(round % 3));
                if round % 2 == 0 {
                    pops.reverse();
                }
                drop(pops);
                let skip = usize::from(round % 3) * 2;
                assert_eq!(kept.await.unwrap(), sent[skip..skip + 2]);
                let mut rest = Vec::new();
                while rest.len() < 4 {
                    rest.extend_from_slice(&net.pop_up_to(server, 3).await.unwrap());
                }
                assert_eq!(rest, [&sent[..skip], &sent[skip + 2..]].concat());
            }
            net.network.close(client);
            net.network.close(server);
        }
        let (listener, address) = net.listener(Domain::V4);
        for _ in 0..5 {
            let client = net.stream(Domain::V4);
            net.connect(client, &address).await.unwrap();
            drop_when_done(net.accept(listener)).await;
            let accepted = net.accept(listener).await.unwrap();
            assert_eq!(accepted.peer, net.network.local(client).unwrap());
            net.network.close(accepted.qd);
            net.network.close(client);
        }
        // One that nobody takes is closed with its listener.
        let client = net.stream(Domain::V4);
        net.connect(client, &address).await.unwrap();
        drop_when_done(net.accept(listener)).await;
        net.network.close(listener);
        let ended = net.pop(client).await;
        assert!(ended.is_err() || ended.is_ok_and(|data| data.is_empty()));
        net.network.close(client);
    })
}

/// Pops that are dropped together, some of which are done, in whatever order: their data is the next that is popped, in its
/// order, whether the next pop is there already or not.
pub(crate) fn pops_given_up_together_leave_the_order(net: Net) -> Run {
    Box::pin(async move {
        for domain in [Domain::V4, Domain::Unix] {
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
                for late in [false, true] {
                    let (client, server) = net.pair(domain).await;
                    let mut pops: Vec<_> = (0..3).map(|_| Some(net.pop_up_to(server, 2))).collect();
                    let mut next = if late { None } else { Some(net.pop_up_to(server, 6)) };
                    net.push(client, buffer(b"abcd")).await.unwrap();
                    while !pops[1].as_ref().unwrap().is_done() {
                        sleep(A_MOMENT).await;
                    }
                    order.iter().for_each(|place| drop(pops[*place].take()));
                    net.push(client, buffer(b"ef")).await.unwrap();
                    let mut received = Vec::new();
                    while received.len() < 6 {
                        let pop = next.take().unwrap_or_else(|| net.pop_up_to(server, 6));
                        received.extend_from_slice(&pop.await.unwrap());
                    }
                    assert_eq!(received, b"abcdef", "{domain:?}, dropped as {order:?}");
                    net.network.close(client);
                    net.network.close(server);
                }
            }
        }
    })
}

async fn drop_when_done<T>(token: QToken<T>) {
    while !token.is_done() {
        sleep(A_MOMENT).await;
    }
}

fn take_if_done<T>(token: &mut QToken<T>) -> Option<T> {
    token.is_done().then(|| token.try_take()).flatten()
}

pub(crate) fn a_cancelled_accept_loses_nothing(net: Net) -> Run {
    Box::pin(async move {
        let (listener, address) = net.listener(Domain::V4);
        for _ in 0..20 {
            let given_up = [net.accept(listener), net.accept(listener)];
            yield_now().await;
            let kept = net.accept(listener);
            drop(given_up);
            let client = net.stream(Domain::V4);
            net.connect(client, &address).await.unwrap();
            let server = kept.await.unwrap();
            assert_eq!(net.network.local(client).unwrap(), server.peer);
            net.network.close(client);
            net.network.close(server.qd);
        }
        net.network.close(listener);
    })
}

pub(crate) fn a_cancelled_push_is_not_sent(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        let large = pattern(16 << 20, 6);
        // The first is more than the kernel takes, so the others wait.
        let first = net.push(client, Buffer::from(large.clone()));
        let mut rest: Vec<_> = (0..9u8).map(|number| Some(net.push(client, buffer(&[number; 9])))).collect();
        yield_now().await;
        for given_up in [0, 4, 5, 8] {
            rest[given_up] = None;
        }
        let kept = [1u8, 2, 3, 6, 7];
        let expected: Vec<u8> = kept.iter().flat_map(|number| [*number; 9]).collect();
        assert!(net.pop_exactly(server, large.len()).await == large);
        assert_eq!(net.pop_exactly(server, expected.len()).await, expected);
        first.await.unwrap();
        assert!(join_all(rest.into_iter().flatten()).await.iter().all(Result::is_ok));
        net.network.close(client);
        assert!(net.pop(server).await.unwrap().is_empty());
        net.network.close(server);
    })
}

pub(crate) fn a_push_that_has_started_is_whole(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        let large = pattern(16 << 20, 7);
        let given_up = net.push(client, Buffer::from(large.clone()));
        let mut received = net.pop_exactly(server, 1).await;
        drop(given_up);
        let last = net.push(client, buffer(b"end"));
        received.extend(net.pop_exactly(server, large.len() - 1 + 3).await);
        last.await.unwrap();
        assert!(received[..large.len()] == large && received[large.len()..] == *b"end");
        net.network.close(client);
        net.network.close(server);
    })
}

pub(crate) fn a_cancelled_connect(net: Net) -> Run {
    Box::pin(async move {
        let listener = net.stream(Domain::V4);
        net.network.bind(listener, &crate::harness::any_address(Domain::V4)).unwrap();
        net.network.listen(listener, 0).unwrap();
        let address = net.network.local(listener).unwrap();
        // Beyond the first few the kernel drops what comes, so those connects wait.
        let clients: Vec<Qd> = (0..6).map(|_| net.stream(Domain::V4)).collect();
        let mut connects: Vec<_> = clients.iter().map(|&client| net.connect(client, &address)).collect();
        sleep(Duration::from_millis(20)).await;
        assert!(connects.iter().any(|connect| !connect.is_done()), "all were accepted by the kernel");
        connects.clear();
        for client in clients {
            net.network.close(client);
        }
        net.network.close(listener);
    })
}

/// Closes its socket, however the future around it ends.
struct Guard(Net, Qd);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.network.close(self.1);
    }
}

/// Some of everything, with many places to be cancelled at.
async fn scenario(net: Net, domain: Domain) {
    let (listener, address) = net.listener(domain);
    let _listener = Guard(net.clone(), listener);
    let client = net.stream(domain);
    let _client = Guard(net.clone(), client);
    let accepted = net.accept(listener);
    yield_now().await;
    let connected = net.connect(client, &address);
    yield_now().await;
    let server = accepted.await.unwrap().qd;
    let _server = Guard(net.clone(), server);
    connected.await.unwrap();
    let data = pattern(1 << 20, 8);
    for size in [10, 100_000, 1 << 20] {
        let sent = Buffer::from(data[..size].to_vec());
        let first = net.pop_up_to(server, 1);
        yield_now().await;
        let pushed = net.push(client, sent);
        let also = net.push(client, buffer(b"!"));
        yield_now().await;
        assert_eq!(first.await.unwrap(), data[..1]);
        assert!(net.pop_exactly(server, size - 1).await == data[1..size]);
        yield_now().await;
        assert_eq!(net.pop(server).await.unwrap(), b"!");
        pushed.await.unwrap();
        also.await.unwrap();
        let (popped, pushed) = futures::join!(net.pop(client), net.push(server, buffer(b"thanks")));
        assert_eq!(popped.unwrap(), b"thanks");
        pushed.unwrap();
    }
    net.network.shutdown_socket(client, Shutdown::Write).unwrap();
    assert!(net.pop(server).await.unwrap().is_empty());
}

pub(crate) fn cancelled_at_every_step(net: Net) -> Run {
    Box::pin(async move {
        for domain in [Domain::V4, Domain::Unix] {
            // A device may keep some buffers from its first use on.
            scenario(net.clone(), domain).await;
            let before = pool::stats().in_use();
            let mut steps = 0;
            loop {
                let mut future = pin!(scenario(net.clone(), domain));
                let mut left = steps;
                let done = poll_fn(|cx| {
                    if left == 0 {
                        return Poll::Ready(false);
                    }
                    left -= 1;
                    future.as_mut().poll(cx).map(|()| true)
                })
                .await;
                if done {
                    break;
                }
                steps += 1;
            }
            assert!(steps > 15, "{steps} steps");
            // A device may have to hear from the kernel first.
            for _ in 0..200 {
                if pool::stats().in_use() <= before {
                    break;
                }
                sleep(Duration::from_millis(1)).await;
            }
            assert!(pool::stats().in_use() <= before);
        }
    })
}

pub(crate) fn cancelled_operations_do_not_pile_up(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        let (listener, _) = net.listener(Domain::V4);
        for round in 0..10_000 {
            drop((net.pop(server), net.accept(listener)));
            if round % 64 == 0 {
                yield_now().await;
            }
        }
        sleep(Duration::from_millis(10)).await;
        assert!(net.counter("operations waiting").unwrap_or(0) < 8);
        net.push(client, buffer(b"still here")).await.unwrap();
        assert_eq!(net.pop(server).await.unwrap(), b"still here");
        for qd in [client, server, listener] {
            net.network.close(qd);
        }
    })
}

pub(crate) fn a_detached_push_is_sent(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        let data = pattern(12 << 20, 9);
        for part in data.chunks(1 << 20) {
            net.push(client, Buffer::from(part.to_vec())).detach();
        }
        // Cancelling another one leaves them alone.
        drop(net.push(client, buffer(b"never")));
        net.network.shutdown_socket(client, Shutdown::Write).unwrap();
        assert!(net.pop_all(server).await == data);
        net.network.close(client);
        net.network.close(server);
    })
}

pub(crate) fn the_end_of_the_runtime_cancels(net: Net) -> Run {
    Box::pin(async move {
        let (server, mut peer) = net.with_peer().await;
        let data = pattern(6 << 20, 10);
        net.push(server, Buffer::from(data.clone())).detach();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            received
        });
        // What was pushed still goes out while the runtime ends; it was given a moment for that.
        net.afterwards(move || assert!(reader.join().unwrap() == data));

        // And what waits is given up, with its memory.
        let (client, other) = net.pair(Domain::Unix).await;
        let (listener, _) = net.listener(Domain::V4);
        spawn({
            let net = net.clone();
            async move {
                let _ = net.accept(listener).await;
            }
        })
        .detach();
        spawn(async move {
            let held = buffer(&[1; 5000]);
            let (popped, pushed) =
                futures::join!(net.pop(other), net.push(client, Buffer::from(vec![0; 16 << 20])));
            drop((held, popped, pushed));
            panic!("nobody reads and nobody writes");
        })
        .detach();
        yield_now().await;
    })
}
