//! Running the tests of the runtime's transports on a stack with nobody at the other end of its device: what it sends to
//! itself does not leave it. What these tests call a Unix socket is one of IPv6 here.

// The tests that need the kernel or files are compiled, too.
#![allow(dead_code)]

use demikernel_net::device::{Capabilities, Medium, Pair};
use demikernel_net::stack::{Stack, StackConfig};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::buffer::pool;
use demikernel_runtime::time::{Instant, sleep, timeout};
use demikernel_runtime::transport::{Device, Domain, Endpoint, Network, Qd, SocketKind};
use demikernel_runtime::{Builder, Idle};
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

fn known(domain: Domain) -> Domain {
    if domain == Domain::Unix { Domain::V6 } else { domain }
}

impl Net {
    pub(crate) fn afterwards(&self, _check: impl FnOnce() + 'static) {
        unreachable!("for tests that need the kernel")
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

    pub(crate) async fn with_peer(&self) -> (Qd, std::net::TcpStream) {
        unreachable!("for tests that need the kernel")
    }
}

/// An address of the loopback with a port that nobody has.
pub(crate) fn any_address(domain: Domain) -> Endpoint {
    let address = if domain == Domain::V4 { "127.0.0.1:0" } else { "[::1]:0" };
    Endpoint::Inet(address.parse().unwrap())
}

pub(crate) const FAMILIES: [Domain; 2] = [Domain::V4, Domain::V6];
