//! The transport on a device in the process.

use super::{RdmaConfig, RdmaTransport};
use crate::link::{Link, Refusal, Slots};
use crate::verbs::{
    CompletionQueue, ConnectionId, EventKind, Parameters, PortSpace, ProtectionDomain, QueuePair,
    QueuePairConfig, Status, double,
};
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::net::{Keepalive, TcpListener, TcpSocket, TcpStream, UdpSocket};
use demikernel_runtime::time::{sleep, timeout};
use demikernel_runtime::transport::{Domain, SocketKind};
use demikernel_runtime::{Idle, Runtime, spawn, yield_now};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

pub(super) fn transport(config: &RdmaConfig) -> Rc<RdmaTransport> {
    RdmaTransport::with_device(double::device().unwrap(), double::event_channel().unwrap(), config).unwrap()
}

/// Runs on a runtime whose sockets are those of the device.
pub(super) fn run<F: Future<Output = io::Result<()>>>(config: &RdmaConfig, program: F) {
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport(config).transport());
    runtime.block_on(program).unwrap();
}

pub(super) fn any_port() -> SocketAddr {
    (double::ADDRESS, 0).into()
}

pub(super) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(any_port()).await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, peer) = listener.accept().await?;
    assert_eq!(peer, client.local_addr()?);
    assert_eq!(server.peer_addr()?, client.local_addr()?);
    assert_eq!(server.local_addr()?, client.peer_addr()?);
    Ok((client, server))
}

pub(super) fn heap(bytes: &[u8]) -> Buffer {
    Buffer::copy_from_slice(bytes).unwrap()
}

/// Bytes that differ from those of another seed, and from themselves elsewhere.
pub(super) fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + (at >> 8) * 13 + seed * 31) as u8).collect()
}

async fn receive_all(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&data);
    }
}

#[test]
fn an_echo() {
    run(&RdmaConfig::default(), async {
        let (client, server) = pair().await?;
        for round in 0..1000u32 {
            client.push(heap(&round.to_be_bytes())).await?;
            let request = server.pop().await?;
            server.push(request).await?;
            assert_eq!(client.pop().await?, round.to_be_bytes());
        }
        drop(client);
        assert_eq!(server.pop().await?, b"");
        Ok(())
    });
}

#[test]
fn messages_are_not_joined_and_a_limit_cuts_them() {
    run(&RdmaConfig::default(), async {
        let (client, server) = pair().await?;
        let list: Sga = [&b"a list "[..], b"of ", b"five ", b"pieces", b"!"].into_iter().map(heap).collect();
        client.push(heap(b"one")).await?;
        client.push_sga(list).await?;
        client.push(Buffer::from_static(b"three")).await?;
        assert_eq!(server.pop().await?, b"one");
        assert_eq!(server.pop_up_to(4).await?, b"a li");
        assert_eq!(server.pop().await?, b"st of five pieces!");
        assert_eq!(server.pop().await?, b"three");
        Ok(())
    });
}

#[test]
fn all_sizes_arrive_and_only_foreign_memory_is_copied() {
    run(&RdmaConfig::default(), async {
        let (client, server) = pair().await?;
        for size in [1, 100, 240, 241, 4080, 4081, 8192, 100_000, 3 << 20] {
            let sent = pattern(size, size);
            let mut memory = BufferMut::with_capacity(size).unwrap();
            memory.extend_from_slice(&sent);
            let push = client.push(memory.freeze());
            let mut received = Vec::new();
            while received.len() < size {
                received.extend_from_slice(&server.pop().await?);
            }
            push.await?;
            assert!(received == sent, "{size} bytes");
        }
        assert_eq!(counter("pieces copied to send"), 0);
        // Foreign memory is copied.
        client.push(Buffer::from(pattern(5000, 1))).await?;
        let mut received = Vec::new();
        while received.len() < 5000 {
            received.extend_from_slice(&server.pop().await?);
        }
        assert!(received == pattern(5000, 1));
        assert_eq!(counter("pieces copied to send"), 2, "one for each frame");
        Ok(())
    });
}

pub(super) fn counter(name: &str) -> u64 {
    let devices = demikernel_runtime::device_counters();
    let (_, counters) = devices.into_iter().find(|(device, _)| *device == "rdma").unwrap();
    counters.into_iter().find(|(counter, _)| *counter == name).unwrap().1
}

