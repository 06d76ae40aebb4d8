//! How connections begin, and what the SYNs agree on.

use std::rc::Rc;

use demikernel_runtime::time::Instant;

use super::{Clock, Connection, Events, Marks, Send, Timers};
use crate::tcp::config::{EcnMode, Shared};
use crate::tcp::isn::InitialNumbers;
use crate::tcp::mtu::PathMtu;
use crate::tcp::receive::Receive;
use crate::tcp::recovery::{Recovery, Sent};
use crate::tcp::send::SendQueue;
use crate::tcp::state::{Origin, State};
use crate::wire::tcp::{Flags, Options, Segment, SequenceNumber};

/// The smallest segment that a peer can make us send: less would be a burden without use. (As Linux.)
const LEAST_SEGMENT: u16 = 88;

/// What a connection needs to know at its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The port here.
    pub local: u16,
    /// The port of the peer.
    pub remote: u16,
    /// Numbers that nobody can guess.
    pub initial: InitialNumbers,
    /// The largest IP packet that goes to the peer, as far as is known.
    pub mtu: u16,
    /// Octets of the IP header: 20 or 40, and more if there are options. [rfc9293 MUST-67]
    pub ip_header: u8,
}

/// What a SYN cookie keeps of the SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Negotiated {
    /// The peer's maximum segment size.
    pub maximum_segment_size: u16,
    /// The peer's window scale.
    pub window_scale: Option<u8>,
    /// Selective acknowledgments.
    pub sack: bool,
    /// Timestamps.
    pub timestamps: bool,
    /// Explicit congestion notification.
    pub ecn: bool,
}

impl Start {
    /// The maximum segment size if none is told. [rfc9293 MUST-15]
    pub(crate) fn default_segment(&self) -> u16 {
        if self.ip_header >= 40 { 1220 } else { 536 }
    }
}

impl Connection {
    /// A connection that the user asks for: its SYN is the first to be transmitted.
    pub fn connect(shared: Rc<Shared>, now: Instant, start: Start) -> Connection {
        let mut connection = Connection::new(shared, now, &start, State::SynSent);
        let config = connection.shared.config();
        let wants_ecn = matches!(config.ecn, EcnMode::Request | EcnMode::Exact);
        let exact = config.ecn == EcnMode::Exact;
        connection.marks.set(Marks::ECN, wants_ecn);
        connection.marks.set(Marks::ECN_EXACT, exact);
        connection.marks.insert(Marks::SYN);
        connection
    }

    /// A connection that a peer asks for with `syn`: its SYN-ACK is the first to be transmitted.
    pub fn accept(shared: Rc<Shared>, now: Instant, start: Start, syn: &Segment) -> Connection {
        debug_assert!(syn.flags.contains(Flags::SYN));
        let mut connection = Connection::new(shared, now, &start, State::SynReceived(Origin::Passive));
        let ecn = connection.shared.config().ecn;
        let asked = syn.flags.contains(Flags::ECE | Flags::CWR);
        connection.marks.set(Marks::ECN, ecn != EcnMode::Off && asked);
        connection.marks.set(Marks::ECN_EXACT, ecn == EcnMode::Exact && asked);
        connection.negotiate(now, syn);
        connection.send.window = u32::from(syn.window);
        connection.marks.insert(Marks::SYN);
        connection
    }

    /// A connection whose SYN nobody has kept: the cookie in `ack`, which the peer sent back, says what it agreed on.
    pub fn from_cookie(
        shared: Rc<Shared>,
        now: Instant,
        start: Start,
        ack: &Segment,
        agreed: &Negotiated,
    ) -> Connection {
        let initial = ack.acknowledgment - 1;
        let start = Start { initial: InitialNumbers { sequence: initial, ..start.initial }, ..start };
        let mut connection = Connection::new(shared, now, &start, State::SynReceived(Origin::Passive));
        let options = Options {
            maximum_segment_size: Some(agreed.maximum_segment_size),
            window_scale: agreed.window_scale,
            sack_permitted: agreed.sack,
            timestamps: ack.options.timestamps.filter(|_| agreed.timestamps),
            ..Options::default()
        };
        let flags = Flags::SYN | if agreed.ecn { Flags::ECE | Flags::CWR } else { Flags::NONE };
        let syn = Segment { sequence: ack.sequence - 1, flags, options, ..*ack };
        connection.marks.set(Marks::ECN, agreed.ecn);
        connection.negotiate(now, &syn);
        // When the cookie left is not known, so its acknowledgment must not be timed: as if it had been sent twice.
        connection.note_syn_sent(now, Sent::New);
        connection.note_syn_sent(now, Sent::Retransmission);
        connection
    }

