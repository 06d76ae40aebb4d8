//! Bursts out: what waits, then what sockets have to send, each a few segments in its turn.

use super::counters::Counter;
use super::emit::COPY;
use super::interface::{Interface, Way};
use super::socket::{Socket, TcpSocket};
use super::{RESERVED, Stack};
use crate::device::{BURST, Frame};
use crate::tcp::{Polled, State, Transmit};
use crate::wire::ip::{Ecn, TrafficClass};
use crate::wire::plain::Around;
use demikernel_runtime::time::{Deadlines, Duration, Instant};

/// Segments that a connection may send until it is the others' turn.
const TURN: usize = 8;

/// A deadline that has passed while there is nothing to do says nothing: the connection is asked again after this.
const AGAIN: Duration = Duration::from_millis(1);

impl Stack {
    /// Adds frames that are to be transmitted to `burst`, until it has [`BURST`]; returns how many.
    pub fn transmit(&mut self, now: Instant, burst: &mut Vec<Frame>) -> usize {
        let before = burst.len();
        self.transmit_waiting(burst);
        while burst.len() < BURST {
            let Some(slot) = self.ready.pop() else { break };
            self.transmit_socket(now, slot, burst);
        }
        self.arm_neighbors();
        let count = burst.len().saturating_sub(before);
        self.interface.counters.add(Counter::Transmitted, count as u64);
        count
    }

    #[inline]
    fn transmit_waiting(&mut self, burst: &mut Vec<Frame>) {
        self.interface.take_outbound(burst);
        if !self.blocked.is_empty() {
            self.unblock();
        }
    }

    #[inline]
    fn transmit_socket(&mut self, now: Instant, slot: u32, burst: &mut Vec<Frame>) {
        let several = self.are_several();
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        if !tcp.flags.ready {
            return;
        }
        if transmit_plain(&mut self.interface, now, tcp, burst) {
            tcp.flags.ready = false;
            rearm(&mut self.deadlines, now, slot, tcp);
            if several {
                rest(&mut self.deadlines, slot, tcp);
            }
        } else {
            self.transmit_any(now, slot, burst);
        }
    }

    /// What is not all [plain](crate::wire::plain::Plain), or not small.
    #[inline(never)]
    fn transmit_any(&mut self, now: Instant, slot: u32, burst: &mut Vec<Frame>) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        if !self.interface.is_current(&tcp.path) {
            tcp.path = self.interface.recent.of(&tcp.flow.get()).path;
        }
        let mut room = (BURST - burst.len()).min(TURN);
        if self.segmentation.segmentation == 0 {
            room -= transmit_full(&mut self.interface, now, tcp, burst, room);
        }
        for _ in 0..room {
            let Some(transmit) = tcp.connection.poll_transmit(now, &self.segmentation) else {
                tcp.flags.ready = false;
                if matches!(tcp.connection.state(), State::Closed | State::TimeWait) {
                    self.settle(now, slot);
                } else {
                    rearm(&mut self.deadlines, now, slot, tcp);
                }
                return;
            };
            emit(&mut self.interface, now, tcp, transmit, burst);
        }
        self.ready.push(slot);
    }
}

/// The wheel has a deadline of the connection, if that has become earlier.
#[inline]
fn rearm(deadlines: &mut Deadlines, now: Instant, slot: u32, tcp: &mut TcpSocket) {
    let next = tcp.connection.next_deadline().unwrap_or(Instant::MAX);
    if next < tcp.deadline {
        let at = if next <= now { now.saturating_add(AGAIN) } else { next };
        tcp.deadline = at;
        deadlines.set(slot + RESERVED, at);
    }
}

/// A connection of very many that has nothing under way: nobody is to look at it again, and wait for its memory, before
/// something comes. Of few, a deadline that finds nothing to do costs less than to clear it each time.
#[inline(never)]
fn rest(deadlines: &mut Deadlines, slot: u32, tcp: &mut TcpSocket) {
    tcp.connection.release_spare();
    if tcp.deadline != Instant::MAX && tcp.connection.next_deadline().is_none() {
        tcp.deadline = Instant::MAX;
        deadlines.clear(slot + RESERVED);
    }
}

/// Transmits all that there is, if that is one plain segment or nothing, and its way is known.
#[inline]
fn transmit_plain(
    interface: &mut Interface,
    now: Instant,
    tcp: &mut TcpSocket,
    burst: &mut Vec<Frame>,
) -> bool {
    let Some(ends) = tcp.flow.to_v4() else { return false };
    let Some(link) = interface.out(&tcp.path).copied() else { return false };
    match tcp.connection.poll_plain(now, COPY as u32) {
        Polled::Plain(plain, payload, ecn) => {
            let (source, destination, ports) = ends;
            let class = tcp.class & !3 | ecn.bits();
            let around = Around { source, destination, hops: tcp.hops, class };
            interface.add_plain(burst, &link, &around, ports, &plain, payload);
            true
        }
        Polled::Nothing => true,
        Polled::Other => false,
    }
}

/// Transmits full segments of a stream, `most` at most, as long as they are plain and their way is known; how many.
#[inline]
fn transmit_full(
    interface: &mut Interface,
    now: Instant,
    tcp: &mut TcpSocket,
    burst: &mut Vec<Frame>,
    most: usize,
) -> usize {
    let Some((source, destination, ports)) = tcp.flow.to_v4() else { return 0 };
    let Some(link) = interface.out(&tcp.path).copied() else { return 0 };
    for count in 0..most {
        let Some((plain, payload, ecn)) = tcp.connection.poll_full(now) else { return count };
        let class = tcp.class & !3 | ecn.bits();
        let around = Around { source, destination, hops: tcp.hops, class };
        interface.add_full(burst, &link, &around, ports, &plain, payload);
    }
    most
}

impl Interface {
    /// Adds what waits to `burst`, until that has [`BURST`].
    #[inline]
    fn take_outbound(&mut self, burst: &mut Vec<Frame>) {
        if self.outbound.len() <= BURST && burst.is_empty() {
            std::mem::swap(burst, &mut self.outbound);
        } else {
            let room = BURST.saturating_sub(burst.len());
            burst.extend(self.outbound.drain(..room.min(self.outbound.len())));
        }
    }
}

/// Writes a segment's headers and hands it on.
#[inline]
fn emit(
    interface: &mut Interface,
    now: Instant,
    tcp: &mut TcpSocket,
    transmit: Transmit,
    burst: &mut Vec<Frame>,
) {
    let class =
        TrafficClass { ecn: Ecn::from_bits(transmit.ecn.bits()), ..TrafficClass::from_bits(tcp.class) };
    let way = interface.way(&tcp.path);
    let Some(frame) = interface.tcp_frame(&tcp.flow.get(), tcp.hops, class, &way, transmit) else { return };
    match way {
        Way::Out(_) => burst.push(frame),
        Way::Back => {
            interface.loop_back(frame);
        }
        Way::Ask => {
            interface.dispatch(now, tcp.flow.get().remote(), frame, &mut tcp.path);
            interface.recent.of(&tcp.flow.get()).path = tcp.path;
            // In the order in which they were made.
            interface.take_outbound(burst);
        }
    }
}