#[test]
fn a_direction_ends_and_the_other_goes_on() {
    run(&RdmaConfig::default(), async {
        let (client, server) = pair().await?;
        client.push(heap(b"question")).await?;
        client.shutdown(Shutdown::Write)?;
        assert_eq!(client.push(heap(b"more")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(receive_all(&server).await?, b"question");
        server.push(heap(b"answer")).await?;
        drop(server);
        assert_eq!(receive_all(&client).await?, b"answer");
        Ok(())
    });
}

#[test]
fn bytes_are_read_and_written() {
    run(&RdmaConfig::default(), async {
        let (mut client, mut server) = pair().await?;
        let sent = pattern(300_000, 5);
        let copy = sent.clone();
        let writer = spawn(async move {
            client.write_all(&copy).await?;
            client.close().await?;
            io::Result::Ok(client)
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).await?;
        assert!(received == sent);
        writer.await.unwrap()?;
        Ok(())
    });
}

#[test]
fn a_push_that_has_to_wait_can_be_given_up() {
    run(&RdmaConfig::default(), async {
        let (client, server) = pair().await?;
        let mut tokens: Vec<_> = (0..200).map(|seed| client.push(heap(&pattern(4000, seed)))).collect();
        yield_now().await;
        let last = tokens.pop().unwrap();
        drop(last);
        let mut received = Vec::new();
        while received.len() < 199 * 4000 {
            received.push(server.pop().await?);
            let length: usize = received.iter().map(Buffer::len).sum();
            if length == 199 * 4000 {
                break;
            }
            received = vec![heap_of(&received)];
        }
        for token in tokens {
            token.await?;
        }
        client.push(heap(b"end")).await?;
        assert_eq!(server.pop().await?, b"end", "what was given up was not sent");
        Ok(())
    });
}

fn heap_of(parts: &[Buffer]) -> Buffer {
    Buffer::from(parts.concat())
}

#[test]
fn a_pop_that_is_given_up_loses_nothing() {
    run(&RdmaConfig::default(), async {
        let (client, server) = pair().await?;
        drop(server.pop());
        let pop = server.pop();
        client.push(heap(b"for whoever asks")).await?;
        // It comes for the one that is dropped before it is looked at.
        sleep(Duration::from_millis(1)).await;
        assert!(pop.is_done());
        drop(pop);
        assert_eq!(server.pop().await?, b"for whoever asks");
        Ok(())
    });
}

#[test]
fn errors_are_those_of_tcp() {
    run(&RdmaConfig::default(), async {
        let refused = TcpStream::connect((double::ADDRESS, 9)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
        let foreign = TcpListener::bind(("198.51.100.7", 80)).await.unwrap_err();
        assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable, "{foreign}");
        assert!(foreign.to_string().contains("no RDMA device has the address"), "{foreign}");
        let listener = TcpListener::bind(any_port()).await?;
        let again = TcpListener::bind(listener.local_addr()?).await.map(drop).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AddrInUse, "{again}");

        let (client, server) = pair().await?;
        client.push(heap(b"nobody reads this")).await?;
        sleep(Duration::from_millis(1)).await;
        drop(server);
        assert_eq!(client.pop().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(client.push(heap(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);

        let unix =
            demikernel_runtime::default_network()?.socket(Domain::Unix, SocketKind::Stream).unwrap_err();
        assert_eq!(unix.kind(), ErrorKind::Unsupported);
        Ok(())
    });
}

#[test]
fn pushes_that_wait_go_before_a_close_and_the_socket_does_not_wait_for_them() {
    run(&RdmaConfig::default(), async {
        let (client, server) = pair().await?;
        for number in 0..100 {
            client.push(heap(&pattern(4000, number))).detach();
        }
        assert!(counter("operations waiting") > 0);
        let open = counter("sockets open");
        drop(client);
        assert_eq!((counter("operations waiting"), counter("sockets open")), (0, open - 1));
        let received = receive_all(&server).await?;
        assert_eq!(received.len(), 100 * 4000);
        assert!(received.chunks(4000).enumerate().all(|(number, part)| part == pattern(4000, number)));
        Ok(())
    });
}

#[test]
fn receive_buffers_of_connections_that_end_come_back() {
    run(&RdmaConfig::default(), async {
        for _ in 0..20 {
            let (client, server) = pair().await?;
            client.push(heap(b"on its way when")).detach();
            client.push(heap(&pattern(20_000, 1))).detach();
            yield_now().await;
            server.set_linger(Some(Duration::ZERO))?;
            drop((client, server));
        }
        // However busy the machine is.
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while counter("connections") > 0 && std::time::Instant::now() < end {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(counter("connections"), 0);
        assert_eq!(counter("receive buffers promised"), 0);
        // A few may be missing while nobody waits for them.
        assert!(counter("receive buffers posted") >= 1024 - 16);
        Ok(())
    });
}

#[test]
fn an_idle_connection_takes_less_than_a_kibibyte() {
    let socket =
        size_of::<super::Socket>() + 2 * size_of::<usize>() + Slots::<Rc<super::Socket>>::bytes_each();
    let size = Link::bytes_per_connection() + super::engine::BYTES_PER_CONNECTION + socket;
    let facade = size_of::<TcpStream>();
    assert!(size + facade <= 1024, "{size} and {facade} bytes");
}

#[test]
fn a_device_that_fails_ends_what_it_carries() {
    for (status, kind) in
        [(Status::RetryExceeded, ErrorKind::TimedOut), (Status::RemoteOperation, ErrorKind::ConnectionReset)]
    {
        run(&RdmaConfig::default(), async move {
            let (client, server) = pair().await?;
            double::fail_next(status);
            client.push(heap(b"lost")).await?;
            assert_eq!(client.pop().await.unwrap_err().kind(), kind);
            let error = server.pop().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the peer hears of it");
            Ok(())
        });
    }
}

#[test]
fn a_foreign_peer_is_refused() {
    run(&RdmaConfig::default(), async {
        let listener = TcpListener::bind(any_port()).await?;
        let channel = double::event_channel()?;
        let device = double::device()?;
        let domain = ProtectionDomain::new(&device)?;
        let completions = CompletionQueue::new(&device, 64, None)?;
        let pair = QueuePair::new(&domain, &completions, &completions, None, &QueuePairConfig::default())?;
        let id = ConnectionId::new(&channel, PortSpace::Reliable, 0)?;
        id.resolve_address(None, listener.local_addr()?, Duration::from_secs(1))?;
        let mut refusal = None;
        for _ in 0..1000 {
            sleep(Duration::from_micros(200)).await;
            match channel.next_event()?.map(|event| event.kind) {
                Some(EventKind::AddressResolved) => id.resolve_route(Duration::from_secs(1))?,
                Some(EventKind::RouteResolved) => {
                    let private_data = b"something else";
                    id.connect(&pair, &Parameters { private_data, ..Parameters::default() })?;
                }
                Some(EventKind::Failed { data, .. }) => {
                    refusal = Refusal::parse(&data);
                    break;
                }
                _ => {}
            }
        }
        assert_eq!(refusal, Some(Refusal::Foreign));
        assert_eq!(counter("foreign peers refused"), 1);
        Ok(())
    });
}

#[test]
fn many_connections_share_few_buffers() {
    let config = RdmaConfig { buffers: 900, ..RdmaConfig::default() };
    run(&config, async {
        let listener = TcpListener::bind(any_port()).await?;
        let address = listener.local_addr()?;
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn(async move {
                    while let Ok(data) = stream.pop().await
                        && !data.is_empty()
                        && stream.push(data).await.is_ok()
                    {}
                })
                .detach();
            }
        })
        .detach();
        let clients = (0..100).map(|number| {
            spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                for round in 0..20 {
                    let sent = pattern(1 + (number * 977 + round * 131) % 9000, number);
                    stream.write_all(&sent).await?;
                    let mut received = vec![0; sent.len()];
                    stream.read_exact(&mut received).await?;
                    assert!(received == sent);
                }
                io::Result::Ok(())
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap()?;
        }
        assert_eq!(counter("protocol violations"), 0);
        Ok(())
    });
}

#[test]
fn connections_are_more_than_one_completion_queue_has_room_for() {
    double::complete_at_most(Some(600));
    run(&RdmaConfig { buffers: 300, ..RdmaConfig::default() }, async {
        let listener = TcpListener::bind(any_port()).await?;
        let mut ends = Vec::new();
        for _ in 0..12 {
            let client = TcpStream::connect(listener.local_addr()?).await?;
            ends.push((client, listener.accept().await?.0));
        }
        // Each has room for the receives of all and for the sends of four.
        assert_eq!(counter("completion queues"), 6);
        for round in 0..10 {
            for (client, _) in &ends {
                client.push(heap(&pattern(3000, round))).await?;
            }
            for (_, server) in &ends {
                assert_eq!(server.pop().await?, pattern(3000, round));
                server.push(heap(b"back")).await?;
            }
            for (client, _) in &ends {
                assert_eq!(client.pop().await?, b"back");
            }
        }
        ends.truncate(2);
        sleep(Duration::from_millis(1)).await;
        ends.push((TcpStream::connect(listener.local_addr()?).await?, listener.accept().await?.0));
        assert_eq!(counter("completion queues"), 6, "what was left is used again");
        Ok(())
    });
    double::complete_at_most(None);
}

#[test]
fn a_peer_that_is_gone_is_noticed_in_silence() {
    run(&RdmaConfig::default(), async {
        let (client, server) = pair().await?;
        assert!(!client.keepalive()?);
        client.set_keepalive(Keepalive::new().idle(Duration::from_millis(3)))?;
        assert!(client.keepalive()?);
        sleep(Duration::from_millis(30)).await;
        let beats = counter("heartbeats sent");
        assert!((1..=10).contains(&beats), "{beats}");
        client.push(heap(b"alive")).await?;
        assert_eq!(server.pop().await?, b"alive");
        double::fail_next(Status::RetryExceeded);
        let error = timeout(Duration::from_secs(5), client.pop()).await.unwrap().unwrap_err();
        // Its heartbeat fails, or the acknowledgment of one.
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::ConnectionReset), "{error}");
        Ok(())
    });
}

#[test]
fn connections_are_as_their_sockets_and_listeners_were_set() {
    run(&RdmaConfig::default(), async {
        let listening = TcpSocket::new_v4()?;
        listening.set_keepalive(Keepalive::new().idle(Duration::from_secs(9)))?;
        listening.set_ttl(3)?;
        listening.bind(any_port())?;
        let listener = listening.listen(8)?;
        let socket = TcpSocket::new_v4()?;
        socket.set_ttl(7)?;
        let client = socket.connect(listener.local_addr()?).await?;
        let (server, _) = listener.accept().await?;
        assert!(server.keepalive()? && !client.keepalive()?);
        assert_eq!((server.ttl()?, client.ttl()?), (3, 7));
        let mut limits = double::hop_limits();
        limits.sort_unstable();
        assert_eq!(limits, [3, 7]);
        let late = client.set_ttl(9).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Unsupported);
        assert!(late.to_string().contains("set it of the socket that connects"), "{late}");
        listener.set_ttl(5)?;
        let _other = TcpStream::connect(listener.local_addr()?).await?;
        let _its_server = listener.accept().await?;
        let mut limits = double::hop_limits();
        limits.sort_unstable();
        assert_eq!(limits, [0, 3, 5, 7], "the route's own is none here");
        assert_eq!(socket_error(0), ErrorKind::InvalidInput);
        assert_eq!(socket_error(256), ErrorKind::InvalidInput);
        Ok(())
    });
}

fn socket_error(ttl: u32) -> ErrorKind {
    TcpSocket::new_v4().unwrap().set_ttl(ttl).unwrap_err().kind()
}

#[test]
fn what_was_pushed_leaves_before_the_end() {
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport(&RdmaConfig::default()).transport());
    let server = runtime.block_on(async {
        let (client, server) = pair().await.unwrap();
        client.push(heap(&pattern(50_000, 3))).detach();
        drop(client);
        let mut received = Vec::new();
        while received.len() < 50_000 {
            received.extend_from_slice(&server.pop().await.unwrap());
        }
        assert!(received == pattern(50_000, 3));
        server
    });
    drop(server);
    drop(runtime);
    assert_eq!(double::alive(), 0, "the device has nothing any more");
}

