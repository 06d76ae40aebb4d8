//! What leaves most of the time, in one look: the rest of what the user has sent, in one small segment, or nothing but
//! an acknowledgment.

use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;

use super::{Connection, Marks};
use crate::tcp::Ecn;
use crate::tcp::recovery::Sent;
use crate::tcp::state::State;
use crate::wire::plain::Plain;
use crate::wire::tcp::SequenceNumber;

/// What there is to transmit.
pub(crate) enum Polled<'a> {
    /// This, and then nothing more: its header, payload, and what the IP header is to say.
    Plain(Plain, &'a [u8], Ecn),
    /// Nothing.
    Nothing,
    /// [`poll_transmit`](Connection::poll_transmit) knows.
    Other,
}

impl Connection {
    /// What [`poll_transmit`](Connection::poll_transmit) would give if it were called until it gives nothing, if that is
    /// `most` octets at most and there is nothing unusual about it.
    #[inline]
    pub(crate) fn poll_plain(&mut self, now: Instant, most: u32) -> Polled<'_> {
        if self.state != State::Established
            || self.marks.intersects(Marks::UNUSUAL)
            || self.receive.reassembly.is_some()
            || !self.recovery.is_calm()
        {
            return if self.has_nothing() { Polled::Nothing } else { Polled::Other };
        }
        let sequence = self.send.next;
        let end = self.send.queue.end();
        let length = end - sequence;
        let (mut payload, mut ecn) = (&[][..], Ecn::NotCapable);
        if length > 0 {
            let full = u32::from(self.send.segment);
            let small =
                self.marks.contains(Marks::NO_DELAY) || !self.send.small.is_after(self.send.unacknowledged);
            let room = self.window_room().min(self.recovery.allowance());
            if length > room.min(full).min(most) || !small {
                return Polled::Other;
            }
            let Some(rest) = self.send.queue.rest(sequence) else { return Polled::Other };
            payload = rest;
            if sequence == self.send.unacknowledged
                && let Some(rare) = &mut self.rare
            {
                rare.progress = Some(now);
            }
            if now < self.heard.saturating_add(self.shared.config().acknowledgment_delay) {
                self.receive.set_interactive(true);
            }
            if length < full {
                self.send.small = end;
            }
            if self.marks.contains(Marks::ECN) {
                ecn = Ecn::Capable0;
            }
            self.send.next = end;
            self.timers.state = Instant::MAX;
            self.recovery.on_sent(now, sequence, length, Sent::New, true);
        } else if !self.marks.contains(Marks::ACKNOWLEDGE) {
            return Polled::Nothing;
        }
        let window = self.receive.advertise();
        let acknowledgment = self.receive.next;
        self.receive.acknowledged = acknowledgment;
        self.receive.pushed = false;
        self.timers.acknowledge = Instant::MAX;
        self.marks.remove(Marks::ACKNOWLEDGE);
        let timestamps = self.clock.stamp(now);
        // Field by field, as the payload is borrowed of the connection.
        let plain = Plain { sequence, acknowledgment, window, pushes: length > 0, timestamps };
        Polled::Plain(plain, payload, ecn)
    }

    /// What [`poll_transmit`](Connection::poll_transmit) would give for a device that cuts nothing, if that is a full
    /// segment of what was never sent, from one buffer, and there is nothing unusual about it: as of a stream nearly all
    /// are.
    #[inline]
    pub(crate) fn poll_full(&mut self, now: Instant) -> Option<(Plain, Buffer, Ecn)> {
        if self.state != State::Established
            || self.marks.intersects(Marks::UNUSUAL)
            || self.receive.reassembly.is_some()
            || !self.recovery.is_calm()
            || self.mtu.is_due(now)
        {
            return None;
        }
        let sequence = self.send.next;
        let full = u32::from(self.send.segment);
        let room = self.window_room().min(self.recovery.allowance());
        if (self.send.queue.end() - sequence).min(room) < full {
            return None;
        }
        let payload = self.send.queue.part(sequence, full as usize)?;
        let end = sequence + full;
        let last = end == self.send.queue.end();
        let pushes = last || end == self.send.pushed;
        if sequence == self.send.unacknowledged {
            self.note_progress(now);
        }
        if now < self.heard.saturating_add(self.shared.config().acknowledgment_delay) {
            self.receive.set_interactive(true);
        }
        self.send.next = end;
        self.timers.state = Instant::MAX;
        self.recovery.on_sent(now, sequence, full, Sent::New, last);
        let ecn = if self.marks.contains(Marks::ECN) { Ecn::Capable0 } else { Ecn::NotCapable };
        Some((self.plain(now, sequence, pushes), payload, ecn))
    }

    /// A header that acknowledges all that has come.
    #[inline(always)]
    fn plain(&mut self, now: Instant, sequence: SequenceNumber, pushes: bool) -> Plain {
        let window = self.receive.advertise();
        let acknowledgment = self.receive.next;
        self.acknowledged();
        Plain { sequence, acknowledgment, window, pushes, timestamps: self.clock.stamp(now) }
    }

    /// Whether there is nothing to transmit, nor a connection that is over.
    #[inline]
    fn has_nothing(&self) -> bool {
        !matches!(self.state, State::Closed | State::TimeWait)
            && !self.marks.intersects(Marks::TRANSMIT)
            && !self.marks.contains(Marks::RESET)
            && !self.has_unsent()
            && self.recovery.lost() == 0
    }
}
