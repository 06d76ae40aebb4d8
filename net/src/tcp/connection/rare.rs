//! What few connections need.

use std::collections::VecDeque;

use demikernel_runtime::time::{Duration, Instant};

use crate::tcp::error::Error;
use crate::tcp::time_wait::TimeWait;
use crate::wire::tcp::SequenceNumber;

/// The part of a connection that is made when it is needed.
#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) keepalive: Keepalive,
    /// How long data may be unacknowledged, if the user, or else the peer, has said so (RFC 5482).
    pub(crate) user_timeout: Option<Duration>,
    /// It is the user who has.
    pub(crate) user_timeout_is_ours: bool,
    /// All that was sent from here on has told the peer.
    pub(crate) user_timeout_told: Option<SequenceNumber>,
    /// Acknowledgments that are to leave before any other: of what came before marks changed. [rfc8257 3.2]
    pub(crate) earlier: VecDeque<Earlier>,
    /// When SND.UNA moved, or something left after everything was acknowledged, or the window shut; noted while there
    /// is this box.
    pub(crate) progress: Option<Instant>,
    /// The octet of the last zero-window probe, and when it left.
    pub(crate) probed: Option<(SequenceNumber, Instant)>,
    /// A reset that waits: its number, and whether it acknowledges.
    pub(crate) reset: Option<Reset>,
    pub(crate) time_wait: Option<TimeWait>,
    /// What a router has reported; the reason if nothing comes through until the end. [rfc9293 MUST-56]
    pub(crate) soft_error: Option<Error>,
    /// Where our urgent data end: SND.UP.
    pub(crate) urgent_sent: Option<SequenceNumber>,
    /// Where the peer's end: RCV.UP.
    pub(crate) urgent_received: Option<SequenceNumber>,
}

/// An acknowledgment of what had come at some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Earlier {
    pub(crate) acknowledgment: SequenceNumber,
    /// Whether that had met congestion.
    pub(crate) echo: bool,
}

/// A reset that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reset {
    pub(crate) sequence: SequenceNumber,
    pub(crate) acknowledgment: Option<SequenceNumber>,
}

/// How it is found out that the peer has gone.
pub(crate) struct Keepalive {
    /// When to look whether something has come; [`Instant::MAX`] for never.
    pub(crate) at: Instant,
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) count: u32,
    /// Probes that have not been answered.
    pub(crate) probes: u32,
    /// When the last of them was sent.
    pub(crate) asked: Instant,
}

impl Default for Keepalive {
    /// Two hours, as Linux and as RFC 9293 wants. [rfc9293 MUST-28]
    fn default() -> Keepalive {
        let (idle, interval) = (Duration::from_secs(7200), Duration::from_secs(75));
        Keepalive { at: Instant::MAX, idle, interval, count: 9, probes: 0, asked: Instant::MAX }
    }
}

impl Rare {
    /// A reset with the number that the peer expects.
    pub(crate) fn answer_with_reset(&mut self, sequence: SequenceNumber) {
        self.reset = Some(Reset { sequence, acknowledgment: None });
    }
}
