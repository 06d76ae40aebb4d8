//! Servers and clients.

use crate::{run, seeded, simulated};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixListener, UnixStream};
use demikernel_runtime::time::{Duration, Instant, sleep, timeout};
use demikernel_runtime::transport::Transport;
use demikernel_runtime::transport::memory::Memory;
use demikernel_runtime::{Builder, Idle, spawn};
use futures::future::join_all;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use std::io::{self, ErrorKind};

async fn serve_echo(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        spawn(async move {
            loop {
                let data = stream.pop().await?;
                if data.is_empty() {
                    return io::Result::Ok(());
                }
                stream.push(data).await?;
            }
        })
        .detach();
    }
}

async fn echo_of_connections(count: usize) {
    let listener = TcpListener::bind("127.0.0.1:7000").await.unwrap();
    let server = spawn(serve_echo(listener));
    let clients = (0..count).map(|index| {
        spawn(async move {
            let mut client = TcpStream::connect("127.0.0.1:7000").await.unwrap();
            for round in 0..10 {
                let sent = vec![index as u8 ^ round; 1 + index * 37 % 5000];
                client.write_all(&sent).await.unwrap();
                let mut echoed = vec![0; sent.len()];
                client.read_exact(&mut echoed).await.unwrap();
                assert_eq!(echoed, sent);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    server.abort();
}

#[test]
fn a_hundred_connections_echo_in_no_time() {
    let start = std::time::Instant::now();
    let took = run(1, async {
        let start = Instant::now();
        echo_of_connections(100).await;
        Instant::now() - start
    });
    assert!(took > Duration::from_micros(200), "ten round trips are at least so long: {took:?}");
    // Some milliseconds, with room for machines that are busy and builds that are not optimised.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn it_works_in_real_time_too() {
    for idle in [Idle::Spin, Idle::Block, Idle::default()] {
        let runtime = Builder::new().idle(idle).build().unwrap();
        runtime.attach(Transport::both(Memory::new(1)));
        runtime.block_on(async {
            timeout(Duration::from_secs(60), echo_of_connections(20)).await.unwrap();
        });
    }
}

#[test]
fn a_server_that_takes_a_pop_for_a_message_is_found_out() {
    // The mistake: what one push sent is expected to arrive in one pop.
    let messages_in_one_piece = |seed| {
        run(seed, async {
            let listener = TcpListener::bind("127.0.0.1:7000").await.unwrap();
            let client = TcpStream::connect("127.0.0.1:7000").await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            for _ in 0..100 {
                client.push(Buffer::from_static(b"GET key\r\n")).detach();
            }
            drop(client);
            let (mut whole, mut all) = (0, Vec::new());
            loop {
                match server.pop().await.unwrap() {
                    data if data.is_empty() => break,
                    data => {
                        whole += usize::from(data == b"GET key\r\n");
                        all.extend_from_slice(&data);
                    }
                }
            }
            assert_eq!(all, b"GET key\r\n".repeat(100));
            whole
        })
    };
    for seed in 0..5 {
        let whole = messages_in_one_piece(seed);
        assert!((1..100).contains(&whole), "{whole} of 100 messages came in one piece of their own");
    }
}

#[test]
fn a_slow_reader_holds_up_its_writer_and_nobody_else() {
    run(3, async {
        let listener = TcpListener::bind("127.0.0.1:7000").await.unwrap();
        let fast = TcpStream::connect("127.0.0.1:7000").await.unwrap();
        let (fast_server, _) = listener.accept().await.unwrap();
        let slow = TcpStream::connect("127.0.0.1:7000").await.unwrap();
        let (slow_server, _) = listener.accept().await.unwrap();
        let writer = spawn(async move {
            for number in 0..100u8 {
                slow_server.push(Buffer::from(vec![number; 10_000])).await.unwrap();
            }
        });
        for _ in 0..100 {
            fast_server.push(Buffer::from_static(b"tick")).await.unwrap();
            let mut left = 4;
            while left > 0 {
                left -= fast.pop().await.unwrap().len();
            }
        }
        assert!(!writer.is_finished());
        let mut read = 0;
        while read < 1_000_000 {
            read += slow.pop().await.unwrap().len();
            if read % 7 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        writer.await.unwrap();
    });
}

#[test]
fn every_family_and_shape_of_address() {
    run(4, async {
        for (listen, connect) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:2", "127.0.0.1:2"),
            ("0.0.0.0:3", "10.1.2.3:3"),
            ("[::1]:4", "[::1]:4"),
            ("[::]:5", "[::1]:5"),
            ("[::]:6", "127.0.0.1:6"),
            ("0.0.0.0:7", "0.0.0.0:7"),
        ] {
            let listener = TcpListener::bind(listen).await.unwrap();
            let client = TcpStream::connect(connect).await.unwrap();
            let (server, from) = listener.accept().await.unwrap();
            assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());
            assert_eq!(from.port(), client.local_addr().unwrap().port());
            assert_eq!(server.local_addr().unwrap().port(), client.peer_addr().unwrap().port());
            let again = TcpListener::bind(listen).await.unwrap_err();
            assert_eq!(again.kind(), ErrorKind::AddrInUse, "{again}");
        }
        let names = UnixListener::bind("/run/simulated.sock").unwrap();
        let client = UnixStream::connect("/run/simulated.sock").await.unwrap();
        let (server, _) = names.accept().await.unwrap();
        client.push(Buffer::from_static(b"x")).await.unwrap();
        assert_eq!(server.pop().await.unwrap(), b"x");
        drop(names);
        let refused = UnixStream::connect("/run/simulated.sock").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        UnixListener::bind("/run/simulated.sock").unwrap();
    });
}

#[test]
fn listeners_that_share_a_port_share_its_connections() {
    run(5, async {
        let listener = || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind("127.0.0.1:80".parse().unwrap()).unwrap();
            socket.listen(1024).unwrap()
        };
        let listeners = [listener(), listener()];
        let connects = (0..100).map(|_| TcpStream::connect("127.0.0.1:80"));
        let clients: Vec<_> = join_all(connects).await.into_iter().map(Result::unwrap).collect();
        let mut counts = [0, 0];
        for (listener, count) in listeners.iter().zip(&mut counts) {
            while timeout(Duration::from_secs(1), listener.accept()).await.is_ok() {
                *count += 1;
            }
        }
        assert_eq!(counts[0] + counts[1], clients.len());
        assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
    });
}

#[test]
fn clients_survive_resets_that_come_at_random() {
    let mut config = seeded(6);
    config.resets = 0.02;
    let (runtime, memory) = simulated(config);
    let failures = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:7000").await.unwrap();
        let server = spawn(serve_echo(listener));
        let mut failures = 0;
        for number in 0..200u8 {
            let echoed = async {
                let mut client = TcpStream::connect("127.0.0.1:7000").await?;
                client.write_all(&[number; 100]).await?;
                let mut echoed = [0; 100];
                client.read_exact(&mut echoed).await?;
                assert_eq!(echoed, [number; 100]);
                io::Result::Ok(())
            };
            if let Err(error) = echoed.await {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                failures += 1;
            }
        }
        server.abort();
        failures
    });
    assert!((5..100).contains(&failures), "{failures} of 200 were reset");
    drop(memory);
}

#[test]
fn what_was_lost_is_sent_again() {
    let mut config = seeded(7);
    (config.loss, config.duplicates, config.reorders) = (0.3, 0.1, 0.1);
    let (runtime, _sim) = simulated(config);
    runtime.block_on(async {
        let server = UdpSocket::bind("10.0.0.1:53").await.unwrap();
        spawn(async move {
            loop {
                let (question, from) = server.pop_from().await.unwrap();
                server.push_to(question, from).await.unwrap();
            }
        })
        .detach();
        let client = UdpSocket::bind("10.0.0.2:0").await.unwrap();
        client.connect("10.0.0.1:53").await.unwrap();
        let mut tries = 0;
        for number in 0..100u8 {
            loop {
                tries += 1;
                client.push(Buffer::from(vec![number])).await.unwrap();
                let answer = timeout(Duration::from_secs(1), async {
                    // Late and double answers are to former questions.
                    while client.pop().await.unwrap() != [number] {}
                });
                if answer.await.is_ok() {
                    break;
                }
            }
        }
        assert!((120..400).contains(&tries), "{tries}");
    });
}
