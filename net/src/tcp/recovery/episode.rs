//! The states in which the window is reduced: how they begin, how much they let go, how they end or are undone.

use std::collections::VecDeque;

use demikernel_runtime::time::Instant;

use super::records::{Delivery, Marks};
use super::{Ack, CongestionState, Recovery, Sent, flag, nanos};
use crate::tcp::congestion::Congestion;
use crate::wire::tcp::{SackBlock, SequenceNumber};

/// By how much a timestamp's clock may be off: a tick of the slowest that is usual.
pub(super) const TIMESTAMP_TICK: u64 = 1_000_000;

/// What exists only since something was out of the ordinary.
#[derive(Debug)]
pub(super) struct Cold {
    /// The state ends when this is acknowledged.
    pub(super) recovery_point: SequenceNumber,
    /// Proportional rate reduction (RFC 6937): prr_delivered, prr_out, RecoverFS.
    prr_delivered: u32,
    prr_out: u32,
    recover_flight: u32,
    undo: Option<Undo>,
    /// When the first was sent again of what is on the scoreboard, or was on it with such.
    resent_at: Instant,
    /// What was sent again and when, in that order: start, end, time.
    pub(super) resent: VecDeque<(SequenceNumber, SequenceNumber, Instant)>,
    /// What of the latest blocks has been marked already.
    pub(super) blocks: [SackBlock; 4],
    /// Octets presumed to have arrived because of duplicate acknowledgments without SACK.
    pub(super) presumed: u32,
    pub(super) duplicates: u32,
    pub(super) probe_end: SequenceNumber,
    /// The probe was a retransmission.
    pub(super) probe_again: bool,
    pub(super) reorder_at: Instant,
    /// RACK.reo_wnd_mult, RACK.reo_wnd_persist, RACK.dsack_round
    pub(super) reordering_steps: u8,
    pub(super) reordering_persists: u8,
    pub(super) dsack_round: Option<SequenceNumber>,
    forward: Forward,
    /// From where to where a probe of the path's MTU goes.
    pub(super) path_probe: Option<(SequenceNumber, SequenceNumber)>,
}

/// How the window was before it was reduced, and what tells that it need not have been.
#[derive(Clone, Copy, Debug)]
struct Undo {
    from: SequenceNumber,
    congestion: u32,
    threshold: u32,
    /// Octets sent again of which the peer has not said that it had them already.
    needed: u32,
    /// Something was sent again since.
    begun: bool,
}

/// F-RTO (RFC 5682).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Forward {
    Idle,
    /// The head was sent again.
    First,
    /// The head was acknowledged: new data tell whether the rest is lost.
    Second,
}

impl Cold {
    fn new(at: SequenceNumber) -> Cold {
        Cold {
            recovery_point: at,
            prr_delivered: 0,
            prr_out: 0,
            recover_flight: 1,
            undo: None,
            resent_at: Instant::MAX,
            resent: VecDeque::new(),
            blocks: [SackBlock::default(); 4],
            presumed: 0,
            duplicates: 0,
            probe_end: at,
            probe_again: false,
            reorder_at: Instant::MAX,
            reordering_steps: 1,
            reordering_persists: 0,
            dsack_round: None,
            forward: Forward::Idle,
            path_probe: None,
        }
    }
}

impl Recovery {
    pub(super) fn cold(&mut self) -> &mut Cold {
        let at = self.scoreboard.unacknowledged;
        // Nothing was repaired up to here.
        self.cold.get_or_insert_with(|| Box::new(Cold::new(at - 1)))
    }

    pub(super) fn reorder_at(&self) -> Option<Instant> {
        self.cold.as_ref().map(|cold| cold.reorder_at)
    }

    pub(super) fn presumed(&self) -> u32 {
        self.cold.as_ref().map_or(0, |cold| cold.presumed)
    }

    /// The peer says that it has met congestion marks: the window is reduced, once in a round trip
    /// [rfc3168 6.1.2].
    pub(crate) fn reduce(&mut self, now: Instant) {
        let _ = now;
        if matches!(self.state, CongestionState::Open | CongestionState::Disorder)
            && !self.controller.owns_window()
        {
            self.begin_reduction(Congestion::Mark);
            self.state = CongestionState::CongestionWindowReduced;
        }
    }

