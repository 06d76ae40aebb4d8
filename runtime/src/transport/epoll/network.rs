//! Operations on sockets.

use super::socket::{Connect, Queued, Send, Socket};
use super::{CancelKey, Entry, Epoll, Queue, RETRY};
use crate::buffer::{Buffer, Sga};
use crate::executor::Completion;
use crate::time::Instant;
use crate::transport::kernel::{self, Mode};
use crate::transport::readiness::{Receive, Untaken};
use crate::transport::{Accepted, Domain, Endpoint, Network, OptionName, Qd, SocketKind, SocketOption};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

impl Network for Epoll {
    fn socket(&self, domain: Domain, kind: SocketKind) -> io::Result<Qd> {
        let fd = kernel::socket(domain, kind, Mode::NonBlocking)?;
        self.insert_socket(fd, kind).map(|socket| socket.qd)
    }

    fn bind(&self, qd: Qd, local: &Endpoint) -> io::Result<()> {
        kernel::bind(&self.socket_of(qd)?.fd, local)
    }

    fn listen(&self, qd: Qd, backlog: u32) -> io::Result<()> {
        kernel::listen(&self.socket_of(qd)?.fd, backlog)
    }

    fn accept(&self, qd: Qd, done: Completion<io::Result<Accepted>>) {
        self.start_receive(qd, Receive::Accept(done));
    }

    fn connect(&self, qd: Qd, peer: &Endpoint, done: Completion<io::Result<()>>) {
        let socket = match self.socket_of(qd) {
            Ok(socket) => socket,
            Err(error) => return done.complete(Err(error)),
        };
        if socket.connect.borrow().is_some() {
            return done.complete(Err(io::Error::from_raw_os_error(libc::EALREADY)));
        }
        match self.connect_now(&socket, peer) {
            Ok(Progress::Done) => done.complete(Ok(())),
            Ok(Progress::UnderWay) => self.queue_connect(&socket, Connect { peer: peer.clone(), done }),
            Err(error) => done.complete(Err(kernel::connect_error(error, peer))),
        }
    }

    fn push(&self, qd: Qd, data: Sga, done: Completion<io::Result<()>>) {
        self.start_push(qd, data, None, done);
    }

    fn pop(&self, qd: Qd, limit: usize, done: Completion<io::Result<Buffer>>) {
        self.start_receive(qd, Receive::Pop(limit, done));
    }

    fn push_to(&self, qd: Qd, data: Sga, peer: SocketAddr, done: Completion<io::Result<()>>) {
        self.start_push(qd, data, Some(peer), done);
    }

    fn pop_from(&self, qd: Qd, limit: usize, done: Completion<io::Result<(Buffer, SocketAddr)>>) {
        match self.socket_of(qd) {
            Ok(socket) if socket.kind == SocketKind::Stream => {
                done.complete(Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "pop_from is for datagrams: a stream has one peer, use pop",
                )));
            }
            _ => self.start_receive(qd, Receive::PopFrom(limit, done)),
        }
    }

    fn shutdown_socket(&self, qd: Qd, how: Shutdown) -> io::Result<()> {
        let socket = self.socket_of(qd)?;
        match how {
            Shutdown::Read => socket.fd.shutdown(how)?,
            Shutdown::Write => return self.shutdown_sending(&socket, how),
            Shutdown::Both => {
                self.shutdown_sending(&socket, Shutdown::Write)?;
                // After the sending direction of an ended connection the kernel knows no receiving one.
                match socket.fd.shutdown(Shutdown::Read) {
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error),
                    _ => {}
                }
            }
        }
        // Those who wait to receive now get the end of the stream.
        socket.readable.set(true);
        self.progress_receives(&socket);
        Ok(())
    }

    fn close(&self, qd: Qd) {
        let Ok(socket) = self.socket_of(qd) else { return };
        socket.closing.set(true);
        for (_, untaken) in socket.untaken.take() {
            if let Untaken::Connection(accepted) = untaken {
                self.close(accepted.qd);
            }
        }
        let resets = || matches!(socket.fd.linger(), Ok(Some(Duration::ZERO)));
        let sends = !socket.sends.borrow().is_empty();
        if sends && !resets() {
            kernel::finish_in_background(&socket.fd);
            self.fail_connect(&socket, kernel::closed);
            self.fail_receives(&socket, kernel::closed);
        } else {
            self.remove_socket(&socket);
            self.abandon(&socket, kernel::closed);
        }
    }

    fn local(&self, qd: Qd) -> io::Result<Endpoint> {
        kernel::local(&self.socket_of(qd)?.fd)
    }

    fn peer(&self, qd: Qd) -> io::Result<Endpoint> {
        kernel::peer(&self.socket_of(qd)?.fd)
    }

    fn set_option(&self, qd: Qd, option: SocketOption) -> io::Result<()> {
        let socket = self.socket_of(qd)?;
        kernel::set_option(&socket.fd, option)?;
        if let SocketOption::Linger(time) = option {
            socket.lingers.set(time.is_some_and(|time| !time.is_zero()));
        }
        Ok(())
    }

    fn option(&self, qd: Qd, name: OptionName) -> io::Result<SocketOption> {
        kernel::option(&self.socket_of(qd)?.fd, name)
    }
}

