//! Giving data to the protocol.

use super::engine::Engine;
use super::socket::{Send, Socket, take_first};
use super::{Attempt, Key, RdmaTransport, errno, errors};
use demikernel_runtime::Completion;
use demikernel_runtime::buffer::Sga;
use demikernel_runtime::transport::readiness::Push;
use demikernel_runtime::transport::{Qd, SocketKind};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

impl RdmaTransport {
    /// Sends now if there is room, and queues otherwise.
    #[inline]
    pub(super) fn start_push(
        &self,
        qd: Qd,
        mut data: Sga,
        peer: Option<SocketAddr>,
        done: Completion<io::Result<()>>,
    ) {
        let socket = match self.socket_of(qd) {
            Ok(socket) => socket,
            Err(error) => return done.complete(Err(error)),
        };
        // Behind others it waits for what they wait for.
        if socket.sends.borrow().is_empty()
            && let Some(result) = self.push_now(&socket, &mut data, peer)
        {
            return done.complete(result);
        }
        if let Some(id) = self.id.get() {
            done.on_cancel(id, Key::Send(qd, done.number()).into());
        }
        self.waits_more(1);
        // A push is taken whole, or not at all.
        let push = Push { data, peer, started: false, done };
        socket.sends.borrow_mut().push_back(Send::Push(push));
    }

    /// Ends the sending direction after what was pushed.
    pub(super) fn shutdown_sending(&self, socket: &Socket) -> io::Result<()> {
        if socket.sends.borrow().is_empty() {
            return self.call(|engine| engine.link.finish(socket.stream()?));
        }
        self.waits_more(1);
        socket.sends.borrow_mut().push_back(Send::Shutdown);
        Ok(())
    }

    pub(super) fn progress_sends(&self, socket: &Rc<Socket>) {
        while self.send_front(socket) {}
        if socket.closing.get() && socket.sends.borrow().is_empty() {
            self.remove(socket);
        }
    }

    /// Sends what is at the front of the queue; whether it is done.
    fn send_front(&self, socket: &Socket) -> bool {
        let Some(front) = socket.sends.borrow_mut().pop_front() else { return false };
        match front {
            Send::Shutdown => {
                // The program was told that it is done. It fails if the connection has failed, and then pops and
                // pushes say so.
                let finish = |engine: &mut Engine| engine.link.finish(socket.stream()?);
                if self.attempt(socket, finish).is_none() {
                    socket.sends.borrow_mut().push_front(Send::Shutdown);
                    return false;
                }
                self.waits_less(1);
            }
            Send::Push(mut push) => {
                let Some(result) = self.push_now(socket, &mut push.data, push.peer) else {
                    socket.sends.borrow_mut().push_front(Send::Push(push));
                    return false;
                };
                self.waits_less(1);
                let error = result.as_ref().err().map(errors::copy);
                push.done.complete(result);
                // None may be sent after a gap.
                if let Some(error) = error
                    && socket.kind == SocketKind::Stream
                {
                    self.fail_sends(socket, &error);
                }
            }
        }
        true
    }

    /// Before a close: gives the protocol all that waits. How long that may take is its affair.
    pub(super) fn hand_over_sends(&self, socket: &Socket) {
        loop {
            let Some(send) = socket.sends.borrow_mut().pop_front() else { return };
            // A close ends the direction anyway.
            let Send::Push(mut push) = send else {
                self.waits_less(1);
                continue;
            };
            let send = |engine: &mut Engine| engine.link.send_last(socket.stream()?, &mut push.data);
            let Some(result) = self.attempt(socket, send) else {
                return socket.sends.borrow_mut().push_front(Send::Push(push));
            };
            self.waits_less(1);
            push.done.complete(result);
        }
    }

    /// Ends everything that waits to be sent.
    pub(super) fn fail_sends(&self, socket: &Socket, error: &io::Error) {
        loop {
            let Some(send) = socket.sends.borrow_mut().pop_front() else { return };
            self.waits_less(1);
            send.fail(errors::copy(error));
        }
    }

    /// The token of a push was dropped: it is taken out of the queue. What is behind it may be due now.
    pub(super) fn cancel_send(&self, socket: &Rc<Socket>, number: u32) {
        let push = take_first(&socket.sends, |send| send.is(number));
        if push.is_some() {
            self.waits_less(1);
            drop(push);
            self.progress_sends(socket);
        }
    }

    /// Hands data that is before all others to the protocol, if that has room.
    #[inline]
    fn push_now(&self, socket: &Socket, data: &mut Sga, peer: Option<SocketAddr>) -> Attempt<()> {
        if socket.kind == SocketKind::Datagram {
            let Some(peer) = peer.or(socket.peer.get()) else {
                return Some(Err(errno(libc::EDESTADDRREQ)));
            };
            return self.attempt(socket, |engine| engine.send_datagram(socket.datagrams()?, data, peer));
        }
        self.attempt(socket, |engine| {
            engine.link.send(socket.stream()?, data)?;
            engine.send_at_once();
            Ok(())
        })
    }

    /// Whether pushes are under way that the protocol has not taken.
    pub(super) fn has_sends(&self) -> bool {
        self.sockets.borrow().iter().any(|(_, socket)| !socket.sends.borrow().is_empty())
    }
}
