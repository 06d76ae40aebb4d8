//! Two hosts with several cores each on a cable of several queues, all on one thread and in virtual time.

use super::*;
use crate::device::{Frame, MacAddress, Medium, Pair};
use crate::stack::{Counter, SocketId, SocketOption, Stack, StackConfig};
use crate::wire::ethernet::{self, ether_type};
use crate::wire::{arp, icmpv4, ipv4};
use demikernel_runtime::buffer::{Buffer, Sga, pool};
use demikernel_runtime::time::{Duration, Instant};
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const START: Instant = Instant::from_nanos(1_000_000_000);
const PORT: u16 = 7000;

/// Few enough that cores which know nothing of each other would take the same.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 40_000..=40_499;

struct Core {
    stack: Stack,
    port: SharedPort,
    place: Rc<Place>,
    /// What its device has not taken.
    outbound: Vec<Frame>,
}

/// A host of several cores, of which the first ones have a queue.
fn host(number: u8, count: usize, queues: Vec<Pair>) -> Vec<Core> {
    let cores = Cores::new(count).unwrap();
    let mut queues: Vec<_> = queues.into_iter().map(Some).collect();
    queues.resize_with(count, || None);
    let arrive = |(core, queue): (usize, &Option<Pair>)| {
        cores.arrive(core, queue.as_ref().map(|queue| queue.capabilities()), None).unwrap()
    };
    let seats: Vec<Seat> = queues.iter().enumerate().map(arrive).collect();
    let begin = |(core, (queue, seat)): (usize, (Option<Pair>, Seat))| {
        let queue = queue.map(|queue| Box::new(queue) as Box<dyn FrameDevice>);
        let (port, place) = cores.begin(core, seat, queue).unwrap();
        let key = [number * 16 + core as u8; 32];
        let mut config = StackConfig::new(port.capabilities(), key);
        if core == 0 {
            config = config.address(IpAddr::from([10, 0, 0, number]), 24);
        }
        config.place = Some(place.clone());
        config.ports = EPHEMERAL;
        Core { stack: Stack::new(START, config), port, place, outbound: Vec::new() }
    };
    queues.into_iter().zip(seats).enumerate().map(begin).collect()
}

struct World {
    hosts: [Vec<Core>; 2],
    now: Instant,
}

/// What a cable of so many queues joins.
fn world(cores: [usize; 2], queues: usize) -> World {
    let capabilities =
        |number| Capabilities::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, number])), 1500);
    let cables = (0..queues).map(|_| Pair::new(capabilities(1), capabilities(2), 4096));
    let (near, far): (Vec<_>, Vec<_>) = cables.unzip();
    let mut world = World { hosts: [host(1, cores[0], near), host(2, cores[1], far)], now: START };
    world.run();
    // A neighbour that is asked for has few packets wait for it.
    for core in 0..cores[0] {
        let stack = &mut world.core(0, core).stack;
        let id = stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
        let data = Sga::from(Buffer::from_static(b"?"));
        stack.send_to(START, id, &data, Some(SocketAddr::from(([10, 0, 0, 2], 9)))).unwrap();
        world.run();
        world.core(0, core).stack.close(START, id).unwrap();
    }
    world
}

