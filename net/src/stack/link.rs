//! ARP and neighbour discovery: who has which address on the link.

use super::Stack;
use super::counters::Counter;
use super::interface::Interface;
use crate::device::{Frame, MacAddress, Medium};
use crate::ip::ndp::{Solicited, on_solicitation};
use crate::ip::neighbours::{Advertisement, ArpNews};
use crate::wire::ethernet::{self, ether_type};
use crate::wire::ndp::{Message, NeighborAdvertisement, solicited_node};
use crate::wire::{arp, ipv6};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Interface {
    /// [rfc826 generation]
    pub(super) fn solicit_v4(&mut self, now: Instant, target: Ipv4Addr, to: Option<MacAddress>) {
        let Some(IpAddr::V4(source)) = self.addresses.select_source(now, target.into()) else { return };
        let Medium::Ethernet(own) = self.capabilities.medium else { return };
        self.send_arp(
            to.unwrap_or(MacAddress::BROADCAST),
            &arp::Packet {
                operation: arp::Operation::Request,
                sender_hardware: own,
                sender_protocol: source,
                target_hardware: MacAddress::default(),
                target_protocol: target,
            },
        );
    }

    /// Sends an ARP packet.
    pub(super) fn send_arp(&mut self, destination: MacAddress, packet: &arp::Packet) {
        let Medium::Ethernet(source) = self.capabilities.medium else { return };
        let mut bytes = [0; ethernet::MINIMUM_HEADER + arp::PACKET];
        ethernet::Header { destination, source, vlan: None, ether_type: ether_type::ARP }.emit(&mut bytes);
        packet.emit(&mut bytes[ethernet::MINIMUM_HEADER..]);
        match Buffer::copy_from_slice(&bytes) {
            Ok(frame) => {
                self.queue(Frame::new(frame));
            }
            Err(_) => self.counters.count(Counter::NoMemory),
        }
    }

    /// A known neighbour is asked itself, the others through the group that it is in. [rfc4861 7.2.2]
    pub(super) fn solicit_v6(&mut self, now: Instant, target: Ipv6Addr, to: Option<MacAddress>) {
        let Some(IpAddr::V6(source)) = self.addresses.select_source(now, target.into()) else { return };
        let Medium::Ethernet(own) = self.capabilities.medium else { return };
        let destination = if to.is_some() { target } else { solicited_node(target) };
        // Nobody is to remember an address that may be another's. (RFC 4429 section 3.2)
        let source_link_layer = (!self.is_optimistic(source)).then_some(own);
        let message = Message::NeighborSolicitation { target, source_link_layer };
        self.send_ndp(now, source, destination, &message);
    }
}

impl Stack {
    #[cold]
    pub(super) fn take_arp(&mut self, now: Instant, frame: &Frame, at: usize) {
        let Ok(packet) = arp::Packet::parse(&frame.head[at..]) else {
            return self.interface.counters.count(Counter::MalformedArp);
        };
        let Interface { neighbours, addresses, .. } = &mut self.interface;
        let is_ours = |address| addresses.find(IpAddr::V4(address)).is_some();
        let may_answer = |address| addresses.find(IpAddr::V4(address)).is_some_and(|known| known.unique);
        match neighbours.on_arp(now, &packet, is_ours, may_answer) {
            // The first core does that.
            ArpNews::Answer(_) | ArpNews::Conflict(_) if !self.interface.answers => {}
            ArpNews::Answer(answer) => self.interface.send_arp(answer.target_hardware, &answer),
            ArpNews::Conflict(address) => self.take_conflict(now, address.into()),
            ArpNews::Nothing => {}
        }
        self.interface.ask_neighbours(now);
    }

    fn take_conflict(&mut self, now: Instant, address: IpAddr) {
        self.interface.on_conflict(now, address);
        self.run_automatic(now);
    }

    /// A message of neighbour discovery whose checksum is right.
    pub(super) fn take_ndp(&mut self, now: Instant, header: &ipv6::Header, bytes: &[u8]) {
        let Ok(message) = Message::parse(header, bytes) else {
            return self.interface.counters.count(Counter::MalformedIcmp);
        };
        match message {
            Message::NeighborSolicitation { target, source_link_layer } => {
                self.answer_solicitation(now, header.source, target, source_link_layer);
            }
            Message::NeighborAdvertisement(advertisement) => self.take_advertisement(now, advertisement),
            Message::RouterAdvertisement(router) => {
                self.interface.take_router(now, header.source, &router);
                self.run_automatic(now);
            }
            Message::Redirect { target, destination, target_link_layer } => {
                self.interface.redirect_v6(now, header.source, target, destination, target_link_layer);
                self.settle_automatic();
            }
            // For routers.
            Message::RouterSolicitation { .. } => {}
        }
        self.interface.ask_neighbours(now);
    }

    /// Of an address of ours it says that another host has it. [rfc4862 5.4.4]
    fn take_advertisement(&mut self, now: Instant, neighbor: NeighborAdvertisement) {
        if self.interface.addresses.find(neighbor.target.into()).is_some() {
            if !self.interface.answers {
                return;
            }
            return self.take_conflict(now, neighbor.target.into());
        }
        let advertisement = Advertisement {
            hardware: neighbor.target_link_layer,
            solicited: neighbor.solicited,
            replaces: neighbor.replaces,
            is_router: neighbor.router,
        };
        self.interface.neighbours.on_advertisement(now, neighbor.target, advertisement);
    }

    /// [rfc4861 7.2.4]
    fn answer_solicitation(
        &mut self,
        now: Instant,
        source: Ipv6Addr,
        target: Ipv6Addr,
        from: Option<MacAddress>,
    ) {
        let Medium::Ethernet(own) = self.interface.capabilities.medium else { return };
        match on_solicitation(source, target, &self.interface.addresses, own) {
            Solicited::Nothing => {}
            _ if !self.interface.answers => {
                if let Some(from) = from.filter(|_| !source.is_unspecified()) {
                    self.interface.neighbours.on_solicitation(now, source, from, None);
                }
            }
            Solicited::Conflict => self.take_conflict(now, target.into()),
            Solicited::Answer { destination, mut advertisement } => {
                if let Some(from) = from {
                    self.interface.neighbours.on_solicitation(now, source, from, None);
                }
                // Who had the address before, if anybody, is not to lose it. (RFC 4429 section 3.3)
                advertisement.replaces = !self.interface.is_optimistic(target);
                let answer = Message::NeighborAdvertisement(advertisement);
                self.interface.send_ndp(now, target, destination, &answer);
            }
        }
    }
}
