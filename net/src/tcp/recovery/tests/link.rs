//! A sender and a receiver for tests, over a link in virtual time: delay, bandwidth, a queue, loss, marks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use demikernel_runtime::time::{Duration, Instant};

use super::super::{Ack, CongestionState, Expired, Recovery, RecoveryConfig, Sent};
use crate::wire::tcp::{SackBlock, SequenceNumber};

pub(super) const SEGMENT: u32 = 1448;
const OVERHEAD: u32 = 66;
const WINDOW: u32 = 16 << 20;
const DELAYED_ACK: Duration = Duration::from_millis(40);

#[derive(Clone)]
pub(super) struct Link {
    /// Bits a second.
    pub(super) bandwidth: u64,
    /// There and back, without the queue.
    pub(super) round_trip: Duration,
    /// Octets that wait at most.
    pub(super) queue: u64,
    /// Of data segments, in parts of a million.
    pub(super) loss: u32,
    /// Octets in the queue from which on segments are marked.
    pub(super) mark: Option<u64>,
    /// Of a thousand segments, how many are late by a quarter of a round trip.
    pub(super) reorder: u32,
    pub(super) seed: u64,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            bandwidth: 100_000_000,
            round_trip: Duration::from_millis(20),
            queue: 250_000,
            loss: 0,
            mark: None,
            reorder: 0,
            seed: 1,
        }
    }
}

pub(super) struct Flow {
    pub(super) recovery: Recovery,
    first: SequenceNumber,
    next: SequenceNumber,
    unacknowledged: SequenceNumber,
    /// Octets yet to be sent; `u64::MAX` for no end.
    pub(super) left: u64,
    pub(super) sack: bool,
    pub(super) timestamps: bool,
    receiver: Receiver,
    pub(super) timeouts: u32,
    pub(super) probes: u32,
    pub(super) undone: u32,
    pub(super) reductions: u32,
    pub(super) acknowledgments: u32,
    last_ack: Option<SequenceNumber>,
}

#[derive(Default)]
struct Receiver {
    /// Offsets from the first sequence number.
    next: u64,
    beyond: BTreeMap<u64, u64>,
    latest: Option<u64>,
    unacknowledged: u32,
    ack_at: Option<Instant>,
    ece: bool,
    echo: Option<Instant>,
}

#[derive(Clone, Debug)]
enum Event {
    Data { flow: usize, offset: u64, length: u32, marked: bool, sent: Instant },
    Acknowledgment { flow: usize, next: u64, sack: Vec<(u64, u64)>, ece: bool, echo: Option<Instant> },
    Delayed { flow: usize },
}

pub(super) struct World {
    pub(super) now: Instant,
    link: Link,
    pub(super) flows: Vec<Flow>,
    events: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    bodies: Vec<Option<Event>>,
    free: Vec<usize>,
    order: u64,
    /// When the link will have sent all that waits.
    busy_until: Instant,
    random: u64,
    /// What to drop regardless of chance, counted in segments sent.
    pub(super) drop: Vec<u64>,
    pub(super) sent: u64,
}

impl World {
    pub(super) fn new(link: Link) -> World {
        let now = Instant::from_nanos(1_000_000_000);
        World {
            now,
            random: link.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            link,
            flows: Vec::new(),
            events: BinaryHeap::new(),
            bodies: Vec::new(),
            free: Vec::new(),
            order: 0,
            busy_until: now,
            drop: Vec::new(),
            sent: 0,
        }
    }

    pub(super) fn add(&mut self, config: &RecoveryConfig, left: u64) -> usize {
        // Sequence numbers wrap soon.
        let first = SequenceNumber::new(0xffff_0000);
        let mut recovery = Recovery::new(config, first, SEGMENT, self.now);
        recovery.on_sent(self.now, first, 1, Sent::New, false);
        let ack = Ack {
            now: self.now + self.link.round_trip,
            acknowledgment: first + 1,
            sack: &[],
            rtt: None,
            ece: false,
            duplicate: false,
            window: WINDOW,
        };
        recovery.on_ack(&ack);
        self.flows.push(Flow {
            recovery,
            first: first + 1,
            next: first + 1,
            unacknowledged: first + 1,
            left,
            sack: config.sack,
            timestamps: true,
            receiver: Receiver::default(),
            timeouts: 0,
            probes: 0,
            undone: 0,
            reductions: 0,
            acknowledgments: 0,
            last_ack: None,
        });
        self.now = ack.now;
        self.flows.len() - 1
    }