    fn new(shared: Rc<Shared>, now: Instant, start: &Start, state: State) -> Connection {
        let config = shared.config();
        let mtu = PathMtu::new(start.mtu, start.ip_header);
        let initial = start.initial.sequence;
        let shift = if config.window_scaling { config.window_scale() } else { 0 };
        let mut marks = Marks::SEND_TUNING;
        marks.set(Marks::WINDOW_SCALE, config.window_scaling);
        marks.set(Marks::SACK, config.sack);
        let segment = mtu.segment();
        let recovery = Recovery::new(&config.recovery(), initial, u32::from(segment), now);
        Connection {
            state,
            error: None,
            events: Events::NONE,
            local: start.local,
            remote: start.remote,
            marks,
            send: Send {
                unacknowledged: initial,
                next: initial,
                window: 0,
                window_most: 0,
                window_sequence: SequenceNumber::default(),
                small: initial,
                pushed: initial,
                segment,
                maximum_segment: start.default_segment(),
                shift: 0,
                probes: 0,
                limit: config.send_buffer,
                queue: SendQueue::new(initial + 1),
            },
            receive: Receive::new(config.receive_buffer, shift),
            clock: Clock::new(config.timestamps, start.initial.timestamp_offset),
            timers: Timers::NONE,
            mtu,
            heard: now,
            recovery,
            shared,
            rare: None,
        }
    }

    /// Takes what the peer's SYN offers; what only one side offers is not agreed on.
    pub(crate) fn negotiate(&mut self, now: Instant, syn: &Segment) {
        let options = &syn.options;
        let scaling = self.marks.contains(Marks::WINDOW_SCALE) && options.window_scale.is_some();
        self.marks.set(Marks::WINDOW_SCALE, scaling);
        // [rfc7323 2.2]: both shift, or none does.
        self.send.shift = if scaling { options.window_scale.unwrap_or(0).min(14) } else { 0 };
        if !scaling {
            self.receive.shift = 0;
            self.receive.limit = self.receive.limit.min(u32::from(u16::MAX));
        }
        let sack = self.marks.contains(Marks::SACK) && options.sack_permitted;
        self.marks.set(Marks::SACK, sack);
        self.recovery.set_sack(sack);
        match options.timestamps {
            Some(stamps) if self.clock.is_on() => self.clock.set_recent(now, stamps.value),
            _ => self.clock.turn_off(),
        }
        if let Some(size) = options.maximum_segment_size {
            self.send.maximum_segment = size.max(LEAST_SEGMENT);
        }
        if let Some(timeout) = options.user_timeout {
            self.heed_user_timeout(now, timeout);
        }
        self.receive.begin(syn.sequence, self.syn_window());
        self.send.window_sequence = syn.sequence;
        self.set_segment_size();
        self.receive.segment = self.send.segment.min(536);
        self.receive.enter_quick();
    }

    /// The window in our SYN: never scaled. [rfc7323 2.2]
    pub(crate) fn syn_window(&self) -> u32 {
        self.receive.limit.min(u32::from(u16::MAX))
    }

    /// The size of segments follows the path and the peer. [rfc9293 MUST-16] [rfc9293 SHLD-6]
    pub(crate) fn set_segment_size(&mut self) {
        let stamps = if self.clock.is_on() { 12 } else { 0 };
        let most = self.send.maximum_segment.min(self.mtu.segment());
        self.send.segment = most.saturating_sub(stamps).max(1);
        self.recovery.set_segment_size(u32::from(self.send.segment));
    }

    /// Our SYN has left, or a cookie in its place.
    pub(crate) fn note_syn_sent(&mut self, now: Instant, what: Sent) {
        let initial = self.send.unacknowledged;
        self.send.next = initial + 1;
        self.recovery.on_sent(now, initial, 1, what, true);
    }
}
