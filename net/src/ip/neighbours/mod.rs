//! The neighbour cache: Ethernet addresses of hops, for IPv4 by ARP and for IPv6 by NDP, with one state machine, that
//! of RFC 4861 section 7.3.
//!
//! ```text
//!             packet to send                  answer to us             reachable time
//!   (none) ──────────────────▶ Incomplete ──────────────▶ Reachable ──────────────────▶ Stale
//!      ▲                           │  ▲                      ▲  ▲                        │ │
//!      │ no answer: unreachable    │  └ asked again          │  └──── confirmed ─────────┘ │ packet to send
//!      ├───────────────────────────┘                  answer │                            ▼
//!      └───────────────────────── Probe ◀───────────────────────────────────────────── Delay
//!          no answer                       delay is over without confirmation
//! ```
//!
//! A resolved neighbour is a slot. Who sends keeps its [`Cookie`], and copies the 14 bytes of header from the slot
//! while the cookie is right; it is wrong once the slot has another neighbour or address, or is stale and the slow
//! path has to see the packet, which begins the probing.
//!
//! Limits: [`Limits::entries`] in all, of which a quarter may wait for an answer; [`Limits::packets`] and
//! [`Limits::bytes`] waiting for one neighbour, of which the newest are kept, and [`Limits::total_packets`] for all.
//! A full table evicts an entry that was not used since the last sweep (the CLOCK approximation of least recently
//! used, as an exact order would cost every packet writes to three slots).

mod learn;
#[cfg(test)]
mod tests;

pub use learn::{Advertisement, ArpNews};

use super::Key;
use crate::wire::ethernet::{self, MacAddress, ether_type};
use demikernel_runtime::time::{Duration, Instant};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

/// How many times a neighbour is asked before it is given up [rfc4861 10-max-solicit]; Linux asks as often by ARP.
pub const SOLICITATIONS: u8 = 3;

/// How long others have to confirm a neighbour before it is asked [rfc4861 10-delay].
const DELAY: Duration = Duration::from_secs(5);

/// How much a cache holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Neighbours, at least 4.
    pub entries: usize,
    /// Packets that wait for one neighbour: at least one [rfc1122 2.3.2.2].
    pub packets: usize,
    /// Bytes that wait for one neighbour.
    pub bytes: usize,
    /// Packets that wait for any neighbour.
    pub total_packets: usize,
}

impl Default for Limits {
    /// 512 neighbours; 3 packets and 64 KiB for each that is being asked, 128 packets in all.
    fn default() -> Limits {
        Limits { entries: 512, packets: 3, bytes: 64 << 10, total_packets: 128 }
    }
}

/// The times that routers may advertise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// How long a neighbour is reachable after it was heard: random around the base value [rfc4861 6.3.2-reachable].
    pub reachable: Duration,
    /// Between questions. Not below a second for ARP [rfc1122 2.3.2.1-flooding].
    pub retransmit: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times { reachable: Duration::from_secs(30), retransmit: Duration::from_secs(1) }
    }
}

/// A resolved neighbour, as long as [`Neighbours::header`] knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie {
    index: u32,
    generation: u32,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It was asked for and has not answered.
    Incomplete,
    /// It was heard answering a moment ago.
    Reachable,
    /// Its address is known, but not whether it is right.
    Stale,
    /// Stale, and a packet was sent: perhaps somebody confirms it.
    Delay,
    /// It is being asked whether its address is right.
    Probe,
    /// The configuration says so, for ever.
    Permanent,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// Ask for an address: everybody who might have it, or the one who had it.
    Solicit {
        /// Whose Ethernet address is wanted.
        address: IpAddr,
        /// To whom the question goes, if not to all.
        to: Option<MacAddress>,
    },
    /// Send a packet that has waited: its neighbour is known now.
    Send {
        /// The neighbour.
        cookie: Cookie,
        /// The packet.
        packet: P,
    },
    /// The neighbour does not answer: the packet's sender is to be told.
    Unreachable {
        /// The neighbour.
        address: IpAddr,
        /// The packet.
        packet: P,
    },
    /// A router does not answer, or is one no longer: another is to be chosen [rfc4861 7.3.3-router]
    /// [rfc1122 3.3.1.4]. Of IPv4, any neighbour that does not answer: the routes know whether it is one.
    RouterLost(IpAddr),
}

