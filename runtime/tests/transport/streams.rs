//! Streams that nothing goes wrong with.

use crate::harness::{FAMILIES, Net};
use crate::operations::{buffer, pattern};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::spawn;
use demikernel_runtime::time::{Duration, Instant, sleep};
use demikernel_runtime::transport::{Domain, Endpoint, OptionName, SocketKind, SocketOption};
use futures::future::join_all;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;

type Run = Pin<Box<dyn Future<Output = ()>>>;

pub(crate) fn echo_of_all_sizes_and_families(net: Net) -> Run {
    Box::pin(async move {
        for domain in FAMILIES {
            let (client, server) = net.pair(domain).await;
            let echo = spawn({
                let net = net.clone();
                async move {
                    loop {
                        let data = net.pop(server).await.unwrap();
                        if data.is_empty() {
                            break;
                        }
                        net.push(server, data).await.unwrap();
                    }
                    net.network.close(server);
                }
            });
            for size in [1, 63, 64, 2048, 4095, 4096, 4097, 16384, 65536, 300_000, 1 << 20] {
                let sent = pattern(size, size as u64);
                let (pushed, echoed) = futures::join!(
                    net.push(client, Buffer::from(sent.clone())),
                    net.pop_exactly(client, size)
                );
                pushed.unwrap();
                assert!(echoed == sent, "{domain:?}, {size} bytes");
            }
            net.network.close(client);
            echo.await.unwrap();
        }
    })
}

pub(crate) fn pushes_arrive_in_order(net: Net) -> Run {
    Box::pin(async move {
        for domain in [Domain::V4, Domain::Unix] {
            let (client, server) = net.pair(domain).await;
            let pieces: Vec<Vec<u8>> =
                (0..2000).map(|index| pattern(index * 7 % 3001, index as u64)).collect();
            let all = pieces.concat();
            // All of them are under way at once, and nobody reads yet: most wait.
            let pushes: Vec<_> = pieces.iter().map(|piece| net.push(client, buffer(piece))).collect();
            let (received, results) = futures::join!(net.pop_exactly(server, all.len()), join_all(pushes));
            assert!(received == all);
            assert!(results.iter().all(Result::is_ok));
            net.network.close(client);
            assert!(net.pop(server).await.unwrap().is_empty());
            net.network.close(server);
        }
    })
}

pub(crate) fn a_push_of_many_buffers_is_whole(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        for (count, size) in [(2, 10), (8, 5000), (9, 1), (300, 700), (1500, 3)] {
            let pieces: Vec<Vec<u8>> = (0..count).map(|index| pattern(size, index)).collect();
            let list: Sga = pieces.iter().map(|piece| buffer(piece)).collect();
            let pushed = net.push(client, list);
            assert!(net.pop_exactly(server, count as usize * size).await == pieces.concat());
            pushed.await.unwrap();
        }
        net.push(client, Sga::new()).await.unwrap();
        net.network.close(client);
        assert!(net.pop(server).await.unwrap().is_empty(), "an empty push sends nothing");
        net.network.close(server);
    })
}

pub(crate) fn pops_are_served_in_order(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        let pops: Vec<_> = (0..10).map(|_| net.pop_up_to(server, 3)).collect();
        net.push(client, buffer(b"abcdefghijklmno")).await.unwrap();
        net.network.shutdown_socket(client, Shutdown::Write).unwrap();
        let mut received = Vec::new();
        for pop in pops {
            received.push(pop.await.unwrap());
        }
        let texts: Vec<&[u8]> = received.iter().map(|data| data.as_slice()).collect();
        assert_eq!(texts, [b"abc" as &[u8], b"def", b"ghi", b"jkl", b"mno", b"", b"", b"", b"", b""]);
        net.network.close(client);
        net.network.close(server);
    })
}

pub(crate) fn a_limit_leaves_the_rest(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::Unix).await;
        net.push(client, buffer(b"hello world")).await.unwrap();
        assert_eq!(net.pop_up_to(server, 6).await.unwrap(), b"hello ");
        assert_eq!(net.pop_up_to(server, 1).await.unwrap(), b"w");
        assert_eq!(net.pop(server).await.unwrap(), b"orld");
        net.network.close(client);
        assert!(net.pop(server).await.unwrap().is_empty());
        assert!(net.pop(server).await.unwrap().is_empty(), "an end stays the end");
        net.network.close(server);
    })
}

pub(crate) fn half_close_both_ways(net: Net) -> Run {
    Box::pin(async move {
        for domain in FAMILIES {
            let (client, server) = net.pair(domain).await;
            net.push(client, buffer(b"question")).await.unwrap();
            net.network.shutdown_socket(client, Shutdown::Write).unwrap();
            assert_eq!(net.pop_all(server).await, b"question");
            net.push(server, buffer(b"answer")).await.unwrap();
            assert_eq!(net.pop_exactly(client, 6).await, b"answer");
            let refused = net.push(client, buffer(b"more")).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::BrokenPipe);

            // Whoever waits is told when this side ends its own receiving.
            let waiting = net.pop(server);
            net.network.shutdown_socket(server, Shutdown::Both).unwrap();
            assert!(waiting.await.unwrap().is_empty());
            assert!(net.pop(client).await.unwrap().is_empty());
            net.network.close(client);
            net.network.close(server);
        }
    })
}

