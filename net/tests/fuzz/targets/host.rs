//! A whole host: packets of all kinds and calls of all kinds, with a connection in each state of TCP.

use super::input::Input;
use super::packet::{repair, repair_payload, wrap};
use super::peer::Peer;
use demikernel_net::sim::{Host, HostConfig};
use demikernel_net::stack::{Shutdown, SocketOption};
use demikernel_net::tcp::{self, State};
use demikernel_net::wire::ip::protocol;
use demikernel_net::wire::tcp::{Flags, Options, SackBlock, Segment, SequenceNumber, Timestamps};
use demikernel_net::wire::{icmpv4, icmpv6, ipv4, ipv6};
use demikernel_runtime::buffer::pool;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// So many begin a world, each in another state.
pub(crate) const STARTS: u8 = 12;

/// Calls and packets of one world: more find nothing new.
const STEPS: usize = 400;

const MTU: usize = 1500;

pub(crate) fn run(data: &[u8]) {
    let before = pool::stats().in_use();
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    world.enter(input.u8() % STARTS);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.look();
    }
    world.finish();
    assert_eq!(pool::stats().in_use(), before, "memory is given back");
}

/// A host and its peer.
pub(crate) struct World {
    host: Host,
    peer: Peer,
    listener: usize,
    datagrams: usize,
    /// Of the connection that the peer is at the other end of, while the user has one.
    socket: Option<usize>,
    /// Others that came to be.
    others: Vec<usize>,
}

