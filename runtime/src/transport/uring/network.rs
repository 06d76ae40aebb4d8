//! The calls of sockets.

use super::Uring;
use super::connection::{Connection, Pushed};
use super::datagram::{Datagrams, Popper};
use super::key::{Key, Kind};
use super::listener::Listener;
use super::message::PIECES;
use super::socket::{Entry, Role, closed, key, unsuited};
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

impl Uring {
    fn with<R>(&self, qd: Qd, call: impl FnOnce(&mut Entry) -> io::Result<R>) -> io::Result<R> {
        call(self.inner.borrow_mut().sockets.open(qd.0)?)
    }

    fn pop_datagram(&self, qd: Qd, limit: usize, popper: Popper) {
        let mut inner = self.inner.borrow_mut();
        let id = inner.id;
        let entry = match inner.sockets.open(qd.0) {
            Ok(entry) => entry,
            Err(error) => {
                drop(inner);
                return popper.fail(error);
            }
        };
        let key = key(Kind::ReceiveDatagram, entry, qd.0);
        let Role::Datagram(datagrams) = &mut entry.role else {
            drop(inner);
            return popper.fail(unsuited());
        };
        match &popper {
            Popper::Plain(done) => done.on_cancel(id, key.bits()),
            Popper::WithSender(done) => done.on_cancel(id, key.bits()),
        }
        datagrams.pop(limit.min(DATAGRAM), popper);
        inner.sockets.mark(qd.0);
        drop(inner);
        self.tell_datagrams(key);
    }

    fn push_datagram(&self, qd: Qd, data: Sga, peer: Option<SocketAddr>, done: Completion<io::Result<()>>) {
        let mut inner = self.inner.borrow_mut();
        let result = match inner.sockets.open(qd.0) {
            Ok(Entry { role: Role::Datagram(_), .. }) if data.segments() > PIECES => {
                Err(io::Error::from_raw_os_error(libc::EMSGSIZE))
            }
            Ok(Entry { role: Role::Datagram(_), .. }) => Ok(()),
            Ok(_) => Err(unsuited()),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => inner.send_datagram(qd.0, data, peer, done),
            Err(error) => {
                drop(inner);
                done.complete(Err(error));
            }
        }
    }

    /// The token of a push was dropped.
    pub(super) fn cancel_push(&self, cancelled: Key) {
        let mut inner = self.inner.borrow_mut();
        let index = cancelled.index() as u32;
        let entry = inner.sockets.at(index);
        let key = key(Kind::Send, entry, index);
        let Role::Stream(connection) = &mut entry.role else { return };
        let removed = connection.cancel_push(cancelled.stamp());
        inner.sockets.mark(index);
        drop(inner);
        drop(removed);
        // What is left may be nothing but pushes of nothing.
        self.finish_pushes(key);
    }

    /// Everybody who waits for something of a socket.
    fn waiters_of(&self, index: u32, error: fn() -> io::Error) {
        loop {
            let mut inner = self.inner.borrow_mut();
            let failed = match &mut inner.sockets.at(index).role {
                Role::Stream(connection) => connection.inbound.fail().map(Waiting::Pop),
                Role::Listener(listener) => listener.waiters.pop_front().map(Waiting::Accept),
                Role::Datagram(datagrams) => datagrams.next_waiter().map(Waiting::Datagram),
            };
            drop(inner);
            match failed {
                Some(Waiting::Pop(done)) => done.complete(Err(error())),
                Some(Waiting::Accept(done)) => done.complete(Err(error())),
                Some(Waiting::Datagram(popper)) => popper.fail(error()),
                None => return,
            }
        }
    }

    /// Gives a socket up; what waits is told `error`.
    pub(super) fn give_up(&self, index: u32, error: fn() -> io::Error) {
        {
            let mut inner = self.inner.borrow_mut();
            let Ok(entry) = inner.sockets.open(index) else { return };
            entry.closing = true;
            if let Role::Stream(connection) = &entry.role
                && !connection.outbound.is_empty()
            {
                kernel::finish_in_background(&entry.socket);
            }
            if let Role::Listener(_) = entry.role {
                // No connection is taken any more, and the address is free at once.
                let _ = entry.socket.shutdown(Shutdown::Both);
            }
            inner.sockets.mark(index);
        }
        self.waiters_of(index, error);
    }
}

