//! The calls of sockets.

use super::Uring;
use super::connection::{Connection, PopDone, Pushed};
use super::datagram::{Datagrams, Popper};
use super::device::Inner;
use super::key::{Key, Kind};
use super::listener::Listener;
use super::message::PIECES;
use super::socket::{Entry, Head, Role, closed, unsuited};
use crate::buffer::{Buffer, Sga};
use crate::executor::Completion;
use crate::transport::kernel::{self, Mode};
use crate::transport::stream::Outbound;
use crate::transport::{
    Accepted, Device, Domain, Endpoint, Network, OptionName, Qd, SocketKind, SocketOption, Turn,
};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

const _: () = assert!(Outbound::<()>::NUMBERS == Key::STAMPS);

/// The length of a datagram is at most this.
const DATAGRAM: usize = 65_535;

impl Network for Uring {
    fn socket(&self, domain: Domain, kind: SocketKind) -> io::Result<Qd> {
        // The kernel waits for us with such sockets, and gives EAGAIN with non-blocking ones.
        let socket = kernel::socket(domain, kind, Mode::Blocking)?;
        let role = match kind {
            SocketKind::Stream => Role::Stream(Connection::new(false)),
            SocketKind::Datagram => Role::Datagram(Datagrams::default()),
        };
        Ok(Qd(self.inner.borrow_mut().add_socket(socket, role)))
    }

    fn bind(&self, qd: Qd, local: &Endpoint) -> io::Result<()> {
        self.with(qd, |head| kernel::bind(&head.socket, local))
    }

    fn listen(&self, qd: Qd, backlog: u32) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        let Entry { head, role } = inner.sockets.open(qd.0)?;
        match role {
            Role::Stream(connection) if connection.is_fresh() => {}
            Role::Listener(_) => {}
            _ => return Err(unsuited()),
        }
        kernel::listen(&head.socket, backlog)?;
        if !matches!(role, Role::Listener(_)) {
            *role = Role::Listener(Listener::default());
        }
        Ok(())
    }

    fn accept(&self, qd: Qd, done: Completion<io::Result<Accepted>>) {
        let waiting = self.inner.borrow_mut().accept(qd, done);
        match waiting {
            Ok(key) => self.tell_accepted(key),
            Err((done, error)) => done.complete(Err(error)),
        }
    }

    fn connect(&self, qd: Qd, peer: &Endpoint, done: Completion<io::Result<()>>) {
        let over = self.inner.borrow_mut().connect(qd, peer, done);
        if let Some((done, result)) = over {
            done.complete(result);
        }
    }

    #[inline]
    fn push(&self, qd: Qd, mut data: Sga, done: Completion<io::Result<()>>) {
        let pushed = self.inner.borrow_mut().push(qd, &mut data, done);
        match pushed {
            Ok(Pushed::Queued) => {}
            Ok(Pushed::Early(done)) => done.complete(Ok(())),
            Ok(Pushed::Done(done, result)) => {
                drop(data);
                done.complete(result);
            }
            Err(done) => self.push_datagram(qd, data, None, done),
        }
    }

    #[inline]
    fn pop(&self, qd: Qd, limit: usize, done: Completion<io::Result<Buffer>>) {
        let popped = self.inner.borrow_mut().pop(qd, limit, done);
        match popped {
            Popped::Waiting => {}
            Popped::Served(done, result) => done.complete(result),
            Popped::Datagram(done) => self.pop_datagram(qd, limit, Popper::Plain(done)),
        }
    }

    fn push_to(&self, qd: Qd, data: Sga, peer: SocketAddr, done: Completion<io::Result<()>>) {
        self.push_datagram(qd, data, Some(peer), done);
    }

    fn pop_from(&self, qd: Qd, limit: usize, done: Completion<io::Result<(Buffer, SocketAddr)>>) {
        self.pop_datagram(qd, limit, Popper::WithSender(done));
    }

    fn shutdown_socket(&self, qd: Qd, how: Shutdown) -> io::Result<()> {
        let inner = &mut *self.inner.borrow_mut();
        let Entry { head, role } = inner.sockets.open(qd.0)?;
        if let Role::Stream(connection) = role
            && how != Shutdown::Read
            && !connection.outbound.is_empty()
        {
            connection.finishing = true;
            head.mark(&mut inner.io);
            return match how {
                Shutdown::Both => head.socket.shutdown(Shutdown::Read),
                _ => Ok(()),
            };
        }
        head.socket.shutdown(how)
    }

    fn close(&self, qd: Qd) {
        let (named, untaken) = match self.inner.borrow_mut().sockets.open(qd.0) {
            Ok(Entry { role: Role::Stream(_), .. }) => (false, None),
            Ok(Entry { head, role: Role::Listener(listener) }) => {
                // An accept that the kernel is still giving up keeps the socket listening.
                if let Err(error) = head.socket.shutdown(Shutdown::Both) {
                    tracing::debug!(%error, "a listening socket was shut down already");
                }
                (true, Some(listener.take_untaken()))
            }
            Ok(_) => (true, None),
            Err(_) => return,
        };
        self.give_up(qd.0, closed);
        for accepted in untaken.into_iter().flatten() {
            self.close(accepted.qd);
        }
        if named {
            // The kernel gives up a receive or an accept only when it is entered, after which the descriptor
            // is closed. The program may want to bind to the address again at once.
            self.poll(Turn::Idle);
            self.inner.borrow_mut().flush();
        }
    }

    fn local(&self, qd: Qd) -> io::Result<Endpoint> {
        self.with(qd, |head| kernel::local(&head.socket))
    }

    fn peer(&self, qd: Qd) -> io::Result<Endpoint> {
        self.with(qd, |head| kernel::peer(&head.socket))
    }

    fn set_option(&self, qd: Qd, option: SocketOption) -> io::Result<()> {
        self.with(qd, |head| {
            kernel::set_option(&head.socket, option)?;
            if let SocketOption::Linger(time) = option {
                head.lingers = time.is_some_and(|time| time > Duration::ZERO);
            }
            Ok(())
        })
    }

    fn option(&self, qd: Qd, name: OptionName) -> io::Result<SocketOption> {
        self.with(qd, |head| kernel::option(&head.socket, name))
    }
}