    /// Whether losses have begun a recovery now.
    pub(super) fn enter_recovery_if_lost(&mut self) -> bool {
        if self.scoreboard.lost == 0 || self.state.is_repairing() || self.spares_path_probe() {
            return false;
        }
        // A mark in the same round trip has reduced the window already.
        let fresh = self.state != CongestionState::CongestionWindowReduced;
        if fresh {
            self.remember_for_undo();
            self.begin_reduction(Congestion::Loss);
        }
        let next = self.scoreboard.next;
        // [rfc6582 3.2-recover] [rfc6675 5-recovery-point]
        self.cold().recovery_point = next;
        self.state = CongestionState::Recovery;
        fresh
    }

    /// Whether nothing is lost but a probe of the path's MTU, for the first time: it goes again in pieces, but says that the
    /// path takes no such segments, not that it is congested. [rfc8899 3-lost]
    fn spares_path_probe(&mut self) -> bool {
        let Some((start, end)) = self.cold.as_ref().and_then(|cold| cold.path_probe) else { return false };
        let probe = self.scoreboard.lost_originals(start, end);
        if probe != self.scoreboard.lost || self.state == CongestionState::CongestionWindowReduced {
            return false;
        }
        // Later duplicates, if that is all the peer sends, are of the same loss.
        let at = self.scoreboard.unacknowledged;
        self.cold().recovery_point = at;
        true
    }

    fn begin_reduction(&mut self, event: Congestion) {
        let flight = self.flight_for_reduction();
        let threshold = self.controller.on_congestion(event, &self.window, flight);
        self.window.threshold = threshold;
        let next = self.scoreboard.next;
        let cold = self.cold();
        cold.recovery_point = next;
        cold.prr_delivered = 0;
        cold.prr_out = 0;
        // [rfc6937 3-recoverfs]
        cold.recover_flight = flight.max(1);
    }

    /// What was in use of the window: limited transmit goes beyond it and does not count [rfc5681 3.1-ssthresh], nor
    /// does what the application left unused [rfc7661 4.4.1].
    fn flight_for_reduction(&self) -> u32 {
        self.most_in_flight.max(self.scoreboard.outstanding()).min(self.window.congestion)
    }

    fn remember_for_undo(&mut self) {
        let undo = Undo {
            from: self.scoreboard.unacknowledged,
            congestion: self.window.congestion,
            threshold: self.window.threshold,
            needed: self.scoreboard.retransmitted,
            begun: false,
        };
        self.cold().undo = Some(undo);
    }

    /// The retransmission timer has expired.
    pub(super) fn enter_loss(&mut self, now: Instant) {
        if self.scoreboard.get(0).is_some_and(|head| head.marks.has(Marks::SACKED)) {
            // [rfc2018 8] The head was said to have arrived, and yet is not acknowledged: the peer has dropped it.
            self.scoreboard.forget_sacked();
        }
        let fresh = self.state != CongestionState::Loss;
        if !self.state.is_repairing() {
            self.remember_for_undo();
        }
        if self.flags & flag::HANDSHAKE == 0 && (fresh || self.timeouts == 1) {
            let flight = self.flight_for_reduction();
            // [rfc5681 3.1-timeout] Once for a segment, however often it is sent.
            self.window.threshold = self.controller.on_congestion(Congestion::Timeout, &self.window, flight);
        }
        self.lose_all(now);
        let (next, head_is_original) = (self.scoreboard.next, self.scoreboard.ambiguous == 0);
        self.state = CongestionState::Loss;
        let cold = self.cold();
        cold.recovery_point = next;
        cold.presumed = 0;
        cold.duplicates = 0;
        cold.blocks = [SackBlock::default(); 4];
        // [rfc5682 2.1-1] Not if the head had been sent again before.
        cold.forward = if fresh && head_is_original { Forward::First } else { Forward::Idle };
        self.window.congestion = self.in_flight() + self.window.segment;
    }

    /// The path has dropped what is longer than the segment size that was just set: it is sent again in smaller pieces.
    /// That is no sign of congestion, so the window stays [rfc1191 6.5].
    pub(crate) fn resend_oversized(&mut self) {
        let segment = self.window.segment;
        let (mut index, mut lost) = (0, 0);
        while let Some(record) = self.scoreboard.get(index) {
            if record.length > segment {
                lost += self.scoreboard.lose(index);
            }
            index += 1;
        }
        if lost == 0 {
            return;
        }
        self.scoreboard.seek_lost();
        if self.state.is_repairing() {
            return;
        }
        let next = self.scoreboard.next;
        self.state = CongestionState::Loss;
        let cold = self.cold();
        cold.recovery_point = next;
        cold.forward = Forward::Idle;
        cold.undo = None;
    }

