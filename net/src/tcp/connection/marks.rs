//! Bits: what a connection has agreed on, what it has to do, and what its user is to know.

use std::ops::{BitOr, BitOrAssign};

/// What the user is to know.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Events(u16);

impl Events {
    /// Nothing.
    pub const NONE: Events = Events(0);
    /// The connection is established.
    pub const CONNECTED: Events = Events(1);
    /// There are data to receive, or their end.
    pub const READABLE: Events = Events(1 << 1);
    /// There is room to send again, after there was none.
    pub const WRITABLE: Events = Events(1 << 2);
    /// The peer has closed.
    pub const PEER_CLOSED: Events = Events(1 << 3);
    /// The connection has failed.
    pub const ERROR: Events = Events(1 << 4);
    /// The connection is over.
    pub const CLOSED: Events = Events(1 << 5);
    /// Both sides have closed: see [`take_time_wait`](super::Connection::take_time_wait).
    pub const TIME_WAIT: Events = Events(1 << 6);
    /// Retransmissions are not acknowledged: the stack may look for another way to the peer, and whoever wants to
    /// know is told. [rfc9293 MUST-20] [rfc9293 SHLD-9]
    pub const STALLED: Events = Events(1 << 7);
    /// Urgent data are on their way, or more than were known of: see [`urgent`](super::Connection::urgent).
    pub const URGENT: Events = Events(1 << 8);

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Events) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Events {
    type Output = Events;

    #[inline]
    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    #[inline]
    fn bitor_assign(&mut self, other: Events) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            "CONNECTED",
            "READABLE",
            "WRITABLE",
            "PEER_CLOSED",
            "ERROR",
            "CLOSED",
            "TIME_WAIT",
            "STALLED",
            "URGENT",
        ];
        let set = names.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        f.debug_list().entries(set.map(|(_, name)| name)).finish()
    }
}

/// What a connection has agreed on, how its user wants it, and what waits to be transmitted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Marks(u32);

impl Marks {
    /// A reset waits, in [`Rare`](super::Rare).
    pub(crate) const RESET: Marks = Marks(1);
    /// A SYN, or SYN-ACK, waits.
    pub(crate) const SYN: Marks = Marks(1 << 1);
    /// The peer's window is to be probed.
    pub(crate) const WINDOW_PROBE: Marks = Marks(1 << 2);
    /// The peer is to show that it is there.
    pub(crate) const KEEPALIVE_PROBE: Marks = Marks(1 << 3);
    /// A tail loss probe is to go (RFC 8985).
    pub(crate) const TAIL_PROBE: Marks = Marks(1 << 4);
    /// An acknowledgment is to go now.
    pub(crate) const ACKNOWLEDGE: Marks = Marks(1 << 5);
    /// The next segment goes even if it is small.
    pub(crate) const OVERRIDE: Marks = Marks(1 << 6);
    /// Urgent data are under way, of which every segment tells.
    pub(crate) const URGENT: Marks = Marks(1 << 7);
    /// The peer is told how long data may be unacknowledged.
    pub(crate) const USER_TIMEOUT: Marks = Marks(1 << 24);
    /// Acknowledgments of earlier states wait, in [`Rare`](super::Rare).
    pub(crate) const EARLIER: Marks = Marks(1 << 25);
    /// What `header` adds to some segments.
    pub(crate) const TOLD: Marks = Marks(Marks::URGENT.0 | Marks::USER_TIMEOUT.0);
    /// What only `transmit_special` looks at.
    pub(crate) const SPECIAL: Marks = Marks(
        Marks::RESET.0
            | Marks::SYN.0
            | Marks::EARLIER.0
            | Marks::WINDOW_PROBE.0
            | Marks::KEEPALIVE_PROBE.0
            | Marks::TAIL_PROBE.0,
    );
    /// All that waits, but the reset.
    pub(crate) const TRANSMIT: Marks =
        Marks((Marks::SPECIAL.0 | Marks::ACKNOWLEDGE.0 | Marks::OVERRIDE.0) & !Marks::RESET.0);

    /// Selective acknowledgments are agreed on.
    pub(crate) const SACK: Marks = Marks(1 << 8);
    /// Explicit congestion notification is agreed on.
    pub(crate) const ECN: Marks = Marks(1 << 9);
    /// Each mark is echoed exactly.
    pub(crate) const ECN_EXACT: Marks = Marks(1 << 10);
    /// Acknowledgments say that congestion was met.
    pub(crate) const ECN_ECHO: Marks = Marks(1 << 11);
    /// The next new data say that the window was reduced.
    pub(crate) const ECN_REDUCED: Marks = Marks(1 << 12);
    /// Window scale was offered, or agreed on.
    pub(crate) const WINDOW_SCALE: Marks = Marks(1 << 13);
    /// A zero-window probe with the octet behind SND.NXT is under way.
    pub(crate) const WINDOW_PROBED: Marks = Marks(1 << 14);

    /// What waits to be sent waits for its time.
    pub(crate) const PACED: Marks = Marks(1 << 15);

    /// No delay for small segments.
    pub(crate) const NO_DELAY: Marks = Marks(1 << 16);
    /// No small segments at all.
    pub(crate) const CORK: Marks = Marks(1 << 17);
    /// Asks now and then whether the peer is there.
    pub(crate) const KEEPALIVE: Marks = Marks(1 << 18);
    /// The user has closed: nobody will receive anything.
    pub(crate) const ORPHAN: Marks = Marks(1 << 19);
    /// A FIN goes behind the queued data.
    pub(crate) const FIN: Marks = Marks(1 << 20);
    /// The FIN has been sent.
    pub(crate) const FIN_SENT: Marks = Marks(1 << 21);
    /// The user waits for room.
    pub(crate) const WANTS_ROOM: Marks = Marks(1 << 22);
    /// The send buffer grows with the congestion window.
    pub(crate) const SEND_TUNING: Marks = Marks(1 << 23);

    /// With which no segment that leaves is a plain one.
    pub(crate) const UNUSUAL: Marks = Marks(
        Marks::SPECIAL.0
            | Marks::OVERRIDE.0
            | Marks::TOLD.0
            | Marks::ECN_ECHO.0
            | Marks::ECN_REDUCED.0
            | Marks::WINDOW_PROBED.0
            | Marks::PACED.0
            | Marks::CORK.0
            | Marks::FIN.0,
    );

    /// With which nothing can be predicted.
    pub(crate) const UNPREDICTABLE: Marks =
        Marks(Marks::ORPHAN.0 | Marks::WINDOW_PROBED.0 | Marks::ECN_ECHO.0);

    #[inline]
    pub(crate) fn contains(self, other: Marks) -> bool {
        self.0 & other.0 == other.0
    }

    #[inline]
    pub(crate) fn intersects(self, other: Marks) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, other: Marks) {
        self.0 |= other.0;
    }

    #[inline]
    pub(crate) fn remove(&mut self, other: Marks) {
        self.0 &= !other.0;
    }

    #[inline]
    pub(crate) fn set(&mut self, other: Marks, on: bool) {
        if on { self.insert(other) } else { self.remove(other) }
    }

    /// Removes it; whether it was there.
    #[inline]
    pub(crate) fn take(&mut self, other: Marks) -> bool {
        let was = self.contains(other);
        self.remove(other);
        was
    }
}
