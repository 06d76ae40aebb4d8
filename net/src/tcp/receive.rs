//! The receive side: what has arrived in order and waits for the user, the window, and when to acknowledge.

use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::time::{Duration, Instant};

use super::reassembly::Reassembly;
use crate::wire::tcp::SequenceNumber;

/// In the place of a count of quick acknowledgments: the user answers what comes, so they travel with answers.
const INTERACTIVE: u8 = u8::MAX;

/// Buffers that wait at most if they are small: then they are merged, for each may hold a whole frame's memory.
const BUFFERS: usize = 512;

/// What a buffer has on average at least if there are more of them; and up to this size bytes are copied.
const SMALL: usize = 256;

/// The receive sequence space, and what is in it (RFC 9293 section 3.3.1).
pub(crate) struct Receive {
    /// RCV.NXT.
    pub(crate) next: SequenceNumber,
    /// RCV.NXT + RCV.WND: it never moves back. [rfc9293 SHLD-14]
    pub(crate) edge: SequenceNumber,
    /// The acknowledgment that was sent last: Last.ACK.sent of RFC 7323.
    pub(crate) acknowledged: SequenceNumber,
    queue: Sga,
    /// Octets that may be in it.
    pub(crate) limit: u32,
    /// What has arrived before its turn.
    pub(crate) reassembly: Option<Box<Reassembly>>,
    tuning: Tuning,
    /// Octets taken by the user, in all.
    taken: u64,
    /// The largest segment that has come: what "full-sized" means for delayed acknowledgments.
    pub(crate) segment: u16,
    /// What our windows are shifted by.
    pub(crate) shift: u8,
    /// Acknowledgments that are sent at once, as the peer's window is small at first; or [`INTERACTIVE`].
    pub(crate) quick: u8,
    /// Half second in which an unacceptable segment without data was answered last.
    pub(crate) answered: u16,
    /// Something with PSH has come since the last acknowledgment.
    pub(crate) pushed: bool,
    /// The buffer grows, until the user has set its size.
    tunes: bool,
}

/// How much the user takes in a round trip: the buffer is to hold twice as much.
struct Tuning {
    since: Instant,
    copied: u32,
    /// What it took in the round trip before.
    space: u32,
}

impl Receive {
    pub(crate) fn new(limit: u32, shift: u8) -> Receive {
        Receive {
            next: SequenceNumber::default(),
            edge: SequenceNumber::default(),
            acknowledged: SequenceNumber::default(),
            queue: Sga::new(),
            limit,
            reassembly: None,
            tuning: Tuning { since: Instant::from_nanos(0), copied: 0, space: 0 },
            taken: 0,
            segment: 536,
            shift,
            quick: 0,
            answered: 0,
            pushed: false,
            tunes: true,
        }
    }

    /// The peer's SYN has the number `initial`; it was told a window of `window` octets, or will be.
    pub(crate) fn begin(&mut self, initial: SequenceNumber, window: u32) {
        self.next = initial + 1;
        self.acknowledged = self.next;
        self.edge = self.next + window;
    }

    /// RCV.WND.
    #[inline]
    pub(crate) fn window(&self) -> u32 {
        self.edge - self.next
    }

    /// Octets that have arrived and are not acknowledged.
    #[inline]
    pub(crate) fn unacknowledged(&self) -> u32 {
        self.next - self.acknowledged
    }

    /// What comes next in the stream has come. Whether there was memory for it.
    #[inline]
    pub(crate) fn deliver(&mut self, buffer: Buffer) -> bool {
        if self.queue.segments() >= BUFFERS && !self.merge() {
            return false;
        }
        let length = buffer.len() as u32;
        self.next += length;
        self.queue.push(buffer);
        true
    }

    /// What follows in the reassembly queue is in its turn now; whether that reaches the end of the stream.
    pub(crate) fn deliver_reassembled(&mut self) -> bool {
        let Some(reassembly) = &mut self.reassembly else { return false };
        let (octets, end) = reassembly.take(self.next, &mut self.queue);
        self.next += octets;
        end
    }

