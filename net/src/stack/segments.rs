//! TCP segments that have come: to their connection, or to whoever listens.

use super::counters::Counter;
use super::emit::Envelope;
use super::interface::Interface;
use super::queue::Queue;
use super::receive::Packet;
use super::socket::{Holder, Socket, TcpSocket};
use super::{RESERVED, Stack};
use crate::cores::Protocol;
use crate::table::Flow;
use crate::tcp::{Ecn, Events, InTimeWait, State, reset_for};
use crate::wire::checksum::Sum;
use crate::wire::ip::protocol;
use crate::wire::tcp::{Flags, Segment, SequenceNumber};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;
use std::net::IpAddr;

/// What has happened to a connection is for its user, and it may have something to send.
#[inline]
pub(super) fn note(tcp: &mut TcpSocket, slot: u32, ready: &mut Queue, events: &mut Queue) -> bool {
    if !tcp.flags.ready {
        tcp.flags.ready = true;
        ready.push(slot);
    }
    if !tcp.connection.has_events() {
        return false;
    }
    let new = tcp.connection.take_events();
    tcp.events |= new;
    if tcp.holder == Holder::User {
        if !tcp.flags.told {
            tcp.flags.told = true;
            events.push(slot);
        }
        if new.contains(Events::CONNECTED) {
            tcp.flags.established = true;
        }
        false
    } else {
        new.contains(Events::CONNECTED)
    }
}

/// How far both directions are.
pub(super) fn progress(tcp: &TcpSocket) -> (SequenceNumber, SequenceNumber) {
    (tcp.connection.send.unacknowledged, tcp.connection.receive.next)
}

/// What has got through says that the next hop is there. [rfc4861 7.3.1-confirmation] [rfc1122 2.3.2.1-advice]
#[cold]
pub(super) fn confirm(
    interface: &mut Interface,
    now: Instant,
    tcp: &TcpSocket,
    before: (SequenceNumber, SequenceNumber),
) {
    if progress(tcp) != before {
        interface.confirm(now, &tcp.path);
    }
}

impl Stack {
    /// Where it does not matter that the packet is moved.
    #[inline(never)]
    pub(super) fn take_segment(&mut self, now: Instant, packet: Packet) {
        self.take_tcp(now, packet);
    }

    #[inline(always)]
    pub(super) fn take_tcp(&mut self, now: Instant, packet: Packet) {
        let Ok((segment, header)) = Segment::parse(packet.first()) else {
            return self.interface.counters.count(Counter::MalformedTcp);
        };
        if !packet.frame.received.l4_checksum_good && !is_tcp_valid(&packet) {
            return self.interface.counters.count(Counter::TcpChecksum);
        }
        let flow = Flow::of(packet.destination, segment.destination, packet.source, segment.source);
        let Some(slot) = self.connection_of(&flow) else {
            return self.take_first(now, &segment, header, packet, None);
        };
        if let Some(Socket::TimeWait(_)) = self.sockets.get(slot) {
            return self.take_in_time_wait(now, slot, &segment, header, packet);
        }
        let ecn = Ecn::from_bits(packet.class.ecn as u8);
        match packet.into_payload(header) {
            Some(payload) => self.take_segment_of(now, slot, &segment, payload, ecn),
            None => self.interface.counters.count(Counter::NoMemory),
        }
    }