pub(crate) fn pushes_go_before_a_shutdown(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        let data = pattern(8 << 20, 1);
        let pushes: Vec<_> =
            data.chunks(1 << 19).map(|part| net.push(client, Buffer::from(part.to_vec()))).collect();
        net.network.shutdown_socket(client, Shutdown::Write).unwrap();
        let (received, results) = futures::join!(net.pop_all(server), join_all(pushes));
        assert!(received == data);
        assert!(results.iter().all(Result::is_ok));
        net.network.close(client);
        net.network.close(server);
    })
}

pub(crate) fn pushes_go_before_a_close(net: Net) -> Run {
    Box::pin(async move {
        for domain in [Domain::V4, Domain::Unix] {
            let (client, server) = net.pair(domain).await;
            let data = pattern(8 << 20, 2);
            let pushed = net.push(client, Buffer::from(data.clone()));
            net.network.close(client);
            let (received, result) = futures::join!(net.pop_all(server), pushed);
            assert!(received == data);
            result.unwrap();
            net.network.close(server);
        }
    })
}

pub(crate) fn close_ends_what_waits(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        let (listener, _) = net.listener(Domain::V4);
        let (pop, accept) = (net.pop(server), net.accept(listener));
        net.network.close(server);
        net.network.close(listener);
        assert!(pop.await.is_err());
        assert!(accept.await.is_err());
        assert!(net.pop(client).await.unwrap().is_empty());
        net.network.close(client);
        net.network.close(client);
    })
}

pub(crate) fn a_close_that_lingers_stops_nobody(net: Net) -> Run {
    Box::pin(async move {
        for accepted in [false, true] {
            let (listener, address) = net.listener(Domain::V4);
            let linger = SocketOption::Linger(Some(Duration::from_secs(1)));
            if accepted {
                net.network.set_option(listener, linger).unwrap();
            }
            let client = net.stream(Domain::V4);
            net.connect(client, &address).await.unwrap();
            let server = net.accept(listener).await.unwrap().qd;
            if !accepted {
                net.network.set_option(server, linger).unwrap();
            }
            // Nobody reads: the kernel takes it all, and the peer does not acknowledge all of it.
            for _ in 0..100 {
                let push = net.push(server, buffer(&[0; 16 << 10]));
                sleep(Duration::from_micros(100)).await;
                if !push.is_done() {
                    break;
                }
            }
            let start = Instant::now();
            net.network.close(server);
            sleep(Duration::from_millis(1)).await;
            assert!(Instant::now() - start < Duration::from_millis(700));
            net.network.close(client);
            net.network.close(listener);
        }
    })
}

pub(crate) fn addresses_and_options(net: Net) -> Run {
    Box::pin(async move {
        for domain in FAMILIES {
            let (listener, address) = net.listener(domain);
            let client = net.stream(domain);
            let connected = net.connect(client, &address);
            let accepted = net.accept(listener).await.unwrap();
            connected.await.unwrap();
            assert_eq!(net.network.peer(client).unwrap(), address);
            assert_eq!(net.network.local(accepted.qd).unwrap(), address);
            assert_eq!(net.network.local(client).unwrap(), accepted.peer);
            if domain == Domain::Unix {
                assert_eq!(accepted.peer, Endpoint::Unix(None));
            } else {
                net.network.set_option(accepted.qd, SocketOption::NoDelay(true)).unwrap();
                let read = net.network.option(accepted.qd, OptionName::NoDelay).unwrap();
                assert_eq!(read, SocketOption::NoDelay(true));
            }
            for qd in [listener, client, accepted.qd] {
                net.network.close(qd);
            }
        }
        let unix = net.network.socket(Domain::Unix, SocketKind::Datagram).unwrap_err();
        assert_eq!(unix.kind(), ErrorKind::Unsupported);
    })
}

pub(crate) fn late_data_wakes_a_blocked_runtime(net: Net) -> Run {
    Box::pin(async move {
        let (server, mut peer) = net.with_peer().await;
        let pop = net.pop(server);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            peer.write_all(b"late").unwrap();
            let mut answer = [0; 4];
            peer.read_exact(&mut answer).unwrap();
            answer
        });
        assert_eq!(pop.await.unwrap(), b"late");
        sleep(Duration::from_millis(20)).await;
        net.push(server, buffer(b"fine")).await.unwrap();
        assert!(net.pop(server).await.unwrap().is_empty());
        assert_eq!(&thread.join().unwrap(), b"fine");
        net.network.close(server);
    })
}

pub(crate) fn a_connection_is_there_when_connect_is_done(net: Net) -> Run {
    Box::pin(async move {
        let (listener, address) = net.listener(Domain::V4);
        for _ in 0..50 {
            let client = net.stream(Domain::V4);
            net.connect(client, &address).await.unwrap();
            net.push(client, buffer(b"x")).await.unwrap();
            let server = net.accept(listener).await.unwrap().qd;
            assert_eq!(net.pop(server).await.unwrap(), b"x");
            net.network.close(client);
            net.network.close(server);
        }
        net.network.close(listener);
    })
}
