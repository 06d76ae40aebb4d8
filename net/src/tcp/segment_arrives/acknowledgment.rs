//! Step 5: the ACK bit (RFC 9293 section 3.10.7.4).

use std::ops::ControlFlow;

use demikernel_runtime::time::Instant;

use super::{Arrival, Step};
use crate::tcp::config::Counter;
use crate::tcp::connection::{Connection, Events, Marks};
use crate::tcp::recovery::{Ack, Sent};
use crate::tcp::state::State;
use crate::wire::plain::Plain;
use crate::wire::tcp::{Flags, Segment, SequenceNumber};

const PASS: Step = ControlFlow::Continue(());
const DROP: Step = ControlFlow::Break(());

impl Connection {
    pub(super) fn check_acknowledgment(&mut self, arrival: &Arrival<'_>) -> Step {
        let segment = arrival.segment;
        if !segment.flags.contains(Flags::ACK) {
            self.shared.count(Counter::NoAcknowledgment);
            return DROP;
        }
        if self.marks.contains(Marks::WINDOW_PROBED) {
            self.note_probe_answered(segment);
        }
        if matches!(self.state, State::SynReceived(_)) {
            self.open(arrival)?;
        }
        if segment.acknowledgment.is_after(self.send.next) {
            // What was never sent. [rfc9293 3.10.7.4]
            self.shared.count(Counter::WrongAcknowledgment);
            self.challenge(arrival.now);
            return DROP;
        }
        if segment.acknowledgment.is_before(self.send.unacknowledged) {
            return self.check_old(arrival);
        }
        let changes_window = self.take_window(segment);
        let in_flight = self.send.next != self.send.unacknowledged;
        // [rfc5681 2]: what makes an acknowledgment a duplicate.
        let duplicate = in_flight
            && segment.acknowledgment == self.send.unacknowledged
            && arrival.length() == 0
            && !segment.flags.contains(Flags::SYN)
            && !changes_window;
        self.send.probes = 0;
        if segment.acknowledgment != self.send.unacknowledged {
            self.advance(arrival.now, segment);
        } else if in_flight && (duplicate || !segment.options.sack.is_empty() || self.takes_echo(segment)) {
            // Else it says nothing of what is under way, as data that cross ours do.
            self.note_repeated(arrival.now, segment, duplicate);
        }
        self.note_fin_acknowledged(arrival.now);
        if self.state == State::Closed { DROP } else { PASS }
    }

    /// Our SYN is acknowledged, or it is not ours. [rfc9293 3.10.7.4]
    fn open(&mut self, arrival: &Arrival<'_>) -> Step {
        let segment = arrival.segment;
        if segment.acknowledgment != self.send.next {
            self.shared.count(Counter::WrongAcknowledgment);
            self.answer_with_reset(segment);
            return DROP;
        }
        self.become_established();
        if self.marks.contains(Marks::FIN) {
            // The user has closed meanwhile.
            self.state = self.state.on_close();
        }
        self.begin_window(segment);
        PASS
    }

    /// The peer has our SYN. One that was to go once more, as that was not known, would have the number of the first octet,
    /// and push all others behind it; what it would have told of the peer's SYN an acknowledgment does.
    pub(super) fn become_established(&mut self) {
        self.state = self.state.on_open();
        if self.marks.take(Marks::SYN) {
            self.marks.insert(Marks::ACKNOWLEDGE);
        }
        self.events |= Events::CONNECTED | Events::WRITABLE;
    }

    /// An acknowledgment that was overtaken is no harm; one from long ago is a guess. [rfc5961 5.2] [rfc9293 MAY-12]
    #[cold]
    fn check_old(&mut self, arrival: &Arrival<'_>) -> Step {
        let age = self.send.unacknowledged - arrival.segment.acknowledgment;
        if age > self.send.window_most {
            self.shared.count(Counter::WrongAcknowledgment);
            self.challenge(arrival.now);
            return DROP;
        }
        PASS
    }

    /// The peer has taken the octet of a window probe: it is sent and known from then on. What else comes, as the answer to
    /// an earlier probe, does not say that it has not.
    #[cold]
    fn note_probe_answered(&mut self, segment: &Segment) {
        let next = self.send.next;
        let Some((sequence, sent)) = self.rare().probed.filter(|probed| probed.0 == next) else {
            // Sent since as any other.
            return self.marks.remove(Marks::WINDOW_PROBED);
        };
        if segment.acknowledgment == sequence + 1 {
            self.recovery.on_sent(sent, sequence, 1, Sent::New, true);
            self.send.next += 1;
            self.marks.remove(Marks::WINDOW_PROBED);
        }
    }

