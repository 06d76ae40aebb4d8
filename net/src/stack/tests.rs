//! Two stacks on an Ethernet: what frames look like, and how stations find each other.

use super::socket::TcpSocket;
use super::*;
use crate::device::{BURST, FrameDevice, MacAddress, Medium, Pair};
use crate::ip::neighbours::SOLICITATIONS;
use crate::wire::ethernet::{self, ether_type};
use crate::wire::{arp, ipv4};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Duration;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::{IpAddr, SocketAddr};

const START: Instant = Instant::from_nanos(1_000_000_000);

struct Bench {
    ends: [(Stack, Pair); 2],
    now: Instant,
    /// All frames that went over the cable, from whom.
    seen: Vec<(usize, Vec<u8>)>,
}

fn capabilities(number: u8, change: impl Fn(&mut Capabilities)) -> Capabilities {
    let mut capabilities = Capabilities::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, number])), 1500);
    change(&mut capabilities);
    capabilities
}

impl Bench {
    fn new(change: impl Fn(&mut Capabilities)) -> Bench {
        let (one, two) = Pair::new(capabilities(1, &change), capabilities(2, &change), 1000);
        let stack = |device: &Pair, number: u8| {
            let config = StackConfig::new(device.capabilities(), [number; 32])
                .address(IpAddr::from([192, 0, 2, number]), 24)
                .address(format!("fe80::{number}").parse().unwrap(), 64);
            Stack::new(START, config)
        };
        let stacks = (stack(&one, 1), stack(&two, 2));
        Bench { ends: [(stacks.0, one), (stacks.1, two)], now: START, seen: Vec::new() }
    }

    /// Both do what there is to do now.
    fn run(&mut self) {
        loop {
            let mut count = 0;
            for (number, (stack, device)) in self.ends.iter_mut().enumerate() {
                let mut burst = Vec::new();
                count += device.receive(&mut burst).unwrap();
                stack.receive(self.now, &mut burst);
                stack.handle_deadlines(self.now);
                while stack.transmit(self.now, &mut burst) > 0 {
                    count += burst.len();
                    for frame in &burst {
                        let mut bytes = Vec::new();
                        frame.copy_to(&mut bytes);
                        self.seen.push((number, bytes));
                    }
                    device.transmit(&mut burst).unwrap();
                }
            }
            if count == 0 {
                return;
            }
        }
    }

    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.run();
            let next = self.ends.iter().filter_map(|(stack, _)| stack.next_deadline()).min();
            match next.filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        self.now = end;
    }

    fn stack(&mut self, number: usize) -> &mut Stack {
        &mut self.ends[number].0
    }

    fn connect(&mut self) -> (SocketId, SocketId) {
        let now = self.now;
        let to: SocketAddr = "192.0.2.2:80".parse().unwrap();
        let listener = self.stack(1).socket(Domain::V4, SocketKind::Stream).unwrap();
        self.stack(1).bind(listener, to).unwrap();
        self.stack(1).listen(listener, 8).unwrap();
        let client = self.stack(0).socket(Domain::V4, SocketKind::Stream).unwrap();
        let _ = self.stack(0).connect(now, client, to);
        self.run();
        (client, self.stack(1).accept(listener).unwrap().0)
    }
}

fn ether_type_of(frame: &[u8]) -> u16 {
    ethernet::Header::parse(frame).unwrap().0.ether_type
}

#[test]
fn a_station_is_asked_for_once_and_then_known() {
    let mut bench = Bench::new(|_| {});
    bench.connect();
    let types: Vec<_> = bench.seen.iter().map(|(from, frame)| (*from, ether_type_of(frame))).collect();
    let (ip, arp) = (ether_type::IPV4, ether_type::ARP);
    assert_eq!(types, [(0, arp), (1, arp), (0, ip), (1, ip), (0, ip)], "question, answer, three segments");
    let question = arp::Packet::parse(&bench.seen[0].1[14..]).unwrap();
    assert_eq!(question.target_protocol.octets(), [192, 0, 2, 2]);
    assert_eq!(bench.seen[2].1[..6], [2, 0, 0, 0, 0, 2]);
}

