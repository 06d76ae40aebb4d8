//! Taking data and connections from the kernel.

use super::socket::{Attempt, Queued, Socket, Stop};
use super::{CancelKey, Entry, Epoll, Queue, add, copy};
use crate::buffer::{Buffer, BufferMut};
use crate::transport::readiness::{Receive, Untaken};
use crate::transport::stream::insert_by_number;
use crate::transport::{Accepted, Network, Qd, SocketKind, Storage, kernel};
use socket2::{SockAddr, SockAddrStorage};
use std::any::Any;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// No datagram is longer.
const LONGEST_DATAGRAM: usize = 64 << 10;

impl Epoll {
    /// Does a receive now if it can be, else queues it.
    pub(super) fn start_receive(&self, qd: Qd, receive: Receive) {
        let socket = match self.socket_of(qd) {
            Ok(socket) => socket,
            Err(error) => return receive.fail(error),
        };
        let mut receive = receive;
        let sequence = self.next_sequence();
        socket.begins(sequence);
        if let Some(id) = self.id.get() {
            let key = CancelKey { qd, queue: Queue::Receives, sequence }.into();
            receive.on_cancel(id, key);
        }
        // Behind others it waits for what they wait for.
        if socket.receives.borrow().is_empty() {
            let stop = match self.try_receive(&socket, receive) {
                Ok(()) => return,
                Err((given_back, stop)) => {
                    receive = given_back;
                    stop
                }
            };
            if let Err(error) = self.wake_when_gone(&socket, stop) {
                return receive.fail(error);
            }
        }
        self.waits_more(1);
        socket.receives.borrow_mut().push_back(Queued { sequence, it: receive });
    }

    pub(super) fn progress_receives(&self, socket: &Socket) {
        let stop = loop {
            if !socket.readable.get() && socket.untaken.borrow().is_empty() {
                // A short read, too, ends what is believed without a call that fails.
                break Stop::NotReady;
            }
            let Some(Queued { sequence, it }) = socket.receives.borrow_mut().pop_front() else { return };
            match self.try_receive(socket, it) {
                Ok(()) => self.waits_less(1),
                Err((receive, stop)) => {
                    socket.receives.borrow_mut().push_front(Queued { sequence, it: receive });
                    break stop;
                }
            }
        };
        if socket.receives.borrow().is_empty() {
            return;
        }
        if let Err(error) = self.wake_when_gone(socket, stop) {
            self.fail_receives(socket, || copy(&error));
        }
    }

    /// Ends everything that waits to receive.
    pub(super) fn fail_receives(&self, socket: &Socket, error: impl Fn() -> io::Error) {
        let receives = socket.receives.take();
        self.waits_less(receives.len());
        for receive in receives {
            receive.it.fail(error());
        }
    }

    /// Completes a receive, or gives it back with the reason why not.
    fn try_receive(&self, socket: &Socket, receive: Receive) -> Result<(), (Receive, Stop)> {
        if !socket.untaken.borrow().is_empty() {
            let peer = || kernel::peer(&socket.fd)?.inet();
            let completed = receive.complete_with_untaken(&socket.untaken, socket.kind, peer);
            return completed.map_err(|receive| (receive, Stop::NotReady));
        }
        match receive {
            // A connection that nobody gets would be lost, so it stays in the kernel's queue.
            Receive::Accept(done) if done.is_cancelled() => drop(done),
            Receive::Accept(done) => match self.accept_now(socket) {
                Ok(result) => done.complete(result),
                Err(stop) => return Err((Receive::Accept(done), stop)),
            },
            Receive::Pop(limit, done) => match self.pop_now(socket, limit) {
                Ok(result) => done.complete(result),
                Err(stop) => return Err((Receive::Pop(limit, done), stop)),
            },
            Receive::PopFrom(limit, done) => match self.pop_from_now(socket, limit) {
                Ok(result) => done.complete(result),
                Err(stop) => return Err((Receive::PopFrom(limit, done), stop)),
            },
        }
        Ok(())
    }

