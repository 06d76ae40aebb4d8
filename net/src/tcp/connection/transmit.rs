//! What leaves: one segment a call, in the order of urgency.

use demikernel_runtime::buffer::Sga;
use demikernel_runtime::time::{Duration, Instant};

use super::{Connection, Events, Marks};
use crate::tcp::Ecn;
use crate::tcp::recovery::{CongestionState, DUPLICATES, Sent};
use crate::tcp::state::State;
use crate::wire::tcp::{Flags, Segment, SequenceNumber};

/// What the device takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Octets of payload in a segment that the device cuts; 0 if it cuts none.
    pub segmentation: u32,
}

/// A segment that is to leave. The stack adds the headers around it.
#[derive(Debug)]
pub struct Transmit {
    /// Its header.
    pub segment: Segment,
    /// Its payload: slices that the connection keeps until they are acknowledged.
    pub payload: Sga,
    /// If it is longer than the path takes: octets of payload in each segment that the device is to cut it into.
    pub cut: Option<u16>,
    /// What the IP header is to say.
    pub ecn: Ecn,
}

impl Transmit {
    /// Nothing but a header: that is not marked. [rfc3168 6.1.4]
    fn bare(segment: Segment) -> Transmit {
        Transmit { segment, payload: Sga::new(), cut: None, ecn: Ecn::NotCapable }
    }
}

impl Connection {
    /// The next segment that is to leave, if there is one. Asked after a whole burst was handled, so that one
    /// acknowledgment stands for all of it. [rfc9293 MUST-59]
    #[inline]
    pub fn poll_transmit(&mut self, now: Instant, limits: &Limits) -> Option<Transmit> {
        if self.marks.intersects(Marks::SPECIAL)
            && let Some(special) = self.transmit_special(now)
        {
            return Some(special);
        }
        if self.state.may_transmit() {
            if let Some((sequence, length)) = self.recovery.next_retransmission()
                && let Some(again) = self.retransmit(now, limits, sequence, length)
            {
                return Some(again);
            }
            if let Some((length, full)) = self.next_data(now, limits) {
                return Some(self.transmit_new(now, length, full, Sent::New));
            }
        }
        if self.marks.contains(Marks::ACKNOWLEDGE) && self.state != State::Closed {
            let segment = self.header(now, self.send.next, Flags::NONE);
            return Some(Transmit::bare(segment));
        }
        None
    }

    /// What is neither data nor an acknowledgment.
    #[cold]
    fn transmit_special(&mut self, now: Instant) -> Option<Transmit> {
        if self.marks.take(Marks::RESET) {
            let reset = self.rare.as_mut()?.reset.take()?;
            let flags = if reset.acknowledgment.is_some() { Flags::RST | Flags::ACK } else { Flags::RST };
            return Some(Transmit::bare(Segment {
                source: self.local,
                destination: self.remote,
                sequence: reset.sequence,
                acknowledgment: reset.acknowledgment.unwrap_or_default(),
                flags,
                ..Segment::default()
            }));
        }
        if self.marks.take(Marks::SYN) {
            let first = self.send.next == self.send.unacknowledged;
            let segment = self.syn(now);
            self.note_syn_sent(now, if first { Sent::New } else { Sent::Retransmission });
            return Some(Transmit::bare(segment));
        }
        if self.marks.contains(Marks::EARLIER)
            && let Some(segment) = self.acknowledge_earlier(now)
        {
            return Some(Transmit::bare(segment));
        }
        if self.marks.take(Marks::WINDOW_PROBE) {
            return self.probe_window(now);
        }
        if self.marks.take(Marks::KEEPALIVE_PROBE) {
            // A number that was acknowledged long ago, and no data: only an answer can come of it. [rfc9293 SHLD-12]
            let segment = self.header(now, self.send.unacknowledged - 1, Flags::NONE);
            return Some(Transmit::bare(segment));
        }
        if self.marks.take(Marks::TAIL_PROBE) && self.state.may_transmit() {
            return self.probe_tail(now);
        }
        None
    }

