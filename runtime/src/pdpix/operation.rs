//! One operation, and what comes of it.

use super::memory::Item;
use super::pipes::End;
use super::table::{Access, Queue};
use super::types::Opcode;
use crate::buffer::{Buffer, BufferMut, Sga};
use crate::executor::{JoinHandle, QToken};
use crate::fs::Opening;
use crate::net::Socket;
use crate::queue::Closed;
use crate::transport::{Accepted, Endpoint, LogQueue, Network};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// An operation under way, with what is needed to make something of its result.
pub(super) enum Action {
    Push(QToken<io::Result<()>>),
    Pop(QToken<io::Result<Buffer>>),
    PopFrom(QToken<io::Result<(Buffer, SocketAddr)>>),
    Accept(QToken<io::Result<Accepted>>, Rc<dyn Network>),
    Connect(QToken<io::Result<()>>),
    PushMemory(QToken<Result<(), Closed>>),
    PopMemory(QToken<Result<Item, Closed>>),
    PushPipe(QToken<Result<(), Closed>>, Rc<End>),
    PopPipe(QToken<Result<Item, Closed>>, Rc<End>),
    Open(Opening, u64),
    OpenLog(QToken<io::Result<Rc<dyn LogQueue>>>, Access),
    Read(QToken<io::Result<BufferMut>>, Reading),
    Truncate(QToken<io::Result<()>>),
    /// Of a queue that takes time for it.
    Close(Option<JoinHandle<io::Result<()>>>),
}

/// A read of a file: where, and how much was asked for.
pub(super) struct Reading {
    pub(super) position: Rc<Cell<u64>>,
    pub(super) start: u64,
    pub(super) wanted: usize,
}

/// What came of an operation, before it has a descriptor.
pub(super) enum Outcome {
    Done,
    Popped(Sga, Option<SocketAddr>),
    Accepted(Socket, Endpoint),
    /// A file or a log.
    Opened(Queue),
    Failed(io::Error),
}

impl Action {
    pub(super) fn opcode(&self) -> Opcode {
        match self {
            Action::Push(_) | Action::PushMemory(_) | Action::PushPipe(..) => Opcode::Push,
            Action::Pop(_)
            | Action::PopFrom(_)
            | Action::PopMemory(_)
            | Action::PopPipe(..)
            | Action::Read(..) => Opcode::Pop,
            Action::Accept(..) => Opcode::Accept,
            Action::Connect(_) => Opcode::Connect,
            Action::Open(..) | Action::OpenLog(..) => Opcode::Open,
            Action::Truncate(_) => Opcode::Truncate,
            Action::Close(_) => Opcode::Close,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let result = match self {
            Action::Push(token) | Action::Connect(token) | Action::Truncate(token) => {
                ready!(poll(token, cx)).map(|()| Outcome::Done)
            }
            Action::Pop(token) => ready!(poll(token, cx)).map(|buffer| Outcome::Popped(buffer.into(), None)),
            Action::PopFrom(token) => {
                ready!(poll(token, cx)).map(|(buffer, from)| Outcome::Popped(buffer.into(), Some(from)))
            }
            Action::Accept(token, network) => {
                let socket = |qd| Socket::of(network.clone(), qd);
                ready!(poll(token, cx)).map(|accepted| Outcome::Accepted(socket(accepted.qd), accepted.peer))
            }
            Action::PushMemory(token) => ready!(poll(token, cx)).map(|()| Outcome::Done).map_err(cancelled),
            Action::PopMemory(token) => {
                ready!(poll(token, cx)).map(|item| Outcome::Popped(item.into(), None)).map_err(cancelled)
            }
            Action::PushPipe(token, end) => {
                ready!(poll(token, cx)).map(|()| Outcome::Done).map_err(|Closed| end.broken())
            }
            Action::PopPipe(token, end) => match ready!(poll(token, cx)) {
                Ok(item) => Ok(Outcome::Popped(item.into(), None)),
                Err(Closed) => end.end().map(|none| Outcome::Popped(none, None)),
            },
            Action::Open(opening, start) => {
                let start = Rc::new(Cell::new(*start));
                ready!(Pin::new(opening).poll(cx)).map(|file| Outcome::Opened(Queue::File(file, start)))
            }
            Action::OpenLog(token, access) => {
                ready!(poll(token, cx)).map(|log| Outcome::Opened(Queue::Log(log, *access)))
            }
            Action::Close(None) => Ok(Outcome::Done),
            Action::Close(Some(closing)) => match ready!(Pin::new(closing).poll(cx)) {
                Ok(result) => result.map(|()| Outcome::Done),
                Err(error) => Err(io::Error::other(error.to_string())),
            },
            Action::Read(token, reading) => ready!(poll(token, cx)).map(|data| reading.end(data)),
        };
        Poll::Ready(result.unwrap_or_else(Outcome::Failed))
    }
}

fn poll<T: 'static>(token: &mut QToken<T>, cx: &mut Context<'_>) -> Poll<T> {
    Pin::new(token).poll(cx)
}

/// The queue was closed while the operation waited.
fn cancelled(_: Closed) -> io::Error {
    super::types::errno(libc::ECANCELED)
}

impl Reading {
    /// A read takes the position along when it starts, as if there were enough to read. At the end of the
    /// file there was not: unless something else has moved it since, the position goes back.
    fn end(&self, data: BufferMut) -> Outcome {
        if self.position.get() == self.start + self.wanted as u64 {
            self.position.set(self.start + data.len() as u64);
        }
        Outcome::Popped(data.freeze().into(), None)
    }
}