impl World {
    /// All do what there is to do now.
    fn run(&mut self) {
        // What one core sends for another shows in no count but the receiver's.
        let mut quiet = 0;
        for _ in 0..100_000 {
            let mut count = 0;
            for core in self.hosts.iter_mut().flatten() {
                let mut burst = Vec::new();
                let received = core.port.receive(&mut burst).unwrap();
                // As the transport does.
                if received > 0 || core.stack.is_busy() {
                    core.stack.receive(self.now, &mut burst);
                }
                count += received;
                core.stack.handle_deadlines(self.now);
                core.stack.transmit(self.now, &mut core.outbound);
                if !core.outbound.is_empty() {
                    count += core.port.transmit(&mut core.outbound).unwrap();
                }
            }
            quiet = if count == 0 { quiet + 1 } else { 0 };
            if quiet == 3 {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.run();
            let next = self.hosts.iter().flatten().filter_map(|core| core.stack.next_deadline()).min();
            match next.filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        self.now = end;
    }

    fn core(&mut self, host: usize, core: usize) -> &mut Core {
        &mut self.hosts[host][core]
    }

    fn listen(&mut self, host: usize, core: usize) -> SocketId {
        let stack = &mut self.core(host, core).stack;
        let id = stack.socket(Domain::V4, SocketKind::Stream).unwrap();
        stack.set_option(START, id, &SocketOption::ReusePort(true)).unwrap();
        stack.bind(id, SocketAddr::from(([0; 4], PORT))).unwrap();
        stack.listen(id, 1000).unwrap();
        id
    }

    fn connect(&mut self, host: usize, core: usize, to: [u8; 4]) -> SocketId {
        let now = self.now;
        let stack = &mut self.core(host, core).stack;
        let id = stack.socket(Domain::V4, SocketKind::Stream).unwrap();
        let error = stack.connect(now, id, SocketAddr::from((to, PORT))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
        id
    }

    fn send(&mut self, host: usize, core: usize, id: SocketId, bytes: &[u8]) {
        let now = self.now;
        let mut data: Sga = [Buffer::copy_from_slice(bytes).unwrap()].into_iter().collect();
        assert_eq!(self.core(host, core).stack.send(now, id, &mut data).unwrap(), bytes.len());
    }

    fn received(&mut self, host: usize, core: usize, id: SocketId) -> Vec<u8> {
        let now = self.now;
        let stack = &mut self.core(host, core).stack;
        let mut all = Vec::new();
        while let Ok(data) = stack.recv(now, id, usize::MAX) {
            if data.is_empty() {
                break;
            }
            all.extend_from_slice(&data);
        }
        all
    }

    /// What is accepted on each core of the second host is sent back what it sends; how many each has accepted.
    fn serve(&mut self, listeners: &[Option<SocketId>]) -> Vec<usize> {
        let mut accepted = Vec::new();
        for (core, listener) in listeners.iter().enumerate() {
            let mut count = 0;
            while let Some(listener) = listener
                && let Ok((id, _)) = self.core(1, core).stack.accept(*listener)
            {
                let data = self.received(1, core, id);
                self.send(1, core, id, &data);
                count += 1;
            }
            accepted.push(count);
        }
        self.run();
        accepted
    }

    /// So many connections from each core of the first host, each with a message there and back.
    fn exchange(&mut self, count: usize, listeners: &[Option<SocketId>]) -> Vec<usize> {
        let mut clients = Vec::new();
        for core in 0..self.hosts[0].len() {
            clients.extend((0..count).map(|_| (core, self.connect(0, core, [10, 0, 0, 2]))));
        }
        self.pass(Duration::from_millis(10));
        let message: Vec<u8> = (0..4000).map(|index| index as u8).collect();
        clients.iter().for_each(|(core, id)| self.send(0, *core, *id, &message));
        self.pass(Duration::from_millis(500));
        let accepted = self.serve(listeners);
        self.pass(Duration::from_millis(500));
        for (core, id) in clients {
            assert!(self.received(0, core, id) == message, "core {core}");
            let now = self.now;
            self.core(0, core).stack.close(now, id).unwrap();
        }
        assert_eq!(accepted.iter().sum::<usize>(), count * self.hosts[0].len());
        accepted
    }

    fn counter(&self, host: usize, core: usize, name: &str) -> u64 {
        let counters = self.hosts[host][core].place.counters();
        counters.into_iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn sum(&self, host: usize, name: &str) -> u64 {
        (0..self.hosts[host].len()).map(|core| self.counter(host, core, name)).sum()
    }
}

const HANDED: &str = "frames handed to other cores";
const PASSED: &str = "frames passed on as another core has the port";
const DROPPED: &str = "frames dropped as another core's ring was full";
const STRAYS: &str = "flows of all cores that do not follow their hash";

#[test]
fn every_core_serves_its_share_whatever_the_number_of_queues() {
    for (cores, queues) in [([1, 2], 1), ([1, 4], 1), ([2, 2], 1), ([2, 2], 2), ([3, 4], 2), ([4, 4], 4)] {
        let mut world = world(cores, queues);
        let listeners: Vec<_> = (0..cores[1]).map(|core| Some(world.listen(1, core))).collect();
        let accepted = world.exchange(40, &listeners);
        let share = 40 * cores[0] / cores[1];
        assert!(accepted.iter().all(|count| count * 3 > share), "{accepted:?} with {cores:?}, {queues}");
        assert_eq!((world.sum(1, PASSED), world.sum(1, STRAYS), world.sum(1, DROPPED)), (0, 0, 0));
        if queues < cores[1] {
            assert!(world.counter(1, cores[1] - 1, "frames sent through another core") > 0);
        }
    }
}

/// Where both hosts have a queue for each core, connections stay on one core at both ends: only what all are to know is
/// handed over.
#[test]
fn clients_choose_ports_by_which_answers_come_back_to_them() {
    let mut world = world([2, 2], 2);
    let listeners: Vec<_> = (0..2).map(|core| Some(world.listen(1, core))).collect();
    assert_eq!(world.exchange(50, &listeners), [50, 50]);
    let news = 2 * 4;
    assert!(world.sum(0, HANDED) <= news && world.sum(1, HANDED) <= news, "{}", world.sum(0, HANDED));
}

#[test]
fn ports_of_clients_remain_hard_to_guess() {
    let mut world = world([2, 1], 1);
    let mut ports: Vec<u16> = Vec::new();
    for index in 0..200 {
        let core = index % 2;
        let id = world.connect(0, core, [10, 0, 0, 2]);
        let local = world.core(0, core).stack.local(id).unwrap();
        let [source, destination] = [local.ip(), IpAddr::from([10, 0, 0, 2])];
        let hash = hash::of_flow(source, local.port(), destination, PORT);
        assert_eq!(Table::even(2).core(hash), core);
        ports.push(local.port());
    }
    let mut sorted = ports.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), ports.len(), "no port is used twice");
    assert!(world.hosts[0][0].place.is_first() && !world.hosts[0][1].place.is_first());
}

/// A listener that one core alone has gets all connections, and what belongs to them comes to it for as long as they live.
#[test]
fn no_connection_is_refused_for_its_hash() {
    for only in 0..3 {
        let mut world = world([2, 3], 2);
        let mut listeners = vec![None; 3];
        listeners[only] = Some(world.listen(1, only));
        let accepted = world.exchange(30, &listeners);
        assert_eq!(accepted[only], 60);
        assert!(world.sum(1, PASSED) >= 20 && world.sum(1, STRAYS) > 0);
    }
}

#[test]
fn flows_that_were_listed_are_forgotten_with_their_connections() {
    let mut world = world([1, 2], 1);
    let listener = world.listen(1, 1);
    let ids: Vec<_> = (0..20).map(|_| world.connect(0, 0, [10, 0, 0, 2])).collect();
    world.pass(Duration::from_millis(100));
    let strays = world.counter(1, 0, STRAYS);
    assert!((1..20).contains(&strays), "{strays}");
    let now = world.now;
    while let Ok((id, _)) = world.core(1, 1).stack.accept(listener) {
        world.core(1, 1).stack.abort(now, id).unwrap();
    }
    world.pass(Duration::from_secs(1));
    ids.into_iter().for_each(|id| drop(world.core(0, 0).stack.close(now, id)));
    world.pass(Duration::from_secs(120));
    assert_eq!(world.counter(1, 0, STRAYS), 0);
}

#[test]
fn a_port_that_no_core_has_is_refused() {
    let mut world = world([1, 3], 1);
    let ids: Vec<_> = (0..9).map(|_| world.connect(0, 0, [10, 0, 0, 2])).collect();
    world.pass(Duration::from_millis(100));
    let to = SocketAddr::from(([10, 0, 0, 2], PORT));
    for id in ids {
        let now = world.now;
        let error = world.core(0, 0).stack.connect(now, id, to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

/// Listeners at different addresses are asked in a ring; none that would take it is left out, and none is asked twice.
#[test]
fn a_connection_finds_the_listener_at_its_address() {
    let mut world = world([1, 4], 1);
    for core in [1, 3] {
        let stack = &mut world.core(1, core).stack;
        let id = stack.socket(Domain::V4, SocketKind::Stream).unwrap();
        // Another address than that which is asked for.
        let other = SocketAddr::from(([127, 0, 0, 1], PORT));
        stack.bind(id, other).unwrap();
        stack.listen(id, 5).unwrap();
    }
    let refused = world.connect(0, 0, [10, 0, 0, 2]);
    world.pass(Duration::from_millis(100));
    let (now, to) = (world.now, SocketAddr::from(([10, 0, 0, 2], PORT)));
    let error = world.core(0, 0).stack.connect(now, refused, to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let listener = world.listen(1, 2);
    let ids: Vec<_> = (0..12).map(|_| world.connect(0, 0, [10, 0, 0, 2])).collect();
    world.pass(Duration::from_millis(100));
    for _ in ids {
        assert!(world.core(1, 2).stack.accept(listener).is_ok());
    }
}

fn datagram_socket(world: &mut World, host: usize, core: usize, port: u16) -> SocketId {
    let stack = &mut world.core(host, core).stack;
    let id = stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
    stack.set_option(START, id, &SocketOption::ReusePort(true)).unwrap();
    stack.bind(id, SocketAddr::from(([0; 4], port))).unwrap();
    id
}

/// Also those in pieces, which one core puts together for another.
#[test]
fn datagrams_reach_a_core_that_has_the_port() {
    for length in [100, 5000] {
        for having in [vec![0], vec![2], vec![1, 2], vec![0, 1, 2]] {
            let mut world = world([2, 3], 2);
            let servers: Vec<_> =
                having.iter().map(|core| (*core, datagram_socket(&mut world, 1, *core, PORT))).collect();
            let to = SocketAddr::from(([10, 0, 0, 2], PORT));
            let bytes = vec![7; length];
            let mut clients = Vec::new();
            for index in 0..24 {
                let (core, now) = (index % 2, world.now);
                let stack = &mut world.core(0, core).stack;
                let id = stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
                let data: Sga = [Buffer::copy_from_slice(&bytes).unwrap()].into_iter().collect();
                stack.send_to(now, id, &data, Some(to)).unwrap();
                clients.push((core, id));
                world.pass(Duration::from_millis(1));
            }
            for (core, server) in &servers {
                let now = world.now;
                let stack = &mut world.core(1, *core).stack;
                let mut count = 0;
                while let Ok(datagram) = stack.recv_from(*server) {
                    assert_eq!(datagram.payload.len(), length);
                    let data: Sga = [datagram.payload].into_iter().collect();
                    stack.send_to(now, *server, &data, Some(datagram.source)).unwrap();
                    count += 1;
                }
                assert!(count > 0, "core {core} of {having:?}");
                world.pass(Duration::from_millis(1));
            }
            for (core, id) in clients {
                let answer = world.core(0, core).stack.recv_from(id);
                assert_eq!(answer.unwrap().payload.len(), length, "{having:?}");
            }
        }
    }
}

#[test]
fn sockets_of_any_port_have_ports_of_their_own() {
    let mut world = world([2, 1], 1);
    let mut ports = Vec::new();
    for index in 0..500 {
        let stack = &mut world.core(0, index % 2).stack;
        let id = stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
        stack.bind(id, SocketAddr::from(([0; 4], 0))).unwrap();
        ports.push(stack.local(id).unwrap().port());
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports, EPHEMERAL.collect::<Vec<_>>());
}

/// A connected socket is told of an error on its own core, whichever that is.
#[test]
fn errors_come_to_the_socket_that_they_are_about() {
    let mut world = world([3, 2], 1);
    for core in 0..3 {
        for _ in 0..6 {
            let now = world.now;
            let to = SocketAddr::from(([10, 0, 0, 2], 9));
            let stack = &mut world.core(0, core).stack;
            let id = stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
            stack.connect(now, id, to).unwrap();
            assert_eq!(world.counter(0, core, STRAYS), 0);
            let stack = &mut world.core(0, core).stack;
            stack.send(now, id, &mut Sga::from(Buffer::from_static(b"?"))).unwrap();
            world.pass(Duration::from_secs(2));
            let error = world.core(0, core).stack.recv_from(id).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        }
    }
}

/// Frames that the first host sends by itself; what the second answers.
fn answers(world: &mut World, frame: &[u8]) -> Vec<Vec<u8>> {
    // Past the cores of the first host, which are to see nothing of it.
    let mut burst = vec![Frame::new(Buffer::copy_from_slice(frame).unwrap())];
    world.hosts[0][0].port.transmit(&mut burst).unwrap();
    let mut answers = Vec::new();
    for _ in 0..20 {
        for core in &mut world.hosts[1] {
            let mut burst = Vec::new();
            core.port.receive(&mut burst).unwrap();
            core.stack.receive(START, &mut burst);
            core.stack.transmit(START, &mut burst);
            core.port.transmit(&mut burst).unwrap();
        }
        let mut burst = Vec::new();
        // Whatever comes to any core, once.
        world.hosts[0][0].port.receive(&mut burst).unwrap();
        for frame in burst {
            let mut bytes = Vec::new();
            frame.copy_to(&mut bytes);
            answers.push(bytes);
        }
    }
    answers
}

fn framed(destination: MacAddress, ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::MINIMUM_HEADER];
    let source = MacAddress([2, 0, 0, 0, 0, 1]);
    ethernet::Header { destination, source, vlan: None, ether_type }.emit(&mut frame);
    frame.extend(packet);
    frame
}

#[test]
fn one_core_answers_for_the_addresses_and_all_learn_who_asks() {
    let mut world = world([1, 3], 1);
    let question = arp::Packet {
        operation: arp::Operation::Request,
        sender_hardware: MacAddress([2, 0, 0, 0, 0, 1]),
        sender_protocol: Ipv4Addr::new(10, 0, 0, 1),
        target_hardware: MacAddress::default(),
        target_protocol: Ipv4Addr::new(10, 0, 0, 2),
    };
    let mut bytes = [0; arp::PACKET];
    question.emit(&mut bytes);
    let answered = answers(&mut world, &framed(MacAddress::BROADCAST, ether_type::ARP, &bytes));
    assert_eq!(answered.len(), 1, "one of three cores answers");
    // Nobody asks for the neighbour any more.
    for core in 0..3 {
        let now = world.now;
        let stack = &mut world.core(1, core).stack;
        let id = stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
        let data = Sga::from(Buffer::from_static(b"!"));
        stack.send_to(now, id, &data, Some(SocketAddr::from(([10, 0, 0, 1], 9)))).unwrap();
        let mut burst = Vec::new();
        stack.transmit(now, &mut burst);
        let kinds: Vec<_> = burst.iter().map(|frame| frame.head[12..14].to_vec()).collect();
        assert_eq!(kinds, [[8, 0]], "core {core}");
    }
}

#[test]
fn a_ping_is_answered_once() {
    let mut world = world([1, 3], 1);
    let mut echo = vec![8, 0, 0, 0, 0, 1, 0, 1, b'p'];
    let sum = crate::wire::checksum::Sum::of(&echo).checksum();
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    assert!(icmpv4::Message::parse(&echo).is_ok());
    let header = ipv4::Header {
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(10, 0, 0, 2),
        protocol: 1,
        payload_len: echo.len() as u16,
        ..ipv4::Header::default()
    };
    let mut packet = vec![0; header.header_len()];
    header.emit(&mut packet);
    packet.extend(&echo);
    let to = MacAddress([2, 0, 0, 0, 0, 2]);
    let answered = answers(&mut world, &framed(to, ether_type::IPV4, &packet));
    let echoes: usize =
        (0..3).map(|core| world.core(1, core).stack.counter(Counter::EchoAnswered) as usize).sum();
    assert_eq!(echoes, 1);
    // It asks for the neighbour first.
    assert!(!answered.is_empty());
}

/// What a core sends to an address of its own host may be for another core, and so may the answers.
#[test]
fn cores_of_one_host_reach_each_other() {
    let mut world = world([2, 1], 1);
    for (client, server) in [(0, 1), (1, 0)] {
        let listener = world.listen(0, server);
        for _ in 0..4 {
            let id = world.connect(0, client, [10, 0, 0, 1]);
            world.pass(Duration::from_millis(10));
            let (accepted, _) = world.core(0, server).stack.accept(listener).unwrap();
            world.send(0, client, id, b"to another core");
            world.pass(Duration::from_millis(10));
            assert_eq!(world.received(0, server, accepted), b"to another core");
            world.send(0, server, accepted, b"and back");
            world.pass(Duration::from_millis(50));
            assert_eq!(world.received(0, client, id), b"and back");
        }
        let now = world.now;
        world.core(0, server).stack.close(now, listener).unwrap();
    }
}

#[test]
fn what_the_first_core_finds_out_all_know() {
    let mut world = world([1, 2], 1);
    let addresses = |world: &mut World, core: usize| -> Vec<IpAddr> {
        world.core(1, core).stack.addresses().iter().map(|address| address.address).collect()
    };
    assert_eq!(addresses(&mut world, 1), addresses(&mut world, 0));
    assert_eq!(addresses(&mut world, 1), [IpAddr::from([10, 0, 0, 2])]);
    let place = world.core(1, 0).place.clone();
    let mut news = Learned { hop_limit: 9, mtu_v4: 1400, mtu_v6: 1400, ..Learned::default() };
    let address = crate::ip::addresses::Address::fixed([10, 0, 0, 77].into(), 24);
    news.addresses.push(address);
    place.publish(news);
    world.run();
    assert_eq!(addresses(&mut world, 1), [IpAddr::from([10, 0, 0, 77])]);
}

/// A core that does not look loses frames, and nothing else: what was handed to it is freed with it.
#[test]
fn a_full_ring_drops_and_nothing_leaks() {
    pool::collect();
    let before = pool::stats().in_use();
    {
        let mut world = world([1, 2], 1);
        let ids: Vec<_> = (0..2).map(|core| datagram_socket(&mut world, 1, core, PORT)).collect();
        let client = datagram_socket(&mut world, 0, 0, 4001);
        // Core 1 takes nothing from here on.
        for port in 0..4000_u16 {
            let now = world.now;
            let stack = &mut world.core(0, 0).stack;
            let data = Sga::from(Buffer::copy_from_slice(&[1; 400]).unwrap());
            let _ = stack.send_to(now, client, &data, Some(SocketAddr::from(([10, 0, 0, 2], PORT))));
            for (host, core) in [(0, 0), (1, 0)] {
                let now = world.now;
                let Core { stack, port, outbound, .. } = world.core(host, core);
                let mut burst = Vec::new();
                port.receive(&mut burst).unwrap();
                stack.receive(now, &mut burst);
                stack.transmit(now, outbound);
                port.transmit(outbound).unwrap();
            }
            // The other way, so that hashes differ.
            if port % 2 == 0 {
                let _ = world.core(1, 0).stack.recv_from(ids[0]);
            }
        }
        let (handed, dropped) = (world.counter(1, 0, HANDED), world.counter(1, 0, DROPPED));
        let owner =
            Table::even(2).core(hash::of_flow([10, 0, 0, 1].into(), 4001, [10, 0, 0, 2].into(), PORT));
        assert_eq!(owner, 1, "the ports are such that the frames are core 1's");
        assert!(dropped > 1000 && handed >= RING as u64, "{handed} {dropped}");
        world.pass(Duration::from_millis(1));
        assert!(world.core(1, 1).stack.recv_from(ids[1]).is_ok());
    }
    pool::collect();
    assert_eq!(pool::stats().in_use(), before);
}

#[test]
fn a_core_without_a_queue_waits_for_room() {
    let mut world = world([1, 2], 1);
    let core = &mut world.hosts[1][1];
    let frame = || Frame::new(Buffer::copy_from_slice(&[0; 64]).unwrap());
    let mut burst: Vec<_> = (0..RING + 5).map(|_| frame()).collect();
    assert_eq!(core.port.transmit(&mut burst).unwrap(), RING);
    assert_eq!((burst.len(), core.port.transmit(&mut burst).unwrap()), (5, 0));
    let mut none = Vec::new();
    world.hosts[1][0].port.receive(&mut none).unwrap();
    assert_eq!(world.hosts[1][1].port.transmit(&mut burst).unwrap(), 5);
}

/// Whoever is about to sleep is woken by what was there before, and by what comes then.
#[test]
fn sleep_does_not_miss_what_comes() {
    let mut world = world([1, 2], 1);
    let is_readable = |core: &Core| {
        let fd = core.port.descriptor().expect("a core without a queue has a bell");
        let mut fd = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, as is said.
        unsafe { libc::poll(&raw mut fd, 1, 0) == 1 }
    };
    let hand = |world: &mut World| {
        let all = framed(MacAddress::BROADCAST, ether_type::ARP, &[0; arp::PACKET]);
        let mut burst = vec![Frame::new(Buffer::copy_from_slice(&all).unwrap())];
        world.hosts[0][0].port.transmit(&mut burst).unwrap();
        let mut burst = Vec::new();
        world.hosts[1][0].port.receive(&mut burst).unwrap();
    };
    let mut burst = Vec::new();
    let mut look = |world: &mut World| world.hosts[1][1].port.receive(&mut burst).unwrap();
    hand(&mut world);
    assert!(!is_readable(&world.hosts[1][1]), "who is awake is not woken");
    assert!(!world.hosts[1][1].port.arm(), "who has something does not sleep");
    assert_eq!(look(&mut world), 1);
    assert!(world.hosts[1][1].port.arm());
    assert!(!is_readable(&world.hosts[1][1]));
    hand(&mut world);
    assert!(is_readable(&world.hosts[1][1]));
    assert_eq!(look(&mut world), 1);
    assert!(!is_readable(&world.hosts[1][1]));
}

#[test]
fn a_core_is_free_when_all_are_done() {
    let mut world = world([1, 2], 1);
    let places: Vec<_> = world.hosts[1].iter().map(|core| core.place.clone()).collect();
    places[0].finish();
    assert!(!places[0].is_free());
    // One that is gone is done.
    world.hosts[1].pop();
    drop(places.into_iter().nth(1));
    assert!(world.hosts[1][0].place.is_free());
}

#[test]
fn a_core_that_cannot_open_the_port_fails_all() {
    let cores = Cores::new(3).unwrap();
    let waiting: Vec<_> = [1, 2]
        .map(|core| {
            let cores = cores.clone();
            std::thread::spawn(move || cores.in_turn(core, |_| Ok(())).unwrap_err().to_string())
        })
        .into();
    let refused = cores.in_turn(0, |_| Err::<(), _>(io::Error::other("no port")));
    cores.fail(0, &refused.unwrap_err());
    for thread in waiting {
        assert_eq!(thread.join().unwrap(), "core 0: no port");
    }
    assert!(Cores::new(0).is_err() && Cores::new(65).is_err());
}

#[test]
fn a_place_is_taken_once() {
    let cores = Cores::new(2).unwrap();
    assert!(cores.arrive(1, None, None).is_ok());
    let error = cores.arrive(1, None, None).err().unwrap();
    assert!(error.to_string().starts_with("core 1 of 2: its place is taken"), "{error}");
    assert!(cores.arrive(2, None, None).is_err());
}
