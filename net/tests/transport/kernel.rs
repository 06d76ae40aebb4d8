//! Our sockets on a TAP interface, the standard library's on the kernel's side of it; each test in a network namespace
//! of its own.

use crate::common::{ADDRESS, alone, ip};
use crate::operations::pattern;
use demikernel_net::device::{FrameDevice, Tap, TapConfig};
use demikernel_net::stack::{Stack, StackConfig};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream, UdpSocket};
use demikernel_runtime::time::{Instant, sleep, timeout};
use demikernel_runtime::{Builder, Idle, Runtime, yield_now};
use std::io::{ErrorKind, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const OURS: [&str; 2] = ["10.9.0.2:7", "[fd00:9::2]:7"];
const THEIRS: [&str; 2] = ["10.9.0.1:7", "[fd00:9::1]:7"];

/// A runtime on a TAP interface whose other side is the kernel's.
fn runtime(idle: Idle) -> Runtime {
    let tap = Tap::open(&TapConfig::new("tap0", ADDRESS)).unwrap();
    ip("addr add 10.9.0.1/24 dev tap0");
    ip("-6 addr add fd00:9::1/64 dev tap0 nodad");
    ip("link set tap0 up");
    ip("link set lo up");
    let config = StackConfig::new(tap.capabilities(), [7; 32])
        .address("10.9.0.2".parse().unwrap(), 24)
        .address("fd00:9::2".parse().unwrap(), 64)
        .gateway("10.9.0.1".parse().unwrap());
    let runtime = Builder::new().idle(idle).build().unwrap();
    runtime.attach(NetTransport::new("tap", Stack::new(Instant::now(), config), tap).transport());
    runtime
}

/// Runs `test` with a runtime that spins when idle and with one that blocks.
fn with_kernel<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for idle in [Idle::Spin, Idle::Block] {
        if !alone() {
            return;
        }
        let runtime = runtime(idle);
        runtime.block_on(async {
            timeout(Duration::from_secs(60), test()).await.expect("the test is done in time")
        });
    }
}

/// Something blocking, in a thread of the same namespace. It must not take for ever.
fn aside<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    thread::spawn(work)
}

async fn joined<R>(thread: JoinHandle<R>) -> R {
    while !thread.is_finished() {
        sleep(Duration::from_millis(1)).await;
    }
    thread.join().unwrap()
}

fn connect(address: &str) -> net::TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    let stream = net::TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

async fn echo(stream: TcpStream) {
    loop {
        let data = stream.pop().await.unwrap();
        if data.is_empty() {
            return;
        }
        stream.push(data).await.unwrap();
    }
}

async fn pop_all(stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let data = stream.pop().await.unwrap();
        if data.is_empty() {
            return all;
        }
        all.extend_from_slice(&data);
    }
}

#[test]
fn echo_to_the_kernel_and_back() {
    with_kernel(|| async {
        for (ours, theirs) in OURS.into_iter().zip(THEIRS) {
            let listener = TcpListener::bind(ours).await.unwrap();
            let client = aside(move || {
                let mut stream = connect(ours);
                for size in [1, 100, 1460, 1461, 20_000] {
                    let sent = pattern(size, 1);
                    stream.write_all(&sent).unwrap();
                    let mut echoed = vec![0; size];
                    stream.read_exact(&mut echoed).unwrap();
                    assert!(echoed == sent, "{size} bytes");
                }
                stream.local_addr().unwrap()
            });
            let (stream, peer) = listener.accept().await.unwrap();
            assert_eq!(stream.local_addr().unwrap(), ours.parse().unwrap());
            echo(stream).await;
            assert_eq!(joined(client).await, peer);

            // And from here to there.
            let listener = net::TcpListener::bind(theirs).unwrap();
            let server = aside(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut data = Vec::new();
                stream.read_to_end(&mut data).unwrap();
                stream.write_all(&data).unwrap();
            });
            let stream = TcpStream::connect(theirs).await.unwrap();
            stream.push(Buffer::from(pattern(3000, 2))).await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(pop_all(&stream).await == pattern(3000, 2));
            joined(server).await;
        }
    });
}

#[test]
fn ten_megabytes_both_ways_at_once() {
    const SIZE: usize = 10 << 20;
    with_kernel(|| async {
        let listener = TcpListener::bind(OURS[0]).await.unwrap();
        let client = aside(|| {
            let mut stream = connect(OURS[0]);
            let mut reader = stream.try_clone().unwrap();
            let reading = aside(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                all
            });
            stream.write_all(&pattern(SIZE, 3)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(reading.join().unwrap() == pattern(SIZE, 4));
        });
        let (stream, _) = listener.accept().await.unwrap();
        let data = Buffer::from(pattern(SIZE, 4));
        let (received, pushed) = futures::join!(pop_all(&stream), async {
            let pushed = stream.push(data).await;
            stream.shutdown(Shutdown::Write).unwrap();
            pushed
        });
        pushed.unwrap();
        assert!(received == pattern(SIZE, 3));
        joined(client).await;
    });
}

