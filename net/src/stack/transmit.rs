//! Bursts out: what waits, then what sockets have to send, each a few segments in its turn.

use super::counters::Counter;
use super::interface::{Interface, Way};
use super::socket::{Socket, TcpSocket};
use super::{RESERVED, Stack};
use crate::device::{BURST, Frame};
use crate::tcp::{State, Transmit};
use crate::wire::ip::{Ecn, TrafficClass};
use demikernel_runtime::time::{Duration, Instant};

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
            let Some(slot) = self.ready.pop_front() else { break };
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
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        if !tcp.flags.ready {
            return;
        }
        let room = (BURST - burst.len()).min(TURN);
        for _ in 0..room {
            let Some(transmit) = tcp.connection.poll_transmit(now, &self.segmentation) else {
                tcp.flags.ready = false;
                let ended = matches!(tcp.connection.state(), State::Closed | State::TimeWait);
                let next = tcp.connection.next_deadline().unwrap_or(Instant::MAX);
                if next < tcp.deadline && !ended {
                    let at = if next <= now { now.saturating_add(AGAIN) } else { next };
                    tcp.deadline = at;
                    self.deadlines.set(slot + RESERVED, at);
                }
                if ended {
                    self.settle(now, slot);
                }
                return;
            };
            emit(&mut self.interface, now, tcp, transmit, burst);
        }
        self.ready.push_back(slot);
    }
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
    let Some(frame) = interface.tcp_frame(&tcp.flow, tcp.hops, class, &way, transmit) else { return };
    match way {
        Way::Out(_) => burst.push(frame),
        Way::Back => {
            interface.loop_back(frame);
        }
        Way::Ask => {
            interface.dispatch(now, tcp.flow.remote(), frame, &mut tcp.path);
            // In the order in which they were made.
            interface.take_outbound(burst);
        }
    }
}
