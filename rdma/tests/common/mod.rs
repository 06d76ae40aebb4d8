//! One side of what the tests join, in a guest of `cargo xtask lab`.

#![allow(dead_code, reason = "each of the tests uses a part")]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use demikernel_rdma::verbs::*;
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};

/// For what ends in milliseconds, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The address of this guest, unless this is no guest of the lab. Then nothing is tested here.
pub(crate) fn address() -> Option<IpAddr> {
    variable("LAB_ADDRESS")
}

/// The address of the other guest.
pub(crate) fn peer() -> IpAddr {
    variable("LAB_PEER").expect("the lab says it")
}

fn variable(name: &str) -> Option<IpAddr> {
    match std::env::var(name) {
        Ok(address) => Some(address.parse().expect("an address")),
        Err(_) => {
            println!("no guest of `cargo xtask lab`: not tested here");
            None
        }
    }
}

/// A device with queues.
pub(crate) struct Side {
    pub(crate) device: Device,
    pub(crate) domain: ProtectionDomain,
    pub(crate) channel: CompletionChannel,
    pub(crate) completions: CompletionQueue,
    pub(crate) events: EventChannel,
}

impl Side {
    pub(crate) fn new() -> Side {
        let device = Device::open("rxe0").unwrap();
        let domain = ProtectionDomain::new(&device).unwrap();
        let channel = CompletionChannel::new(&device).unwrap();
        let completions = CompletionQueue::new(&device, 16, Some(&channel)).unwrap();
        let events = EventChannel::new().unwrap();
        Side { device, domain, channel, completions, events }
    }

    pub(crate) fn pair(&self, config: &QueuePairConfig) -> QueuePair {
        QueuePair::new(&self.domain, &self.completions, &self.completions, None, config).unwrap()
    }

    pub(crate) fn sharing(&self, queue: &SharedReceiveQueue, config: &QueuePairConfig) -> QueuePair {
        QueuePair::new(&self.domain, &self.completions, &self.completions, Some(queue), config).unwrap()
    }

    /// The next completion.
    pub(crate) fn completion(&self) -> Completion {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(completion) = self.look() {
                return completion;
            }
            self.completions.arm(false).unwrap();
            if let Some(completion) = self.look() {
                return completion;
            }
            assert!(readable(&self.channel, deadline), "no completion in {LIMIT:?}");
            self.channel.drain().unwrap();
        }
    }

    /// The next completion, if there is one.
    pub(crate) fn look(&self) -> Option<Completion> {
        if self.completions.poll().unwrap() > 0 { self.completions.take() } else { None }
    }

    /// The next event.
    pub(crate) fn event(&self) -> Event {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(event) = self.events.next_event().unwrap() {
                return event;
            }
            assert!(readable(&self.events, deadline), "no event in {LIMIT:?}");
        }
    }

    /// An id that knows the way to an address.
    pub(crate) fn routed(&self, space: PortSpace, tag: u64, to: SocketAddr) -> ConnectionId {
        let id = ConnectionId::new(&self.events, space, tag).unwrap();
        id.resolve_address(None, to, Duration::from_secs(5)).unwrap();
        let event = self.event();
        assert!(matches!(event.kind, EventKind::AddressResolved) && event.tag == tag, "{event:?}");
        id.resolve_route(Duration::from_secs(5)).unwrap();
        assert!(matches!(self.event().kind, EventKind::RouteResolved));
        id
    }

    pub(crate) fn listener(&self, space: PortSpace, address: SocketAddr) -> (ConnectionId, SocketAddr) {
        let id = ConnectionId::new(&self.events, space, 100).unwrap();
        id.bind(address).unwrap();
        id.listen(16).unwrap();
        let address = id.local_address().unwrap();
        (id, address)
    }

    pub(crate) fn request(&self) -> Request {
        match self.event() {
            Event { tag: 100, kind: EventKind::Request(request) } => request,
            other => panic!("{other:?}"),
        }
    }
}

/// Two ends of a connection in this process.
pub(crate) struct Connection {
    pub(crate) near_id: ConnectionId,
    pub(crate) near: QueuePair,
    pub(crate) far_id: ConnectionId,
    pub(crate) far: QueuePair,
}

/// Connects queue pairs of two sides.
pub(crate) fn connect(client: &Side, near: QueuePair, server: &Side, far: QueuePair) -> Connection {
    let here = SocketAddr::new(address().unwrap(), 0);
    let (_listener, there) = server.listener(PortSpace::Reliable, here);
    let near_id = client.routed(PortSpace::Reliable, near.tag(), there);
    let parameters = Parameters {
        responder_resources: 4,
        initiator_depth: 4,
        private_data: b"hello",
        ..Default::default()
    };
    near_id.connect(&near, &parameters).unwrap();
    let Request { id: far_id, data, .. } = server.request();
    assert_eq!(data[..5], *b"hello");
    far_id.set_tag(far.tag());
    far_id.accept(&far, &Parameters { private_data: b"welcome", ..parameters }).unwrap();
    match client.event().kind {
        EventKind::Response { data, .. } => assert_eq!(data[..7], *b"welcome"),
        other => panic!("{other:?}"),
    }
    near_id.establish(&near, &parameters).unwrap();
    match server.event() {
        Event { tag, kind: EventKind::Established } => assert_eq!(tag, far.tag()),
        other => panic!("{other:?}"),
    }
    Connection { near_id, near, far_id, far }
}

/// Waits for a descriptor.
pub(crate) fn readable(descriptor: impl AsFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis() as i32;
    let mut poll = libc::pollfd { fd: descriptor.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor is looked at.
    unsafe { libc::poll(&mut poll, 1, left) > 0 }
}

pub(crate) fn tagged(tag: u64) -> QueuePairConfig {
    QueuePairConfig { tag, ..QueuePairConfig::default() }
}

pub(crate) fn bytes(len: usize, value: u8) -> Buffer {
    let mut buffer = BufferMut::with_capacity(len).unwrap();
    buffer.resize(len, value);
    buffer.freeze()
}

pub(crate) fn message(parts: &[&[u8]]) -> Sga {
    parts.iter().map(|part| Buffer::copy_from_slice(part).unwrap()).collect()
}

pub(crate) fn space(len: usize) -> BufferMut {
    BufferMut::with_capacity(len).unwrap()
}

/// What was received.
pub(crate) fn received(completion: Completion) -> (u64, Vec<u8>) {
    match completion.outcome {
        Outcome::Received { data, .. } => (completion.tag, data.to_vec()),
        other => panic!("{other:?}"),
    }
}

/// How it has failed.
pub(crate) fn failure(completion: Completion) -> Status {
    match completion.outcome {
        Outcome::Failed { error, .. } => error.status,
        other => panic!("{other:?}"),
    }
}
