//! A segment arrives: RFC 9293 section 3.10.7, one function for each step.
//!
//! First comes the prediction ([`fast`]): most segments of an established connection are the next data or the next
//! acknowledgment, and change nothing else. All others go through the steps in their order:
//!
//! | step | what is looked at | where |
//! |---|---|---|
//! | SYN-SENT | a state of its own | `syn_sent` |
//! | 1 | timestamp, sequence number | `checks` |
//! | 2 | RST | `checks` |
//! | 3 | security: there is none | |
//! | 4 | SYN | `checks` |
//! | 5 | ACK | `acknowledgment` |
//! | 6 | URG | `Connection::process_urgent` |
//! | 7 | text | `text` |
//! | 8 | FIN | `text` |

mod acknowledgment;
mod checks;
mod fast;
mod syn_sent;
mod text;

use std::ops::ControlFlow;

use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;

use super::Ecn;
use super::connection::{Connection, Marks};
use super::state::State;
use super::time_wait::InTimeWait;
use crate::wire::plain::Plain;
use crate::wire::tcp::{Flags, Segment, SequenceNumber};

/// Whether the steps that follow see the segment.
pub(crate) type Step = ControlFlow<()>;

/// A segment on its way through the steps, which cut off what lies outside of the window.
pub(crate) struct Arrival<'a> {
    pub(crate) now: Instant,
    pub(crate) segment: &'a Segment,
    /// Of the first octet of `payload`.
    pub(crate) sequence: SequenceNumber,
    pub(crate) payload: Buffer,
    pub(crate) fin: bool,
    /// There is a SYN that is not the known one.
    pub(crate) syn: bool,
    pub(crate) ecn: Ecn,
}

impl Arrival<'_> {
    fn flags(&self) -> Flags {
        self.segment.flags
    }

    /// Octets of the sequence space, without a SYN.
    fn length(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.fin)
    }

    fn end(&self) -> SequenceNumber {
        self.sequence + self.length()
    }
}

impl Connection {
    /// A segment of this connection has arrived, with its checksum verified.
    #[inline]
    pub fn handle_segment(&mut self, now: Instant, segment: &Segment, payload: Buffer, ecn: Ecn) {
        match Plain::of(segment) {
            Some(plain) if self.is_predicted(&plain, payload.len(), ecn) => {
                self.handle_predicted(now, &plain, payload);
            }
            _ => self.segment_arrives(now, segment, payload, ecn),
        }
    }

    /// Of any segment, predicted or not.
    pub(in crate::tcp) fn segment_arrives(
        &mut self,
        now: Instant,
        segment: &Segment,
        payload: Buffer,
        ecn: Ecn,
    ) {
        match self.state {
            State::Closed => self.arrives_closed(),
            State::SynSent => self.arrives_syn_sent(now, segment, payload, ecn),
            State::TimeWait => self.arrives_time_wait(now, segment, &payload),
            _ => {
                let fin = segment.flags.contains(Flags::FIN);
                let syn = segment.flags.contains(Flags::SYN);
                let sequence = segment.sequence;
                let mut arrival = Arrival { now, segment, sequence, payload, fin, syn, ecn };
                let _ = self.arrives_synchronized(&mut arrival);
            }
        }
    }

    /// Steps 1 to 8.
    fn arrives_synchronized(&mut self, arrival: &mut Arrival<'_>) -> Step {
        self.check_open(arrival)?;
        self.check_timestamp(arrival)?;
        self.check_sequence(arrival)?;
        self.check_reset(arrival)?;
        self.check_syn(arrival)?;
        self.check_acknowledgment(arrival)?;
        self.note_timestamp(arrival);
        self.heard = arrival.now;
        self.note_congestion(arrival);
        if arrival.flags().contains(Flags::URG) && self.state.may_receive() {
            self.process_urgent(arrival.segment.sequence, arrival.segment.urgent);
        }
        if let Some(timeout) = arrival.segment.options.user_timeout {
            self.heed_user_timeout(arrival.now, timeout);
        }
        self.process_text(arrival)?;
        self.process_fin(arrival)
    }

    /// The stack answers with a reset what finds no connection: see [`reset_for`](super::reset_for).
    #[cold]
    fn arrives_closed(&mut self) {
        self.shared.count(super::Counter::Closed);
    }

    /// Nobody has taken the small value that stands for the connection, so it is asked here.
    #[cold]
    fn arrives_time_wait(&mut self, now: Instant, segment: &Segment, payload: &Buffer) {
        let mut time_wait = self.time_wait();
        let answer = time_wait.handle_segment(now, segment, payload.len() as u32);
        self.timers.state = time_wait.until();
        self.rare().time_wait = Some(time_wait);
        match answer {
            InTimeWait::Drop => {}
            InTimeWait::Answer(_) => self.marks.insert(Marks::ACKNOWLEDGE),
            // Whoever keeps a connection in TIME-WAIT wants no other in its place.
            InTimeWait::Reopen(_) => self.marks.insert(Marks::ACKNOWLEDGE),
        }
    }

    /// An acknowledgment that asks the peer to show that it means what it says. [rfc5961 7]
    #[cold]
    pub(crate) fn challenge(&mut self, now: Instant) {
        if self.shared.may_challenge(now) {
            self.marks.insert(Marks::ACKNOWLEDGE);
        }
    }
}