/// What became of a pop.
enum Popped {
    Waiting,
    Served(PopDone, io::Result<Buffer>),
    /// The socket is one of datagrams.
    Datagram(PopDone),
}

/// The promise of a call without a value.
type Done = Completion<io::Result<()>>;

impl Inner {
    #[inline]
    fn pop(&mut self, qd: Qd, limit: usize, done: PopDone) -> Popped {
        let Entry { head, role } = match self.sockets.open(qd.0) {
            Ok(entry) => entry,
            Err(error) => return Popped::Served(done, Err(error)),
        };
        match role {
            Role::Stream(connection) => {
                done.on_cancel(self.io.id, head.key(Kind::Receive).bits());
                // Either there is a receive to start, or one that was full may go on.
                head.mark(&mut self.io);
                match connection.inbound.pop(limit, done) {
                    Some((done, data)) => Popped::Served(done, Ok(data)),
                    None => Popped::Waiting,
                }
            }
            Role::Datagram(_) => Popped::Datagram(done),
            Role::Listener(_) => Popped::Served(done, Err(unsuited())),
        }
    }

    /// Queues data of a stream; gives the promise back if the socket is one of datagrams.
    #[inline]
    fn push(&mut self, qd: Qd, data: &mut Sga, done: Done) -> Result<Pushed, Done> {
        match self.sockets.open(qd.0) {
            Ok(Entry { head, role: Role::Stream(connection) }) => {
                Ok(connection.push(data, done, head, &mut self.io))
            }
            Ok(Entry { role: Role::Datagram(_), .. }) => Err(done),
            Ok(Entry { role: Role::Listener(_), .. }) => Ok(Pushed::Done(done, Err(unsuited()))),
            Err(error) => Ok(Pushed::Done(done, Err(error))),
        }
    }

    fn accept(
        &mut self,
        qd: Qd,
        done: Completion<io::Result<Accepted>>,
    ) -> Result<Key, (Completion<io::Result<Accepted>>, io::Error)> {
        match self.sockets.open(qd.0) {
            Ok(Entry { head, role: Role::Listener(listener) }) => {
                let key = head.key(Kind::Accept);
                done.on_cancel(self.io.id, key.bits());
                listener.waiters.push_back(done);
                head.mark(&mut self.io);
                Ok(key)
            }
            Ok(_) => Err((done, io::Error::from_raw_os_error(libc::EINVAL))),
            Err(error) => Err((done, error)),
        }
    }

