//! Steps 7 and 8: text, FIN (RFC 9293 section 3.10.7.4), and when to acknowledge.

use std::ops::ControlFlow;

use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;

use super::{Arrival, Step};
use crate::tcp::Ecn;
use crate::tcp::config::Counter;
use crate::tcp::connection::{Connection, Earlier, Events, Marks};
use crate::tcp::error::Error;
use crate::tcp::state::State;
use crate::wire::tcp::{Flags, SequenceNumber};

const PASS: Step = ControlFlow::Continue(());
const DROP: Step = ControlFlow::Break(());

impl Connection {
    /// Step 7: the text.
    pub(super) fn process_text(&mut self, arrival: &mut Arrival<'_>) -> Step {
        if arrival.payload.is_empty() {
            return PASS;
        }
        if !self.state.may_receive() {
            // Behind the peer's FIN there is nothing. [rfc9293 3.10.7.4]
            return DROP;
        }
        if self.marks.contains(Marks::ORPHAN) {
            // Nobody will ever take it, and the peer should know. [rfc9293 SHLD-3]
            self.shared.count(Counter::DataAfterClose);
            self.abort();
            return DROP;
        }
        let length = arrival.payload.len() as u32;
        let payload = std::mem::take(&mut arrival.payload);
        if arrival.sequence == self.receive.next {
            if !self.receive.deliver(payload) {
                self.shared.count(Counter::NoMemory);
                return DROP;
            }
            arrival.sequence += length;
            self.events |= Events::READABLE;
            self.acknowledge_later(arrival.now, length, arrival.flags().contains(Flags::PSH));
            self.fill_hole(arrival);
            return PASS;
        }
        self.keep(arrival, payload, length)
    }

    /// What came before its turn may be in its turn now. [rfc5681 4.2-hole]
    fn fill_hole(&mut self, arrival: &mut Arrival<'_>) {
        if self.receive.reassembly.is_none() {
            return;
        }
        self.marks.insert(Marks::ACKNOWLEDGE);
        if self.receive.deliver_reassembled() {
            arrival.sequence = self.receive.next;
            arrival.fin = true;
        }
        if self
            .receive
            .reassembly
            .as_ref()
            .is_some_and(|reassembly| !reassembly.has_hole() && reassembly.is_idle())
        {
            self.receive.reassembly = None;
        }
    }

    /// Before its turn: the peer is told at once, so that it learns what is missing. [rfc5681 4.2] [rfc9293 SHLD-31]
    /// [rfc9293 MAY-13]
    fn keep(&mut self, arrival: &mut Arrival<'_>, payload: Buffer, length: u32) -> Step {
        let reassembly = self.receive.reassembly.get_or_insert_default();
        if reassembly.insert(arrival.sequence, payload) {
            if arrival.fin {
                reassembly.end_at(arrival.sequence + length);
            }
        } else {
            // The peer still has it, and will send it again. [rfc2018 8]
            self.shared.count(Counter::ReassemblyFull);
        }
        self.marks.insert(Marks::ACKNOWLEDGE);
        DROP
    }

    /// What came with a SYN-ACK, after the steps that it has passed otherwise.
    pub(super) fn process_first_text(&mut self, arrival: &mut Arrival<'_>) -> Step {
        let room = self.receive.window() as usize;
        if arrival.payload.len() > room {
            arrival.payload.truncate(room);
            arrival.fin = false;
        }
        self.process_text(arrival)?;
        self.process_fin(arrival)
    }

    /// Step 8: the FIN, in its turn.
    pub(super) fn process_fin(&mut self, arrival: &Arrival<'_>) -> Step {
        if !arrival.fin || !self.state.may_receive() {
            return PASS;
        }
        if arrival.sequence != self.receive.next {
            // A FIN alone, before its turn.
            self.receive.reassembly.get_or_insert_default().end_at(arrival.sequence);
            self.marks.insert(Marks::ACKNOWLEDGE);
            return PASS;
        }
        self.receive.next += 1;
        self.receive.edge = self.receive.edge.latest(self.receive.next);
        self.receive.reassembly = None;
        self.marks.insert(Marks::ACKNOWLEDGE);
        self.events |= Events::PEER_CLOSED | Events::READABLE;
        match self.state.on_peer_fin() {
            State::TimeWait => {
                self.enter_time_wait(arrival.now);
                // [rfc9293 3.10.7.4]: the FIN is acknowledged still.
                self.marks.insert(Marks::ACKNOWLEDGE);
            }
            next => self.state = next,
        }
        PASS
    }

    /// Data have come in their turn: their acknowledgment may wait for something to travel with, but not for long,
    /// and not for more than one full segment. [rfc9293 SHLD-18] [rfc9293 SHLD-19] [rfc9293 MUST-40]
    /// [rfc1122 4.2.3.2] [rfc5681 4.2]
    #[inline]
    pub(super) fn acknowledge_later(&mut self, now: Instant, length: u32, pushed: bool) {
        if length > u32::from(self.receive.segment) {
            self.receive.segment = length.min(u32::from(u16::MAX)) as u16;
        }
        self.receive.pushed |= pushed;
        if self.receive.take_quick() || self.receive.unacknowledged() > u32::from(self.receive.segment) {
            self.marks.insert(Marks::ACKNOWLEDGE);
        } else if self.timers.acknowledge == Instant::MAX {
            self.timers.acknowledge = now.saturating_add(self.shared.config().acknowledgment_delay);
        }
    }

    /// Data that are here already have come again. [rfc2883 4]
    #[cold]
    pub(super) fn note_known(&mut self, left: SequenceNumber, right: SequenceNumber) {
        self.marks.insert(Marks::ACKNOWLEDGE);
        if self.marks.contains(Marks::SACK) && right.is_after(left) {
            self.receive.reassembly.get_or_insert_default().note_duplicate(left, right);
        }
    }

    /// A router met congestion: the peer is told until it says that it has heard, or exactly as it comes.
    /// [rfc3168 6.1.3] [rfc8257 3.2]
    pub(super) fn note_congestion(&mut self, arrival: &Arrival<'_>) {
        if !self.marks.contains(Marks::ECN) {
            return;
        }
        let met = arrival.ecn == Ecn::Congestion;
        if self.marks.contains(Marks::ECN_EXACT) {
            let carries = !arrival.payload.is_empty();
            if carries && met != self.marks.contains(Marks::ECN_ECHO) {
                self.acknowledge_before_change(!met);
                self.marks.set(Marks::ECN_ECHO, met);
                self.marks.insert(Marks::ACKNOWLEDGE);
            }
            return;
        }
        if arrival.flags().contains(Flags::CWR) {
            self.marks.remove(Marks::ECN_ECHO);
        }
        if met {
            self.marks.insert(Marks::ECN_ECHO);
            self.marks.insert(Marks::ACKNOWLEDGE);
        }
    }

    /// What waits for its acknowledgment has met congestion, or not: other than what comes now. [rfc8257 3.2]
    #[cold]
    fn acknowledge_before_change(&mut self, echo: bool) {
        /// More than come in a burst, or the peer changes its marks to make us work.
        const MOST: usize = 32;
        if self.receive.unacknowledged() > 0 && self.rare().earlier.len() < MOST {
            let acknowledgment = self.receive.next;
            self.rare().earlier.push_back(Earlier { acknowledgment, echo });
            self.marks.insert(Marks::EARLIER);
        }
    }

    /// Whether the connection has failed, and why, as the next call will be told.
    pub fn error(&self) -> Option<Error> {
        self.error
    }
}
