//! The client of DHCPv4 (RFC 2131).
//!
//! ```text
//!   Init ──DISCOVER──▶ Selecting ──OFFER: REQUEST──▶ Requesting ──ACK──▶ Bound
//!    ▲                                  │ NAK, nobody            T1 ▼   ▲ ACK
//!    ├──────────────────────────────────┘                       Renewing─┤
//!    │                                                           T2 ▼    │ ACK
//!    └────────── NAK, lease over, conflict (DECLINE) ◀──────── Rebinding─┘
//! ```
//!
//! It takes the payloads of UDP packets to port 68 and gives those of packets from there to port 67. The first offer
//! is taken. There is one lease, and of its lists at most [`MOST_SERVERS`] and [`MOST_ROUTES`] entries:
//! nothing grows.

mod message;
#[cfg(test)]
mod tests;

use super::{addresses::Prefix, between};
use crate::wire::dhcp::Kind;
use crate::wire::ethernet::MacAddress;
use demikernel_runtime::time::{Duration, Instant};
use message::{Reply, Request};
use std::net::Ipv4Addr;

/// The client's port.
pub const CLIENT_PORT: u16 = 68;

/// The server's port.
pub const SERVER_PORT: u16 = 67;

/// How many routers and servers of names are taken from a message.
pub const MOST_SERVERS: usize = 4;

/// How many routes are taken from a message.
pub const MOST_ROUTES: usize = 16;

/// A first DISCOVER waits for up to ten seconds after the machine starts, lest all do at once [rfc2131 4.4.1-wait].
/// Hosts of today start in less than that, and so does Linux' `ip=dhcp` wait less: it is one second here.
const START: Duration = Duration::from_secs(1);

/// Between a first message and its repetition; it doubles up to [`LONGEST`] [rfc2131 4.1-backoff].
const FIRST: Duration = Duration::from_secs(4);

/// See [`FIRST`].
const LONGEST: Duration = Duration::from_secs(64);

/// REQUESTs until the client begins anew: a minute, as RFC 2131 section 3.1 step 5 suggests.
const REQUESTS: u32 = 4;

/// Between repetitions of a renewal at least [rfc2131 4.4.5-half].
const LEAST_RENEWAL: Duration = Duration::from_secs(60);

/// After a DECLINE nothing is sent for so long [rfc2131 3.1-decline].
const DECLINE_WAIT: Duration = Duration::from_secs(10);

/// A lease of less would be renewed all the time.
const LEAST_LEASE: u32 = 60;

/// What a server has given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Those on the link.
    pub prefix: Prefix,
    /// Routers, the one to prefer first.
    pub routers: Vec<Ipv4Addr>,
    /// Routes, and for each a router, if its destinations are not on the link. Where there are some, there are no
    /// `routers`.
    pub routes: Vec<(Prefix, Option<Ipv4Addr>)>,
    /// Servers of names.
    pub dns_servers: Vec<Ipv4Addr>,
    /// What packets may be, if the server says.
    pub mtu: Option<u16>,
    /// Who has given it.
    pub server: Ipv4Addr,
    /// When to ask its server for more time (T1).
    pub renew_at: Instant,
    /// When to ask any server (T2).
    pub rebind_at: Instant,
    /// When it is over; [`Instant::MAX`] never.
    pub until: Instant,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send a UDP packet from port 68 to port 67.
    Send {
        /// Ours; 0.0.0.0 while there is none.
        source: Ipv4Addr,
        /// The server, or everybody.
        destination: Ipv4Addr,
        /// The payload.
        payload: Vec<u8>,
    },
    /// The lease is new, or has changed: configure the interface. If it is new, detect conflicts first, and say so.
    Configure(Lease),
    /// Stop using the address.
    Deconfigure(Ipv4Addr),
}

