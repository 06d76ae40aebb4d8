//! What is learnt from packets of others.

use super::{Event, Neighbours, State};
use crate::wire::arp::{Operation, Packet};
use crate::wire::ethernet::MacAddress;
use demikernel_runtime::time::{Duration, Instant};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long an address that ARP has told stands against another one: of two that quarrel over an address, the first
/// is kept for a moment instead of both in turns. As Linux' `locktime`.
const LOCK: Duration = Duration::from_secs(1);

/// A neighbour advertisement, as far as the cache is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advertisement {
    /// Its Ethernet address, if it says.
    pub hardware: Option<MacAddress>,
    /// It answers a question of ours.
    pub solicited: bool,
    /// The address is to replace the known one.
    pub replaces: bool,
    /// The sender is a router.
    pub is_router: bool,
}

/// What a packet of ARP is to us, beside what the cache has learnt from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpNews {
    /// Nothing.
    Nothing,
    /// It asks for one of our addresses: send this answer.
    Answer(Packet),
    /// Its sender has, or probes for, this address of ours (RFC 5227 section 2.4).
    Conflict(Ipv4Addr),
}

impl<P> Neighbours<P> {
    /// Takes a packet of ARP. `is_ours` says which addresses are, tentative ones among them; only for those that
    /// `may_answer` names others are answered.
    ///
    /// An entry that is there is updated whoever was asked [rfc826 merge]; one is made only of a question to us, as
    /// an answer will follow [rfc826 add]. An answer to us makes the entry reachable.
    pub fn on_arp(
        &mut self,
        now: Instant,
        packet: &Packet,
        is_ours: impl Fn(Ipv4Addr) -> bool,
        may_answer: impl Fn(Ipv4Addr) -> bool,
    ) -> ArpNews {
        let (sender, hardware) = (packet.sender_protocol, packet.sender_hardware);
        if hardware == self.own {
            return ArpNews::Nothing;
        }
        if hardware.is_multicast() || sender.is_multicast() || sender.is_broadcast() {
            return ArpNews::Nothing;
        }
        // [rfc5227 2.4-conflict] Somebody uses our address.
        if is_ours(sender) {
            return ArpNews::Conflict(sender);
        }
        // [rfc5227 2.1.1-probe] A probe says nothing of its sender's address.
        let is_probe = sender.is_unspecified();
        let to_us = is_ours(packet.target_protocol);
        if !is_probe {
            let answers = packet.operation == Operation::Reply && to_us && packet.target_hardware == self.own;
            self.learn_arp(now, sender.into(), hardware, to_us, answers);
        }
        match packet.operation {
            Operation::Request if may_answer(packet.target_protocol) => {
                ArpNews::Answer(packet.reply(self.own))
            }
            // [rfc5227 2.1.1-simultaneous] Somebody else probes for an address that is only tentative here.
            Operation::Request if is_probe && to_us => ArpNews::Conflict(packet.target_protocol),
            _ => ArpNews::Nothing,
        }
    }

    fn learn_arp(&mut self, now: Instant, sender: IpAddr, hardware: MacAddress, to_us: bool, answers: bool) {
        let Some(index) = self.by_address.get(&sender).copied() else {
            if to_us && !answers {
                let index = self.insert(now, sender, State::Stale);
                self.set_hardware(now, index, hardware);
            }
            return;
        };
        let slot = &self.slots[index as usize];
        let (state, known) = (slot.state, slot.hardware());
        let is_new = state == Some(State::Incomplete);
        let is_locked = !is_new && known != hardware && now < slot.updated.saturating_add(LOCK);
        if state == Some(State::Permanent) || is_locked {
            return;
        }
        self.set_hardware(now, index, hardware);
        if answers {
            self.become_reachable(now, index);
        } else if is_new || known != hardware {
            self.enter(now, index, State::Stale);
        }
        if is_new {
            self.release_from(now, index);
        }
    }

