//! What is below the transports: one link, our addresses on it, the way to others, and what waits to leave.

use super::automatic::Automatic;
use super::config::StackConfig;
use super::counters::{Counter, Counters};
use crate::device::{Capabilities, ChecksumOffload, Frame, MacAddress, Medium, Received};
use crate::ip::Key;
use crate::ip::addresses::{Addresses, Kind};
use crate::ip::fragmentation::Identifications;
use crate::ip::neighbours::{self, Cookie, Neighbours};
use crate::ip::pmtu::PathMtus;
use crate::ip::routes::{Route, Routes};
use crate::table::Flow;
use crate::wire::ethernet;
use demikernel_runtime::time::Instant;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Packets whose next hop does not answer that wait for their senders to be told.
pub(super) const UNREACHABLE: usize = 64;

/// Octets of a link header; of none where the medium has none.
pub(crate) type LinkHeader = [u8; ethernet::MINIMUM_HEADER];

pub(super) const BLANK: LinkHeader = [0; ethernet::MINIMUM_HEADER];

/// Where packets of a flow go, as it was looked up last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    pub(super) generation: u32,
    pub(super) to: To,
}

/// Pairs of hosts that are remembered.
const RECENT: usize = 64;

/// What was found out of pairs of hosts, each in its place, so that a connection that begins need not ask.
pub(super) struct Recent([Hosts; RECENT]);

#[derive(Clone, Copy)]
pub(super) struct Hosts {
    between: Flow,
    /// The way as it was looked up last.
    pub(super) path: Path,
    /// What is added to the timestamps of their connections.
    pub(super) offset: Option<u32>,
}

impl Recent {
    fn new() -> Box<Recent> {
        let between = Flow::of_v4(0, 0, 0);
        Box::new(Recent([Hosts { between, path: Path::UNKNOWN, offset: None }; RECENT]))
    }

    /// What is known of the hosts of a flow: if nothing is, their predecessors are forgotten.
    pub(super) fn of(&mut self, flow: &Flow) -> &mut Hosts {
        let hosts = &mut self.0[flow.place() % RECENT];
        let between = flow.hosts();
        if hosts.between != between {
            *hosts = Hosts { between, path: Path::UNKNOWN, offset: None };
        }
        hosts
    }
}

impl Path {
    /// Not looked up yet.
    pub(crate) const UNKNOWN: Path = Path { generation: 0, to: To::Unknown };
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum To {
    /// It is to be looked up.
    Unknown,
    /// Back to ourselves.
    Loopback,
    /// Through a medium without stations.
    Line,
    /// To this neighbour.
    Neighbor(Cookie),
}

/// What a frame begins with, and where it goes.
pub(crate) enum Way {
    /// Out, with this header.
    Out(LinkHeader),
    /// Back to ourselves.
    Back,
    /// It is to be found out: the header is left blank.
    Ask,
}

/// A packet that waits for its next hop to be known.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) frame: Frame,
}

/// One link.
pub(crate) struct Interface {
    pub(crate) capabilities: Capabilities,
    pub(crate) addresses: Addresses,
    pub(crate) routes: Routes,
    pub(crate) neighbours: Neighbours<Held>,
    /// Packets whose next hop does not answer.
    pub(crate) unreachable: VecDeque<Held>,
    pub(crate) outbound: Vec<Frame>,
    pub(crate) loopback: VecDeque<Frame>,
    pub(crate) counters: Counters,
    outbound_most: usize,
    loopback_most: usize,
    pub(super) identification: u16,
    pub(super) identifications: Identifications,
    /// Of paths to which datagrams go; connections know their own.
    pub(crate) path_mtus: PathMtus,
    /// What packets may be, as servers and routers say.
    pub(super) mtu_v4: u16,
    pub(super) mtu_v6: u16,
    /// Of packets of IPv6, as routers say, unless a socket says otherwise.
    pub(super) hop_limit: u8,
    pub(super) automatic: Automatic,
    /// It answers for its addresses; of several cores only one does.
    pub(super) answers: bool,
    pub(super) generation: u32,
    pub(super) recent: Box<Recent>,
}

impl Interface {
    pub(crate) fn new(now: Instant, config: &StackConfig) -> Interface {
        let mut addresses = Addresses::new();
        let mut routes = Routes::new();
        let own = match config.capabilities.medium {
            Medium::Ethernet(own) => own,
            Medium::Ip => MacAddress::default(),
        };
        let key = Key::new(*config.key.first_chunk().unwrap_or(&[0; 16]));
        for address in &config.addresses {
            let _ = addresses.add(*address);
            let _ = routes.add(Route::fixed(address.prefix(), None));
        }
        for route in &config.routes {
            let _ = routes.add(*route);
        }
        Interface {
            capabilities: config.capabilities,
            addresses,
            routes,
            neighbours: Neighbours::new(own, config.limits.neighbours, neighbours::Times::default(), key),
            unreachable: VecDeque::new(),
            outbound: Vec::new(),
            loopback: VecDeque::new(),
            counters: Counters::default(),
            outbound_most: config.limits.outbound,
            loopback_most: config.limits.loopback,
            identification: config.key[0].into(),
            identifications: Identifications::new(key),
            path_mtus: PathMtus::new(key),
            mtu_v4: u16::MAX,
            mtu_v6: u16::MAX,
            hop_limit: HOP_LIMIT,
            automatic: Automatic::new(now, config),
            answers: config.place.as_ref().is_none_or(|place| place.is_first()),
            generation: 1,
            recent: Recent::new(),
        }
    }