    /// SND.WND, unless the segment is older than the one that set it; whether it changes. [rfc9293 3.10.7.4]
    pub(super) fn take_window(&mut self, segment: &Segment) -> bool {
        if segment.sequence.is_before(self.send.window_sequence) {
            return false;
        }
        self.send.window_sequence = segment.sequence;
        let before = self.send.window;
        self.set_window(segment);
        before != self.send.window
    }

    /// The window of the segment that opens the connection, whatever came before.
    pub(super) fn begin_window(&mut self, segment: &Segment) {
        self.send.window_sequence = segment.sequence;
        self.set_window(segment);
    }

    /// [rfc7323 2.3-shift]: the window of a SYN is not shifted. [rfc9293 MUST-1] [rfc9293 REC-1]
    fn set_window(&mut self, segment: &Segment) {
        let shift = if segment.flags.contains(Flags::SYN) { 0 } else { self.send.shift };
        let before = std::mem::replace(&mut self.send.window, u32::from(segment.window) << shift);
        self.send.window_most = self.send.window_most.max(self.send.window);
        // Only what waited for a shut window to open has waited enough: what is held back for being small has its own
        // time, which windows that merely change do not prolong.
        let opens = before == 0 && self.send.window > 0;
        if opens && self.timers.state != Instant::MAX && self.state.may_transmit() {
            self.end_persist();
        }
    }

    /// SND.UNA moves, as nothing but the acknowledgment of a plain segment says.
    #[inline(always)]
    pub(super) fn advance_plainly(&mut self, now: Instant, plain: &Plain) {
        if self.recovery.on_plain_ack(now, plain.acknowledgment) {
            self.settle_acknowledged(now, plain.acknowledgment);
        } else {
            self.advance(now, &plain.segment(self.remote, self.local));
        }
    }

    /// SND.UNA moves.
    #[cold]
    pub(super) fn advance(&mut self, now: Instant, segment: &Segment) {
        let acknowledgment = segment.acknowledgment;
        let ece = self.takes_echo(segment);
        let rtt = segment.options.timestamps.and_then(|stamps| self.clock.since(now, stamps.echo));
        let acked = self.recovery.on_ack(&Ack {
            now,
            acknowledgment,
            sack: &segment.options.sack,
            rtt,
            ece,
            duplicate: false,
            window: self.send.window,
        });
        if acked.reduced {
            self.marks.insert(Marks::ECN_REDUCED);
        }
        self.settle_acknowledged(now, acknowledgment);
    }

    /// What is acknowledged is gone for good.
    #[inline(always)]
    fn settle_acknowledged(&mut self, now: Instant, acknowledgment: SequenceNumber) {
        self.send.unacknowledged = acknowledgment;
        self.send.queue.acknowledge(acknowledgment.earliest(self.send.queue.end()));
        self.note_progress(now);
        if self.mtu.on_acknowledged(acknowledgment) {
            self.set_segment_size();
        }
        self.note_room();
    }

    /// Nothing new is acknowledged while something is under way: it may say what is lost.
    #[cold]
    fn note_repeated(&mut self, now: Instant, segment: &Segment, duplicate: bool) {
        let ece = self.takes_echo(segment);
        let acked = self.recovery.on_ack(&Ack {
            now,
            acknowledgment: segment.acknowledgment,
            sack: &segment.options.sack,
            rtt: None,
            ece,
            duplicate,
            window: self.send.window,
        });
        if acked.reduced {
            self.marks.insert(Marks::ECN_REDUCED);
        }
    }

    /// Whether the peer reports congestion. Once it was heeded, new data say so. [rfc3168 6.1.2]
    #[inline]
    fn takes_echo(&self, segment: &Segment) -> bool {
        self.marks.contains(Marks::ECN)
            && segment.flags.contains(Flags::ECE)
            && !segment.flags.contains(Flags::SYN)
    }

    /// All that we sent, with the FIN, is acknowledged.
    fn note_fin_acknowledged(&mut self, now: Instant) {
        if !self.marks.contains(Marks::FIN_SENT) || self.send.unacknowledged != self.send.next {
            return;
        }
        match self.state.on_fin_acknowledged() {
            State::TimeWait => self.enter_time_wait(now),
            State::Closed => self.close_now(),
            State::FinWait2 if self.state != State::FinWait2 => {
                self.state = State::FinWait2;
                if self.marks.contains(Marks::ORPHAN) {
                    self.timers.state = now.saturating_add(self.shared.config().fin_wait);
                }
            }
            _ => {}
        }
    }
}
