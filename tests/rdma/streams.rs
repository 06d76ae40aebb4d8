//! Streams between two threads of this process, each with a runtime and a device context of its own.

use crate::in_lab;
use demikernel::net::{TcpListener, TcpStream};
use demikernel::time::{Duration, sleep, timeout};
use demikernel::{Buffer, BufferMut, Builder, Idle, Runtime, spawn};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

pub(crate) fn runtime(configuration: &str) -> Runtime {
    let builder = Builder::new().transport("rdma").idle(Idle::Block).configuration(configuration);
    builder.build().unwrap()
}

/// Runs a server, which is given what connects, in a thread until its `count` connections have ended.
pub(crate) fn serve<F>(
    address: IpAddr,
    configuration: &'static str,
    count: usize,
    each: fn(TcpStream) -> F,
) -> Serving
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let (ready, listening) = mpsc::channel();
    let thread = thread::spawn(move || {
        runtime(configuration).block_on(async move {
            let listener = TcpListener::bind((address, 0)).await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            let mut all = Vec::new();
            for _ in 0..count {
                let (stream, _) = listener.accept().await.unwrap();
                all.push(spawn(each(stream)));
            }
            for one in all {
                one.await.unwrap().unwrap();
            }
        });
    });
    Serving { address: listening.recv().unwrap(), thread }
}

pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) thread: JoinHandle<()>,
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    loop {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(());
        }
        stream.push(data).await?;
    }
}

#[test]
fn large_transfers_arrive_as_they_were_sent() {
    in_lab(|address| {
        let server = serve(address, "", 1, |stream| async move {
            let mut hash = DefaultHasher::new();
            let mut length = 0u64;
            loop {
                let data = stream.pop().await?;
                if data.is_empty() {
                    break;
                }
                hash.write(&data);
                length += data.len() as u64;
            }
            let mut answer = hash.finish().to_be_bytes().to_vec();
            answer.extend_from_slice(&length.to_be_bytes());
            stream.push(Buffer::copy_from_slice(&answer).unwrap()).await
        });
        runtime("").block_on(async {
            let stream = TcpStream::connect(server.address).await.unwrap();
            let mut hash = DefaultHasher::new();
            let mut length = 0u64;
            for round in 0..200u64 {
                let size = [100_000, 1, 4080, 4081, 65_536, 300][round as usize % 6];
                let mut data = BufferMut::with_capacity(size).unwrap();
                data.resize(size, 0);
                data.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31) as u8 ^ round as u8);
                hash.write(&data);
                length += size as u64;
                stream.push(data.freeze()).await.unwrap();
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let answer = stream.pop().await.unwrap();
            assert_eq!(answer[..8], hash.finish().to_be_bytes());
            assert_eq!(answer[8..], length.to_be_bytes());
        });
        server.thread.join().unwrap();
    });
}

#[test]
fn a_thousand_connections_are_served_with_few_buffers() {
    const CONNECTIONS: usize = 1000;
    in_lab(|address| {
        // What each has a right to, and a tenth more; the device's completion queues have room for the sends of some 430.
        let few = "[rdma]\nbuffers = 4400\nhalf-open = 64";
        let server = serve(address, few, CONNECTIONS, echo);
        let address = server.address;
        runtime(few).block_on(async move {
            let mut streams = Vec::new();
            for _ in 0..CONNECTIONS {
                streams.push(TcpStream::connect(address).await.unwrap());
            }
            let clients = streams.into_iter().enumerate().map(|(number, mut stream)| {
                spawn(async move {
                    let sent = vec![number as u8; 1 + number * 13];
                    stream.write_all(&sent).await.unwrap();
                    let mut received = vec![0; sent.len()];
                    stream.read_exact(&mut received).await.unwrap();
                    assert_eq!(received, sent);
                    stream
                })
            });
            let mut all = Vec::new();
            for client in clients.collect::<Vec<_>>() {
                all.push(client.await.unwrap());
            }
        });
        server.thread.join().unwrap();
    });
}

#[test]
fn errors_are_those_of_tcp() {
    in_lab(|address| {
        runtime("[rdma]\nset-up-timeout = \"500ms\"").block_on(async {
            let refused = TcpStream::connect((address, 9)).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
            let away = TcpListener::bind("192.0.2.77:80").await.unwrap_err();
            assert_eq!(away.kind(), ErrorKind::AddrNotAvailable, "{away}");
            // An address of the network that nobody has.
            let nobody = TcpStream::connect("10.9.0.77:80").await.unwrap_err();
            assert!([ErrorKind::TimedOut, ErrorKind::HostUnreachable].contains(&nobody.kind()), "{nobody:?}");
        });
    });
}

#[test]
fn an_abort_is_told_and_an_end_is_not_an_error() {
    in_lab(|address| {
        let server = serve(address, "", 2, |stream| async move {
            match stream.pop().await?.as_slice() {
                b"end" => drop(stream),
                _ => {
                    // What comes after that is unread when it is dropped.
                    sleep(Duration::from_millis(300)).await;
                    drop(stream);
                }
            }
            Ok(())
        });
        runtime("").block_on(async {
            let word = |text: &str| Buffer::copy_from_slice(text.as_bytes()).unwrap();
            let stream = TcpStream::connect(server.address).await.unwrap();
            stream.push(word("end")).await.unwrap();
            assert_eq!(stream.pop().await.unwrap(), b"");

            let stream = TcpStream::connect(server.address).await.unwrap();
            stream.push(word("abort")).await.unwrap();
            stream.push(word("unread")).await.unwrap();
            let error = timeout(Duration::from_secs(20), stream.pop()).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        });
        server.thread.join().unwrap();
    });
}

#[test]
fn two_transports_serve_on_one_executor() {
    in_lab(|address| {
        let runtime = runtime("");
        runtime.block_on(async {
            let kernel = demikernel::transport::epoll::Epoll::transport().unwrap();
            demikernel::attach(kernel.clone());
            let kernel = kernel.network.unwrap();
            let here = TcpListener::bind((address, 0)).await.unwrap();
            let there = TcpListener::bind_on(&kernel, "127.0.0.1:0").await.unwrap();
            for listener in [&here, &there] {
                let network = if std::ptr::eq(listener, &here) {
                    demikernel::default_network().unwrap()
                } else {
                    kernel.clone()
                };
                let address = listener.local_addr().unwrap();
                let client = TcpStream::connect_on(&network, address);
                let (client, server) = futures::join!(client, listener.accept());
                let (client, (server, _)) = (client.unwrap(), server.unwrap());
                let echo = spawn(echo(server));
                client.push(Buffer::copy_from_slice(b"to and fro").unwrap()).await.unwrap();
                assert_eq!(client.pop().await.unwrap(), b"to and fro");
                drop(client);
                echo.await.unwrap().unwrap();
            }
        });
    });
}