    /// [rfc8985 6.3] The head, and what was sent so long ago that it would have been acknowledged.
    fn lose_all(&mut self, now: Instant) {
        let by_time = self.flags & flag::SACK != 0 && self.scoreboard.rack.sent != Instant::from_nanos(0);
        let allowed = self.scoreboard.rack.rtt + self.rtt.least() / 4;
        let mut index = 0;
        while let Some(record) = self.scoreboard.get(index) {
            let old = record.sent.as_nanos().saturating_add(allowed) <= now.as_nanos();
            if index == 0 || old || !by_time {
                self.scoreboard.lose(index);
            }
            index += 1;
        }
        self.scoreboard.seek_lost();
    }

    /// Counts what leaves while the window is reduced [rfc6937 3-out].
    #[cold]
    pub(super) fn count_reduced(&mut self, length: u32) {
        let cold = self.cold();
        cold.prr_out = cold.prr_out.saturating_add(length);
    }

    /// Something was sent again.
    pub(super) fn count_resent(
        &mut self,
        now: Instant,
        start: SequenceNumber,
        length: u32,
        what: Sent,
        first: bool,
    ) {
        if self.state.is_reducing() {
            self.count_reduced(length);
        }
        let by_time = self.flags & flag::SACK != 0;
        let cold = self.cold();
        if first {
            cold.resent_at = now;
        }
        if by_time {
            cold.resent.push_back((start, start + length, now));
        }
        if what == Sent::Retransmission
            && let Some(undo) = &mut cold.undo
        {
            undo.needed = undo.needed.saturating_add(length);
            undo.begun = true;
        }
    }

    /// The peer had this already when it was sent again.
    pub(super) fn count_duplicate(&mut self, left: SequenceNumber, right: SequenceNumber) {
        let Some(cold) = &mut self.cold else { return };
        if let Some(undo) = &mut cold.undo
            && undo.begun
            && left.is_at_or_after(undo.from)
        {
            undo.needed = undo.needed.saturating_sub(right - left);
        }
    }

    /// Brings the window down to the threshold as what arrives lets go (RFC 6937).
    pub(super) fn reduce_proportionally(&mut self, delivered: u32, advanced: u32, lost: u32) {
        if !self.state.is_reducing() || self.controller.owns_window() {
            return;
        }
        let (pipe, threshold, segment) = (self.in_flight(), self.window.threshold, self.window.segment);
        let by_duplicates = self.flags & flag::SACK == 0;
        let cold = self.cold();
        // [rfc6937 3-delivered]
        cold.prr_delivered = cold.prr_delivered.saturating_add(delivered);
        let mut let_go = if pipe > threshold {
            // [rfc6937 3-proportional]
            let share = (u64::from(cold.prr_delivered) * u64::from(threshold))
                .div_ceil(u64::from(cold.recover_flight));
            (share as u32).saturating_sub(cold.prr_out)
        } else {
            // [rfc6937 3-crb] Conservation; [rfc6937 3-ssrb] slow start while the acknowledgments say that all goes well.
            let conserved = cold.prr_delivered.saturating_sub(cold.prr_out);
            let limit =
                if advanced > 0 && lost == 0 { conserved.max(delivered) + segment } else { conserved };
            limit.min(threshold - pipe)
        };
        if cold.prr_out == 0 || (by_duplicates && advanced > 0 && lost > 0) {
            // The first retransmission goes at once, and without SACK each [rfc6582 3.2-partial].
            let_go = let_go.max(segment);
        }
        self.window.congestion = pipe.saturating_add(let_go);
    }

    /// Moves between the states after an acknowledgment, whose losses are marked. Whether a reduction was undone, and
    /// whether one has begun.
    pub(super) fn settle_state(&mut self, ack: &Ack<'_>, delivery: &Delivery) -> (bool, bool) {
        if self.is_undone(ack, delivery) {
            self.undo(ack);
            return (true, false);
        }
        let passed = self
            .cold
            .as_ref()
            .is_none_or(|cold| self.scoreboard.unacknowledged.is_at_or_after(cold.recovery_point));
        match self.state {
            CongestionState::Recovery | CongestionState::CongestionWindowReduced if passed => {
                self.end_reduction()
            }
            CongestionState::Loss if passed => self.end_loss(),
            CongestionState::Loss => self.step_forward(ack, delivery),
            _ => {}
        }
        let reduced = self.enter_recovery_if_lost();
        if matches!(self.state, CongestionState::Open | CongestionState::Disorder) {
            self.settle_order();
        }
        (false, reduced)
    }