#[test]
fn a_neighbour_of_ipv6_is_asked_for_by_ndp() {
    let mut bench = Bench::new(|_| {});
    let now = bench.now;
    let server = bench.stack(1).socket(Domain::V6, SocketKind::Datagram).unwrap();
    bench.stack(1).bind(server, "[fe80::2]:53".parse().unwrap()).unwrap();
    let client = bench.stack(0).socket(Domain::V6, SocketKind::Datagram).unwrap();
    let to = Some("[fe80::2]:53".parse().unwrap());
    bench.stack(0).send_to(now, client, &Sga::from(Buffer::from_static(b"hello")), to).unwrap();
    bench.run();
    assert_eq!(bench.seen[0].1[..6], [0x33, 0x33, 0xff, 0, 0, 2], "the group of those with these 24 bits");
    assert_eq!(bench.stack(1).recv_from(server).unwrap().payload, b"hello");
    assert_eq!(bench.seen.len(), 3);
}

/// Whom the last datagram was for does not matter once sockets or addresses have changed.
#[test]
fn datagrams_of_a_flow_go_to_whoever_it_is_now() {
    let mut bench = Bench::new(|_| {});
    let now = bench.now;
    let datagrams = |bench: &mut Bench, end: usize, address: &str, reuse: bool| {
        let stack = bench.stack(end);
        let socket = stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
        stack.set_option(now, socket, &SocketOption::ReuseAddress(reuse)).unwrap();
        stack.bind(socket, address.parse().unwrap()).unwrap();
        socket
    };
    let client = datagrams(&mut bench, 0, "192.0.2.1:1000", false);
    let any = datagrams(&mut bench, 1, "0.0.0.0:53", true);
    let ask = |bench: &mut Bench, others: &[SocketId]| {
        let to = Some("192.0.2.2:53".parse().unwrap());
        bench.stack(0).send_to(now, client, &Sga::from(Buffer::from_static(b"hello")), to).unwrap();
        bench.run();
        let got: Vec<_> = others.iter().map(|socket| bench.stack(1).recv_from(*socket).is_ok()).collect();
        got
    };
    ask(&mut bench, &[any]);
    assert_eq!(ask(&mut bench, &[any]), [true]);
    let named = datagrams(&mut bench, 1, "192.0.2.2:53", true);
    assert_eq!(ask(&mut bench, &[any, named]), [false, true], "bound by name");
    bench.stack(1).close(now, named).unwrap();
    assert_eq!(ask(&mut bench, &[any]), [true]);
    let peer = datagrams(&mut bench, 1, "0.0.0.0:53", true);
    bench.stack(1).connect(now, peer, "192.0.2.1:1000".parse().unwrap()).unwrap();
    assert_eq!(ask(&mut bench, &[any, peer]), [false, true], "connected");
    bench.stack(1).close(now, any).unwrap();
    assert_eq!(ask(&mut bench, &[peer]), [true]);
    bench.stack(1).close(now, peer).unwrap();
    let unreachable = bench.stack(1).counter(Counter::NoPort);
    ask(&mut bench, &[]);
    assert_eq!(bench.stack(1).counter(Counter::NoPort), unreachable + 1, "nobody");
}

#[test]
fn a_station_that_does_not_answer_is_unreachable() {
    let mut bench = Bench::new(|_| {});
    let now = bench.now;
    let client = bench.stack(0).socket(Domain::V4, SocketKind::Stream).unwrap();
    let _ = bench.stack(0).connect(now, client, "192.0.2.77:80".parse().unwrap());
    bench.advance(Duration::from_secs(4));
    assert_eq!(bench.seen.len(), usize::from(SOLICITATIONS));
    let error = bench.stack(0).take_error(client).unwrap().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH));
}

#[test]
fn frames_with_tags_and_for_others() {
    let mut bench = Bench::new(|_| {});
    bench.connect();
    let (_, question) = bench.seen[0].clone();
    let mut tagged = question.clone();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x07]);
    let now = bench.now;
    let mut burst = vec![Frame::new(Buffer::from(tagged))];
    bench.stack(1).receive(now, &mut burst);
    assert_eq!(bench.stack(1).transmit(now, &mut burst), 1, "the tag is skipped");
    let mut other = bench.seen[2].1.clone();
    other[5] = 9;
    bench.stack(1).receive(now, &mut vec![Frame::new(Buffer::from(other))]);
    assert_eq!(bench.stack(1).counter(Counter::OtherStation), 1);
    bench.stack(1).receive(now, &mut vec![Frame::new(Buffer::from(vec![0; 13]))]);
    assert_eq!(bench.stack(1).counter(Counter::MalformedEthernet), 1);
}