    /// The sender of a solicitation, of a router's advertisement or redirect has said its Ethernet address
    /// [rfc4861 7.2.3-update]. Whether it is reachable from here, it does not say.
    ///
    /// `is_router` if it is one for certain, or for certain is not [rfc4861 6.2.6] [rfc4861 6.3.4-is-router].
    pub fn on_solicitation(
        &mut self,
        now: Instant,
        source: Ipv6Addr,
        hardware: MacAddress,
        is_router: Option<bool>,
    ) {
        if source.is_unspecified() || source.is_multicast() || hardware.is_multicast() {
            return;
        }
        let source = IpAddr::from(source);
        let index = match self.by_address.get(&source) {
            Some(index) => *index,
            None => self.insert(now, source, State::Stale),
        };
        let slot = &mut self.slots[index as usize];
        slot.is_router = is_router.unwrap_or(slot.is_router);
        let (state, known) = (slot.state, slot.hardware());
        if state == Some(State::Permanent) {
            return;
        }
        let is_new = state == Some(State::Incomplete);
        if is_new || known != hardware {
            self.set_hardware(now, index, hardware);
            self.enter(now, index, State::Stale);
        }
        if is_new {
            self.release_from(now, index);
        }
    }

    /// Takes a neighbour advertisement about `target` [rfc4861 7.2.5]. Of nobody known it says nothing
    /// [rfc4861 7.2.5-no-entry].
    pub fn on_advertisement(&mut self, now: Instant, target: Ipv6Addr, advertisement: Advertisement) {
        let Some(index) = self.by_address.get(&target.into()).copied() else { return };
        if advertisement.hardware.is_some_and(MacAddress::is_multicast) {
            return;
        }
        let slot = &self.slots[index as usize];
        match slot.state {
            Some(State::Permanent) | None => {}
            Some(State::Incomplete) => self.complete(now, index, advertisement),
            Some(state) => self.update(now, index, state, advertisement),
        }
    }

    /// [rfc4861 7.2.5-incomplete]
    fn complete(&mut self, now: Instant, index: u32, advertisement: Advertisement) {
        let Some(hardware) = advertisement.hardware else { return };
        self.set_hardware(now, index, hardware);
        self.slots[index as usize].is_router = advertisement.is_router;
        if advertisement.solicited {
            self.become_reachable(now, index);
        } else {
            self.enter(now, index, State::Stale);
        }
        self.release_from(now, index);
    }

    /// [rfc4861 7.2.5-update]
    fn update(&mut self, now: Instant, index: u32, state: State, advertisement: Advertisement) {
        let slot = &self.slots[index as usize];
        let is_other = advertisement.hardware.is_some_and(|hardware| hardware != slot.hardware());
        if is_other && !advertisement.replaces {
            // Somebody claims another address without insisting: ask again before the known one is trusted.
            if state == State::Reachable {
                self.enter(now, index, State::Stale);
            }
            return;
        }
        if let (true, Some(hardware)) = (is_other, advertisement.hardware) {
            self.set_hardware(now, index, hardware);
        }
        if advertisement.solicited {
            self.become_reachable(now, index);
        } else if is_other {
            self.enter(now, index, State::Stale);
        }
        let slot = &mut self.slots[index as usize];
        if slot.is_router && !advertisement.is_router {
            self.events.push_back(Event::RouterLost(slot.address));
        }
        slot.is_router = advertisement.is_router;
    }

    fn become_reachable(&mut self, now: Instant, index: u32) {
        self.slots[index as usize].confirmed = now;
        self.enter(now, index, State::Reachable);
    }

    /// What has waited is sent; that is use of a stale neighbour.
    fn release_from(&mut self, now: Instant, index: u32) {
        let slot = &self.slots[index as usize];
        if slot.state == Some(State::Stale) && !slot.queue.is_empty() {
            self.enter(now, index, State::Delay);
        }
        self.release(index);
    }
}
