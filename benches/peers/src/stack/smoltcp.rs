//! smoltcp, as its documentation and its loopback example want it: sockets with buffers of their own, and an interface
//! that is polled after each thing that was done.

use super::{BLOCK, MESSAGE, TOGETHER, Work};
use demikernel_allocations as allocator;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, IpEndpoint, Ipv4Address};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Payload of a full segment; smoltcp sends timestamps only if it is given a clock for them.
const SEGMENT: usize = 1460;

/// What a connection of echo may buffer, each way.
const SMALL: usize = 4 << 10;

/// What a streaming one may.
const LARGE: usize = 256 << 10;

/// What a round trip costs in virtual time, as of our stack.
const STEP: Duration = Duration::from_micros(10);

pub(super) fn prepare(item: &str) -> Option<Work> {
    match item {
        "tcp_echo_1" => Some(echo_with(1)),
        "tcp_echo_1000" => Some(echo_with(1_000)),
        "udp_echo" => {
            let mut world = World::new();
            let pair = world.datagrams();
            Some(Box::new(move |count| {
                (0..count).for_each(|_| world.echo_datagram(pair));
                None
            }))
        }
        "streaming" => {
            let mut world = World::new();
            let pair = world.connect(1, LARGE)[0];
            let block = vec![7; SEGMENT * BLOCK];
            Some(Box::new(move |count| {
                (0..count.div_ceil(BLOCK as u64)).for_each(|_| world.stream(pair, &block));
                None
            }))
        }
        "connections" => {
            let mut world = World::new();
            Some(Box::new(move |count| {
                (0..count.div_ceil(TOGETHER as u64)).for_each(|_| world.come_and_go(TOGETHER));
                None
            }))
        }
        _ => None,
    }
}

fn echo_with(connections: usize) -> Work {
    let mut world = World::new();
    let pairs = world.connect(connections, SMALL);
    let mut next = 0;
    Box::new(move |count| {
        for _ in 0..count {
            next = (next + 7919) % pairs.len();
            world.echo(pairs[next]);
        }
        None
    })
}

pub(super) fn memory() -> f64 {
    const CONNECTIONS: usize = 1_024;
    let mut world = World::new();
    let before = allocator::live();
    let pairs = world.connect(CONNECTIONS, SMALL);
    let live = (allocator::live() - before) as usize;
    (live - 2 * pairs.len() * 2 * SMALL) as f64 / (2 * pairs.len()) as f64
}

/// Frames, or IP packets, in one direction; or those that have been read and can be written anew.
pub(super) type Frames = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a cable.
pub(super) struct Cable {
    pub(super) medium: Medium,
    pub(super) inbound: Frames,
    pub(super) outbound: Frames,
    pub(super) spare: Frames,
}

pub(super) struct Receive<'a> {
    frame: Vec<u8>,
    spare: &'a RefCell<VecDeque<Vec<u8>>>,
}

pub(super) struct Transmit<'a> {
    outbound: &'a RefCell<VecDeque<Vec<u8>>>,
    spare: &'a RefCell<VecDeque<Vec<u8>>>,
}

impl RxToken for Receive<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.frame);
        self.spare.borrow_mut().push_back(self.frame);
        result
    }
}

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = self.spare.borrow_mut().pop_back().unwrap_or_default();
        frame.resize(length, 0);
        let result = f(&mut frame);
        self.outbound.borrow_mut().push_back(frame);
        result
    }
}

impl Device for Cable {
    type RxToken<'a> = Receive<'a>;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Receive<'_>, Transmit<'_>)> {
        let frame = self.inbound.borrow_mut().pop_front()?;
        let transmit = Transmit { outbound: &self.outbound, spare: &self.spare };
        Some((Receive { frame, spare: &self.spare }, transmit))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        Some(Transmit { outbound: &self.outbound, spare: &self.spare })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = if self.medium == Medium::Ethernet { 1514 } else { 1500 };
        capabilities
    }
}

/// A stack and its sockets.
struct End {
    interface: Interface,
    device: Cable,
    sockets: SocketSet<'static>,
}

impl End {
    fn new(now: Instant, mut device: Cable, number: u8) -> End {
        let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, number]).into());
        config.random_seed = number.into();
        let mut interface = Interface::new(config, &mut device, now);
        interface.update_ip_addrs(|addresses| {
            let own = IpCidr::new(IpAddress::v4(10, 0, 0, number), 16);
            addresses.push(own).expect("there is room for one");
        });
        End { interface, device, sockets: SocketSet::new(Vec::new()) }
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.device, &mut self.sockets);
    }

    fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn add_tcp(&mut self, buffer: usize) -> SocketHandle {
        let memory = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(memory(), memory());
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }
}

const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);

struct World {
    client: End,
    server: End,
    now: Instant,
    port: u16,
}

impl World {
    fn new() -> World {
        let frames = Frames::default;
        let (there, back, spare) = (frames(), frames(), frames());
        let cable = |inbound: &Frames, outbound: &Frames| Cable {
            medium: Medium::Ethernet,
            inbound: inbound.clone(),
            outbound: outbound.clone(),
            spare: spare.clone(),
        };
        let now = Instant::from_secs(1);
        let client = End::new(now, cable(&back, &there), 1);
        let server = End::new(now, cable(&there, &back), 2);
        World { client, server, now, port: 1024 }
    }