#[test]
fn an_idle_runtime_sleeps_and_is_woken() {
    let runtime = demikernel_runtime::Builder::new().idle(Idle::Block).build().unwrap();
    runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport().unwrap().without_network());
    runtime.attach(transport(&RdmaConfig::default()).transport());
    runtime.block_on(async {
        let (client, server) = pair().await.unwrap();
        let echo = spawn(async move {
            while let Ok(data) = server.pop().await
                && !data.is_empty()
            {
                server.push(data).await.unwrap();
            }
        });
        for _ in 0..20 {
            sleep(Duration::from_millis(2)).await;
            client.push(heap(b"wake up")).await.unwrap();
            assert_eq!(client.pop().await.unwrap(), b"wake up");
        }
        drop(client);
        echo.await.unwrap();
    });
}

async fn sockets() -> io::Result<(UdpSocket, UdpSocket)> {
    Ok((UdpSocket::bind(any_port()).await?, UdpSocket::bind(any_port()).await?))
}

#[test]
fn datagrams_go_to_and_fro() {
    run(&RdmaConfig::default(), async {
        let (client, server) = sockets().await?;
        let there = server.local_addr()?;
        for (round, size) in [1, 240, 1000, 30, 900].into_iter().enumerate() {
            let sent = pattern(size, round);
            client.push_to(heap(&sent), there).await?;
            let (data, from) = server.pop_from().await?;
            assert_eq!((from, &data[..]), (client.local_addr()?, &sent[..]));
            server.push_to(data, from).await?;
            assert_eq!(client.pop_from().await?, (heap(&sent), there));
        }
        assert_eq!(counter("peers of datagrams known"), 2);
        client.connect(there).await?;
        client.push(heap(b"to the one")).await?;
        assert_eq!(server.pop_from().await?.0, b"to the one");
        server.push_to(heap(b"from the one"), client.local_addr()?).await?;
        assert_eq!(client.pop().await?, b"from the one");
        Ok(())
    });
}

