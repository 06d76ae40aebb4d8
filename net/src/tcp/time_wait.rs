//! TIME-WAIT: what remains of a connection until its old segments have died (RFC 9293 section 3.6.1, RFC 1337,
//! RFC 6191).

use demikernel_runtime::time::{Duration, Instant};

use super::connection::{Clock, Connection};
use crate::wire::tcp::{Flags, Options, Segment, SequenceNumber};

/// A connection in TIME-WAIT, in a tenth of its memory.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    until: Instant,
    length: Duration,
    local: u16,
    remote: u16,
    window: u16,
    send_next: SequenceNumber,
    receive_next: SequenceNumber,
    clock: Clock,
}

/// What is to be done about a segment that has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InTimeWait {
    /// Nothing.
    Drop,
    /// This is to be sent.
    Answer(Segment),
    /// It begins a new connection: this one is over, and the SYN is for whoever listens. Its initial number must be
    /// after this one.
    Reopen(SequenceNumber),
}

impl TimeWait {
    pub(crate) fn of(connection: &mut Connection, until: Instant, length: Duration) -> TimeWait {
        TimeWait {
            until,
            length,
            local: connection.local,
            remote: connection.remote,
            window: connection.receive.advertise(),
            send_next: connection.send.next,
            receive_next: connection.receive.next,
            clock: connection.clock,
        }
    }

    /// When it is over.
    #[inline]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// A segment has come. `payload` is its length.
    pub fn handle_segment(&mut self, now: Instant, segment: &Segment, payload: u32) -> InTimeWait {
        let flags = segment.flags;
        // [rfc1337 3-F1]: a reset does not end it, for old ones could then hurt a new connection.
        if flags.contains(Flags::RST) {
            return InTimeWait::Drop;
        }
        if flags.contains(Flags::SYN) {
            return self.handle_syn(now, segment);
        }
        let old = matches!(segment.options.timestamps, Some(stamps) if self.clock.is_on() && self.clock.is_old(now, stamps.value));
        if !flags.contains(Flags::ACK) {
            return InTimeWait::Drop;
        }
        let length = payload + u32::from(flags.contains(Flags::FIN));
        if let Some(stamps) = segment.options.timestamps
            && self.clock.is_on()
            && !old
        {
            self.clock.set_recent(now, stamps.value);
        }
        // [rfc9293 3.10.7.4]: a FIN again means that our acknowledgment was lost, and time begins anew.
        if flags.contains(Flags::FIN) && segment.sequence + length == self.receive_next && !old {
            self.until = now.saturating_add(self.length);
        }
        // What is in its place says nothing that needs an answer.
        if length == 0 && segment.sequence == self.receive_next {
            return InTimeWait::Drop;
        }
        InTimeWait::Answer(self.acknowledgment(now))
    }

    /// A SYN may begin a new connection if nothing of the old one can be taken for the new. [rfc6191 2]
    /// [rfc9293 MAY-2] [rfc9293 SHLD-4] [rfc9293 3.4.1]
    fn handle_syn(&self, now: Instant, segment: &Segment) -> InTimeWait {
        let newer_number = segment.sequence.is_after(self.receive_next);
        let may = match segment.options.timestamps {
            Some(stamps) if self.clock.is_on() => {
                let distance = stamps.value.wrapping_sub(self.clock.recent) as i32;
                distance > 0 || distance == 0 && newer_number
            }
            _ => newer_number,
        };
        if may && !segment.flags.contains(Flags::ACK) {
            // Beyond all that the old connection could have sent.
            return InTimeWait::Reopen(self.send_next + (1 << 16));
        }
        InTimeWait::Answer(self.acknowledgment(now))
    }

    fn acknowledgment(&self, now: Instant) -> Segment {
        Segment {
            source: self.local,
            destination: self.remote,
            sequence: self.send_next,
            acknowledgment: self.receive_next,
            flags: Flags::ACK,
            window: self.window,
            urgent: 0,
            options: Options { timestamps: self.clock.stamp(now), ..Options::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::Timestamps;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);
    const LENGTH: Duration = Duration::from_secs(60);

    fn time_wait(timestamps: bool) -> TimeWait {
        let mut clock = Clock::new(true, 0);
        clock.set_recent(START, 500);
        if !timestamps {
            clock.turn_off();
        }
        TimeWait {
            until: START + LENGTH,
            length: LENGTH,
            local: 1,
            remote: 2,
            window: 100,
            send_next: SequenceNumber::new(1000),
            receive_next: SequenceNumber::new(2000),
            clock,
        }
    }

    fn segment(flags: Flags, sequence: u32, stamp: Option<u32>) -> Segment {
        let timestamps = stamp.map(|value| Timestamps { value, echo: 0 });
        let options = Options { timestamps, ..Options::default() };
        Segment { flags, sequence: SequenceNumber::new(sequence), options, ..Segment::default() }
    }

    /// [rfc1337 3-F1], [rfc6191 2], [rfc9293 MAY-2], [rfc9293 SHLD-4], [rfc9293 3.4.1]
    #[test]
    fn each_segment_has_its_answer() {
        #[derive(Debug, PartialEq)]
        enum Is {
            Drop,
            Answer,
            Reopen,
        }
        let table = [
            ("reset", true, Flags::RST, 2000, Some(501), Is::Drop),
            ("acknowledgment in place", true, Flags::ACK, 2000, Some(501), Is::Drop),
            ("old data", true, Flags::ACK, 1900, Some(501), Is::Answer),
            ("FIN again", true, Flags::ACK | Flags::FIN, 1999, Some(501), Is::Answer),
            ("later stamp", true, Flags::SYN, 5, Some(501), Is::Reopen),
            ("same stamp, later number", true, Flags::SYN, 2001, Some(500), Is::Reopen),
            ("same stamp, earlier number", true, Flags::SYN, 1999, Some(500), Is::Answer),
            ("earlier stamp", true, Flags::SYN, 2001, Some(499), Is::Answer),
            ("no stamps, later number", false, Flags::SYN, 2001, None, Is::Reopen),
            ("no stamps, earlier number", false, Flags::SYN, 2000, None, Is::Answer),
            ("SYN-ACK", false, Flags::SYN | Flags::ACK, 2001, None, Is::Answer),
        ];
        for (what, stamps, flags, sequence, stamp, expected) in table {
            let mut time_wait = time_wait(stamps);
            let is = match time_wait.handle_segment(START, &segment(flags, sequence, stamp), 0) {
                InTimeWait::Drop => Is::Drop,
                InTimeWait::Reopen(number) => {
                    assert!(number.is_after(SequenceNumber::new(1000)));
                    Is::Reopen
                }
                InTimeWait::Answer(answer) => {
                    assert_eq!((answer.sequence.value(), answer.acknowledgment.value()), (1000, 2000));
                    Is::Answer
                }
            };
            assert_eq!(is, expected, "{what}");
        }
    }

    /// [rfc9293 3.10.7.4]: a FIN that comes again begins the wait anew, an old one does not.
    #[test]
    fn a_fin_begins_the_wait_anew() {
        let mut time_wait = time_wait(true);
        let later = START + Duration::from_secs(10);
        time_wait.handle_segment(later, &segment(Flags::ACK | Flags::FIN, 1999, Some(400)), 0);
        assert_eq!(time_wait.until(), START + LENGTH);
        time_wait.handle_segment(later, &segment(Flags::ACK | Flags::FIN, 1999, Some(501)), 0);
        assert_eq!(time_wait.until(), later + LENGTH);
    }

    #[test]
    fn it_is_small() {
        assert!(std::mem::size_of::<TimeWait>() <= 64);
    }
}