    /// One octet behind SND.NXT, which neither the window nor loss recovery knows of: the persist timer alone sends
    /// it again. It is not marked. [rfc3168 6.1.6] If nothing waits to be sent, an old number asks as well. [rfc9293 MUST-35] [rfc9293 MUST-36]
    fn probe_window(&mut self, now: Instant) -> Option<Transmit> {
        if self.send.queue.end() == self.send.next || !self.state.may_transmit() {
            let segment = self.header(now, self.send.unacknowledged - 1, Flags::NONE);
            return Some(Transmit::bare(segment));
        }
        self.marks.insert(Marks::WINDOW_PROBED);
        self.rare().probed = Some((self.send.next, now));
        let segment = self.header(now, self.send.next, Flags::NONE);
        let payload = self.send.queue.slice(self.send.next, 1);
        Some(Transmit { segment, payload, cut: None, ecn: Ecn::NotCapable })
    }

    /// New data if the window lets it, else the last segment again. [rfc8985 7.3]
    fn probe_tail(&mut self, now: Instant) -> Option<Transmit> {
        let full = self.full_segment();
        let unsent = self.send.queue.end() - self.send.next.earliest(self.send.queue.end());
        let length = unsent.min(self.window_room()).min(full);
        if length > 0 {
            return Some(self.transmit_new_rarely(now, length, full, Sent::Probe));
        }
        let (sequence, length) = self.recovery.last_segment()?;
        Some(self.transmit_again(now, sequence, length.min(full), Sent::Probe))
    }

    /// Retransmits as much of the range as fits in a segment, when congestion control lets it go, wherever the window
    /// ends now; or sends new data, when they tell more. [rfc9293 SHLD-16] [rfc9293 MAY-7]
    #[cold]
    fn retransmit(
        &mut self,
        now: Instant,
        limits: &Limits,
        sequence: SequenceNumber,
        length: u32,
    ) -> Option<Transmit> {
        if self.recovery.prefers_new_data()
            && let Some((length, full)) = self.next_data(now, limits)
        {
            return Some(self.transmit_new_rarely(now, length, full, Sent::New));
        }
        let end = (sequence + length).earliest(self.send.next);
        let sequence = sequence.latest(self.send.unacknowledged);
        let length = (end.distance_from(sequence).max(0) as u32).min(self.full_segment());
        let blocked = self.recovery.allowance() < length && self.recovery.in_flight() > 0;
        if length == 0 || blocked || self.is_paced(now) {
            return None;
        }
        self.mtu.on_lost(sequence);
        Some(self.transmit_again(now, sequence, length, Sent::Retransmission))
    }

    /// `[sequence, sequence + length)` once more; the FIN is the octet behind the data.
    fn transmit_again(
        &mut self,
        now: Instant,
        sequence: SequenceNumber,
        length: u32,
        what: Sent,
    ) -> Transmit {
        let data = length.min((self.send.queue.end().distance_from(sequence)).max(0) as u32);
        let mut flags = if data < length { Flags::FIN } else { Flags::NONE };
        if sequence + data == self.send.pushed || data < length {
            flags |= Flags::PSH;
        }
        let segment = self.header(now, sequence, flags);
        let payload = self.send.queue.slice(sequence, data as usize);
        self.recovery.on_sent(now, sequence, length, what, false);
        // [rfc3168 6.1.5]: what is retransmitted is not marked.
        Transmit { segment, payload, cut: None, ecn: Ecn::NotCapable }
    }

    /// How far the peer's window lets SND.NXT go: not at all if it has shrunk. [rfc9293 MUST-34] [rfc9293 SHLD-15]
    #[inline]
    pub(super) fn window_room(&self) -> u32 {
        (self.send.unacknowledged + self.send.window).distance_from(self.send.next).max(0) as u32
    }

    /// Whether it is too early to send. Only then is the time to send a deadline: once it has come, something else may
    /// be what is waited for.
    #[inline]
    fn is_paced(&mut self, now: Instant) -> bool {
        let early = self.recovery.send_at().is_some_and(|at| at > now);
        self.marks.set(Marks::PACED, early);
        early
    }