/// The client of one interface.
///
/// ```
/// use demikernel_net::ip::dhcp::{Action, Client};
/// use demikernel_net::wire::dhcp::{Header, Kind, option};
/// use demikernel_net::wire::ethernet::MacAddress;
/// use demikernel_runtime::time::{Duration, Instant};
///
/// let (hardware, random) = (MacAddress([2, 0, 0, 0, 0, 1]), 7);
/// let mut client = Client::new(Instant::from_nanos(0), hardware, random);
/// let now = Instant::from_nanos(0) + Duration::from_secs(1);
///
/// /// A server that gives 192.0.2.10 to everybody.
/// fn answer(question: &[u8]) -> Vec<u8> {
///     let (header, options) = Header::parse(question).unwrap();
///     let kind = if options.kind() == Some(Kind::Discover) { Kind::Offer } else { Kind::Ack };
///     Header { is_reply: true, yours: [192, 0, 2, 10].into(), ..header }.emit(&[
///         (option::MESSAGE_TYPE, &[kind as u8]),
///         (option::SERVER_IDENTIFIER, &[192, 0, 2, 1]),
///         (option::SUBNET_MASK, &[255, 255, 255, 0]),
///         (option::ROUTER, &[192, 0, 2, 1]),
///         (option::LEASE_TIME, &3600u32.to_be_bytes()),
///     ])
/// }
///
/// while client.lease().is_none() {
///     let Some(Action::Send { payload, .. }) = client.poll(now, random) else { panic!("it asks") };
///     client.on_message(now, &answer(&payload), random);
/// }
/// let Some(Action::Configure(lease)) = client.poll(now, random) else { panic!("it has an address") };
/// assert_eq!(lease.address.to_string(), "192.0.2.10");
/// assert_eq!(lease.prefix.to_string(), "192.0.2.0/24");
/// assert_eq!(lease.until, now + Duration::from_secs(3600));
/// ```
#[derive(Debug)]
pub struct Client {
    hardware: MacAddress,
    state: State,
    /// Of the exchange that is under way.
    transaction: u32,
    /// When it began.
    began: Instant,
    /// Messages sent in this state.
    sent: u32,
    due: Instant,
    lease: Option<Lease>,
    /// To be done first.
    actions: Vec<Action>,
}

/// RFC 2131 figure 5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Init,
    Selecting,
    /// For an offer of an address by a server.
    Requesting {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    Bound,
    Renewing,
    Rebinding,
    /// Nothing more: the address was given back.
    Released,
}

impl Client {
    /// For an interface; it begins at a random time within a second.
    #[must_use]
    pub fn new(now: Instant, hardware: MacAddress, random: u64) -> Client {
        Client {
            hardware,
            state: State::Init,
            transaction: 0,
            began: now,
            sent: 0,
            due: now + between(Duration::ZERO, START, random),
            lease: None,
            actions: Vec::new(),
        }
    }

    /// What is to be done now, if anything. Ask again until there is nothing.
    pub fn poll(&mut self, now: Instant, random: u64) -> Option<Action> {
        if !self.actions.is_empty() {
            return Some(self.actions.remove(0));
        }
        if now < self.due {
            return None;
        }
        match self.state {
            State::Init => {
                self.enter(State::Selecting, now, random);
                Some(self.discover(now, random))
            }
            State::Selecting => Some(self.discover(now, random)),
            // [rfc2131 3.1-5] Nobody answers.
            State::Requesting { .. } if self.sent >= REQUESTS => {
                self.start_over(now, now);
                self.poll(now, random)
            }
            State::Requesting { .. } => Some(self.request(now, random)),
            State::Bound => {
                self.enter(State::Renewing, now, random);
                self.poll(now, random)
            }
            State::Renewing | State::Rebinding => self.extend(now, random),
            State::Released => None,
        }
    }

    /// [rfc2131 4.4.1-discover]
    fn discover(&mut self, now: Instant, random: u64) -> Action {
        self.back_off(now, random);
        self.send(now, Kind::Discover, Ipv4Addr::BROADCAST, Request::default())
    }

    /// [rfc2131 4.3.2-selecting] It names the server and the address, and goes to all.
    fn request(&mut self, now: Instant, random: u64) -> Action {
        self.back_off(now, random);
        let mut request = Request::default();
        if let State::Requesting { address, server } = self.state {
            (request.requested, request.server) = (Some(address), Some(server));
        }
        self.send(now, Kind::Request, Ipv4Addr::BROADCAST, request)
    }

    /// Asks for more time: its server until T2, then everybody until the end [rfc2131 4.4.5].
    fn extend(&mut self, now: Instant, random: u64) -> Option<Action> {
        let lease = self.lease.as_ref()?;
        let (address, server, rebind_at, until) = (lease.address, lease.server, lease.rebind_at, lease.until);
        if now >= until {
            // [rfc2131 4.4.5-expired]
            self.drop_lease();
            self.start_over(now, now);
            return self.poll(now, random);
        }
        if self.state == State::Renewing && now >= rebind_at {
            self.enter(State::Rebinding, now, random);
        }
        let (destination, end) = match self.state {
            State::Renewing => (server, rebind_at),
            _ => (Ipv4Addr::BROADCAST, until),
        };
        // [rfc2131 4.4.5-half] Half of what remains, but no less than a minute.
        let wait = (end.duration_since(now) / 2).max(LEAST_RENEWAL);
        self.due = now.saturating_add(wait).min(end);
        let request = Request { client: Some(address), ..Request::default() };
        Some(self.send(now, Kind::Request, destination, request))
    }

    /// Twice as long each time, and a second more or less [rfc2131 4.1-backoff].
    fn back_off(&mut self, now: Instant, random: u64) {
        let wait = (FIRST * 2u32.pow(self.sent.min(4))).min(LONGEST);
        let second = Duration::from_secs(1);
        self.due = now + between(wait - second, wait + second, random);
        self.sent += 1;
    }

