//! SYN-SENT (RFC 9293 section 3.10.7.3).

use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;

use super::Arrival;
use crate::tcp::Ecn;
use crate::tcp::config::EcnMode;
use crate::tcp::connection::{Connection, Marks, Rare};
use crate::tcp::error::Error;
use crate::tcp::state::{Origin, State};
use crate::wire::tcp::{Flags, Segment};

impl Connection {
    #[cold]
    pub(super) fn arrives_syn_sent(&mut self, now: Instant, segment: &Segment, payload: Buffer, ecn: Ecn) {
        let flags = segment.flags;
        let acknowledges = flags.contains(Flags::ACK);
        // First, the ACK bit: only our SYN can be acknowledged.
        let in_flight = self.send.next - self.send.unacknowledged;
        let acceptable = (segment.acknowledgment - self.send.unacknowledged).wrapping_sub(1) < in_flight;
        if acknowledges && !acceptable {
            if !flags.contains(Flags::RST) {
                self.answer_with_reset(segment);
            }
            return;
        }
        // Second, the RST bit. [rfc5961 3.2-syn-sent]: without an acknowledgment of our SYN it may be anybody's.
        if flags.contains(Flags::RST) {
            if acknowledges {
                self.fail(Error::Refused);
            }
            return;
        }
        // Fourth, the SYN bit.
        if !flags.contains(Flags::SYN) {
            return;
        }
        self.negotiate_ecn(flags);
        self.negotiate(now, segment);
        self.heard = now;
        if acknowledges {
            self.begin_window(segment);
            self.advance(now, segment);
            self.become_established();
            // [rfc9293 3.10.7.3]: at once, so that the peer knows; data may go with it.
            self.marks.insert(Marks::ACKNOWLEDGE);
        } else {
            // Both sides have asked at once. [rfc9293 MUST-10] [rfc9293 3.5]
            self.state = State::SynReceived(Origin::Active);
            self.send.window = u32::from(segment.window);
            self.marks.insert(Marks::SYN);
        }
        // What follows the SYN is processed now. [rfc9293 3.10.7.3]
        let fin = flags.contains(Flags::FIN);
        if self.state == State::Established && (fin || !payload.is_empty()) {
            let sequence = segment.sequence + 1;
            let mut arrival = Arrival { now, segment, sequence, payload, fin, syn: false, ecn };
            let _ = self.process_first_text(&mut arrival);
        }
    }

    /// Whether the peer answers our wish for notification. [rfc3168 6.1.1] [rfc9293 SHLD-8]
    fn negotiate_ecn(&mut self, flags: Flags) {
        let agreed = if flags.contains(Flags::ACK) {
            self.marks.contains(Marks::ECN) && flags.contains(Flags::ECE) && !flags.contains(Flags::CWR)
        } else {
            self.shared.config().ecn != EcnMode::Off && flags.contains(Flags::ECE | Flags::CWR)
        };
        self.marks.set(Marks::ECN, agreed);
        if !agreed {
            self.marks.remove(Marks::ECN_EXACT);
        }
    }

    /// `<SEQ=SEG.ACK><CTL=RST>`: the segment is of an older connection. [rfc9293 3.10.7.3]
    #[cold]
    pub(super) fn answer_with_reset(&mut self, segment: &Segment) {
        let rare: &mut Rare = self.rare();
        rare.answer_with_reset(segment.acknowledgment);
        self.marks.insert(Marks::RESET);
    }
}
