//! Steps 1 to 4: timestamp, sequence number, RST, SYN (RFC 9293 section 3.10.7.4, RFC 7323 section 5, RFC 5961).

use std::ops::ControlFlow;

use super::{Arrival, Step};
use crate::tcp::config::Counter;
use crate::tcp::connection::{Connection, Marks};
use crate::tcp::error::Error;
use crate::tcp::state::{Origin, State};
use crate::wire::tcp::Flags;

const PASS: Step = ControlFlow::Continue(());
const DROP: Step = ControlFlow::Break(());

impl Connection {
    /// In SYN-RECEIVED the peer's SYN may come again: our answer was lost, or both sides asked at once.
    pub(super) fn check_open(&mut self, arrival: &mut Arrival<'_>) -> Step {
        let flags = arrival.flags();
        if !matches!(self.state, State::SynReceived(_))
            || !flags.contains(Flags::SYN)
            || flags.contains(Flags::RST)
            || arrival.sequence != self.receive.next - 1
        {
            return PASS;
        }
        if !flags.contains(Flags::ACK) {
            // [rfc9293 3.8.1]: the same SYN is answered again, so the peer need not wait for our timer.
            self.marks.insert(Marks::SYN);
            return DROP;
        }
        // The SYN is known; what follows it is not. [rfc9293 MUST-10]
        arrival.sequence = self.receive.next;
        arrival.syn = false;
        PASS
    }

    /// Old duplicates that sequence numbers, which have wrapped, no longer tell; resets need no timestamp.
    /// [rfc7323 5.3-R1] [rfc7323 3.2-reset]
    pub(super) fn check_timestamp(&mut self, arrival: &Arrival<'_>) -> Step {
        if !self.clock.is_on() || arrival.flags().contains(Flags::RST) {
            return PASS;
        }
        let Some(stamps) = arrival.segment.options.timestamps else {
            // [rfc7323 3.2-drop]
            self.shared.count(Counter::NoTimestamp);
            return DROP;
        };
        if !self.clock.is_old(arrival.now, stamps.value) {
            return PASS;
        }
        self.shared.count(Counter::OldTimestamp);
        self.note_duplicate(arrival);
        self.answer_unacceptable(arrival);
        DROP
    }

    /// [rfc7323 4.3-2], [rfc7323 5.3-R3]: only a segment that covers the last acknowledgment, so that a delayed
    /// acknowledgment echoes the earliest.
    pub(super) fn note_timestamp(&mut self, arrival: &Arrival<'_>) {
        if let Some(stamps) = arrival.segment.options.timestamps
            && self.clock.is_on()
            && arrival.segment.sequence.is_at_or_before(self.receive.acknowledged)
            && !self.clock.is_old(arrival.now, stamps.value)
        {
            self.clock.set_recent(arrival.now, stamps.value);
        }
    }

    /// Step 1: what lies in the window passes, the rest is cut off. [rfc9293 3.10.7.4]
    pub(super) fn check_sequence(&mut self, arrival: &mut Arrival<'_>) -> Step {
        if arrival.syn {
            // Whatever its number is. [rfc5961 4.2]
            return PASS;
        }
        let window = self.receive.window();
        let next = self.receive.next;
        let length = arrival.length();
        let begins_inside = arrival.sequence.is_within(next, window);
        let ends_inside = length > 0 && (arrival.sequence + (length - 1)).is_within(next, window);
        let acceptable = match (length, window) {
            (0, 0) => arrival.sequence == next,
            (0, _) => begins_inside || arrival.sequence == next + window,
            (_, 0) => false,
            _ => begins_inside || ends_inside,
        };
        if !acceptable {
            return self.handle_unacceptable(arrival);
        }
        if arrival.sequence.is_before(next) {
            // The beginning is known already. [rfc2883 4.1]
            let known = next - arrival.sequence;
            self.note_known(arrival.sequence, next);
            arrival.payload.advance((known as usize).min(arrival.payload.len()));
            arrival.sequence = next;
        }
        let beyond = arrival.end().distance_from(next + window);
        if beyond > 0 {
            // The end does not fit: it will come again, when the peer knows of room.
            self.marks.insert(Marks::ACKNOWLEDGE);
            arrival.fin = false;
            let room = (next + window).distance_from(arrival.sequence).max(0) as usize;
            arrival.payload.truncate(room);
        }
        PASS
    }