    fn send(&self, now: Instant, kind: Kind, destination: Ipv4Addr, request: Request) -> Action {
        let seconds = now.duration_since(self.began).as_secs();
        let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
        let payload = request.encode(kind, self.transaction, seconds, self.hardware);
        Action::Send { source: request.client.unwrap_or(Ipv4Addr::UNSPECIFIED), destination, payload }
    }

    /// Takes the payload of a packet from a server. What is not the answer to our question is ignored.
    pub fn on_message(&mut self, now: Instant, payload: &[u8], random: u64) {
        let Some(reply) = Reply::parse(payload, self.transaction, self.hardware) else { return };
        match (self.state, reply.kind) {
            (State::Selecting, Kind::Offer) => self.on_offer(now, &reply, random),
            (State::Requesting { address, server }, Kind::Ack)
                if reply.server == Some(server) && reply.address == address =>
            {
                self.on_ack(now, &reply);
            }
            (State::Renewing | State::Rebinding, Kind::Ack) => self.on_renewed(now, &reply),
            (State::Requesting { server, .. }, Kind::Nak) if reply.server == Some(server) => {
                self.on_nak(now, random);
            }
            (State::Renewing | State::Rebinding, Kind::Nak) => self.on_nak(now, random),
            _ => {}
        }
    }

    /// The first one that will do [rfc2131 3.1-3].
    fn on_offer(&mut self, now: Instant, offer: &Reply, random: u64) {
        let (Some(server), Some(_)) = (offer.server, offer.lease(now)) else { return };
        let transaction = self.transaction;
        self.enter(State::Requesting { address: offer.address, server }, now, random);
        // The exchange is the same [rfc2131 4.4.1-xid].
        self.transaction = transaction;
    }

    fn on_ack(&mut self, now: Instant, ack: &Reply) {
        let Some(lease) = ack.lease(now) else { return };
        self.bind(lease);
    }

    /// Of the same address; another one would be a new lease, which nobody has asked for.
    fn on_renewed(&mut self, now: Instant, ack: &Reply) {
        let Some(known) = &self.lease else { return };
        // Who renews may leave out who he is.
        let mut ack = ack.clone();
        ack.server = ack.server.or(Some(known.server));
        if ack.address != known.address {
            return;
        }
        self.on_ack(now, &ack);
    }

    fn bind(&mut self, lease: Lease) {
        self.state = State::Bound;
        self.due = lease.renew_at;
        self.actions.push(Action::Configure(lease.clone()));
        self.lease = Some(lease);
    }

    /// [rfc2131 3.1-nak] [rfc2131 4.4.5-nak] From the beginning; not at once, lest a server that refuses all is
    /// flooded.
    fn on_nak(&mut self, now: Instant, random: u64) {
        self.drop_lease();
        self.start_over(now, now + between(START, 2 * START, random));
    }

    /// Another host has the address of the new lease: it is declined [rfc2131 3.1-decline] [rfc2131 4.4.1-decline].
    pub fn on_conflict(&mut self, now: Instant, random: u64) {
        let Some(lease) = self.lease.clone() else { return };
        self.drop_lease();
        self.renew_transaction(random);
        let request =
            Request { requested: Some(lease.address), server: Some(lease.server), ..Request::default() };
        let decline = self.send(now, Kind::Decline, Ipv4Addr::BROADCAST, request);
        self.actions.push(decline);
        self.start_over(now, now + DECLINE_WAIT);
    }

    /// Gives the address back [rfc2131 4.4.6], and is silent from now on.
    pub fn release(&mut self, now: Instant, random: u64) {
        if let Some(lease) = self.lease.clone() {
            self.renew_transaction(random);
            let request =
                Request { client: Some(lease.address), server: Some(lease.server), ..Request::default() };
            let release = self.send(now, Kind::Release, lease.server, request);
            self.actions.push(release);
            self.drop_lease();
        }
        self.state = State::Released;
        self.due = Instant::MAX;
    }

    /// When [`poll`](Client::poll) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.actions.is_empty() {
            Some(self.due).filter(|due| *due != Instant::MAX)
        } else {
            Some(Instant::from_nanos(0))
        }
    }

    /// The lease, if there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    fn drop_lease(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.actions.push(Action::Deconfigure(lease.address));
        }
    }

    fn start_over(&mut self, now: Instant, due: Instant) {
        self.state = State::Init;
        self.began = now;
        self.sent = 0;
        self.due = due;
    }

    fn enter(&mut self, state: State, now: Instant, random: u64) {
        if matches!(state, State::Selecting | State::Renewing) {
            self.began = now;
        }
        self.state = state;
        self.sent = 0;
        self.due = now;
        self.renew_transaction(random);
    }

    /// Nobody who does not see our packets can answer them [rfc2131 4.1-xid].
    fn renew_transaction(&mut self, random: u64) {
        self.transaction = (random >> 32) as u32 ^ random as u32;
    }
}
