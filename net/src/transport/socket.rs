//! One socket, and who waits for it.

use crate::stack::SocketId;
use demikernel_runtime::Completion;
use demikernel_runtime::transport::readiness::{Push, Receive, Untaken};
use demikernel_runtime::transport::stream::Fifo;
use demikernel_runtime::transport::{Qd, SocketKind};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};

pub(super) struct Socket {
    pub(super) id: SocketId,
    pub(super) kind: SocketKind,
    /// The program has closed it, and pushes are under way.
    pub(super) closing: Cell<bool>,
    /// The stack may have something to receive: it has told so, and did not say since that it has nothing.
    pub(super) readable: Cell<bool>,
    pub(super) receives: RefCell<Fifo<Receive>>,
    pub(super) sends: RefCell<Fifo<Send>>,
    pub(super) connect: RefCell<Option<Connect>>,
    /// What was received for somebody who did not take it, by the numbers of operations.
    pub(super) untaken: RefCell<VecDeque<(u32, Untaken)>>,
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

    /// Whether it is the push of this number, and nothing of it is sent.
    pub(super) fn is_unsent(&self, number: u32) -> bool {
        matches!(self, Send::Push(push) if !push.started && push.done.number() == number)
    }
}

pub(super) struct Connect {
    pub(super) peer: SocketAddr,
    pub(super) done: Completion<io::Result<()>>,
}

impl Socket {
    pub(super) fn new(id: SocketId, kind: SocketKind) -> Socket {
        Socket {
            id,
            kind,
            closing: Cell::new(false),
            readable: Cell::new(true),
            receives: RefCell::default(),
            sends: RefCell::default(),
            connect: RefCell::new(None),
            untaken: RefCell::default(),
        }
    }

    pub(super) fn qd(&self) -> Qd {
        Qd(self.id.index())
    }
}

/// The stack's word for a direction.
pub(super) fn direction(how: Shutdown) -> crate::stack::Shutdown {
    match how {
        Shutdown::Read => crate::stack::Shutdown::Read,
        Shutdown::Write => crate::stack::Shutdown::Write,
        Shutdown::Both => crate::stack::Shutdown::Both,
    }
}

/// Takes out the first that `unwanted` says so of.
pub(super) fn take_first<T>(queue: &RefCell<Fifo<T>>, unwanted: impl Fn(&T) -> bool) -> Option<T> {
    let mut queue = queue.borrow_mut();
    let index = queue.iter().position(unwanted)?;
    queue.remove(index)
}
