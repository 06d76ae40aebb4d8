//! Many connections, and busy ones.

use crate::faults::raise_limit_of_descriptors;
use crate::harness::Net;
use crate::operations::{buffer, pattern};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::{Duration, Instant, sleep};
use demikernel_runtime::transport::{Domain, Qd};
use demikernel_runtime::{JoinHandle, spawn};
use std::cell::Cell;
use std::io::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Run = Pin<Box<dyn Future<Output = ()>>>;

fn echo(net: &Net, server: Qd) -> JoinHandle<()> {
    let net = net.clone();
    spawn(async move {
        loop {
            match net.pop(server).await.unwrap() {
                data if data.is_empty() => break,
                data => net.push(server, data).await.unwrap(),
            }
        }
        net.network.close(server);
    })
}

pub(crate) fn a_thousand_connections(net: Net) -> Run {
    Box::pin(async move {
        let connections = (raise_limit_of_descriptors() as usize / 2 - 50).min(1000);
        let (listener, address) = net.listener(Domain::V4);
        let servers = spawn({
            let net = net.clone();
            async move {
                let mut servers = Vec::new();
                for _ in 0..connections {
                    servers.push(echo(&net, net.accept(listener).await.unwrap().qd));
                }
                for server in servers {
                    server.await.unwrap();
                }
                net.network.close(listener);
            }
        });
        let client = |index: usize| {
            let (net, address) = (net.clone(), address.clone());
            spawn(async move {
                let client = net.stream(Domain::V4);
                net.connect(client, &address).await.unwrap();
                for round in 0..5 {
                    let data = pattern(1 + index * 13 % 6000, round);
                    net.push(client, buffer(&data)).await.unwrap();
                    assert!(net.pop_exactly(client, data.len()).await == data);
                }
                net.network.close(client);
            })
        };
        let clients: Vec<_> = (0..connections).map(client).collect();
        for client in clients {
            client.await.unwrap();
        }
        servers.await.unwrap();
    })
}

pub(crate) fn a_busy_socket_does_not_starve_others(net: Net) -> Run {
    Box::pin(async move {
        let (server, mut peer) = net.with_peer().await;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    peer.write_all(&[7; 512]).unwrap();
                }
            }
        });
        let received = Rc::new(Cell::new(0));
        let reader = spawn({
            let (net, received) = (net.clone(), received.clone());
            async move {
                loop {
                    // Small, so that there is always more.
                    let data = net.pop_up_to(server, 64).await.unwrap();
                    if data.is_empty() {
                        break;
                    }
                    assert!(data.iter().all(|&byte| byte == 7));
                    received.set(received.get() + data.len());
                }
                net.network.close(server);
            }
        });
        let start = Instant::now();
        for _ in 0..20 {
            sleep(Duration::from_millis(2)).await;
        }
        let took = Instant::now() - start;
        stop.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(5), "20 sleeps of 2 ms took {took:?}");
        assert!(received.get() > 0);
        reader.await.unwrap();
        writer.join().unwrap();
    })
}

pub(crate) fn several_megabytes_both_ways(net: Net) -> Run {
    Box::pin(async move {
        for domain in [Domain::V4, Domain::Unix] {
            let (a, b) = net.pair(domain).await;
            let (to_b, to_a) = (pattern(24 << 20, 1), pattern(24 << 20, 2));
            let (pushed_a, pushed_b, at_b, at_a) = futures::join!(
                net.push(a, Buffer::from(to_b.clone())),
                net.push(b, Buffer::from(to_a.clone())),
                net.pop_exactly(b, to_b.len()),
                net.pop_exactly(a, to_a.len()),
            );
            assert!(pushed_a.is_ok() && pushed_b.is_ok());
            assert!(at_b == to_b && at_a == to_a);
            net.network.close(a);
            net.network.close(b);
        }
    })
}
