//! A sender whose story is told in segments of 1,000 octets and milliseconds.

use demikernel_runtime::time::{Duration, Instant};

use super::super::{Ack, Acked, Expired, Recovery, RecoveryConfig, Sent};
use crate::tcp::congestion::CongestionControl;
use crate::wire::tcp::{SackBlock, SequenceNumber};

pub(super) const SEGMENT: u32 = 1_000;

pub(super) struct Script {
    pub(super) recovery: Recovery,
    start: Instant,
    pub(super) now: Instant,
    first: SequenceNumber,
    /// Segments sent for the first time.
    sent: u32,
    acknowledged: u32,
}

pub(super) fn reno() -> RecoveryConfig {
    RecoveryConfig { congestion: CongestionControl::Reno, ..RecoveryConfig::default() }
}

pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Script {
    /// Behind a handshake that took 100 ms, at time 0.
    pub(super) fn new(config: &RecoveryConfig) -> Script {
        let begin = Instant::from_nanos(5_000_000_000);
        let syn = SequenceNumber::new(u32::MAX - 2_500);
        let mut recovery = Recovery::new(config, syn, SEGMENT, begin);
        recovery.on_sent(begin, syn, 1, Sent::New, false);
        let start = begin + ms(100);
        let mut script = Script { recovery, start, now: start, first: syn + 1, sent: 0, acknowledged: 0 };
        script.give(0, &[], None, false);
        script
    }

    pub(super) fn at(&mut self, milliseconds: u64) -> &mut Script {
        self.now = self.start + ms(milliseconds);
        self
    }

    /// New segments leave.
    pub(super) fn send(&mut self, count: u32) -> &mut Script {
        for _ in 0..count {
            let at = self.sequence(self.sent);
            self.recovery.on_sent(self.now, at, SEGMENT, Sent::New, false);
            self.sent += 1;
        }
        self
    }

    /// What is next to be sent again leaves, if the window lets it. Its number is told.
    pub(super) fn resend(&mut self) -> Option<u32> {
        let (at, length) = self.recovery.next_retransmission()?;
        if self.recovery.allowance() < SEGMENT {
            return None;
        }
        self.recovery.on_sent(self.now, at, length.min(SEGMENT), Sent::Retransmission, false);
        Some((at - self.first) / SEGMENT)
    }

    pub(super) fn probe_again(&mut self) {
        let (at, length) = self.recovery.last_segment().expect("something is in flight");
        self.recovery.on_sent(self.now, at, length, Sent::Probe, false);
    }

    pub(super) fn probe_new(&mut self) {
        let at = self.sequence(self.sent);
        self.recovery.on_sent(self.now, at, SEGMENT, Sent::Probe, false);
        self.sent += 1;
    }

    /// The peer has everything before segment `next`, and the segments of the blocks.
    pub(super) fn ack(&mut self, next: u32, blocks: &[(u32, u32)]) -> Acked {
        self.give(next, blocks, None, false)
    }

    /// With the echo of a timestamp that was sent at `sent` milliseconds.
    pub(super) fn ack_echo(&mut self, next: u32, blocks: &[(u32, u32)], sent: u64) -> Acked {
        let echo = self.start + ms(sent);
        self.give(next, blocks, Some(self.now - echo), false)
    }

    pub(super) fn ack_ece(&mut self, next: u32) -> Acked {
        self.give(next, &[], None, true)
    }

    fn give(&mut self, next: u32, blocks: &[(u32, u32)], rtt: Option<Duration>, ece: bool) -> Acked {
        let sack: Vec<SackBlock> = blocks
            .iter()
            .map(|&(left, right)| SackBlock { left: self.sequence(left), right: self.sequence(right) })
            .collect();
        let duplicate = next == self.acknowledged && self.sent > next;
        self.acknowledged = self.acknowledged.max(next);
        self.recovery.on_ack(&Ack {
            now: self.now,
            acknowledgment: self.sequence(next),
            sack: &sack,
            rtt,
            ece,
            duplicate,
            window: 1 << 20,
        })
    }

    /// Comes at the deadline.
    pub(super) fn expire(&mut self) -> Expired {
        self.now = self.recovery.next_deadline().expect("a timer runs");
        self.recovery.on_deadline(self.now)
    }

    /// Milliseconds until the deadline.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.recovery.next_deadline().map(|at| (at - self.now).as_millis() as u64)
    }

    /// In segments.
    pub(super) fn window(&self) -> u32 {
        self.recovery.congestion_window() / SEGMENT
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.recovery.in_flight() / SEGMENT
    }

    pub(super) fn lost(&self) -> u32 {
        self.recovery.lost() / SEGMENT
    }

    pub(super) fn sequence(&self, segment: u32) -> SequenceNumber {
        self.first + segment.wrapping_mul(SEGMENT)
    }
}
