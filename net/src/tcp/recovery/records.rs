//! The scoreboard: what was sent and is not yet cumulatively acknowledged, and what is known of each piece.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use demikernel_runtime::time::Instant;

use super::rate::Epoch;
use crate::tcp::spares::Spares;
use crate::wire::tcp::SequenceNumber;

/// What is known of a piece of the sequence space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Marks(u8);

impl Marks {
    /// The peer has it, out of order.
    pub(super) const SACKED: Marks = Marks(1);
    /// It is deemed to have left the network, and waits to be sent again.
    pub(super) const LOST: Marks = Marks(2);
    /// It was sent more than once: an acknowledgment does not say which transmission arrived.
    pub(super) const RETRANSMITTED: Marks = Marks(4);
    /// The sender had nothing more to send at the time.
    pub(super) const APP_LIMITED: Marks = Marks(8);

    pub(super) const fn has(self, other: Marks) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Marks) {
        self.0 |= other.0;
    }

    fn clear(&mut self, other: Marks) {
        self.0 &= !other.0;
    }
}

/// Octets that left together, and what was known of the path when they did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) start: SequenceNumber,
    pub(super) length: u32,
    /// When it was last sent.
    pub(super) sent: Instant,
    /// When the first octet of the flight it belongs to was sent (delivery rate estimation).
    pub(super) first_sent: Instant,
    /// When `delivered` was counted.
    pub(super) delivered_at: Instant,
    /// Octets delivered on the connection when this left, modulo 2^32.
    pub(super) delivered: u32,
    pub(super) marks: Marks,
}

impl Record {
    pub(super) fn end(&self) -> SequenceNumber {
        self.start + self.length
    }

    /// Whether it left after `other` did [rfc8985 6.2-sent-after].
    pub(super) fn is_sent_after(&self, sent: Instant, end: SequenceNumber) -> bool {
        self.sent > sent || (self.sent == sent && self.end().is_after(end))
    }
}

/// What an acknowledgment delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// Newly acknowledged cumulatively, with what was selectively acknowledged before.
    pub(super) acked: u32,
    /// Newly acknowledged selectively.
    pub(super) sacked: u32,
    /// Newly known to have arrived, either way.
    pub(super) delivered: u32,
    /// The piece that was sent last.
    pub(super) newest: Option<Record>,
    /// When the first piece left that was acknowledged and never sent again.
    pub(super) oldest_sent: Option<Instant>,
    /// The lowest end of what arrived and was never sent again.
    pub(super) lowest_original: Option<SequenceNumber>,
    /// The highest.
    pub(super) highest_original: Option<SequenceNumber>,
    /// Something arrived that was deemed lost and had not been sent again.
    pub(super) found: bool,
    /// When the piece at the head left the last time, if it had been sent again.
    pub(super) retransmitted_at: Option<Instant>,
}

impl Delivery {
    #[inline]
    fn arrived(&mut self, record: &Record) {
        self.delivered += record.length;
        if self.newest.is_none_or(|newest| record.is_sent_after(newest.sent, newest.end())) {
            self.newest = Some(*record);
        }
        if record.marks.has(Marks::RETRANSMITTED) {
            self.retransmitted_at.get_or_insert(record.sent);
            return;
        }
        self.found |= record.marks.has(Marks::LOST);
        self.oldest_sent = Some(self.oldest_sent.map_or(record.sent, |oldest| oldest.min(record.sent)));
        let end = record.end();
        self.lowest_original = Some(self.lowest_original.map_or(end, |lowest| lowest.earliest(end)));
        self.highest_original = Some(self.highest_original.map_or(end, |highest| highest.latest(end)));
    }
}

/// The newest of what has arrived (RFC 8985).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rack {
    /// RACK.xmit_ts
    pub(super) sent: Instant,
    /// RACK.rtt, in nanoseconds.
    pub(super) rtt: u64,
    /// RACK.end_seq
    pub(super) end: SequenceNumber,
    /// RACK.fack: the highest that has arrived.
    pub(super) highest: SequenceNumber,
}

/// The records between `unacknowledged` and `next`, without gaps and in order, and what else is to be known while there
/// are any.
///
/// It reads as its [`Flight`]; while there is none, as one in which there is nothing.
#[derive(Debug)]
pub(super) struct Scoreboard {
    /// Made when something is sent. An idle connection has none, and those that are busy in turn share a few that are in
    /// the cache.
    flight: Option<Box<Flight>>,
    pub(super) unacknowledged: SequenceNumber,
    pub(super) next: SequenceNumber,
}