    pub(super) fn delivered(&self, flow: usize) -> u64 {
        self.flows[flow].receiver.next
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Until all that there is to send is acknowledged.
    pub(super) fn run_to_end(&mut self, limit: Duration) -> Duration {
        let (begin, end) = (self.now, self.now + limit);
        while self.flows.iter().any(|flow| flow.left > 0 || flow.next != flow.unacknowledged) {
            assert!(self.step(end), "not done within {limit:?}");
        }
        self.now - begin
    }

    fn step(&mut self, end: Instant) -> bool {
        for flow in 0..self.flows.len() {
            self.send(flow);
        }
        let timer = self.flows.iter().filter_map(|flow| flow.wake_at()).min();
        let event = self.events.peek().map(|Reverse((at, ..))| *at);
        let Some(at) = timer.into_iter().chain(event).min().filter(|&at| at < end) else { return false };
        self.now = self.now.max(at);
        if event == Some(at) {
            let Reverse((.., body)) = self.events.pop().expect("it was seen");
            let event = self.bodies[body].take().expect("each body has one event");
            self.free.push(body);
            self.handle(event);
            return true;
        }
        for flow in 0..self.flows.len() {
            if self.flows[flow].recovery.next_deadline().is_some_and(|at| at <= self.now) {
                self.expire(flow);
            }
        }
        true
    }

    fn expire(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        match flow.recovery.on_deadline(self.now) {
            Expired::Nothing => {}
            Expired::Timeout { .. } => flow.timeouts += 1,
            Expired::Probe => {
                flow.probes += 1;
                let (sequence, length) = match flow.new_segment() {
                    Some(length) => (flow.next, length),
                    None => flow.recovery.last_segment().expect("something is in flight"),
                };
                self.transmit(index, sequence, length, Sent::Probe);
            }
        }
    }

    fn send(&mut self, index: usize) {
        loop {
            let flow = &self.flows[index];
            if flow.recovery.send_at().is_some_and(|at| at > self.now) {
                return;
            }
            let again = flow.recovery.next_retransmission().map(|(at, length)| (at, length.min(SEGMENT)));
            let new = flow.new_segment().map(|length| (flow.next, length));
            let choice = match (again, new) {
                (Some(_), Some((at, length))) if flow.recovery.prefers_new_data() => {
                    Some((at, length, Sent::New))
                }
                (Some((at, length)), _) => Some((at, length, Sent::Retransmission)),
                (None, Some((at, length))) => Some((at, length, Sent::New)),
                (None, None) => None,
            };
            let Some((at, length, what)) = choice.filter(|choice| flow.recovery.allowance() >= choice.1)
            else {
                return;
            };
            self.transmit(index, at, length, what);
        }
    }

    fn transmit(&mut self, index: usize, sequence: SequenceNumber, length: u32, what: Sent) {
        let flow = &mut self.flows[index];
        let offset = flow.offset(sequence);
        if sequence == flow.next {
            flow.next += length;
            flow.left = if flow.left == u64::MAX { u64::MAX } else { flow.left - u64::from(length) };
        }
        flow.recovery.on_sent(self.now, sequence, length, what, flow.left == 0);
        self.sent += 1;
        let number = self.sent;
        let waiting = (self.busy_until - self.now).as_nanos() as u64 * self.link.bandwidth / 8_000_000_000;
        let lost = self.chance(1_000_000) < u64::from(self.link.loss);
        if waiting > self.link.queue || lost || self.drop.contains(&number) {
            return;
        }
        let marked = self.link.mark.is_some_and(|mark| waiting > mark);
        let time = u64::from(length + OVERHEAD) * 8_000_000_000 / self.link.bandwidth;
        self.busy_until = self.busy_until.max(self.now) + Duration::from_nanos(time);
        let late = if self.chance(1_000) < u64::from(self.link.reorder) {
            self.link.round_trip / 4
        } else {
            Duration::ZERO
        };
        let at = self.busy_until + self.link.round_trip / 2 + late;
        self.post(at, Event::Data { flow: index, offset, length, marked, sent: self.now });
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Data { flow, offset, length, marked, sent } => {
                self.receive(flow, offset, length, marked, sent)
            }
            Event::Delayed { flow } => {
                if self.flows[flow].receiver.ack_at.is_some_and(|at| at <= self.now) {
                    self.acknowledge(flow, None);
                }
            }
            Event::Acknowledgment { flow, next, sack, ece, echo } => {
                let now = self.now;
                self.flows[flow].on_acknowledgment(now, next, &sack, ece, echo);
            }
        }
    }

    fn receive(&mut self, index: usize, offset: u64, length: u32, marked: bool, sent: Instant) {
        let receiver = &mut self.flows[index].receiver;
        let (start, end) = (offset, offset + u64::from(length));
        receiver.ece |= marked;
        let twice = end <= receiver.next
            || receiver.beyond.range(..=start).next_back().is_some_and(|(_, &known)| known >= end);
        if twice {
            return self.acknowledge(index, Some((start, end)));
        }
        let in_order = start <= receiver.next && receiver.beyond.is_empty();
        if start <= receiver.next {
            receiver.echo.get_or_insert(sent);
        }
        receiver.insert(start, end);
        receiver.unacknowledged += 1;
        if in_order && receiver.unacknowledged < 2 && !receiver.ece {
            let at = self.now + DELAYED_ACK;
            receiver.ack_at = Some(at);
            return self.post(at, Event::Delayed { flow: index });
        }
        self.acknowledge(index, None);
    }