/// What becomes of a packet that is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolution<P> {
    /// The neighbour is known: send the packet with its header.
    Ready(Cookie, P),
    /// The packet waits.
    Waiting,
}

/// The neighbours of an interface, and packets `P` that wait for them.
///
/// ```
/// use demikernel_net::ip::Key;
/// use demikernel_net::ip::neighbours::{Event, Limits, Neighbours, Resolution, Times};
/// use demikernel_net::wire::arp::{Operation, Packet};
/// use demikernel_net::wire::ethernet::MacAddress;
/// use demikernel_runtime::time::Instant;
/// use std::net::Ipv4Addr;
///
/// let [own, other] = [1, 2].map(|last| (Ipv4Addr::new(192, 0, 2, last), MacAddress([2, 0, 0, 0, 0, last])));
/// let now = Instant::from_nanos(1);
/// let mut neighbours = Neighbours::new(own.1, Limits::default(), Times::default(), Key::new([7; 16]));
/// assert_eq!(neighbours.resolve(now, other.0.into(), "a packet", 8), Resolution::Waiting);
/// assert_eq!(neighbours.poll(), Some(Event::Solicit { address: other.0.into(), to: None }));
///
/// let answer = Packet {
///     operation: Operation::Reply,
///     sender_hardware: other.1,
///     sender_protocol: other.0,
///     target_hardware: own.1,
///     target_protocol: own.0,
/// };
/// neighbours.on_arp(now, &answer, |address| address == own.0, |address| address == own.0);
/// let Some(Event::Send { cookie, packet: "a packet" }) = neighbours.poll() else { panic!("it is known now") };
/// assert_eq!(neighbours.header(cookie).unwrap()[..6], other.1.0);
/// ```
#[derive(Debug)]
pub struct Neighbours<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u32>,
    by_address: HashMap<IpAddr, u32, Key>,
    deadlines: BTreeSet<(Instant, u32)>,
    events: VecDeque<Event<P>>,
    own: MacAddress,
    limits: Limits,
    times: Times,
    /// Where the sweep for something to evict goes on.
    hand: usize,
    incomplete: usize,
    /// Entries in Delay or Probe: what confirms them spares a question.
    unsure: usize,
    waiting: usize,
}

#[derive(Debug)]
struct Slot<P> {
    header: [u8; ethernet::MINIMUM_HEADER],
    generation: u32,
    /// A packet was sent since the last sweep.
    used: bool,
    /// None if the slot is free.
    state: Option<State>,
    is_router: bool,
    /// Questions since the state began.
    asked: u8,
    confirmed: Instant,
    updated: Instant,
    deadline: Instant,
    address: IpAddr,
    /// Packets and their bytes, the oldest first.
    queue: VecDeque<(P, usize)>,
    queued_bytes: usize,
}

impl<P> Neighbours<P> {
    /// Nobody is known yet to the interface with the address `own`.
    #[must_use]
    pub fn new(own: MacAddress, limits: Limits, times: Times, key: Key) -> Neighbours<P> {
        Neighbours {
            slots: Vec::new(),
            free: Vec::new(),
            by_address: HashMap::with_hasher(key),
            deadlines: BTreeSet::new(),
            events: VecDeque::new(),
            own,
            limits: Limits { entries: limits.entries.max(4), packets: limits.packets.max(1), ..limits },
            times,
            hand: 0,
            incomplete: 0,
            unsure: 0,
            waiting: 0,
        }
    }