#[test]
fn long_payload_is_not_copied_on_its_way() {
    let mut bench = Bench::new(|capabilities| capabilities.scatter = true);
    let (client, server) = bench.connect();
    let data = Buffer::from(vec![7; 1000]);
    let now = bench.now;
    bench.stack(0).send(now, client, &mut Sga::from(data.clone())).unwrap();
    bench.run();
    let received = bench.stack(1).recv(now, server, 5000).unwrap();
    assert_eq!((received.as_ptr(), received.len()), (data.as_ptr(), 1000));
}

#[test]
fn checksums_are_left_to_the_device_that_fills_them_in() {
    let mut bench = Bench::new(|capabilities| {
        (capabilities.transmit_ip_checksum, capabilities.transmit_l4_checksum) = (true, true);
    });
    let (client, _) = bench.connect();
    let now = bench.now;
    bench.stack(0).send(now, client, &mut Sga::from(Buffer::from_static(b"hello"))).unwrap();
    let mut burst = Vec::new();
    bench.stack(0).transmit(now, &mut burst);
    let frame = &burst[0];
    assert_eq!((frame.checksum.ip, frame.checksum.l4), (Some(14), Some((34, 16))));
    // What the device sums up from there on comes out right.
    let mut bytes = frame.head.to_vec();
    let (header, payload) = ipv4::Header::parse(&bytes[14..]).unwrap();
    let sum = crate::wire::checksum::Sum::of(&bytes[34..]).checksum();
    bytes[50..52].copy_from_slice(&sum.to_be_bytes());
    let pseudo_header = crate::wire::checksum::Sum::pseudo_header_v4(
        header.source,
        header.destination,
        6,
        payload.len() as u16,
    );
    assert!(pseudo_header.then(crate::wire::checksum::Sum::of(&bytes[34..])).is_valid());
}

#[test]
fn a_device_that_cuts_segments_gets_large_ones() {
    let mut bench = Bench::new(|capabilities| {
        (capabilities.segmentation, capabilities.scatter) = (60_000, true);
    });
    let (client, _) = bench.connect();
    let now = bench.now;
    bench.stack(0).send(now, client, &mut Sga::from(Buffer::from(vec![7; 10_000]))).unwrap();
    let mut burst = Vec::new();
    bench.stack(0).transmit(now, &mut burst);
    let cut = burst[0].segmentation.unwrap();
    assert_eq!((cut.segment, cut.headers), (1448, 14 + 20 + 32));
    assert!(burst[0].rest.len() > 1448 && burst[0].rest.len() % 1448 == 0, "{}", burst[0].rest.len());
}

#[test]
fn sockets_take_turns() {
    let mut bench = Bench::new(|capabilities| capabilities.scatter = true);
    let now = bench.now;
    let (first, _) = bench.connect();
    let to: SocketAddr = "192.0.2.2:80".parse().unwrap();
    let second = bench.stack(0).socket(Domain::V4, SocketKind::Stream).unwrap();
    let _ = bench.stack(0).connect(now, second, to);
    bench.run();
    for socket in [first, second] {
        bench.stack(0).send(now, socket, &mut Sga::from(Buffer::from(vec![7; 100_000]))).unwrap();
    }
    let ports = [first, second].map(|socket| bench.stack(0).local(socket).unwrap().port());
    let mut burst = Vec::new();
    bench.stack(0).transmit(now, &mut burst);
    assert!(burst.len() <= BURST);
    let of = |port: u16| burst.iter().filter(|frame| frame.head[34..36] == port.to_be_bytes()).count();
    assert!(of(ports[0]) > 0 && of(ports[0]).abs_diff(of(ports[1])) <= 8);
}

#[test]
fn events_are_told_once_and_not_to_who_comes_later() {
    let mut bench = Bench::new(|_| {});
    let (client, server) = bench.connect();
    let now = bench.now;
    let events: Vec<_> = std::iter::from_fn(|| bench.stack(0).poll_event()).collect();
    assert_eq!(events.len(), 1);
    assert!(events[0].0 == client && events[0].1.contains(Events::CONNECTED));
    bench.stack(1).send(now, server, &mut Sga::from(Buffer::from_static(b"hello"))).unwrap();
    bench.run();
    bench.stack(0).abort(now, client).unwrap();
    bench.run();
    let next = bench.stack(0).socket(Domain::V4, SocketKind::Stream).unwrap();
    assert_eq!(next.index(), client.index());
    assert_eq!(bench.stack(0).poll_event(), None);
    assert!(bench.stack(0).readiness(client).is_err(), "the number is another's now");
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<TcpSocket>() <= 448, "{}", size_of::<TcpSocket>());
    assert!(size_of::<socket::Waiting>() <= 128);
    assert!(size_of::<Socket>() <= 16);
}
