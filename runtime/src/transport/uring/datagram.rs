//! Datagram sockets. Each message is an operation of its own; any number may be on their way out, and one
//! is received at a time.

use super::Uring;
use super::connection::PopDone;
use super::device::{Inner, Io, Updated};
use super::key::{Key, Kind};
use super::message::{Message, PIECES};
use super::ring::Completed;
use super::socket::{Entry, Head, Role};
use crate::buffer::{Buffer, BufferMut, Sga};
use crate::executor::{Completion, DeviceId};
use crate::transport::stream::Fifo;
use io_uring::{cqueue, opcode};
use std::io;
use std::net::SocketAddr;

/// IORING_RECVSEND_POLL_FIRST: wait for data before looking for it.
const POLL_FIRST: u16 = 1;

pub(super) type PopFromDone = Completion<io::Result<(Buffer, SocketAddr)>>;

/// Who waits for a datagram.
pub(super) enum Popper {
    Plain(PopDone),
    WithSender(PopFromDone),
}

impl Popper {
    fn is_cancelled(&self) -> bool {
        match self {
            Popper::Plain(done) => done.is_cancelled(),
            Popper::WithSender(done) => done.is_cancelled(),
        }
    }

    pub(super) fn on_cancel(&self, device: DeviceId, key: Key) {
        match self {
            Popper::Plain(done) => done.on_cancel(device, key.bits()),
            Popper::WithSender(done) => done.on_cancel(device, key.bits()),
        }
    }

    fn complete(self, datagram: Datagram) {
        match (self, datagram.sender) {
            (Popper::Plain(done), _) => done.complete(Ok(datagram.data)),
            (Popper::WithSender(done), Some(sender)) => done.complete(Ok((datagram.data, sender))),
            (Popper::WithSender(done), None) => {
                let message = "the datagram's sender has no IP address";
                done.complete(Err(io::Error::new(io::ErrorKind::Unsupported, message)));
            }
        }
    }

    pub(super) fn fail(self, error: io::Error) {
        match self {
            Popper::Plain(done) => done.complete(Err(error)),
            Popper::WithSender(done) => done.complete(Err(error)),
        }
    }
}

struct Waiter {
    limit: usize,
    popper: Popper,
}

struct Datagram {
    data: Buffer,
    sender: Option<SocketAddr>,
}

/// A receive that the kernel has.
struct Receive {
    message: Box<Message>,
    buffer: BufferMut,
}

/// A datagram socket.
#[derive(Default)]
pub(super) struct Datagrams {
    waiters: Fifo<Waiter>,
    /// Arrived for somebody who waits no more.
    unread: Fifo<Datagram>,
    receive: Option<Receive>,
    cancelling: bool,
    /// A token was dropped: the receive is to end early if it is for nobody.
    pub(super) unwanted: bool,
    /// The last receive left nothing behind.
    drained: bool,
}

impl Datagrams {
    /// Queues somebody who waits; there may be something for them already.
    pub(super) fn pop(&mut self, limit: usize, popper: Popper) {
        self.waiters.push_back(Waiter { limit, popper });
    }

    /// A datagram that nobody took comes back, before those that came after it.
    pub(super) fn give_back(&mut self, data: Buffer, sender: Option<SocketAddr>) {
        self.unread.push_front(Datagram { data, sender });
    }

    /// How much the first who waits wants.
    fn wanted(&mut self) -> Option<usize> {
        while let Some(waiter) = self.waiters.front() {
            if !waiter.popper.is_cancelled() {
                return Some(waiter.limit);
            }
            drop(self.waiters.pop_front());
        }
        None
    }

    /// Somebody who waits, and a datagram for them.
    fn serve(&mut self) -> Option<(Popper, Datagram)> {
        self.unread.front()?;
        let limit = self.wanted()?;
        let mut datagram = self.unread.pop_front()?;
        datagram.data.truncate(limit);
        Some((self.waiters.pop_front()?.popper, datagram))
    }

    pub(super) fn next_waiter(&mut self) -> Option<Popper> {
        self.wanted()?;
        self.waiters.pop_front().map(|waiter| waiter.popper)
    }
}

/// A datagram on its way out.
pub(super) struct Outgoing {
    /// The socket's.
    key: Key,
    message: Box<Message>,
    /// Keeps the memory in place.
    data: Sga,
    done: Completion<io::Result<()>>,
}

impl Datagrams {
    /// Starts or ends the receive, as those who wait require.
    pub(super) fn update(&mut self, head: &mut Head, io: &mut Io) -> Updated {
        if head.closing && head.in_kernel == 0 {
            return Updated::Over;
        }
        let wanted = if head.closing { None } else { self.wanted() };
        let unwanted = std::mem::replace(&mut self.unwanted, false) || head.closing;
        match (&self.receive, wanted) {
            (None, Some(limit)) => self.start_receive(head, io, limit),
            (Some(_), None) if unwanted && !self.cancelling => {
                self.cancelling = true;
                head.cancel(io, Kind::ReceiveDatagram);
            }
            _ => {}
        }
        Updated::InUse
    }

