//! The states of a connection and the moves between them.
//!
//! ```text
//!              connect                                       accept (a SYN came)
//!                 │                                                  │
//!                 ▼              SYN (simultaneous open)             ▼
//!             SYN-SENT ─────────────────────────────────────▶ SYN-RECEIVED
//!                 │ SYN, ACK                                         │ ACK of our SYN
//!                 └───────────────▶ ESTABLISHED ◀────────────────────┘
//!                       close       │         │        FIN
//!               FIN-WAIT-1 ◀────────┘         └───────▶ CLOSE-WAIT
//!        ACK of FIN │  │ FIN                                 │ close
//!        FIN-WAIT-2 │  └──▶ CLOSING                       LAST-ACK
//!            FIN │  ▼          │ ACK of FIN                  │ ACK of FIN
//!                └─▶ TIME-WAIT ◀                             ▼
//!                        └── two segment lifetimes ───▶  CLOSED ◀── reset, time-out, abort: from everywhere
//! ```
//!
//! LISTEN is not a state of a connection: see [`Listener`](super::Listener). Each move is a pure function here, so
//! that all of them can be listed in a test; what happens beside it is with those who make it.

/// How a connection that is in SYN-RECEIVED has come there, which decides what a reset means to it. [rfc9293 MUST-11]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// Somebody here asked for it, and both SYNs crossed.
    Active,
    /// A listener made it.
    Passive,
}

/// The state of a connection. [rfc9293 3.3.2]
///
/// ```
/// use demikernel_net::tcp::State;
///
/// // The peer has closed: it still takes what is sent.
/// assert!(State::CloseWait.may_send() && !State::CloseWait.may_receive());
/// // We have closed: what the peer sends is still received.
/// assert!(State::FinWait2.may_receive() && !State::FinWait2.may_send());
/// assert_eq!((State::TimeWait.name(), State::TimeWait.number()), ("time-wait", 6));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// There is no connection, or no longer.
    Closed,
    /// Our SYN is under way.
    SynSent,
    /// Both SYNs are under way; ours is not acknowledged.
    SynReceived(Origin),
    /// Data flow both ways.
    Established,
    /// We have closed; our FIN is not acknowledged, or not even sent.
    FinWait1,
    /// Our FIN is acknowledged, the peer has not closed.
    FinWait2,
    /// The peer has closed, we have not.
    CloseWait,
    /// Both have closed; our FIN is not acknowledged.
    Closing,
    /// The peer closed, then we; our FIN is not acknowledged.
    LastAck,
    /// Both FINs are acknowledged; old segments may still be under way.
    TimeWait,
}

impl State {
    /// For people, as the kernel's connections are shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::SynSent => "syn-sent",
            State::SynReceived(_) => "syn-received",
            State::Established => "established",
            State::FinWait1 => "fin-wait-1",
            State::FinWait2 => "fin-wait-2",
            State::CloseWait => "close-wait",
            State::Closing => "closing",
            State::LastAck => "last-ack",
            State::TimeWait => "time-wait",
        }
    }

    /// The peer has acknowledged our SYN, and we have its own.
    #[must_use]
    pub(crate) fn on_open(self) -> State {
        match self {
            State::SynSent | State::SynReceived(_) => State::Established,
            other => other,
        }
    }

    /// The user sends no more: a FIN goes out behind what is queued. In SYN-RECEIVED that waits until the connection
    /// is open. [rfc9293 3.10.4]
    #[must_use]
    pub(crate) fn on_close(self) -> State {
        match self {
            State::SynSent => State::Closed,
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            other => other,
        }
    }

    /// The peer's FIN has come, in its turn. [rfc9293 3.10.7.4]
    #[must_use]
    pub(crate) fn on_peer_fin(self) -> State {
        match self {
            State::Established => State::CloseWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => State::TimeWait,
            other => other,
        }
    }

    /// The peer has acknowledged our FIN.
    #[must_use]
    pub(crate) fn on_fin_acknowledged(self) -> State {
        match self {
            State::FinWait1 => State::FinWait2,
            State::Closing => State::TimeWait,
            State::LastAck => State::Closed,
            other => other,
        }
    }

    /// Both sides have seen the other's SYN.
    #[inline]
    pub fn is_synchronized(self) -> bool {
        !matches!(self, State::Closed | State::SynSent | State::SynReceived(_))
    }

    /// Data from the peer may still come.
    #[inline]
    pub fn may_receive(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Data that are queued, or a FIN, may have to be sent.
    #[inline]
    pub(crate) fn may_transmit(self) -> bool {
        use State::{CloseWait, Closing, Established, FinWait1, LastAck};
        matches!(self, Established | FinWait1 | CloseWait | Closing | LastAck)
    }

    /// The user may send more.
    #[inline]
    pub fn may_send(self) -> bool {
        matches!(self, State::Established | State::CloseWait)
    }

    /// The number that Linux has for it, as in `tcp_info`.
    pub fn number(self) -> u8 {
        match self {
            State::Established => 1,
            State::SynSent => 2,
            State::SynReceived(_) => 3,
            State::FinWait1 => 4,
            State::FinWait2 => 5,
            State::TimeWait => 6,
            State::Closed => 7,
            State::CloseWait => 8,
            State::LastAck => 9,
            State::Closing => 11,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State::*;
    use super::*;

    /// Every state and every move. [rfc9293 3.3.2]
    #[test]
    fn moves_are_those_of_the_diagram() {
        let passive = SynReceived(Origin::Passive);
        let active = SynReceived(Origin::Active);
        // state, opened, closed by the user, FIN from the peer, FIN acknowledged
        let table = [
            (Closed, Closed, Closed, Closed, Closed),
            (SynSent, Established, Closed, SynSent, SynSent),
            (passive, Established, passive, passive, passive),
            (active, Established, active, active, active),
            (Established, Established, FinWait1, CloseWait, Established),
            (FinWait1, FinWait1, FinWait1, Closing, FinWait2),
            (FinWait2, FinWait2, FinWait2, TimeWait, FinWait2),
            (CloseWait, CloseWait, LastAck, CloseWait, CloseWait),
            (Closing, Closing, Closing, Closing, TimeWait),
            (LastAck, LastAck, LastAck, LastAck, Closed),
            (TimeWait, TimeWait, TimeWait, TimeWait, TimeWait),
        ];
        for (state, opened, closed, peer_fin, acknowledged) in table {
            assert_eq!(state.on_open(), opened, "{state:?} opened");
            assert_eq!(state.on_close(), closed, "{state:?} closed");
            assert_eq!(state.on_peer_fin(), peer_fin, "{state:?} and the peer's FIN");
            assert_eq!(state.on_fin_acknowledged(), acknowledged, "{state:?} and our FIN acknowledged");
        }
    }
}