    #[cold]
    fn handle_unacceptable(&mut self, arrival: &mut Arrival<'_>) -> Step {
        let flags = arrival.flags();
        if flags.contains(Flags::RST) {
            // Old, or a guess; but a reset in its place counts even if the window is shut. [rfc9293 MUST-66]
            return if arrival.sequence == self.receive.next { PASS } else { DROP };
        }
        if self.receive.window() == 0 && arrival.sequence == self.receive.next {
            // A probe of the shut window: its data are not taken, its acknowledgment is. [rfc9293 MUST-66]
            self.marks.insert(Marks::ACKNOWLEDGE);
            // A FIN alone takes no room.
            arrival.fin &= arrival.payload.is_empty();
            arrival.payload.clear();
            return PASS;
        }
        if self.acknowledges_beside(arrival) {
            self.answer_unacceptable(arrival);
            return PASS;
        }
        self.shared.count(Counter::OutOfWindow);
        self.note_duplicate(arrival);
        self.answer_unacceptable(arrival);
        DROP
    }

    /// Both sides may have probed the other's window at once, and both octets been taken, of which neither knows: then
    /// each acknowledges with a number that the other has passed. Were these dropped, both would wait for ever.
    /// [rfc9293 3.10.7.4]
    fn acknowledges_beside(&self, arrival: &Arrival<'_>) -> bool {
        let segment = arrival.segment;
        arrival.length() == 0
            && segment.flags.contains(Flags::ACK)
            && arrival.sequence == self.receive.next - 1
            && segment.acknowledgment.is_after(self.send.unacknowledged)
    }

    /// An acknowledgment, which may resolve what is wrong. What carries nothing is answered twice a second at most,
    /// lest two sides answer each other for ever (as Linux). [rfc9293 3.10.7.4]
    fn answer_unacceptable(&mut self, arrival: &Arrival<'_>) {
        let half_second = (arrival.now.as_nanos() / 500_000_000) as u16;
        if arrival.length() == 0 {
            if self.receive.answered == half_second {
                return;
            }
            self.receive.answered = half_second;
        }
        self.marks.insert(Marks::ACKNOWLEDGE);
    }

    /// All of the payload is known already. [rfc2883 4]
    fn note_duplicate(&mut self, arrival: &Arrival<'_>) {
        if !arrival.payload.is_empty() && arrival.end().is_at_or_before(self.receive.next) {
            self.shared.count(Counter::Duplicate);
            self.note_known(arrival.sequence, arrival.sequence + arrival.payload.len() as u32);
        }
    }

    /// Step 2, whatever data come with it [rfc9293 SHLD-2]: only a reset with exactly the next number counts; one that is merely in the window is asked about.
    /// [rfc5961 3.2]
    pub(super) fn check_reset(&mut self, arrival: &Arrival<'_>) -> Step {
        if !arrival.flags().contains(Flags::RST) {
            return PASS;
        }
        if arrival.segment.sequence != self.receive.next {
            self.shared.count(Counter::SuspiciousReset);
            self.challenge(arrival.now);
            return DROP;
        }
        match self.state {
            // The listener goes on as if nothing had been. [rfc9293 3.10.7.4]
            State::SynReceived(Origin::Passive) => self.close_now(),
            State::SynReceived(Origin::Active) => self.fail(Error::Refused),
            // Nobody waits for anything.
            State::Closing | State::LastAck => self.close_now(),
            State::CloseWait => self.fail(Error::BrokenPipe),
            _ => self.fail(Error::Reset),
        }
        DROP
    }

    /// Step 4: a SYN within a connection is a guess, or the peer has begun anew; the answer finds out.
    /// [rfc5961 4.2]
    pub(super) fn check_syn(&mut self, arrival: &Arrival<'_>) -> Step {
        if !arrival.syn {
            return PASS;
        }
        if arrival.flags().contains(Flags::ACK) && arrival.sequence == self.receive.next - 1 {
            // The answer to our SYN again, for ours to it was lost: nothing strange, and nobody can guess it.
            self.marks.insert(Marks::ACKNOWLEDGE);
            return DROP;
        }
        self.shared.count(Counter::UnexpectedSyn);
        let inside = arrival.sequence.is_within(self.receive.next, self.receive.window());
        if self.state == State::SynReceived(Origin::Passive) && inside {
            self.close_now();
        } else {
            self.challenge(arrival.now);
        }
        DROP
    }
}