    /// Copies small buffers together. Whether that was possible, or there was no need.
    #[cold]
    fn merge(&mut self) -> bool {
        if self.queue.len() >= self.queue.segments() * SMALL {
            return true;
        }
        let Ok(mut whole) = BufferMut::with_capacity(self.queue.len()) else { return false };
        self.queue.iter().for_each(|part| whole.extend_from_slice(part));
        self.queue = whole.freeze().into();
        true
    }

    /// Takes at most `limit` octets out of the first buffer.
    #[inline]
    pub(crate) fn take(&mut self, limit: usize) -> Option<Buffer> {
        let mut buffer = self.queue.pop_front()?;
        if buffer.len() > limit {
            let rest = buffer.split_off(limit);
            let behind = std::mem::replace(&mut self.queue, rest.into());
            self.queue.extend(behind);
        }
        self.taken += buffer.len() as u64;
        Some(buffer)
    }

    /// Octets that have arrived in order, in all.
    pub(crate) fn received(&self) -> u64 {
        self.taken + u64::from(self.queued())
    }

    /// Octets that the user has not taken.
    #[inline]
    pub(crate) fn queued(&self) -> u32 {
        self.queue.len() as u32
    }

    /// Moves the edge as far as there is room, for ever not at all if there is none [rfc9293 MAY-8], if that is far enough to be worth telling (silly window syndrome), and
    /// returns the field for the header.
    ///
    /// The window is rounded up to a whole of its scale, as in Linux: rounded down it would shrink in the peer's
    /// eyes. [rfc7323 2.4] [rfc9293 MUST-39] [rfc9293 SHLD-14]
    #[inline(always)]
    pub(crate) fn advertise(&mut self) -> u16 {
        let room = self.limit.saturating_sub(self.queued()).min(u32::from(u16::MAX) << self.shift);
        let moved = (self.next + room).distance_from(self.edge);
        if moved > 0 && moved as u32 >= self.worth_telling() {
            self.edge = self.next + room;
        }
        let unit = (1u32 << self.shift) - 1;
        let field = (self.window().saturating_add(unit) >> self.shift).min(u32::from(u16::MAX));
        self.edge = self.next + (field << self.shift);
        field as u16
    }

    /// The field for the header of an acknowledgment of less than has come: the edge is not before where it was.
    pub(crate) fn advertise_from(&mut self, acknowledgment: SequenceNumber) -> u16 {
        let unit = (1u32 << self.shift) - 1;
        let window = self.edge - acknowledgment;
        let field = (window.saturating_add(unit) >> self.shift).min(u32::from(u16::MAX));
        self.edge = self.edge.latest(acknowledgment + (field << self.shift));
        field as u16
    }

    /// The least by which the window is opened. [rfc9293 MUST-39]
    #[inline]
    fn worth_telling(&self) -> u32 {
        u32::from(self.segment).min(self.limit / 2)
    }

    /// Whether the peer should be told of the room that the user has made: if there is twice as much as it knows of.
    #[inline]
    pub(crate) fn has_opened(&self) -> bool {
        let room = self.limit.saturating_sub(self.queued());
        let window = self.window();
        room >= window.saturating_mul(2) && room - window >= self.worth_telling() && room > 0
    }

    /// The user has taken `count` octets: what it takes in a round trip is what the window must let pass, so the
    /// buffer becomes twice that. (Dynamic right-sizing, as in Linux.)
    #[inline]
    pub(crate) fn tune(&mut self, now: Instant, count: u32, round_trip: Duration, most: u32) {
        let tuning = &mut self.tuning;
        tuning.copied = tuning.copied.saturating_add(count);
        if now < tuning.since.saturating_add(round_trip) {
            return;
        }
        if self.tunes && tuning.copied > tuning.space {
            let growth = tuning.copied - tuning.space;
            let wanted = (2 * u64::from(tuning.copied) + 16 * u64::from(self.segment) + u64::from(growth))
                .min(u64::from(most)) as u32;
            self.limit = self.limit.max(wanted);
            tuning.space = tuning.copied;
        }
        tuning.copied = 0;
        tuning.since = now;
    }

