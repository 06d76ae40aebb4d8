//! One socket, and who waits for it.

use super::share::Seat;
use crate::link::Id;
use crate::verbs::ConnectionId;
use demikernel_runtime::Completion;
use demikernel_runtime::transport::readiness::{Push, Receive, Untaken};
use demikernel_runtime::transport::stream::Fifo;
use demikernel_runtime::transport::{Domain, Qd, SocketKind};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

pub(super) struct Socket {
    pub(super) id: Cell<Id>,
    pub(super) domain: Domain,
    pub(super) kind: SocketKind,
    pub(super) role: RefCell<Role>,
    pub(super) local: Cell<Option<SocketAddr>>,
    pub(super) peer: Cell<Option<SocketAddr>>,
    /// Closing it resets the connection.
    pub(super) resets: Cell<bool>,
    /// The program has closed it, and pushes are under way.
    pub(super) closing: Cell<bool>,
    pub(super) receives: RefCell<Fifo<Receive>>,
    pub(super) sends: RefCell<Fifo<Send>>,
    pub(super) connect: RefCell<Option<Connect>>,
    /// What was received for somebody who did not take it, by the numbers of operations.
    pub(super) untaken: RefCell<VecDeque<(u32, Untaken)>>,
}

/// What a socket is used as.
pub(super) enum Role {
    /// Nothing yet.
    Fresh,
    /// Nothing yet, but it has an address.
    Bound(Box<Bound>),
    /// A listener of the protocol.
    Listening(Id),
    /// A queue pair of datagrams.
    Datagrams(Id),
    /// A connection of the protocol, which may be about to be, or over.
    Stream(Id),
}

/// What a socket has an address by.
pub(super) struct Bound {
    /// None if another core has the manager's id.
    pub(super) manager: Option<ConnectionId>,
    /// If the port is shared with other cores. It goes after the manager's id.
    pub(super) seat: Option<Seat>,
}

pub(super) enum Send {
    Push(Push),
    /// The end of the sending direction, after what was pushed before it.
    Shutdown,
}

impl Send {
    pub(super) fn fail(self, error: io::Error) {
        if let Send::Push(push) = self {
            push.done.complete(Err(error));
        }
    }

    /// Whether it is the push of this number.
    pub(super) fn is(&self, number: u32) -> bool {
        matches!(self, Send::Push(push) if push.done.number() == number)
    }
}

pub(super) struct Connect {
    pub(super) peer: SocketAddr,
    pub(super) done: Completion<io::Result<()>>,
}

impl Socket {
    pub(super) fn new(domain: Domain, kind: SocketKind, role: Role) -> Socket {
        Socket {
            id: Cell::new(Id::from_u64(0)),
            domain,
            kind,
            role: RefCell::new(role),
            local: Cell::new(None),
            peer: Cell::new(None),
            resets: Cell::new(false),
            closing: Cell::new(false),
            receives: RefCell::default(),
            sends: RefCell::default(),
            connect: RefCell::new(None),
            untaken: RefCell::default(),
        }
    }

    pub(super) fn qd(&self) -> Qd {
        Qd(self.id.get().index())
    }

    /// The connection of a stream.
    ///
    /// # Errors
    /// `NotConnected` if there is none.
    pub(super) fn stream(&self) -> io::Result<Id> {
        match &*self.role.borrow() {
            Role::Stream(id) => Ok(*id),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Socket {
    /// The queue pair of datagrams.
    ///
    /// # Errors
    /// `NotConnected` if there is none.
    pub(super) fn datagrams(&self) -> io::Result<Id> {
        match &*self.role.borrow() {
            Role::Datagrams(id) => Ok(*id),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Takes out the first that `unwanted` says so of.
pub(super) fn take_first<T>(queue: &RefCell<Fifo<T>>, unwanted: impl Fn(&T) -> bool) -> Option<T> {
    let mut queue = queue.borrow_mut();
    let index = queue.iter().position(unwanted)?;
    queue.remove(index)
}