    /// Every path is to be looked up again.
    pub(super) fn renew_generation(&mut self) {
        // 0 is that of paths that nobody has looked up.
        self.generation = self.generation.wrapping_add(1).max(1);
    }

    /// Octets of a link header.
    #[inline]
    pub(crate) fn link_header(&self) -> usize {
        if let Medium::Ethernet(_) = self.capabilities.medium { ethernet::MINIMUM_HEADER } else { 0 }
    }

    /// Whether a path was found out since anything has changed.
    #[inline]
    pub(super) fn is_current(&self, path: &Path) -> bool {
        path.generation == self.generation
    }

    /// The way to the destination of `path`, if it is known.
    #[inline]
    pub(crate) fn way(&mut self, path: &Path) -> Way {
        if path.generation != self.generation {
            return Way::Ask;
        }
        match path.to {
            To::Line => Way::Out(BLANK),
            To::Loopback => Way::Back,
            To::Neighbor(cookie) => {
                self.neighbours.header(cookie).map_or(Way::Ask, |header| Way::Out(*header))
            }
            To::Unknown => Way::Ask,
        }
    }

    /// The header of a frame that goes out on this path, if it is known that and how it does.
    #[inline]
    pub(crate) fn out(&mut self, path: &Path) -> Option<&LinkHeader> {
        if path.generation != self.generation {
            return None;
        }
        match path.to {
            To::Line => Some(&BLANK),
            To::Neighbor(cookie) => self.neighbours.header(cookie),
            To::Loopback | To::Unknown => None,
        }
    }

    /// The next hop of a path is there.
    pub(super) fn confirm(&mut self, now: Instant, path: &Path) {
        if let To::Neighbor(cookie) = path.to {
            self.neighbours.confirm(now, cookie);
        }
    }

    /// Whether there is a way to `destination` at all.
    pub(crate) fn has_route(&self, now: Instant, destination: IpAddr) -> bool {
        self.addresses.kind(destination) != Kind::Other || self.routes.look_up(now, destination).is_some()
    }

    /// Waits for the device.
    #[inline(always)]
    pub(crate) fn queue(&mut self, frame: Frame) -> bool {
        let room = self.outbound.len() < self.outbound_most;
        if room {
            self.outbound.push(frame);
        } else {
            self.counters.count(Counter::OutboundOverflow);
        }
        room
    }

    /// Whether one more frame can wait for the device.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.outbound.len() < self.outbound_most
    }

    /// A packet to ourselves.
    pub(crate) fn loop_back(&mut self, mut frame: Frame) -> bool {
        if self.loopback.len() >= self.loopback_most {
            self.counters.count(Counter::OutboundOverflow);
            return false;
        }
        frame.head.advance(self.link_header());
        frame.checksum = ChecksumOffload::default();
        frame.received = VERIFIED;
        self.loopback.push_back(frame);
        true
    }

    /// The MTU towards `to`.
    pub(crate) fn mtu(&self, destination: IpAddr) -> u16 {
        let device = self.capabilities.mtu.min(65_535) as u16;
        let said = if destination.is_ipv4() { self.mtu_v4 } else { self.mtu_v6 };
        if self.addresses.is_local(destination) { LOOPBACK_MTU } else { device.min(said) }
    }

    /// What the path to `destination` takes: no more than its MTU. [rfc8201 5.2]
    pub(super) fn path_mtu(&mut self, now: Instant, destination: IpAddr) -> u16 {
        let link = self.mtu(destination);
        self.path_mtus.look_up(now, destination, link).mtu
    }

    /// How many routers packets to `destination` pass at most: what a socket says, or else a router. [rfc4861 6.3.4-hop-limit]
    pub(super) fn hops(&self, said: u8, destination: IpAddr) -> u8 {
        match (said, destination) {
            (0, IpAddr::V6(_)) => self.hop_limit,
            (0, _) => HOP_LIMIT,
            (said, _) => said,
        }
    }

    /// Whether a packet may come from `source` at all. [rfc1122 3.2.1.3-source]
    pub(crate) fn may_be_source(&self, source: IpAddr) -> bool {
        !source.is_unspecified() && self.addresses.may_be_source(source)
    }
}

/// What packets are sent with, as far as nobody says otherwise.
pub(super) const HOP_LIMIT: u8 = 64;

/// As Linux's `lo`, as far as 16 bits go.
const LOOPBACK_MTU: u16 = 65_535;

/// What never left the machine needs no checksum.
pub(super) const VERIFIED: Received =
    Received { ip_checksum_good: true, l4_checksum_good: true, hash: None, passed: 0 };