    fn start_receive(&mut self, head: &mut Head, io: &mut Io, limit: usize) {
        let Ok(mut buffer) = BufferMut::with_capacity(limit.max(1)) else {
            io.counters.starved += 1;
            return io.starving.add_exhausted(head.key(Kind::ReceiveDatagram), limit);
        };
        let mut message = io.messages.take();
        let spare = buffer.spare_capacity_mut();
        let length = spare.len().min(limit);
        message.pieces[0] = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: length };
        let priority = if self.drained { POLL_FIRST } else { 0 };
        let operation = opcode::RecvMsg::new(head.target.fd(), message.incoming()).ioprio(priority).build();
        self.receive = Some(Receive { message, buffer });
        // SAFETY: buffer and message stay in the entry until the completion.
        unsafe { head.submit(io, Kind::ReceiveDatagram, operation) };
    }

    /// A datagram has come, or an error; who is to be told of it.
    fn received(
        &mut self,
        head: &mut Head,
        io: &mut Io,
        completed: Completed,
    ) -> Option<(Popper, io::Error)> {
        head.in_kernel -= 1;
        head.mark(io);
        self.cancelling = false;
        let Receive { message, mut buffer } = self.receive.take()?;
        let mut failed = None;
        match completed.result {
            length @ 0.. => {
                io.counters.received += 1;
                self.drained = io.ring.features.release_5_19 && !cqueue::sock_nonempty(completed.flags);
                // SAFETY: the kernel has written so many bytes from the start of the spare capacity, and is
                // done with the buffer.
                unsafe { buffer.set_len(length as usize) };
                let sender = message.sender().as_socket();
                self.unread.push_back(Datagram { data: buffer.freeze(), sender });
            }
            error => match -error {
                libc::ECANCELED | libc::EAGAIN | libc::EINTR => {}
                error => {
                    let error = io::Error::from_raw_os_error(error);
                    failed = self.next_waiter().map(|popper| (popper, error));
                }
            },
        }
        io.messages.put(message);
        failed
    }
}

impl Inner {
    fn received_datagram(&mut self, completed: Completed) -> Option<(Popper, io::Error)> {
        match self.sockets.of(completed.key)? {
            Entry { head, role: Role::Datagram(datagrams) } => {
                datagrams.received(head, &mut self.io, completed)
            }
            _ => None,
        }
    }

    fn next_datagram(&mut self, key: Key) -> Option<(Popper, Datagram)> {
        let Role::Datagram(datagrams) = &mut self.sockets.of(key)?.role else { return None };
        datagrams.serve()
    }

    /// Sends a datagram, to the given address or to the socket's peer.
    pub(super) fn send_datagram(
        &mut self,
        index: u32,
        data: Sga,
        peer: Option<SocketAddr>,
        done: Completion<io::Result<()>>,
    ) {
        let io = &mut self.io;
        let mut message = io.messages.take();
        if let Some(peer) = peer {
            message.set_name(&peer.into());
        }
        let mut pieces = 0;
        for (piece, segment) in message.pieces.iter_mut().zip(data.iter()) {
            *piece = libc::iovec { iov_base: segment.as_ptr().cast_mut().cast(), iov_len: segment.len() };
            pieces += 1;
        }
        debug_assert!(data.segments() <= PIECES, "checked by the caller");
        let head = &mut self.sockets.at(index).head;
        head.in_kernel += 1;
        let header = message.outgoing(pieces, peer.is_some());
        let operation =
            opcode::SendMsg::new(head.target.fd(), header).flags(libc::MSG_NOSIGNAL as u32).build();
        let outgoing = self.outgoing.vacant_entry();
        let key = Key::new(Kind::SendDatagram, 0, outgoing.key() as u32);
        done.on_cancel(io.id, key.bits());
        outgoing.insert(Outgoing { key: head.key(Kind::SendDatagram), message, data, done });
        // SAFETY: data and message stay in the table until the completion.
        unsafe { io.ring.submit(&head.target.apply(operation).user_data(key.bits())) };
    }

    fn sent_datagram(&mut self, completed: Completed) -> Option<(Outgoing, io::Result<()>)> {
        let outgoing = self.outgoing.try_remove(completed.key.index())?;
        self.io.counters.sent += 1;
        if let Some(Entry { head, .. }) = self.sockets.of(outgoing.key) {
            head.in_kernel -= 1;
            if head.closing {
                head.mark(&mut self.io);
            }
        }
        let result = match completed.result {
            0.. => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        Some((outgoing, result))
    }
}

impl Uring {
    pub(super) fn on_receive_datagram(&self, completed: Completed) {
        let failed = self.inner.borrow_mut().received_datagram(completed);
        if let Some((popper, error)) = failed {
            popper.fail(error);
        }
        self.tell_datagrams(completed.key);
    }

    /// Hands out datagrams that are there.
    pub(super) fn tell_datagrams(&self, key: Key) {
        loop {
            let next = self.inner.borrow_mut().next_datagram(key);
            let Some((popper, datagram)) = next else { break };
            popper.complete(datagram);
        }
    }

    pub(super) fn on_send_datagram(&self, completed: Completed) {
        let sent = self.inner.borrow_mut().sent_datagram(completed);
        if let Some((Outgoing { message, data, done, .. }, result)) = sent {
            self.inner.borrow_mut().io.messages.put(message);
            drop(data);
            done.complete(result);
        }
    }
}