    /// Until nothing moves any more.
    fn settle(&mut self) {
        loop {
            self.now += STEP;
            self.client.poll(self.now);
            self.server.poll(self.now);
            let quiet = |end: &End| end.device.inbound.borrow().is_empty();
            if quiet(&self.client) && quiet(&self.server) {
                break;
            }
        }
    }

    fn next_port(&mut self) -> u16 {
        self.port = if self.port == u16::MAX { 1024 } else { self.port + 1 };
        self.port
    }

    /// So many connections, which buffer so much each way.
    fn connect(&mut self, count: usize, buffer: usize) -> Vec<(SocketHandle, SocketHandle)> {
        let pairs: Vec<_> =
            (0..count).map(|_| (self.client.add_tcp(buffer), self.server.add_tcp(buffer))).collect();
        pairs.iter().for_each(|&pair| self.open(pair));
        pairs
    }

    fn open(&mut self, (client, server): (SocketHandle, SocketHandle)) {
        self.server.tcp(server).listen(7).expect("the socket is closed");
        let port = self.next_port();
        let context = self.client.interface.context();
        let socket = self.client.sockets.get_mut::<tcp::Socket<'_>>(client);
        socket.connect(context, (SERVER, 7), port).expect("the socket is closed");
        // The first waits for the neighbour.
        for _ in 0..200_000 {
            self.settle();
            if self.client.tcp(client).may_send() && self.server.tcp(server).may_send() {
                return;
            }
        }
        panic!("no connection");
    }

    fn echo(&mut self, (client, server): (SocketHandle, SocketHandle)) {
        self.now += STEP;
        let now = self.now;
        let mut bytes = [7; MESSAGE];
        self.client.tcp(client).send_slice(&bytes).expect("the connection is open");
        self.client.poll(now);
        self.server.poll(now);
        let count = self.server.tcp(server).recv_slice(&mut bytes).expect("the connection is open");
        assert_eq!(count, MESSAGE);
        self.server.tcp(server).send_slice(&bytes).expect("the connection is open");
        self.server.poll(now);
        self.client.poll(now);
        let count = self.client.tcp(client).recv_slice(&mut bytes).expect("the connection is open");
        assert_eq!(count, MESSAGE);
    }

    fn stream(&mut self, (client, server): (SocketHandle, SocketHandle), block: &[u8]) {
        let (mut sent, mut received) = (0, 0);
        while received < block.len() {
            self.now += STEP;
            let now = self.now;
            sent += self.client.tcp(client).send_slice(&block[sent..]).expect("the connection is open");
            self.client.poll(now);
            self.server.poll(now);
            let socket = self.server.tcp(server);
            while socket.can_recv() {
                received += socket.recv(|data| (data.len(), data.len())).expect("the connection is open");
            }
            self.server.poll(now);
            self.client.poll(now);
        }
    }

    fn datagrams(&mut self) -> (SocketHandle, SocketHandle) {
        let add = |end: &mut End, port: u16| {
            let memory = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 4096]);
            let mut socket = udp::Socket::new(memory(), memory());
            socket.bind(port).expect("the port is free");
            end.sockets.add(socket)
        };
        let pair = (add(&mut self.client, 1024), add(&mut self.server, 53));
        self.client.udp(pair.0).send_slice(&[0], (SERVER, 53)).expect("there is room");
        for _ in 0..200_000 {
            self.settle();
            if self.server.udp(pair.1).recv().is_ok() {
                return pair;
            }
        }
        panic!("no datagram arrives");
    }

    fn echo_datagram(&mut self, (client, server): (SocketHandle, SocketHandle)) {
        self.now += STEP;
        let now = self.now;
        let mut bytes = [7; MESSAGE];
        self.client.udp(client).send_slice(&bytes, (SERVER, 53)).expect("there is room");
        self.client.poll(now);
        self.server.poll(now);
        let socket = self.server.udp(server);
        let (count, from) = socket.recv_slice(&mut bytes).expect("a datagram has come");
        let from: IpEndpoint = from.endpoint;
        socket.send_slice(&bytes[..count], from).expect("there is room");
        self.server.poll(now);
        self.client.poll(now);
        self.client.udp(client).recv_slice(&mut bytes).expect("a datagram has come");
    }

    /// Connections are made, and closed by both ends.
    fn come_and_go(&mut self, count: usize) {
        while self.client.sockets.iter().count() < count {
            self.client.add_tcp(SMALL);
            self.server.add_tcp(SMALL);
        }
        let handles = |end: &End| end.sockets.iter().map(|(handle, _)| handle).collect::<Vec<_>>();
        let pairs: Vec<_> = handles(&self.client).into_iter().zip(handles(&self.server)).collect();
        for &(client, server) in &pairs {
            self.server.tcp(server).listen(7).expect("the socket is closed");
            let port = self.next_port();
            let context = self.client.interface.context();
            let socket = self.client.sockets.get_mut::<tcp::Socket<'_>>(client);
            socket.connect(context, (SERVER, 7), port).expect("the socket is closed");
        }
        let is_open = |world: &mut World| {
            pairs.iter().all(|&(client, server)| {
                world.client.tcp(client).may_send() && world.server.tcp(server).may_send()
            })
        };
        while !is_open(self) {
            self.settle();
        }
        for &(client, server) in &pairs {
            self.client.tcp(client).close();
            self.server.tcp(server).close();
        }
        self.settle();
        // What is left is to wait: connections of smoltcp have no place of their own for that.
        for &(client, server) in &pairs {
            self.client.tcp(client).abort();
            self.server.tcp(server).abort();
        }
        self.settle();
    }
}
