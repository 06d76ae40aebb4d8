//! Giving data to the stack.

use super::socket::{Send, Socket, take_first};
use super::{Attempt, Key, NetTransport, copy};
use crate::stack::{Shutdown, Stack};
use demikernel_runtime::Completion;
use demikernel_runtime::buffer::Sga;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::readiness::Push;
use demikernel_runtime::transport::{Qd, SocketKind};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

impl NetTransport {
    /// Sends now what the stack has room for, and queues the rest.
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
        let length = data.len();
        // Behind others it waits for what they wait for.
        if socket.sends.borrow().is_empty() {
            let now = Instant::now();
            if let Some(result) = self.push_now(now, &socket, &mut data, peer) {
                if self.lone.get() {
                    self.send_early(now, &socket);
                }
                return done.complete(result);
            }
        }
        if let Some(id) = self.id.get() {
            done.on_cancel(id, Key::Send(qd, done.number()).into());
        }
        let started = data.len() < length;
        self.waits_more(1);
        socket.sends.borrow_mut().push_back(Send::Push(Push { data, peer, started, done }));
    }

    /// Sends what was pushed without waiting for the next turn, as that has nothing to send along: the answer to what came
    /// alone is sooner on its way by all that the task, the executor and other devices do until then. It is so once in a
    /// turn, so that who pushes much still sends in bursts; and only of sockets whose messages do not wait for each other
    /// anyway, as those of others are put together.
    #[inline]
    fn send_early(&self, now: Instant, socket: &Socket) {
        let Ok(mut engine) = self.engine.try_borrow_mut() else { return };
        if engine.stack.sends_at_once(socket.id) {
            self.lone.set(false);
            // Whatever is wrong with the device, the next turn meets it.
            let _ = engine.send_out(now);
        }
    }

    /// Ends the sending direction after what was pushed.
    pub(super) fn shutdown_sending(&self, socket: &Socket) -> io::Result<()> {
        if socket.sends.borrow().is_empty() {
            return self.call(|stack, now| stack.shutdown(now, socket.id, Shutdown::Write));
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
                let shutdown = |stack: &mut Stack, id| stack.shutdown(Instant::now(), id, Shutdown::Write);
                if self.attempt(socket, shutdown).is_none() {
                    socket.sends.borrow_mut().push_front(Send::Shutdown);
                    return false;
                }
                self.waits_less(1);
            }
            Send::Push(mut push) => {
                let length = push.data.len();
                let Some(result) = self.push_now(Instant::now(), socket, &mut push.data, push.peer) else {
                    push.started |= push.data.len() < length;
                    socket.sends.borrow_mut().push_front(Send::Push(push));
                    return false;
                };
                self.waits_less(1);
                let error = result.as_ref().err().map(copy);
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

    /// Ends everything that waits to be sent.
    pub(super) fn fail_sends(&self, socket: &Socket, error: &io::Error) {
        loop {
            let Some(send) = socket.sends.borrow_mut().pop_front() else { return };
            self.waits_less(1);
            send.fail(copy(error));
        }
    }

    /// The token of a push was dropped: it is taken out of the queue, unless some of it is sent. What is behind it may
    /// be due now.
    pub(super) fn cancel_send(&self, socket: &Rc<Socket>, number: u32) {
        let push = take_first(&socket.sends, |send| send.is_unsent(number));
        if push.is_some() {
            self.waits_less(1);
            drop(push);
            self.progress_sends(socket);
        }
    }

    /// Hands data that is before all others to the stack, which takes what it has room for.
    #[inline]
    fn push_now(
        &self,
        now: Instant,
        socket: &Socket,
        data: &mut Sga,
        peer: Option<SocketAddr>,
    ) -> Attempt<()> {
        match socket.kind {
            SocketKind::Stream => match self.attempt(socket, |stack, id| stack.send(now, id, data))? {
                Ok(_) => data.is_empty().then_some(Ok(())),
                Err(error) => Some(Err(error)),
            },
            SocketKind::Datagram => {
                let sent = self.attempt(socket, |stack, id| stack.send_to(now, id, data, peer))?;
                Some(sent.map(|_| ()))
            }
        }
    }

    /// Whether pushes are under way that the stack has not taken.
    pub(super) fn has_sends(&self) -> bool {
        self.sockets.borrow().iter().flatten().any(|socket| !socket.sends.borrow().is_empty())
    }
}