    /// Starts to connect, or gives the result at once.
    fn connect(&mut self, qd: Qd, peer: &Endpoint, done: Done) -> Option<(Done, io::Result<()>)> {
        match self.sockets.open(qd.0) {
            Ok(Entry { head, role: Role::Stream(connection) }) => {
                let started = connection.start_connect(head, &mut self.io, peer, done);
                started.err().map(|(done, error)| (done, Err(error)))
            }
            // No packet is sent, so there is nothing to wait for.
            Ok(Entry { head, role: Role::Datagram(_) }) => {
                let result = kernel::to_sockaddr(peer).and_then(|name| head.socket.connect(&name));
                Some((done, result.map_err(|error| kernel::connect_error(error, peer))))
            }
            Ok(_) => Some((done, Err(unsuited()))),
            Err(error) => Some((done, Err(error))),
        }
    }

    /// Queues somebody who waits for a datagram.
    fn pop_datagram(&mut self, qd: Qd, limit: usize, popper: Popper) -> Result<Key, (Popper, io::Error)> {
        match self.sockets.open(qd.0) {
            Ok(Entry { head, role: Role::Datagram(datagrams) }) => {
                let key = head.key(Kind::ReceiveDatagram);
                popper.on_cancel(self.io.id, key);
                datagrams.pop(limit.min(DATAGRAM), popper);
                head.mark(&mut self.io);
                Ok(key)
            }
            Ok(_) => Err((popper, unsuited())),
            Err(error) => Err((popper, error)),
        }
    }

    /// Whether a datagram can be sent.
    fn check_datagram(&mut self, qd: Qd, data: &Sga) -> io::Result<()> {
        match self.sockets.open(qd.0)? {
            Entry { role: Role::Datagram(_), .. } if data.segments() > PIECES => {
                Err(io::Error::from_raw_os_error(libc::EMSGSIZE))
            }
            Entry { role: Role::Datagram(_), .. } => Ok(()),
            _ => Err(unsuited()),
        }
    }

    /// The program gives a socket up.
    fn start_close(&mut self, index: u32) -> io::Result<Key> {
        let Entry { head, role } = self.sockets.open(index)?;
        head.closing = true;
        match role {
            Role::Stream(connection) if !connection.outbound.is_empty() => {
                kernel::finish_in_background(&head.socket);
            }
            // No connection is taken any more, and the address is free at once.
            Role::Listener(_) => drop(head.socket.shutdown(Shutdown::Both)),
            _ => {}
        }
        head.mark(&mut self.io);
        // Of this kind or another: it is for finding the socket.
        Ok(head.key(Kind::Receive))
    }

    /// Somebody who waits for something of a socket.
    fn next_waiter(&mut self, key: Key) -> Option<Waiting> {
        match &mut self.sockets.of(key)?.role {
            Role::Stream(connection) => connection.inbound.fail().map(Waiting::Pop),
            Role::Listener(listener) => listener.waiters.pop_front().map(Waiting::Accept),
            Role::Datagram(datagrams) => datagrams.next_waiter().map(Waiting::Datagram),
        }
    }
}

enum Waiting {
    Pop(PopDone),
    Accept(Completion<io::Result<Accepted>>),
    Datagram(Popper),
}

impl Uring {
    /// Something that is done at once.
    fn with<R>(&self, qd: Qd, call: impl FnOnce(&mut Head) -> io::Result<R>) -> io::Result<R> {
        call(&mut self.inner.borrow_mut().sockets.open(qd.0)?.head)
    }

    fn pop_datagram(&self, qd: Qd, limit: usize, popper: Popper) {
        let waiting = self.inner.borrow_mut().pop_datagram(qd, limit, popper);
        match waiting {
            Ok(key) => self.tell_datagrams(key),
            Err((popper, error)) => popper.fail(error),
        }
    }

    fn push_datagram(&self, qd: Qd, data: Sga, peer: Option<SocketAddr>, done: Done) {
        let checked = self.inner.borrow_mut().check_datagram(qd, &data);
        match checked {
            Ok(()) => self.inner.borrow_mut().send_datagram(qd.0, data, peer, done),
            Err(error) => {
                drop(data);
                done.complete(Err(error));
            }
        }
    }

    /// Gives a socket up; those who wait are told `error`.
    pub(super) fn give_up(&self, index: u32, error: fn() -> io::Error) {
        let started = self.inner.borrow_mut().start_close(index);
        let Ok(key) = started else { return };
        loop {
            let waiting = self.inner.borrow_mut().next_waiter(key);
            match waiting {
                Some(Waiting::Pop(done)) => done.complete(Err(error())),
                Some(Waiting::Accept(done)) => done.complete(Err(error())),
                Some(Waiting::Datagram(popper)) => popper.fail(error()),
                None => return,
            }
        }
    }
}
