//! Too little of something: memory, descriptors, room in the queues.

use super::*;
use futures::future::join_all;
use std::io::{Read, Write};

#[test]
fn an_exhausted_pool_makes_its_client_wait() {
    for receive in [ReceiveMode::Provided, ReceiveMode::Own, ReceiveMode::Multishot] {
        on(Config { receive, ..Config::default() }, async |uring| {
            let (server, client) = uring.pair().await;
            let limit = pool::limit();
            // Large enough not to be copied to small buffers; the ring of buffers gets none either.
            let first = uring.push(client, vec![1; 8000]);
            assert_eq!(uring.pop_exactly(server, 8000).await, vec![1; 8000]);
            first.await.unwrap();
            pool::set_limit(0);
            let mut hoard = Vec::new();
            while let Ok(buffer) = BufferMut::with_capacity(16 * 1024) {
                hoard.push(buffer);
            }
            // Those that wait in the ring of buffers go first.
            let mut received = Vec::new();
            let mut sent = 0;
            let starved = counter(uring, "starved");
            let mut pop = uring.pop(server);
            while counter(uring, "starved") == starved {
                uring.push(client, Buffer::from(vec![2; 8000])).await.unwrap();
                sent += 8000;
                sleep(Duration::from_millis(1)).await;
                if let Some(data) = pop.try_take() {
                    received.push(data.unwrap());
                    pop = uring.pop(server);
                }
                assert!(sent < 100 << 20, "the pool is never exhausted");
            }
            sleep(Duration::from_millis(30)).await;
            assert!(!pop.is_done());
            drop(hoard);
            let mut total: usize = received.iter().map(Buffer::len).sum();
            total += pop.await.unwrap().len();
            while total < sent {
                total += uring.pop(server).await.unwrap().len();
            }
            assert_eq!(total, sent);
            pool::set_limit(limit);
        });
    }
}

#[test]
fn a_ring_of_few_buffers_serves_many_connections() {
    for receive in [ReceiveMode::Provided, ReceiveMode::Multishot] {
        on(Config { receive, posted_buffers: 2, ..Config::default() }, async |uring| {
            let (listener, address) = uring.listener();
            let mut connections = Vec::new();
            for _ in 0..40 {
                let client = uring.socket(Domain::V4, SocketKind::Stream).unwrap();
                uring.connect(client, &address).await.unwrap();
                connections.push((uring.accept(listener).await.unwrap().qd, client));
            }
            for round in 0..5u8 {
                let pops: Vec<_> = connections.iter().map(|&(server, _)| uring.pop(server)).collect();
                let pushes = connections.iter().map(|&(_, client)| uring.push(client, vec![round; 3000]));
                for push in join_all(pushes.collect::<Vec<_>>()).await {
                    push.unwrap();
                }
                let mut short = Vec::new();
                for (pop, &(server, _)) in pops.into_iter().zip(&connections) {
                    let data = pop.await.unwrap();
                    assert!(data.iter().all(|&byte| byte == round));
                    short.push((server, 3000 - data.len()));
                }
                for (server, rest) in short {
                    uring.pop_exactly(server, rest).await;
                }
            }
            assert!(counter(uring, "starved") > 0);
        });
    }
}

#[test]
fn a_thousand_connections() {
    for config in [Config::default(), Config { entries: 16, ..Config::default() }] {
        on(config, async |uring| {
            let (listener, address) = uring.listener();
            let address = address.inet().unwrap();
            let clients = std::thread::spawn(move || {
                let mut clients: Vec<_> =
                    (0..1000).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
                for (number, client) in clients.iter_mut().enumerate() {
                    client.write_all(&(number as u32).to_le_bytes()).unwrap();
                }
                for (number, client) in clients.iter_mut().enumerate() {
                    let mut reply = [0; 4];
                    client.read_exact(&mut reply).unwrap();
                    assert_eq!(u32::from_le_bytes(reply), number as u32);
                }
            });
            let mut tasks = Vec::new();
            for _ in 0..1000 {
                let qd = uring.accept(listener).await.unwrap().qd;
                let uring = uring.clone();
                tasks.push(crate::executor::spawn(async move {
                    loop {
                        let data = uring.pop(qd).await.unwrap();
                        if data.is_empty() {
                            break;
                        }
                        uring.push(qd, data).await.unwrap();
                    }
                    uring.close(qd);
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            clients.join().unwrap();
            uring.close(listener);
            until(|| counter(uring, "sockets") == 0).await;
        });
    }
}

/// Runs in a process of its own, as it lowers the limit of descriptors for the whole process.
#[test]
fn no_descriptors_left_is_an_error_and_not_a_busy_loop() {
    const MARK: &str = "DEMIKERNEL_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(MARK).is_none() {
        let name = "transport::uring::tests::limits::no_descriptors_left_is_an_error_and_not_a_busy_loop";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(MARK, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    for multishot_accept in [true, false] {
        on(Config { multishot_accept, ..Config::default() }, async |uring| {
            let (listener, address) = uring.listener();
            let client = uring.socket(Domain::V4, SocketKind::Stream).unwrap();
            let mut hoard = Vec::new();
            let limit = set_descriptor_limit(200);
            while let Ok(file) = std::fs::File::open("/dev/null") {
                hoard.push(file);
            }
            uring.connect(client, &address).await.unwrap();
            let error = uring.accept(listener).await.unwrap_err();
            assert!(error.to_string().contains("ulimit -n"), "{error}");
            let submitted = counter(uring, "submitted");
            let accept = uring.accept(listener);
            sleep(Duration::from_millis(50)).await;
            assert!(!accept.is_done());
            assert!(counter(uring, "submitted") - submitted < 10, "it does not keep trying");
            drop(hoard);
            accept.await.unwrap();
            set_descriptor_limit(limit);
        });
    }
}

/// Sets the soft limit of descriptors; returns what it was.
fn set_descriptor_limit(limit: u64) -> u64 {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits), 0);
        let before = limits.rlim_cur;
        limits.rlim_cur = limit;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits), 0);
        before
    }
}
