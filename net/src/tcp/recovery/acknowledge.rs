//! What an acknowledgment delivers that is not the ordinary one.

use demikernel_runtime::time::Duration;

use super::episode::TIMESTAMP_TICK;
use super::loss::DUPLICATES;
use super::records::Delivery;
use super::{Ack, Acked, CongestionState, RateSample, Recovery, Signals, flag, nanos};
use crate::tcp::congestion::Window;
use crate::wire::tcp::{SackBlock, SequenceNumber};

impl Recovery {
    /// Treats an acknowledgment in all its aspects.
    #[cold]
    pub(super) fn on_extraordinary_ack(&mut self, ack: &Ack<'_>) -> Acked {
        let (now, was_in_flight) = (ack.now, self.in_flight());
        let handshake = self.flags & flag::HANDSHAKE != 0;
        let was_reducing = self.state.is_reducing();
        let mut delivery = Delivery::default();
        let dsack = self.mark_blocks(ack, &mut delivery);
        let advanced = self.advance(ack, &mut delivery);
        let rtt = self.sample_rtt(ack, &delivery);
        let rate = match &delivery.newest {
            // The handshake fills no path: its rate says nothing.
            Some(_) if handshake => {
                self.scoreboard.epoch.restart(now);
                RateSample::default()
            }
            Some(newest) => {
                let least = self.rtt.least();
                let epoch = &mut self.scoreboard.epoch;
                self.rate.on_delivered(now, delivery.delivered, newest, least, epoch)
            }
            None => RateSample::default(),
        };
        self.update_rack(now, &delivery);
        let probe_repaired = self.settle_probe(ack, &delivery, dsack);
        let presumed = self.count_duplicates(ack, &delivery);
        if advanced || delivery.sacked > 0 {
            self.active_at = now;
        }
        let lost = self.detect_losses(now) + self.detect_by_duplicates(&delivery);
        let (undone, entered) = self.settle_state(ack, &delivery);
        let marked = ack.ece && self.on_mark(now);
        let arrived = (delivery.delivered + presumed.0).saturating_sub(presumed.1);
        self.reduce_proportionally(arrived, delivery.acked, lost);
        if !handshake {
            // [rfc5681 3.2-limited] Neither duplicates open the window, nor what ends a reduction.
            let opens = self.state != CongestionState::Disorder && !was_reducing && !undone;
            let signals = Signals { ece: ack.ece, opens };
            self.control(now, delivery.delivered, lost, was_in_flight, rtt.1, rate, signals);
        }
        Acked {
            octets: delivery.acked,
            sacked: delivery.sacked,
            lost,
            rtt: rtt.0,
            undone,
            reduced: entered || marked || probe_repaired,
        }
    }

    /// [rfc3168 6.1.2] Whether the window begins to be reduced.
    fn on_mark(&mut self, now: demikernel_runtime::time::Instant) -> bool {
        let before = self.state;
        self.reduce(now);
        self.state != before
    }

    /// Marks what the blocks say. Whether the first one says that something arrived twice (RFC 2883): then its end.
    fn mark_blocks(&mut self, ack: &Ack<'_>, delivery: &mut Delivery) -> Option<SequenceNumber> {
        if ack.sack.is_empty() || self.flags & flag::SACK == 0 {
            return None;
        }
        let dsack = find_dsack(ack);
        let blocks = if dsack.is_some() { &ack.sack[1..] } else { ack.sack };
        if let Some(block) = dsack {
            self.widen_reordering_window();
            self.count_duplicate(block.left, block.right);
        }
        let (floor, ceiling) =
            (ack.acknowledgment.latest(self.scoreboard.unacknowledged), self.scoreboard.next);
        let segment = self.window.segment;
        // Blocks of an earlier episode may be of another turn of the sequence space.
        let known = self.cold.as_ref().filter(|_| self.scoreboard.sacked > 0);
        let seen = known.map_or([SackBlock::default(); 4], |cold| cold.blocks);
        let mut kept = [SackBlock::default(); 4];
        for (block, keep) in blocks.iter().zip(&mut kept) {
            // What cannot be is left aside: of data not sent, or acknowledged already [rfc2018 5].
            if !block.left.is_before(block.right)
                || block.left.is_before(floor)
                || block.right.is_after(ceiling)
                || block.left.is_after(ceiling)
            {
                continue;
            }
            *keep = self.mark_block(*block, &seen, segment, delivery);
        }
        self.cold().blocks = kept;
        dsack.map(|block| block.right)
    }

