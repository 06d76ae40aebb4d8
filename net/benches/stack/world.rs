//! Two stacks in one thread, joined by a cable in memory.

use demikernel_net::device::{Capabilities, Frame, FrameDevice, MacAddress, Medium, Pair};
use demikernel_net::stack::{SocketId, Stack, StackConfig};
use demikernel_net::tcp;
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One end: a stack, its device and what is between them.
pub(crate) struct End {
    pub(crate) stack: Stack,
    device: Pair,
    inbound: Vec<Frame>,
    outbound: Vec<Frame>,
}

impl End {
    fn new(now: Instant, device: Pair, number: u8) -> End {
        let mut config = StackConfig::new(device.capabilities(), [number; 32]);
        for address in 0..4 {
            config = config.address(IpAddr::from([10, 0, address, number]), 16);
        }
        config.ports = 1024..=65_535;
        config.limits.sockets = 1 << 20;
        config.limits.time_wait = 1 << 20;
        config.limits.half_open = 1 << 17;
        config.limits.backlog = 1 << 17;
        config.tcp = tcp::Config { time_wait: Duration::from_secs(1), ..tcp::Config::default() };
        End { stack: Stack::new(now, config), device, inbound: Vec::new(), outbound: Vec::new() }
    }

    /// A burst in; whether there was anything.
    #[inline]
    pub(crate) fn receive(&mut self, now: Instant) -> bool {
        let count = self.device.receive(&mut self.inbound).unwrap_or(0);
        self.stack.receive(now, &mut self.inbound);
        count > 0
    }

    /// A burst out; whether there was anything.
    #[inline]
    pub(crate) fn transmit(&mut self, now: Instant) -> bool {
        let count = self.stack.transmit(now, &mut self.outbound);
        let _ = self.device.transmit(&mut self.outbound);
        count > 0
    }
}

/// Two ends and their time.
pub(crate) struct World {
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) now: Instant,
}

/// What a round trip costs in virtual time.
const STEP: Duration = Duration::from_micros(10);

/// What tells connections apart: the client's port, and the server's address.
fn key(client: SocketAddr, server: SocketAddr) -> (u16, IpAddr) {
    (client.port(), server.ip())
}