    /// For a connection that there is.
    #[inline]
    pub(super) fn take_segment_of(
        &mut self,
        now: Instant,
        slot: u32,
        segment: &Segment,
        payload: Buffer,
        ecn: Ecn,
    ) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else {
            return debug_assert!(false, "the table names connections only");
        };
        if !matches!(tcp.holder, Holder::User | Holder::Nobody) {
            return self.take_before_accept(now, slot, segment, payload, ecn);
        }
        let before = self.interface.neighbours.wants_confirmation().then(|| progress(tcp));
        tcp.connection.handle_segment(now, segment, payload, ecn);
        if let Some(before) = before {
            confirm(&mut self.interface, now, tcp, before);
        }
        note(tcp, slot, &mut self.ready, &mut self.events);
    }

    /// For a connection that its listener still has.
    #[cold]
    fn take_before_accept(&mut self, now: Instant, slot: u32, segment: &Segment, payload: Buffer, ecn: Ecn) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get(slot) else { return };
        if let Holder::HalfOpen { listener, .. } = tcp.holder
            && segment.flags.contains(Flags::ACK)
            && !segment.flags.contains(Flags::RST)
            && let Some(Socket::Listener(listening)) = self.sockets.get(listener)
            && !listening.listener.has_room()
        {
            // It will come again.
            return self.shared.count(crate::tcp::Counter::ListenOverflow);
        }
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        tcp.connection.handle_segment(now, segment, payload, ecn);
        if note(tcp, slot, &mut self.ready, &mut self.events) {
            self.complete(slot);
        }
    }

    /// A connection of a listener is established: it waits to be accepted.
    pub(super) fn complete(&mut self, slot: u32) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        let Holder::HalfOpen { listener, ticket } = tcp.holder else { return };
        tcp.holder = Holder::Accepting { listener };
        tcp.flags.established = true;
        tcp.flags.said = true;
        if let Some(Socket::Listener(listening)) = self.sockets.get_mut(listener) {
            listening.listener.complete(ticket);
            if !listening.told {
                listening.told = true;
                self.events.push(listener);
            }
        }
    }

    #[cold]
    fn take_in_time_wait(
        &mut self,
        now: Instant,
        slot: u32,
        segment: &Segment,
        header: usize,
        packet: Packet,
    ) {
        let Some(Socket::TimeWait(place)) = self.sockets.get(slot) else { return };
        let Some(waiting) = self.waiting.get_mut(*place) else { return };
        let (flow, hops) = (waiting.flow, waiting.hops);
        let answer = waiting.time_wait.handle_segment(now, segment, (packet.len() - header) as u32);
        let until = waiting.time_wait.until();
        match answer {
            InTimeWait::Drop => {}
            InTimeWait::Answer(answer) => self.send_segment(now, flow.local(), flow.remote(), hops, &answer),
            InTimeWait::Reopen(after) => {
                self.remove_time_wait(slot);
                return self.take_first(now, segment, header, packet, Some(after));
            }
        }
        self.deadlines.set(slot + RESERVED, until);
    }

    /// For no connection that there is: for a listener, or for nobody.
    #[cold]
    fn take_first(
        &mut self,
        now: Instant,
        segment: &Segment,
        header: usize,
        packet: Packet,
        after: Option<SequenceNumber>,
    ) {
        if !self.is_for_us(&packet) {
            return;
        }
        let spread = u64::from(segment.source).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        if let Some(listener) = self.tcp_ports.find(segment.destination, packet.destination, spread) {
            self.take_for_listener(now, listener, segment, header, packet, after);
        } else if !self.pass_on(Protocol::Tcp, &Self::tuple(&packet, segment), &packet) {
            self.interface.counters.count(Counter::NoConnection);
            self.refuse(now, segment, (packet.len() - header) as u32, &packet);
        }
    }

    /// A reset, if the limit allows one. [rfc9293 3.10.7.1]
    pub(super) fn refuse(&mut self, now: Instant, segment: &Segment, payload: u32, packet: &Packet) {
        let Some(reset) = reset_for(segment, payload) else { return };
        if !self.resets.allows(now) {
            return self.interface.counters.count(Counter::ResetsLimited);
        }
        self.interface.counters.count(Counter::ResetsSent);
        self.send_segment(now, packet.destination, packet.source, 64, &reset);
    }

    /// Sends a segment that has no connection.
    pub(super) fn send_segment(
        &mut self,
        now: Instant,
        source: IpAddr,
        destination: IpAddr,
        hops: u8,
        segment: &Segment,
    ) {
        let envelope = Envelope { hops, ..Envelope::new(source, destination, protocol::TCP) };
        self.interface.send_packet(now, &envelope, segment.header_len(), |bytes, pseudo_header| {
            let sum = pseudo_header.then(segment.emit(bytes));
            crate::wire::tcp::set_checksum(bytes, sum.checksum());
        });
    }

    /// A deadline of a socket has come.
    pub(super) fn handle_deadline(&mut self, now: Instant, slot: u32) {
        match self.sockets.get_mut(slot) {
            Some(Socket::Tcp(tcp)) => {
                tcp.deadline = Instant::MAX;
                // It has become later since, as nearly always: data were acknowledged in time.
                let mut next = tcp.connection.next_deadline();
                if next.is_some_and(|next| next <= now) {
                    tcp.connection.handle_deadline(now);
                    note(tcp, slot, &mut self.ready, &mut self.events);
                    if tcp.connection.next_deadline().is_some() {
                        // Set when what is to be sent has been.
                        return;
                    }
                    next = None;
                }
                if let Some(next) = next.or_else(|| tcp.connection.release_if_idle(now)) {
                    tcp.deadline = next;
                    self.deadlines.set(slot + RESERVED, next);
                }
            }
            Some(Socket::TimeWait(place)) => match self.waiting.get(*place) {
                Some(waiting) if waiting.time_wait.until() > now => {
                    self.deadlines.set(slot + RESERVED, waiting.time_wait.until());
                }
                _ => self.remove_time_wait(slot),
            },
            _ => {}
        }
    }

    /// Whether the connection was never established, and is over.
    pub(super) fn has_failed_to_connect(tcp: &TcpSocket) -> bool {
        tcp.connection.state() == State::Closed && !tcp.flags.established
    }
}

#[inline]
fn is_tcp_valid(packet: &Packet) -> bool {
    let length = packet.len() as u32;
    packet.sum(Sum::pseudo_header(packet.source, packet.destination, protocol::TCP, length)).is_valid()
}
