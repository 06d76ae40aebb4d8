//! Header prediction: the next data, or the next acknowledgment, of an established connection.

use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;

use crate::tcp::Ecn;
use crate::tcp::config::Counter;
use crate::tcp::connection::{Connection, Events, Marks};
use crate::tcp::state::State;
use crate::wire::plain::Plain;

impl Connection {
    /// Whether every step of RFC 9293 would let the segment, with `length` octets, pass and only deliver it. What the steps
    /// do with such a segment is what [`handle_predicted`](Self::handle_predicted) does, to the last bit of what leaves
    /// afterwards.
    #[inline]
    pub(crate) fn is_predicted(&self, plain: &Plain, length: usize, ecn: Ecn) -> bool {
        let acknowledged = plain.acknowledgment - self.send.unacknowledged;
        let in_flight = self.send.next - self.send.unacknowledged;
        let stamped = match plain.timestamps {
            Some(stamps) => self.clock.is_on() && stamps.value.wrapping_sub(self.clock.recent) as i32 >= 0,
            None => !self.clock.is_on(),
        };
        self.state == State::Established
            && plain.sequence == self.receive.next
            && u32::from(plain.window) << self.send.shift == self.send.window
            && acknowledged <= in_flight
            && stamped
            && self.receive.reassembly.is_none()
            && length as u32 <= self.receive.window()
            && (acknowledged != 0 || length != 0)
            && !self.marks.intersects(Marks::UNPREDICTABLE)
            && ecn != Ecn::Congestion
    }

    /// What is left of steps 5 and 7.
    #[inline]
    pub(crate) fn handle_predicted(&mut self, now: Instant, plain: &Plain, payload: Buffer) {
        self.heard = now;
        if let Some(stamps) = plain.timestamps
            && plain.sequence.is_at_or_before(self.receive.acknowledged)
        {
            self.clock.set_recent(now, stamps.value);
        }
        // What came before its turn may have told of the window already.
        self.send.window_sequence = self.send.window_sequence.latest(plain.sequence);
        self.send.probes = 0;
        if plain.acknowledgment != self.send.unacknowledged {
            self.advance_plainly(now, plain);
        }
        if !payload.is_empty() {
            let length = payload.len() as u32;
            if self.receive.deliver(payload) {
                self.events |= Events::READABLE;
                self.acknowledge_later(now, length, plain.pushes);
            } else {
                self.shared.count(Counter::NoMemory);
            }
        }
    }
}