#[test]
fn a_socket_without_an_address_gets_one() {
    run(&RdmaConfig::default(), async {
        let client = UdpSocket::bind("0.0.0.0:0").await?;
        let server = UdpSocket::bind(any_port()).await?;
        client.push_to(heap(b"who is it?"), server.local_addr()?).await?;
        let (_, from) = server.pop_from().await?;
        assert_eq!(from, (double::ADDRESS, client.local_addr()?.port()).into(), "one that can be answered");
        Ok(())
    });
}

#[test]
fn datagrams_that_cannot_be_sent_say_why() {
    run(&RdmaConfig::default(), async {
        let (client, server) = sockets().await?;
        let nobody = client.push_to(heap(b"hello?"), (double::ADDRESS, 9).into()).await.unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::ConnectionRefused, "{nobody}");
        let long = client.push_to(heap(&pattern(5000, 1)), server.local_addr()?).await.unwrap_err();
        assert_eq!(long.kind(), ErrorKind::InvalidInput);
        assert!(
            long.to_string().starts_with("a datagram of 5000 bytes: the MTU of the device allows "),
            "{long}"
        );
        assert!(client.push(heap(b"to whom?")).await.is_err());
        // Those behind one that fails are sent all the same.
        let refused = client.push_to(heap(b"hello?"), (double::ADDRESS, 10).into());
        let sent = client.push_to(heap(b"hello!"), server.local_addr()?);
        assert!(refused.await.is_err());
        sent.await?;
        assert_eq!(server.pop_from().await?.0, b"hello!");
        Ok(())
    });
}

#[test]
fn datagrams_that_nobody_takes_are_dropped() {
    run(&RdmaConfig::default(), async {
        let (client, server) = sockets().await?;
        for number in 0..200u32 {
            client.push_to(heap(&number.to_be_bytes()), server.local_addr()?).await?;
            yield_now().await;
        }
        sleep(Duration::from_millis(1)).await;
        for number in 0..64u32 {
            assert_eq!(server.pop_from().await?.0, number.to_be_bytes());
        }
        assert_eq!(counter("datagrams dropped"), 200 - 64);
        Ok(())
    });
}