/// What is only known while something is in flight.
#[derive(Debug)]
pub(super) struct Flight {
    records: VecDeque<Record>,
    pub(super) rack: Rack,
    pub(super) epoch: Epoch,
    /// The retransmission timer runs from here.
    pub(super) timeout_from: Instant,
    /// Octets with [`Marks::SACKED`].
    pub(super) sacked: u32,
    /// Octets with [`Marks::LOST`]; none of them is sacked.
    pub(super) lost: u32,
    /// Octets with [`Marks::RETRANSMITTED`] that are neither sacked nor lost (again).
    pub(super) retransmitted: u32,
    /// Pieces with [`Marks::RETRANSMITTED`], whatever else they are.
    pub(super) ambiguous: u32,
    /// No record before this is lost.
    lost_from: SequenceNumber,
    /// All records before this were sacked, deemed lost or sent again: none can be found lost by its age as an
    /// original.
    pub(super) aged_to: SequenceNumber,
}

impl Flight {
    /// Nothing is in flight from `at` on.
    const fn new(at: SequenceNumber) -> Flight {
        const START: Instant = Instant::from_nanos(0);
        Flight {
            records: VecDeque::new(),
            rack: Rack { sent: START, rtt: 0, end: at, highest: at },
            epoch: Epoch { first_sent: START, delivered_at: START },
            timeout_from: START,
            sacked: 0,
            lost: 0,
            retransmitted: 0,
            ambiguous: 0,
            lost_from: at,
            aged_to: at,
        }
    }

    /// Whether nothing is in flight.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Something was sent for the first time, behind all others.
    #[inline]
    pub(super) fn push(&mut self, record: Record) {
        debug_assert!(
            self.records.back().is_none_or(|last| last.end() == record.start),
            "records have no gaps"
        );
        self.records.push_back(record);
    }

    /// Takes away what lies before `to`, a plain run of originals none of which is marked: the common case, in which
    /// the last one is the newest. There is something to take away, and `to` is not beyond what was sent. What is not
    /// acknowledged begins there already.
    ///
    /// Returns the time at which the first left, and the last record.
    #[inline]
    pub(super) fn acknowledge_plain(&mut self, to: SequenceNumber) -> (Instant, Record) {
        // Sequence numbers that are left behind come back as those of the future.
        self.aged_to = to;
        let mut oldest = None;
        loop {
            let front = self.records.front_mut().expect("records reach up to the last octet that was sent");
            let oldest = *oldest.get_or_insert(front.sent);
            let end = front.end();
            if end.is_after(to) {
                front.length = end - to;
                front.start = to;
                return (oldest, *front);
            }
            let record = self.records.pop_front().expect("it was just seen");
            if end == to {
                return (oldest, record);
            }
        }
    }

    /// The same in memory that was in use before.
    fn renew(&mut self, at: SequenceNumber) {
        let mut records = std::mem::take(&mut self.records);
        records.clear();
        *self = Flight { records, ..Flight::new(at) };
    }
}

/// What a scoreboard without a flight reads as.
static NOTHING: Flight = Flight::new(SequenceNumber::new(0));

impl Deref for Scoreboard {
    type Target = Flight;