    /// Whether something that was never sent waits.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        self.send.next != self.send.queue.end() + u32::from(self.marks.contains(Marks::FIN_SENT))
            || self.marks.contains(Marks::FIN) && !self.marks.contains(Marks::FIN_SENT)
    }

    /// How many octets of new data are to go in one segment, or as many segments as the device cuts it into; and how
    /// many are in a full one. None may go if a FIN does.
    #[inline]
    fn next_data(&mut self, now: Instant, limits: &Limits) -> Option<(u32, u32)> {
        if !self.has_unsent() || self.is_paced(now) {
            return None;
        }
        let unsent = self.send.queue.end() - self.send.next;
        if let Some(size) = self.mtu_probe(now, unsent) {
            return Some((size, size));
        }
        let full = self.full_segment();
        if unsent == 0 {
            return Some((0, full));
        }
        let length = self.sendable_now(unsent, full, limits);
        if length == 0 {
            self.arm_persist(now);
            return None;
        }
        Some((length, full))
    }

    /// Octets that go in one segment, beside what is selectively acknowledged.
    #[inline]
    fn full_segment(&mut self) -> u32 {
        u32::from(self.send.segment - self.options_room().min(self.send.segment - 1))
    }

    /// Size of a segment larger than the path is known to take, if it is time to try. [rfc8899 3]
    ///
    /// Only when all is well, and as much follows as tells soon that it is lost: a probe for which a time-out must be
    /// waited stops a connection that has lost something already.
    #[inline]
    fn mtu_probe(&mut self, now: Instant, unsent: u32) -> Option<u32> {
        let stamps = if self.clock.is_on() { 12 } else { 0 };
        let size = u32::from(self.mtu.wanted(now)?.min(self.send.maximum_segment)).saturating_sub(stamps);
        let segment = u32::from(self.send.segment);
        let worth = size > segment && self.shared.config().mtu_probing;
        let told = size + DUPLICATES * segment;
        let fits = told <= unsent.min(self.window_room()).min(self.recovery.congestion_window())
            && size <= self.recovery.allowance();
        let well = self.recovery.state() == CongestionState::Open && self.options_room() == 0;
        if !worth || !fits || !well {
            return None;
        }
        self.mtu.on_probe_sent(self.send.next + size);
        self.recovery.on_path_probe(size);
        Some(size)
    }

    /// How much of `unsent` octets may go in one segment: 0 if it must wait.
    #[inline]
    fn sendable_now(&mut self, unsent: u32, full: u32, limits: &Limits) -> u32 {
        let room = self.window_room();
        let allowance = self.recovery.allowance();
        let most = unsent.min(room).min(allowance);
        if most >= full {
            // Whole segments, and the rest by itself. [rfc9293 SHLD-28] [rfc9293 SHLD-27]
            // Of urgent data each segment tells by itself how far they go.
            let cut = if self.marks.contains(Marks::URGENT) { full } else { limits.segmentation.max(full) };
            return most.min(cut) / full * full;
        }
        let idle = self.recovery.in_flight() == 0;
        if allowance < unsent.min(room).min(full) && !idle {
            return 0;
        }
        let length = unsent.min(room);
        if length >= full {
            return full;
        }
        if length == unsent {
            return if self.may_send_small() { length } else { 0 };
        }
        // The window cuts it: not worth it unless it is half of what the peer ever offered, or has waited.
        // [rfc9293 MUST-38]
        let worth = length >= self.send.window_most.div_ceil(2) && length > 0;
        if worth || (length > 0 && idle && self.marks.take(Marks::OVERRIDE)) { length } else { 0 }
    }

    /// Nagle's algorithm, in Minshall's variant as in Linux: no second small segment while one is under way.
    /// [rfc9293 SHLD-7] [rfc9293 MUST-17]
    #[inline]
    fn may_send_small(&mut self) -> bool {
        if self.marks.contains(Marks::FIN) {
            return true;
        }
        if self.marks.contains(Marks::CORK) {
            return self.recovery.in_flight() == 0 && self.marks.take(Marks::OVERRIDE);
        }
        self.marks.contains(Marks::NO_DELAY) || !self.send.small.is_after(self.send.unacknowledged)
    }

    /// The same where it is not worth the code: [`transmit_new`](Self::transmit_new) is inlined, so that the segment
    /// is built where the caller wants it.
    #[cold]
    fn transmit_new_rarely(&mut self, now: Instant, length: u32, full: u32, what: Sent) -> Transmit {
        self.transmit_new(now, length, full, what)
    }

    /// `length` octets from SND.NXT on, and the FIN if it follows.
    #[inline(always)]
    fn transmit_new(&mut self, now: Instant, length: u32, full: u32, what: Sent) -> Transmit {
        let sequence = self.send.next;
        let end = sequence + length;
        let last = end == self.send.queue.end();
        let mut flags = Flags::NONE;
        // [rfc9293 MUST-61]: the last of what the user has sent is pushed.
        if length > 0 && (last || end == self.send.pushed) {
            flags |= Flags::PSH;
        }
        let mut octets = length;
        if last && self.marks.contains(Marks::FIN) {
            flags |= Flags::FIN;
            octets += 1;
            self.marks.insert(Marks::FIN_SENT);
        }
        let ecn = if length > 0 && self.marks.contains(Marks::ECN) {
            self.mark(&mut flags)
        } else {
            Ecn::NotCapable
        };
        if sequence == self.send.unacknowledged {
            self.note_progress(now);
        }
        if now < self.heard.saturating_add(self.shared.config().acknowledgment_delay) {
            self.receive.set_interactive(true);
        }
        // What is longer is a multiple of it.
        if length > 0 && length < full {
            self.send.small = end;
        }
        let segment = self.header(now, sequence, flags);
        let payload = self.send.queue.slice(sequence, length as usize);
        self.send.next = sequence + octets;
        self.timers.state = Instant::MAX;
        self.recovery.on_sent(now, sequence, octets, what, last);
        let cut = (length > full).then_some(full as u16);
        Transmit { segment, payload, cut, ecn }
    }

    /// Data that are sent for the first time are marked. [rfc3168 6.1.2]
    fn mark(&mut self, flags: &mut Flags) -> Ecn {
        if self.marks.take(Marks::ECN_REDUCED) {
            *flags |= Flags::CWR;
        }
        Ecn::Capable0
    }

    /// Data wait and nothing is under way whose acknowledgment would let them go: then time does. [rfc9293 MUST-36]
    /// [rfc9293 MUST-60]
    #[cold]
    fn arm_persist(&mut self, now: Instant) {
        if self.timers.state != Instant::MAX || self.send.next != self.send.unacknowledged {
            return;
        }
        if self.send.probes == 0 && self.window_room() == 0 {
            self.rare().progress = Some(now);
        }
        self.timers.state = now.saturating_add(self.persist_interval());
    }

    /// [rfc9293 SHLD-29], [rfc9293 SHLD-30]: the retransmission time-out at first, then twice as long each time. What
    /// is held back for being small waits a fifth of a second at most.
    pub(crate) fn persist_interval(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(120);
        if self.window_room() > 0 {
            return Duration::from_millis(200);
        }
        self.recovery.rto().saturating_mul(1 << self.send.probes.min(10)).min(LONGEST)
    }

    /// The peer has answered: there is no reason to probe.
    #[inline]
    pub(crate) fn end_persist(&mut self) {
        self.timers.state = Instant::MAX;
        self.send.probes = 0;
    }

    /// SND.UNA has moved, or something begins to wait for its acknowledgment.
    #[inline]
    pub(crate) fn note_progress(&mut self, now: Instant) {
        if let Some(rare) = &mut self.rare {
            rare.progress = Some(now);
        }
    }

    /// Tells the user that there is room, once there is enough of it.
    #[inline]
    pub(crate) fn note_room(&mut self) {
        if !self.marks.contains(Marks::WANTS_ROOM) {
            return;
        }
        if self.marks.contains(Marks::SEND_TUNING) {
            let most = self.shared.config().send_buffer_most;
            self.send.limit =
                self.send.limit.max(self.recovery.congestion_window().saturating_mul(2).min(most));
        }
        if self.send.queue.len() <= self.send.limit / 3 * 2 {
            self.marks.remove(Marks::WANTS_ROOM);
            self.events |= Events::WRITABLE;
        }
    }
}
