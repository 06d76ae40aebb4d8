//! Peers, kernels and programs that misbehave.

use crate::harness::{Net, any_address, under_valgrind};
use crate::operations::{buffer, pattern};
use demikernel_runtime::buffer::{Buffer, BufferMut, pool};
use demikernel_runtime::time::{Duration, sleep};
use demikernel_runtime::transport::{Domain, Endpoint, Qd};
use futures::future::join_all;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::pin::Pin;

type Run = Pin<Box<dyn Future<Output = ()>>>;

/// Closes a plain socket so that its peer gets a reset.
fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

pub(crate) fn a_reset_is_an_error(net: Net) -> Run {
    Box::pin(async move {
        let (server, peer) = net.with_peer().await;
        let waiting = net.pop(server);
        reset(peer);
        assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let refused = net.push(server, buffer(b"x")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
        net.network.close(server);

        // Data and then a reset, before anybody looks.
        let (server, mut peer) = net.with_peer().await;
        peer.write_all(b"last words").unwrap();
        reset(peer);
        sleep(Duration::from_millis(5)).await;
        assert_eq!(net.pop(server).await.unwrap(), b"last words");
        assert_eq!(net.pop(server).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        net.network.close(server);
    })
}

pub(crate) fn a_peer_that_vanishes(net: Net) -> Run {
    Box::pin(async move {
        let (server, mut peer) = net.with_peer().await;
        let pushes: Vec<_> =
            (0..32).map(|index| net.push(server, Buffer::from(pattern(1 << 20, index)))).collect();
        let thread = std::thread::spawn(move || {
            let mut some = vec![0; 3 << 20];
            peer.read_exact(&mut some).unwrap();
        });
        let results = join_all(pushes).await;
        thread.join().unwrap();
        // Some were sent; from the first that was not, none was.
        let sent = results.iter().take_while(|result| result.is_ok()).count();
        assert!((3..32).contains(&sent), "{sent} of 32 MiB sent");
        assert!(results[sent..].iter().all(Result::is_err));
        net.network.close(server);
    })
}

pub(crate) fn a_refused_connection(net: Net) -> Run {
    Box::pin(async move {
        for (domain, kind) in [
            (Domain::V4, ErrorKind::ConnectionRefused),
            (Domain::V6, ErrorKind::ConnectionRefused),
            (Domain::Unix, ErrorKind::ConnectionRefused),
        ] {
            let (listener, address) = net.listener(domain);
            net.network.close(listener);
            // A closed socket may take a moment to be gone.
            sleep(Duration::from_millis(5)).await;
            let client = net.stream(domain);
            assert_eq!(net.connect(client, &address).await.unwrap_err().kind(), kind);
            net.network.close(client);
        }
        let client = net.stream(Domain::Unix);
        let nowhere = Endpoint::Unix(Some("/nowhere/at all".into()));
        let error = net.connect(client, &nowhere).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("/nowhere/at all"), "{error}");
        net.network.close(client);
    })
}

pub(crate) fn a_used_address(net: Net) -> Run {
    Box::pin(async move {
        for domain in crate::harness::FAMILIES {
            let (listener, address) = net.listener(domain);
            let second = net.stream(domain);
            let error = net.network.bind(second, &address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert!(error.to_string().contains(&address.to_string()), "{error}");
            net.network.close(listener);
            net.network.close(second);
        }
    })
}

pub(crate) fn wrong_numbers(net: Net) -> Run {
    Box::pin(async move {
        let nothing = Qd(999_999);
        assert!(net.pop(nothing).await.is_err());
        assert!(net.push(nothing, buffer(b"x")).await.is_err());
        assert!(net.accept(nothing).await.is_err());
        assert!(net.connect(nothing, &any_address(Domain::V4)).await.is_err());
        assert!(net.read_at(nothing, 0, BufferMut::with_capacity(10).unwrap()).await.is_err());
        assert!(net.sync(nothing, true).await.is_err());
        assert!(net.network.local(nothing).is_err());
        net.network.close(nothing);
        net.storage.close_file(nothing);

        let idle = net.stream(Domain::V4);
        assert!(net.pop(idle).await.is_err(), "not connected");
        assert!(net.push(idle, buffer(b"x")).await.is_err(), "not connected");
        assert!(net.accept(idle).await.is_err(), "not listening");
        assert!(net.pop_from(idle, 100).await.is_err(), "not a datagram socket");
        assert!(net.sync(idle, false).await.is_err(), "not a file");
        assert!(net.network.peer(idle).is_err());
        net.network.close(idle);
        assert!(net.pop(idle).await.is_err(), "closed");
    })
}

/// Lets the process open no descriptor more while it lives.
struct NoDescriptors(libc::rlimit);

impl NoDescriptors {
    fn new() -> NoDescriptors {
        let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
        let limit = limit_of_descriptors();
        set_limit_of_descriptors(libc::rlimit { rlim_cur: next as libc::rlim_t, ..limit });
        NoDescriptors(limit)
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        set_limit_of_descriptors(self.0);
    }
}

fn limit_of_descriptors() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills in the structure.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit
}

pub(crate) fn set_limit_of_descriptors(limit: libc::rlimit) {
    // SAFETY: the structure is valid.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// As many descriptors as the process may have.
pub(crate) fn raise_limit_of_descriptors() -> u64 {
    let limit = limit_of_descriptors();
    set_limit_of_descriptors(libc::rlimit { rlim_cur: limit.rlim_max, ..limit });
    limit.rlim_max
}

pub(crate) fn too_many_files(net: Net) -> Run {
    Box::pin(async move {
        if under_valgrind() {
            // It accepts the connections, and closes them on finding that they are more than the limit.
            return;
        }
        let (listener, address) = net.listener(Domain::V4);
        let peers: Vec<_> = (0..3).map(|_| TcpStream::connect(address.inet().unwrap()).unwrap()).collect();
        let none = NoDescriptors::new();
        for error in [
            net.accept(listener).await.map(|_| ()).unwrap_err(),
            net.accept(listener).await.map(|_| ()).unwrap_err(),
            net.network
                .socket(Domain::V4, demikernel_runtime::transport::SocketKind::Stream)
                .map(|_| ())
                .unwrap_err(),
        ] {
            assert!(error.to_string().contains("ulimit -n"), "{error}");
        }
        drop(none);
        // The connections were not lost.
        for peer in &peers {
            let server = net.accept(listener).await.unwrap();
            assert_eq!(server.peer, Endpoint::Inet(peer.local_addr().unwrap()));
            net.network.close(server.qd);
        }
        net.network.close(listener);
    })
}

/// Leaves the pool of this thread without memory while it lives.
struct NoMemory {
    limit: usize,
    held: Vec<BufferMut>,
}

impl NoMemory {
    fn new() -> NoMemory {
        let limit = pool::limit();
        pool::set_limit(pool::stats().mapped.max(4 << 20));
        let mut held = Vec::new();
        for size in [1 << 20, 64 << 10, 16 << 10, 4 << 10, 2 << 10, 256] {
            while let Ok(buffer) = BufferMut::with_capacity(size) {
                held.push(buffer);
            }
        }
        NoMemory { limit, held }
    }
}

impl Drop for NoMemory {
    fn drop(&mut self) {
        self.held.clear();
        pool::set_limit(self.limit);
    }
}

pub(crate) fn a_tiny_pool_recovers(net: Net) -> Run {
    Box::pin(async move {
        let (client, server) = net.pair(Domain::V4).await;
        let (other, datagrams) = net.datagram(Domain::V4);
        let (sender, _) = net.datagram(Domain::V4);
        let memory = NoMemory::new();
        net.push(client, Buffer::from_static(b"data")).await.unwrap();
        net.push_to(sender, Buffer::from_static(b"datagram"), datagrams).await.unwrap();
        let pops = [net.pop(server), net.pop(server)];
        let datagram = net.pop_from(other, 2048);
        sleep(Duration::from_millis(20)).await;
        if net.device.name() == "epoll" {
            assert!(pops.iter().all(|pop| !pop.is_done()) && !datagram.is_done(), "there is no memory");
        }
        // What needs no memory goes on.
        net.push(server, Buffer::from_static(b"x")).await.unwrap();
        drop(memory);
        let [first, second] = pops;
        assert_eq!(first.await.unwrap(), b"data");
        assert_eq!(datagram.await.unwrap().0, b"datagram");
        net.push(client, Buffer::from_static(b"more")).await.unwrap();
        assert_eq!(second.await.unwrap(), b"more");
        for qd in [client, server, other, sender] {
            net.network.close(qd);
        }
    })
}

pub(crate) fn one_full_socket_does_not_stop_others(net: Net) -> Run {
    Box::pin(async move {
        let (slow, stuck) = net.pair(Domain::V4).await;
        let stuck_push = net.push(stuck, Buffer::from(vec![0; 16 << 20]));
        let (client, server) = net.pair(Domain::V4).await;
        for round in 0..500u32 {
            net.push(client, buffer(&round.to_le_bytes())).await.unwrap();
            let data = net.pop(server).await.unwrap();
            net.push(server, data).await.unwrap();
            assert_eq!(net.pop(client).await.unwrap(), round.to_le_bytes());
        }
        assert!(!stuck_push.is_done());
        drop(stuck_push);
        for qd in [slow, stuck, client, server] {
            net.network.close(qd);
        }
    })
}

pub(crate) fn a_full_unix_queue_is_waited_for(net: Net) -> Run {
    Box::pin(async move {
        let listener = net.stream(Domain::Unix);
        net.network.bind(listener, &any_address(Domain::Unix)).unwrap();
        net.network.listen(listener, 1).unwrap();
        let address = net.network.local(listener).unwrap();
        let clients: Vec<Qd> = (0..8).map(|_| net.stream(Domain::Unix)).collect();
        let connects: Vec<_> = clients.iter().map(|&client| net.connect(client, &address)).collect();
        sleep(Duration::from_millis(10)).await;
        assert!(connects.iter().any(|connect| !connect.is_done()));
        let mut servers = Vec::new();
        for _ in &clients {
            servers.push(net.accept(listener).await.unwrap().qd);
        }
        assert!(join_all(connects).await.iter().all(Result::is_ok));
        for qd in clients.into_iter().chain(servers).chain([listener]) {
            net.network.close(qd);
        }
    })
}
