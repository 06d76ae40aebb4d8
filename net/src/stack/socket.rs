//! What the slots hold.

use super::interface::Path;
use super::options::Options;
use crate::pooled::{Kind, Pool, Pooled};
use crate::slots::SlotId;
use crate::table::{Ends, Flow};
use crate::tcp::{Connection, Events, Listener, Ticket, TimeWait};
use crate::udp;
use crate::wire::plain::Around;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::Domain;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::thread::LocalKey;

/// Names a socket, and nothing that is in its place later.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketId(pub(crate) SlotId);

impl SocketId {
    /// Its number: small, and used again once the socket is closed.
    pub fn index(self) -> u32 {
        self.0.index
    }
}

/// A socket, in one of its forms. The large ones are behind a pointer, so that slots are small.
pub(crate) enum Socket {
    /// Of TCP, neither listening nor connected.
    Fresh(Box<Fresh>),
    /// A connection.
    Tcp(Pooled<TcpSocket>),
    /// One that listens.
    Listener(Box<Listening>),
    /// Of UDP.
    Udp(Box<UdpSocket>),
    /// What is left of a connection: its place among those.
    TimeWait(u32),
}

const _: () = assert!(size_of::<Socket>() <= 16);

/// A TCP socket without a connection.
pub(crate) struct Fresh {
    pub(crate) domain: Domain,
    pub(crate) bound: Option<Bound>,
    pub(crate) options: Rc<Options>,
}

/// What a socket is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bound {
    /// Unspecified if any.
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// Who has a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// The user.
    User,
    /// A listener, until it is complete.
    HalfOpen { listener: u32, ticket: Ticket },
    /// A listener, until it is accepted.
    Accepting { listener: u32 },
    /// Nobody: the user has closed it.
    Nobody,
}

/// A connection.
pub(crate) struct TcpSocket {
    pub(crate) connection: Connection,
    pub(crate) flow: Ends,
    pub(crate) options: Rc<Options>,
    /// What the wheel has; [`Instant::MAX`] if nothing.
    pub(crate) deadline: Instant,
    pub(crate) holder: Holder,
    pub(crate) path: Path,
    pub(crate) domain: Domain,
    pub(crate) hops: u8,
    pub(crate) class: u8,
    pub(crate) events: Events,
    pub(crate) flags: Flags,
    /// The port, if it was bound to one before.
    pub(crate) bound: bool,
}

/// Of idle connections there may be very many.
const _: () = assert!(size_of::<TcpSocket>() <= 448);

thread_local! {
    static CONNECTIONS: Pool = const { Pool::new() };
}

// SAFETY: nothing else is taken out of this pool.
unsafe impl Kind for TcpSocket {
    fn pool() -> &'static LocalKey<Pool> {
        &CONNECTIONS
    }
}

/// Bits of a connection's socket.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Flags {
    /// In the ready list.
    pub(crate) ready: bool,
    /// In the list of events.
    pub(crate) told: bool,
    /// In the table.
    pub(crate) listed: bool,
    /// It keeps others from binding its port.
    pub(crate) held: bool,
    /// It was established once.
    pub(crate) established: bool,
    /// `connect` has said so.
    pub(crate) said: bool,
    /// The user receives no more.
    pub(crate) shut: bool,
}

/// A listening socket.
pub(crate) struct Listening {
    pub(crate) listener: Listener<u32>,
    pub(crate) domain: Domain,
    pub(crate) bound: Bound,
    pub(crate) options: Rc<Options>,
    pub(crate) told: bool,
    /// Until when cookies that come back are looked at: there was a flood.
    pub(crate) flooded_until: Instant,
}

/// What was looked up to send a datagram: it holds for the next ones to the same destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The destination, as the user wrote it.
    pub(crate) shown: SocketAddr,
    /// The destination, as it is.
    pub(crate) peer: SocketAddr,
    pub(crate) local: IpAddr,
    pub(crate) port: u16,
    pub(crate) mtu: u16,
    pub(crate) hops: u8,
    /// The same for the header of a packet of IPv4, if it is one, without its class.
    pub(crate) around: Option<Around>,
}

/// A UDP socket.
pub(crate) struct UdpSocket {
    pub(crate) socket: udp::Socket,
    pub(crate) domain: Domain,
    pub(crate) options: Options,
    pub(crate) path: Path,
    pub(crate) events: Events,
    pub(crate) told: bool,
    /// Wants to know when there is room again.
    pub(crate) blocked: bool,
    /// The user sends no more.
    pub(crate) shut_write: bool,
    /// The last destination.
    pub(crate) target: Option<Target>,
    pub(crate) bound: Option<Bound>,
    /// What `bind` was called with, rather than an address chosen by `connect`.
    pub(crate) explicit: Option<Bound>,
    pub(crate) peer: Option<SocketAddr>,
    /// By which it may be found, if it is connected.
    pub(crate) flow: Option<Flow>,
    /// Groups that it has joined.
    pub(crate) groups: Vec<IpAddr>,
}

/// A connection in TIME-WAIT.
pub(crate) struct Waiting {
    pub(crate) time_wait: TimeWait,
    pub(crate) flow: Flow,
    /// Its port is held.
    pub(crate) held: bool,
    pub(crate) hops: u8,
}

impl Socket {
    /// The number of what the user has: others are hidden.
    pub(crate) fn is_users(&self) -> bool {
        match self {
            Socket::Tcp(tcp) => tcp.holder == Holder::User,
            Socket::TimeWait(_) => false,
            _ => true,
        }
    }
}

/// The address as IPv4 if it is one that is mapped.
pub(crate) fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The address as a socket of this family shows it.
pub(crate) fn shown(domain: Domain, address: IpAddr, port: u16) -> SocketAddr {
    match (domain, address) {
        (Domain::V6, IpAddr::V4(address)) => SocketAddr::new(address.to_ipv6_mapped().into(), port),
        _ => SocketAddr::new(address, port),
    }
}
