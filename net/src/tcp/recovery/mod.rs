//! What a sender knows of what is in flight: what arrived, what is lost, how long it takes, how much may go.
//!
//! In the order in which an acknowledgment passes through:
//!
//! - `records`: the scoreboard. Its octets are each in flight, sacked, or lost.
//! - `acknowledge`: what an acknowledgment delivers. One that only acknowledges what was sent in order and once is
//!   treated in [`Recovery::on_ack`] itself.
//! - `rtt`, `rate`: round trips and their timeout; delivery rate.
//! - `loss`: what is lost: by time (RACK) if the peer sends SACK, else by duplicates.
//! - `episode`: entering, leaving and undoing the states in which the window is reduced; proportional rate reduction.
//! - `timer`: the one deadline: reordering, tail loss probe, retransmission timeout.
//! - `pacing`: when the next burst may leave.
//!
//! What only exists while something is out of the ordinary is in a box that is made when it first is.

mod acknowledge;
mod episode;
mod loss;
mod pacing;
mod rate;
mod records;
mod rtt;
mod timer;

#[cfg(test)]
mod tests;

use demikernel_runtime::time::{Duration, Instant};

use super::congestion::{CongestionControl, Controller, Sample, Window};
use crate::wire::tcp::{SackBlock, SequenceNumber};
use episode::Cold;
pub(crate) use loss::DUPLICATES;
use pacing::Pacing;
use rate::Rate;
pub(crate) use rate::RateSample;
use records::{Rack, Scoreboard};
use rtt::Rtt;

/// Whether a sender deems all well, or what it does about it (the names are Linux's).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum CongestionState {
    /// Nothing is out of the ordinary.
    #[default]
    Open,
    /// There are duplicate or selective acknowledgments, but nothing is deemed lost.
    Disorder,
    /// The window is being reduced because of an ECN mark.
    CongestionWindowReduced,
    /// Losses are being repaired.
    Recovery,
    /// The retransmission timer has expired.
    Loss,
}

impl CongestionState {
    /// The window is being brought down to the threshold.
    #[inline]
    pub(crate) const fn is_reducing(self) -> bool {
        matches!(self, CongestionState::CongestionWindowReduced | CongestionState::Recovery)
    }

    /// Something is to be sent again.
    #[inline]
    pub(crate) const fn is_repairing(self) -> bool {
        matches!(self, CongestionState::Recovery | CongestionState::Loss)
    }
}

/// How a sender recovers from losses.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryConfig {
    pub(crate) congestion: CongestionControl,
    /// In segments [rfc6928 2].
    pub(crate) initial_window: u32,
    pub(crate) min_rto: Duration,
    pub(crate) max_rto: Duration,
    /// The peer says what has arrived out of order. As long as that is not known, see [`Recovery::set_sack`].
    pub(crate) sack: bool,
    /// Spread bursts over the round trip, whatever the congestion control. BBR always does.
    pub(crate) pacing: bool,
}

impl Default for RecoveryConfig {
    fn default() -> RecoveryConfig {
        RecoveryConfig {
            congestion: CongestionControl::default(),
            initial_window: 10,
            // Less than the second of [rfc6298 2.4], as in Linux: delayed acknowledgments come within 200 ms.
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(120),
            sack: true,
            pacing: false,
        }
    }
}

/// Why something was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// It had not been sent before.
    New,
    /// It was lost.
    Retransmission,
    /// It answers [`Expired::Probe`]: new data, or the last segment once more.
    Probe,
}

/// An acceptable acknowledgment, and what came with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack<'a> {
    pub(crate) now: Instant,
    pub(crate) acknowledgment: SequenceNumber,
    pub(crate) sack: &'a [SackBlock],
    /// The round trip by the echoed timestamp.
    pub(crate) rtt: Option<Duration>,
    /// The ECN echo.
    pub(crate) ece: bool,
    /// It is a duplicate acknowledgment as RFC 5681 section 2 defines it.
    pub(crate) duplicate: bool,
    /// What the peer lets go beyond the acknowledgment, scaled.
    pub(crate) window: u32,
}