impl World {
    pub(crate) fn new(input: &mut Input<'_>) -> World {
        let (flags, more) = (input.u8(), input.u8());
        let syn = Options {
            maximum_segment_size: (flags & 1 != 0).then_some(u16::from(more) * 12),
            window_scale: (flags & 2 != 0).then_some(more % 16),
            sack_permitted: flags & 4 != 0,
            timestamps: (flags & 8 != 0).then(Timestamps::default),
            ..Options::default()
        };
        let peer = Peer::new(flags & 16 != 0, syn);
        let congestion = ["cubic", "reno", "bbr", "dctcp"][usize::from(more >> 6)];
        let tcp = tcp::Config {
            congestion: congestion.parse().expect("a known name"),
            ecn: [tcp::EcnMode::Off, tcp::EcnMode::Accept, tcp::EcnMode::Request, tcp::EcnMode::Exact]
                [usize::from(flags >> 6)],
            pacing: flags & 32 != 0,
            ..tcp::Config::default()
        };
        let addresses = [[10, 0, 0, 1].into(), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])];
        let mut host = Host::new(HostConfig::new(addresses).tcp(tcp).mtu(MTU).seed(more.into()));
        let domain = if peer.here.is_ipv4() { Domain::V4 } else { Domain::V6 };
        let listener = host.socket(domain, SocketKind::Stream).unwrap();
        host.bind(listener, SocketAddr::new(peer.here, 80)).unwrap();
        host.listen(listener, 4).unwrap();
        let datagrams = host.socket(domain, SocketKind::Datagram).unwrap();
        host.bind(datagrams, SocketAddr::new(peer.here, 53)).unwrap();
        World { host, peer, listener, datagrams, socket: None, others: Vec::new() }
    }

    /// Brings a connection into a state: one of [`STARTS`].
    pub(crate) fn enter(&mut self, start: u8) {
        match start {
            // Nothing but a listener.
            0 => {}
            // SYN-SENT, and from there SYN-RECEIVED.
            1 => self.connect(),
            2 => {
                self.connect();
                self.say(Flags::SYN, b"");
            }
            // SYN-RECEIVED of a listener.
            3 => self.say(Flags::SYN, b""),
            // ESTABLISHED: here and from here, with data under way.
            4 => self.establish(),
            5 => {
                self.connect();
                self.say(Flags::SYN | Flags::ACK, b"");
                self.send(5000);
            }
            // FIN-WAIT-1, FIN-WAIT-2, CLOSING, TIME-WAIT.
            6..=9 => {
                self.establish();
                let fin = self.peer.sent;
                self.shut_down();
                match start {
                    6 => {}
                    7 => self.say(Flags::ACK, b""),
                    8 => {
                        let crossing =
                            Segment { acknowledgment: fin, ..self.peer.segment(Flags::FIN | Flags::ACK) };
                        self.tell(&crossing, b"");
                    }
                    _ => self.say(Flags::FIN | Flags::ACK, b""),
                }
            }
            // CLOSE-WAIT, LAST-ACK.
            _ => {
                self.establish();
                self.say(Flags::FIN | Flags::ACK, b"");
                if start != 10 {
                    self.shut_down();
                }
            }
        }
        self.look();
    }

    /// The state of the connection, if the user has one. Of one in TIME-WAIT sockets say no more than that it is closed.
    pub(crate) fn state(&mut self) -> Option<State> {
        if self.host.stack().time_waits() > 0 {
            return Some(State::TimeWait);
        }
        self.socket.and_then(|socket| self.host.tcp_info(socket).ok()).map(|info| info.state)
    }

    fn connect(&mut self) {
        let domain = if self.peer.here.is_ipv4() { Domain::V4 } else { Domain::V6 };
        let Ok(socket) = self.host.socket(domain, SocketKind::Stream) else { return };
        self.others.extend(self.socket.replace(socket));
        let to = SocketAddr::new(self.peer.there, 7);
        let _ = self.host.connect(socket, to);
        let local = self.host.local(socket).map_or(0, |local| local.port());
        self.peer.start_over(local, 7);
        self.look();
    }

    fn establish(&mut self) {
        self.say(Flags::SYN, b"");
        self.say(Flags::ACK, b"");
        self.accept();
    }

    fn accept(&mut self) {
        while let Ok((socket, peer)) = self.host.accept(self.listener) {
            if peer.port() == self.peer.port && self.socket.is_none() {
                self.socket = Some(socket);
            } else {
                self.others.push(socket);
            }
        }
    }

    fn shut_down(&mut self) {
        if let Some(socket) = self.socket {
            let _ = self.host.shutdown(socket, Shutdown::Write);
        }
        self.look();
    }

    /// The next segment in order.
    fn say(&mut self, flags: Flags, payload: &[u8]) {
        let segment = self.peer.segment(flags);
        self.tell(&segment, payload);
    }

    fn tell(&mut self, segment: &Segment, payload: &[u8]) {
        self.host.inject(&self.peer.packet(segment, None, payload));
        self.look();
    }

    /// What the host sends is as it should be, and no more than can be looked at.
    fn look(&mut self) {
        let mut count = 0;
        while let Some(packet) = self.host.extract() {
            self.peer.see(packet, MTU);
            count += 1;
        }
        assert!(count < 10_000, "{count} packets for one");
    }

    /// Something happens.
    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 16 {
            0 | 1 => self.any_segment(input),
            2 => {
                let flags = Flags::from_bits(input.u8() & 0xc9) | Flags::ACK;
                self.say(flags, input.counted());
            }
            3 => {
                let segment = self.peer.segment(Flags::from_bits(input.u8()));
                let packet = self.peer.packet(&segment, Some(input.bytes(40)), input.counted());
                self.host.inject(&packet);
            }
            4 => self.wait(input.u8()),
            5 => self.send(input.u16().into()),
            6 => self.receive(input.u16().into()),
            7 => self.end(input.u8()),
            8 => {
                let (number, payload) = (input.u8(), &mut input.counted().to_vec()[..]);
                repair_payload((self.peer.there, self.peer.here), number, payload);
                self.host.inject(&wrap(self.peer.there, self.peer.here, number, payload));
            }
            9 => {
                let mut packet = input.counted().to_vec();
                if input.bool() {
                    repair(&mut packet);
                }
                self.host.inject(&packet);
            }
            10 => self.icmp_about_the_last(input),
            11 => self.fragment(input),
            12 => self.datagram(input),
            13 => self.option(input),
            14 => self.another(input),
            _ => self.acknowledge_selectively(input),
        }
        self.accept();
    }

    /// Near to what is expected, mostly.
    fn any_segment(&mut self, input: &mut Input<'_>) {
        let mut segment = self.peer.segment(Flags::from_bits(input.u8()));
        let near = |number: SequenceNumber, by: u16| number + i32::from(by as i16) as u32;
        segment.sequence = near(segment.sequence, input.u16());
        segment.acknowledgment = near(self.peer.sent, input.u16());
        segment.window = input.u16();
        segment.urgent = u16::from(input.u8());
        if let Some(timestamps) = &mut segment.options.timestamps {
            timestamps.value = timestamps.value.wrapping_add_signed((input.u8() as i8).into());
        }
        self.tell(&segment, input.counted());
    }

    fn acknowledge_selectively(&mut self, input: &mut Input<'_>) {
        let mut segment = self.peer.segment(Flags::ACK);
        segment.acknowledgment = self.peer.sent - u32::from(input.u16());
        for _ in 0..input.u8() % 4 {
            let left = segment.acknowledgment + u32::from(input.u16());
            segment.options.sack.push(SackBlock { left, right: left + u32::from(input.u16()) });
        }
        self.tell(&segment, b"");
    }

    /// From a microsecond to an hour.
    fn wait(&mut self, power: u8) {
        let time = Duration::from_micros(1 << (power % 32));
        self.host.advance_to(self.host.now().saturating_add(time));
    }

    fn send(&mut self, count: usize) {
        if let Some(socket) = self.socket {
            let _ = self.host.send(socket, &vec![7; count]);
        }
    }

    fn receive(&mut self, most: usize) {
        for socket in self.socket.iter().chain(&self.others) {
            let _ = self.host.recv(*socket, most);
        }
    }

    fn end(&mut self, how: u8) {
        let Some(socket) = self.socket else { return };
        let _ = match how % 5 {
            0 => self.host.shutdown(socket, Shutdown::Write),
            1 => self.host.shutdown(socket, Shutdown::Read),
            2 => self.host.shutdown(socket, Shutdown::Both),
            3 => self.host.close(socket),
            _ => self.host.abort(socket),
        };
        if how % 5 >= 3 {
            self.socket = None;
        }
    }

    /// An error about what the host has sent last.
    fn icmp_about_the_last(&mut self, input: &mut Input<'_>) {
        let (kind, code, rest) = (input.u8(), input.u8(), input.array::<4>());
        let Peer { here, there, ref last, .. } = self.peer;
        let number = if here.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
        let mut message = [&[0; 8], &last[..last.len().min(600)]].concat();
        if here.is_ipv4() {
            icmpv4::Message::Other { kind, code, rest }.emit(&mut message);
        } else {
            let pseudo_header = Default::default();
            icmpv6::Message::Other { kind, code, rest }.emit(&mut message, pseudo_header);
        }
        repair_payload((there, here), number, &mut message);
        self.host.inject(&wrap(there, here, number, &message));
    }

    /// A part of a datagram, or of anything.
    fn fragment(&mut self, input: &mut Input<'_>) {
        let (place, more, number) = (u16::from(input.u8()) * 8, input.bool(), input.u8());
        let payload = input.counted();
        let packet = match (self.peer.there, self.peer.here) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = ipv4::Header {
                    source,
                    destination,
                    protocol: if number & 1 == 0 { protocol::UDP } else { number },
                    identification: u16::from(number >> 6),
                    more_fragments: more,
                    fragment_offset: place,
                    payload_len: payload.len() as u16,
                    ..ipv4::Header::default()
                };
                let mut bytes = vec![0; header.header_len()];
                header.emit(&mut bytes);
                [&bytes, payload].concat()
            }
            (source, destination) => {
                let next_header = if number & 1 == 0 { protocol::UDP } else { number };
                let identification = u32::from(number >> 6);
                let fragment = ipv6::Fragment { next_header, offset: place, more, identification };
                let mut bytes = vec![0; ipv6::Fragment::HEADER];
                fragment.emit(&mut bytes);
                bytes.extend_from_slice(payload);
                wrap(source, destination, ipv6::next_header::FRAGMENT, &bytes)
            }
        };
        self.host.inject(&packet);
    }

    fn datagram(&mut self, input: &mut Input<'_>) {
        let to = SocketAddr::new(self.peer.there, input.u8().into());
        if input.bool() {
            let _ = self.host.sendto(self.datagrams, &vec![1; input.u16().into()], to);
        } else {
            let _ = self.host.recvfrom(self.datagrams, input.u8().into());
        }
    }

    fn option(&mut self, input: &mut Input<'_>) {
        let (kind, value) = (input.u8(), input.u32());
        let on = value & 1 != 0;
        let option = match kind % 12 {
            0 => SocketOption::NoDelay(on),
            1 => SocketOption::Cork(on),
            2 => SocketOption::QuickAck(on),
            3 => SocketOption::KeepAlive(on),
            4 => SocketOption::KeepIdle(value),
            5 => SocketOption::KeepInterval(value),
            // Not longer than the end of a world is waited for.
            6 => SocketOption::UserTimeout(value >> 12),
            7 => SocketOption::Linger(on.then(|| Duration::from_secs(value.into()))),
            8 => SocketOption::SendBuffer(value),
            9 => SocketOption::ReceiveBuffer(value),
            10 => SocketOption::MaximumSegment(value as u16),
            _ => SocketOption::Congestion(["cubic", "reno", "bbr", "dctcp"][value as usize % 4].to_owned()),
        };
        if let Some(socket) = self.socket {
            let _ = self.host.set_option(socket, &option);
        }
    }

    /// Another connection, either way.
    fn another(&mut self, input: &mut Input<'_>) {
        if input.bool() {
            return self.connect();
        }
        self.others.extend(self.socket.take());
        self.peer.start_over(80, 5000 + u16::from(input.u8() % 8));
        self.say(Flags::SYN, b"");
    }

    /// When all are closed and nobody answers, nothing stays.
    fn finish(mut self) {
        let sockets = self.others.drain(..).chain(self.socket.take()).chain([self.listener, self.datagrams]);
        for socket in sockets {
            self.host.close(socket).unwrap();
        }
        self.look();
        self.host.advance_to(self.host.now().saturating_add(Duration::from_secs(20_000)));
        self.look();
        assert_eq!(self.host.stack().sockets(), 0, "connections end");
        assert_eq!(self.host.next_deadline(), None, "nothing is due");
    }
}