#[test]
fn half_close_either_way() {
    with_kernel(|| async {
        let listener = TcpListener::bind(OURS[1]).await.unwrap();
        let client = aside(|| {
            let mut stream = connect(OURS[1]);
            stream.write_all(b"question").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        });
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(pop_all(&stream).await, b"question");
        assert!(stream.pop().await.unwrap().is_empty(), "an end stays the end");
        stream.push(Buffer::from(&b"answer"[..])).await.unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let refused = stream.push(Buffer::from(&b"more"[..])).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPIPE));
        assert_eq!(joined(client).await, b"answer");
    });
}

#[test]
fn refused_both_ways() {
    with_kernel(|| async {
        let refused = TcpStream::connect(THEIRS[0]).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));
        let client = aside(|| {
            let address = OURS[0].parse().unwrap();
            net::TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap_err().kind()
        });
        assert_eq!(joined(client).await, ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_reset_is_an_error() {
    with_kernel(|| async {
        let listener = TcpListener::bind(OURS[0]).await.unwrap();
        let client = aside(|| {
            let mut stream = connect(OURS[0]);
            stream.write_all(b"last words").unwrap();
            // The end of the other side, then a close with data unread: the kernel resets.
            thread::sleep(Duration::from_millis(100));
            drop(stream);
        });
        let (stream, _) = listener.accept().await.unwrap();
        stream.push(Buffer::from(&b"nobody reads this"[..])).await.unwrap();
        assert_eq!(stream.pop().await.unwrap(), b"last words");
        let reset = stream.pop().await.unwrap_err();
        assert_eq!(reset.raw_os_error(), Some(libc::ECONNRESET));
        let broken = stream.push(Buffer::from(&b"x"[..])).await.unwrap_err();
        assert_eq!(broken.raw_os_error(), Some(libc::EPIPE));
        joined(client).await;
    });
}

#[test]
fn what_was_given_up_goes_to_the_next() {
    with_kernel(|| async {
        let listener = TcpListener::bind(OURS[0]).await.unwrap();
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(2), listener.accept()).await.is_err());
        }
        let client = aside(|| {
            let mut stream = connect(OURS[0]);
            for part in pattern(100_000, 5).chunks(997) {
                stream.write_all(part).unwrap();
                thread::sleep(Duration::from_micros(100));
            }
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        loop {
            // Given up when nothing is there, and when something is.
            drop(stream.pop());
            let given_up = stream.pop_up_to(10);
            yield_now().await;
            drop(given_up);
            match timeout(Duration::from_micros(50), stream.pop()).await {
                Ok(data) if data.as_ref().unwrap().is_empty() => break,
                Ok(data) => received.extend_from_slice(&data.unwrap()),
                Err(_) => {}
            }
        }
        assert!(received == pattern(100_000, 5), "{} bytes", received.len());
        joined(client).await;
    });
}

#[test]
fn datagrams_of_both_versions() {
    with_kernel(|| async {
        for (ours, theirs) in OURS.into_iter().zip(THEIRS) {
            let socket = UdpSocket::bind(ours).await.unwrap();
            let client = aside(move || {
                let socket = net::UdpSocket::bind(theirs).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut room = [0; 2000];
                for size in [0, 1, 1400] {
                    let sent = pattern(size, 6);
                    socket.send_to(&sent, ours).unwrap();
                    let (length, from) = socket.recv_from(&mut room).unwrap();
                    assert!(room[..length] == sent && from == ours.parse().unwrap(), "{size} bytes");
                }
            });
            for _ in 0..3 {
                let (data, from) = socket.pop_from().await.unwrap();
                assert_eq!(from, theirs.parse().unwrap());
                socket.push_to(data, from).await.unwrap();
            }
            joined(client).await;
        }
    });
}

#[test]
fn the_end_of_the_runtime_still_sends() {
    const SIZE: usize = 3 << 20;
    for idle in [Idle::Spin, Idle::Block] {
        if !alone() {
            return;
        }
        let runtime = runtime(idle);
        let client = runtime.block_on(async {
            let listener = TcpListener::bind(OURS[0]).await.unwrap();
            let client = aside(|| {
                let mut all = Vec::new();
                connect(OURS[0]).read_to_end(&mut all).unwrap();
                all
            });
            let (stream, _) = listener.accept().await.unwrap();
            stream.push(Buffer::from(pattern(SIZE, 8))).detach();
            client
        });
        drop(runtime);
        assert!(client.join().unwrap() == pattern(SIZE, 8));
    }
}

#[test]
fn late_data_wakes_a_blocked_runtime() {
    with_kernel(|| async {
        let listener = TcpListener::bind(OURS[0]).await.unwrap();
        let client = aside(|| {
            let mut stream = connect(OURS[0]);
            thread::sleep(Duration::from_millis(50));
            stream.write_all(b"late").unwrap();
        });
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.pop().await.unwrap(), b"late");
        assert!(stream.pop().await.unwrap().is_empty());
        // Without anything else to do until then.
        while !client.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}