    #[inline(always)]
    fn deref(&self) -> &Flight {
        self.flight.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Scoreboard {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Flight {
        self.flight.get_or_insert_with(|| begin(self.unacknowledged))
    }
}

/// A flight of a connection that had none.
#[cold]
fn begin(at: SequenceNumber) -> Box<Flight> {
    match SPARE.try_with(Spares::take).ok().flatten() {
        Some(mut flight) => {
            flight.renew(at);
            flight
        }
        None => Box::new(Flight::new(at)),
    }
}

impl Scoreboard {
    pub(super) const fn new(first: SequenceNumber) -> Scoreboard {
        Scoreboard { flight: None, unacknowledged: first, next: first }
    }

    /// Whether there is memory that holds nothing.
    #[inline]
    pub(super) fn has_spare(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.records.is_empty())
    }

    /// Gives back the memory if nothing is in it.
    pub(super) fn release(&mut self) {
        if self.has_spare() {
            keep(self.flight.take());
        }
    }

    /// Takes away what lies before `to`.
    pub(super) fn acknowledge(&mut self, to: SequenceNumber, delivery: &mut Delivery) {
        delivery.acked += to - self.unacknowledged;
        while let Some(front) = self.records.front() {
            if front.start.is_at_or_after(to) {
                break;
            }
            if front.end().is_after(to) {
                self.split(0, to);
            }
            let Some(record) = self.records.pop_front() else { break };
            self.uncount(&record);
            self.ambiguous -= u32::from(record.marks.has(Marks::RETRANSMITTED));
            if !record.marks.has(Marks::SACKED) {
                delivery.arrived(&record);
            }
        }
        self.unacknowledged = to;
        self.lost_from = self.lost_from.latest(to);
        self.aged_to = self.aged_to.latest(to);
    }

    /// The peer has what is from `left` on before `right`. Pieces of which it has only a part count as far as whole
    /// segments go, so that no peer can make records of single octets.
    ///
    /// Returns what has been marked now or was marked before.
    pub(super) fn sack(
        &mut self,
        left: SequenceNumber,
        right: SequenceNumber,
        segment: u32,
        delivery: &mut Delivery,
    ) -> Option<(SequenceNumber, SequenceNumber)> {
        let mut marked: Option<(SequenceNumber, SequenceNumber)> = None;
        let mut index = self.find(left);
        while let Some(record) = self.records.get(index).copied() {
            if record.start.is_at_or_after(right) {
                break;
            }
            let Some(whole) = whole_segments(&record, left, right, segment) else {
                index += 1;
                continue;
            };
            if whole.0 != record.start {
                self.split(index, whole.0);
                index += 1;
            }
            if whole.1 != record.end() {
                self.split(index, whole.1);
            }
            if !record.marks.has(Marks::SACKED) {
                self.uncount(&self.records[index].clone());
                let flight = &mut **self;
                let record = &mut flight.records[index];
                delivery.arrived(record);
                record.marks.clear(Marks::LOST);
                record.marks.set(Marks::SACKED);
                flight.sacked += record.length;
                delivery.sacked += record.length;
            }
            marked = Some((marked.map_or(whole.0, |(start, _)| start), whole.1));
            index += 1;
        }
        marked
    }

    /// The records from the one that holds `sequence` on, with what marks one as lost.
    pub(super) fn get(&self, index: usize) -> Option<&Record> {
        self.records.get(index)
    }

    /// The first record that ends behind `sequence`.
    pub(super) fn find(&self, sequence: SequenceNumber) -> usize {
        if self.unacknowledged == sequence {
            return 0;
        }
        self.records.partition_point(|record| record.end().is_at_or_before(sequence))
    }

    /// Deems a record lost, unless the peer has it.
    pub(super) fn lose(&mut self, index: usize) -> u32 {
        let flight = &mut **self;
        let record = &mut flight.records[index];
        if record.marks.has(Marks::SACKED) || record.marks.has(Marks::LOST) {
            return 0;
        }
        let length = record.length;
        if record.marks.has(Marks::RETRANSMITTED) {
            flight.retransmitted -= length;
        }
        record.marks.set(Marks::LOST);
        let from = if flight.lost == 0 { record.start } else { flight.lost_from.earliest(record.start) };
        flight.lost_from = from;
        flight.lost += length;
        length
    }

    /// At most `most` octets at the head are lost, for a peer that does not say what it has.
    pub(super) fn lose_head(&mut self, most: u32) -> u32 {
        match self.records.front() {
            None => return 0,
            Some(front) if front.length > most => self.split(0, self.unacknowledged + most),
            Some(_) => {}
        }
        self.lose(0)
    }

    /// Octets between `start` and `end` that are lost, and have been sent once.
    pub(super) fn lost_originals(&self, start: SequenceNumber, end: SequenceNumber) -> u32 {
        let from = self.find(start.latest(self.unacknowledged));
        let within = self.records.range(from..).take_while(|record| record.start.is_before(end));
        let lost = within.filter(|it| it.marks.has(Marks::LOST) && !it.marks.has(Marks::RETRANSMITTED));
        lost.map(|record| record.length).sum()
    }

    /// What was thought lost was not.
    pub(super) fn find_again(&mut self) {
        let flight = &mut **self;
        for record in flight.records.iter_mut().filter(|record| record.marks.has(Marks::LOST)) {
            record.marks.clear(Marks::LOST);
            if record.marks.has(Marks::RETRANSMITTED) {
                flight.retransmitted += record.length;
            }
        }
        flight.lost = 0;
    }

    /// The peer has thrown away what it said it had [rfc2018 8].
    pub(super) fn forget_sacked(&mut self) {
        let at = self.unacknowledged;
        let flight = &mut **self;
        for record in flight.records.iter_mut().filter(|record| record.marks.has(Marks::SACKED)) {
            record.marks.clear(Marks::SACKED);
            if record.marks.has(Marks::RETRANSMITTED) {
                flight.retransmitted += record.length;
            }
        }
        flight.sacked = 0;
        flight.aged_to = at;
    }

    /// `length` octets from `start` on were sent again; `stamp` has what is known of the path now.
    ///
    /// Octets beyond the last record are not a retransmission; they are ignored.
    pub(super) fn resend(&mut self, start: SequenceNumber, length: u32, stamp: &Record) {
        let end = (start + length).earliest(self.next);
        let start = start.latest(self.unacknowledged);
        let mut index = self.find(start);
        while let Some(record) = self.records.get(index).copied() {
            if record.start.is_at_or_after(end) {
                break;
            }
            if record.start.is_before(start) {
                self.split(index, start);
                index += 1;
            }
            if record.end().is_after(end) {
                self.split(index, end);
            }
            self.resend_whole(index, stamp);
            index += 1;
        }
        self.seek_lost();
    }

    fn resend_whole(&mut self, index: usize, stamp: &Record) {
        let flight = &mut **self;
        let record = &mut flight.records[index];
        let (length, before) = (record.length, record.marks);
        record.marks.clear(Marks::LOST);
        record.marks.clear(Marks::APP_LIMITED);
        record.marks.set(Marks::RETRANSMITTED);
        if stamp.marks.has(Marks::APP_LIMITED) {
            record.marks.set(Marks::APP_LIMITED);
        }
        record.sent = stamp.sent;
        record.first_sent = stamp.first_sent;
        record.delivered_at = stamp.delivered_at;
        record.delivered = stamp.delivered;
        flight.ambiguous += u32::from(!before.has(Marks::RETRANSMITTED));
        if before.has(Marks::LOST) {
            flight.lost -= length;
        }
        let counted = before.has(Marks::RETRANSMITTED) && !before.has(Marks::LOST);
        if !before.has(Marks::SACKED) && !counted {
            flight.retransmitted += length;
        }
    }

    /// Moves the mark of the first lost record forward to one that is lost. To be called after what un-marks some, so
    /// that [`first_lost`](Self::first_lost) finds it where it looks first.
    pub(super) fn seek_lost(&mut self) {
        if self.lost == 0 {
            return;
        }
        let mut index = self.find(self.lost_from);
        while let Some(record) = self.records.get(index) {
            if record.marks.has(Marks::LOST) {
                self.lost_from = record.start;
                return;
            }
            index += 1;
        }
    }

    /// The first record that is to be sent again.
    pub(super) fn first_lost(&self) -> Option<&Record> {
        if self.lost == 0 {
            return None;
        }
        self.records.range(self.find(self.lost_from)..).find(|record| record.marks.has(Marks::LOST))
    }

    /// Everything from the last segment on, if there is anything.
    pub(super) fn last_segment(&self, segment: u32) -> Option<(SequenceNumber, u32)> {
        let last = self.records.back()?;
        let length = last.length.min(segment);
        Some((last.end() - length, length))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// What has been sent and not cumulatively acknowledged.
    #[inline]
    pub(super) fn outstanding(&self) -> u32 {
        self.next - self.unacknowledged
    }

    /// What is believed to be in the network [rfc6675 4-setpipe]: of each octet the last transmission counts, if the
    /// octet is neither sacked nor lost.
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.outstanding() - self.sacked - self.lost
    }

    fn uncount(&mut self, record: &Record) {
        if record.marks.has(Marks::SACKED) {
            self.sacked -= record.length;
        } else if record.marks.has(Marks::LOST) {
            self.lost -= record.length;
        } else if record.marks.has(Marks::RETRANSMITTED) {
            self.retransmitted -= record.length;
        }
    }

    fn split(&mut self, index: usize, at: SequenceNumber) {
        let flight = &mut **self;
        let record = &mut flight.records[index];
        debug_assert!(at.is_after(record.start) && at.is_before(record.end()));
        let mut rest = *record;
        record.length = at - record.start;
        rest.start = at;
        rest.length -= record.length;
        flight.ambiguous += u32::from(rest.marks.has(Marks::RETRANSMITTED));
        flight.records.insert(index + 1, rest);
    }
}

impl Drop for Scoreboard {
    fn drop(&mut self) {
        keep(self.flight.take());
    }
}

/// Those with more memory are not kept.
const LARGE: usize = 32;

thread_local! {
    static SPARE: Spares<Flight> = const { Spares::new() };
}

/// Keeps the memory of what is no longer in flight.
fn keep(flight: Option<Box<Flight>>) {
    if let Some(flight) = flight
        && flight.records.capacity() <= LARGE
    {
        // A thread that is ending keeps none.
        let _ = SPARE.try_with(|spares| spares.keep(flight));
    }
}

/// What of a record a block acknowledges, in whole segments counted from its start.
fn whole_segments(
    record: &Record,
    left: SequenceNumber,
    right: SequenceNumber,
    segment: u32,
) -> Option<(SequenceNumber, SequenceNumber)> {
    let segment = segment.max(1);
    let from = if left.is_at_or_before(record.start) {
        0
    } else {
        (left - record.start).div_ceil(segment) * segment
    };
    let to = if right.is_at_or_after(record.end()) {
        record.length
    } else {
        (right - record.start) / segment * segment
    };
    (from < to).then(|| (record.start + from, record.start + to))
}
