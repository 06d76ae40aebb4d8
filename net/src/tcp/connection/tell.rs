//! Headers: what every segment tells.

use demikernel_runtime::time::Instant;

use super::{Connection, Marks};
use crate::tcp::config::EcnMode;
use crate::tcp::state::State;
use crate::wire::tcp::{Flags, Options, SackBlocks, Segment, SequenceNumber};

impl Connection {
    /// The header of a segment within the connection: it acknowledges all that has come, so none else need to, and has
    /// no option that belongs to a SYN. [rfc9293 MUST-58] [rfc9293 MUST-65]
    #[inline(always)]
    pub(crate) fn header(&mut self, now: Instant, sequence: SequenceNumber, flags: Flags) -> Segment {
        let mut flags = flags | Flags::ACK;
        if self.marks.contains(Marks::ECN_ECHO) {
            flags |= Flags::ECE;
        }
        let window = self.receive.advertise();
        let sack = if self.receive.reassembly.is_some() { self.sack() } else { SackBlocks::new() };
        self.acknowledged();
        let mut segment = Segment {
            source: self.local,
            destination: self.remote,
            sequence,
            acknowledgment: self.receive.next,
            flags,
            window,
            urgent: 0,
            options: Options { timestamps: self.clock.stamp(now), sack, ..Options::default() },
        };
        if self.marks.intersects(Marks::TOLD) {
            self.tell_rarely(&mut segment);
        }
        segment
    }

    #[cold]
    fn tell_rarely(&mut self, segment: &mut Segment) {
        if self.marks.contains(Marks::URGENT) {
            self.point_at_urgent(segment);
        }
        if self.marks.contains(Marks::USER_TIMEOUT) {
            self.tell_user_timeout(segment);
        }
    }

    /// An acknowledgment of what had come when marks of congestion began, or ended, so that the peer counts no other octets
    /// as marked. [rfc8257 3.2]
    #[cold]
    pub(crate) fn acknowledge_earlier(&mut self, now: Instant) -> Option<Segment> {
        let earlier = self.rare().earlier.pop_front();
        let earlier = earlier.or_else(|| {
            self.marks.remove(Marks::EARLIER);
            None
        })?;
        let waits = self.marks.contains(Marks::ACKNOWLEDGE);
        let (acknowledged, timer, pushed) =
            (self.receive.acknowledged, self.timers.acknowledge, self.receive.pushed);
        let mut segment = self.header(now, self.send.next, Flags::NONE);
        // What has come since waits as before.
        self.marks.set(Marks::ACKNOWLEDGE, waits);
        self.timers.acknowledge = timer;
        self.receive.pushed = pushed;
        self.receive.acknowledged = acknowledged.latest(earlier.acknowledgment);
        segment.acknowledgment = earlier.acknowledgment;
        segment.window = self.receive.advertise_from(earlier.acknowledgment);
        segment.flags =
            if earlier.echo { segment.flags | Flags::ECE } else { segment.flags.without(Flags::ECE) };
        Some(segment)
    }

    /// An acknowledgment of all that has come leaves.
    #[inline]
    pub(super) fn acknowledged(&mut self) {
        self.receive.acknowledged = self.receive.next;
        self.receive.pushed = false;
        self.timers.acknowledge = Instant::MAX;
        self.marks.remove(Marks::ACKNOWLEDGE);
    }

    /// [rfc2018 4], [rfc2018 3]: three blocks beside timestamps, else four.
    #[cold]
    fn sack(&mut self) -> SackBlocks {
        let Some(reassembly) = &mut self.receive.reassembly else { return SackBlocks::new() };
        let room = if self.clock.is_on() { 3 } else { 4 };
        let blocks = if self.marks.contains(Marks::SACK) { reassembly.sack(room) } else { SackBlocks::new() };
        if reassembly.is_idle() {
            self.receive.reassembly = None;
        }
        blocks
    }

    /// Octets that SACK blocks and what is rare will take of the next segment.
    #[inline]
    pub(crate) fn options_room(&mut self) -> u16 {
        let timeout = if self.marks.contains(Marks::USER_TIMEOUT) { 4 } else { 0 };
        timeout + self.sack_room()
    }

    #[inline]
    fn sack_room(&mut self) -> u16 {
        match &mut self.receive.reassembly {
            // A duplicate that is told with the blocks makes one more.
            Some(reassembly) if self.marks.contains(Marks::SACK) => {
                let blocks = reassembly.told().min(if self.clock.is_on() { 3 } else { 4 });
                if blocks == 0 { 0 } else { 4 + 8 * blocks as u16 }
            }
            _ => 0,
        }
    }

    /// Our SYN, or SYN-ACK, with what we offer. [rfc9293 MUST-14] [rfc9293 SHLD-5] [rfc9293 MAY-3] [rfc2018 2]
    #[cold]
    pub(crate) fn syn(&mut self, now: Instant) -> Segment {
        let answers = matches!(self.state, State::SynReceived(_));
        let scale = self.marks.contains(Marks::WINDOW_SCALE).then_some(self.shared.config().window_scale());
        let options = Options {
            maximum_segment_size: Some(self.mtu.announced()),
            window_scale: scale,
            sack_permitted: self.marks.contains(Marks::SACK),
            timestamps: self.clock.stamp(now),
            ..Options::default()
        };
        let mut flags = Flags::SYN;
        if answers {
            flags |= Flags::ACK;
            self.acknowledged();
        }
        if self.marks.contains(Marks::ECN) {
            // [rfc3168 6.1.1]: both bits in a SYN, one in its answer.
            flags |= if answers { Flags::ECE } else { Flags::ECE | Flags::CWR };
        }
        let mut segment = Segment {
            source: self.local,
            destination: self.remote,
            sequence: self.send.unacknowledged,
            acknowledgment: if answers { self.receive.next } else { SequenceNumber::default() },
            flags,
            window: self.syn_window() as u16,
            urgent: 0,
            options,
        };
        if self.marks.contains(Marks::USER_TIMEOUT) {
            self.tell_user_timeout(&mut segment);
        }
        segment
    }

    /// The SYN that asked for notification is not answered: some routers drop those. [rfc3168 6.1.1.1]
    pub(crate) fn give_up_ecn(&mut self) {
        if self.shared.config().ecn != EcnMode::Off && self.state == State::SynSent {
            self.marks.remove(Marks::ECN);
            self.marks.remove(Marks::ECN_EXACT);
        }
    }
}
