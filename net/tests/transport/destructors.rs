//! Memory that was sent may be somebody's whose destructor uses the transport, while the stack lets go of it: nothing
//! panics, and what it asks for is done later or refused.

use crate::harness::{Net, any_address, stack};
use crate::operations::buffer;
use bytes::Bytes;
use demikernel_runtime::buffer::{Buffer, pool};
use demikernel_runtime::time::{Duration, sleep, timeout};
use demikernel_runtime::transport::{Domain, Endpoint, OptionName, Qd, SocketKind, SocketOption};
use demikernel_runtime::{QToken, Runtime};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::rc::Rc;

thread_local! {
    static ON_DROP: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Memory whose destructor does what this thread has said.
struct Owner([u8; 20]);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(call) = ON_DROP.take() {
            call();
        }
    }
}

fn owned() -> Buffer {
    Buffer::from(Bytes::from_owner(Owner([7; 20])))
}

/// Sockets that the destructor uses, and what came of it.
struct Scene {
    net: Net,
    /// The connection whose data have the destructor.
    own: (Qd, Qd),
    other: (Qd, Qd),
    closed: (Qd, Qd),
    datagrams: (Qd, Endpoint),
    tokens: RefCell<Vec<QToken<io::Result<()>>>>,
    popped: RefCell<Option<QToken<io::Result<Buffer>>>>,
    socket: RefCell<Option<io::Result<Qd>>>,
}

impl Scene {
    async fn new(net: Net) -> Rc<Scene> {
        let (own, other, closed) =
            (net.pair(Domain::V4).await, net.pair(Domain::V4).await, net.pair(Domain::V4).await);
        let (qd, address) = net.datagram(Domain::V4);
        Rc::new(Scene {
            net,
            own,
            other,
            closed,
            datagrams: (qd, Endpoint::Inet(address)),
            tokens: RefCell::default(),
            popped: RefCell::default(),
            socket: RefCell::default(),
        })
    }

    /// Has the next destructor make every call that there is.
    fn arm(self: &Rc<Scene>) {
        let scene = self.clone();
        ON_DROP.set(Some(Box::new(move || scene.call_everything())));
    }

    fn call_everything(&self) {
        let (net, network) = (&self.net, &self.net.network);
        self.socket.replace(Some(network.socket(Domain::V4, SocketKind::Stream)));
        let mut tokens = self.tokens.borrow_mut();
        tokens.push(net.push(self.other.0, buffer(b"from a destructor")));
        tokens.push(net.push(self.own.0, buffer(b"and here")));
        if let Endpoint::Inet(address) = self.datagrams.1 {
            tokens.push(net.push_to(self.datagrams.0, buffer(b"a datagram"), address));
        }
        self.popped.replace(Some(net.pop(self.other.1)));
        drop((net.pop(self.own.0), net.pop(self.own.1), net.accept(self.own.0)));
        drop(net.connect(self.other.0, &any_address(Domain::V4)));
        for qd in [self.own.0, self.own.1, self.other.0] {
            let _ = (network.local(qd), network.peer(qd), network.option(qd, OptionName::NoDelay));
            let _ = (network.set_option(qd, SocketOption::NoDelay(true)), network.listen(qd, 1));
            let _ = network.bind(qd, &any_address(Domain::V4));
        }
        let _ = network.shutdown_socket(self.own.1, Shutdown::Read);
        network.close(self.closed.0);
        assert!(!net.device.counters().is_empty());
    }

    /// Whether it has run, and while the stack was busy.
    fn was_refused(&self) -> bool {
        match &*self.socket.borrow() {
            Some(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(error.to_string().contains("the destructor of memory that was sent"), "{error}");
                true
            }
            Some(Ok(_)) => false,
            None => panic!("the destructor has not run"),
        }
    }