/// How far a connect has come.
enum Progress {
    Done,
    UnderWay,
}

impl Epoll {
    fn connect_now(&self, socket: &Socket, peer: &Endpoint) -> io::Result<Progress> {
        let address = kernel::to_sockaddr(peer)?;
        let Err(error) = socket.fd.connect(&address) else { return Ok(Progress::Done) };
        match error.raw_os_error() {
            // An interrupted connect goes on, too.
            Some(libc::EINPROGRESS | libc::EINTR) => {
                socket.readable.set(false);
                socket.writable.set(false);
                self.register(socket)?;
                Ok(Progress::UnderWay)
            }
            // The listener's queue is full. No event says when it is not.
            Some(libc::EAGAIN) if peer.domain() == Domain::Unix => {
                self.retry(socket);
                if self.retry_at.get().is_none() {
                    self.retry_at.set(Some(Instant::now() + RETRY));
                }
                Ok(Progress::UnderWay)
            }
            _ => Err(error),
        }
    }

    fn queue_connect(&self, socket: &Socket, connect: Connect) {
        let sequence = self.next_sequence();
        if let Some(id) = self.id.get() {
            let key = CancelKey { qd: socket.qd, queue: Queue::Connect, sequence };
            connect.done.on_cancel(id, key.into());
        }
        self.waits_more(1);
        socket.connect.replace(Some(Queued { sequence, it: connect }));
    }

    pub(super) fn progress_connect(&self, socket: &Socket) {
        if socket.connect.borrow().is_none() {
            return;
        }
        let Some(queued) = socket.connect.take() else { return };
        let peer = &queued.it.peer;
        let result = match peer.domain() {
            Domain::Unix => self.connect_now(socket, peer),
            _ => connected(socket),
        };
        let result = match result {
            Ok(Progress::UnderWay) => {
                socket.connect.replace(Some(queued));
                return;
            }
            Ok(Progress::Done) => Ok(()),
            Err(error) => Err(kernel::connect_error(error, peer)),
        };
        self.waits_less(1);
        queued.it.done.complete(result);
    }

    fn fail_connect(&self, socket: &Socket, error: impl Fn() -> io::Error) {
        if let Some(queued) = socket.connect.take() {
            self.waits_less(1);
            queued.it.done.complete(Err(error()));
        }
    }

    /// Ends everything that waits for a socket.
    pub(super) fn abandon(&self, socket: &Rc<Socket>, error: fn() -> io::Error) {
        self.fail_connect(socket, error);
        self.fail_receives(socket, error);
        self.fail_sends(socket, &error());
    }

    pub(super) fn cancel_operation(&self, key: CancelKey) {
        let socket = match self.entries.borrow().get(key.qd.0 as usize) {
            Some(Entry::Socket(socket)) => socket.clone(),
            _ => return,
        };
        match key.queue {
            Queue::Receives => {
                let mut receives = socket.receives.borrow_mut();
                let index = receives.iter().position(|queued| queued.sequence == key.sequence);
                let receive = index.and_then(|index| receives.remove(index));
                drop(receives);
                self.waits_less(usize::from(receive.is_some()));
            }
            Queue::Sends => self.cancel_send(&socket, key.sequence),
            Queue::Connect => {
                let connect = socket.connect.borrow_mut().take_if(|queued| queued.sequence == key.sequence);
                self.waits_less(usize::from(connect.is_some()));
            }
        }
    }

    /// Takes a push out of the queue, unless some of it is sent.
    fn cancel_send(&self, socket: &Socket, sequence: u32) {
        let mut sends = socket.sends.borrow_mut();
        let unsent = |queued: &Queued<Send>| {
            queued.sequence == sequence && !matches!(&queued.it, Send::Push(push) if push.started)
        };
        let index = sends.iter().position(unsent);
        let send = index.and_then(|index| sends.remove(index));
        drop(sends);
        if send.is_some() {
            self.waits_less(1);
            // A shutdown behind it waits for nothing any more, nor does the end of the socket.
            self.progress_sends(socket);
        }
    }
}

/// Whether a TCP connection that was under way is there, or has failed.
fn connected(socket: &Socket) -> io::Result<Progress> {
    if !socket.writable.get() {
        return Ok(Progress::UnderWay);
    }
    if let Some(error) = socket.fd.take_error()? {
        return Err(error);
    }
    // An event from before the connect says nothing about it.
    match socket.fd.peer_addr() {
        Ok(_) => Ok(Progress::Done),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            socket.writable.set(false);
            Ok(Progress::UnderWay)
        }
        Err(error) => Err(error),
    }
}
