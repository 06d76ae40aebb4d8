//! Nobody else has our addresses: questions before one is used, and its defence.

use super::super::counters::Counter;
use super::super::emit::Envelope;
use super::super::interface::Interface;
use super::DuplicateDetection;
use crate::device::{MacAddress, Medium};
use crate::ip::addresses::{Address, Origin};
use crate::ip::conflict::{Action, Detection, Verdict, announcement, probe};
use crate::ip::ndp::ALL_NODES;
use crate::ip::neighbours::Times;
use crate::wire::ndp::{Message, NeighborAdvertisement, solicited_node};
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, Ipv6Addr};

impl Interface {
    /// An address is new: it is asked for or announced, as the mode says, and the link is told of its group.
    pub(super) fn begin_detection(&mut self, now: Instant, ip: IpAddr) {
        let mode = self.automatic.mode;
        let known = self.addresses.find(ip).copied();
        let Some(address) = known.filter(|_| self.is_ethernet()) else { return };
        if let (IpAddr::V6(ip), true) = (ip, mode != DuplicateDetection::Off || !address.unique) {
            // [rfc4862 5.4.2-join]
            // Full: the addresses are more than there can be groups. The link then has to carry all groups here.
            let _ = self.automatic.groups_v6.join(now, solicited_node(ip));
        }
        let random = self.automatic.random();
        let conflicts = self.automatic.conflicts;
        let retransmit =
            self.automatic.discovery.as_ref().map_or(Times::default(), |it| it.times()).retransmit;
        let asks = || Detection::new(now, ip, retransmit, conflicts, random);
        let is_fixed = address.origin == Origin::Static;
        let (unique, detection) = match (mode, ip) {
            (DuplicateDetection::Off, _) => return self.addresses.confirm(ip),
            (DuplicateDetection::Optimistic, IpAddr::V6(_)) => (true, asks()),
            (DuplicateDetection::Optimistic, IpAddr::V4(_)) => (true, Detection::announcing(now)),
            (_, IpAddr::V6(_)) | (DuplicateDetection::Strict, _) => (false, asks()),
            (DuplicateDetection::Standard, _) if is_fixed => (true, Detection::announcing(now)),
            (DuplicateDetection::Standard, _) => (false, Detection::quick(now, conflicts)),
        };
        if let Some(address) = self.addresses.find_mut(ip) {
            address.unique = unique;
        }
        self.automatic.detections.push((ip, detection));
    }

    pub(super) fn run_detections(&mut self, now: Instant) {
        for index in 0..self.automatic.detections.len() {
            loop {
                let random = self.automatic.random();
                let Some((ip, detection)) = self.automatic.detections.get_mut(index) else { return };
                let ip = *ip;
                match detection.poll(now, random) {
                    None => break,
                    Some(Action::Probe) => self.send_probe(now, ip),
                    Some(Action::Announce) => self.announce(now, ip),
                    Some(Action::Confirmed) => {
                        self.addresses.confirm(ip);
                        self.renew_paths();
                    }
                }
            }
        }
    }

    fn send_probe(&mut self, now: Instant, ip: IpAddr) {
        match (ip, self.capabilities.medium) {
            (IpAddr::V4(ip), Medium::Ethernet(own)) => self.send_arp(MacAddress::BROADCAST, &probe(own, ip)),
            // From nobody, and so without an Ethernet address. [rfc4861 4.3] [rfc4862 5.4.2-solicitation]
            (IpAddr::V6(ip), _) => {
                let message = Message::NeighborSolicitation { target: ip, source_link_layer: None };
                self.send_ndp(now, Ipv6Addr::UNSPECIFIED, solicited_node(ip), &message);
            }
            _ => {}
        }
    }

    /// Whoever knows the address from another machine, from which it was moved here, learns of it at once: packets for
    /// who was there are lost, of IPv6 for up to a minute.
    fn announce(&mut self, now: Instant, ip: IpAddr) {
        let Medium::Ethernet(own) = self.capabilities.medium else { return };
        match ip {
            IpAddr::V4(ip) => self.send_arp(MacAddress::BROADCAST, &announcement(own, ip)),
            // [rfc4861 7.2.6]
            IpAddr::V6(ip) => {
                let message = Message::NeighborAdvertisement(NeighborAdvertisement {
                    target: ip,
                    router: false,
                    solicited: false,
                    replaces: true,
                    target_link_layer: Some(own),
                });
                self.send_ndp(now, ip, ALL_NODES, &message);
            }
        }
    }

    /// Another host has, or wants, one of our addresses.
    ///
    /// One that was in use is defended. Of the configuration it is kept whatever happens: whoever can send a packet
    /// could take a server's address from it otherwise, and the RFC lets a host be that stubborn. [rfc5227 2.4-c]
    pub(in crate::stack) fn on_conflict(&mut self, now: Instant, ip: IpAddr) {
        self.counters.count(Counter::AddressConflict);
        let Some(address) = self.addresses.find(ip).copied() else { return };
        let Some((_, detection)) = self.automatic.detections.iter_mut().find(|(known, _)| *known == ip)
        else {
            return;
        };
        let was_probing = detection.is_probing();
        match detection.on_conflict(now) {
            Verdict::Defend => self.announce(now, ip),
            Verdict::GiveUp if was_probing || address.origin != Origin::Static => self.give_up(now, &address),
            Verdict::GiveUp | Verdict::Keep => {}
        }
    }

    fn give_up(&mut self, now: Instant, address: &Address) {
        let ip = address.address;
        tracing::warn!(%ip, "another host has this address");
        self.automatic.conflicts = self.automatic.conflicts.saturating_add(1);
        let random = self.automatic.random();
        match (address.origin, &mut self.automatic.dhcp) {
            (Origin::Dhcp, Some(client)) => {
                client.on_conflict(now, random);
                self.run_lease(now);
            }
            (Origin::Slaac, _) => {
                let other = self.automatic.slaac.on_duplicate(ip, &mut self.addresses);
                self.forget_address(now, address);
                if let Some(other) = other {
                    self.begin_detection(now, other);
                }
            }
            _ => {
                self.automatic.duplicates.push(ip);
                self.addresses.remove(ip);
                self.forget_address(now, address);
            }
        }
    }

    /// Whether the address is in use although it is not known yet that nobody else has it (RFC 4429).
    pub(in crate::stack) fn is_optimistic(&self, ip: Ipv6Addr) -> bool {
        let is_probing = |(known, detection): &(IpAddr, Detection)| *known == ip && detection.is_probing();
        self.automatic.detections.iter().any(is_probing)
    }

    pub(in crate::stack) fn send_ndp(
        &mut self,
        now: Instant,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        message: &Message,
    ) {
        let envelope = Envelope {
            hops: crate::wire::ndp::HOP_LIMIT,
            ..Envelope::new(source.into(), destination.into(), crate::wire::ip::protocol::ICMPV6)
        };
        self.send_packet(now, &envelope, message.len(), |bytes, pseudo_header| {
            message.emit(bytes, pseudo_header)
        });
    }
}
