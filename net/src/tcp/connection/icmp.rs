//! What ICMP reports.

use demikernel_runtime::time::Instant;

use super::Connection;
use crate::tcp::config::Counter;
use crate::tcp::error::Error;
use crate::tcp::state::State;
use crate::wire::tcp::SequenceNumber;

/// A report about a segment of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreachable {
    /// The network cannot be reached.
    Network,
    /// The host cannot be reached.
    Host,
    /// The host speaks no TCP.
    Protocol,
    /// Nobody is at the port.
    Port,
    /// A filter forbids it.
    Prohibited,
}

impl Unreachable {
    fn error(self) -> Error {
        match self {
            Unreachable::Network => Error::NetworkUnreachable,
            Unreachable::Host | Unreachable::Prohibited => Error::HostUnreachable,
            Unreachable::Protocol => Error::ProtocolUnreachable,
            Unreachable::Port => Error::Refused,
        }
    }
}

impl Connection {
    /// A router or the peer's host reports that the segment with the number `quoted` did not get through.
    ///
    /// While the connection is being opened that ends it; later it may pass, and whoever has guessed a port must not
    /// be able to end a connection: so also of what RFC 9293 would let end it (SHLD-26). Of source quench nobody is told.
    /// [rfc9293 MUST-54] [rfc9293 MUST-55] [rfc9293 MUST-56] [rfc5927 5]
    pub fn handle_unreachable(&mut self, _now: Instant, quoted: SequenceNumber, why: Unreachable) {
        if !self.is_in_flight(quoted) {
            return self.shared.count(Counter::ForgedIcmp);
        }
        match self.state {
            State::SynSent | State::SynReceived(_) => self.fail(why.error()),
            _ => self.rare().soft_error = Some(why.error()),
        }
    }

    /// What a router has reported last of a connection that goes on. [rfc9293 MUST-47] [rfc9293 SHLD-25]
    pub fn soft_error(&self) -> Option<Error> {
        self.rare.as_ref()?.soft_error
    }

    /// A router reports that the packet with the segment `quoted` is too big for a link that takes `mtu` octets; 0 if
    /// it does not say. [rfc1191 3] [rfc8201 4] [rfc9293 3.9.2.2]
    pub fn handle_too_big(&mut self, now: Instant, quoted: SequenceNumber, mtu: u16) {
        if !self.is_in_flight(quoted) {
            return self.shared.count(Counter::ForgedIcmp);
        }
        if self.mtu.on_too_big(now, mtu) {
            self.set_segment_size();
            if self.state.may_transmit() {
                // What was too big is lost for sure, but not for congestion: it goes again in smaller pieces at once.
                self.recovery.resend_oversized();
            }
        }
    }

    /// The path's MTU has changed, as another connection on it has found out, or the route has.
    pub fn handle_mtu(&mut self, now: Instant, mtu: u16) {
        if self.mtu.on_route(now, mtu) {
            self.set_segment_size();
        }
    }

    /// Whoever does not see our segments does not know this. [rfc5927 4.1]
    pub(crate) fn is_in_flight(&self, number: SequenceNumber) -> bool {
        self.state != State::Closed
            && number.is_within(self.send.unacknowledged, self.send.next - self.send.unacknowledged)
    }
}