enum Waiting {
    Pop(Completion<io::Result<Buffer>>),
    Accept(Completion<io::Result<Accepted>>),
    Datagram(Popper),
}

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
        self.with(qd, |entry| kernel::bind(&entry.socket, local))
    }

    fn listen(&self, qd: Qd, backlog: u32) -> io::Result<()> {
        self.with(qd, |entry| {
            match &entry.role {
                Role::Stream(connection) if connection.is_fresh() => {}
                Role::Listener(_) => {}
                _ => return Err(unsuited()),
            }
            kernel::listen(&entry.socket, backlog)?;
            if !matches!(entry.role, Role::Listener(_)) {
                entry.role = Role::Listener(Listener::default());
            }
            Ok(())
        })
    }

    fn accept(&self, qd: Qd, done: Completion<io::Result<Accepted>>) {
        let mut inner = self.inner.borrow_mut();
        let id = inner.id;
        let error = match inner.sockets.open(qd.0) {
            Ok(entry) => {
                let key = key(Kind::Accept, entry, qd.0);
                if let Role::Listener(listener) = &mut entry.role {
                    done.on_cancel(id, key.bits());
                    listener.waiters.push_back(done);
                    inner.sockets.mark(qd.0);
                    drop(inner);
                    return self.tell_accepted(key);
                }
                io::Error::from_raw_os_error(libc::EINVAL)
            }
            Err(error) => error,
        };
        drop(inner);
        done.complete(Err(error));
    }

    fn connect(&self, qd: Qd, peer: &Endpoint, done: Completion<io::Result<()>>) {
        let mut inner = self.inner.borrow_mut();
        let result = match inner.sockets.open(qd.0) {
            Ok(Entry { role: Role::Datagram(_), socket, .. }) => {
                // No packet is sent, so there is nothing to wait for.
                kernel::to_sockaddr(peer)
                    .and_then(|name| socket.connect(&name))
                    .map_err(|error| kernel::connect_error(error, peer))
            }
            Ok(_) => match inner.start_connect(qd.0, peer, done) {
                Ok(()) => return,
                Err((done, error)) => {
                    drop(inner);
                    return done.complete(Err(error));
                }
            },
            Err(error) => Err(error),
        };
        drop(inner);
        done.complete(result);
    }

    #[inline]
    fn push(&self, qd: Qd, data: Sga, done: Completion<io::Result<()>>) {
        let mut inner = self.inner.borrow_mut();
        let (id, early) = (inner.id, inner.config.early_push);
        let (data, result) = match inner.sockets.open(qd.0) {
            Ok(entry) => match &mut entry.role {
                Role::Stream(connection) => match connection.push(data, done, early, id, qd.0) {
                    Pushed::Queued => return inner.sockets.mark(qd.0),
                    Pushed::Early(done) => {
                        inner.sockets.mark(qd.0);
                        drop(inner);
                        return done.complete(Ok(()));
                    }
                    Pushed::Done(done, result) => {
                        drop(inner);
                        return done.complete(result);
                    }
                },
                Role::Datagram(_) => {
                    drop(inner);
                    return self.push_datagram(qd, data, None, done);
                }
                Role::Listener(_) => (data, unsuited()),
            },
            Err(error) => (data, error),
        };
        drop(inner);
        drop(data);
        done.complete(Err(result));
    }

    #[inline]
    fn pop(&self, qd: Qd, limit: usize, done: Completion<io::Result<Buffer>>) {
        let mut inner = self.inner.borrow_mut();
        let id = inner.id;
        let error = match inner.sockets.open(qd.0) {
            Ok(entry) => {
                let key = key(Kind::Receive, entry, qd.0);
                match &mut entry.role {
                    Role::Stream(connection) => {
                        done.on_cancel(id, key.bits());
                        let served = connection.inbound.pop(limit, done);
                        // Either there is a receive to start, or one that was full may go on.
                        inner.sockets.mark(qd.0);
                        drop(inner);
                        if let Some((done, data)) = served {
                            done.complete(Ok(data));
                        }
                        return;
                    }
                    Role::Datagram(_) => {
                        drop(inner);
                        return self.pop_datagram(qd, limit, Popper::Plain(done));
                    }
                    Role::Listener(_) => unsuited(),
                }
            }
            Err(error) => error,
        };
        drop(inner);
        done.complete(Err(error));
    }

    fn push_to(&self, qd: Qd, data: Sga, peer: SocketAddr, done: Completion<io::Result<()>>) {
        self.push_datagram(qd, data, Some(peer), done);
    }

    fn pop_from(&self, qd: Qd, limit: usize, done: Completion<io::Result<(Buffer, SocketAddr)>>) {
        self.pop_datagram(qd, limit, Popper::WithSender(done));
    }

    fn shutdown_socket(&self, qd: Qd, how: Shutdown) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        let entry = inner.sockets.open(qd.0)?;
        if let Role::Stream(connection) = &mut entry.role
            && how != Shutdown::Read
            && !connection.outbound.is_empty()
        {
            connection.finishing = true;
            if how == Shutdown::Both {
                entry.socket.shutdown(Shutdown::Read)?;
            }
            inner.sockets.mark(qd.0);
            return Ok(());
        }
        entry.socket.shutdown(how)
    }

    fn close(&self, qd: Qd) {
        let (slow, untaken) = match self.inner.borrow_mut().sockets.open(qd.0) {
            Ok(Entry { role: Role::Stream(_), .. }) => (false, None),
            Ok(Entry { role: Role::Listener(listener), .. }) => {
                (true, Some(std::mem::take(&mut listener.untaken)))
            }
            Ok(_) => (true, None),
            Err(_) => return,
        };
        self.give_up(qd.0, closed);
        for accepted in untaken.into_iter().flatten() {
            self.close(accepted.qd);
        }
        if slow {
            // The kernel gives up a receive or an accept only when it is entered, after which the descriptor
            // is closed. The program may want to bind to the address again at once.
            Device::poll(self, Turn::Idle);
            self.inner.borrow_mut().flush();
        }
    }

    fn local(&self, qd: Qd) -> io::Result<Endpoint> {
        self.with(qd, |entry| kernel::local(&entry.socket))
    }

    fn peer(&self, qd: Qd) -> io::Result<Endpoint> {
        self.with(qd, |entry| kernel::peer(&entry.socket))
    }

    fn set_option(&self, qd: Qd, option: SocketOption) -> io::Result<()> {
        self.with(qd, |entry| {
            kernel::set_option(&entry.socket, option)?;
            if let SocketOption::Linger(time) = option {
                entry.lingers = time.is_some_and(|time| time > Duration::ZERO);
            }
            Ok(())
        })
    }

    fn option(&self, qd: Qd, name: OptionName) -> io::Result<SocketOption> {
        self.with(qd, |entry| kernel::option(&entry.socket, name))
    }
}