/// What came of an acknowledgment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Acked {
    /// Newly acknowledged cumulatively, SYN and FIN included.
    pub(crate) octets: u32,
    /// Newly acknowledged selectively.
    pub(crate) sacked: u32,
    /// Newly deemed lost.
    pub(crate) lost: u32,
    pub(crate) rtt: Option<Duration>,
    /// A reduction of the window turned out to be for nothing.
    pub(crate) undone: bool,
    /// The window begins to be reduced: the next new segment says so if ECN is in use [rfc3168 6.1.2-cwr].
    pub(crate) reduced: bool,
}

/// What has expired, see [`Recovery::on_deadline`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expired {
    /// Nothing that needs more than a look at [`Recovery::next_retransmission`].
    Nothing,
    /// Send new data if the window allows, even beyond [`Recovery::allowance`], else
    /// [`Recovery::last_segment`] again.
    Probe,
    /// The retransmission timer, for the `count`th time since something was last acknowledged.
    Timeout {
        /// 1 for the first.
        count: u32,
    },
}

/// Bits of [`Recovery::flags`].
mod flag {
    /// Nothing has been acknowledged yet: the SYN is in flight.
    pub(super) const HANDSHAKE: u8 = 1;
    /// A tail loss probe is in flight.
    pub(super) const PROBE: u8 = 2;
    /// The path reorders.
    pub(super) const REORDERED: u8 = 4;
    pub(super) const SACK: u8 = 8;
    pub(super) const PACING: u8 = 16;
    /// The cold part has a deadline.
    pub(super) const REORDER_TIMER: u8 = 32;

    /// An acknowledgment is ordinary only without these.
    pub(super) const ATTENTION: u8 = HANDSHAKE | PROBE | REORDER_TIMER;
}

/// What else an acknowledgment says to congestion control.
#[derive(Clone, Copy)]
struct Signals {
    ece: bool,
    /// The window may grow.
    opens: bool,
}

impl Signals {
    const ORDINARY: Signals = Signals { ece: false, opens: true };
}

/// The sender's knowledge of what is in flight, with one deadline.
///
/// The owner calls [`on_sent`](Self::on_sent) with all that occupies sequence numbers, [`on_ack`](Self::on_ack) with
/// every acceptable acknowledgment, and [`on_deadline`](Self::on_deadline) at
/// [`next_deadline`](Self::next_deadline); after each of the latter two it sends
/// [`next_retransmission`](Self::next_retransmission), then new data, while [`allowance`](Self::allowance) and
/// [`send_at`](Self::send_at) let it.
#[derive(Debug)]
pub(crate) struct Recovery {
    scoreboard: Scoreboard,
    window: Window,
    /// The round trip ends when this is acknowledged.
    round_end: SequenceNumber,
    /// The most that was in flight in this round trip, and in the one before.
    most_in_flight: u32,
    most_before: u32,
    state: CongestionState,
    flags: u8,
    initial_window: u8,
    /// Timeouts since something was acknowledged.
    timeouts: u8,
    total_retransmitted: u32,
    rtt: Rtt,
    rate: Rate,
    /// The probe timer runs from here: the last sending or acknowledgment.
    active_at: Instant,
    /// Made when there is a pace to keep.
    pacing: Option<Box<Pacing>>,
    controller: Controller,
    cold: Option<Box<Cold>>,
}