impl World {
    pub(crate) fn new() -> World {
        let now = Instant::from_nanos(1_000_000_000);
        let capabilities = |number| {
            let medium = Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, number]));
            let mut capabilities = Capabilities::new(medium, 1500);
            capabilities.scatter = true;
            capabilities
        };
        let (one, two) = Pair::new(capabilities(1), capabilities(2), 1 << 16);
        let mut world = World { client: End::new(now, one, 1), server: End::new(now, two, 2), now };
        world.meet();
        world
    }

    /// Both learn who has which address.
    fn meet(&mut self) {
        let socket = self.client.stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
        for address in 0..4 {
            let to = SocketAddr::from(([10, 0, address, 2], 9));
            self.client.stack.send_to(self.now, socket, &Sga::new(), Some(to)).unwrap();
            self.settle();
        }
        self.client.stack.close(self.now, socket).unwrap();
    }

    /// Both ends do all that they have to do now.
    pub(crate) fn settle(&mut self) {
        loop {
            self.now += STEP;
            let mut busy = false;
            for end in [&mut self.client, &mut self.server] {
                busy |= end.receive(self.now);
                end.stack.handle_deadlines(self.now);
                while end.transmit(self.now) {
                    busy = true;
                }
            }
            if !busy {
                break;
            }
        }
        for end in [&mut self.client, &mut self.server] {
            while end.stack.poll_event().is_some() {}
        }
    }

    pub(crate) fn listen(&mut self) -> SocketId {
        let stack = &mut self.server.stack;
        let listener = stack.socket(Domain::V4, SocketKind::Stream).unwrap();
        stack.bind(listener, SocketAddr::from(([0, 0, 0, 0], 7))).unwrap();
        stack.listen(listener, 1 << 17).unwrap();
        listener
    }

    /// So many connections.
    pub(crate) fn connect(&mut self, listener: SocketId, count: usize) -> Vec<(SocketId, SocketId)> {
        let mut pairs = Vec::new();
        while pairs.len() < count {
            let some: Vec<_> = (0..(count - pairs.len()).min(1000))
                .map(|index| {
                    let socket = self.client.stack.socket(Domain::V4, SocketKind::Stream).unwrap();
                    let to = SocketAddr::from(([10, 0, (index % 4) as u8, 2], 7));
                    let _ = self.client.stack.connect(self.now, socket, to);
                    (socket, self.client.stack.local(socket).unwrap())
                })
                .collect();
            self.settle();
            let mut accepted = Vec::new();
            while let Ok((socket, peer)) = self.server.stack.accept(listener) {
                let local = self.server.stack.local(socket).unwrap();
                accepted.push((key(peer, local), socket));
            }
            accepted.sort_unstable_by_key(|(key, _)| *key);
            for (socket, local) in some {
                let peer = self.client.stack.peer(socket).unwrap();
                let place = accepted.binary_search_by_key(&key(local, peer), |(key, _)| *key).unwrap();
                pairs.push((socket, accepted[place].1));
            }
        }
        pairs
    }

    /// 64 bytes there and back on one connection.
    #[inline]
    pub(crate) fn echo(&mut self, (client, server): (SocketId, SocketId), message: &Buffer) {
        self.now += STEP;
        let now = self.now;
        self.client.stack.send(now, client, &mut Sga::from(message.clone())).unwrap();
        self.client.transmit(now);
        self.server.receive(now);
        while self.server.stack.poll_event().is_some() {}
        let data = self.server.stack.recv(now, server, 1 << 16).unwrap();
        self.server.stack.send(now, server, &mut Sga::from(data)).unwrap();
        self.server.transmit(now);
        self.client.receive(now);
        while self.client.stack.poll_event().is_some() {}
        let data = self.client.stack.recv(now, client, 1 << 16).unwrap();
        debug_assert_eq!(data.len(), message.len());
        self.client.stack.handle_deadlines(now);
        self.server.stack.handle_deadlines(now);
    }

    /// 64 bytes there and back on each of some connections, which are as many as a burst has frames.
    #[inline(never)]
    pub(crate) fn echo_burst(&mut self, pairs: &[(SocketId, SocketId)], message: &Buffer) {
        self.transmit_path(pairs, message);
        self.carry();
        let now = self.now;
        let server = &mut self.server;
        server.stack.receive(now, &mut server.inbound);
        while let Some((socket, _)) = server.stack.poll_event() {
            if let Ok(data) = server.stack.recv(now, socket, 1 << 16) {
                server.stack.send(now, socket, &mut Sga::from(data)).unwrap();
            }
        }
        while server.transmit(now) {}
        while self.client.receive(now) {}
        while let Some((socket, _)) = self.client.stack.poll_event() {
            let _ = self.client.stack.recv(now, socket, 1 << 16);
        }
        self.client.stack.handle_deadlines(now);
        self.server.stack.handle_deadlines(now);
    }

    /// From the calls that send to frames in a burst: one of each connection.
    #[inline(never)]
    pub(crate) fn transmit_path(&mut self, pairs: &[(SocketId, SocketId)], message: &Buffer) {
        self.now += STEP;
        let client = &mut self.client;
        for (socket, _) in pairs {
            client.stack.send(self.now, *socket, &mut Sga::from(message.clone())).unwrap();
        }
        client.stack.transmit(self.now, &mut client.outbound);
    }

    /// What has been transmitted is before the server.
    pub(crate) fn carry(&mut self) {
        let _ = self.client.device.transmit(&mut self.client.outbound);
        let _ = self.server.device.receive(&mut self.server.inbound);
    }

    /// From frames in a burst to events that their users have got.
    #[inline(never)]
    pub(crate) fn receive_path(&mut self) {
        let server = &mut self.server;
        server.stack.receive(self.now, &mut server.inbound);
        while let Some(event) = server.stack.poll_event() {
            std::hint::black_box(event);
        }
    }

    /// What the server has got is taken, and acknowledged.
    pub(crate) fn finish(&mut self, pairs: &[(SocketId, SocketId)]) {
        for (_, server) in pairs {
            let _ = self.server.stack.recv(self.now, *server, 1 << 16);
        }
        self.settle();
        // Past the time of delayed acknowledgements.
        self.now += Duration::from_millis(50);
        self.settle();
    }

    /// A block of `segments` full segments from one end to the other; returns how many bytes arrived.
    #[inline]
    pub(crate) fn stream(&mut self, (client, server): (SocketId, SocketId), block: &Buffer) -> usize {
        let mut received = 0;
        let mut list = Sga::from(block.clone());
        while received < block.len() {
            self.now += STEP;
            let now = self.now;
            if !list.is_empty() {
                let _ = self.client.stack.send(now, client, &mut list);
            }
            while self.client.transmit(now) {
                self.server.receive(now);
                while let Ok(data) = self.server.stack.recv(now, server, 1 << 20) {
                    received += data.len();
                }
                self.server.transmit(now);
                self.client.receive(now);
            }
            self.client.stack.handle_deadlines(now);
            self.server.stack.handle_deadlines(now);
            while self.client.stack.poll_event().is_some() {}
            while self.server.stack.poll_event().is_some() {}
        }
        received
    }

    /// UDP sockets that know each other.
    pub(crate) fn datagrams(&mut self) -> (SocketId, SocketId) {
        let client = self.client.stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
        let server = self.server.stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
        self.server.stack.bind(server, SocketAddr::from(([0, 0, 0, 0], 53))).unwrap();
        self.client.stack.connect(self.now, client, SocketAddr::from(([10, 0, 0, 2], 53))).unwrap();
        self.client.stack.send(self.now, client, &mut Sga::from(Buffer::from_static(b"x"))).unwrap();
        self.settle();
        self.server.stack.recv_from(server).unwrap();
        (client, server)
    }

    /// 64 bytes there and back.
    #[inline]
    pub(crate) fn echo_datagram(&mut self, (client, server): (SocketId, SocketId), message: &Buffer) {
        self.now += STEP;
        let now = self.now;
        self.client.stack.send(now, client, &mut Sga::from(message.clone())).unwrap();
        self.client.transmit(now);
        self.server.receive(now);
        while self.server.stack.poll_event().is_some() {}
        let datagram = self.server.stack.recv_from(server).unwrap();
        self.server.stack.send_to(now, server, &Sga::from(datagram.payload), Some(datagram.source)).unwrap();
        self.server.transmit(now);
        self.client.receive(now);
        while self.client.stack.poll_event().is_some() {}
        self.client.stack.recv_from(client).unwrap();
    }

    /// A connection is made, and closed by both ends.
    pub(crate) fn come_and_go(&mut self, listener: SocketId, count: usize) {
        for (client, server) in self.connect(listener, count) {
            self.client.stack.close(self.now, client).unwrap();
            self.server.stack.close(self.now, server).unwrap();
        }
        self.settle();
        self.now += Duration::from_millis(1);
    }
}
