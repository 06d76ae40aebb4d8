//! Operations on sockets.

use super::socket::{Bound, Connect, Role, Socket};
use super::{Key, RdmaTransport, errno, errors};
use crate::verbs::ConnectionId;
use demikernel_runtime::Completion;
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::transport::readiness::{Receive, Untaken};
use demikernel_runtime::transport::{
    Accepted, Domain, Endpoint, Network, OptionName, Qd, SocketKind, SocketOption,
};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::rc::Rc;

impl Network for RdmaTransport {
    fn has_unix(&self) -> bool {
        false
    }

    fn socket(&self, domain: Domain, kind: SocketKind) -> io::Result<Qd> {
        if domain == Domain::Unix {
            let text = "rdma has no Unix sockets: a socket of this machine is one of io_uring or epoll";
            return Err(errors::unsupported(text));
        }
        self.check_running()?;
        Ok(self.insert(Socket::new(domain, kind, Role::Fresh)).qd())
    }

    fn bind(&self, qd: Qd, local: &Endpoint) -> io::Result<()> {
        let (socket, local) = (self.socket_of(qd)?, local.inet()?);
        if !matches!(*socket.role.borrow(), Role::Fresh) {
            return Err(errno(libc::EINVAL));
        }
        if socket.kind == SocketKind::Datagram {
            return self.bind_datagrams(&socket, local);
        }
        self.bind_socket(&socket, local)
    }

    fn listen(&self, qd: Qd, backlog: u32) -> io::Result<()> {
        let socket = self.socket_of(qd)?;
        if socket.kind == SocketKind::Datagram {
            return Err(errno(libc::EOPNOTSUPP));
        }
        if let Role::Listening(id) = *socket.role.borrow() {
            return self.call(|engine| {
                engine.link.set_backlog(id, backlog);
                Ok(())
            });
        }
        if matches!(*socket.role.borrow(), Role::Fresh) {
            let any = unspecified(&socket);
            self.bind_socket(&socket, any)?;
        }
        let Role::Bound(bound) = socket.role.replace(Role::Fresh) else { return Err(errno(libc::EINVAL)) };
        let local = socket.local.get();
        let listener = self.call(|engine| engine.listen(*bound, backlog, socket.id.get())).map_err(
            |error| match local {
                Some(local) => errors::bind_error(error, local),
                None => error,
            },
        )?;
        if let Some(hops) = self.hops_of(&socket) {
            self.call(|engine| {
                engine.set_hops(listener, hops);
                Ok(())
            })?;
        }
        socket.role.replace(Role::Listening(listener));
        Ok(())
    }

    fn accept(&self, qd: Qd, done: Completion<io::Result<Accepted>>) {
        self.start_receive(qd, Receive::Accept(done));
    }

    fn connect(&self, qd: Qd, peer: &Endpoint, done: Completion<io::Result<()>>) {
        if let Ok(socket) = self.socket_of(qd)
            && socket.kind == SocketKind::Datagram
        {
            let connected = peer.inet().and_then(|peer| {
                self.ready_for_datagrams(&socket)?;
                socket.peer.set(Some(peer));
                Ok(())
            });
            return done.complete(connected);
        }
        match self.start_connect(qd, peer) {
            Err(error) => done.complete(Err(error)),
            Ok((socket, peer)) => {
                if let Some(id) = self.id.get() {
                    done.on_cancel(id, Key::Send(qd, done.number()).into());
                }
                self.waits_more(1);
                socket.connect.replace(Some(Connect { peer, done }));
                self.progress_connect(&socket);
            }
        }
    }

    fn push(&self, qd: Qd, data: Sga, done: Completion<io::Result<()>>) {
        self.start_push(qd, data, None, done);
    }

    fn pop(&self, qd: Qd, limit: usize, done: Completion<io::Result<Buffer>>) {
        self.start_receive(qd, Receive::Pop(limit, done));
    }

    fn push_to(&self, qd: Qd, data: Sga, peer: SocketAddr, done: Completion<io::Result<()>>) {
        match self.socket_of(qd).and_then(|socket| self.ready_for_datagrams(&socket)) {
            Ok(()) => self.start_push(qd, data, Some(peer), done),
            Err(error) => done.complete(Err(error)),
        }
    }

    fn pop_from(&self, qd: Qd, limit: usize, done: Completion<io::Result<(Buffer, SocketAddr)>>) {
        self.start_receive(qd, Receive::PopFrom(limit, done));
    }

    fn shutdown_socket(&self, qd: Qd, how: Shutdown) -> io::Result<()> {
        let socket = self.socket_of(qd)?;
        if how != Shutdown::Read {
            self.shutdown_sending(&socket)?;
        }
        if how != Shutdown::Write {
            self.call(|engine| engine.link.deafen(socket.stream()?))?;
            // Those who wait to receive now get the end of the stream.
            self.progress_receives(&socket);
        }
        Ok(())
    }

    fn close(&self, qd: Qd) {
        let Ok(socket) = self.socket_of(qd) else { return };
        self.close_socket(&socket);
    }

    fn local(&self, qd: Qd) -> io::Result<Endpoint> {
        let socket = self.socket_of(qd)?;
        Ok(Endpoint::Inet(socket.local.get().unwrap_or(unspecified(&socket))))
    }

