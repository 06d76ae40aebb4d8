//! The stack: frames in and out of one device, sockets above.
//!
//! ```text
//!   device ──▶ receive ──▶ link (ARP, NDP) ──▶ automatic: addresses, routers, groups
//!                 │  └───▶ icmp ──▶ reports ┐ errors
//!                 ├──────▶ datagrams (UDP) ◀┤
//!                 └──────▶ segments (TCP) ◀─┘
//!                              │ ▲
//!               events ◀───────┤ │ calls: what users of sockets do
//!                              ▼ │
//!   device ◀── transmit ◀── ready list
//! ```
//!
//! The order of calls: [`receive`](Stack::receive) what has come and [`handle_deadlines`](Stack::handle_deadlines);
//! look at [`poll_event`](Stack::poll_event) and use the sockets; [`transmit`](Stack::transmit) until it adds nothing;
//! come back when something comes, or at [`next_deadline`](Stack::next_deadline). None of them blocks, reads a clock or
//! draws randomness. The work for one packet does not depend on how many connections there are.

mod ahead;
mod automatic;
mod calls;
mod config;
mod cores;
mod counters;
mod datagrams;
mod dispatch;
mod emit;
mod end;
mod flows;
mod fragments;
mod icmp;
mod interface;
mod limit;
mod link;
mod listen;
mod options;
mod ports;
mod queue;
mod receive;
mod reports;
mod segments;
mod settle;
mod socket;
mod transmit;

#[cfg(test)]
mod tests;

pub use automatic::{Awaited, DuplicateDetection};
pub use calls::{Readiness, Shutdown};
pub use config::{Limits, StackConfig};
pub use counters::Counter;
pub use options::{OptionName, SocketOption};
pub use socket::SocketId;

use crate::cores::{Place, Protocol};
use crate::device::{Capabilities, Frame};
use crate::ip::addresses::Addresses;
use crate::ip::icmp::{Answers, Rate, Rates};
use crate::ip::reassembly::Reassembly;
use crate::ip::routes::Routes;
use crate::slots::Slots;
use crate::table::Table;
use crate::tcp::{self, Cookies, EphemeralPorts, Events, Key, Shared};
use demikernel_runtime::time::{Deadlines, Instant};
use interface::Interface;
use limit::RateLimit;
use ports::Ports;
use queue::Queue;
use socket::{Socket, Waiting};
use std::io;
use std::rc::Rc;

/// Numbers of deadlines that are not of sockets.
const RESERVED: u32 = 16;

/// The deadline of neighbours.
const NEIGHBORS: u32 = 0;

/// The deadline of packets that are incomplete.
const FRAGMENTS: u32 = 1;

/// The deadline of what configures the interface.
const AUTOMATIC: u32 = 2;

/// A TCP/UDP/IP stack with one interface. See the [module](self).
///
/// ```
/// use demikernel_net::device::{Capabilities, FrameDevice, Medium, Pair};
/// use demikernel_net::stack::{Stack, StackConfig};
/// use demikernel_runtime::buffer::{Buffer, Sga};
/// use demikernel_runtime::time::Instant;
/// use demikernel_runtime::transport::{Domain, SocketKind};
///
/// let capabilities = Capabilities::new(Medium::Ip, 1500);
/// let (mut cable, mut other_end) = Pair::new(capabilities, capabilities, 64);
/// let now = Instant::from_nanos(1);
/// let stack = |key, address: &str| {
///     let config = StackConfig::new(capabilities, [key; 32]);
///     Stack::new(now, config.address(address.parse().unwrap(), 24))
/// };
/// let (mut client, mut server) = (stack(1, "192.0.2.1"), stack(2, "192.0.2.2"));
/// let address = "192.0.2.2:53".parse().unwrap();
/// let service = server.socket(Domain::V4, SocketKind::Datagram)?;
/// server.bind(service, address)?;
///
/// let socket = client.socket(Domain::V4, SocketKind::Datagram)?;
/// client.send_to(now, socket, &Sga::from(Buffer::from("who is it?")), Some(address))?;
/// let mut burst = vec![];
/// client.transmit(now, &mut burst);
/// cable.transmit(&mut burst)?;
///
/// other_end.receive(&mut burst)?;
/// server.receive(now, &mut burst);
/// let datagram = server.recv_from(service)?;
/// assert_eq!(&datagram.payload[..], b"who is it?");
/// assert_eq!(datagram.source.ip().to_string(), "192.0.2.1");
/// # std::io::Result::Ok(())
/// ```
pub struct Stack {
    interface: Interface,
    sockets: Slots<Socket>,
    /// TCP connections, those in TIME-WAIT included.
    flows: Table,
    /// Connected UDP sockets.
    peers: Table,
    tcp_ports: Ports,
    udp_ports: Ports,
    last_datagram: datagrams::Last,
    /// Whom the last plain segment was for; whether it still is one's, its socket says.
    last_connection: u32,
    deadlines: Deadlines,
    reassembly: Reassembly,
    /// What the wheel has for the neighbours.
    neighbors_at: Instant,
    /// Sockets that may have something to send, each at most once.
    ready: Queue,
    /// Sockets of which something is to be told, each at most once.
    events: Queue,
    /// UDP sockets that found no room.
    blocked: Vec<u32>,
    shared: Rc<Shared>,
    cookies: Option<Cookies>,
    key: Key,
    ephemeral: EphemeralPorts,
    segmentation: tcp::Limits,
    limits: Limits,
    /// Connections in TIME-WAIT.
    waiting: Slots<Waiting>,
    /// Those of new sockets.
    stream_options: Rc<options::Options>,
    datagram_options: options::Options,
    /// What is being received comes from ourselves.
    looping: bool,
    resets: RateLimit,
    answers: Answers,
    /// Beside the stacks of other cores, if there are.
    place: Option<Rc<Place>>,
}