impl Recovery {
    /// For a connection whose first sequence number, the SYN's, is `first`. `segment` is the most payload that a
    /// segment takes.
    pub(crate) fn new(
        config: &RecoveryConfig,
        first: SequenceNumber,
        segment: u32,
        now: Instant,
    ) -> Recovery {
        let segment = segment.clamp(1, MOST_SEGMENT);
        let initial_window = config.initial_window.clamp(1, 255);
        let mut flags = flag::HANDSHAKE;
        flags |= if config.sack { flag::SACK } else { 0 };
        flags |= if config.pacing { flag::PACING } else { 0 };
        Recovery {
            scoreboard: Scoreboard::new(first),
            window: Window::new(initial_window, segment),
            round_end: first,
            most_in_flight: 0,
            most_before: 0,
            state: CongestionState::Open,
            flags,
            initial_window: initial_window as u8,
            timeouts: 0,
            total_retransmitted: 0,
            rtt: Rtt::new(config.min_rto, config.max_rto, now),
            rate: Rate::new(),
            active_at: now,
            pacing: None,
            controller: Controller::new(config.congestion, now),
            cold: None,
        }
    }

    /// `length` octets from `sequence` on left at `now`; SYN and FIN count for one each. `app_limited` says that
    /// there is no more to send, though there is room.
    #[inline]
    pub(crate) fn on_sent(
        &mut self,
        now: Instant,
        sequence: SequenceNumber,
        length: u32,
        what: Sent,
        app_limited: bool,
    ) {
        if what != Sent::New || sequence != self.scoreboard.next {
            return self.on_resent(now, sequence, length, what, app_limited);
        }
        self.on_sent_new(now, length, app_limited);
    }

    #[inline]
    fn on_sent_new(&mut self, now: Instant, length: u32, app_limited: bool) {
        if length == 0 {
            return;
        }
        let start = self.scoreboard.next;
        self.scoreboard.next = start + length;
        let outstanding = self.scoreboard.outstanding();
        let flight = &mut *self.scoreboard;
        if flight.is_empty() {
            flight.epoch.restart(now);
            // [rfc6298 5.1]
            flight.timeout_from = now;
        }
        self.active_at = now;
        flight.push(self.rate.record(now, start, length, flight.epoch));
        let in_flight = outstanding - flight.sacked - flight.lost;
        self.most_in_flight = self.most_in_flight.max(in_flight);
        if app_limited {
            self.rate.on_app_limited(in_flight);
        }
        if let Some(pacing) = &mut self.pacing {
            pacing.on_sent(now, length);
        }
        if self.state.is_reducing() {
            self.count_reduced(length);
        }
    }

    #[cold]
    fn on_resent(
        &mut self,
        now: Instant,
        sequence: SequenceNumber,
        length: u32,
        what: Sent,
        app_limited: bool,
    ) {
        let next = self.scoreboard.next;
        if what == Sent::Probe {
            self.on_probe_sent(sequence, length);
        }
        let again = if sequence.is_before(next) { length.min(next - sequence) } else { 0 };
        if again > 0 {
            let stamp = self.rate.record(now, sequence, again, self.scoreboard.epoch);
            let first = self.scoreboard.ambiguous == 0;
            self.scoreboard.resend(sequence, again, &stamp);
            if let Some(pacing) = &mut self.pacing {
                pacing.on_sent(now, again);
            }
            self.total_retransmitted = self.total_retransmitted.saturating_add(again);
            self.count_resent(now, sequence, again, what, first);
            if sequence.is_at_or_before(self.scoreboard.unacknowledged) {
                self.scoreboard.timeout_from = now;
            }
        }
        self.on_sent_new(now, length - again, app_limited);
    }

    /// An acceptable acknowledgment has arrived: the segment is valid, and acknowledges nothing that was not sent.
    #[inline]
    pub(crate) fn on_ack(&mut self, ack: &Ack<'_>) -> Acked {
        if ack.ece || !ack.sack.is_empty() || !self.is_ordinary(ack.acknowledgment) {
            return self.on_extraordinary_ack(ack);
        }
        let (octets, rtt) = self.on_ordinary_ack(ack.now, ack.acknowledgment);
        Acked { octets, rtt: Some(Duration::from_nanos(rtt)), ..Acked::default() }
    }

    /// The same if the segment says nothing else. False if [`on_ack`](Self::on_ack) wants to know all about it.
    #[inline(always)]
    pub(crate) fn on_plain_ack(&mut self, now: Instant, acknowledgment: SequenceNumber) -> bool {
        let ordinary = self.is_ordinary(acknowledgment);
        if ordinary {
            self.on_ordinary_ack(now, acknowledgment);
        }
        ordinary
    }