    /// Other times, from now on.
    pub fn set_times(&mut self, times: Times) {
        self.times = times;
    }

    /// The header for a neighbour, unless the cookie is old; then [`resolve`](Neighbours::resolve) is to be asked.
    #[inline]
    pub fn header(&mut self, cookie: Cookie) -> Option<&[u8; ethernet::MINIMUM_HEADER]> {
        let slot = self.slots.get_mut(cookie.index as usize)?;
        if slot.generation != cookie.generation {
            return None;
        }
        slot.used = true;
        Some(&slot.header)
    }

    /// A transport knows that its packets arrive [rfc4861 7.3.1-confirmation] [rfc1122 2.3.2.1-advice]: the
    /// neighbour is reachable. No look-up: cheap enough for every acknowledgment.
    #[inline]
    pub fn confirm(&mut self, now: Instant, cookie: Cookie) {
        let Some(slot) = self.slots.get_mut(cookie.index as usize) else { return };
        if slot.generation == cookie.generation {
            slot.confirmed = now;
        }
    }

    /// Whether there is anybody whom [`confirm`](Neighbours::confirm) would spare a question.
    #[inline]
    #[must_use]
    pub fn wants_confirmation(&self) -> bool {
        self.unsure > 0
    }

    /// Looks up the neighbour for a packet of `bytes`, which waits if it is not known yet. Look at
    /// [`poll`](Neighbours::poll) afterwards.
    pub fn resolve(&mut self, now: Instant, address: IpAddr, packet: P, bytes: usize) -> Resolution<P> {
        let index = match self.by_address.get(&address) {
            Some(index) => *index,
            None => self.insert(now, address, State::Incomplete),
        };
        let slot = &mut self.slots[index as usize];
        slot.used = true;
        match slot.state {
            Some(State::Incomplete) => {
                self.enqueue(index, packet, bytes);
                return Resolution::Waiting;
            }
            Some(State::Stale) => self.enter(now, index, State::Delay),
            _ => {}
        }
        Resolution::Ready(self.cookie(index), packet)
    }

    /// A neighbour that the configuration names. It is never asked for nor evicted.
    ///
    /// Returns whether there was room: half of the table is left to others.
    pub fn add_permanent(&mut self, now: Instant, address: IpAddr, hardware: MacAddress) -> bool {
        let is_permanent = |slot: &&Slot<P>| slot.state == Some(State::Permanent);
        if self.slots.iter().filter(is_permanent).count() >= self.limits.entries / 2 {
            return false;
        }
        let index = match self.by_address.get(&address) {
            Some(index) => *index,
            None => self.insert(now, address, State::Stale),
        };
        self.set_hardware(now, index, hardware);
        self.enter(now, index, State::Permanent);
        self.release(index);
        true
    }

    /// Forgets a neighbour; what waits for it is unreachable.
    pub fn remove(&mut self, address: IpAddr) {
        if let Some(index) = self.by_address.get(&address) {
            self.fail(*index, false);
        }
    }

    /// Forgets all but permanent ones: the link was down.
    pub fn flush(&mut self) {
        for index in 0..self.slots.len() as u32 {
            if !matches!(self.slots[index as usize].state, None | Some(State::Permanent)) {
                self.fail(index, false);
            }
        }
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Instant) {
        while let Some((due, index)) = self.deadlines.first().copied() {
            if due > now {
                return;
            }
            self.deadlines.pop_first();
            self.slots[index as usize].deadline = Instant::MAX;
            self.on_deadline(now, index);
        }
    }