impl Stack {
    /// A stack at the time `now`.
    pub fn new(now: Instant, config: StackConfig) -> Stack {
        let word = |index: usize| {
            let part = config.key.chunks_exact(8).nth(index).and_then(|part| part.try_into().ok());
            u64::from_ne_bytes(part.unwrap_or_default())
        };
        let half = |offset: usize| Key::new(std::array::from_fn(|index| config.key[offset + index]));
        let (key, other) = (half(0), half(16));
        let limits = config.limits;
        let ip_key = Key::new(std::array::from_fn(|index| config.key[31 - index]));
        let mut stack = Stack {
            interface: Interface::new(now, &config),
            sockets: Slots::new(limits.sockets),
            flows: Table::new([word(0), word(1), word(2), word(3)]),
            peers: Table::new([word(3), word(2), word(1), word(0)]),
            tcp_ports: Ports::new(Protocol::Tcp, config.place.clone()),
            udp_ports: Ports::new(Protocol::Udp, config.place.clone()),
            last_datagram: datagrams::Last::NONE,
            last_connection: 0,
            deadlines: Deadlines::new(now),
            reassembly: Reassembly::new(limits.fragments, ip_key),
            neighbors_at: Instant::MAX,
            ready: Queue::default(),
            events: Queue::default(),
            blocked: Vec::new(),
            // The limit of challenge ACKs must not be known outside. [rfc5961 7]
            shared: Rc::new(Shared::with_key(config.tcp, half(8))),
            cookies: config.syn_cookies.then(|| Cookies::new(other)),
            key,
            ephemeral: EphemeralPorts::new(other, config.ports),
            segmentation: tcp::Limits { segmentation: config.capabilities.segmentation as u32 },
            limits,
            waiting: Slots::new(limits.time_wait),
            stream_options: Rc::new(config.stream_options),
            datagram_options: config.datagram_options,
            looping: false,
            resets: RateLimit::new(limits.resets, now),
            answers: Answers::new(rates(&limits), ip_key),
            place: config.place,
        };
        stack.interface.begin(now);
        stack.settle_automatic();
        stack
    }

    /// What the device does.
    pub fn capabilities(&self) -> Capabilities {
        self.interface.capabilities
    }

    /// Our addresses.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// # use demikernel_runtime::time::Instant;
    /// let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// let stack = Stack::new(Instant::from_nanos(1), config.address("192.0.2.1".parse().unwrap(), 24));
    /// assert!(stack.addresses().is_local("192.0.2.1".parse().unwrap()));
    /// assert!(stack.addresses().is_broadcast("192.0.2.255".parse().unwrap()));
    /// ```
    pub fn addresses(&self) -> &Addresses {
        &self.interface.addresses
    }

    /// Where packets go.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// # use demikernel_runtime::time::Instant;
    /// # use std::net::IpAddr;
    /// let now = Instant::from_nanos(1);
    /// let (own, router): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.254".parse().unwrap());
    /// let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// let stack = Stack::new(now, config.address(own, 24).gateway(router));
    /// let hop = |address: &str| stack.routes().look_up(now, address.parse().unwrap()).map(|found| found.hop);
    /// assert_eq!(hop("198.51.100.1"), Some(router));
    /// assert_eq!(hop("192.0.2.7"), "192.0.2.7".parse().ok(), "it is on the link");
    /// assert_eq!(hop("2001:db8::1"), None);
    /// ```
    pub fn routes(&self) -> &Routes {
        &self.interface.routes
    }