    /// Whether an acknowledgment only acknowledges what was sent in order and once.
    #[inline]
    fn is_ordinary(&self, acknowledgment: SequenceNumber) -> bool {
        let octets = acknowledgment - self.scoreboard.unacknowledged;
        let flight = &*self.scoreboard;
        let extraordinary = u32::from(self.flags & flag::ATTENTION)
            | self.state as u32
            | flight.ambiguous
            | flight.sacked
            | flight.lost;
        extraordinary == 0 && octets.wrapping_sub(1) < self.scoreboard.outstanding()
    }

    /// Octets that it acknowledges, and the round trip of the first.
    #[inline(always)]
    fn on_ordinary_ack(&mut self, now: Instant, acknowledgment: SequenceNumber) -> (u32, u64) {
        let octets = acknowledgment - self.scoreboard.unacknowledged;
        let outstanding = self.scoreboard.outstanding();
        self.scoreboard.unacknowledged = acknowledgment;
        let flight = &mut *self.scoreboard;
        // Nothing is sacked, nor lost.
        let in_flight = outstanding;
        let (oldest, newest) = flight.acknowledge_plain(acknowledgment);
        let rtt = nanos(oldest, now);
        let latest = nanos(newest.sent, now);
        self.rtt.on_sample(rtt);
        self.rtt.on_least_sample(now, latest);
        flight.rack = Rack { sent: newest.sent, rtt: latest, end: newest.end(), highest: acknowledgment };
        let rate = self.rate.on_delivered(now, octets, &newest, self.rtt.least(), &mut flight.epoch);
        self.timeouts = 0;
        // [rfc6298 5.3]
        flight.timeout_from = now;
        self.active_at = now;
        self.control(now, octets, 0, in_flight, latest, rate, Signals::ORDINARY);
        (octets, rtt)
    }

