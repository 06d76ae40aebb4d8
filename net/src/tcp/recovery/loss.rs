//! What is lost: by time (RACK, RFC 8985) if the peer sends SACK, else by duplicate acknowledgments (RFC 5681, 6582).

use demikernel_runtime::time::Instant;

use super::nanos;
use super::records::{Delivery, Marks, Record};
use super::{RateSample, Recovery, Signals, flag};
use crate::wire::tcp::SequenceNumber;

/// Segments that have overtaken another before it is lost rather than late.
pub(crate) const DUPLICATES: u32 = 3;

/// Recoveries for which a wider reordering window is kept [rfc8985 6.2-persist].
const PERSISTENCE: u8 = 16;

impl Recovery {
    /// Learns from what has arrived which transmission is the newest that did, and whether the path reorders
    /// [rfc8985 6.2-update].
    pub(super) fn update_rack(&mut self, now: Instant, delivery: &Delivery) {
        if let Some(lowest) = delivery.lowest_original
            && lowest.is_before(self.scoreboard.rack.highest)
        {
            // [rfc8985 6.2-reordering] It was sent once, and arrived after what was sent later.
            self.flags |= flag::REORDERED;
        }
        if let Some(highest) = delivery.highest_original {
            self.scoreboard.rack.highest = self.scoreboard.rack.highest.latest(highest);
        }
        let Some(newest) = delivery.newest else { return };
        let rtt = nanos(newest.sent, now);
        // [rfc8985 6.2-spurious] It cannot be the retransmission that has arrived so soon.
        if newest.marks.has(Marks::RETRANSMITTED) && rtt < self.rtt.least() {
            return;
        }
        if newest.is_sent_after(self.scoreboard.rack.sent, self.scoreboard.rack.end) {
            self.scoreboard.rack.sent = newest.sent;
            self.scoreboard.rack.end = newest.end();
            self.scoreboard.rack.rtt = rtt;
        }
    }

    /// Marks what is lost. Returns the octets that were not before.
    pub(super) fn detect_losses(&mut self, now: Instant) -> u32 {
        self.flags &= !flag::REORDER_TIMER;
        if self.flags & flag::SACK == 0 || self.scoreboard.rack.sent == Instant::from_nanos(0) {
            return 0;
        }
        let allowed = self.scoreboard.rack.rtt + self.reordering_window();
        let (originals, first) = self.detect_old_originals(now, allowed);
        let (resent, second) = self.detect_old_resent(now, allowed);
        let earliest = match (first, second) {
            (Some(first), Some(second)) => Some(first.min(second)),
            (first, second) => first.or(second),
        };
        if let Some(at) = earliest {
            self.cold().reorder_at = at;
            self.flags |= flag::REORDER_TIMER;
        }
        let lost = originals + resent;
        if lost > 0 {
            self.scoreboard.seek_lost();
        }
        lost
    }

    /// Those sent once were sent in order: the first that is not old enough ends the search, and there the next one
    /// begins.
    fn detect_old_originals(&mut self, now: Instant, allowed: u64) -> (u32, Option<Instant>) {
        let mut lost = 0;
        let mut index = self.scoreboard.find(self.scoreboard.aged_to);
        while let Some(record) = self.scoreboard.get(index).copied() {
            let open = !record.marks.has(Marks::SACKED)
                && !record.marks.has(Marks::LOST)
                && !record.marks.has(Marks::RETRANSMITTED);
            if open {
                match self.age(&record, now, allowed) {
                    Age::Overtaking => break,
                    Age::Young(until) => return (lost, Some(until)),
                    Age::Old => lost += self.scoreboard.lose(index),
                }
            }
            self.scoreboard.aged_to = record.end();
            index += 1;
        }
        (lost, None)
    }

