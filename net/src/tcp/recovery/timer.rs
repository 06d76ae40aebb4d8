//! The one deadline: of reordering, of the tail loss probe, of retransmission, whichever is first.

use demikernel_runtime::time::Instant;

use super::records::Flight;
use super::{CongestionState, Expired, Recovery, flag};
use crate::wire::tcp::SequenceNumber;

/// What a peer may take to acknowledge a single segment [rfc8985 7.2-delay].
const MAX_ACK_DELAY: u64 = 200_000_000;

/// What a peer that does not delay, and both ends' timers, may take at most, as in Linux.
const SLACK: u64 = 2_000_000;

/// Until the probe when there is no round trip to go by [rfc8985 7.2-initial].
const INITIAL_PROBE: u64 = 1_000_000_000;

impl Recovery {
    /// When [`on_deadline`](Self::on_deadline) is due; `None` if nothing is in flight.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let flight = &*self.scoreboard;
        if flight.is_empty() {
            // [rfc6298 5.2]
            return None;
        }
        if self.flags & flag::REORDER_TIMER != 0 {
            return self.reorder_at();
        }
        let timeout = self.timeout_from(flight);
        Some(if self.may_probe() { timeout.min(self.probe_at()) } else { timeout })
    }

    /// A deadline may have passed. The owner may come too early, then nothing has expired.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Expired {
        if self.scoreboard.is_empty() {
            return Expired::Nothing;
        }
        if self.flags & flag::REORDER_TIMER != 0 && self.reorder_at().is_some_and(|at| at <= now) {
            // [rfc8985 6.2-timer]
            self.on_reorder_timer(now);
            return Expired::Nothing;
        }
        if self.timeout_at() <= now {
            return self.on_timeout(now);
        }
        if self.may_probe() && self.probe_at() <= now {
            // [rfc8985 7.3-rto] Until the probe is answered only the retransmission timer runs.
            self.scoreboard.timeout_from = now;
            self.flags |= flag::PROBE;
            let next = self.scoreboard.next;
            let cold = self.cold();
            cold.probe_end = next;
            cold.probe_again = false;
            return Expired::Probe;
        }
        Expired::Nothing
    }

    #[inline]
    fn timeout_at(&self) -> Instant {
        self.timeout_from(&self.scoreboard)
    }

    #[inline]
    fn timeout_from(&self, flight: &Flight) -> Instant {
        Instant::from_nanos(flight.timeout_from.as_nanos().saturating_add(self.rtt.rto()))
    }

    /// [rfc8985 7.2-when] With SACK, when nothing is out of order and no probe is in flight. A SYN is not probed.
    #[inline]
    fn may_probe(&self) -> bool {
        self.flags & (flag::SACK | flag::PROBE | flag::HANDSHAKE) == flag::SACK
            && matches!(self.state, CongestionState::Open | CongestionState::CongestionWindowReduced)
            && self.scoreboard.sacked == 0
    }

    /// [rfc8985 7.2]
    #[inline]
    fn probe_at(&self) -> Instant {
        let wait = match self.rtt.smoothed() {
            None => INITIAL_PROBE,
            Some(smoothed) if self.scoreboard.outstanding() <= self.window.segment => {
                2 * smoothed + MAX_ACK_DELAY
            }
            Some(smoothed) => 2 * smoothed + SLACK,
        };
        Instant::from_nanos(self.active_at.as_nanos().saturating_add(wait))
    }

    /// A probe was sent, of new data or of old.
    pub(super) fn on_probe_sent(&mut self, sequence: SequenceNumber, length: u32) {
        let next = self.scoreboard.next;
        self.flags |= flag::PROBE;
        let cold = self.cold();
        // [rfc8985 7.3-end] [rfc8985 7.3-new]
        cold.probe_again = sequence.is_before(next);
        cold.probe_end = next.latest(sequence + length);
    }

    /// [rfc6298 5.4] [rfc6298 5.5] [rfc6298 5.6] [rfc5681 3.1-timeout] [rfc8961 4-4]
    #[cold]
    fn on_timeout(&mut self, now: Instant) -> Expired {
        self.rtt.back_off();
        self.timeouts = self.timeouts.saturating_add(1);
        self.scoreboard.timeout_from = now;
        self.active_at = now;
        self.flags &= !(flag::PROBE | flag::REORDER_TIMER);
        self.enter_loss(now);
        Expired::Timeout { count: u32::from(self.timeouts) }
    }
}