    /// Tells congestion control, and sets the pace.
    #[expect(clippy::too_many_arguments, reason = "one call site per path; a struct would be built twice")]
    #[inline]
    fn control(
        &mut self,
        now: Instant,
        delivered: u32,
        lost: u32,
        was_in_flight: u32,
        rtt: u64,
        rate: RateSample,
        signals: Signals,
    ) {
        let round = self.scoreboard.unacknowledged.is_after(self.round_end);
        let most = self.most_in_flight.max(self.most_before);
        if round {
            self.round_end = self.scoreboard.next;
            self.most_before = self.most_in_flight;
            self.most_in_flight = was_in_flight;
            self.rtt.expect_samples(most, self.window.segment);
        }
        let limited = signals.opens && is_limited(&self.window, most);
        if limited || signals.ece || self.controller.needs_all() || self.flags & flag::PACING != 0 {
            self.control_fully(now, delivered, lost, rtt, rate, Signals { opens: limited, ..signals }, round);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn control_fully(
        &mut self,
        now: Instant,
        delivered: u32,
        lost: u32,
        rtt: u64,
        rate: RateSample,
        signals: Signals,
        round: bool,
    ) {
        let smoothed = self.rtt.smoothed().unwrap_or(0);
        let sample = Sample {
            now,
            delivered,
            lost,
            total: self.rate.delivered,
            in_flight: self.in_flight(),
            rtt,
            smoothed,
            round,
            limited: signals.opens,
            ece: signals.ece,
            state: self.state,
            rate,
            paced: self.flags & flag::PACING != 0,
        };
        self.controller.on_ack(&sample, &mut self.window);
        self.set_pace(now, round, smoothed);
    }

    #[inline]
    fn set_pace(&mut self, now: Instant, round: bool, smoothed: u64) {
        if let Some(rate) = self.controller.pacing_rate(&self.window, smoothed) {
            self.set_pacing_rate(now, rate, smoothed);
        } else if round && self.flags & flag::PACING != 0 && smoothed != 0 {
            // As fast as the window may grow: twice in slow start, else a little more.
            let percent = if self.window.is_slow_start() { 200 } else { 120 };
            let rate = u64::from(self.window.congestion) * (percent * 10_000_000) / smoothed;
            self.set_pacing_rate(now, rate, smoothed);
        }
    }

    fn set_pacing_rate(&mut self, now: Instant, rate: u64, smoothed: u64) {
        let pacing = self.pacing.get_or_insert_with(|| Box::new(Pacing::new(now)));
        pacing.set_rate(rate, self.window.segment, smoothed);
    }

    /// What is to be sent again next: from where, and how much at most. It may be more than a segment.
    pub(crate) fn next_retransmission(&self) -> Option<(SequenceNumber, u32)> {
        self.scoreboard.first_lost().map(|record| (record.start, record.length))
    }

    /// The last segment in flight, for a probe when there is nothing new to send.
    pub(crate) fn last_segment(&self) -> Option<(SequenceNumber, u32)> {
        self.scoreboard.last_segment(self.window.segment)
    }

    /// Octets that may leave now, new ones or again. What is less than a segment may be used for a whole one only if
    /// nothing is in flight.
    #[inline]
    pub(crate) fn allowance(&self) -> u32 {
        self.window.congestion.saturating_sub(self.in_flight())
    }

    /// Whether all is well, and nothing but the window says when something may leave.
    #[inline]
    pub(crate) fn is_calm(&self) -> bool {
        self.state == CongestionState::Open && self.scoreboard.lost == 0 && self.pacing.is_none()
    }

    /// Nothing may leave before; `None` if pacing does not say.
    #[inline]
    pub(crate) fn send_at(&self) -> Option<Instant> {
        self.pacing.as_ref().and_then(|pacing| pacing.send_at())
    }

    /// Octets believed to be in the network.
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        if self.state == CongestionState::Open {
            return self.scoreboard.in_flight();
        }
        self.scoreboard.in_flight().saturating_sub(self.presumed())
    }

    /// Whether the peer will say what has arrived out of order: known when its SYN is.
    pub(crate) fn set_sack(&mut self, sack: bool) {
        self.flags = if sack { self.flags | flag::SACK } else { self.flags & !flag::SACK };
    }

    /// The path takes segments of so much payload.
    pub(crate) fn set_segment_size(&mut self, octets: u32) {
        let octets = octets.clamp(1, MOST_SEGMENT);
        if self.flags & flag::HANDSHAKE != 0 {
            self.window = Window::new(u32::from(self.initial_window), octets);
            return;
        }
        self.window.segment = octets;
        self.window.congestion = self.window.congestion.max(octets);
        if let Some(cold) = &mut self.cold {
            cold.path_probe = None;
        }
    }

    /// What is sent next, `length` octets, is to find out whether the path takes segments as long as that.
    #[cold]
    pub(crate) fn on_path_probe(&mut self, length: u32) {
        let start = self.scoreboard.next;
        self.cold().path_probe = Some((start, start + length));
    }

    /// Another congestion control from now on. It takes over the window as it is.
    pub(crate) fn set_congestion_control(&mut self, control: CongestionControl, now: Instant) {
        if control == self.controller.control() {
            return;
        }
        self.controller = Controller::new(control, now);
        if self.flags & flag::PACING == 0 && !self.controller.owns_window() {
            self.pacing = None;
        }
    }

    /// Something is about to be sent when nothing is in flight.
    #[inline]
    pub(crate) fn on_idle_restart(&mut self, now: Instant) {
        if !self.scoreboard.is_empty() {
            return;
        }
        let idle = nanos(self.active_at, now);
        self.controller.on_restart(now, idle);
        let rto = self.rtt.rto().max(1);
        if idle < rto || self.controller.owns_window() {
            return;
        }
        // [rfc5681 4.1] Halved for each timeout that passed, as in Linux, but not below the restart window.
        let before = self.window.congestion;
        let restart = (u32::from(self.initial_window) * self.window.segment).min(before);
        self.window.threshold = self.window.threshold.max(before - before / 4);
        self.window.congestion = (before >> (idle / rto).min(31)).max(restart);
    }

    /// Whether there is memory that holds nothing.
    pub(crate) fn has_spare(&self) -> bool {
        self.scoreboard.has_spare()
    }

    /// Gives back the memory of the scoreboard if nothing is on it.
    #[inline]
    pub(crate) fn release_spare(&mut self) {
        self.scoreboard.release();
    }

    /// Gives back the memory that is only needed while something is in flight. For connections that have become idle:
    /// it is allocated again when they are not.
    pub(crate) fn release(&mut self) {
        if !self.scoreboard.is_empty() {
            return;
        }
        self.scoreboard.release();
        if self.state == CongestionState::Open {
            self.cold = None;
            self.flags &= !(flag::PROBE | flag::REORDER_TIMER);
        }
    }
}

/// No packet is longer.
const MOST_SEGMENT: u32 = 65_535;

/// Nanoseconds from `earlier` to `later`, without the detour through a duration's seconds.
#[inline]
pub(crate) fn nanos(earlier: Instant, later: Instant) -> u64 {
    later.as_nanos().saturating_sub(earlier.as_nanos())
}

/// Whether the window holds the sender back: while it doubles each round trip, if half of it was in use [rfc7661 4.3].
#[inline]
fn is_limited(window: &Window, most_in_flight: u32) -> bool {
    if window.is_slow_start() {
        window.congestion < most_in_flight.saturating_mul(2)
    } else {
        most_in_flight.saturating_add(window.segment) > window.congestion
    }
}

/// What `TcpInfo` shows.
impl Recovery {
    pub(crate) fn smoothed_rtt(&self) -> Option<Duration> {
        self.rtt.smoothed().map(Duration::from_nanos)
    }