    fn on_deadline(&mut self, now: Instant, index: u32) {
        let slot = &self.slots[index as usize];
        let reachable_until = slot.confirmed.saturating_add(self.times.reachable);
        match slot.state {
            Some(State::Reachable | State::Delay) if reachable_until > now => {
                self.enter(now, index, State::Reachable);
                self.set_deadline(index, reachable_until);
            }
            Some(State::Reachable) => self.enter(now, index, State::Stale),
            Some(State::Delay) => self.enter(now, index, State::Probe),
            Some(State::Probe) if slot.asked > 0 && reachable_until > now => {
                self.enter(now, index, State::Reachable);
            }
            Some(State::Incomplete | State::Probe) if slot.asked >= SOLICITATIONS => self.fail(index, true),
            Some(State::Incomplete | State::Probe) => self.ask(now, index),
            Some(State::Stale | State::Permanent) | None => {}
        }
    }

    /// When [`on_time`](Neighbours::on_time) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Event<P>> {
        self.events.pop_front()
    }

    /// How many neighbours there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// How many packets wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// What is known of a neighbour: its state, and its address unless that is incomplete.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<(State, Option<MacAddress>)> {
        let slot = &self.slots[*self.by_address.get(&address)? as usize];
        let state = slot.state?;
        Some((state, (state != State::Incomplete).then(|| slot.hardware())))
    }

    fn cookie(&self, index: u32) -> Cookie {
        Cookie { index, generation: self.slots[index as usize].generation }
    }

    /// A slot for a new neighbour, in a state that has no packets yet.
    fn insert(&mut self, now: Instant, address: IpAddr, state: State) -> u32 {
        let full = self.by_address.len() >= self.limits.entries;
        if state == State::Incomplete && self.incomplete >= (self.limits.entries / 4).max(1) {
            self.evict(|slot| slot.state == Some(State::Incomplete));
        } else if full {
            self.evict(|slot| !matches!(slot.state, None | Some(State::Permanent)));
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::new(address));
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.address = address;
        slot.used = false;
        slot.is_router = false;
        slot.confirmed = Instant::from_nanos(0);
        slot.updated = Instant::from_nanos(0);
        self.by_address.insert(address, index);
        self.enter(now, index, state);
        index
    }

    /// Removes one of those that may be: one not used since the sweep passed, in two rounds at most.
    fn evict(&mut self, may_be: impl Fn(&Slot<P>) -> bool) {
        let count = self.slots.len();
        for _ in 0..2 * count {
            self.hand = (self.hand + 1) % count;
            let slot = &mut self.slots[self.hand];
            if may_be(slot) && !std::mem::replace(&mut slot.used, false) {
                return self.fail(self.hand as u32, false);
            }
        }
    }

    /// To a state, with what begins with it.
    fn enter(&mut self, now: Instant, index: u32, state: State) {
        let slot = &mut self.slots[index as usize];
        let before = slot.state.replace(state);
        if (before == Some(State::Incomplete)) != (state == State::Incomplete) {
            self.incomplete =
                if state == State::Incomplete { self.incomplete + 1 } else { self.incomplete - 1 };
        }
        self.unsure -= usize::from(is_unsure(before));
        self.unsure += usize::from(is_unsure(Some(state)));
        slot.asked = 0;
        match state {
            State::Incomplete | State::Probe => self.ask(now, index),
            State::Reachable => self.set_deadline(index, now.saturating_add(self.times.reachable)),
            State::Delay => self.set_deadline(index, now.saturating_add(DELAY)),
            State::Stale => {
                // The next packet has to take the slow path, which begins the delay.
                slot.renew();
                // What was confirmed before says nothing of the address that it has now.
                slot.confirmed = Instant::from_nanos(0);
                self.set_deadline(index, Instant::MAX);
            }
            State::Permanent => self.set_deadline(index, Instant::MAX),
        }
    }

    /// Asks once more: all if no address is known, else its owner [rfc4861 7.3.3-probe] [rfc1122 2.3.2.1-poll].
    fn ask(&mut self, now: Instant, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.asked += 1;
        let to = (slot.state != Some(State::Incomplete)).then(|| slot.hardware());
        let address = slot.address;
        self.events.push_back(Event::Solicit { address, to });
        let least = if address.is_ipv4() { Duration::from_secs(1) } else { Duration::from_millis(1) };
        self.set_deadline(index, now.saturating_add(self.times.retransmit.max(least)));
    }

    fn set_deadline(&mut self, index: u32, deadline: Instant) {
        let slot = &mut self.slots[index as usize];
        if slot.deadline != Instant::MAX {
            self.deadlines.remove(&(slot.deadline, index));
        }
        slot.deadline = deadline;
        if deadline != Instant::MAX {
            self.deadlines.insert((deadline, index));
        }
    }

    /// The newest are kept [rfc4861 7.2.2-queue]; the oldest are dropped without a word, as a full link would.
    fn enqueue(&mut self, index: u32, packet: P, bytes: usize) {
        let slot = &mut self.slots[index as usize];
        let limits = self.limits;
        while slot.queue.len() >= limits.packets
            || !slot.queue.is_empty() && slot.queued_bytes + bytes > limits.bytes
        {
            slot.drop_oldest();
            self.waiting -= 1;
        }
        if bytes > limits.bytes || self.waiting >= limits.total_packets {
            return;
        }
        slot.queue.push_back((packet, bytes));
        slot.queued_bytes += bytes;
        self.waiting += 1;
    }

    /// Sends what has waited.
    fn release(&mut self, index: u32) {
        let cookie = self.cookie(index);
        let slot = &mut self.slots[index as usize];
        self.waiting -= slot.queue.len();
        slot.queued_bytes = 0;
        self.events.extend(slot.queue.drain(..).map(|(packet, _)| Event::Send { cookie, packet }));
    }

    /// Forgets a neighbour and tells who waits for it [rfc4861 7.2.2-unreachable] [rfc1122 2.3.2.2].
    ///
    /// If it does not answer and may be a gateway, another is to be used; ARP does not say who is one.
    fn fail(&mut self, index: u32, is_silent: bool) {
        self.set_deadline(index, Instant::MAX);
        let slot = &mut self.slots[index as usize];
        let address = slot.address;
        self.waiting -= slot.queue.len();
        slot.queued_bytes = 0;
        self.events.extend(slot.queue.drain(..).map(|(packet, _)| Event::Unreachable { address, packet }));
        if is_silent && (slot.is_router || address.is_ipv4()) {
            self.events.push_back(Event::RouterLost(address));
        }
        let before = slot.state.take();
        self.incomplete -= usize::from(before == Some(State::Incomplete));
        self.unsure -= usize::from(is_unsure(before));
        slot.renew();
        self.by_address.remove(&address);
        self.free.push(index);
    }

    /// Writes the header; old cookies are wrong if it is another.
    fn set_hardware(&mut self, now: Instant, index: u32, hardware: MacAddress) {
        let slot = &mut self.slots[index as usize];
        let version = if slot.address.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
        let header =
            ethernet::Header { destination: hardware, source: self.own, vlan: None, ether_type: version };
        let before = slot.header;
        header.emit(&mut slot.header);
        if slot.header != before {
            slot.updated = now;
            slot.renew();
        }
    }
}

fn is_unsure(state: Option<State>) -> bool {
    matches!(state, Some(State::Delay | State::Probe))
}

impl<P> Slot<P> {
    fn new(address: IpAddr) -> Slot<P> {
        Slot {
            header: [0; ethernet::MINIMUM_HEADER],
            generation: 0,
            used: false,
            state: None,
            is_router: false,
            asked: 0,
            confirmed: Instant::from_nanos(0),
            updated: Instant::from_nanos(0),
            deadline: Instant::MAX,
            address,
            queue: VecDeque::new(),
            queued_bytes: 0,
        }
    }

    fn hardware(&self) -> MacAddress {
        let [a, b, c, d, e, f, ..] = self.header;
        MacAddress([a, b, c, d, e, f])
    }

    fn renew(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn drop_oldest(&mut self) {
        if let Some((_, bytes)) = self.queue.pop_front() {
            self.queued_bytes -= bytes;
        }
    }
}