    fn peer(&self, qd: Qd) -> io::Result<Endpoint> {
        let peer = self.socket_of(qd)?.peer.get();
        peer.map(Endpoint::Inet).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn set_option(&self, qd: Qd, option: SocketOption) -> io::Result<()> {
        let socket = self.socket_of(qd)?;
        self.set(&socket, option)
    }

    fn option(&self, qd: Qd, name: OptionName) -> io::Result<SocketOption> {
        let socket = self.socket_of(qd)?;
        self.get(&socket, name)
    }
}

fn unspecified(socket: &Socket) -> SocketAddr {
    match socket.domain {
        Domain::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    }
}

impl RdmaTransport {
    fn bind_datagrams(&self, socket: &Socket, local: SocketAddr) -> io::Result<()> {
        let opened = self.call(|engine| engine.open_datagrams(socket.id.get(), local));
        let (id, local) = opened.map_err(|error| errors::bind_error(error, local))?;
        socket.local.set(Some(local));
        socket.role.replace(Role::Datagrams(id));
        Ok(())
    }

    /// Gives a socket of datagrams an address if it has none.
    fn ready_for_datagrams(&self, socket: &Socket) -> io::Result<()> {
        if socket.kind == SocketKind::Stream {
            let text = "push_to is for datagrams: a stream has one peer, use push";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if socket.datagrams().is_ok() {
            return Ok(());
        }
        self.bind_datagrams(socket, unspecified(socket))
    }

    fn bind_socket(&self, socket: &Socket, local: SocketAddr) -> io::Result<()> {
        let is_shared = self.shares_port(socket) && local.port() != 0;
        let bound = self.call(|engine| match is_shared {
            true => engine.share(local).map(|(manager, seat)| Bound { manager, seat: Some(seat) }),
            false => engine.bind(local).map(|manager| Bound { manager: Some(manager), seat: None }),
        });
        let bound = bound.map_err(|error| errors::bind_error(error, local))?;
        let address = bound.manager.as_ref().and_then(ConnectionId::local_address);
        socket.local.set(Some(address.unwrap_or(local)));
        socket.role.replace(Role::Bound(Box::new(bound)));
        Ok(())
    }

    fn start_connect(&self, qd: Qd, peer: &Endpoint) -> io::Result<(Rc<Socket>, SocketAddr)> {
        let (socket, peer) = (self.socket_of(qd)?, peer.inet()?);
        if socket.connect.borrow().is_some() {
            return Err(errno(libc::EALREADY));
        }
        let bound = match socket.role.replace(Role::Fresh) {
            Role::Fresh => None,
            Role::Bound(bound) => {
                // Otherwise another core has the address.
                Some(bound.manager.ok_or_else(|| errno(libc::EADDRINUSE))?)
            }
            role => {
                let code = if matches!(role, Role::Stream(_)) { libc::EISCONN } else { libc::EINVAL };
                socket.role.replace(role);
                return Err(errno(code));
            }
        };
        let id = self.call(|engine| engine.connect(bound, peer, socket.id.get(), self.hops_of(&socket)))?;
        socket.role.replace(Role::Stream(id));
        Ok((socket, peer))
    }

    fn close_socket(&self, socket: &Rc<Socket>) {
        socket.closing.set(true);
        for (_, untaken) in socket.untaken.take() {
            if let Untaken::Connection(accepted) = untaken {
                self.close(accepted.qd);
            }
        }
        if socket.kind == SocketKind::Stream && !socket.resets.get() {
            self.hand_over_sends(socket);
        }
        if socket.sends.borrow().is_empty() || socket.resets.get() {
            self.abandon(socket, &errors::closed());
            self.remove(socket);
        } else {
            self.fail_connect(socket, &errors::closed());
            self.fail_receives(socket, &errors::closed());
            self.fail_notices(socket, &errors::closed());
        }
    }

    pub(super) fn progress_connect(&self, socket: &Socket) {
        let Some(connect) = socket.connect.take() else { return };
        let result = self.attempt(socket, |engine| engine.connected(socket.stream()?));
        match result {
            None => *socket.connect.borrow_mut() = Some(connect),
            Some(result) => {
                self.waits_less(1);
                connect.done.complete(result.map(|local| {
                    socket.local.set(Some(local));
                    socket.peer.set(Some(connect.peer));
                    self.apply(socket);
                }));
            }
        }
    }

    pub(super) fn fail_connect(&self, socket: &Socket, error: &io::Error) {
        if let Some(connect) = socket.connect.take() {
            self.waits_less(1);
            connect.done.complete(Err(errors::copy(error)));
        }
    }

    /// Ends everything that waits for a socket.
    pub(super) fn abandon(&self, socket: &Socket, error: &io::Error) {
        self.fail_connect(socket, error);
        self.fail_receives(socket, error);
        self.fail_notices(socket, error);
        self.fail_sends(socket, error);
    }

    /// The token of an operation was dropped: what can be given up is.
    pub(super) fn cancel_operation(&self, key: Key) {
        match key {
            Key::Receive(id) => {
                if let Some(socket) = self.socket_by_id(id) {
                    self.cancel_receives(&socket);
                    self.progress_notices(&socket);
                }
            }
            Key::Send(qd, number) => {
                let socket = self.sockets.borrow().at(qd.0).cloned();
                let Some(socket) = socket else { return };
                let connect = socket.connect.borrow_mut().take_if(|connect| connect.done.number() == number);
                self.waits_less(usize::from(connect.is_some()));
                drop(connect);
                self.cancel_send(&socket, number);
            }
        }
    }
}