    /// Open or Disorder, whichever it is.
    fn settle_order(&mut self) {
        let disorder =
            self.scoreboard.sacked > 0 || self.cold.as_ref().is_some_and(|cold| cold.duplicates > 0);
        self.state = if disorder { CongestionState::Disorder } else { CongestionState::Open };
    }

    fn end_reduction(&mut self) {
        if !self.controller.owns_window() {
            // [rfc6937 3-end] [rfc6582 3.2-full]
            self.window.congestion = self.window.threshold;
        }
        if self.state == CongestionState::Recovery {
            self.age_reordering_window();
        }
        self.leave();
    }

    fn end_loss(&mut self) {
        self.age_reordering_window();
        self.leave();
    }

    fn leave(&mut self) {
        let cold = self.cold();
        cold.presumed = 0;
        cold.duplicates = 0;
        cold.forward = Forward::Idle;
        self.state = CongestionState::Open;
        self.settle_order();
    }

    /// Whether the reduction was for nothing: the peer had all that was sent again (RFC 3708), an echoed timestamp is
    /// of a time before anything was (RFC 3522), or what was not sent again after a timeout arrives (RFC 5682).
    fn is_undone(&self, ack: &Ack<'_>, delivery: &Delivery) -> bool {
        let Some(cold) = &self.cold else { return false };
        let Some(undo) = cold.undo else { return false };
        if !undo.begun {
            return false;
        }
        if undo.needed == 0 {
            return true;
        }
        let since = nanos(cold.resent_at, ack.now);
        let echoes_original =
            delivery.acked > 0 && ack.rtt.is_some_and(|rtt| rtt.as_nanos() as u64 > since + TIMESTAMP_TICK);
        if echoes_original && self.state.is_repairing() {
            return true;
        }
        // [rfc5682 2.1-3b] [rfc5682 3.1]
        let told = match cold.forward {
            Forward::Idle => false,
            Forward::First => self.flags & flag::SACK != 0,
            Forward::Second => {
                self.flags & flag::SACK != 0 || self.scoreboard.next.is_after(cold.recovery_point)
            }
        };
        self.state == CongestionState::Loss && told && delivery.found
    }

    fn undo(&mut self, ack: &Ack<'_>) {
        let Some(undo) = self.cold().undo.take() else { return };
        if self.state != CongestionState::Loss {
            // What was taken for lost was late.
            self.flags |= flag::REORDERED;
        }
        self.scoreboard.find_again();
        self.scoreboard.aged_to = self.scoreboard.unacknowledged;
        self.controller.undo();
        self.window.congestion = self.window.congestion.max(undo.congestion);
        self.window.threshold = self.window.threshold.max(undo.threshold);
        if undo.needed == 0 || ack.rtt.is_none() {
            // Else it may be the round trip that has become longer: timestamps will tell.
            self.rtt.forget_backoff();
        }
        self.leave();
    }

    /// [rfc5682 2.1-2]
    fn step_forward(&mut self, ack: &Ack<'_>, delivery: &Delivery) {
        let room = ack.window > self.scoreboard.outstanding();
        let before = self.cold().forward;
        let cold = self.cold();
        cold.forward = match cold.forward {
            Forward::First if delivery.acked > 0 && room => Forward::Second,
            Forward::Second if delivery.acked == 0 && (delivery.sacked > 0 || ack.duplicate) => Forward::Idle,
            Forward::Second => Forward::Second,
            _ => Forward::Idle,
        };
        if before == Forward::Second && cold.forward == Forward::Idle {
            // [rfc5682 2.1-3a] What was sent anew shall not keep what is lost from being repaired.
            self.window.congestion = self.window.congestion.max(3 * self.window.segment);
        }
    }

    /// New data go before what is to be sent again, if there are any: their acknowledgments will tell whether anything
    /// was lost [rfc5682 2.1-2b].
    pub(crate) fn prefers_new_data(&self) -> bool {
        self.state == CongestionState::Loss
            && self.cold.as_ref().is_some_and(|cold| {
                cold.forward == Forward::Second && self.scoreboard.next == cold.recovery_point
            })
    }
}