    /// Marks what is new in a block since the last acknowledgment: blocks grow, and are repeated.
    fn mark_block(
        &mut self,
        block: SackBlock,
        seen: &[SackBlock; 4],
        segment: u32,
        delivery: &mut Delivery,
    ) -> SackBlock {
        let known = seen.iter().find(|known| {
            known.left != known.right
                && known.left.is_at_or_after(block.left)
                && known.right.is_at_or_before(block.right)
        });
        let Some(known) = known.copied() else {
            let marked = self.scoreboard.sack(block.left, block.right, segment, delivery);
            return marked.map_or(SackBlock::default(), |(left, right)| SackBlock { left, right });
        };
        let mut marked = known;
        if block.left.is_before(known.left)
            && let Some((left, right)) = self.scoreboard.sack(block.left, known.left, segment, delivery)
            && right == known.left
        {
            marked.left = left;
        }
        if block.right.is_after(known.right)
            && let Some((left, right)) = self.scoreboard.sack(known.right, block.right, segment, delivery)
            && left == known.right
        {
            marked.right = right;
        }
        marked
    }

    /// Takes away what is cumulatively acknowledged. Whether anything is.
    fn advance(&mut self, ack: &Ack<'_>, delivery: &mut Delivery) -> bool {
        let to = ack.acknowledgment;
        let outstanding = self.scoreboard.outstanding();
        let octets = to - self.scoreboard.unacknowledged;
        if octets == 0 || octets > outstanding {
            return false;
        }
        self.scoreboard.acknowledge(to, delivery);
        self.scoreboard.seek_lost();
        if self.flags & flag::HANDSHAKE != 0 {
            self.end_handshake();
        }
        self.timeouts = 0;
        // [rfc6298 5.3]
        self.scoreboard.timeout_from = ack.now;
        true
    }

    fn end_handshake(&mut self) {
        self.flags &= !flag::HANDSHAKE;
        if self.timeouts == 0 {
            return;
        }
        // [rfc6928 2-loss] One lost SYN is forgiven, as they are lost to more than congestion.
        let segments = if self.timeouts > 1 { 1 } else { u32::from(self.initial_window) };
        self.window = Window::new(segments, self.window.segment);
        self.rtt.on_syn_lost();
        self.state = CongestionState::Open;
        self.cold = None;
    }

    /// The round trip for the timeout, and the latest one in nanoseconds, or zero.
    fn sample_rtt(&mut self, ack: &Ack<'_>, delivery: &Delivery) -> (Option<Duration>, u64) {
        if delivery.retransmitted_at.is_none()
            && let (Some(oldest), Some(newest)) = (delivery.oldest_sent, &delivery.newest)
        {
            let latest = nanos(newest.sent, ack.now);
            let rtt = ack.now - oldest;
            self.rtt.on_sample(rtt.as_nanos() as u64);
            self.rtt.on_least_sample(ack.now, latest);
            return (Some(rtt), latest);
        }
        // [rfc6298 3] Timestamps tell transmissions apart; only what advances the left edge counts [rfc7323 4.1].
        let Some(rtt) = ack.rtt.filter(|_| delivery.acked > 0) else { return (None, 0) };
        if let Some(again) = delivery.retransmitted_at {
            let since = nanos(again, ack.now);
            // An echo of before it was sent again tells the round trip only if the acknowledgment was under way then. Else
            // that of the first was lost: what was sent again arrived second, and the peer has dropped it with its
            // timestamp [rfc7323 5.3-R3]. It would be our own timeout that is measured, and make the next one longer.
            if rtt.as_nanos() as u64 > since + TIMESTAMP_TICK && since >= self.rtt.least() {
                return (None, 0);
            }
        }
        self.rtt.on_sample(rtt.as_nanos() as u64);
        (Some(rtt), 0)
    }

