//! A connection: a state machine that is given segments, calls and the time, and gives segments, events and the next
//! deadline.
//!
//! - Getters tell about it and change nothing.
//! - Commands are the user's calls: [`send`](Connection::send), [`receive`](Connection::receive),
//!   [`close`](Connection::close) and others.
//! - `handle_*` take what has happened: a segment, a deadline, an ICMP message.
//! - `poll_*` and [`take_events`](Connection::take_events) give what is to be done.
//!
//! After each command and each `handle_*`, call [`poll_transmit`](Connection::poll_transmit) until there is nothing,
//! then look at [`take_events`](Connection::take_events) and [`next_deadline`](Connection::next_deadline). When the
//! state is TIME-WAIT, [`take_time_wait`](Connection::take_time_wait) gives what is left to be done in a fraction of
//! the memory; when it is CLOSED and nothing is left to transmit or to receive, the connection can go.

mod clock;
mod commands;
mod deadlines;
mod icmp;
mod marks;
mod open;
mod plain;
mod rare;
mod tell;
mod transmit;
mod urgent;
mod user_timeout;

use std::rc::Rc;

use demikernel_runtime::time::{Duration, Instant};

pub(crate) use clock::Clock;
pub use commands::Receiving;
pub use icmp::Unreachable;
pub use marks::Events;
pub(crate) use marks::Marks;
pub use open::{Negotiated, Start};
pub(crate) use plain::Polled;
pub(crate) use rare::{Earlier, Rare};
pub use transmit::{Limits, Transmit};

use super::config::Shared;
use super::error::Error;
use super::mtu::PathMtu;
use super::receive::Receive;
use super::recovery::Recovery;
use super::send::SendQueue;
use super::state::State;
use super::time_wait::TimeWait;
use crate::wire::tcp::SequenceNumber;

/// One end of a connection. See the [module](self).
///
/// ```
/// use demikernel_net::tcp::{Config, Connection, Ecn, Events, InitialNumbers, Limits, Shared, Start, State};
/// use demikernel_runtime::buffer::{Buffer, Sga};
/// use demikernel_runtime::time::Instant;
/// use std::rc::Rc;
///
/// let (now, limits, initial) = (Instant::from_nanos(1), Limits::default(), InitialNumbers::default());
/// let shared = Rc::new(Shared::new(Config::default()));
/// let start = |local, remote| Start { local, remote, initial, mtu: 1500, ip_header: 20 };
/// let mut client = Connection::connect(shared.clone(), now, start(40_000, 80));
/// let syn = client.poll_transmit(now, &limits).expect("a SYN");
/// let mut server = Connection::accept(shared, now, start(80, 40_000), &syn.segment);
/// let syn_ack = server.poll_transmit(now, &limits).expect("a SYN with ACK");
/// client.handle_segment(now, &syn_ack.segment, Buffer::default(), Ecn::NotCapable);
/// assert_eq!((client.state(), server.state().name()), (State::Established, "syn-received"));
/// assert!(client.take_events().contains(Events::CONNECTED));
///
/// // The ACK travels with the data.
/// client.send(now, &mut Sga::from(Buffer::from("hello")))?;
/// while let Some(sent) = client.poll_transmit(now, &limits) {
///     let payload = sent.payload.first().cloned().unwrap_or_default();
///     server.handle_segment(now, &sent.segment, payload, sent.ecn);
/// }
/// assert_eq!((server.state(), server.receivable()), (State::Established, 5));
/// assert_eq!(client.unacknowledged(), 5);
/// # Ok::<(), demikernel_net::tcp::Error>(())
/// ```
pub struct Connection {
    pub(crate) state: State,
    pub(crate) error: Option<Error>,
    pub(crate) events: Events,
    pub(crate) local: u16,
    pub(crate) remote: u16,
    pub(crate) marks: Marks,
    pub(crate) send: Send,
    pub(crate) receive: Receive,
    pub(crate) clock: Clock,
    pub(crate) timers: Timers,
    pub(crate) mtu: PathMtu,
    /// When the peer was heard last.
    pub(crate) heard: Instant,
    pub(crate) recovery: Recovery,
    pub(crate) shared: Rc<Shared>,
    /// What few connections need, made when one does.
    pub(crate) rare: Option<Box<Rare>>,
}

/// The send sequence space (RFC 9293 section 3.3.1).
pub(crate) struct Send {
    /// SND.UNA.
    pub(crate) unacknowledged: SequenceNumber,
    /// SND.NXT: retransmissions do not move it.
    pub(crate) next: SequenceNumber,
    /// SND.WND.
    pub(crate) window: u32,
    /// The largest that the peer has offered.
    pub(crate) window_most: u32,
    /// SND.WL1. SND.WL2 is never after SND.UNA, so what an acceptable acknowledgment is compared with needs no place.
    pub(crate) window_sequence: SequenceNumber,
    /// The end of the last segment that was not full: while it is not acknowledged, there is no other (Minshall's
    /// variant of Nagle's algorithm).
    pub(crate) small: SequenceNumber,
    /// The end of what the user has sent in its last call: a segment that ends there has PSH.
    pub(crate) pushed: SequenceNumber,
    /// Octets of payload in a segment with no options but timestamps.
    pub(crate) segment: u16,
    /// What the peer has announced.
    pub(crate) maximum_segment: u16,
    /// What the peer's windows are shifted by.
    pub(crate) shift: u8,
    /// Zero-window probes since the peer was heard.
    pub(crate) probes: u8,
    /// Octets that may be in the queue.
    pub(crate) limit: u32,
    pub(crate) queue: SendQueue,
}