    pub(crate) fn rtt_variation(&self) -> Duration {
        Duration::from_nanos(self.rtt.variation())
    }

    /// With the backing off.
    pub(crate) fn rto(&self) -> Duration {
        Duration::from_nanos(self.rtt.rto())
    }

    pub(crate) fn min_rtt(&self) -> Option<Duration> {
        Some(self.rtt.least()).filter(|&least| least != 0).map(Duration::from_nanos)
    }

    pub(crate) fn congestion_window(&self) -> u32 {
        self.window.congestion
    }

    /// `u32::MAX` before congestion was first met.
    pub(crate) fn slow_start_threshold(&self) -> u32 {
        self.window.threshold
    }

    /// Octets a second; zero for no pacing.
    pub(crate) fn pacing_rate(&self) -> u64 {
        self.pacing.as_ref().map_or(0, |pacing| pacing.rate())
    }

    /// Octets a second; zero before the first measurement.
    pub(crate) fn delivery_rate(&self) -> u64 {
        self.rate.told()
    }

    pub(crate) fn state(&self) -> CongestionState {
        self.state
    }

    /// Octets in flight that the peer has.
    pub(crate) fn sacked(&self) -> u32 {
        self.scoreboard.sacked
    }

    /// Octets that wait to be sent again.
    pub(crate) fn lost(&self) -> u32 {
        self.scoreboard.lost
    }

    /// Octets sent again and in flight.
    pub(crate) fn retransmitted(&self) -> u32 {
        self.scoreboard.retransmitted
    }

    /// Octets ever sent again.
    pub(crate) fn total_retransmitted(&self) -> u32 {
        self.total_retransmitted
    }

    /// Octets that have arrived.
    pub(crate) fn delivered(&self) -> u64 {
        self.rate.delivered
    }

    /// The path was seen to reorder.
    pub(crate) fn has_reordered(&self) -> bool {
        self.flags & flag::REORDERED != 0
    }

    pub(crate) fn backoff(&self) -> u8 {
        self.rtt.backoff()
    }

    pub(crate) fn congestion_control(&self) -> CongestionControl {
        self.controller.control()
    }
}
