//! One socket.

use super::address::Address;
use super::options::Options;
use super::pushes::Pushes;
use super::waiting::Waiting;
use crate::buffer::{Buffer, Sga};
use crate::executor::Completion;
use crate::time::Instant;
use crate::transport::{Accepted, Domain, Endpoint, Qd, SocketKind};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub(super) struct Socket {
    pub(super) domain: Domain,
    pub(super) kind: SocketKind,
    pub(super) options: Options,
    pub(super) local: Name,
    /// It holds its local address; what a listener accepts only shows it.
    pub(super) bound: bool,
    /// The program has closed it, and what was pushed is still under way.
    pub(super) closing: bool,
    pub(super) role: Role,
}

/// An address of a socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Name {
    Inet(Address),
    Unix(Option<PathBuf>),
}

impl Name {
    /// What a socket that has no address says.
    pub(super) fn none(domain: Domain) -> Name {
        match domain {
            Domain::Unix => Name::Unix(None),
            _ => Name::Inet(Address::unspecified(domain)),
        }
    }

    /// As a socket of a family shows it.
    pub(super) fn shown(&self, domain: Domain) -> Endpoint {
        match self {
            Name::Inet(address) => Endpoint::Inet(address.shown(domain)),
            Name::Unix(path) => Endpoint::Unix(path.clone()),
        }
    }

    pub(super) fn inet(&self) -> Option<Address> {
        match self {
            Name::Inet(address) => Some(*address),
            Name::Unix(_) => None,
        }
    }
}

/// Tells one connection, or attempt to make one, from all others of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Connection(pub(super) u64);

pub(super) enum Role {
    /// A stream socket that is neither of the next three.
    New,
    Listener(Listener),
    Connecting(Connecting),
    Connected(Stream),
    Datagram(Datagram),
}

/// Who waits for connections, and which wait for somebody.
pub(super) struct Listener {
    pub(super) backlog: usize,
    pub(super) accepts: Waiting<Completion<io::Result<Accepted>>>,
    /// Connections whose accepts were given up when they were done, by the numbers of those.
    pub(super) given_back: VecDeque<(u32, Qd)>,
    /// Connections that nobody has accepted yet.
    pub(super) ready: VecDeque<Qd>,
    /// Attempts that came when the backlog was full.
    pub(super) queue: VecDeque<(Qd, Connection)>,
}

pub(super) struct Connecting {
    pub(super) connection: Connection,
    pub(super) remote: Name,
    pub(super) done: Completion<io::Result<()>>,
    /// The peer has made its end, and the news of that is under way.
    pub(super) answered: bool,
    /// See [`Stream::stuck`].
    pub(super) stuck: Option<u64>,
}

/// One end of a connection.
pub(super) struct Stream {
    pub(super) connection: Connection,
    pub(super) peer: Qd,
    pub(super) remote: Name,

    /// Who waits for data, and for how much at most.
    pub(super) pops: Waiting<(usize, Completion<io::Result<Buffer>>)>,
    /// What was popped by those who then did not take it, by the numbers of their operations: before all
    /// that has arrived. The peer was told of its room already.
    pub(super) given_back: VecDeque<(u32, Buffer)>,
    /// What has arrived, and nobody has popped.
    pub(super) arrived: VecDeque<Buffer>,
    /// Bytes of it.
    pub(super) unread: usize,
    pub(super) receiving: Receiving,
    /// What still comes is dropped: the program has shut this direction.
    pub(super) deaf: bool,
    /// Data was dropped that the peer believes to be delivered.
    pub(super) discarded: bool,
    /// What the peer was told that it may send, in all.
    pub(super) window: usize,
    /// Room that it was not told of yet.
    pub(super) room: usize,
    /// It is being told of some.
    pub(super) telling: bool,

    pub(super) outbound: Pushes,
    pub(super) sending: Sending,
    /// Room that the peer has for more, as far as is known here.
    pub(super) credit: usize,
    /// What is on its way to the peer, with the time at which it gets there.
    pub(super) flight: VecDeque<(Instant, Item)>,
    /// When the latest of it gets there: nothing may overtake it.
    pub(super) latest: Instant,
    /// What is on its way does not get through; it is given up when the event of this number comes.
    pub(super) stuck: Option<u64>,

    /// The program has closed it, and so much was left to be sent: it is given up when the event of this
    /// number comes, unless it is less by then.
    pub(super) background: Option<(u64, usize)>,

    /// Why the connection has failed, if nobody was told yet.
    pub(super) error: Option<i32>,
}

/// The receiving direction of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiving {
    Open,
    /// Nothing comes after what has arrived: the peer has said so, or the program wants no more.
    Ended,
    /// Nothing comes after what has arrived, but it is not all that there was.
    Failed,
}

/// The sending direction of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sending {
    Open,
    /// It ends when what was pushed has left.
    Ending,
    Ended,
}

/// What travels from one end of a connection to the other.
pub(super) enum Item {
    /// The connection is made.
    Established,
    Data(Sga),
    /// No data follows.
    End,
    /// The sender has given the connection up.
    Reset,
    /// The network breaks the connection when this has travelled.
    Broken,
}

impl Stream {
    pub(super) fn new(connection: Connection, peer: Qd, remote: Name, window: u32, credit: u32) -> Stream {
        Stream {
            connection,
            peer,
            remote,
            pops: Waiting::default(),
            given_back: VecDeque::new(),
            arrived: VecDeque::new(),
            unread: 0,
            receiving: Receiving::Open,
            deaf: false,
            discarded: false,
            window: capacity(window),
            room: 0,
            telling: false,
            outbound: Pushes::default(),
            sending: Sending::Open,
            credit: capacity(credit),
            flight: VecDeque::new(),
            latest: Instant::from_nanos(0),
            stuck: None,
            background: None,
            error: None,
        }
    }
}

/// The bytes that a buffer of a socket holds; without any nothing would move.
pub(super) fn capacity(buffer: u32) -> usize {
    (buffer as usize).max(1)
}

/// What a datagram socket has.
#[derive(Default)]
pub(super) struct Datagram {
    pub(super) peer: Option<Address>,
    pub(super) pops: Waiting<DatagramPop>,
    /// As that of a stream.
    pub(super) given_back: VecDeque<(u32, (Buffer, Address))>,
    pub(super) arrived: VecDeque<(Buffer, Address)>,
    pub(super) unread: usize,
    /// Those that wait until earlier ones have left.
    pub(super) sends: Waiting<DatagramSend>,
    /// Bytes on their way.
    pub(super) in_flight: usize,
    pub(super) latest: Option<Instant>,
    /// What became of an earlier one.
    pub(super) error: Option<i32>,
}

pub(super) enum DatagramPop {
    Data(usize, Completion<io::Result<Buffer>>),
    DataFrom(usize, Completion<io::Result<(Buffer, SocketAddr)>>),
}

pub(super) struct DatagramSend {
    pub(super) data: Sga,
    pub(super) to: Address,
    pub(super) done: Completion<io::Result<()>>,
}