/// Deadlines; [`Instant::MAX`] is none. Moving one is a store.
pub(crate) struct Timers {
    /// An acknowledgment that waits must go.
    pub(crate) acknowledge: Instant,
    /// While data wait to be sent: the peer's window is to be probed, or a segment goes although it is small. When
    /// nothing is left to be sent: FIN-WAIT-2 of a closed connection, or TIME-WAIT, ends.
    pub(crate) state: Instant,
}

impl Timers {
    pub(crate) const NONE: Timers = Timers { acknowledge: Instant::MAX, state: Instant::MAX };
}

impl Connection {
    /// Its state.
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// The port here.
    #[inline]
    pub fn local_port(&self) -> u16 {
        self.local
    }

    /// The port of the peer.
    #[inline]
    pub fn remote_port(&self) -> u16 {
        self.remote
    }

    /// What has happened since the last call.
    #[inline]
    pub fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// Why the connection failed; told once.
    ///
    /// ```
    /// use demikernel_net::tcp::{
    ///     Config, Connection, Ecn, Error, InitialNumbers, Limits, Shared, Start, State, reset_for,
    /// };
    /// use demikernel_runtime::{buffer::Buffer, time::Instant};
    /// use std::rc::Rc;
    ///
    /// let (now, initial) = (Instant::from_nanos(1), InitialNumbers::default());
    /// let start = Start { local: 40_000, remote: 80, initial, mtu: 1500, ip_header: 20 };
    /// let mut connection = Connection::connect(Rc::new(Shared::new(Config::default())), now, start);
    /// let syn = connection.poll_transmit(now, &Limits::default()).expect("a SYN");
    /// let reset = reset_for(&syn.segment, 0).expect("nobody is at the port");
    /// connection.handle_segment(now, &reset, Buffer::default(), Ecn::NotCapable);
    /// assert_eq!(connection.state(), State::Closed);
    /// assert_eq!((connection.take_error(), connection.take_error()), (Some(Error::Refused), None));
    /// ```
    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// Octets that can be received now.
    #[inline]
    pub fn receivable(&self) -> u32 {
        self.receive.queued()
    }

    /// Octets that [`send`](Connection::send) would take now.
    #[inline]
    pub fn sendable(&self) -> u32 {
        if self.state.may_send() { self.send.limit.saturating_sub(self.send.queue.len()) } else { 0 }
    }

    /// Whether the peer has closed, so that nothing follows what is receivable.
    #[inline]
    pub fn is_receive_closed(&self) -> bool {
        !self.state.may_receive() && !matches!(self.state, State::SynSent | State::SynReceived(_))
    }

    /// Whether there is no connection, nothing to transmit, and nothing to receive: it can be dropped.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.state == State::Closed && !self.marks.contains(Marks::RESET) && self.receive.queued() == 0
    }

    /// Octets that are sent and not acknowledged, or wait to be sent.
    pub fn unacknowledged(&self) -> u32 {
        self.send.queue.len()
    }

    /// In TIME-WAIT, once the last acknowledgment has left: what remains to be done, in a small value. The connection
    /// is closed then; what it has received can still be taken.
    pub fn take_time_wait(&mut self) -> Option<TimeWait> {
        if self.state != State::TimeWait || self.marks.contains(Marks::ACKNOWLEDGE) {
            return None;
        }
        let time_wait = self.time_wait();
        self.close_now();
        Some(time_wait)
    }

    /// What is left of it in TIME-WAIT.
    pub(crate) fn time_wait(&mut self) -> TimeWait {
        let kept = self.rare.as_mut().and_then(|rare| rare.time_wait.take());
        let length = self.shared.config().time_wait;
        kept.unwrap_or_else(|| TimeWait::of(self, self.timers.state, length))
    }

    /// The rarely used part.
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The connection is over: nothing more is sent but a reset that waits, and no deadline comes.
    pub(crate) fn close_now(&mut self) {
        self.state = State::Closed;
        self.timers = Timers::NONE;
        if let Some(rare) = &mut self.rare {
            rare.keepalive.at = Instant::MAX;
        }
        self.send.queue.clear();
        self.receive.reassembly = None;
        self.marks.remove(Marks::TRANSMIT);
        self.events |= Events::CLOSED | Events::READABLE | Events::WRITABLE;
    }

    /// The connection has failed: what was received before can be taken, then the error is told, as in Linux.
    /// [rfc9293 MUST-12]
    #[cold]
    pub(crate) fn fail(&mut self, error: Error) {
        self.error = Some(error);
        self.events |= Events::ERROR;
        self.close_now();
    }

    /// Both FINs are acknowledged.
    pub(crate) fn enter_time_wait(&mut self, now: Instant) {
        let until = now.saturating_add(self.shared.config().time_wait);
        self.timers = Timers { state: until, ..Timers::NONE };
        if let Some(rare) = &mut self.rare {
            rare.keepalive.at = Instant::MAX;
        }
        self.send.queue.clear();
        self.state = State::TimeWait;
        self.events |= Events::TIME_WAIT;
    }

    /// Round-trip time as far as it is known.
    pub(crate) fn round_trip(&self) -> Duration {
        self.recovery.smoothed_rtt().unwrap_or(Duration::from_millis(20))
    }
}

/// An idle connection is to cost 512 bytes at most, without its buffers, but with its socket and its places in tables.
const _: () = assert!(std::mem::size_of::<Connection>() <= 384);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Connection");
        debug.field("local", &self.local).field("remote", &self.remote).field("state", &self.state);
        debug.field("unacknowledged", &self.send.unacknowledged).field("next", &self.send.next);
        debug.field("window", &self.send.window).field("queued", &self.send.queue.len());
        debug.field("receive_next", &self.receive.next).field("receive_window", &self.receive.window());
        debug.finish_non_exhaustive()
    }
}
