//! The way to the next hop, where it is not known yet: everybody's, a neighbour's who is asked, or back to ourselves.

use super::counters::Counter;
use super::interface::{BLANK, Held, Interface, LinkHeader, Path, To, UNREACHABLE};
use crate::device::{Frame, MacAddress, Medium};
use crate::ip::addresses::Kind;
use crate::ip::neighbours::{Cookie, Event, Resolution};
use crate::wire::ethernet::{self, ether_type};
use crate::wire::ip::Version;
use demikernel_runtime::time::Instant;
use std::net::IpAddr;

impl Interface {
    /// Sends a frame whose header is blank; what is found out of the way is for `path`. Whether it was taken.
    #[cold]
    pub(crate) fn dispatch(
        &mut self,
        now: Instant,
        destination: IpAddr,
        frame: Frame,
        path: &mut Path,
    ) -> bool {
        let generation = self.generation;
        let know = |to| Path { generation, to };
        let kind = self.addresses.kind(destination);
        match (kind, destination, self.capabilities.medium) {
            (Kind::Local, ..) => {
                *path = know(To::Loopback);
                return self.loop_back(frame);
            }
            (Kind::Broadcast, _, Medium::Ethernet(_)) => return self.complete(frame, MacAddress::BROADCAST),
            (Kind::Multicast, IpAddr::V4(group), Medium::Ethernet(_)) => {
                return self.complete(frame, MacAddress::of_group_v4(group));
            }
            (Kind::Multicast, IpAddr::V6(group), Medium::Ethernet(_)) => {
                return self.complete(frame, MacAddress::of_group_v6(group));
            }
            _ => {}
        }
        if !self.is_from_us(&frame) {
            self.counters.count(Counter::LostSource);
            return false;
        }
        let Some(hop) = self.routes.look_up(now, destination) else {
            self.counters.count(Counter::NeighborUnknown);
            return kind != Kind::Other && self.queue(frame);
        };
        if self.capabilities.medium == Medium::Ip {
            *path = know(To::Line);
            return self.queue(frame);
        }
        let length = frame.len();
        let taken = match self.neighbours.resolve(now, hop.hop, Held { frame }, length) {
            Resolution::Ready(cookie, held) => {
                *path = know(To::Neighbor(cookie));
                self.send_held(cookie, held)
            }
            Resolution::Waiting => true,
        };
        self.ask_neighbours(now);
        taken
    }

    /// Sends what has waited for its neighbour.
    fn send_held(&mut self, cookie: Cookie, held: Held) -> bool {
        match self.neighbours.header(cookie).copied() {
            Some(header) => self.complete_with(held.frame, &header),
            None => false,
        }
    }

    fn complete(&mut self, frame: Frame, destination: MacAddress) -> bool {
        let Medium::Ethernet(source) = self.capabilities.medium else { return false };
        let bytes = frame.head.get(ethernet::MINIMUM_HEADER).copied().unwrap_or_default();
        let ether_type = if bytes >> 4 == 6 { ether_type::IPV6 } else { ether_type::IPV4 };
        let mut header = BLANK;
        ethernet::Header { destination, source, vlan: None, ether_type }.emit(&mut header);
        self.complete_with(frame, &header)
    }

    /// Writes the header into a frame in which it was left blank.
    fn complete_with(&mut self, mut frame: Frame, header: &LinkHeader) -> bool {
        match std::mem::take(&mut frame.head).try_into_mut() {
            Ok(mut head) if head.len() >= header.len() => {
                head[..header.len()].copy_from_slice(header);
                frame.head = head.freeze();
                self.queue(frame)
            }
            _ => false,
        }
    }

    /// Does what the neighbours want: questions, and packets that have waited. Those that can go nowhere come back.
    pub(crate) fn ask_neighbours(&mut self, now: Instant) {
        while let Some(event) = self.neighbours.poll() {
            match event {
                Event::Solicit { address: IpAddr::V4(address), to } => self.solicit_v4(now, address, to),
                Event::Solicit { address: IpAddr::V6(address), to } => self.solicit_v6(now, address, to),
                Event::Send { cookie, packet } => {
                    self.send_held(cookie, packet);
                }
                Event::Unreachable { address, packet } => {
                    // It need not have said that it is a router to be used as one.
                    self.on_router_lost(address);
                    if self.unreachable.len() < UNREACHABLE {
                        self.unreachable.push_back(packet);
                    }
                }
                Event::RouterLost(router) => self.on_router_lost(router),
            }
        }
    }

    /// Whether a packet is from an address that is still ours, and that others may see. [rfc1122 3.2.1.3-g]
    fn is_from_us(&self, frame: &Frame) -> bool {
        let header = frame.head.get(self.link_header()..).unwrap_or_default();
        let source = match Version::of(header) {
            Ok(Version::V4) => {
                header.get(12..).and_then(|it| it.first_chunk::<4>()).copied().map(IpAddr::from)
            }
            Ok(Version::V6) => {
                header.get(8..).and_then(|it| it.first_chunk::<16>()).copied().map(IpAddr::from)
            }
            Err(_) => None,
        };
        source.is_some_and(|source| {
            source.is_unspecified() || self.addresses.is_local(source) && !source.is_loopback()
        })
    }
}
