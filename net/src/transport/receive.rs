//! Taking data and connections from the stack.

use super::socket::{Socket, take_first};
use super::{Attempt, Key, NetTransport, errors};
use crate::stack::{SocketId, Stack};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::transport::readiness::{Receive, Untaken};
use demikernel_runtime::transport::stream::insert_by_number;
use demikernel_runtime::transport::{Accepted, Network, Qd, SocketKind};
use std::any::Any;
use std::io;
use std::net::SocketAddr;

impl NetTransport {
    /// Does a receive now if it can be, else queues it.
    #[inline]
    pub(super) fn start_receive(&self, qd: Qd, receive: Receive) {
        let socket = match self.socket_of(qd) {
            Ok(socket) => socket,
            Err(error) => return receive.fail(error),
        };
        let mut receive = receive;
        if let Some(id) = self.id.get() {
            receive.on_cancel(id, Key::Receive(socket.id).into());
        }
        // Behind others it waits for what they wait for.
        let may_be = socket.readable.get() || !socket.untaken.borrow().is_empty();
        if may_be && socket.receives.borrow().is_empty() {
            receive = match self.try_receive(&socket, receive) {
                Ok(()) => return,
                Err(receive) => receive,
            };
        }
        self.waits_more(1);
        socket.receives.borrow_mut().push_back(receive);
    }

    pub(super) fn progress_receives(&self, socket: &Socket) {
        loop {
            let Some(receive) = socket.receives.borrow_mut().pop_front() else { return };
            match self.try_receive(socket, receive) {
                Ok(()) => self.waits_less(1),
                Err(receive) => return socket.receives.borrow_mut().push_front(receive),
            }
        }
    }

    /// Ends everything that waits to receive.
    pub(super) fn fail_receives(&self, socket: &Socket, error: &io::Error) {
        loop {
            let Some(receive) = socket.receives.borrow_mut().pop_front() else { return };
            self.waits_less(1);
            receive.fail(super::copy(error));
        }
    }

    /// Tokens of receives were dropped.
    pub(super) fn cancel_receives(&self, socket: &Socket) {
        while let Some(receive) = take_first(&socket.receives, Receive::is_cancelled) {
            self.waits_less(1);
            drop(receive);
        }
    }

    /// Completes a receive, or gives it back if nothing is there for it.
    #[inline]
    fn try_receive(&self, socket: &Socket, receive: Receive) -> Result<(), Receive> {
        if !socket.untaken.borrow().is_empty() {
            let peer = || self.call(|stack, _| stack.peer(socket.id));
            return receive.complete_with_untaken(&socket.untaken, socket.kind, peer);
        }
        match receive {
            // What nobody gets would be lost, so it stays in the stack.
            receive if receive.is_cancelled() => drop(receive),
            Receive::Accept(done) => match self.accept_now(socket) {
                Some(result) => done.complete(result),
                None => return Err(Receive::Accept(done)),
            },
            Receive::Pop(limit, done) => match self.pop_now(socket, limit) {
                Some(result) => done.complete(result),
                None => return Err(Receive::Pop(limit, done)),
            },
            Receive::PopFrom(limit, done) => match self.pop_from_now(socket, limit) {
                Some(result) => done.complete(result),
                None => return Err(Receive::PopFrom(limit, done)),
            },
        }
        Ok(())
    }

    /// Gives what nobody took to the next who asks. Errors, and ends of streams, are told again by the stack.
    #[cold]
    pub(super) fn take_back(&self, key: Key, number: u32, result: Box<dyn Any>) {
        let Key::Receive(id) = key else { return };
        let Some(untaken) = Untaken::of(result) else { return };
        let socket = self.socket_by_id(id).filter(|socket| !socket.closing.get());
        match (socket, untaken) {
            (Some(socket), untaken) => {
                insert_by_number(&mut socket.untaken.borrow_mut(), number, untaken);
                self.progress_receives(&socket);
            }
            (None, Untaken::Connection(accepted)) => self.close(accepted.qd),
            (None, _) => {}
        }
    }

    /// Tries a call that takes something out of the stack. Whether there is more is asked at once: who waits for an answer
    /// need not find out by a call for nothing.
    #[inline]
    fn take<R>(
        &self,
        socket: &Socket,
        call: impl FnOnce(&mut Stack, SocketId) -> io::Result<R>,
    ) -> Attempt<R> {
        self.attempt(socket, |stack, id| {
            let result = call(stack, id);
            socket.readable.set(stack.may_be_readable(id));
            result
        })
    }

    fn accept_now(&self, socket: &Socket) -> Attempt<Accepted> {
        let accepted = self.take(socket, Stack::accept)?;
        Some(accepted.map_err(errors::socket_error).map(|(id, peer)| {
            let socket = self.insert(Socket::new(id, SocketKind::Stream));
            Accepted { qd: socket.qd(), peer: peer.into() }
        }))
    }

    #[inline]
    fn pop_now(&self, socket: &Socket, limit: usize) -> Attempt<Buffer> {
        // A receive of nothing would look like the end of the stream.
        let limit = if socket.kind == SocketKind::Stream { limit.max(1) } else { limit };
        // The buffer's size follows how fast data are taken: for that the turn's time will do.
        self.take(socket, |stack, id| stack.recv(self.turned.get(), id, limit))
    }

    #[inline]
    fn pop_from_now(&self, socket: &Socket, limit: usize) -> Attempt<(Buffer, SocketAddr)> {
        let datagram = self.take(socket, Stack::recv_from)?;
        Some(datagram.map(|mut datagram| {
            datagram.payload.truncate(limit);
            (datagram.payload, datagram.source)
        }))
    }
}