    /// Gives what nobody took to the next who asks. Errors, and ends of streams, are told again by the
    /// kernel.
    #[cold]
    pub(super) fn take_back(&self, key: CancelKey, number: u32, result: Box<dyn Any>) {
        let result = match result.downcast::<io::Result<Qd>>() {
            Ok(opened) => return opened.into_iter().for_each(|file| self.close_file(file)),
            Err(result) => result,
        };
        let Some(untaken) = Untaken::of(result) else { return };
        let socket = match self.entries.borrow().get(key.qd.0 as usize) {
            Some(Entry::Socket(socket)) => Some(socket.clone()),
            _ => None,
        };
        let own = |socket: &Rc<Socket>| socket.began(key.sequence) && !socket.closing.get();
        match (socket.filter(own), untaken) {
            (Some(socket), untaken) => {
                insert_by_number(&mut socket.untaken.borrow_mut(), number, untaken);
                self.progress_receives(&socket);
            }
            (None, Untaken::Connection(accepted)) => self.close(accepted.qd),
            (None, _) => {}
        }
    }

    fn may_receive(&self, socket: &Socket) -> Result<(), Stop> {
        if !socket.readable.get() {
            return Err(Stop::NotReady);
        }
        socket.may_call(self.turn.get())
    }

    fn accept_now(&self, socket: &Socket) -> Attempt<Accepted> {
        loop {
            self.may_receive(socket)?;
            add(&self.count.accepts, 1);
            let error = match socket.fd.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) {
                Ok((fd, peer)) => return Ok(self.accepted(socket, fd, &peer)),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN) => {
                    socket.drained();
                    return Err(Stop::NotReady);
                }
                // Errors of a connection that has failed before it was accepted, see accept(2): the next
                // one may be good.
                Some(
                    libc::EINTR
                    | libc::ECONNABORTED
                    | libc::EPROTO
                    | libc::ENETDOWN
                    | libc::ENETUNREACH
                    | libc::EHOSTDOWN
                    | libc::EHOSTUNREACH
                    | libc::ENONET
                    | libc::ENOPROTOOPT,
                ) => {}
                _ => return Ok(Err(kernel::accept_error(error))),
            }
        }
    }

    fn accepted(&self, listener: &Socket, fd: socket2::Socket, peer: &SockAddr) -> io::Result<Accepted> {
        let peer = kernel::to_endpoint(peer)?;
        let socket = self.insert_socket(fd, SocketKind::Stream)?;
        // Options are inherited.
        socket.lingers.set(listener.lingers.get());
        Ok(Accepted { qd: socket.qd, peer })
    }

    fn pop_now(&self, socket: &Socket, limit: usize) -> Attempt<Buffer> {
        match socket.kind {
            SocketKind::Stream => self.receive_stream(socket, limit),
            SocketKind::Datagram => self.receive_datagram(socket, limit, None),
        }
    }

    fn pop_from_now(&self, socket: &Socket, limit: usize) -> Attempt<(Buffer, SocketAddr)> {
        let mut sender = Sender::default();
        let data = match self.receive_datagram(socket, limit, Some(&mut sender))? {
            Ok(data) => data,
            Err(error) => return Ok(Err(error)),
        };
        Ok(sender.address().map(|address| (data, address)))
    }

    fn receive_stream(&self, socket: &Socket, limit: usize) -> Attempt<Buffer> {
        loop {
            self.may_receive(socket)?;
            // A receive of nothing would look like the end of the stream.
            let mut buffer = allocate(socket, limit.max(1))?;
            let room = buffer.spare_capacity_mut();
            let asked = room.len().min(limit.max(1));
            add(&self.count.receives, 1);
            // SAFETY: `asked` bytes from there are the buffer's, which nobody else uses.
            let received = unsafe { libc::recv(socket.fd.as_raw_fd(), room.as_mut_ptr().cast(), asked, 0) };
            if received < 0 {
                match self.receive_error(socket)? {
                    Some(error) => return Ok(Err(error)),
                    None => continue,
                }
            }
            let received = received as usize;
            // SAFETY: the kernel has written so many bytes.
            unsafe { buffer.set_len(received) };
            if received == 0 {
                return Ok(Ok(Buffer::new()));
            }
            socket.size.learn(received, asked);
            if received < asked && !socket.hung_up.get() {
                // That was all, and the kernel tells when more comes.
                socket.readable.set(false);
            }
            return Ok(Ok(buffer.freeze()));
        }
    }

    /// Receives one datagram, and its sender if that is wanted. It need not fit into the buffer that was
    /// guessed: what is beyond goes to one that is kept for that, and both are put together.
    fn receive_datagram(
        &self,
        socket: &Socket,
        limit: usize,
        mut sender: Option<&mut Sender>,
    ) -> Attempt<Buffer> {
        loop {
            self.may_receive(socket)?;
            let limit = limit.min(LONGEST_DATAGRAM);
            let mut buffer = allocate(socket, limit)?;
            let room = buffer.spare_capacity_mut();
            let first = room.len().min(limit);
            let mut overflow = self.overflow.borrow_mut();
            if overflow.len() < limit - first {
                overflow.resize(LONGEST_DATAGRAM, 0);
            }
            let mut parts = [
                libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: first },
                libc::iovec { iov_base: overflow.as_mut_ptr().cast(), iov_len: limit - first },
            ];
            add(&self.count.receives, 1);
            // SAFETY: both parts are valid for writes, and nobody else uses them.
            let received = unsafe { receive_message(socket, &mut parts, sender.as_deref_mut()) };
            if received < 0 {
                match self.receive_error(socket)? {
                    Some(error) => return Ok(Err(error)),
                    None => continue,
                }
            }
            let received = received as usize;
            socket.size.learn(received, first);
            // SAFETY: the kernel has written so many bytes of the first part.
            unsafe { buffer.set_len(received.min(first)) };
            if received <= first {
                return Ok(Ok(buffer.freeze()));
            }
            return Ok(Ok(joined(&buffer, &overflow[..received - first])));
        }
    }

    /// What to do about a failed receive: try again (`None`), give the error to the program, or wait.
    #[cold]
    fn receive_error(&self, socket: &Socket) -> Result<Option<io::Error>, Stop> {
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                socket.drained();
                Err(Stop::NotReady)
            }
            io::ErrorKind::Interrupted => Ok(None),
            _ => Ok(Some(error)),
        }
    }
}