    /// How often has happened what is counted, by name.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Frame, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// # use demikernel_runtime::{buffer::Buffer, time::Instant};
    /// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// # let now = Instant::from_nanos(1);
    /// let mut stack = Stack::new(now, config);
    /// stack.receive(now, &mut vec![Frame::new(Buffer::from("not a packet"))]);
    /// let happened: Vec<_> = stack.counters().into_iter().filter(|(_, count)| *count > 0).collect();
    /// assert_eq!(happened, [("frames_received", 1), ("malformed_ip", 1)]);
    /// ```
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let own = Counter::ALL.iter().map(|counter| (counter.name(), self.interface.counters.get(*counter)));
        let tcp = tcp::Counter::ALL.iter().map(|counter| (counter.name(), self.shared.counter(*counter)));
        own.chain(tcp).collect()
    }

    /// How often it has happened.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Frame, Medium};
    /// use demikernel_net::stack::{Counter, Stack, StackConfig};
    /// use demikernel_net::wire::ipv4;
    /// # use demikernel_runtime::{buffer::Buffer, time::Instant};
    /// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// # let now = Instant::from_nanos(1);
    ///
    /// let mut stack = Stack::new(now, config.address("192.0.2.1".parse().unwrap(), 24));
    /// let (source, destination) = ("192.0.2.9".parse().unwrap(), "192.0.2.1".parse().unwrap());
    /// let mut packet = vec![0; 20];
    /// ipv4::Header { source, destination, protocol: 200, ..ipv4::Header::default() }.emit(&mut packet);
    /// stack.receive(now, &mut vec![Frame::new(Buffer::from(packet))]);
    /// assert_eq!(stack.counter(Counter::UnknownProtocol), 1);
    /// assert_eq!(stack.transmit(now, &mut vec![]), 1, "whoever has sent it is told");
    /// ```
    pub fn counter(&self, counter: Counter) -> u64 {
        self.interface.counters.get(counter)
    }

    /// How many sockets and connections there are, those in TIME-WAIT included.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// # use demikernel_runtime::{time::Instant, transport::{Domain, SocketKind}};
    /// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// # let now = Instant::from_nanos(1);
    /// let mut stack = Stack::new(now, config);
    /// let socket = stack.socket(Domain::V6, SocketKind::Stream)?;
    /// assert_eq!(stack.sockets(), 1);
    /// stack.close(now, socket)?;
    /// assert_eq!(stack.sockets(), 0);
    /// assert!(stack.local(socket).is_err(), "the name stands for nothing any more");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// How many connections are in TIME-WAIT.
    pub fn time_waits(&self) -> usize {
        self.waiting.len()
    }

    /// When [`handle_deadlines`](Stack::handle_deadlines) is to be called: at once if there is something to
    /// [`transmit`](Stack::transmit) or to [`receive`](Stack::receive) from ourselves.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// # use demikernel_runtime::{time::Instant, transport::{Domain, SocketKind}};
    /// # use std::time::Duration;
    /// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// # let now = Instant::from_nanos(1);
    /// let mut stack = Stack::new(now, config.address("192.0.2.1".parse().unwrap(), 24));
    /// assert_eq!(stack.next_deadline(), None, "nothing happens of itself");
    /// let socket = stack.socket(Domain::V4, SocketKind::Stream)?;
    /// let _in_progress = stack.connect(now, socket, "192.0.2.2:80".parse().unwrap());
    /// assert!(stack.next_deadline().is_some_and(|at| at <= now), "the SYN is to leave");
    /// stack.transmit(now, &mut vec![]);
    /// let deadline = stack.next_deadline().expect("it may get lost");
    /// assert!(deadline > now && deadline <= now + Duration::from_secs(2));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.is_busy() { Some(Instant::from_nanos(0)) } else { self.deadlines.next() }
    }

    /// Whether something waits to be transmitted, or to be received from ourselves.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// # use demikernel_runtime::{buffer::{Buffer, Sga}, time::Instant, transport::{Domain, SocketKind}};
    /// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// # let now = Instant::from_nanos(1);
    /// let mut stack = Stack::new(now, config.address("192.0.2.1".parse().unwrap(), 24));
    /// let socket = stack.socket(Domain::V4, SocketKind::Datagram)?;
    /// stack.send_to(now, socket, &Sga::from(Buffer::from("hello")), Some("192.0.2.2:9".parse().unwrap()))?;
    /// assert!(stack.is_busy());
    /// assert_eq!(stack.transmit(now, &mut vec![]), 1);
    /// assert!(!stack.is_busy());
    /// # std::io::Result::Ok(())
    /// ```
    #[inline]
    pub fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.interface.outbound.is_empty() || !self.interface.loopback.is_empty()
    }

    /// Does what is due.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// # use demikernel_runtime::{time::Instant, transport::{Domain, SocketKind}};
    /// # use std::time::Duration;
    /// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// # let now = Instant::from_nanos(1);
    /// let mut stack = Stack::new(now, config.address("192.0.2.1".parse().unwrap(), 24));
    /// let socket = stack.socket(Domain::V4, SocketKind::Stream)?;
    /// let _in_progress = stack.connect(now, socket, "192.0.2.2:80".parse().unwrap());
    /// let mut burst = vec![];
    /// assert_eq!(stack.transmit(now, &mut burst), 1);
    /// assert_eq!(stack.transmit(now, &mut burst), 0);
    ///
    /// // Nobody has answered for two seconds: the SYN leaves again.
    /// let later = now + Duration::from_secs(2);
    /// stack.handle_deadlines(later);
    /// assert_eq!(stack.transmit(later, &mut burst), 1);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn handle_deadlines(&mut self, now: Instant) {
        while let Some(number) = self.deadlines.expire(now) {
            match number.checked_sub(RESERVED) {
                Some(slot) => self.handle_deadline(now, slot),
                None if number == FRAGMENTS => self.expire_fragments(now),
                None if number == AUTOMATIC => self.run_automatic(now),
                None => {
                    self.neighbors_at = Instant::MAX;
                    self.interface.neighbours.on_time(now);
                    self.interface.ask_neighbours(now);
                }
            }
        }
        self.tell_unreachable(now);
        self.arm_neighbors();
    }

    /// The wheel follows what the neighbours want.
    fn arm_neighbors(&mut self) {
        if let Some(at) = self.interface.neighbours.deadline()
            && at < self.neighbors_at
        {
            self.neighbors_at = at;
            self.deadlines.set(NEIGHBORS, at);
        }
    }

    /// Something has happened to a socket.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// use demikernel_net::tcp::Events;
    /// # use demikernel_runtime::{buffer::{Buffer, Sga}, time::Instant, transport::{Domain, SocketKind}};
    /// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// # let now = Instant::from_nanos(1);
    ///
    /// let mut stack = Stack::new(now, config.address("192.0.2.1".parse().unwrap(), 24));
    /// let address = "192.0.2.1:9".parse().unwrap();
    /// let socket = stack.socket(Domain::V4, SocketKind::Datagram)?;
    /// stack.bind(socket, address)?;
    /// stack.send_to(now, socket, &Sga::from(Buffer::from("to myself")), Some(address))?;
    /// assert!(stack.poll_event().is_none());
    ///
    /// stack.receive(now, &mut vec![]);
    /// let (who, what) = stack.poll_event().expect("it has come");
    /// assert!(who == socket && what.contains(Events::READABLE));
    /// assert!(stack.poll_event().is_none(), "it is told once");
    /// # std::io::Result::Ok(())
    /// ```
    #[inline]
    pub fn poll_event(&mut self) -> Option<(SocketId, Events)> {
        while let Some(slot) = self.events.pop() {
            let (told, events) = match self.sockets.get_mut(slot) {
                Some(Socket::Tcp(tcp)) => {
                    let tcp = &mut **tcp;
                    (&mut tcp.flags.told, std::mem::take(&mut tcp.events))
                }
                Some(Socket::Udp(udp)) => (&mut udp.told, std::mem::take(&mut udp.events)),
                Some(Socket::Listener(listening)) => (&mut listening.told, Events::READABLE),
                _ => continue,
            };
            // Whoever had the slot before is gone, and its present holder has nothing to tell.
            if !std::mem::take(told) {
                continue;
            }
            if let Some(id) = self.sockets.id(slot) {
                return Some((SocketId(id), events));
            }
        }
        None
    }

    /// Takes frames that have come, all of them, and what went from here to here.
    pub fn receive(&mut self, now: Instant, burst: &mut Vec<Frame>) {
        self.interface.counters.add(Counter::Received, burst.len() as u64);
        if burst.len() > 1 && self.are_many() {
            self.look_ahead(burst);
        }
        for frame in burst.drain(..) {
            self.take_frame(now, frame);
        }
        if self.place.is_some() {
            self.take_from_cores(now);
        }
        if !self.interface.loopback.is_empty() {
            self.receive_loopback(now);
        }
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("sockets", &self.sockets.len()).finish_non_exhaustive()
    }
}

/// So many errors a second, of which a few at once.
fn rates(limits: &Limits) -> Rates {
    let rates = Rates::default();
    let burst = rates.errors.burst.min(limits.icmp);
    Rates { errors: Rate { per_second: limits.icmp, burst }, ..rates }
}

/// An error with a number of Linux.
#[cold]
pub(crate) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