    async fn close(&self) {
        let made = self.socket.take().and_then(Result::ok);
        let (own, other) = (self.own, self.other);
        for qd in [own.0, own.1, other.0, other.1, self.closed.0, self.closed.1, self.datagrams.0] {
            self.net.network.close(qd);
        }
        made.into_iter().for_each(|qd| self.net.network.close(qd));
        let patience = std::time::Instant::now() + Duration::from_secs(5);
        while self.net.counter("sockets open") != Some(0) {
            assert!(
                std::time::Instant::now() < patience,
                "sockets are left: {:?}",
                self.net.device.counters()
            );
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(self.net.counter("operations waiting"), Some(0));
    }
}

/// Runs a test with a scene; nothing is left of it.
fn with_scene<F: Future<Output = ()>>(test: impl FnOnce(Rc<Scene>) -> F) {
    let before = pool::stats().in_use();
    let (transport, there) = stack(64);
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport.clone().transport());
    let net = Net { device: transport.clone(), network: transport.clone() };
    runtime.block_on(async {
        let test = async {
            let scene = Scene::new(net).await;
            test(scene.clone()).await;
            scene.close().await;
        };
        timeout(Duration::from_secs(20), test).await.expect("the test is done in time");
    });
    drop((runtime, transport, there));
    assert_eq!(pool::stats().in_use(), before, "buffers left");
}

#[test]
fn calls_while_the_stack_is_busy_are_done_in_the_next_turn() {
    with_scene(async |scene| {
        scene.arm();
        // Short data are copied into the packet, so what the acknowledgment lets go of is the last of the memory.
        scene.net.push(scene.own.0, owned()).await.unwrap();
        assert_eq!(scene.net.pop_exactly(scene.own.1, 20).await, [7; 20]);
        while scene.socket.borrow().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(scene.was_refused());
        for token in scene.tokens.take() {
            token.await.unwrap();
        }
        let popped = scene.popped.take().unwrap();
        assert_eq!(popped.await.unwrap(), b"from a destructor");
        let (datagram, _) = scene.net.pop_from(scene.datagrams.0, 100).await.unwrap();
        assert_eq!(datagram, b"a datagram");
        let end = scene.net.pop(scene.closed.1).await.unwrap();
        assert!(end.is_empty(), "the other end was closed");
        // The stream is as it was.
        assert_eq!(scene.net.pop_exactly(scene.own.1, 8).await, b"and here");
    });
}

#[test]
fn calls_from_memory_that_a_reset_lets_go() {
    with_scene(async |scene| {
        let network = &scene.net.network;
        network.set_option(scene.own.0, SocketOption::Linger(Some(Duration::ZERO))).unwrap();
        scene.arm();
        let push = scene.net.push(scene.own.0, owned());
        network.close(scene.own.0);
        let _ = push.await;
        assert!(scene.was_refused());
        let tokens = scene.tokens.take();
        let results: Vec<_> = futures::future::join_all(tokens).await;
        assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok(), "{results:?}");
        assert_eq!(scene.popped.take().unwrap().await.unwrap(), b"from a destructor");
    });
}

#[test]
fn calls_from_memory_that_the_end_of_the_runtime_lets_go() {
    let (transport, _there) = stack(64);
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport.clone().transport());
    let net = Net { device: transport.clone(), network: transport.clone() };
    let scene = runtime.block_on(async {
        let scene = Scene::new(net).await;
        // A peer that is not there: nothing is acknowledged.
        let scene = Rc::new(Scene {
            own: (scene.net.stream(Domain::V4), scene.own.1),
            ..Rc::into_inner(scene).unwrap()
        });
        drop(scene.net.connect(scene.own.0, &Endpoint::Inet("192.0.2.9:9".parse().unwrap())));
        scene.arm();
        scene.net.push(scene.own.0, owned()).detach();
        scene
    });
    drop(runtime);
    let result = scene.socket.take().expect("the destructor has run");
    let kind = result.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::ConnectionAborted), "{kind:?}");
    assert_eq!(scene.net.network.local(scene.other.0).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}
