//! The sender's knowledge of what is in flight: a plain retransmission timer, until loss recovery takes its place.

use demikernel_runtime::time::{Duration, Instant};

use crate::wire::tcp::{SackBlock, SequenceNumber};

/// How loss is recovered from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryConfig {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    New,
    Retransmission,
    Probe,
}

pub(crate) struct Ack<'a> {
    pub(crate) now: Instant,
    pub(crate) acknowledgment: SequenceNumber,
    #[allow(dead_code)]
    pub(crate) sack: &'a [SackBlock],
    pub(crate) rtt: Option<Duration>,
    #[allow(dead_code)]
    pub(crate) ece: bool,
    #[allow(dead_code)]
    pub(crate) duplicate: bool,
    #[allow(dead_code)]
    pub(crate) window: u32,
}

pub(crate) struct Acked {}

pub(crate) enum Expired {
    Nothing,
    #[allow(dead_code)]
    Probe,
    Timeout { count: u32 },
}

pub(crate) struct Recovery {
    una: SequenceNumber,
    next: SequenceNumber,
    again: Option<SequenceNumber>,
    deadline: Option<Instant>,
    count: u32,
    segment: u32,
    srtt: Option<Duration>,
    total: u64,
    delivered: u64,
}

impl Recovery {
    pub(crate) fn new(_: &RecoveryConfig, first: SequenceNumber, segment: u32, _: Instant) -> Recovery {
        Recovery {
            una: first,
            next: first,
            again: None,
            deadline: None,
            count: 0,
            segment,
            srtt: None,
            total: 0,
            delivered: 0,
        }
    }
    pub(crate) fn on_sent(&mut self, now: Instant, sequence: SequenceNumber, length: u32, what: Sent, _: bool) {
        if what != Sent::New {
            self.total += u64::from(length);
        }
        if what == Sent::Retransmission {
            let end = sequence + length;
            self.again = end.is_before(self.next).then_some(end);
        }
        self.next = self.next.latest(sequence + length);
        if self.deadline.is_none() {
            self.deadline = Some(now + self.rto());
        }
    }
    pub(crate) fn on_ack(&mut self, ack: &Ack<'_>) -> Acked {
        if ack.acknowledgment.is_after(self.una) {
            self.delivered += u64::from(ack.acknowledgment - self.una);
            self.una = ack.acknowledgment;
            self.count = 0;
            self.srtt = ack.rtt.or(self.srtt);
            self.deadline = (self.una != self.next).then(|| ack.now + self.rto());
            self.again = self.again.filter(|_| self.una != self.next).map(|again| again.latest(self.una));
        }
        Acked {}
    }
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Expired {
        if self.una == self.next {
            self.deadline = None;
            return Expired::Nothing;
        }
        self.count += 1;
        self.again = Some(self.una);
        self.deadline = Some(now + self.rto());
        Expired::Timeout { count: self.count }
    }
    pub(crate) fn next_retransmission(&self) -> Option<(SequenceNumber, u32)> {
        self.again.map(|again| (again, (self.next - again).min(self.segment)))
    }
    pub(crate) fn allowance(&self) -> u32 {
        u32::MAX
    }
    pub(crate) fn send_at(&self) -> Option<Instant> {
        None
    }
    pub(crate) fn in_flight(&self) -> u32 {
        self.next - self.una
    }
    pub(crate) fn set_segment_size(&mut self, octets: u32) {
        self.segment = octets;
    }
    pub(crate) fn on_idle_restart(&mut self, _: Instant) {}
    pub(crate) fn srtt(&self) -> Option<Duration> {
        self.srtt
    }
    pub(crate) fn rttvar(&self) -> Duration {
        Duration::ZERO
    }
    pub(crate) fn rto(&self) -> Duration {
        let base = self.srtt.map_or(Duration::from_secs(1), |srtt| (2 * srtt).max(Duration::from_millis(200)));
        (base * (1 << self.count.min(10))).min(Duration::from_secs(120))
    }
    pub(crate) fn min_rtt(&self) -> Option<Duration> {
        self.srtt
    }
    pub(crate) fn cwnd(&self) -> u32 {
        1 << 20
    }
    pub(crate) fn ssthresh(&self) -> u32 {
        u32::MAX
    }
    pub(crate) fn pacing_rate(&self) -> Option<u64> {
        None
    }
    pub(crate) fn delivery_rate(&self) -> Option<u64> {
        None
    }
    pub(crate) fn ca_state(&self) -> &'static str {
        "Open"
    }
    pub(crate) fn sacked(&self) -> u32 {
        0
    }
    pub(crate) fn lost(&self) -> u32 {
        0
    }
    pub(crate) fn retrans(&self) -> u32 {
        0
    }
    pub(crate) fn total_retrans(&self) -> u64 {
        self.total
    }
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }
    pub(crate) fn reord_seen(&self) -> bool {
        false
    }
}
