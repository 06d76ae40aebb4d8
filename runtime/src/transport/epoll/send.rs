//! Giving data to the kernel.

use super::socket::{Attempt, Queued, Send, Socket, Stop};
use super::{CancelKey, Epoll, Queue, add, copy};
use crate::buffer::Sga;
use crate::executor::Completion;
use crate::transport::readiness::Push;
use crate::transport::{Qd, SocketKind};
use socket2::SockAddr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Pieces of memory given to the kernel in one call.
const PIECES: usize = 64;

impl Epoll {
    /// Sends now what the kernel takes, and queues the rest.
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
            let stop = match self.push_now(&socket, &mut data, peer) {
                Ok(result) => return done.complete(result),
                Err(stop) => stop,
            };
            if let Err(error) = self.wake_when_gone(&socket, stop) {
                return done.complete(Err(error));
            }
        }
        let sequence = self.next_sequence();
        if let Some(id) = self.id.get() {
            done.on_cancel(id, CancelKey { qd, queue: Queue::Sends, sequence }.into());
        }
        let started = data.len() < length;
        self.queue_send(&socket, sequence, Send::Push(Push { data, peer, started, done }));
    }

    /// Ends the sending direction after what was pushed.
    pub(super) fn shutdown_sending(&self, socket: &Socket, how: Shutdown) -> io::Result<()> {
        if socket.sends.borrow().is_empty() {
            return socket.fd.shutdown(how);
        }
        self.queue_send(socket, self.next_sequence(), Send::Shutdown(how));
        Ok(())
    }

    fn queue_send(&self, socket: &Socket, sequence: u32, send: Send) {
        self.waits_more(1);
        socket.sends.borrow_mut().push_back(Queued { sequence, it: send });
    }

    pub(super) fn progress_sends(&self, socket: &Socket) {
        let stop = loop {
            match self.send_front(socket) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(stop) => break Some(stop),
            }
        };
        if let Some(stop) = stop
            && let Err(error) = self.wake_when_gone(socket, stop)
        {
            self.fail_sends(socket, &error);
        }
        if socket.closing.get() && socket.sends.borrow().is_empty() {
            self.remove_socket(socket);
        }
    }

    /// Ends everything that waits to be sent.
    pub(super) fn fail_sends(&self, socket: &Socket, error: &io::Error) {
        let sends = socket.sends.take();
        self.waits_less(sends.len());
        for send in sends {
            send.it.fail(copy(error));
        }
    }

    /// Sends what is at the front of the queue: on a stream, as many pushes as fit into one call. Returns
    /// whether there was anything.
    fn send_front(&self, socket: &Socket) -> Result<bool, Stop> {
        let gathers = match socket.sends.borrow().front() {
            None => return Ok(false),
            Some(front) => matches!(front.it, Send::Push(_)) && socket.kind == SocketKind::Stream,
        };
        if gathers { self.send_stream(socket).map(|()| true) } else { self.send_one(socket) }
    }

    /// Sends the datagram at the front, or carries out the shutdown there.
    fn send_one(&self, socket: &Socket) -> Result<bool, Stop> {
        let front = socket.sends.borrow_mut().pop_front();
        let Some(Queued { sequence, it }) = front else { return Ok(false) };
        match it {
            Send::Shutdown(how) => {
                // The program was told that it is done. It fails if the connection has failed, and then
                // pops and pushes say so.
                let _ = socket.fd.shutdown(how);
            }
            Send::Push(mut push) => match self.push_now(socket, &mut push.data, push.peer) {
                Ok(result) => push.done.complete(result),
                Err(stop) => {
                    socket.sends.borrow_mut().push_front(Queued { sequence, it: Send::Push(push) });
                    return Err(stop);
                }
            },
        }
        self.waits_less(1);
        Ok(true)
    }

    /// Sends from the pushes at the front of a stream's queue in one call, and completes those that are
    /// sent. An error is the end of all of them, since none may be sent after a gap.
    fn send_stream(&self, socket: &Socket) -> Result<(), Stop> {
        self.may_send(socket)?;
        let sent = {
            let sends = socket.sends.borrow();
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for queued in &*sends {
                let Send::Push(push) = &queued.it else { break };
                count += push.data.io_slices(&mut pieces[count..]);
                if count == PIECES {
                    break;
                }
            }
            self.send_pieces(socket, &pieces[..count], None)
        };
        match self.sent(socket, sent)? {
            None => {}
            Some(Ok(bytes)) => self.complete_sent(socket, bytes),
            Some(Err(error)) => self.fail_pushes(socket, &error),
        }
        Ok(())
    }

    /// Accounts for bytes sent. The pushes are all taken from the queue before the first is completed, so
    /// that foreign code finds the queue in order.
    fn complete_sent(&self, socket: &Socket, mut bytes: usize) {
        let mut finished = self.finished.take();
        {
            let mut sends = socket.sends.borrow_mut();
            while let Some(Queued { it: Send::Push(push), .. }) = sends.front_mut() {
                if push.data.len() > bytes {
                    push.started |= bytes > 0;
                    push.data.advance(bytes);
                    break;
                }
                bytes -= push.data.len();
                finished.extend(sends.pop_front());
            }
        }
        self.waits_less(finished.len());
        for queued in finished.drain(..) {
            if let Send::Push(push) = queued.it {
                push.done.complete(Ok(()));
            }
        }
        self.finished.set(finished);
    }

    /// The pushes end with an error; a shutdown behind them is still carried out.
    fn fail_pushes(&self, socket: &Socket, error: &io::Error) {
        loop {
            let push = {
                let mut sends = socket.sends.borrow_mut();
                match sends.front() {
                    Some(Queued { it: Send::Push(_), .. }) => sends.pop_front(),
                    _ => None,
                }
            };
            let Some(push) = push else { break };
            self.waits_less(1);
            push.it.fail(copy(error));
        }
    }

    /// Sends data that is before all others; what was sent is taken from it, unless that was all.
    fn push_now(&self, socket: &Socket, data: &mut Sga, peer: Option<SocketAddr>) -> Attempt<()> {
        loop {
            self.may_send(socket)?;
            let sent = match (data.first(), data.segments()) {
                (Some(piece), 1) => self.send_pieces(socket, &[IoSlice::new(piece)], peer),
                (_, count) if count > PIECES && socket.kind == SocketKind::Datagram => {
                    return Ok(Err(too_many_pieces(data)));
                }
                _ => self.send_list(socket, data, peer),
            };
            match self.sent(socket, sent)? {
                None => {}
                Some(Err(error)) => return Ok(Err(error)),
                Some(Ok(bytes)) if bytes == data.len() || socket.kind == SocketKind::Datagram => {
                    return Ok(Ok(()));
                }
                Some(Ok(bytes)) => data.advance(bytes),
            }
        }
    }

    fn may_send(&self, socket: &Socket) -> Result<(), Stop> {
        if !socket.writable.get() {
            return Err(Stop::NotReady);
        }
        socket.may_call(self.turn.get())
    }

    /// What came of sendmsg(2): bytes, an error for the program, nothing (an interruption), or a wait.
    fn sent(&self, socket: &Socket, result: libc::ssize_t) -> Result<Option<io::Result<usize>>, Stop> {
        if result >= 0 {
            return Ok(Some(Ok(result as usize)));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                socket.writable.set(false);
                Err(Stop::NotReady)
            }
            io::ErrorKind::Interrupted => Ok(None),
            _ => Ok(Some(Err(error))),
        }
    }

    fn send_list(&self, socket: &Socket, data: &Sga, peer: Option<SocketAddr>) -> libc::ssize_t {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let count = data.io_slices(&mut pieces);
        self.send_pieces(socket, &pieces[..count], peer)
    }

    fn send_pieces(
        &self,
        socket: &Socket,
        pieces: &[IoSlice<'_>],
        peer: Option<SocketAddr>,
    ) -> libc::ssize_t {
        add(&self.count.sends, 1);
        let fd = socket.fd.as_raw_fd();
        if let (&[piece], None) = (pieces, peer) {
            // SAFETY: the piece is readable memory.
            return unsafe { libc::send(fd, piece.as_ptr().cast(), piece.len(), libc::MSG_NOSIGNAL) };
        }
        let peer = peer.map(SockAddr::from);
        // SAFETY: a message header of zeros has no parts, no name and no control data.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        if let Some(peer) = &peer {
            message.msg_name = peer.as_ptr().cast_mut().cast();
            message.msg_namelen = peer.len();
        }
        // `IoSlice` has the layout of iovec; sendmsg writes to neither.
        message.msg_iov = pieces.as_ptr().cast_mut().cast();
        message.msg_iovlen = pieces.len() as _;
        // SAFETY: the header, the name and the pieces are valid for reads during the call.
        unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) }
    }

    /// Lets pushes that are under way go on for at most `grace`.
    pub(super) fn finish_sends(&self, grace: Duration) {
        let end = Instant::now() + grace;
        while self.has_sends() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.turn.set(self.turn.get().wrapping_add(1));
            self.progress_each(&self.deferred, |socket| &socket.deferred);
            let timeout = if self.deferred.borrow().is_empty() { left } else { Duration::ZERO };
            if self.collect(Some(timeout)).is_err() {
                break;
            }
        }
    }

    fn has_sends(&self) -> bool {
        let entries = self.entries.borrow();
        entries.iter().any(|(_, entry)| match entry {
            super::Entry::Socket(socket) => !socket.sends.borrow().is_empty(),
            super::Entry::File(_) => false,
        })
    }
}

#[cold]
fn too_many_pieces(data: &Sga) -> io::Error {
    let message = format!("a datagram of {} pieces; at most {PIECES} can be sent as one", data.segments());
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