    /// Whether the probe was a retransmission that repaired a loss, for which the window is reduced
    /// [rfc8985 7.4].
    fn settle_probe(&mut self, ack: &Ack<'_>, delivery: &Delivery, dsack: Option<SequenceNumber>) -> bool {
        if self.flags & flag::PROBE == 0 {
            return false;
        }
        let Some(cold) = &self.cold else { return false };
        let (end, again) = (cold.probe_end, cold.probe_again);
        if ack.acknowledgment.is_before(end) {
            return false;
        }
        // [rfc8985 7.4-dsack]
        let twice = dsack == Some(end);
        let pure_duplicate = delivery.acked == 0 && delivery.sacked == 0 && ack.duplicate;
        let beyond = ack.acknowledgment.is_after(end);
        if again && !twice && !beyond && !pure_duplicate {
            // It is not known yet which of the two has arrived; with nothing in flight it does not matter any more
            // for timers, but a second acknowledgment will tell.
            return false;
        }
        self.flags &= !flag::PROBE;
        if !again || twice || pure_duplicate || self.state != CongestionState::Open {
            return false;
        }
        self.reduce(ack.now);
        self.state == CongestionState::CongestionWindowReduced
    }

    /// Without SACK a duplicate acknowledgment stands for a segment that has arrived out of order. Returns the octets
    /// that are presumed now, and those that were presumed and are acknowledged now.
    fn count_duplicates(&mut self, ack: &Ack<'_>, delivery: &Delivery) -> (u32, u32) {
        if self.flags & flag::SACK != 0 {
            return (0, 0);
        }
        let (segment, in_flight) = (self.window.segment, self.scoreboard.in_flight());
        if delivery.acked > 0 {
            let Some(cold) = &mut self.cold else { return (0, 0) };
            // The hole itself was not presumed.
            let settled = delivery.acked.saturating_sub(segment).min(cold.presumed);
            cold.presumed -= settled;
            if !self.state.is_repairing() {
                cold.duplicates = 0;
                cold.presumed = 0;
            }
            return (0, settled);
        }
        if !ack.duplicate || self.scoreboard.is_empty() {
            return (0, 0);
        }
        let repairing = self.state == CongestionState::Loss;
        let cold = self.cold();
        if repairing {
            return (0, 0);
        }
        cold.duplicates += 1;
        let presumed = segment.min(in_flight.saturating_sub(cold.presumed));
        cold.presumed += presumed;
        (presumed, 0)
    }

    /// [rfc5681 3.2]: at the third duplicate, and at each partial acknowledgment, the head is lost.
    fn detect_by_duplicates(&mut self, delivery: &Delivery) -> u32 {
        if self.flags & flag::SACK != 0 {
            return 0;
        }
        let (at, segment) = (self.scoreboard.unacknowledged, self.window.segment);
        let Some(cold) = &self.cold else { return 0 };
        let head_is_lost = match self.state {
            // [rfc6582 3.2-partial]
            CongestionState::Recovery => delivery.acked > 0 && at.is_before(cold.recovery_point),
            CongestionState::Loss => false,
            // [rfc6582 3.2-initial] Not for duplicates of what was sent again in an earlier recovery.
            // Where that ended is the only place at which they can come: before it, it has not ended.
            _ => cold.duplicates >= DUPLICATES && at != cold.recovery_point,
        };
        let most = match cold.path_probe {
            // A segment as it was then.
            Some((start, end)) if at.is_at_or_after(start) && at.is_before(end) => end - at,
            _ => segment,
        };
        if head_is_lost { self.scoreboard.lose_head(most) } else { 0 }
    }
}

/// The first block, if it is of what arrived twice [rfc2883 4] [rfc2883 4-within]: below the acknowledgment, or within the second block.
fn find_dsack(ack: &Ack<'_>) -> Option<SackBlock> {
    let first = *ack.sack.first()?;
    if !first.left.is_before(first.right) {
        return None;
    }
    let below = first.right.is_at_or_before(ack.acknowledgment);
    let within = ack.sack.get(1).is_some_and(|second| {
        first.left.is_at_or_after(second.left) && first.right.is_at_or_before(second.right)
    });
    (below || within).then_some(first)
}