    fn acknowledge(&mut self, index: usize, twice: Option<(u64, u64)>) {
        let flow = &mut self.flows[index];
        let receiver = &mut flow.receiver;
        receiver.unacknowledged = 0;
        receiver.ack_at = None;
        let mut sack: Vec<(u64, u64)> = twice.into_iter().collect();
        // The block of what came last is first.
        let latest = receiver.latest.and_then(|at| receiver.beyond.range(..=at).next_back());
        sack.extend(latest.map(|(&left, &right)| (left, right)));
        let others = receiver.beyond.iter().rev().map(|(&left, &right)| (left, right));
        sack.extend(others.filter(|block| latest.is_none_or(|(left, _)| *left != block.0)).take(3));
        sack.truncate(3);
        if !flow.sack {
            sack.clear();
        }
        let event = Event::Acknowledgment {
            flow: index,
            next: receiver.next,
            sack,
            ece: std::mem::take(&mut receiver.ece),
            echo: receiver.echo.take().filter(|_| flow.timestamps),
        };
        let at = self.now + self.link.round_trip / 2;
        self.post(at, event);
    }

    fn post(&mut self, at: Instant, event: Event) {
        let body = self.free.pop().unwrap_or_else(|| {
            self.bodies.push(None);
            self.bodies.len() - 1
        });
        self.bodies[body] = Some(event);
        self.order += 1;
        self.events.push(Reverse((at, self.order, body)));
    }

    /// xorshift64*
    fn chance(&mut self, of: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % of
    }
}

impl Flow {
    fn wake_at(&self) -> Option<Instant> {
        let deadline = self.recovery.next_deadline();
        let can_send = self.new_segment().is_some() || self.recovery.next_retransmission().is_some();
        let paced = self.recovery.send_at().filter(|_| can_send && self.recovery.allowance() >= SEGMENT);
        deadline.into_iter().chain(paced).min()
    }

    fn new_segment(&self) -> Option<u32> {
        let room = WINDOW - (self.next - self.unacknowledged);
        let length = self.left.min(u64::from(SEGMENT)) as u32;
        (length > 0 && room >= length).then_some(length)
    }

    fn offset(&self, sequence: SequenceNumber) -> u64 {
        let known = self.receiver.next;
        let distance = sequence.distance_from(self.first + known as u32);
        known.checked_add_signed(i64::from(distance)).expect("nothing is before the first")
    }

    fn on_acknowledgment(
        &mut self,
        now: Instant,
        next: u64,
        sack: &[(u64, u64)],
        ece: bool,
        echo: Option<Instant>,
    ) {
        let acknowledgment = self.first + next as u32;
        if acknowledgment.is_before(self.unacknowledged) {
            return;
        }
        let duplicate = self.last_ack == Some(acknowledgment) && acknowledgment != self.next;
        self.last_ack = Some(acknowledgment);
        self.unacknowledged = acknowledgment;
        let blocks: Vec<SackBlock> = sack
            .iter()
            .map(|&(left, right)| SackBlock {
                left: self.first + left as u32,
                right: self.first + right as u32,
            })
            .collect();
        let rtt = echo.map(|echo| now - echo);
        let acked = self.recovery.on_ack(&Ack {
            now,
            acknowledgment,
            sack: &blocks,
            rtt,
            ece,
            duplicate,
            window: WINDOW,
        });
        self.acknowledgments += 1;
        self.undone += u32::from(acked.undone);
        self.reductions += u32::from(acked.reduced);
        let outstanding = self.next - self.unacknowledged;
        assert!(self.recovery.in_flight() <= outstanding);
        if outstanding == 0 {
            assert_eq!(self.recovery.in_flight(), 0);
            assert_ne!(self.recovery.state(), CongestionState::Recovery, "nothing is left to repair");
        }
    }
}

impl Receiver {
    fn insert(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start, end);
        self.latest = Some(start);
        let touching: Vec<u64> = self
            .beyond
            .range(..=end)
            .rev()
            .take_while(|&(_, &right)| right >= start)
            .map(|(&left, _)| left)
            .collect();
        for left in touching {
            let right = self.beyond.remove(&left).expect("it was just seen");
            start = start.min(left);
            end = end.max(right);
        }
        if start <= self.next {
            self.next = self.next.max(end);
        } else {
            self.beyond.insert(start, end);
        }
    }
}