    /// Those sent again stand in a queue in the order in which they were.
    fn detect_old_resent(&mut self, now: Instant, allowed: u64) -> (u32, Option<Instant>) {
        let mut lost = 0;
        while let Some(&(start, end, sent)) = self.cold.as_ref().and_then(|cold| cold.resent.front()) {
            let mut index = self.scoreboard.find(start.latest(self.scoreboard.unacknowledged));
            let mut young = None;
            while let Some(record) = self.scoreboard.get(index).copied() {
                if record.start.is_at_or_after(end) {
                    break;
                }
                if is_in_flight_since(&record, sent) {
                    match self.age(&record, now, allowed) {
                        Age::Overtaking => return (lost, None),
                        Age::Young(until) => young = Some(until),
                        Age::Old => lost += self.scoreboard.lose(index),
                    }
                }
                index += 1;
            }
            if young.is_some() {
                return (lost, young);
            }
            if let Some(cold) = &mut self.cold {
                cold.resent.pop_front();
            }
        }
        (lost, None)
    }

    /// [rfc8985 6.2-detect]
    fn age(&self, record: &Record, now: Instant, allowed: u64) -> Age {
        if !is_after(self.scoreboard.rack.sent, self.scoreboard.rack.end, record) {
            return Age::Overtaking;
        }
        let until = Instant::from_nanos(record.sent.as_nanos().saturating_add(allowed));
        if until <= now { Age::Old } else { Age::Young(until) }
    }

    /// How much later than what it was sent before something may arrive; nanoseconds [rfc8985 6.2-window].
    fn reordering_window(&self) -> u64 {
        if self.flags & flag::REORDERED == 0 && (self.state.is_repairing() || self.has_overtaken()) {
            return 0;
        }
        let steps = self.cold.as_ref().map_or(1, |cold| u64::from(cold.reordering_steps));
        let window = self.rtt.least() / 4 * steps;
        window.min(self.rtt.smoothed().unwrap_or(window))
    }

    /// Whether as many segments have overtaken others as the classic threshold wants [rfc6675 5-threshold].
    ///
    /// Asked only until it is true once, as recovery begins then: so the search costs nothing to speak of.
    fn has_overtaken(&self) -> bool {
        let segment = self.window.segment;
        if self.scoreboard.sacked >= DUPLICATES * segment {
            return true;
        }
        let mut index = self.scoreboard.find(self.scoreboard.unacknowledged);
        let mut segments = 0;
        while let Some(record) = self.scoreboard.get(index) {
            if record.marks.has(Marks::SACKED) {
                segments += record.length.div_ceil(segment);
                if segments >= DUPLICATES {
                    return true;
                }
            }
            index += 1;
        }
        false
    }

    /// The peer has seen something twice: a retransmission was for nothing, so wait longer for what is late
    /// [rfc8985 6.2-dsack], once in a round trip.
    pub(super) fn widen_reordering_window(&mut self) {
        let (next, outstanding) = (self.scoreboard.next, self.scoreboard.outstanding());
        let now_at = self.scoreboard.unacknowledged;
        let cold = self.cold();
        if cold.dsack_round.is_some_and(|end| end.is_within(now_at + 1, outstanding)) {
            return;
        }
        cold.dsack_round = Some(next);
        cold.reordering_steps = cold.reordering_steps.saturating_add(1);
        cold.reordering_persists = PERSISTENCE;
    }

    /// A recovery has ended.
    pub(super) fn age_reordering_window(&mut self) {
        let Some(cold) = &mut self.cold else { return };
        cold.reordering_persists = cold.reordering_persists.saturating_sub(1);
        if cold.reordering_persists == 0 {
            cold.reordering_steps = 1;
        }
    }

    /// The reordering timer has expired.
    pub(super) fn on_reorder_timer(&mut self, now: Instant) {
        let in_flight = self.in_flight();
        let lost = self.detect_losses(now);
        if lost > 0 {
            self.enter_recovery_if_lost();
            self.reduce_proportionally(0, 0, lost);
            let signals = Signals { ece: false, opens: false };
            self.control(now, 0, lost, in_flight, 0, RateSample::default(), signals);
        }
    }
}

enum Age {
    /// It was sent after the newest that has arrived: nothing can be said.
    Overtaking,
    Young(Instant),
    Old,
}

fn is_after(sent: Instant, end: SequenceNumber, record: &Record) -> bool {
    sent > record.sent || (sent == record.sent && end.is_after(record.end()))
}

fn is_in_flight_since(record: &Record, sent: Instant) -> bool {
    record.sent == sent && !record.marks.has(Marks::SACKED) && !record.marks.has(Marks::LOST)
}
