//! ARP and neighbour discovery: who has which address on the link.

use super::Stack;
use super::counters::Counter;
use super::emit::Envelope;
use super::interface::Interface;
use crate::device::{Frame, MacAddress, Medium};
use crate::ip::neighbours::{Advertisement, ArpNews};
use crate::wire::ip::protocol;
use crate::wire::ndp::{self, Message, NeighborAdvertisement};
use crate::wire::{arp, ipv6};
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, Ipv6Addr};

impl Interface {
    /// (RFC 4861 section 7.2.2)
    pub(super) fn solicit_v6(&mut self, now: Instant, target: Ipv6Addr, to: Option<MacAddress>) {
        let Some(IpAddr::V6(source)) = self.addresses.select_source(now, target.into()) else { return };
        let Medium::Ethernet(own) = self.capabilities.medium else { return };
        // A known neighbour is asked itself, the others through the group that it is in.
        let destination = if to.is_some() { target } else { solicited_group(target) };
        let message = Message::NeighborSolicitation { target, source_link_layer: Some(own) };
        self.send_ndp(now, source, destination, &message);
    }

    fn send_ndp(&mut self, now: Instant, source: Ipv6Addr, destination: Ipv6Addr, message: &Message) {
        let envelope = Envelope {
            hops: ndp::HOP_LIMIT,
            ..Envelope::new(source.into(), destination.into(), protocol::ICMPV6)
        };
        self.send_packet(now, &envelope, message.len(), |bytes, pseudo_header| {
            message.emit(bytes, pseudo_header)
        });
    }
}

/// The group of all whose address ends in the same 24 bits. (RFC 4291 section 2.7.1)
fn solicited_group(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | address.to_bits() & 0x00ff_ffff)
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
        let news = neighbours.on_arp(now, &packet, is_ours, may_answer);
        if let ArpNews::Answer(answer) = news {
            self.interface.send_arp(answer.target_hardware, &answer);
        }
        self.interface.ask_neighbours(now);
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
            Message::NeighborAdvertisement(NeighborAdvertisement {
                target,
                router,
                solicited,
                replaces,
                target_link_layer,
            }) => {
                let advertisement =
                    Advertisement { hardware: target_link_layer, solicited, replaces, is_router: router };
                self.interface.neighbours.on_advertisement(now, target, advertisement);
            }
            _ => {}
        }
        self.interface.ask_neighbours(now);
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
        if !self.interface.addresses.is_local(target.into()) {
            return;
        }
        if let Some(from) = from {
            self.interface.neighbours.on_solicitation(now, source, from, None);
        }
        let probe = source.is_unspecified();
        let destination = if probe { Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) } else { source };
        let answer = Message::NeighborAdvertisement(NeighborAdvertisement {
            target,
            router: false,
            solicited: !probe,
            replaces: true,
            target_link_layer: Some(own),
        });
        self.interface.send_ndp(now, target, destination, &answer);
    }
}
