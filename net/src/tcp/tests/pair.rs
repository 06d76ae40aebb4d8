//! Two connections, and a link between them in virtual time that delays, loses, repeats, reorders and marks from a
//! seed.

use std::collections::BTreeMap;
use std::rc::Rc;

use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::{Duration, Instant};

use crate::tcp::*;
use crate::wire::tcp::{Flags, Segment, SequenceNumber};

/// Numbers from a seed. (SplitMix64.)
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }
}

/// What the link does, in percent, but for the times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) lost: u8,
    pub(super) repeated: u8,
    pub(super) marked: u8,
    /// How long the ends are busy with other things, at most: what has come and is due meanwhile they handle together, and
    /// answer then.
    pub(super) busy: Duration,
}

impl Faults {
    pub(super) const NONE: Faults = Faults {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        lost: 0,
        repeated: 0,
        marked: 0,
        busy: Duration::ZERO,
    };
}

pub(super) struct Packet {
    segment: Segment,
    payload: Sga,
    ecn: Ecn,
}

/// One end: a connection, and its user.
pub(super) struct End {
    pub(super) connection: Option<Connection>,
    time_wait: Option<TimeWait>,
    shared: Rc<Shared>,
    pub(super) sent: Vec<u8>,
    pub(super) received: Vec<u8>,
    pub(super) ended: bool,
    pub(super) error: Option<Error>,
    limits: Limits,
    seed: u8,
    /// What is plain leaves as the stack lets it leave.
    pub(super) plain: bool,
    /// No segment is predicted.
    pub(super) unpredicted: bool,
}

impl End {
    fn new(config: Config, seed: u8) -> End {
        End {
            connection: None,
            time_wait: None,
            shared: Rc::new(Shared::new(config)),
            sent: Vec::new(),
            received: Vec::new(),
            ended: false,
            error: None,
            limits: Limits::default(),
            seed,
            plain: false,
            unpredicted: false,
        }
    }

    /// The next segment that leaves. Behind a plain one there is no other.
    fn poll(&mut self, now: Instant) -> Option<Transmit> {
        let connection = self.connection.as_mut()?;
        if self.plain {
            let plain = match connection.poll_plain(now, u32::MAX) {
                Polled::Plain(plain, payload, ecn) => {
                    Some((plain, Sga::from(Buffer::from(payload.to_vec())), ecn))
                }
                Polled::Nothing => None,
                Polled::Other => return self.poll_other(now),
            };
            let more = connection.poll_transmit(now, &self.limits);
            assert!(more.is_none(), "there is more: {more:?}");
            let (plain, payload, ecn) = plain?;
            let segment = plain.segment(connection.local_port(), connection.remote_port());
            return Some(Transmit { segment, payload, cut: None, ecn });
        }
        connection.poll_transmit(now, &self.limits)
    }

    /// A full segment of a stream, or what else there is.
    fn poll_other(&mut self, now: Instant) -> Option<Transmit> {
        let connection = self.connection.as_mut()?;
        let full = if self.limits.segmentation == 0 { connection.poll_full(now) } else { None };
        let Some((plain, payload, ecn)) = full else { return connection.poll_transmit(now, &self.limits) };
        let segment = plain.segment(connection.local_port(), connection.remote_port());
        Some(Transmit { segment, payload: payload.into(), cut: None, ecn })
    }

    pub(super) fn send(&mut self, now: Instant, octets: usize) {
        let Some(connection) = &mut self.connection else { return };
        let from = self.sent.len();
        let bytes: Vec<u8> = (from..from + octets).map(|at| (at * 31 + at / 251) as u8 ^ self.seed).collect();
        let mut data = Sga::new();
        let mut rest = Buffer::from(bytes.clone());
        while !rest.is_empty() {
            let part = if octets < 600 { octets } else { (rest.len() / 2 + 1).min(rest.len()) };
            let part = rest.split_to(part);
            data.push(part);
        }
        match connection.send(now, &mut data) {
            Ok(count) => self.sent.extend_from_slice(&bytes[..count]),
            Err(error) => self.error = self.error.or(Some(error)),
        }
    }

