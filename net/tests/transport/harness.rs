//! Running the tests of the runtime's transports on a stack with nobody at the other end of its device: what it sends to
//! itself does not leave it. What these tests call a Unix socket is one of IPv6 here.

// The tests that need the kernel or files are compiled, too.
#![allow(dead_code)]

use demikernel_net::device::{Capabilities, Medium, Pair};
use demikernel_net::stack::{Stack, StackConfig};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::buffer::{Buffer, Sga, pool};
use demikernel_runtime::time::{Instant, sleep, timeout};
use demikernel_runtime::transport::{Accepted, Device, Domain, Endpoint, Network, Qd, SocketKind};
use demikernel_runtime::{Builder, Completion, Idle, QToken, operation};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

pub(crate) type Test = fn(Net) -> Pin<Box<dyn Future<Output = ()>>>;

/// Large enough for the datagrams of the tests: the stack does not cut them.
const MTU: usize = 65_535;

/// A stack with one address of each version, and its device's other end.
pub(crate) fn stack(limit: usize) -> (Rc<NetTransport>, Pair) {
    let capabilities = Capabilities::new(Medium::Ip, MTU);
    let (here, there) = Pair::new(capabilities, capabilities, limit);
    let config = StackConfig::new(capabilities, [7; 32])
        .address("192.0.2.1".parse().unwrap(), 24)
        .address("2001:db8::1".parse().unwrap(), 64);
    (NetTransport::new("pair", Stack::new(Instant::now(), config), here), there)
}

/// Runs a test, and sees that nothing is left.
pub(crate) fn check(test: Test) {
    for idle in [Idle::Spin, Idle::Block] {
        let buffers = pool::stats().in_use();
        let (transport, _there) = stack(64);
        let runtime = Builder::new().idle(idle).build().unwrap();
        runtime.attach(transport.clone().transport());
        let future = test(Net { device: transport.clone(), network: transport.clone() });
        runtime.block_on(async {
            timeout(Duration::from_secs(60), future).await.expect("the test is done in time")
        });
        let patience = std::time::Instant::now() + Duration::from_secs(2);
        while runtime.metrics().live_operations > 0 && std::time::Instant::now() < patience {
            runtime.block_on(async { sleep(Duration::from_millis(1)).await });
        }
        assert_eq!(runtime.metrics().live_operations, 0, "operations left");
        let counter = |name| {
            transport.counters().into_iter().find(|counter| counter.0 == name).map(|counter| counter.1)
        };
        assert_eq!(counter("operations waiting"), Some(0));
        assert_eq!(counter("sockets open"), Some(0));
        drop(runtime);
        drop(transport);
        assert_eq!(pool::stats().in_use(), buffers, "buffers left, {idle:?}");
    }
}

/// The transport under test.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) device: Rc<dyn Device>,
    pub(crate) network: Rc<dyn Network>,
}

fn token<T: 'static>(start: impl FnOnce(Completion<T>)) -> QToken<T> {
    let (token, completion) = operation();
    start(completion);
    token
}

fn known(domain: Domain) -> Domain {
    if domain == Domain::Unix { Domain::V6 } else { domain }
}

impl Net {
    pub(crate) fn afterwards(&self, _check: impl FnOnce() + 'static) {
        unreachable!("for tests that need the kernel")
    }

    pub(crate) fn counter(&self, name: &str) -> Option<u64> {
        self.device.counters().into_iter().find(|counter| counter.0 == name).map(|counter| counter.1)
    }

    pub(crate) fn stream(&self, domain: Domain) -> Qd {
        self.network.socket(known(domain), SocketKind::Stream).unwrap()
    }

    pub(crate) fn listener(&self, domain: Domain) -> (Qd, Endpoint) {
        let qd = self.stream(domain);
        self.network.bind(qd, &any_address(domain)).unwrap();
        self.network.listen(qd, 1024).unwrap();
        (qd, self.network.local(qd).unwrap())
    }

    pub(crate) fn datagram(&self, domain: Domain) -> (Qd, SocketAddr) {
        let qd = self.network.socket(domain, SocketKind::Datagram).unwrap();
        self.network.bind(qd, &any_address(domain)).unwrap();
        (qd, self.network.local(qd).unwrap().inet().unwrap())
    }

    pub(crate) async fn pair(&self, domain: Domain) -> (Qd, Qd) {
        let (listener, address) = self.listener(domain);
        let client = self.stream(domain);
        let connected = self.connect(client, &address);
        let server = self.accept(listener).await.unwrap().qd;
        connected.await.unwrap();
        self.network.close(listener);
        (client, server)
    }

    pub(crate) async fn with_peer(&self) -> (Qd, std::net::TcpStream) {
        unreachable!("for tests that need the kernel")
    }

    pub(crate) fn accept(&self, qd: Qd) -> QToken<io::Result<Accepted>> {
        token(|done| self.network.accept(qd, done))
    }

    pub(crate) fn connect(&self, qd: Qd, peer: &Endpoint) -> QToken<io::Result<()>> {
        token(|done| self.network.connect(qd, peer, done))
    }

    pub(crate) fn push(&self, qd: Qd, data: impl Into<Sga>) -> QToken<io::Result<()>> {
        token(|done| self.network.push(qd, data.into(), done))
    }

    pub(crate) fn pop(&self, qd: Qd) -> QToken<io::Result<Buffer>> {
        self.pop_up_to(qd, 1 << 20)
    }

    pub(crate) fn pop_up_to(&self, qd: Qd, limit: usize) -> QToken<io::Result<Buffer>> {
        token(|done| self.network.pop(qd, limit, done))
    }

    pub(crate) fn push_to(&self, qd: Qd, data: impl Into<Sga>, peer: SocketAddr) -> QToken<io::Result<()>> {
        token(|done| self.network.push_to(qd, data.into(), peer, done))
    }

    pub(crate) fn pop_from(&self, qd: Qd, limit: usize) -> QToken<io::Result<(Buffer, SocketAddr)>> {
        token(|done| self.network.pop_from(qd, limit, done))
    }

    pub(crate) async fn pop_exactly(&self, qd: Qd, count: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(count);
        while data.len() < count {
            let more = self.pop_up_to(qd, count - data.len()).await.unwrap();
            assert!(!more.is_empty(), "the stream ended after {} of {count} bytes", data.len());
            data.extend_from_slice(&more);
        }
        data
    }

    pub(crate) async fn pop_all(&self, qd: Qd) -> Vec<u8> {
        let mut data = Vec::new();
        loop {
            match self.pop(qd).await.unwrap() {
                more if more.is_empty() => return data,
                more => data.extend_from_slice(&more),
            }
        }
    }
}

/// An address of the loopback with a port that nobody has.
pub(crate) fn any_address(domain: Domain) -> Endpoint {
    let address = if domain == Domain::V4 { "127.0.0.1:0" } else { "[::1]:0" };
    Endpoint::Inet(address.parse().unwrap())
}

pub(crate) const FAMILIES: [Domain; 2] = [Domain::V4, Domain::V6];

pub(crate) fn buffer(bytes: &[u8]) -> Buffer {
    Buffer::copy_from_slice(bytes).unwrap()
}

/// Bytes that are different everywhere, so that what is lost, doubled or moved shows.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
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
