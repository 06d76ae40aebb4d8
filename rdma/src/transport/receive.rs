//! Taking data and connections from the protocol.

use super::engine::Engine;
use super::socket::{Role, Socket, take_first};
use super::{Attempt, Key, RdmaTransport, errno, errors};
use crate::link::Notice;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::transport::readiness::{Receive, Untaken};
use demikernel_runtime::transport::stream::insert_by_number;
use demikernel_runtime::transport::{Accepted, Network, Qd, SocketKind};
use std::any::Any;
use std::io;
use std::net::SocketAddr;

impl RdmaTransport {
    /// Does a receive now if it can be, else queues it.
    #[inline]
    pub(super) fn start_receive(&self, qd: Qd, mut receive: Receive) {
        let socket = match self.socket_of(qd) {
            Ok(socket) => socket,
            Err(error) => return receive.fail(error),
        };
        if let Some(id) = self.id.get() {
            receive.on_cancel(id, Key::Receive(socket.id.get()).into());
        }
        // Behind others it waits for what they wait for.
        if socket.receives.borrow().is_empty() && self.may_receive(&socket) {
            receive = match self.try_receive(&socket, receive) {
                Ok(()) => return,
                Err(receive) => receive,
            };
        }
        self.waits_more(1);
        socket.receives.borrow_mut().push_back(receive);
    }

    /// Whether it is worth trying: what a stream waits for mostly has not come yet.
    #[inline]
    fn may_receive(&self, socket: &Socket) -> bool {
        let Ok(engine) = self.engine.try_borrow() else { return true };
        let Role::Stream(id) = *socket.role.borrow() else { return true };
        !engine.link.is_waiting(id) || !socket.untaken.borrow().is_empty()
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
            receive.fail(errors::copy(error));
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
            let peer = || socket.peer.get().ok_or_else(|| io::ErrorKind::NotConnected.into());
            return receive.complete_with_untaken(&socket.untaken, socket.kind, peer);
        }
        match receive {
            // What nobody gets would be lost, so it stays where it is.
            receive if receive.is_cancelled() => drop(receive),
            Receive::Accept(done) => match self.accept_now(socket) {
                Some(result) => done.complete(result),
                None => return Err(Receive::Accept(done)),
            },
            Receive::Pop(limit, done) => match self.pop_now(socket, limit) {
                Some(result) => done.complete(result),
                None => return Err(Receive::Pop(limit, done)),
            },
            Receive::PopFrom(limit, done) if socket.kind == SocketKind::Datagram => {
                match self.pop_from_now(socket, limit) {
                    Some(result) => done.complete(result),
                    None => return Err(Receive::PopFrom(limit, done)),
                }
            }
            Receive::PopFrom(_, done) => {
                let text = "pop_from is for datagrams: a stream has one peer, use pop";
                done.complete(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
            }
        }
        Ok(())
    }

    /// Gives what nobody took to the next who asks. Errors, and ends of streams, are told again.
    #[cold]
    pub(super) fn take_back(&self, key: Key, number: u32, result: Box<dyn Any>) {
        let Key::Receive(id) = key else { return };
        if result.is::<io::Result<Option<Notice>>>() {
            return self.take_back_notice(id, number, result);
        }
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

    fn accept_now(&self, listening: &Socket) -> Attempt<Accepted> {
        let Role::Listening(listener) = *listening.role.borrow() else {
            return Some(Err(errno(libc::EINVAL)));
        };
        let accepted = self.attempt(listening, |engine| engine.accept(listener))?;
        Some(accepted.map(|(id, local, peer)| {
            let socket = self.insert(Socket::new(listening.domain, SocketKind::Stream, Role::Stream(id)));
            socket.local.set(Some(local));
            socket.peer.set(Some(peer));
            self.own(id, &socket);
            self.inherit(&socket, listening);
            Accepted { qd: socket.qd(), peer: peer.into() }
        }))
    }

    /// Has the events of a connection come to a socket.
    pub(super) fn own(&self, id: crate::link::Id, socket: &Socket) {
        if let Ok(mut engine) = self.engine.try_borrow_mut() {
            engine.set_owner(id, socket.id.get());
        }
    }

    #[inline]
    fn pop_now(&self, socket: &Socket, limit: usize) -> Attempt<Buffer> {
        if socket.kind == SocketKind::Datagram {
            if socket.peer.get().is_none() {
                return Some(Err(io::ErrorKind::NotConnected.into()));
            }
            return self.pop_from_now(socket, limit).map(|result| result.map(|(data, _)| data));
        }
        // A receive of nothing would look like the end of the stream.
        let pop = |engine: &mut Engine| engine.link.receive(socket.stream()?, limit.max(1));
        self.attempt(socket, pop)
    }

    fn pop_from_now(&self, socket: &Socket, limit: usize) -> Attempt<(Buffer, SocketAddr)> {
        let from = socket.peer.get();
        let datagram = self.attempt(socket, |engine| engine.receive_datagram(socket.datagrams()?, from))?;
        Some(datagram.map(|(mut data, sender)| {
            data.truncate(limit);
            (data, sender)
        }))
    }
}