    pub(super) fn receive(&mut self, now: Instant, mut limit: usize) {
        let Some(connection) = &mut self.connection else { return };
        while limit > 0 {
            match connection.receive(now, limit) {
                Ok(Receiving::Data(buffer)) => {
                    assert!(!buffer.is_empty() && buffer.len() <= limit);
                    limit -= buffer.len();
                    self.received.extend_from_slice(&buffer);
                }
                Ok(Receiving::Nothing) => return,
                Ok(Receiving::End) => {
                    self.ended = true;
                    return;
                }
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.time_wait.is_none()
            && self.connection.as_ref().is_none_or(|connection| connection.state() == State::Closed)
    }

    /// A segment has come: for the connection, for what remains of it, or for nobody.
    fn handle(&mut self, now: Instant, packet: Packet, start: Start) -> Option<Segment> {
        let payload: Buffer = packet.payload.to_vec().into();
        let length = payload.len() as u32;
        if let Some(time_wait) = &mut self.time_wait {
            return match time_wait.handle_segment(now, &packet.segment, length) {
                InTimeWait::Answer(answer) => Some(answer),
                _ => None,
            };
        }
        if let Some(connection) = &mut self.connection
            && connection.state() != State::Closed
        {
            if self.unpredicted {
                connection.segment_arrives(now, &packet.segment, payload, packet.ecn);
            } else {
                connection.handle_segment(now, &packet.segment, payload, packet.ecn);
            }
            return None;
        }
        if self.connection.is_none() && packet.segment.flags.without(Flags::ECE | Flags::CWR) == Flags::SYN {
            self.connection = Some(Connection::accept(self.shared.clone(), now, start, &packet.segment));
            return None;
        }
        reset_for(&packet.segment, length)
    }

    fn deadline(&self) -> Option<Instant> {
        let connection = self.connection.as_ref().and_then(|connection| connection.next_deadline());
        let time_wait = self.time_wait.as_ref().map(TimeWait::until);
        connection.into_iter().chain(time_wait).min()
    }

    fn handle_deadline(&mut self, now: Instant) {
        self.time_wait = self.time_wait.filter(|time_wait| time_wait.until() > now);
        if let Some(connection) = &mut self.connection {
            connection.handle_deadline(now);
        }
    }
}

/// Both ends, and what is under way.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) faults: Faults,
    random: Random,
    /// By arrival, and in the order of departure.
    under_way: BTreeMap<(Instant, u64), (usize, Packet)>,
    pub(super) packets: u64,
    /// A line for each segment, for the comparison of two runs.
    pub(super) trace: Vec<String>,
}

fn start_of(end: usize) -> Start {
    let initial = InitialNumbers {
        sequence: SequenceNumber::new(u32::MAX - 5000 * (end as u32 + 1)),
        timestamp_offset: u32::MAX - 500,
    };
    Start { local: 1000 + end as u16, remote: 1001 - end as u16, initial, mtu: 1500, ip_header: 20 }
}

impl Pair {
    /// The first end connects to the second.
    pub(super) fn new(configs: [Config; 2], faults: Faults, seed: u64) -> Pair {
        let now = Instant::from_nanos(1_000_000_000_000);
        let [first, second] = configs;
        let mut ends = [End::new(first, 0), End::new(second, 0x55)];
        ends[0].connection = Some(Connection::connect(ends[0].shared.clone(), now, start_of(0)));
        let under_way = BTreeMap::new();
        Pair { now, ends, faults, random: Random(seed), under_way, packets: 0, trace: Vec::new() }
    }

    pub(super) fn connected(configs: [Config; 2], faults: Faults, seed: u64) -> Pair {
        let mut pair = Pair::new(configs, faults, seed);
        (pair.faults.lost, pair.faults.busy) = (0, Duration::ZERO);
        pair.run(3 * faults.delay + 3 * faults.jitter);
        for end in &pair.ends {
            let state = end.connection.as_ref().map(Connection::state);
            assert_eq!(state, Some(State::Established));
        }
        pair.faults = faults;
        pair
    }