/// A buffer for at most `limit` bytes: of the size that the socket's past suggests, or the best there is.
fn allocate(socket: &Socket, limit: usize) -> Result<BufferMut, Stop> {
    let mut least = limit;
    for size in socket.size.sizes() {
        least = size.min(limit);
        if let Ok(buffer) = BufferMut::with_capacity(least) {
            return Ok(buffer);
        }
    }
    Err(Stop::NoMemory(least))
}

/// A datagram that came in two parts. It is out of the kernel's hands, so it goes to the heap if the pool is
/// exhausted.
#[cold]
fn joined(first: &[u8], rest: &[u8]) -> Buffer {
    match BufferMut::with_capacity(first.len() + rest.len()) {
        Ok(mut whole) => {
            whole.extend_from_slice(first);
            whole.extend_from_slice(rest);
            whole.freeze()
        }
        Err(_) => Buffer::from([first, rest].concat()),
    }
}

/// Room for the address of a sender.
struct Sender {
    storage: SockAddrStorage,
    length: libc::socklen_t,
}

impl Default for Sender {
    fn default() -> Sender {
        Sender { storage: SockAddrStorage::zeroed(), length: 0 }
    }
}

impl Sender {
    fn address(self) -> io::Result<SocketAddr> {
        // SAFETY: zeros, which the kernel has overwritten with an address of that length.
        let address = unsafe { SockAddr::new(self.storage, self.length) };
        kernel::to_endpoint(&address)?.inet()
    }
}

/// recvmsg(2).
///
/// # Safety
/// The parts are valid for writes.
unsafe fn receive_message(
    socket: &Socket,
    parts: &mut [libc::iovec; 2],
    sender: Option<&mut Sender>,
) -> libc::ssize_t {
    // SAFETY: a message header of zeros has no parts, no name and no control data.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = if parts[1].iov_len == 0 { 1 } else { 2 };
    let Some(sender) = sender else {
        // SAFETY: the header is valid, and the caller's parts are.
        return unsafe { libc::recvmsg(socket.fd.as_raw_fd(), &raw mut message, 0) };
    };
    message.msg_name = (&raw mut sender.storage).cast();
    message.msg_namelen = sender.storage.size_of();
    // SAFETY: the header is valid, and the caller's parts are; there is room for an address of any family.
    let received = unsafe { libc::recvmsg(socket.fd.as_raw_fd(), &raw mut message, 0) };
    sender.length = message.msg_namelen;
    received
}