    /// The user has set the size of the buffer.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
        self.tunes = false;
    }

    /// Whether acknowledgments travel with answers.
    #[inline]
    pub(crate) fn is_interactive(&self) -> bool {
        self.quick == INTERACTIVE
    }

    /// The user answers what comes, or it does not.
    #[inline]
    pub(crate) fn set_interactive(&mut self, on: bool) {
        if on {
            self.quick = INTERACTIVE;
        } else if self.quick == INTERACTIVE {
            self.quick = 0;
        }
    }

    /// Whether one more acknowledgment is to be sent at once.
    #[inline]
    pub(crate) fn take_quick(&mut self) -> bool {
        let takes = self.quick > 0 && self.quick != INTERACTIVE;
        self.quick -= u8::from(takes);
        takes
    }

    /// As many acknowledgments at once as fill half of the window, 16 at most. (As Linux.)
    pub(crate) fn enter_quick(&mut self) {
        let count = self.window() / (2 * u32::from(self.segment.max(1)));
        self.quick = count.clamp(2, 16) as u8;
    }

    /// Drops all data.
    pub(crate) fn clear(&mut self) {
        self.queue = Sga::new();
        self.reassembly = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(limit: u32, shift: u8) -> Receive {
        let mut receive = Receive::new(limit, shift);
        receive.begin(SequenceNumber::new(u32::MAX - 10), limit);
        receive
    }

    /// [rfc9293 MUST-39]: the window opens by a segment or half of the buffer, not by less.
    #[test]
    fn the_window_opens_in_steps_worth_telling() {
        let mut receive = receive(2000, 0);
        assert!(receive.deliver(vec![1; 2000].into()));
        assert_eq!(receive.advertise(), 0);
        receive.take(535);
        assert!(!receive.has_opened());
        assert_eq!(receive.advertise(), 0);
        receive.take(1);
        assert!(receive.has_opened());
        assert_eq!(receive.advertise(), 536);
    }

    /// [rfc9293 SHLD-14], [rfc7323 2.4]: whatever comes and is taken, what the peer sees never shrinks.
    #[test]
    fn the_right_edge_never_moves_back() {
        let mut receive = receive(100_000, 7);
        let mut edge = receive.next + (u32::from(receive.advertise()) << 7);
        for step in 1..500u32 {
            let length = (step * 37 % 600).min(receive.window());
            assert!(receive.deliver(vec![0; length as usize].into()));
            if step % 5 == 0 {
                receive.take((step * 91 % 1500) as usize + 1);
            }
            if step == 250 {
                receive.set_limit(1000);
            }
            let new = receive.next + (u32::from(receive.advertise()) << 7);
            assert!(new.is_at_or_after(edge));
            edge = new;
        }
    }

    #[test]
    fn small_buffers_are_merged() {
        let mut receive = receive(100_000, 0);
        for value in 0..5000u32 {
            assert!(receive.deliver(vec![value as u8].into()));
            assert!(receive.queue.segments() <= BUFFERS);
        }
        let mut taken = Vec::new();
        while let Some(buffer) = receive.take(7) {
            taken.extend_from_slice(&buffer);
        }
        assert_eq!(taken, (0..5000u32).map(|value| value as u8).collect::<Vec<_>>());
        assert_eq!(receive.queued(), 0);
    }

    #[test]
    fn the_buffer_grows_with_what_the_user_takes() {
        let mut receive = receive(10_000, 7);
        let round_trip = Duration::from_millis(10);
        let mut now = Instant::from_nanos(1_000_000_000);
        receive.tune(now, 0, round_trip, 1 << 20);
        for copied in [10_000, 40_000, 160_000, 3_000_000] {
            now += round_trip;
            receive.tune(now, copied, round_trip, 1 << 20);
            assert!(receive.limit >= (2 * copied).min(1 << 20));
        }
        assert_eq!(receive.limit, 1 << 20);
        receive.set_limit(5000);
        receive.tune(now + round_trip, 4_000_000, round_trip, 1 << 20);
        assert_eq!(receive.limit, 5000);
    }
}
