//! Our sockets on a TAP interface, the standard library's on the kernel's side of it; each test in a network namespace
//! of its own.

use crate::common::{ADDRESS, alone, ip};
use demikernel_net::device::{FrameDevice, Tap, TapConfig};
use demikernel_net::stack::{Stack, StackConfig};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::time::{Instant, sleep, timeout};
use demikernel_runtime::{Builder, Idle, Runtime};
use std::io::{Read, Write};
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

/// Bytes that are different everywhere, so that what is lost, doubled or moved shows.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
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