    /// The device of an end cuts segments.
    pub(super) fn set_segmentation(&mut self, end: usize, octets: u32) {
        self.ends[end].limits.segmentation = octets;
    }

    pub(super) fn connection(&mut self, end: usize) -> &mut Connection {
        self.ends[end].connection.as_mut().expect("there is one")
    }

    fn transmit(&mut self) {
        for from in 0..2 {
            let mut count = 0;
            while let Some(transmit) = self.ends[from].poll(self.now) {
                count += 1;
                assert!(count < 100_000, "it sends for ever");
                self.cut(from, transmit);
            }
            let end = &mut self.ends[from];
            let left = end.connection.as_mut().and_then(Connection::take_time_wait);
            end.time_wait = end.time_wait.or(left);
        }
    }

    /// As the device does.
    fn cut(&mut self, from: usize, transmit: Transmit) {
        let Transmit { segment, payload, cut, ecn } = transmit;
        let Some(size) = cut.map(usize::from) else {
            return self.put(from, Packet { segment, payload, ecn });
        };
        let bytes = payload.to_vec();
        let last = bytes.chunks(size).count() - 1;
        for (index, part) in bytes.chunks(size).enumerate() {
            let mut piece = Segment { sequence: segment.sequence + (index * size) as u32, ..segment };
            if index < last {
                piece.flags = piece.flags.without(Flags::FIN | Flags::PSH);
            }
            if index > 0 {
                piece.flags = piece.flags.without(Flags::CWR);
            }
            self.put(from, Packet { segment: piece, payload: Buffer::from(part.to_vec()).into(), ecn });
        }
    }

    fn put(&mut self, from: usize, packet: Packet) {
        self.packets += 1;
        let line = format!("{from} {:?} {:?} {}", self.now, packet.segment, packet.payload.len());
        self.trace.push(line);
        let copies = 1 + u64::from(self.random.happens(self.faults.repeated));
        for _ in 0..copies {
            if self.random.happens(self.faults.lost) {
                continue;
            }
            let jitter = Duration::from_nanos(self.random.below(self.faults.jitter.as_nanos() as u64));
            let ecn = match packet.ecn {
                Ecn::NotCapable => Ecn::NotCapable,
                _ if self.random.happens(self.faults.marked) => Ecn::Congestion,
                ecn => ecn,
            };
            let copy = Packet { segment: packet.segment, payload: packet.payload.clone(), ecn };
            let order = self.packets * 2 + copies;
            let mut key = (self.now + self.faults.delay + jitter, order);
            while self.under_way.contains_key(&key) {
                key.1 += 1 << 40;
            }
            self.under_way.insert(key, (1 - from, copy));
        }
    }

    /// To the next thing that happens, if that is before `until`; whether there was one.
    pub(super) fn step(&mut self, until: Instant) -> bool {
        self.transmit();
        let arrival = self.under_way.keys().next().map(|(at, _)| *at);
        let deadline = self.ends.iter().filter_map(End::deadline).min();
        let Some(next) = arrival.into_iter().chain(deadline).min().filter(|next| *next <= until) else {
            return false;
        };
        let busy = Duration::from_nanos(self.random.below(self.faults.busy.as_nanos() as u64));
        self.now = self.now.max(next) + busy;
        let late_first = busy > Duration::ZERO && self.random.happens(50);
        if late_first {
            self.ends.iter_mut().for_each(|end| end.handle_deadline(self.now));
        }
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= self.now
        {
            let (to, packet) = first.remove();
            if let Some(answer) = self.ends[to].handle(self.now, packet, start_of(to)) {
                self.put(to, Packet { segment: answer, payload: Sga::new(), ecn: Ecn::NotCapable });
            }
            if busy == Duration::ZERO {
                self.transmit();
            }
        }
        if !late_first {
            self.ends.iter_mut().for_each(|end| end.handle_deadline(self.now));
        }
        self.transmit();
        true
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = self.now.max(until);
    }
}
